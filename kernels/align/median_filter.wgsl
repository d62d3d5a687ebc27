// Running median over rows, odd width, reflected at the ends without repeating the edge.
// x[rows, t] -> y[rows, t]. Rows no longer than width / 2 are copied. As the `median_filter` of
// openai/whisper (timing.py), which smooths attention along time before words are aligned.
//
// The median is selected, never computed: half the window and two more values are held, the
// smallest and the largest dropped, the next one added, until one is left. The comparisons do not
// depend on the data; for widths 3, 5 and 7 they are written out.

struct Params { rows: u32, t: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
override WIDTH: u32 = 7u;
const MOST: u32 = 16u; // WIDTH / 2 + 2 at most

// Element i of a row, counted from -(width / 2), reflected at both ends. Elements further out are
// taken for outputs beyond the row, which are not stored.
fn reflected(base: u32, i: i32) -> f32 {
    let last = i32(params.t) - 1;
    return f32(x[base + u32(max(last - abs(last - abs(i)), 0))]);
}

// Value `tap` of the window of output i.
fn value1(base: u32, i: u32, tap: u32) -> f32 {
    return reflected(base, i32(i + tap) - i32(WIDTH / 2u));
}

// The same for four neighbouring outputs.
fn value4(base: u32, i: u32, tap: u32) -> vec4<f32> {
    return vec4<f32>(value1(base, i, tap), value1(base, i, tap + 1u), value1(base, i, tap + 2u),
        value1(base, i, tap + 3u));
}

fn median_of3(a: vec4<f32>, b: vec4<f32>, c: vec4<f32>) -> vec4<f32> {
    return max(min(a, b), min(max(a, b), c));
}

fn median_of5(
    a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32>, e: vec4<f32>,
) -> vec4<f32> {
    let low = max(min(a, b), min(c, d));
    let high = min(max(a, b), max(c, d));
    return median_of3(low, high, e);
}

// Of the first five the smallest and the largest are dropped.
fn median_of7(p: vec4<f32>, q: vec4<f32>, r: vec2<f32>) -> vec4<f32> {
    let a = p;
    let b = vec4<f32>(p.yzw, q.x);
    let c = vec4<f32>(p.zw, q.xy);
    let d = vec4<f32>(p.w, q.xyz);
    let low = max(min(a, b), min(c, d));
    let high = min(max(a, b), max(c, d));
    let least = min(min(a, b), min(c, d));
    let most = max(max(a, b), max(c, d));
    let rest = min(most, max(least, q));
    return median_of5(low, high, rest, vec4<f32>(q.yzw, r.x), vec4<f32>(q.zw, r));
}

// Four neighbouring outputs.
fn median4(base: u32, i: u32) -> vec4<f32> {
    if (WIDTH == 3u || WIDTH == 5u || WIDTH == 7u) {
        let p = value4(base, i, 0u);
        let q = value4(base, i, 4u);
        let b = vec4<f32>(p.yzw, q.x);
        let c = vec4<f32>(p.zw, q.xy);
        if (WIDTH == 3u) { return median_of3(p, b, c); }
        if (WIDTH == 5u) { return median_of5(p, b, c, vec4<f32>(p.w, q.xyz), q); }
        return median_of7(p, q, vec2<f32>(value1(base, i, 8u), value1(base, i, 9u)));
    }
    var held: array<vec4<f32>, MOST>;
    let most = WIDTH / 2u + 2u;
    for (var k = 0u; k < most; k++) { held[k] = value4(base, i, min(k, WIDTH - 1u)); }
    for (var count = most; count > 2u; count--) {
        // The smallest to the front, the largest to the back.
        for (var k = 1u; k < count; k++) {
            let small = min(held[0], held[k]);
            held[k] = max(held[0], held[k]);
            held[0] = small;
        }
        for (var k = 1u; k + 1u < count; k++) {
            let large = max(held[count - 1u], held[k]);
            held[k] = min(held[count - 1u], held[k]);
            held[count - 1u] = large;
        }
        if (count > 3u) { held[0] = value4(base, i, WIDTH + 3u - count); }
    }
    return held[1];
}

// One invocation an element: what the other three would take falls away when it is compiled.
@compute @workgroup_size(WG)
fn single(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.rows * params.t) { return; }
    let i = index % params.t;
    if (WIDTH == 1u || params.t <= WIDTH / 2u) {
        y[index] = to_storage(f32(x[index]));
        return;
    }
    y[index] = to_storage(median4(index - i, i).x);
}

// One invocation four elements of one row.
@compute @workgroup_size(WG)
fn quad(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let quads = (params.t + 3u) / 4u;
    if (index >= params.rows * quads) { return; }
    let i = index % quads * 4u;
    let base = index / quads * params.t;
    var out: vec4<f32>;
    if (WIDTH == 1u || params.t <= WIDTH / 2u) {
        for (var k = 0u; k < min(4u, params.t - i); k++) { out[k] = f32(x[base + i + k]); }
    } else {
        out = median4(base, i);
    }
    for (var k = 0u; k < min(4u, params.t - i); k++) { y[base + i + k] = to_storage(out[k]); }
}

// RUN times four neighbouring outputs of one row for each invocation, where rows are a multiple of
// four long: three vectors have all values of a window up to 7 wide, and two of them are those of
// the vector before. Beyond either end of a row is its reflection.
const RUN: u32 = 4u;

fn median_between(before: vec4<f32>, v: vec4<f32>, after: vec4<f32>) -> vec4<f32> {
    if (WIDTH == 3u) {
        return median_of3(vec4<f32>(before.w, v.xyz), v, vec4<f32>(v.yzw, after.x));
    }
    let c = vec4<f32>(before.w, v.xyz);
    let e = vec4<f32>(v.yzw, after.x);
    if (WIDTH == 5u) {
        return median_of5(
            vec4<f32>(before.zw, v.xy), c, v, e, vec4<f32>(v.zw, after.xy));
    }
    return median_of7(vec4<f32>(before.yzw, v.x), e, after.yz);
}

@compute @workgroup_size(WG)
fn run(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let quads = params.t / 4u;
    let runs = (quads + RUN - 1u) / RUN;
    if (index >= params.rows * runs) { return; }
    let base = index / runs * quads;
    let first = index % runs * RUN;
    var v = vec4<f32>(x4[base + first]);
    var before = v.xwzy;
    if (first > 0u) { before = vec4<f32>(x4[base + first - 1u]); }
    for (var i = first; i < min(first + RUN, quads); i++) {
        var after = v.zyxw;
        if (i + 1u < quads) { after = vec4<f32>(x4[base + i + 1u]); }
        y4[base + i] = to_storage4(median_between(before, v, after));
        before = v;
        v = after;
    }
}

// A subgroup of eight goes along a row, a vector for each invocation: what a window has of the
// vectors before and after comes from the neighbours, so that each is loaded once.
@compute @workgroup_size(8)
fn stream(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let quads = params.t / 4u;
    let base = row * quads;
    var v = vec4<f32>(x4[base + min(lane, quads - 1u)]);
    var carried = v;
    for (var first = 0u; first < quads; first += 8u) {
        let i = first + lane;
        let next = vec4<f32>(x4[base + min(i + 8u, quads - 1u)]);
        var before = select(subgroupShuffle(v, (lane + 7u) % 8u), carried, lane == 0u);
        if (i == 0u) { before = v.xwzy; }
        var after = subgroupShuffle(select(v, next, lane == 0u), (lane + 1u) % 8u);
        if (i + 1u == quads) { after = v.zyxw; }
        if (i < quads) { y4[base + i] = to_storage4(median_between(before, v, after)); }
        carried = subgroupShuffle(v, 7u);
        v = next;
    }
}
