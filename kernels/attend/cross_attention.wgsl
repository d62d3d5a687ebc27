// Cross-attention: o = softmax(q * k^T / sqrt(d)) * v for each batch and head.
// q[batch, queries, heads, d], k and v[batch, keys, heads, d], len[batch] -> o like q.
// Keys from len on are padding: never read; a batch of length 0 gives zeros.
//
// `unfused` stores all scores: three dispatches. `flash` is the online softmax of arXiv 1805.02867
// as used by arXiv 2205.14135, here with one invocation for each query row and no barrier.

struct Params { batch: u32, heads: u32, queries: u32, keys: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(4) var<storage, read> len: array<u32>;
@group(0) @binding(5) var<storage, read_write> o: array<T>;
@group(0) @binding(6) var<storage, read_write> scores: array<f32>;

override WG: u32 = 64u;
// ceil(d / 4), so that loops over a row can be unrolled.
override QUADS: u32 = 32u;

// Below every score.
const LOWEST: f32 = -3.0e38;

fn valid_keys(b: u32) -> u32 {
    return min(len[b], params.keys);
}

// Output rows are numbered (b, query, h), as o is stored.
fn batch_of(row: u32) -> u32 {
    return row / (params.queries * params.heads);
}

// Where the elements of one key or value start.
fn key_base(b: u32, key: u32, h: u32) -> u32 {
    return ((b * params.keys + key) * params.heads + h) * params.d;
}

// One invocation a score.
@compute @workgroup_size(WG)
fn score_pairs(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.queries * params.heads * params.keys) { return; }
    let row = index / params.keys;
    let key = index % params.keys;
    let b = batch_of(row);
    if (key >= valid_keys(b)) { return; }
    let from_q = row * params.d;
    let from_k = key_base(b, key, row % params.heads);
    var dot = 0.0;
    for (var i = 0u; i < params.d; i++) { dot += f32(q[from_q + i]) * f32(k[from_k + i]); }
    scores[index] = dot * params.scale;
}

var<workgroup> partial: array<f32, WG>;

// Maximum over the workgroup, the same bits in every invocation.
fn reduce_max(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
    }
    let peak = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return peak;
}

// Sum over the workgroup, the same bits in every invocation.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    return workgroupUniformLoad(&partial[0]);
}

// One workgroup a row of scores, in place.
@compute @workgroup_size(WG)
fn softmax_rows(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch * params.queries * params.heads) { return; }
    let valid = valid_keys(batch_of(row));
    let base = row * params.keys;
    var peak = LOWEST;
    for (var i = lane; i < valid; i += WG) { peak = max(peak, scores[base + i]); }
    peak = reduce_max(lane, peak);
    var total = 0.0;
    for (var i = lane; i < valid; i += WG) { total += exp(scores[base + i] - peak); }
    total = reduce_sum(lane, total);
    for (var i = lane; i < valid; i += WG) {
        scores[base + i] = exp(scores[base + i] - peak) / total;
    }
}

// One invocation an output element.
@compute @workgroup_size(WG)
fn mix_values(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.queries * params.heads * params.d) { return; }
    let row = index / params.d;
    let b = batch_of(row);
    let column = key_base(b, 0u, row % params.heads) + index % params.d;
    let stride = params.heads * params.d;
    let valid = valid_keys(b);
    var sum = 0.0;
    for (var key = 0u; key < valid; key++) {
        sum += scores[row * params.keys + key] * f32(v[column + key * stride]);
    }
    o[index] = to_storage(sum);
}

// Elements i to i + 3 of a row of d elements, zero beyond it.
fn quad_q(base: u32, i: u32) -> vec4<f32> {
    let at = base + i;
    if (i + 3u < params.d) {
        return vec4<f32>(f32(q[at]), f32(q[at + 1u]), f32(q[at + 2u]), f32(q[at + 3u]));
    }
    var row = vec4<f32>(f32(q[at]), 0.0, 0.0, 0.0);
    if (i + 1u < params.d) { row.y = f32(q[at + 1u]); }
    if (i + 2u < params.d) { row.z = f32(q[at + 2u]); }
    return row;
}

fn quad_k(base: u32, i: u32) -> vec4<f32> {
    let at = base + i;
    if (i + 3u < params.d) {
        return vec4<f32>(f32(k[at]), f32(k[at + 1u]), f32(k[at + 2u]), f32(k[at + 3u]));
    }
    var row = vec4<f32>(f32(k[at]), 0.0, 0.0, 0.0);
    if (i + 1u < params.d) { row.y = f32(k[at + 1u]); }
    if (i + 2u < params.d) { row.z = f32(k[at + 2u]); }
    return row;
}

fn quad_v(base: u32, i: u32) -> vec4<f32> {
    let at = base + i;
    if (i + 3u < params.d) {
        return vec4<f32>(f32(v[at]), f32(v[at + 1u]), f32(v[at + 2u]), f32(v[at + 3u]));
    }
    var row = vec4<f32>(f32(v[at]), 0.0, 0.0, 0.0);
    if (i + 1u < params.d) { row.y = f32(v[at + 1u]); }
    if (i + 2u < params.d) { row.z = f32(v[at + 2u]); }
    return row;
}

// One invocation a query row, neighbours share batch and head and so read the same key.
@compute @workgroup_size(WG)
fn flash(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.heads * params.queries) { return; }
    let b = index / (params.heads * params.queries);
    let h = index / params.queries % params.heads;
    let base = ((b * params.queries + index % params.queries) * params.heads + h) * params.d;
    var query: array<vec4<f32>, 32>;
    var sums: array<vec4<f32>, 32>;
    for (var c = 0u; c < QUADS; c++) { query[c] = quad_q(base, 4u * c); }
    let valid = valid_keys(b);
    var peak = LOWEST;
    var total = 0.0;
    for (var key = 0u; key < valid; key++) {
        let start = key_base(b, key, h);
        var products = 0.0;
        for (var c = 0u; c < QUADS; c++) { products += dot(query[c], quad_k(start, 4u * c)); }
        let score = products * params.scale;
        if (score > peak) {
            let shrink = exp(peak - score);
            total *= shrink;
            for (var c = 0u; c < QUADS; c++) { sums[c] *= shrink; }
            peak = score;
        }
        let weight = exp(score - peak);
        total += weight;
        for (var c = 0u; c < QUADS; c++) { sums[c] += weight * quad_v(start, 4u * c); }
    }
    let divisor = select(total, 1.0, valid == 0u);
    for (var c = 0u; c < QUADS; c++) {
        let out = sums[c] / divisor;
        for (var i = 0u; i < 4u; i++) {
            if (4u * c + i < params.d) { o[base + 4u * c + i] = to_storage(out[i]); }
        }
    }
}
