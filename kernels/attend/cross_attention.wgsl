// Attention of one modality's queries over another's keys: o = softmax(scale * q k^T) v by heads.
// q[batch, queries, heads, D], k[batch, keys, kv_heads, D], v[batch, keys, kv_heads, E],
// len[batch], mask[queries, ceil(keys / 32)] -> o[batch, queries, heads, E].
//
// Head groups share a key head (arXiv 2305.13245). Query i sees key j if j < len, j <= i + reach
// (causal 0, MulT's band |keys - queries|, else keys) and, with BITS, bit j of its mask row is set;
// one that sees none gives zeros. Scores go through memory, or as in flash (arXiv 2205.14135) one
// invocation a row, or SPLITS of them merged in a fixed order, keeps a running maximum. Products
// are added in Sum, f16 at precision f16acc; all else is f32.

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
