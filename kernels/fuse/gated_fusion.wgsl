// Gated multimodal unit (arXiv 1702.01992) on pre-activations:
// y = sum over present m of sigmoid(v_m) * tanh(u_m).
// u and v[modalities, batch, d], present[batch] (bit m) -> y[batch, d].
// An absent modality is never read; a sample without any gives zeros.

struct Params { modalities: u32, batch: u32, d: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> u: array<T>;
@group(0) @binding(1) var<storage, read> u4: array<T4>;
@group(0) @binding(2) var<storage, read> v: array<T>;
@group(0) @binding(2) var<storage, read> v4: array<T4>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

fn is_present(mask: u32, m: u32) -> bool {
    return ((mask >> m) & 1u) == 1u;
}

// Absolute error below 1e-6, where the built-in may be off by 1e-5.
fn tanh_exp(x: vec4<f32>) -> vec4<f32> {
    let clamped = min(abs(x), vec4<f32>(15.0));
    let magnitude = vec4<f32>(1.0) - vec4<f32>(2.0) / (exp(2.0 * clamped) + vec4<f32>(1.0));
    return select(magnitude, -magnitude, x < vec4<f32>(0.0));
}

// exp(-x) would pass the largest f32 at x = -88.7.
fn sigmoid(x: vec4<f32>) -> vec4<f32> {
    return vec4<f32>(1.0) / (vec4<f32>(1.0) + exp(-max(x, vec4<f32>(-80.0))));
}

// One invocation an element.
@compute @workgroup_size(WG)
fn scalar(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let count = params.batch * params.d;
    if (index >= count) { return; }
    let mask = present[index / params.d];
    var sum = 0.0;
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(mask, m)) {
            let gate = sigmoid(vec4<f32>(f32(v[m * count + index]))).x;
            sum += gate * tanh_exp(vec4<f32>(f32(u[m * count + index]))).x;
        }
    }
    y[index] = to_storage(sum);
}

// One invocation four elements of one row: d % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let count = params.batch * (params.d / 4u);
    if (index >= count) { return; }
    let mask = present[index / (params.d / 4u)];
    var sum = vec4<f32>();
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(mask, m)) {
            let gate = sigmoid(vec4<f32>(v4[m * count + index]));
            sum += gate * tanh_exp(vec4<f32>(u4[m * count + index]));
        }
    }
    y4[index] = to_storage4(sum);
}

fn gated4(at: u32) -> vec4<f32> {
    return sigmoid(vec4<f32>(v4[at])) * tanh_exp(vec4<f32>(u4[at]));
}

// One workgroup a strip of a row, four vectors of it for each invocation, WG apart: the row comes
// from the grid and the presence of modalities is looked up once for all of them. d % 4 = 0.
@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quads = params.d / 4u;
    let strips = (quads + 4u * WG - 1u) / (4u * WG);
    let number = wid.x + wid.y * groups.x;
    let row = number / strips;
    if (row >= params.batch) { return; }
    let modalities = params.modalities;
    let count = params.batch * quads;
    let first = number % strips * 4u * WG + lane;
    let column = first + vec4<u32>(0u, WG, 2u * WG, 3u * WG);
    // Vectors beyond the row load its last one and are not stored.
    let i = row * quads + min(column, vec4<u32>(quads - 1u));
    let mask = present[row];
    var sum_a = vec4<f32>();
    var sum_b = vec4<f32>();
    var sum_c = vec4<f32>();
    var sum_d = vec4<f32>();
    for (var m = 0u; m < modalities; m++) {
        if (is_present(mask, m)) {
            let base = m * count;
            sum_a += gated4(base + i.x);
            sum_b += gated4(base + i.y);
            sum_c += gated4(base + i.z);
            sum_d += gated4(base + i.w);
        }
    }
    if (column.x < quads) { y4[i.x] = to_storage4(sum_a); }
    if (column.y < quads) { y4[i.y] = to_storage4(sum_b); }
    if (column.z < quads) { y4[i.z] = to_storage4(sum_c); }
    if (column.w < quads) { y4[i.w] = to_storage4(sum_d); }
}

// Modalities of the shape: those that it lacks fall away when this is compiled.
override COUNT: u32 = 6u;

// What modality `m` adds to a vector of the result.
fn term(m: u32, mask: u32, at: u32) -> vec4<f32> {
    if (m >= COUNT || !is_present(mask, m)) { return vec4<f32>(); }
    return gated4(m * params.batch * (params.d / 4u) + at);
}

// One workgroup a row, along which it goes vector by vector. d % 4 = 0.
@compute @workgroup_size(WG)
fn row(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = wid.x + wid.y * groups.x;
    if (number >= params.batch) { return; }
    let quads = params.d / 4u;
    let mask = present[number];
    let end = (number + 1u) * quads;
    for (var at = number * quads + lane; at < end; at += WG) {
        let low = term(0u, mask, at) + term(1u, mask, at) + term(2u, mask, at);
        let high = term(3u, mask, at) + term(4u, mask, at) + term(5u, mask, at);
        y4[at] = to_storage4(low + high);
    }
}
