// Centred crop or zero padding of an image to another size, exactly: ONNX CenterCropPad-18.
// x[height, width, c] -> y[rows, columns, c], moved as u32 words: every bit pattern survives.
//
// An odd difference crops one more at the end and pads one more at the end: the start is half the
// difference rounded towards zero.

struct Params { height: u32, width: u32, c: u32, rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4<u32>>;

override WG: u32 = 64u;
override EACH: u32 = 1u; // elements moved at once
override VECTORS: u32 = 16u; // vectors of an output row that one invocation of `strip` moves
override HALVES: u32 = 0u; // single f16 elements, where runs of them are odd

// Where the output begins in the input, negative for padding.
fn start(size: u32, wanted: u32) -> i32 {
    return (i32(size) - i32(wanted)) / 2;
}

// Where a unit of an output row comes from.
struct Origin { inside: bool, index: u32 }

fn origin(row: u32, unit: u32) -> Origin {
    let width = params.width * params.c / EACH;
    let from_row = i32(row) + start(params.height, params.rows);
    let shift = start(params.width, params.columns) * i32(params.c) / i32(EACH);
    let from_unit = i32(unit) + shift;
    let inside = from_row >= 0 && from_row < i32(params.height)
        && from_unit >= 0 && from_unit < i32(width);
    return Origin(inside, u32(from_row) * width + u32(from_unit));
}

// The bits of output element e.
fn half_bits(e: u32) -> u32 {
    let units = params.columns * params.c;
    if (e >= params.rows * units) { return 0u; }
    let source = origin(e / units, e % units);
    if (!source.inside) { return 0u; }
    return (x[source.index / 2u] >> (16u * (source.index % 2u))) & 0xffffu;
}

// Two f16 elements.
fn copy_halves(index: u32) {
    if (2u * index >= params.rows * params.columns * params.c) { return; }
    y[index] = half_bits(2u * index) | (half_bits(2u * index + 1u) << 16u);
}

// A word an invocation, a row of workgroups each output row.
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
    let units = params.columns * params.c / EACH;
    if (unit >= units) { return; }
    let source = origin(wid.y, unit);
    var value = 0u;
    if (source.inside) { value = x[source.index]; }
    y[wid.y * units + unit] = value;
}

// Four words an invocation.
@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let unit = wid.x * WG + lane;
    let units = params.columns * params.c / EACH;
    if (unit >= units) { return; }
    let source = origin(wid.y, unit);
    var value = vec4<u32>();
    if (source.inside) { value = x4[source.index]; }
    y4[wid.y * units + unit] = value;
}

// Four words from word n <= 4 of eight on.
fn pick(a: vec4<u32>, b: vec4<u32>, n: u32) -> vec4<u32> {
    var words = select(a, vec4<u32>(a.yzw, b.x), n == 1u);
    words = select(words, vec4<u32>(a.zw, b.xy), n == 2u);
    words = select(words, vec4<u32>(a.w, b.xyz), n == 3u);
    return select(words, b, n == 4u);
}

// The bits of four words whose elements lie in an input row, where the first is element `at`.
fn kept(at: u32, width: u32) -> vec4<u32> {
    let first = at + EACH * vec4<u32>(0u, 1u, 2u, 3u);
    let ones = vec4<u32>(0xffffffffu >> (32u - 32u / EACH));
    let low = select(vec4<u32>(), ones, first < vec4<u32>(width));
    if (EACH == 1u) { return low; }
    let high = select(vec4<u32>(), vec4<u32>(0xffff0000u), first + 1u < vec4<u32>(width));
    return low | high;
}

// One invocation VECTORS vectors of an output row, from vectors of x that begin elsewhere: each is
// loaded once. Output rows are whole vectors; EACH elements a word.
@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let quads = p.columns * p.c / (4u * EACH);
    let strips = (quads + VECTORS - 1u) / VECTORS;
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let row = index / strips;
    if (row >= p.rows) { return; }
    let first = (index - row * strips) * VECTORS;
    let width = p.width * p.c;
    let last = (p.height * width - 1u) / (4u * EACH);
    let from_row = i32(row) + start(p.height, p.rows);
    let is_row = from_row >= 0 && from_row < i32(p.height);
    // Element of x, counted from its beginning and from that of its row, where the row begins.
    let shift = start(p.width, p.columns) * i32(p.c);
    let origin = from_row * i32(width) + shift;
    let phase = u32(origin) % (4u * EACH);
    let start_quad = u32((origin - i32(phase)) / i32(4u * EACH));
    var before = x4[min(start_quad + first, last)];
    for (var i = first; i < min(first + VECTORS, quads); i++) {
        let after = x4[min(start_quad + i + 1u, last)];
        var words = pick(before, after, phase / EACH);
        if (EACH == 2u) {
            let next = pick(before, after, phase / 2u + 1u);
            let odd = (words >> vec4<u32>(16u)) | (next << vec4<u32>(16u));
            words = select(words, odd, phase % 2u == 1u);
        }
        let bits = kept(4u * EACH * i + u32(shift), width);
        y4[row * quads + i] = select(vec4<u32>(), words & bits, is_row);
        before = after;
    }
}
