// Attention of one modality's queries over another's keys: o = softmax(scale * q k^T) v by heads.
// q[batch, queries, heads, D], k[batch, keys, kv_heads, D], v[batch, keys, kv_heads, E],
// len[batch], mask[queries, ceil(keys / 32)] -> o[batch, queries, heads, E].
//
// Head groups share a key head (arXiv 2305.13245). Query i sees key j if j < len, j <= i + reach
// (causal 0, MulT's band |keys - queries|, else keys) and, with BITS, bit j of its mask row is set;
// one that sees none gives zeros. Scores go through memory, or as in flash (arXiv 2205.14135) one
// invocation a row, or SPLITS of them merged in a fixed order, or a subgroup eight rows, keeps a
// running maximum. Products are added in Sum, f16 at precision f16acc; all else is f32.

struct Params {
    rows: u32, heads: u32, kv_heads: u32, queries: u32, keys: u32, reach: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(2) var<storage, read> k4: array<T4>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(3) var<storage, read> v4: array<T4>;
@group(0) @binding(4) var<storage, read> len: array<u32>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<T>;
@group(0) @binding(7) var<storage, read_write> scratch: array<f32>;

override WG: u32 = 64u;
override D: u32 = 64u;
override E: u32 = 64u;
override BITS: bool = false;
override SPLITS: u32 = 1u;
const LOWEST: f32 = -3.0e38; // below every score
struct Invocation {
    @builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
}
fn number(at: Invocation) -> u32 { return at.id.x + at.id.y * at.groups.x * WG; }

// Output rows are numbered (batch, query, head), as o is stored.
fn query_of(row: u32) -> u32 { return row / params.heads % params.queries; }
fn batch_of(row: u32) -> u32 { return row / (params.heads * params.queries); }
// Keys from here on are hidden from the row.
fn end_of(row: u32) -> u32 {
    return min(min(len[batch_of(row)], params.keys), query_of(row) + params.reach + 1u);
}
fn is_hidden(query: u32, key: u32) -> bool {
    let word = query * ((params.keys + 31u) / 32u) + key / 32u;
    return BITS && ((mask[word] >> (key % 32u)) & 1u) == 0u;
}
// Number of the row's first key or value; the next one is kv_heads further.
fn first_key(row: u32) -> u32 {
    let group = row % params.heads / (params.heads / params.kv_heads);
    return batch_of(row) * params.keys * params.kv_heads + group;
}
fn score(row: u32, key: u32) -> f32 {
    var sum = Sum(0.0);
    for (var i = 0u; i < D; i++) { sum += Sum(q[row * D + i]) * Sum(k[key * D + i]); }
    return f32(sum) * params.scale;
}

// Weight of a score so far below the largest: exactly 1 for that one, so that ties sum exactly.
fn weight_of(below: f32) -> f32 { return select(exp(below), 1.0, below == 0.0); }
fn weights_of(v: vec4<f32>) -> vec4<f32> { return select(exp(v), vec4(1.0), v == vec4<f32>()); }

// One invocation a score. Each row of them ends with the sum of their weights.
@compute @workgroup_size(WG) fn score_pairs(at: Invocation) {
    let row = number(at) / params.keys;
    let key = number(at) % params.keys;
    if (row >= params.rows || key >= end_of(row)) { return; }
    scratch[number(at) + row] = LOWEST;
    if (is_hidden(query_of(row), key)) { return; }
    scratch[number(at) + row] = score(row, first_key(row) + key * params.kv_heads);
}

var<workgroup> partial: array<f32, WG>;
// Sum or maximum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32, is_sum: bool) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = partial[lane + half];
            partial[lane] = select(max(partial[lane], other), partial[lane] + other, is_sum);
        }
    }
    return workgroupUniformLoad(&partial[0]);
}

// One workgroup a row of scores, in place.
@compute @workgroup_size(WG)
fn softmax_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row * (params.keys + 1u);
    let end = base + end_of(row);
    var peak = LOWEST;
    for (var i = base + lane; i < end; i += WG) { peak = max(peak, scratch[i]); }
    peak = reduce(lane, peak, false);
    var total = 0.0;
    for (var i = base + lane; i < end; i += WG) {
        scratch[i] = weight_of(scratch[i] - peak);
        total += scratch[i];
    }
    total = reduce(lane, total, true);
    if (lane == 0u) { scratch[base + params.keys] = total; }
}

// One invocation an output element.
@compute @workgroup_size(WG) fn mix_values(at: Invocation) {
    let row = number(at) / E;
    if (row >= params.rows) { return; }
    let base = row * (params.keys + 1u);
    let end = end_of(row);
    let first = first_key(row) * E + number(at) % E;
    var sum = Sum(0.0);
    for (var key = 0u; key < end; key++) {
        if (is_hidden(query_of(row), key)) { continue; }
        sum += Sum(scratch[base + key]) * Sum(v[first + key * params.kv_heads * E]);
    }
    let total = scratch[base + params.keys];
    o[number(at)] = to_storage(f32(sum) / select(total, 1.0, total == 0.0));
}

// The largest score seen; the sum of weights relative to it, and of the values they multiply.
var<private> peak: f32 = LOWEST;
var<private> total: f32;
var<private> sums: array<Sum4, 32>;
// The weight of one more score.
fn weigh(score: f32) -> f32 {
    if (score > peak) {
        let shrink = exp(peak - score);
        total *= shrink;
        for (var c = 0u; c < (E + 3u) / 4u; c++) { sums[c] *= Sum(shrink); }
        peak = score;
    }
    let weight = weight_of(score - peak);
    total += weight;
    return weight;
}
// Neighbouring invocations share batch and head and so read the same keys, or neighbouring ones.
fn row_of(at: Invocation) -> u32 {
    let index = number(at) / SPLITS;
    let pair = index / params.queries;
    let position = pair / params.heads * params.queries + index % params.queries;
    return position * params.heads + pair % params.heads;
}
fn finish(row: u32, split: u32) {
    let base = row * (E + 2u) * SPLITS + split;
    if (SPLITS > 1u) { scratch[base] = peak; scratch[base + SPLITS] = total; }
    let divisor = select(total, 1.0, total == 0.0);
    for (var i = 0u; i < E; i++) {
        if (SPLITS > 1u) { scratch[base + (i + 2u) * SPLITS] = f32(sums[i / 4u][i % 4u]); }
        else { o[row * E + i] = to_storage(f32(sums[i / 4u][i % 4u]) / divisor); }
    }
}

// D and E are multiples of 4.
@compute @workgroup_size(WG) fn flash(at: Invocation) {
    let row = row_of(at);
    if (row >= params.rows) { return; }
    let first = first_key(row);
    let end = end_of(row);
    var query: array<Sum4, 32>;
    for (var c = 0u; c < D / 4u; c++) { query[c] = Sum4(q4[row * (D / 4u) + c]); }
    for (var key = number(at) % SPLITS; key < end; key += SPLITS) {
        if (is_hidden(query_of(row), key)) { continue; }
        let n = first + key * params.kv_heads;
        var sum = Sum(0.0);
        for (var c = 0u; c < D / 4u; c++) { sum += dot(query[c], Sum4(k4[n * (D / 4u) + c])); }
        let weight = Sum(weigh(f32(sum) * params.scale));
        for (var c = 0u; c < E / 4u; c++) { sums[c] += weight * Sum4(v4[n * (E / 4u) + c]); }
    }
    finish(row, number(at) % SPLITS);
}
@compute @workgroup_size(WG) fn flash_any(at: Invocation) {
    let row = row_of(at);
    if (row >= params.rows) { return; }
    let first = first_key(row);
    let end = end_of(row);
    for (var key = number(at) % SPLITS; key < end; key += SPLITS) {
        if (is_hidden(query_of(row), key)) { continue; }
        let n = first + key * params.kv_heads;
        let weight = Sum(weigh(score(row, n)));
        for (var i = 0u; i < E; i++) { sums[i / 4u][i % 4u] += weight * Sum(v[n * E + i]); }
    }
    finish(row, number(at) % SPLITS);
}

// One invocation an output element.
@compute @workgroup_size(WG) fn merge_splits(at: Invocation) {
    let row = number(at) / E;
    if (row >= params.rows) { return; }
    let base = row * (E + 2u) * SPLITS; // peaks, totals, then E sums
    var highest = LOWEST;
    for (var s = base; s < base + SPLITS; s++) { highest = max(highest, scratch[s]); }
    var all = vec2<f32>();
    for (var s = base; s < base + SPLITS; s++) {
        let value = scratch[s + (number(at) % E + 2u) * SPLITS];
        all += exp(scratch[s] - highest) * vec2<f32>(scratch[s + SPLITS], value);
    }
    o[number(at)] = to_storage(all.y / select(all.x, 1.0, all.x == 0.0));
}

// Eight queries of one head for the eight invocations of a subgroup, and 32 keys at a time. A CPU
// driver makes every load one invocation at a time, so each loaded vector meets eight queries:
// invocation i loads query i and the keys i, i + 8, i + 16 and i + 24; then four values of each
// key, those at i, i + 8 and so on. Scores become weights where they are, four to an invocation.
fn multiply_add(acc: Sum4, v: Sum4, t: mat4x4<Sum>) -> Sum4 {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Weights of four keys, largest score, sum of weights (of this invocation's keys) relative to it.
struct Query { weights: vec4<f32>, peak: f32, total: f32, shrink: f32 }
struct Block { base: u32, first_query: u32, first_key: u32, end: u32 }

var<private> scores: array<Sum4, 8>;
var<private> block: array<Query, 8>;
// Sums of the values at i, i + 8, i + 16 and i + 24 vectors of four.
var<private> sums_0: array<Sum4, 8>;
var<private> sums_1: array<Sum4, 8>;
var<private> sums_2: array<Sum4, 8>;
var<private> sums_3: array<Sum4, 8>;

fn block_of(at: Invocation) -> Block {
    let index = at.id.x / 8u + at.id.y * at.groups.x;
    let none = Query(vec4<f32>(), LOWEST, 0.0, 1.0);
    block = array<Query, 8>(none, none, none, none, none, none, none, none);
    let pair = index / ((params.queries + 7u) / 8u);
    let first = index % ((params.queries + 7u) / 8u) * 8u;
    let base = pair / params.heads * params.queries * params.heads + pair % params.heads;
    return Block(base, first, first_key(base), min(len[batch_of(base)], params.keys));
}
// What is loaded beyond the last query or key is not stored or has no weight.
fn block_row(at: Block, i: u32) -> u32 {
    return at.base + min(at.first_query + i, params.queries - 1u) * params.heads;
}
fn four(start: u32) -> vec4<u32> { return vec4<u32>(start, start + 8u, start + 16u, start + 24u); }
fn block_keys(at: Block, start: u32) -> vec4<u32> {
    return min(four(start), vec4<u32>(at.end - 1u)) * params.kv_heads + at.first_key;
}
// Adds the products of four elements of each query with those of four keys.
fn add_scores(query: vec4<f32>, keys: mat4x4<Sum>) {
    let t = transpose(keys);
    scores[0] = multiply_add(scores[0], Sum4(subgroupBroadcast(query, 0u)), t);
    scores[1] = multiply_add(scores[1], Sum4(subgroupBroadcast(query, 1u)), t);
    scores[2] = multiply_add(scores[2], Sum4(subgroupBroadcast(query, 2u)), t);
    scores[3] = multiply_add(scores[3], Sum4(subgroupBroadcast(query, 3u)), t);
    scores[4] = multiply_add(scores[4], Sum4(subgroupBroadcast(query, 4u)), t);
    scores[5] = multiply_add(scores[5], Sum4(subgroupBroadcast(query, 5u)), t);
    scores[6] = multiply_add(scores[6], Sum4(subgroupBroadcast(query, 6u)), t);
    scores[7] = multiply_add(scores[7], Sum4(subgroupBroadcast(query, 7u)), t);
}
fn are_hidden(at: Block, query: u32, start: u32) -> vec4<bool> {
    let key = four(start);
    let beyond = key >= vec4<u32>(min(at.end, query + params.reach + 1u));
    if (!BITS) { return beyond; }
    let last = min(key, vec4<u32>(at.end - 1u));
    return beyond | vec4<bool>(is_hidden(query, last.x), is_hidden(query, last.y),
        is_hidden(query, last.z), is_hidden(query, last.w));
}
fn weigh_query(at: Block, i: u32, start: u32, before: Query) -> Query {
    let hidden = are_hidden(at, min(at.first_query + i, params.queries - 1u), start);
    let scaled = select(vec4<f32>(scores[i]) * params.scale, vec4<f32>(LOWEST), hidden);
    let highest = max(max(scaled.x, scaled.y), max(scaled.z, scaled.w));
    let peak = max(before.peak, subgroupMax(highest));
    let shrink = weight_of(before.peak - peak);
    let weights = select(weights_of(scaled - peak), vec4<f32>(), hidden);
    let total = before.total * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
    return Query(weights, peak, total, shrink);
}
fn shrink_sums(sums: ptr<private, array<Sum4, 8>>) {
    (*sums)[0] *= Sum(block[0].shrink); (*sums)[1] *= Sum(block[1].shrink);
    (*sums)[2] *= Sum(block[2].shrink); (*sums)[3] *= Sum(block[3].shrink);
    (*sums)[4] *= Sum(block[4].shrink); (*sums)[5] *= Sum(block[5].shrink);
    (*sums)[6] *= Sum(block[6].shrink); (*sums)[7] *= Sum(block[7].shrink);
}
fn weigh_block(at: Block, start: u32) {
    block[0] = weigh_query(at, 0u, start, block[0]);
    block[1] = weigh_query(at, 1u, start, block[1]);
    block[2] = weigh_query(at, 2u, start, block[2]);
    block[3] = weigh_query(at, 3u, start, block[3]);
    block[4] = weigh_query(at, 4u, start, block[4]);
    block[5] = weigh_query(at, 5u, start, block[5]);
    block[6] = weigh_query(at, 6u, start, block[6]);
    block[7] = weigh_query(at, 7u, start, block[7]);
    scores = array<Sum4, 8>();
    shrink_sums(&sums_0);
    if (E > 32u) { shrink_sums(&sums_1); }
    if (E > 64u) { shrink_sums(&sums_2); shrink_sums(&sums_3); }
}
// Adds four values of the keys that invocation i holds the weights of.
fn add_values(sums: ptr<private, array<Sum4, 8>>, i: u32, values: mat4x4<Sum>) {
    (*sums)[0] = multiply_add((*sums)[0], Sum4(subgroupShuffle(block[0].weights, i)), values);
    (*sums)[1] = multiply_add((*sums)[1], Sum4(subgroupShuffle(block[1].weights, i)), values);
    (*sums)[2] = multiply_add((*sums)[2], Sum4(subgroupShuffle(block[2].weights, i)), values);
    (*sums)[3] = multiply_add((*sums)[3], Sum4(subgroupShuffle(block[3].weights, i)), values);
    (*sums)[4] = multiply_add((*sums)[4], Sum4(subgroupShuffle(block[4].weights, i)), values);
    (*sums)[5] = multiply_add((*sums)[5], Sum4(subgroupShuffle(block[5].weights, i)), values);
    (*sums)[6] = multiply_add((*sums)[6], Sum4(subgroupShuffle(block[6].weights, i)), values);
    (*sums)[7] = multiply_add((*sums)[7], Sum4(subgroupShuffle(block[7].weights, i)), values);
}
fn store4(row: u32, vector: u32, mean: vec4<f32>) {
    for (var e = 4u * vector; e < min(4u * vector + 4u, E); e++) {
        o[row * E + e] = to_storage(mean[e % 4u]);
    }
}
fn store_query(at: Block, i: u32, lane: u32) {
    let total = subgroupAdd(block[i].total);
    let divisor = select(total, 1.0, total == 0.0);
    if (at.first_query + i >= params.queries) { return; }
    let row = block_row(at, i);
    store4(row, lane, vec4<f32>(sums_0[i]) / divisor);
    if (E > 32u) { store4(row, lane + 8u, vec4<f32>(sums_1[i]) / divisor); }
    if (E > 64u) { store4(row, lane + 16u, vec4<f32>(sums_2[i]) / divisor); }
    if (E > 96u) { store4(row, lane + 24u, vec4<f32>(sums_3[i]) / divisor); }
}
fn store_block(at: Block, lane: u32) {
    store_query(at, 0u, lane); store_query(at, 1u, lane);
    store_query(at, 2u, lane); store_query(at, 3u, lane);
    store_query(at, 4u, lane); store_query(at, 5u, lane);
    store_query(at, 6u, lane); store_query(at, 7u, lane);
}
fn keys4(first: vec4<u32>, c: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(Sum4(k4[first.x + c]), Sum4(k4[first.y + c]),
        Sum4(k4[first.z + c]), Sum4(k4[first.w + c]));
}
// Vectors beyond the row repeat its last one and are not stored.
fn values4(first: vec4<u32>, vector: u32) -> mat4x4<Sum> {
    let c = min(vector, E / 4u - 1u);
    return mat4x4<Sum>(Sum4(v4[first.x + c]), Sum4(v4[first.y + c]),
        Sum4(v4[first.z + c]), Sum4(v4[first.w + c]));
}
@compute @workgroup_size(8) fn subgroup_block(invocation: Invocation) {
    let lane = invocation.id.x % 8u;
    let at = block_of(invocation);
    if (at.base >= params.rows) { return; }
    let query = block_row(at, lane) * (D / 4u);
    let end = min(at.end, at.first_query + params.reach + 8u);
    for (var start = 0u; start < end; start += 32u) {
        let keys = block_keys(at, start + lane) * (D / 4u);
        for (var c = 0u; c < D / 4u; c++) {
            add_scores(vec4<f32>(q4[query + c]), keys4(keys, c));
        }
        weigh_block(at, start + lane);
        for (var i = 0u; i < 8u; i++) {
            let values = block_keys(at, start + i) * (E / 4u);
            add_values(&sums_0, i, values4(values, lane));
            if (E > 32u) { add_values(&sums_1, i, values4(values, lane + 8u)); }
            if (E > 64u) { add_values(&sums_2, i, values4(values, lane + 16u)); }
            if (E > 96u) { add_values(&sums_3, i, values4(values, lane + 24u)); }
        }
    }
    store_block(at, lane);
}

// Elements 4c to 4c + 3 of a row of any width, zero beyond it.
fn elements(c: u32) -> vec4<u32> { return 4u * c + vec4<u32>(0u, 1u, 2u, 3u); }
fn inside(c: u32, width: u32, loaded: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), loaded, elements(c) < vec4<u32>(width));
}
fn query_any(row: u32, c: u32) -> vec4<f32> {
    let i = row * D + min(elements(c), vec4<u32>(D - 1u));
    return inside(c, D, vec4<f32>(f32(q[i.x]), f32(q[i.y]), f32(q[i.z]), f32(q[i.w])));
}
fn key_any(row: u32, c: u32) -> Sum4 {
    let i = row * D + min(elements(c), vec4<u32>(D - 1u));
    return Sum4(inside(c, D, vec4<f32>(f32(k[i.x]), f32(k[i.y]), f32(k[i.z]), f32(k[i.w]))));
}
fn value_any(row: u32, c: u32) -> Sum4 {
    let i = row * E + min(elements(c), vec4<u32>(E - 1u));
    return Sum4(inside(c, E, vec4<f32>(f32(v[i.x]), f32(v[i.y]), f32(v[i.z]), f32(v[i.w]))));
}
fn values_any(keys: vec4<u32>, c: u32) -> mat4x4<Sum> {
    if (4u * c >= E) { return mat4x4<Sum>(); }
    return mat4x4<Sum>(value_any(keys.x, c), value_any(keys.y, c),
        value_any(keys.z, c), value_any(keys.w, c));
}
@compute @workgroup_size(8) fn subgroup_block_any(invocation: Invocation) {
    let lane = invocation.id.x % 8u;
    let at = block_of(invocation);
    if (at.base >= params.rows) { return; }
    let query = block_row(at, lane);
    let end = min(at.end, at.first_query + params.reach + 8u);
    for (var start = 0u; start < end; start += 32u) {
        let keys = block_keys(at, start + lane);
        for (var c = 0u; c < (D + 3u) / 4u; c++) {
            add_scores(query_any(query, c), mat4x4<Sum>(key_any(keys.x, c), key_any(keys.y, c),
                key_any(keys.z, c), key_any(keys.w, c)));
        }
        weigh_block(at, start + lane);
        for (var i = 0u; i < 8u; i++) {
            let values = block_keys(at, start + i);
            add_values(&sums_0, i, values_any(values, lane));
            if (E > 32u) { add_values(&sums_1, i, values_any(values, lane + 8u)); }
            if (E > 64u) { add_values(&sums_2, i, values_any(values, lane + 16u)); }
            if (E > 96u) { add_values(&sums_3, i, values_any(values, lane + 24u)); }
        }
    }
    store_block(at, lane);
}
