// Mean or maximum over windows of time, valid steps only.
// x[batch, steps, d], len[batch] -> y[batch, targets, d].
//
// Window j starts at j * stride and is `width` long, or, adaptive as in torch's AdaptiveAvgPool1d,
// runs from floor(j * steps / targets) to ceil((j + 1) * steps / targets). Steps from len on are
// padding: never read; the mean divides by the valid steps, a window without any gives zeros.

struct Params { batch: u32, steps: u32, targets: u32, d: u32, width: u32, stride: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
override ADAPTIVE: u32 = 0u;
override MAXIMUM: u32 = 0u;

// Below every finite input of either storage type.
const LOWEST: f32 = -3.0e38;

struct Window { first: u32, count: u32 }

// The valid steps of the window of one output row, numbered over all samples.
fn window(row: u32) -> Window {
    let b = row / params.targets;
    let j = row % params.targets;
    var first = j * params.stride;
    var end = first + params.width;
    if (ADAPTIVE == 1u) {
        first = j * params.steps / params.targets;
        end = ((j + 1u) * params.steps + params.targets - 1u) / params.targets;
    }
    end = min(end, min(len[b], params.steps));
    return Window(b * params.steps + first, end - min(first, end));
}

fn start() -> f32 {
    return select(0.0, LOWEST, MAXIMUM == 1u);
}

fn join(a: vec4<f32>, b: vec4<f32>) -> vec4<f32> {
    if (MAXIMUM == 1u) { return max(a, b); }
    return a + b;
}

fn finish(total: vec4<f32>, count: u32) -> vec4<f32> {
    if (count == 0u) { return vec4<f32>(); }
    if (MAXIMUM == 1u) { return total; }
    return total / f32(count);
}

// One invocation an element.
@compute @workgroup_size(WG)
fn scalar(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.targets * params.d) { return; }
    let span = window(index / params.d);
    var total = start();
    var at = span.first * params.d + index % params.d;
    for (var i = 0u; i < span.count; i++) {
        total = join(vec4<f32>(total), vec4<f32>(f32(x[at]))).x;
        at += params.d;
    }
    y[index] = to_storage(finish(vec4<f32>(total), span.count).x);
}

// One invocation four elements of one step: d % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let d = params.d / 4u;
    if (index >= params.batch * params.targets * d) { return; }
    let span = window(index / d);
    var total = vec4<f32>(start());
    var at = span.first * d + index % d;
    for (var i = 0u; i < span.count; i++) {
        total = join(total, vec4<f32>(x4[at]));
        at += d;
    }
    y4[index] = to_storage4(finish(total, span.count));
}

// Columns 4k to 4k + 3 of rows that begin at place n of a vector, from vectors k and k + 1.
fn pick(a: vec4<f32>, b: vec4<f32>, n: u32) -> vec4<f32> {
    let v = select(a, vec4<f32>(a.yzw, b.x), n == 1u);
    return select(select(v, vec4<f32>(a.zw, b.xy), n == 2u), vec4<f32>(a.w, b.xyz), n == 3u);
}

// Columns 4k to 4k + 3 of the vectors that this invocation and the next have of rows that begin at
// element `at`.
fn moved(v: vec4<f32>, lane: u32, at: u32) -> vec4<f32> {
    return pick(v, subgroupShuffle(v, (lane + 1u) % 8u), at % 4u);
}

// Subgroups of eight, 28 columns of one output row. Every fourth row begins at the same place of a
// vector: their vectors are joined as they are, and only what comes of a window is moved to its
// columns, with the help of the next invocation, so that the last one has no columns of its own.
@compute @workgroup_size(8)
fn aligned(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let row = wid.y;
    let d = params.d;
    let span = window(row);
    let quad = 7u * wid.x + lane;
    let last = (params.batch * params.steps * d - 1u) / 4u;
    let begin = span.first * d;
    var zero = vec4<f32>(start());
    var one = zero;
    var two = zero;
    var three = zero;
    let count = select(0u, span.count, 4u * quad < d + 4u);
    var at = begin;
    for (var i = 3u; i < count; i += 4u) {
        zero = join(zero, vec4<f32>(x4[min(at / 4u + quad, last)]));
        one = join(one, vec4<f32>(x4[min((at + d) / 4u + quad, last)]));
        two = join(two, vec4<f32>(x4[min((at + 2u * d) / 4u + quad, last)]));
        three = join(three, vec4<f32>(x4[min((at + 3u * d) / 4u + quad, last)]));
        at += 4u * d;
    }
    let rest = count % 4u;
    if (rest > 0u) { zero = join(zero, vec4<f32>(x4[min(at / 4u + quad, last)])); }
    if (rest > 1u) { one = join(one, vec4<f32>(x4[min((at + d) / 4u + quad, last)])); }
    if (rest > 2u) { two = join(two, vec4<f32>(x4[min((at + 2u * d) / 4u + quad, last)])); }
    let even = join(moved(zero, lane, begin), moved(two, lane, begin + 2u * d));
    let odd = join(moved(one, lane, begin + d), moved(three, lane, begin + 3u * d));
    let out = finish(join(even, odd), span.count);
    let column = select(4u * quad, d, lane == 7u);
    if (column < d) { y[row * d + column] = to_storage(out.x); }
    if (column + 1u < d) { y[row * d + column + 1u] = to_storage(out.y); }
    if (column + 2u < d) { y[row * d + column + 2u] = to_storage(out.z); }
    if (column + 3u < d) { y[row * d + column + 3u] = to_storage(out.w); }
}

// Neighbouring features read together by one workgroup.
const LANES: u32 = 16u;

var<workgroup> partial: array<f32, WG>;

// One workgroup 16 features of a row, its invocations in slices that share the window, then a tree:
// for windows so long that an invocation for each element leaves the device idle.
@compute @workgroup_size(WG)
fn group(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * LANES + lane % LANES;
    let live = column < params.d;
    for (var row = wid.y; row < params.batch * params.targets; row += 65535u) {
        let span = window(row);
        var total = start();
        for (var i = lane / LANES; i < select(0u, span.count, live); i += WG / LANES) {
            let value = f32(x[(span.first + i) * params.d + column]);
            total = join(vec4<f32>(total), vec4<f32>(value)).x;
        }
        partial[lane] = total;
        for (var half = WG / 2u; half >= LANES; half /= 2u) {
            workgroupBarrier();
            if (lane < half) {
                let other = vec4<f32>(partial[lane + half]);
                partial[lane] = join(vec4<f32>(partial[lane]), other).x;
            }
        }
        if (live && lane < LANES) {
            let out = finish(vec4<f32>(partial[lane]), span.count).x;
            y[row * params.d + column] = to_storage(out);
        }
        workgroupBarrier();
    }
}
