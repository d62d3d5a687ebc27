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

// Sixteen rows by 32 columns for the eight invocations of a subgroup. A CPU driver makes every load
// one invocation at a time, also where all of them read the same address: so invocation i loads the
// rows i and i + 8, and the others get them by broadcast.
var<private> upper_0: array<f32, 8>;
var<private> upper_1: array<f32, 8>;
var<private> upper_2: array<f32, 8>;
var<private> upper_3: array<f32, 8>;
var<private> lower_0: array<f32, 8>;
var<private> lower_1: array<f32, 8>;
var<private> lower_2: array<f32, 8>;
var<private> lower_3: array<f32, 8>;

fn add_rows(sums: ptr<private, array<f32, 8>>, own: f32, factor: f32) {
    (*sums)[0] += subgroupBroadcast(own, 0u) * factor;
    (*sums)[1] += subgroupBroadcast(own, 1u) * factor;
    (*sums)[2] += subgroupBroadcast(own, 2u) * factor;
    (*sums)[3] += subgroupBroadcast(own, 3u) * factor;
    (*sums)[4] += subgroupBroadcast(own, 4u) * factor;
    (*sums)[5] += subgroupBroadcast(own, 5u) * factor;
    (*sums)[6] += subgroupBroadcast(own, 6u) * factor;
    (*sums)[7] += subgroupBroadcast(own, 7u) * factor;
}

fn keep_rows(sums: ptr<private, array<f32, 8>>, row: u32, column: u32) {
    if (column >= params.t) { return; }
    keep(row, column, (*sums)[0]);
    keep(row + 1u, column, (*sums)[1]);
    keep(row + 2u, column, (*sums)[2]);
    keep(row + 3u, column, (*sums)[3]);
    keep(row + 4u, column, (*sums)[4]);
    keep(row + 5u, column, (*sums)[5]);
    keep(row + 6u, column, (*sums)[6]);
    keep(row + 7u, column, (*sums)[7]);
}

@compute @workgroup_size(8)
fn multiply_rows(
    @builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.y * 16u;
    let columns = wid.x * 32u + lane + vec4<u32>(0u, 8u, 16u, 24u);
    let at = LAYER * params.t * params.t + min(columns, vec4<u32>(params.t - 1u));
    for (var j = 0u; j < params.t; j++) {
        let upper = product(row + lane, j);
        let lower = product(row + 8u + lane, j);
        let from_row = at + j * params.t;
        let factors = vec4<f32>(
            mixed[from_row.x], mixed[from_row.y], mixed[from_row.z], mixed[from_row.w]);
        add_rows(&upper_0, upper, factors.x);
        add_rows(&upper_1, upper, factors.y);
        add_rows(&upper_2, upper, factors.z);
        add_rows(&upper_3, upper, factors.w);
        add_rows(&lower_0, lower, factors.x);
        add_rows(&lower_1, lower, factors.y);
        add_rows(&lower_2, lower, factors.z);
        add_rows(&lower_3, lower, factors.w);
    }
    keep_rows(&upper_0, row, columns.x);
    keep_rows(&upper_1, row, columns.y);
    keep_rows(&upper_2, row, columns.z);
    keep_rows(&upper_3, row, columns.w);
    keep_rows(&lower_0, row + 8u, columns.x);
    keep_rows(&lower_1, row + 8u, columns.y);
    keep_rows(&lower_2, row + 8u, columns.z);
    keep_rows(&lower_3, row + 8u, columns.w);
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
