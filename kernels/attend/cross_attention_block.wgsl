// Attention by blocks of queries that a subgroup of eight holds in registers:
// o = softmax(scale * q k^T) v by heads, as cross_attention.wgsl has it.
// q[batch, queries, heads, D], k[batch, keys, kv_heads, D], v[batch, keys, kv_heads, E],
// len[batch], mask[queries, ceil(keys / 32)] -> o[batch, queries, heads, E].
//
// A CPU driver makes every load one invocation at a time, so each loaded vector meets QUERIES
// queries of one head, an octet of them or two. Keys come 32 at a time: invocation i loads query i
// of an octet and the keys i, i + 8, i + 16 and i + 24; then four values of each key, those at i,
// i + 8 and so on. Scores become weights where they are, four to an invocation, against a running
// maximum as in flash (arXiv 2205.14135). Products are added in Sum, f16 at precision f16acc.
//
// Eight elements of f16 take no more instructions to load than four: with EIGHTS, rows are read so.

struct Params {
    rows: u32, heads: u32, kv_heads: u32, queries: u32, keys: u32, reach: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(1) var<storage, read> q8: array<T8>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(2) var<storage, read> k4: array<T4>;
@group(0) @binding(2) var<storage, read> k8: array<T8>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(3) var<storage, read> v4: array<T4>;
@group(0) @binding(3) var<storage, read> v8: array<T8>;
@group(0) @binding(4) var<storage, read> len: array<u32>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<T>;

override D: u32 = 64u;
override E: u32 = 64u;
override BITS: bool = false;
override QUERIES: u32 = 8u;
override EIGHTS: bool = false;
const LOWEST: f32 = -3.0e38; // below every score

fn is_hidden(query: u32, key: u32) -> bool {
    let word = query * ((params.keys + 31u) / 32u) + key / 32u;
    return BITS && ((mask[word] >> (key % 32u)) & 1u) == 0u;
}

// Weight of a score so far below the largest: exactly 1 for that one, so that ties sum exactly.
fn weight_of(below: f32) -> f32 { return select(exp(below), 1.0, below == 0.0); }
fn weights_of(v: vec4<f32>) -> vec4<f32> { return select(exp(v), vec4(1.0), v == vec4<f32>()); }

fn multiply_add(acc: Sum4, v: Sum4, t: mat4x4<Sum>) -> Sum4 {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Weights of four keys, largest score, sum of weights (of this invocation's keys) relative to it.
struct Query { weights: vec4<f32>, peak: f32, total: f32, shrink: f32 }
// First row of the head, first query, first row of keys, how many keys count.
struct Block { base: u32, first_query: u32, first_key: u32, end: u32 }

// Sums are those of the values at i, i + 8, i + 16 and i + 24 vectors of four, with EIGHTS of the
// eights at i and i + 8, a half each.
struct Octet { scores: array<Sum4, 8>, queries: array<Query, 8>, sums: array<array<Sum4, 8>, 4> }
alias Held = ptr<private, Octet>;
var<private> low: Octet;
var<private> high: Octet;

fn begin(octet: Held) {
    let none = Query(vec4<f32>(), LOWEST, 0.0, 1.0);
    (*octet).queries = array<Query, 8>(none, none, none, none, none, none, none, none);
}

fn block_of(wid: vec3<u32>, groups: vec3<u32>) -> Block {
    let index = wid.x + wid.y * groups.x;
    let blocks = (params.queries + QUERIES - 1u) / QUERIES;
    let pair = index / blocks;
    let batch = pair / params.heads;
    let head = pair % params.heads;
    let base = batch * params.queries * params.heads + head;
    let key_head = head / (params.heads / params.kv_heads);
    let first_key = batch * params.keys * params.kv_heads + key_head;
    let last = params.rows / (params.queries * params.heads) - 1u;
    let end = min(len[min(batch, last)], params.keys);
    return Block(base, index % blocks * QUERIES, first_key, end);
}

// What is loaded beyond the last query or key is not stored or has no weight.
fn block_row(at: Block, i: u32) -> u32 {
    return at.base + min(at.first_query + i, params.queries - 1u) * params.heads;
}
fn four(start: u32) -> vec4<u32> { return vec4<u32>(start, start + 8u, start + 16u, start + 24u); }
fn block_keys(at: Block, start: u32) -> vec4<u32> {
    return min(four(start), vec4<u32>(at.end - 1u)) * params.kv_heads + at.first_key;
}

// Adds the products of four elements of each query with those of four keys, transposed.
fn add_scores(octet: Held, query: vec4<f32>, t: mat4x4<Sum>) {
    (*octet).scores[0] = multiply_add((*octet).scores[0], Sum4(subgroupBroadcast(query, 0u)), t);
    (*octet).scores[1] = multiply_add((*octet).scores[1], Sum4(subgroupBroadcast(query, 1u)), t);
    (*octet).scores[2] = multiply_add((*octet).scores[2], Sum4(subgroupBroadcast(query, 2u)), t);
    (*octet).scores[3] = multiply_add((*octet).scores[3], Sum4(subgroupBroadcast(query, 3u)), t);
    (*octet).scores[4] = multiply_add((*octet).scores[4], Sum4(subgroupBroadcast(query, 4u)), t);
    (*octet).scores[5] = multiply_add((*octet).scores[5], Sum4(subgroupBroadcast(query, 5u)), t);
    (*octet).scores[6] = multiply_add((*octet).scores[6], Sum4(subgroupBroadcast(query, 6u)), t);
    (*octet).scores[7] = multiply_add((*octet).scores[7], Sum4(subgroupBroadcast(query, 7u)), t);
}

fn are_hidden(at: Block, query: u32, start: u32) -> vec4<bool> {
    let key = four(start);
    let beyond = key >= vec4<u32>(min(at.end, query + params.reach + 1u));
    if (!BITS) { return beyond; }
    let last = min(key, vec4<u32>(at.end - 1u));
    return beyond | vec4<bool>(is_hidden(query, last.x), is_hidden(query, last.y),
        is_hidden(query, last.z), is_hidden(query, last.w));
}

fn has_part(part: u32) -> bool {
    return E > select(32u * part, 64u * (part / 2u), EIGHTS);
}
fn weigh_query(octet: Held, at: Block, first: u32, i: u32, start: u32) {
    let before = (*octet).queries[i];
    let hidden = are_hidden(at, min(at.first_query + first + i, params.queries - 1u), start);
    let score = vec4<f32>((*octet).scores[i]) * params.scale;
    let scaled = select(score, vec4<f32>(LOWEST), hidden);
    let highest = max(max(scaled.x, scaled.y), max(scaled.z, scaled.w));
    let peak = max(before.peak, subgroupMax(highest));
    let shrink = weight_of(before.peak - peak);
    let weights = select(weights_of(scaled - peak), vec4<f32>(), hidden);
    let total = before.total * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
    (*octet).queries[i] = Query(weights, peak, total, shrink);
    (*octet).scores[i] = Sum4(Sum(0.0));
    (*octet).sums[0][i] *= Sum(shrink);
    if (has_part(1u)) { (*octet).sums[1][i] *= Sum(shrink); }
    if (has_part(2u)) { (*octet).sums[2][i] *= Sum(shrink); }
    if (has_part(3u)) { (*octet).sums[3][i] *= Sum(shrink); }
}
fn weigh_octet(octet: Held, at: Block, first: u32, start: u32) {
    weigh_query(octet, at, first, 0u, start); weigh_query(octet, at, first, 1u, start);
    weigh_query(octet, at, first, 2u, start); weigh_query(octet, at, first, 3u, start);
    weigh_query(octet, at, first, 4u, start); weigh_query(octet, at, first, 5u, start);
    weigh_query(octet, at, first, 6u, start); weigh_query(octet, at, first, 7u, start);
}

// Adds four values of the keys that invocation i holds the weights of.
fn add_to(octet: Held, part: u32, n: u32, i: u32, values: mat4x4<Sum>) {
    let weights = Sum4(subgroupShuffle((*octet).queries[n].weights, i));
    (*octet).sums[part][n] = multiply_add((*octet).sums[part][n], weights, values);
}
fn add_values(octet: Held, part: u32, i: u32, values: mat4x4<Sum>) {
    add_to(octet, part, 0u, i, values); add_to(octet, part, 1u, i, values);
    add_to(octet, part, 2u, i, values); add_to(octet, part, 3u, i, values);
    add_to(octet, part, 4u, i, values); add_to(octet, part, 5u, i, values);
    add_to(octet, part, 6u, i, values); add_to(octet, part, 7u, i, values);
}
fn add_to_all(part: u32, i: u32, values: mat4x4<Sum>) {
    add_values(&low, part, i, values);
    if (QUERIES > 8u) { add_values(&high, part, i, values); }
}

fn store_part(row: u32, lane: u32, part: u32, mean: vec4<f32>) {
    if (!has_part(part)) { return; }
    let vector = select(lane + 8u * part, 2u * lane + part % 2u + 16u * (part / 2u), EIGHTS);
    for (var e = 4u * vector; e < min(4u * vector + 4u, E); e++) {
        o[row * E + e] = to_storage(mean[e % 4u]);
    }
}
fn store_query(octet: Held, at: Block, first: u32, i: u32, lane: u32) {
    let total = subgroupAdd((*octet).queries[i].total);
    let divisor = select(total, 1.0, total == 0.0);
    if (at.first_query + first + i >= params.queries) { return; }
    let row = block_row(at, first + i);
    store_part(row, lane, 0u, vec4<f32>((*octet).sums[0][i]) / divisor);
    store_part(row, lane, 1u, vec4<f32>((*octet).sums[1][i]) / divisor);
    store_part(row, lane, 2u, vec4<f32>((*octet).sums[2][i]) / divisor);
    store_part(row, lane, 3u, vec4<f32>((*octet).sums[3][i]) / divisor);
}
fn store(octet: Held, at: Block, first: u32, lane: u32) {
    store_query(octet, at, first, 0u, lane); store_query(octet, at, first, 1u, lane);
    store_query(octet, at, first, 2u, lane); store_query(octet, at, first, 3u, lane);
    store_query(octet, at, first, 4u, lane); store_query(octet, at, first, 5u, lane);
    store_query(octet, at, first, 6u, lane); store_query(octet, at, first, 7u, lane);
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

// D % 4 = E % 4 = 0.
@compute @workgroup_size(8)
fn subgroup_block(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let at = block_of(wid, groups);
    if (at.base >= params.rows) { return; }
    begin(&low);
    begin(&high);
    let query = block_row(at, lane) * (D / 4u);
    let more = block_row(at, lane + 8u) * (D / 4u);
    let end = min(at.end, at.first_query + params.reach + QUERIES);
    for (var start = 0u; start < end; start += 32u) {
        let keys = block_keys(at, start + lane) * (D / 4u);
        for (var c = 0u; c < D / 4u; c++) {
            let t = transpose(keys4(keys, c));
            add_scores(&low, vec4<f32>(q4[query + c]), t);
            if (QUERIES > 8u) { add_scores(&high, vec4<f32>(q4[more + c]), t); }
        }
        weigh_octet(&low, at, 0u, start + lane);
        if (QUERIES > 8u) { weigh_octet(&high, at, 8u, start + lane); }
        for (var i = 0u; i < 8u; i++) {
            let values = block_keys(at, start + i) * (E / 4u);
            add_to_all(0u, i, values4(values, lane));
            if (E > 32u) { add_to_all(1u, i, values4(values, lane + 8u)); }
            if (E > 64u) { add_to_all(2u, i, values4(values, lane + 16u)); }
            if (E > 96u) { add_to_all(3u, i, values4(values, lane + 24u)); }
        }
    }
    store(&low, at, 0u, lane);
    if (QUERIES > 8u) { store(&high, at, 8u, lane); }
}

// Eight elements of four rows, two vectors of each.
struct Eights { low: mat4x4<Sum>, high: mat4x4<Sum> }
fn eights(a: mat2x4<f32>, b: mat2x4<f32>, c: mat2x4<f32>, d: mat2x4<f32>) -> Eights {
    return Eights(mat4x4<Sum>(Sum4(a[0]), Sum4(b[0]), Sum4(c[0]), Sum4(d[0])),
        mat4x4<Sum>(Sum4(a[1]), Sum4(b[1]), Sum4(c[1]), Sum4(d[1])));
}
fn keys8(first: vec4<u32>, c: u32) -> Eights {
    return eights(from_storage8(k8[first.x + c]), from_storage8(k8[first.y + c]),
        from_storage8(k8[first.z + c]), from_storage8(k8[first.w + c]));
}
fn values8(first: vec4<u32>, i: u32) -> Eights {
    let c = min(i, E / 8u - 1u);
    return eights(from_storage8(v8[first.x + c]), from_storage8(v8[first.y + c]),
        from_storage8(v8[first.z + c]), from_storage8(v8[first.w + c]));
}
fn add_eights(part: u32, i: u32, values: Eights) {
    add_to_all(part, i, values.low);
    add_to_all(part + 1u, i, values.high);
}

// D % 8 = E % 8 = 0, with EIGHTS.
@compute @workgroup_size(8)
fn subgroup_block8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let at = block_of(wid, groups);
    if (at.base >= params.rows) { return; }
    begin(&low);
    begin(&high);
    let query = block_row(at, lane) * (D / 8u);
    let more = block_row(at, lane + 8u) * (D / 8u);
    let end = min(at.end, at.first_query + params.reach + QUERIES);
    for (var start = 0u; start < end; start += 32u) {
        let keys = block_keys(at, start + lane) * (D / 8u);
        for (var c = 0u; c < D / 8u; c++) {
            let own = keys8(keys, c);
            let low_t = transpose(own.low);
            let high_t = transpose(own.high);
            let row = from_storage8(q8[query + c]);
            add_scores(&low, row[0], low_t);
            add_scores(&low, row[1], high_t);
            if (QUERIES > 8u) {
                let next = from_storage8(q8[more + c]);
                add_scores(&high, next[0], low_t);
                add_scores(&high, next[1], high_t);
            }
        }
        weigh_octet(&low, at, 0u, start + lane);
        if (QUERIES > 8u) { weigh_octet(&high, at, 8u, start + lane); }
        for (var i = 0u; i < 8u; i++) {
            let values = block_keys(at, start + i) * (E / 8u);
            add_eights(0u, i, values8(values, lane));
            if (E > 64u) { add_eights(2u, i, values8(values, lane + 8u)); }
        }
    }
    store(&low, at, 0u, lane);
    if (QUERIES > 8u) { store(&high, at, 8u, lane); }
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

@compute @workgroup_size(8)
fn subgroup_block_any(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let at = block_of(wid, groups);
    if (at.base >= params.rows) { return; }
    begin(&low);
    begin(&high);
    let query = block_row(at, lane);
    let more = block_row(at, lane + 8u);
    let end = min(at.end, at.first_query + params.reach + QUERIES);
    for (var start = 0u; start < end; start += 32u) {
        let keys = block_keys(at, start + lane);
        for (var c = 0u; c < (D + 3u) / 4u; c++) {
            let t = transpose(mat4x4<Sum>(key_any(keys.x, c), key_any(keys.y, c),
                key_any(keys.z, c), key_any(keys.w, c)));
            add_scores(&low, query_any(query, c), t);
            if (QUERIES > 8u) { add_scores(&high, query_any(more, c), t); }
        }
        weigh_octet(&low, at, 0u, start + lane);
        if (QUERIES > 8u) { weigh_octet(&high, at, 8u, start + lane); }
        for (var i = 0u; i < 8u; i++) {
            let values = block_keys(at, start + i);
            add_to_all(0u, i, values_any(values, lane));
            if (E > 32u) { add_to_all(1u, i, values_any(values, lane + 8u)); }
            if (E > 64u) { add_to_all(2u, i, values_any(values, lane + 16u)); }
            if (E > 96u) { add_to_all(3u, i, values_any(values, lane + 24u)); }
        }
    }
    store(&low, at, 0u, lane);
    if (QUERIES > 8u) { store(&high, at, 8u, lane); }
}
