// Attention rollout (arXiv 2005.00928): how much of each input token reaches each output token.
// a[layers, heads, t, t] -> r[t, t] = M_last ... M_first, where M of a layer is the mean over
// heads, averaged with the identity for the residual path and normalised by rows:
// M = (sum of heads + H * I) / (row total + H). A query that attended to nothing passes itself on.
//
// `layers` multiplies one layer a dispatch, from the last to the first, with the product in `ping`
// and `pong` in turn. `fused` keeps four rows of the product in workgroup memory over all layers.

// A slice of the layers has a window into `a`; `first` is its first layer.
struct Params { layers: u32, heads: u32, t: u32, first: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(2) var<storage, read_write> r: array<T>;
@group(0) @binding(3) var<storage, read_write> mixed: array<f32>;
@group(0) @binding(4) var<storage, read_write> ping: array<f32>;
@group(0) @binding(5) var<storage, read_write> pong: array<f32>;

override WG: u32 = 64u;
// The layer to multiply by, and whether the product so far is in `ping`, `pong` or layer + 1.
override LAYER: u32 = 0u;
override SOURCE: u32 = 0u;

// Sum over heads of one element of one layer, and the identity.
fn heads_sum(layer: u32, row: u32, column: u32) -> f32 {
    let plane = params.t * params.t;
    let first = layer * params.heads * plane + row * params.t + column;
    var sum = 0.0;
    for (var h = 0u; h < params.heads; h++) { sum += f32(a[first + h * plane]); }
    return sum + select(0.0, f32(params.heads), row == column);
}

// One invocation a row of a layer: no barrier.
@compute @workgroup_size(WG)
fn mix_thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.layers * params.t) { return; }
    let base = (params.first * params.t + index) * params.t;
    var total = 0.0;
    for (var j = 0u; j < params.t; j++) {
        let sum = heads_sum(index / params.t, index % params.t, j);
        mixed[base + j] = sum;
        total += sum;
    }
    for (var j = 0u; j < params.t; j++) { mixed[base + j] /= total; }
}

var<workgroup> partial: array<f32, WG>;

// One workgroup a row of a layer, coalesced loads, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn mix_group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wid.x + wid.y * groups.x;
    if (index >= params.layers * params.t) { return; }
    let base = index * params.t;
    var total = 0.0;
    for (var j = lane; j < params.t; j += WG) {
        let sum = heads_sum(index / params.t, index % params.t, j);
        mixed[base + j] = sum;
        total += sum;
    }
    partial[lane] = total;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    total = workgroupUniformLoad(&partial[0]);
    for (var j = lane; j < params.t; j += WG) { mixed[base + j] /= total; }
}

fn product(row: u32, j: u32) -> f32 {
    let at = min(row, params.t - 1u) * params.t + j;
    switch SOURCE {
        case 0u: { return mixed[(LAYER + 1u) * params.t * params.t + at]; }
        case 1u: { return ping[at]; }
        default: { return pong[at]; }
    }
}

fn keep(row: u32, column: u32, value: f32) {
    if (row >= params.t) { return; }
    let at = row * params.t + column;
    if (LAYER == 0u) { r[at] = to_storage(value); }
    else if (SOURCE == 1u) { pong[at] = value; }
    else { ping[at] = value; }
}

// Four rows of one column for each invocation; neighbours read neighbouring columns.
@compute @workgroup_size(WG)
fn multiply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    let row = wid.y * 4u;
    if (column >= params.t) { return; }
    let base = LAYER * params.t * params.t + column;
    var sum = vec4<f32>();
    for (var j = 0u; j < params.t; j++) {
        let rows = vec4<f32>(
            product(row, j), product(row + 1u, j), product(row + 2u, j), product(row + 3u, j));
        sum += rows * mixed[base + j * params.t];
    }
    for (var i = 0u; i < 4u; i++) { keep(row + i, column, sum[i]); }
}

// The result of a single layer.
@compute @workgroup_size(WG)
fn finish(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index < params.t * params.t) { r[index] = to_storage(mixed[index]); }
}

// Four rows at once, the components of a vector, for at most 1,024 tokens.
var<workgroup> rows: array<vec4<f32>, 1024>;

fn mixed4(layer: u32, row: u32, column: u32) -> vec4<f32> {
    let t = params.t;
    let base = layer * t * t + column;
    return vec4<f32>(
        mixed[base + min(row, t - 1u) * t], mixed[base + min(row + 1u, t - 1u) * t],
        mixed[base + min(row + 2u, t - 1u) * t], mixed[base + min(row + 3u, t - 1u) * t]);
}

// One workgroup four rows of the result.
@compute @workgroup_size(256)
fn fused(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.x * 4u;
    for (var column = lane; column < params.t; column += 256u) {
        rows[column] = mixed4(params.layers - 1u, row, column);
    }
    for (var below = params.layers - 1u; below > 0u; below--) {
        workgroupBarrier();
        let base = (below - 1u) * params.t * params.t;
        var sums: array<vec4<f32>, 4>;
        for (var c = 0u; c < 4u; c++) {
            let column = c * 256u + lane;
            if (column < params.t) {
                var sum = vec4<f32>();
                for (var j = 0u; j < params.t; j++) {
                    sum += rows[j] * mixed[base + j * params.t + column];
                }
                sums[c] = sum;
            }
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            if (c * 256u + lane < params.t) { rows[c * 256u + lane] = sums[c]; }
        }
    }
    for (var column = lane; column < params.t; column += 256u) {
        for (var i = 0u; i < 4u; i++) {
            let to = row + i;
            if (to < params.t) { r[to * params.t + column] = to_storage(rows[column][i]); }
        }
    }
}
