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
