// Clipping of each sample's gradient, the first step of DP-SGD (arXiv 1607.00133).
// g[batch, p], valid[batch] -> y[batch, p] = g * min(1, LIMIT / norm of the sample).
// A padded sample (valid 0) is never read and gives zeros, and so does a zero gradient.
//
// LIMIT is C * (1 - delta), delta covering every rounding here, so that the norm of what is stored
// never exceeds C: with plain C half of all rows do. Three dispatches: sums of squares of parts of
// a sample, one factor for each sample, the product.

// A slice of the batch has windows into g and y, and `before` samples come before it.
struct Params { batch: u32, p: u32, before: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<T>;
@group(0) @binding(1) var<storage, read> g4: array<T4>;
@group(0) @binding(1) var<storage, read> g8: array<T8>;
@group(0) @binding(2) var<storage, read> valid: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;
@group(0) @binding(5) var<storage, read_write> factor: array<f32>;

override WG: u32 = 64u;
// Elements of one invocation in the sums.
override EACH: u32 = 16u;
override LIMIT: f32 = 1.0;
// Partial sums of one sample.
override PARTS: u32 = 1u;

const BLOCK: u32 = 32u;

// Every WG-th element from `first` on.
fn sum_of_squares(sample: u32, first: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < EACH; i++) {
        let at = first + i * WG;
        if (at < params.p) {
            let value = f32(g[sample * params.p + at]);
            sum += value * value;
        }
    }
    return sum;
}

// The same where p % 8 = 0, eight elements at a time: every WG-th eight of a sample.
fn sum_of_squares8(sample: u32, first: u32) -> f32 {
    let eighths = params.p / 8u;
    var sum = vec4<f32>();
    for (var i = 0u; i < EACH / 8u; i++) {
        let at = first + i * WG;
        if (at < eighths) {
            let v = from_storage8(g8[sample * eighths + at]);
            sum += v[0] * v[0] + v[1] * v[1];
        }
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// One partial sum an invocation: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn norms_thread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (valid[params.before + wid.y] == 0u) { return; }
    squares[wid.y * PARTS + wid.x * WG + lane] = sum_of_squares(wid.y, wid.x * WG * EACH + lane);
}

@compute @workgroup_size(WG)
fn norms_eight(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (valid[params.before + wid.y] == 0u) { return; }
    let first = wid.x * WG * (EACH / 8u) + lane;
    squares[wid.y * PARTS + wid.x * WG + lane] = sum_of_squares8(wid.y, first);
}

var<workgroup> partial: array<f32, WG>;

// One partial sum a workgroup, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn norms_group(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (valid[params.before + wid.y] == 0u) { return; }
    partial[lane] = sum_of_squares(wid.y, wid.x * WG * EACH + lane);
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    if (lane == 0u) { squares[wid.y * PARTS + wid.x] = partial[0]; }
}

// One invocation a sample: blocks of partial sums, which keeps chains short.
@compute @workgroup_size(WG)
fn factors(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let sample = wid.x * WG + lane;
    if (sample >= params.batch || valid[params.before + sample] == 0u) { return; }
    var total = 0.0;
    for (var first = 0u; first < PARTS; first += BLOCK) {
        var sum = 0.0;
        for (var i = first; i < min(first + BLOCK, PARTS); i++) {
            sum += squares[sample * PARTS + i];
        }
        total += sum;
    }
    var scale = 1.0;
    if (total > LIMIT * LIMIT) { scale = LIMIT * inverseSqrt(total); }
    factor[sample] = scale;
}

// One invocation an element.
@compute @workgroup_size(WG)
fn scale_each(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    if (column >= params.p) { return; }
    let at = wid.y * params.p + column;
    var out = 0.0;
    if (valid[params.before + wid.y] != 0u) { out = f32(g[at]) * factor[wid.y]; }
    y[at] = to_storage(out);
}

// One invocation four neighbouring elements: p % 4 = 0.
@compute @workgroup_size(WG)
fn scale_four(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = wid.x * WG + lane;
    if (column >= params.p / 4u) { return; }
    let at = wid.y * (params.p / 4u) + column;
    var out = vec4<f32>();
    if (valid[params.before + wid.y] != 0u) { out = vec4<f32>(g4[at]) * factor[wid.y]; }
    y4[at] = to_storage4(out);
}

// EACH elements an invocation, eight at a time: p % 8 = 0. One look at the sample's factor for all.
@compute @workgroup_size(WG)
fn scale_eight(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let eighths = params.p / 8u;
    let first = wid.x * WG * (EACH / 8u) + lane;
    let is_there = valid[params.before + wid.y] != 0u;
    var scale = 0.0;
    if (is_there) { scale = factor[wid.y]; }
    for (var i = 0u; i < EACH / 8u; i++) {
        let at = first + i * WG;
        if (at >= eighths) { break; }
        var out = mat2x4<f32>();
        if (is_there) { out = from_storage8(g8[wid.y * eighths + at]) * scale; }
        y4[2u * (wid.y * eighths + at)] = to_storage4(out[0]);
        y4[2u * (wid.y * eighths + at) + 1u] = to_storage4(out[1]);
    }
}
