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
