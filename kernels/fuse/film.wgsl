// Feature-wise linear modulation (arXiv 1709.07871): y = gamma * x + beta for each channel, where
// gamma and beta come from another modality.
// x[batch, len, channels], gamma and beta[batch, channels], present[batch] -> y like x.
// Bit 0 of present: the features x; without them a sample is all zeros. Bit 1: the conditioning
// modality; without it the features are copied. What is absent is never read.

struct Params { batch: u32, len: u32, channels: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> gamma: array<T>;
@group(0) @binding(2) var<storage, read> gamma4: array<T4>;
@group(0) @binding(3) var<storage, read> beta: array<T>;
@group(0) @binding(3) var<storage, read> beta4: array<T4>;
@group(0) @binding(4) var<storage, read> present: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<T>;
@group(0) @binding(5) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
// Rows of x that one invocation of `columns` modulates.
override ROWS: u32 = 16u;

// Bits of present.
const FEATURES: u32 = 1u;
const CONDITION: u32 = 2u;

// One invocation an element.
@compute @workgroup_size(WG)
fn scalar(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.len * params.channels) { return; }
    let row = index / params.channels;
    let sample = row / params.len;
    let mask = present[sample];
    var v = 0.0;
    if ((mask & FEATURES) != 0u) {
        v = f32(x[index]);
        if ((mask & CONDITION) != 0u) {
            let at = sample * params.channels + index - row * params.channels;
            v = f32(gamma[at]) * v + f32(beta[at]);
        }
    }
    y[index] = to_storage(v);
}

// One invocation four channels of one row: channels % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let quads = params.channels / 4u;
    if (index >= params.batch * params.len * quads) { return; }
    let row = index / quads;
    let sample = row / params.len;
    let mask = present[sample];
    var v = vec4<f32>();
    if ((mask & FEATURES) != 0u) {
        v = vec4<f32>(x4[index]);
        if ((mask & CONDITION) != 0u) {
            let at = sample * quads + index - row * quads;
            v = vec4<f32>(gamma4[at]) * v + vec4<f32>(beta4[at]);
        }
    }
    y4[index] = to_storage4(v);
}

// One invocation the same four channels of ROWS rows, with gamma and beta in registers; sample and
// rows come from the number of the workgroup: channels % 4 = 0.
@compute @workgroup_size(WG)
fn columns(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wid.x + wid.y * groups.x;
    let quads = params.channels / 4u;
    let across = (quads + WG - 1u) / WG;
    let bands = (params.len + ROWS - 1u) / ROWS;
    let quad = group % across * WG + lane;
    let first = group / across % bands * ROWS;
    let sample = group / across / bands;
    if (sample >= params.batch || quad >= quads) { return; }
    let mask = present[sample];
    var g = vec4<f32>(1.0);
    var b = vec4<f32>();
    if ((mask & CONDITION) != 0u) {
        g = vec4<f32>(gamma4[sample * quads + quad]);
        b = vec4<f32>(beta4[sample * quads + quad]);
    }
    let len = params.len;
    for (var row = first; row < min(first + ROWS, len); row++) {
        let at = (sample * len + row) * quads + quad;
        var v = vec4<f32>();
        if ((mask & FEATURES) != 0u) { v = g * vec4<f32>(x4[at]) + b; }
        y4[at] = to_storage4(v);
    }
}
