// Batch normalisation with stored statistics, as at inference (arXiv 1502.03167):
// y = (x - mean_c) / sqrt(variance_c + eps) * g_c + b_c.
// x[n, c, l], mean, variance, g and b[c] -> y like x. The host gives no negative variance.

struct Params { planes: u32, channels: u32, l: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> mean: array<T>;
@group(0) @binding(3) var<storage, read> variance: array<T>;
@group(0) @binding(4) var<storage, read> g: array<T>;
@group(0) @binding(5) var<storage, read> b: array<T>;
@group(0) @binding(6) var<storage, read_write> y: array<T>;
@group(0) @binding(6) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

// What the elements of a channel are multiplied by once the mean is gone.
fn gain(c: u32) -> f32 {
    return inverseSqrt(f32(variance[c]) + params.eps) * f32(g[c]);
}

// One invocation four elements WG apart, so that loads stay coalesced.
@compute @workgroup_size(WG)
fn flat(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (wid.x + wid.y * groups.x) * 4u * WG + lane;
    for (var i = 0u; i < 4u; i++) {
        let index = first + i * WG;
        if (index < params.planes * params.l) {
            let c = index / params.l % params.channels;
            y[index] = to_storage((f32(x[index]) - f32(mean[c])) * gain(c) + f32(b[c]));
        }
    }
}

// One invocation four neighbouring elements of a channel: l % 4 = 0.
@compute @workgroup_size(WG)
fn flat4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.planes * (params.l / 4u)) { return; }
    let c = index / (params.l / 4u) % params.channels;
    let v = (vec4<f32>(x4[index]) - f32(mean[c])) * gain(c) + f32(b[c]);
    y4[index] = to_storage4(v);
}

// One workgroup a channel of a sample: its constants are read once and nothing is divided.
@compute @workgroup_size(WG)
fn plane(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.planes) { return; }
    let c = row % params.channels;
    let factor = gain(c);
    let level = f32(mean[c]);
    let bias = f32(b[c]);
    let l = params.l;
    for (var i = lane; i < l; i += WG) {
        y[row * l + i] = to_storage((f32(x[row * l + i]) - level) * factor + bias);
    }
}

// The same by vectors: l % 4 = 0.
@compute @workgroup_size(WG)
fn plane4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.planes) { return; }
    let c = row % params.channels;
    let factor = gain(c);
    let level = f32(mean[c]);
    let bias = f32(b[c]);
    let quads = params.l / 4u;
    for (var q = lane; q < quads; q += WG) {
        let v = (vec4<f32>(x4[row * quads + q]) - level) * factor + bias;
        y4[row * quads + q] = to_storage4(v);
    }
}
