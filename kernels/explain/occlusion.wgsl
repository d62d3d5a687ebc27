// Occlusion (arXiv 1311.2901): copies of a token sequence, each with one patch of neighbouring
// tokens replaced by a baseline, to be scored by a model.
// x[tokens, d], baseline[d] -> y[patches, tokens, d]; patch j covers the tokens from
// j * tokens / patches up to the next one's first. Kept elements are loaded and stored, never
// computed with, so every bit survives.
//
// An invocation reads its element once and writes it to every copy.

struct Params { tokens: u32, d: u32, patches: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> baseline: array<T>;
@group(0) @binding(2) var<storage, read> baseline4: array<T4>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

fn first_token(patch_number: u32) -> u32 {
    return patch_number * params.tokens / params.patches;
}

fn is_hidden(token: u32, patch_number: u32) -> bool {
    return first_token(patch_number) <= token && token < first_token(patch_number + 1u);
}

// One invocation an element of x: columns along the grid's x, tokens along y.
@compute @workgroup_size(WG)
fn scalar(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    let token = wid.y;
    if (column >= params.d) { return; }
    let kept = x[token * params.d + column];
    let hidden = baseline[column];
    for (var j = 0u; j < params.patches; j++) {
        let to = (j * params.tokens + token) * params.d + column;
        if (is_hidden(token, j)) { y[to] = hidden; } else { y[to] = kept; }
    }
}

// One invocation four neighbouring elements of x: d % 4 = 0.
@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    let token = wid.y;
    let width = params.d / 4u;
    if (column >= width) { return; }
    let kept = x4[token * width + column];
    let hidden = baseline4[column];
    for (var j = 0u; j < params.patches; j++) {
        let to = (j * params.tokens + token) * width + column;
        if (is_hidden(token, j)) { y4[to] = hidden; } else { y4[to] = kept; }
    }
}
