// What each query of one modality attends to in another: the attention weights a heat map shows.
// q[batch, queries, heads, d], k[batch, keys, heads, d], len[batch]
// -> weights[batch, heads, queries, keys] = softmax(q * k^T / sqrt(d)) for each head,
//    map[batch, queries, keys] = their mean over heads.
// Keys from len on are padding: never read, weight 0; a batch of length 0 gives zeros.
//
// Scores and unrounded weights stay in f32 in `scratch`, so that the map is rounded once.

struct Params { batch: u32, heads: u32, queries: u32, keys: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> len: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<T>;
@group(0) @binding(5) var<storage, read_write> map: array<T>;
@group(0) @binding(6) var<storage, read_write> scratch: array<f32>;

override WG: u32 = 64u;

// Below every score.
const LOWEST: f32 = -3.0e38;

// Rows are numbered (b, h, query), as the weights are stored.
fn batch_of(row: u32) -> u32 {
    return row / (params.heads * params.queries);
}

// Where a query or key, one of `count` in its batch, starts in q or k.
fn vector_of(b: u32, count: u32, position: u32, row: u32) -> u32 {
    return ((b * count + position) * params.heads + row / params.queries % params.heads) * params.d;
}

// Four products a step: shorter chains of additions.
fn score(row: u32, key: u32) -> f32 {
    let b = batch_of(row);
    let from_q = vector_of(b, params.queries, row % params.queries, row);
    let from_k = vector_of(b, params.keys, key, row);
    let whole = params.d / 4u * 4u;
    var sum = 0.0;
    for (var i = 0u; i < whole; i += 4u) {
        let x = from_q + i;
        let y = from_k + i;
        sum += dot(
            vec4<f32>(f32(q[x]), f32(q[x + 1u]), f32(q[x + 2u]), f32(q[x + 3u])),
            vec4<f32>(f32(k[y]), f32(k[y + 1u]), f32(k[y + 2u]), f32(k[y + 3u])));
    }
    for (var i = whole; i < params.d; i++) { sum += f32(q[from_q + i]) * f32(k[from_k + i]); }
    return sum * params.scale;
}

fn write(at: u32, peak: f32, total: f32) {
    let weight = exp(scratch[at] - peak) / total;
    scratch[at] = weight;
    weights[at] = to_storage(weight);
}

// One invocation a row of weights: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.batch * params.heads * params.queries) { return; }
    let valid = min(len[batch_of(row)], params.keys);
    let base = row * params.keys;
    var peak = LOWEST;
    for (var key = 0u; key < valid; key++) {
        let s = score(row, key);
        scratch[base + key] = s;
        peak = max(peak, s);
    }
    var total = 0.0;
    for (var key = 0u; key < valid; key++) { total += exp(scratch[base + key] - peak); }
    for (var key = 0u; key < valid; key++) { write(base + key, peak, total); }
    for (var key = valid; key < params.keys; key++) { weights[base + key] = to_storage(0.0); }
}

var<workgroup> partial: array<f32, WG>;

// Maximum or sum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32, is_sum: bool) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = partial[lane + half];
            partial[lane] = select(max(partial[lane], other), partial[lane] + other, is_sum);
        }
    }
    let result = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return result;
}

// One workgroup a row of weights: keys side by side, tree reductions in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch * params.heads * params.queries) { return; }
    let valid = min(len[batch_of(row)], params.keys);
    let base = row * params.keys;
    var peak = LOWEST;
    for (var key = lane; key < valid; key += WG) {
        let s = score(row, key);
        scratch[base + key] = s;
        peak = max(peak, s);
    }
    peak = reduce(lane, peak, false);
    var total = 0.0;
    for (var key = lane; key < valid; key += WG) { total += exp(scratch[base + key] - peak); }
    total = reduce(lane, total, true);
    for (var key = lane; key < valid; key += WG) { write(base + key, peak, total); }
    for (var key = valid + lane; key < params.keys; key += WG) {
        weights[base + key] = to_storage(0.0);
    }
}

// One invocation an element of the map.
@compute @workgroup_size(WG)
fn average(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let plane = params.queries * params.keys;
    if (index >= params.batch * plane) { return; }
    let b = index / plane;
    let first = b * params.heads * plane + index % plane;
    var sum = 0.0;
    if (index % params.keys < len[b]) {
        for (var h = 0u; h < params.heads; h++) { sum += scratch[first + h * plane]; }
    }
    map[index] = to_storage(sum / f32(params.heads));
}
