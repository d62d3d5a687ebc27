// An image cut into square patches, one token each, zero beyond the right and bottom edge:
// x[height, width, c] -> y[tokens, patch * patch * c], as the stem of a vision transformer
// (arXiv 2010.11929). Moved as u32 words, so that every bit pattern survives.
//
// A row of a patch is contiguous on both sides: `line` elements of an image row of `width`.

struct Params { height: u32, width: u32, line: u32, patch_rows: u32, across: u32, down: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4<u32>>;

override WG: u32 = 64u;
override EACH: u32 = 1u; // elements moved at once
override HALVES: u32 = 0u; // single f16 elements, where runs of them are odd

// Where a unit of an image row goes.
fn destination(row: u32, unit: u32) -> u32 {
    let line = params.line / EACH;
    let token = row / params.patch_rows * params.across + unit / line;
    return (token * params.patch_rows + row % params.patch_rows) * line + unit % line;
}

// The bits of output element e.
fn half_bits(e: u32) -> u32 {
    let line = e / params.line;
    let token = line / params.patch_rows;
    let row = token / params.across * params.patch_rows + line % params.patch_rows;
    let column = token % params.across * params.line + e % params.line;
    if (row >= params.height || column >= params.width) { return 0u; }
    let at = row * params.width + column;
    return (x[at / 2u] >> (16u * (at % 2u))) & 0xffffu;
}

// Two f16 elements.
fn copy_halves(index: u32) {
    if (2u * index >= params.down * params.across * params.patch_rows * params.line) { return; }
    y[index] = half_bits(2u * index) | (half_bits(2u * index + 1u) << 16u);
}

// A word an invocation, a row of workgroups each image row with its padding.
@compute @workgroup_size(WG)
fn word(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if (HALVES == 1u) {
        copy_halves((wid.x + wid.y * groups.x) * WG + lane);
        return;
    }
    let unit = wid.x * WG + lane;
    let width = params.width / EACH;
    if (unit >= params.across * params.line / EACH) { return; }
    var value = 0u;
    if (wid.y < params.height && unit < width) { value = x[wid.y * width + unit]; }
    y[destination(wid.y, unit)] = value;
}

// Four words an invocation.
@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = wid.x * WG + lane;
    let width = params.width / EACH;
    if (unit >= params.across * params.line / EACH) { return; }
    var value = vec4<u32>();
    if (wid.y < params.height && unit < width) { value = x4[wid.y * width + unit]; }
    y4[destination(wid.y, unit)] = value;
}
