// Dequantise int4: y = q * s.
// q[rows, ceil(k/8)] words of eight codes, lowest nibble first; s[rows, ceil(k/group)]
// -> y[rows, k].

struct Params { rows: u32, k: u32, group: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<u32>;
@group(0) @binding(1) var<storage, read> q4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> s: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
override GROUP: u32 = 32u; // params.group, known when compiled

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

// Two vectors from the eight codes of a word.
fn put(at: u32, code: u32, scale: f32) {
    y4[at] = to_storage4(nibbles(code) * scale);
    y4[at + 1u] = to_storage4(nibbles(code >> 16u) * scale);
}

// One workgroup a row, 32 codes at a time with one scale for them: k and groups are multiples of
// 32. A CPU driver makes each load one invocation at a time, so that codes come four words at once;
// nor is there a division for each word.
@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * grid.x;
    if (row >= params.rows) { return; }
    let end = params.k / 32u;
    let groups = (params.k + GROUP - 1u) / GROUP;
    for (var i = lane; i < end; i += WG) {
        let codes = q4[row * end + i];
        let scale = f32(s[row * groups + 32u * i / GROUP]);
        let at = 8u * (row * end + i);
        put(at, codes.x, scale);
        put(at + 2u, codes.y, scale);
        put(at + 4u, codes.z, scale);
        put(at + 6u, codes.w, scale);
    }
}
