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
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> baseline: array<T>;
@group(0) @binding(2) var<storage, read> baseline4: array<T4>;
@group(0) @binding(2) var<storage, read> baseline8: array<T8>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;
@group(0) @binding(3) var<storage, read_write> y8: array<T8>;

override WG: u32 = 64u;

// The one patch that covers a token: the first of which the next begins behind it.
fn hidden_in(token: u32) -> u32 {
    return ((token + 1u) * params.patches - 1u) / params.tokens;
}

// One invocation an element of x: columns along the grid's x, tokens along y.
@compute @workgroup_size(WG)
fn scalar(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    let token = wid.y;
    if (column >= params.d) { return; }
    let kept = x[token * params.d + column];
    let hidden = baseline[column];
    let patches = params.patches;
    let hide = hidden_in(token);
    let step = params.tokens * params.d;
    var to = token * params.d + column;
    for (var j = 0u; j < patches; j++) {
        y[to] = select(kept, hidden, j == hide);
        to += step;
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
    let patches = params.patches;
    let hide = hidden_in(token);
    let step = params.tokens * width;
    var to = token * width + column;
    for (var j = 0u; j < patches; j++) {
        y4[to] = select(kept, hidden, j == hide);
        to += step;
    }
}

// One invocation eight of them, of 16 bytes in f16: d % 8 = 0. Every copy gets what is kept, then
// one of them the baseline, so that no turn has to choose.
@compute @workgroup_size(WG)
fn eights(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    let token = wid.y;
    let width = params.d / 8u;
    if (column >= width) { return; }
    let kept = x8[token * width + column];
    let patches = params.patches;
    let step = params.tokens * width;
    let first = token * width + column;
    var to = first;
    for (var j = 0u; j < patches; j++) {
        y8[to] = kept;
        to += step;
    }
    y8[first + hidden_in(token) * step] = baseline8[column];
}
