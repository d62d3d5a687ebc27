// Dequantise int8: y = (q - z) * s.
// q[rows, ceil(k/4)] words of four codes, s and z -> y[rows, k]. There is one s (and, if AFFINE,
// one z) for the tensor, each row, each column, or each group of `group` columns of a row.
// Semantics: ONNX DequantizeLinear.

struct Params { rows: u32, k: u32, group: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(1) var<storage, read> q4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(3) var<storage, read> z: array<i32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
override SPAN: u32 = 1u; // 0 tensor, 1 row, 2 column, 3 group
override AFFINE: u32 = 0u;
override GROUP: u32 = 32u; // params.group, known when compiled

// The scales of four neighbouring elements.
fn scales(row: u32, word: u32) -> vec4<f32> {
    switch SPAN {
        case 0u: { return vec4<f32>(s[0]); }
        case 1u: { return vec4<f32>(s[row]); }
        case 2u: {
            var scale = vec4<f32>();
            for (var i = 0u; i < 4u; i++) { scale[i] = s[min(4u * word + i, params.k - 1u)]; }
            return scale;
        }
        default: {
            let groups = (params.k + params.group - 1u) / params.group;
            return vec4<f32>(s[row * groups + 4u * word / params.group]);
        }
    }
}

fn values(row: u32, word: u32) -> vec4<f32> {
    let code = q[row * ((params.k + 3u) / 4u) + word];
    var steps = unpack4xI8(code);
    if (AFFINE == 1u) { steps = steps - z[row]; }
    return vec4<f32>(steps) * scales(row, word);
}

// One invocation a word: k % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let words = params.k / 4u;
    if (index >= params.rows * words) { return; }
    y4[index] = to_storage4(values(index / words, index % words));
}

// One invocation a word, the last one of a row perhaps not full.
@compute @workgroup_size(WG)
fn ragged(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let words = (params.k + 3u) / 4u;
    if (index >= params.rows * words) { return; }
    let row = index / words;
    let word = index % words;
    let v = values(row, word);
    for (var i = 0u; i < 4u; i++) {
        if (4u * word + i < params.k) { y[row * params.k + 4u * word + i] = to_storage(v[i]); }
    }
}

// One workgroup a row, sixteen codes at a time, with one scale for them: k % 16 = 0. A CPU driver
// makes each load one invocation at a time, so that codes come four words at once, and the scale of
// a row once; nor is there a division for each word.
@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * grid.x;
    if (row >= params.rows) { return; }
    let end = params.k / 16u;
    var scale = 0.0;
    if (SPAN < 2u) { scale = s[row * SPAN]; }
    var zero = vec4<i32>();
    if (AFFINE == 1u) { zero = vec4<i32>(z[row]); }
    for (var i = lane; i < end; i += WG) {
        let words = q4[row * end + i];
        if (SPAN > 2u) { scale = s[row * ((16u * end + GROUP - 1u) / GROUP) + 16u * i / GROUP]; }
        let at = 4u * (row * end + i);
        y4[at] = to_storage4(vec4<f32>(unpack4xI8(words.x) - zero) * scale);
        y4[at + 1u] = to_storage4(vec4<f32>(unpack4xI8(words.y) - zero) * scale);
        y4[at + 2u] = to_storage4(vec4<f32>(unpack4xI8(words.z) - zero) * scale);
        y4[at + 3u] = to_storage4(vec4<f32>(unpack4xI8(words.w) - zero) * scale);
    }
}
