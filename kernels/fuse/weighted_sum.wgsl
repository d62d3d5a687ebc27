// Weighted fusion: y = sum over present m of softmax(a)_m * x_m, where the softmax runs over the
// present modalities of each sample.
// x[modalities, batch, d], a[modalities], present[batch] (bit m) -> y[batch, d].
// An absent modality is never read; a sample without any gives zeros.

struct Params { modalities: u32, batch: u32, d: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> a: array<T>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

fn is_present(mask: u32, m: u32) -> bool {
    return ((mask >> m) & 1u) == 1u;
}

// Below every logit.
const LOWEST: f32 = -3.0e38;

fn peak_of(mask: u32) -> f32 {
    var peak = LOWEST;
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(mask, m)) { peak = max(peak, f32(a[m])); }
    }
    return peak;
}

fn total_of(mask: u32, peak: f32) -> f32 {
    var total = 0.0;
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(mask, m)) { total += exp(f32(a[m]) - peak); }
    }
    return total;
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
    let peak = peak_of(mask);
    let total = total_of(mask, peak);
    var sum = 0.0;
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(mask, m)) {
            sum += exp(f32(a[m]) - peak) / total * f32(x[m * count + index]);
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
    let peak = peak_of(mask);
    let total = total_of(mask, peak);
    var sum = vec4<f32>();
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(mask, m)) {
            sum += exp(f32(a[m]) - peak) / total * vec4<f32>(x4[m * count + index]);
        }
    }
    y4[index] = to_storage4(sum);
}

// One workgroup a strip of a row, four vectors of it for each invocation, WG apart: the row comes
// from the grid and the weights are computed once for all of them. d % 4 = 0.
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
    let peak = peak_of(mask);
    let total = total_of(mask, peak);
    var sum_a = vec4<f32>();
    var sum_b = vec4<f32>();
    var sum_c = vec4<f32>();
    var sum_d = vec4<f32>();
    for (var m = 0u; m < modalities; m++) {
        if (is_present(mask, m)) {
            let base = m * count;
            let weight = exp(f32(a[m]) - peak) / total;
            sum_a += weight * vec4<f32>(x4[base + i.x]);
            sum_b += weight * vec4<f32>(x4[base + i.y]);
            sum_c += weight * vec4<f32>(x4[base + i.z]);
            sum_d += weight * vec4<f32>(x4[base + i.w]);
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
fn term(m: u32, mask: u32, at: u32, weight: f32) -> vec4<f32> {
    if (m >= COUNT || !is_present(mask, m)) { return vec4<f32>(); }
    return weight * vec4<f32>(x4[m * params.batch * (params.d / 4u) + at]);
}

// Nothing where the modality is absent.
fn weight_of(m: u32, mask: u32, peak: f32, total: f32) -> f32 {
    if (m >= COUNT || !is_present(mask, m)) { return 0.0; }
    return exp(f32(a[m]) - peak) / total;
}

// One workgroup a row, along which it goes vector by vector, the weights computed once. d % 4 = 0.
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
    let peak = peak_of(mask);
    let total = total_of(mask, peak);
    let a = vec3<f32>(weight_of(0u, mask, peak, total), weight_of(1u, mask, peak, total),
        weight_of(2u, mask, peak, total));
    let b = vec3<f32>(weight_of(3u, mask, peak, total), weight_of(4u, mask, peak, total),
        weight_of(5u, mask, peak, total));
    for (var at = number * quads + lane; at < end; at += WG) {
        let low = term(0u, mask, at, a.x) + term(1u, mask, at, a.y) + term(2u, mask, at, a.z);
        let high = term(3u, mask, at, b.x) + term(4u, mask, at, b.y) + term(5u, mask, at, b.z);
        y4[at] = to_storage4(low + high);
    }
}
