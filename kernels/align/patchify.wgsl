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
override TOKENS: u32 = 1u; // tokens of one invocation of `strip`
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

// Four words from word n of eight on.
fn pick(a: vec4<u32>, b: vec4<u32>, n: u32) -> vec4<u32> {
    let words = select(a, vec4<u32>(a.yzw, b.x), n == 1u);
    return select(select(words, vec4<u32>(a.zw, b.xy), n == 2u), vec4<u32>(a.w, b.xyz), n == 3u);
}

// One invocation TOKENS tokens, which are whole vectors together: it walks along their lines,
// loads each vector of x once and carries what a line leaves of its last vector into the next one.
// Lines and rows of x are whole words; EACH elements a word.
@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let width = p.width / EACH;
    let line = p.line / EACH;
    let last = (p.height * width - 1u) / 4u;
    let first = ((wid.x + wid.y * groups.x) * WG + lane) * TOKENS;
    var to = first * p.patch_rows * line / 4u;
    var carried = vec4<u32>();
    // Words of the next vector that are there already.
    var filled = 0u;
    for (var token = first; token < min(first + TOKENS, p.down * p.across); token++) {
        let across = token % p.across;
        let top = token / p.across * p.patch_rows;
        let kept = select(0u, min(width - across * line, line), across * line < width);
        for (var row = top; row < top + p.patch_rows; row++) {
            // Behind the word of x where the open vector would begin if all of it were this line:
            // that may lie before x, where nothing is taken from.
            let behind = row * width + across * line + 4u - filled;
            let valid = select(0u, filled + kept, row < p.height);
            var before = x4[min(max(behind / 4u, 1u) - 1u, last)];
            let full = (filled + line) / 4u;
            for (var i = 0u; i < full; i++) {
                let after = x4[min(behind / 4u + i, last)];
                let place = 4u * i + vec4<u32>(0u, 1u, 2u, 3u);
                let words = pick(before, after, behind % 4u);
                let own = select(vec4<u32>(), words, place < vec4<u32>(valid));
                y4[to] = select(own, carried, place < vec4<u32>(filled));
                to++;
                before = after;
            }
            let open = (filled + line) % 4u;
            if (open > 0u) {
                let words = pick(before, x4[min(behind / 4u + full, last)], behind % 4u);
                let place = 4u * full + vec4<u32>(0u, 1u, 2u, 3u);
                let own = select(vec4<u32>(), words, place < vec4<u32>(valid));
                carried = select(own, carried, place < vec4<u32>(filled));
            }
            filled = open;
        }
    }
}
