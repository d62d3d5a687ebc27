// Dequantise int4: y = q * s.
// q[rows, ceil(k/8)] words of eight codes, lowest nibble first; s[rows, ceil(k/group)]
// -> y[rows, k].

struct Params { rows: u32, k: u32, group: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(2) var<storage, read> s: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

// The four codes in the lower half of a word.
fn nibbles(code: u32) -> vec4<f32> {
    let left = vec4<u32>(code) << vec4<u32>(28u, 24u, 20u, 16u);
    return vec4<f32>(bitcast<vec4<i32>>(left) >> vec4<u32>(28u));
}

fn scale_at(row: u32, word: u32) -> f32 {
    let groups = (params.k + params.group - 1u) / params.group;
    return f32(s[row * groups + 8u * word / params.group]);
}

// One invocation a word: k % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let words = (params.k + 7u) / 8u;
    if (index >= params.rows * words) { return; }
    let row = index / words;
    let word = index % words;
    let scale = scale_at(row, word);
    let at = row * (params.k / 4u) + 2u * word;
    let code = q[index];
    y4[at] = to_storage4(nibbles(code) * scale);
    if (8u * word + 4u < params.k) { y4[at + 1u] = to_storage4(nibbles(code >> 16u) * scale); }
}

// One invocation a word, the last one of a row perhaps not full.
@compute @workgroup_size(WG)
fn ragged(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let words = (params.k + 7u) / 8u;
    if (index >= params.rows * words) { return; }
    let row = index / words;
    let word = index % words;
    let scale = scale_at(row, word);
    let code = q[index];
    for (var i = 0u; i < min(8u, params.k - 8u * word); i++) {
        y[row * params.k + 8u * word + i] = to_storage(nibbles(code >> (4u * i)).x * scale);
    }
}
