// The noisy gradient of DP-SGD (arXiv 1607.00133): samples clipped, added, noise added, divided by
// the batch size that Poisson sampling expects.
// g[batch, p], valid[batch] -> y[p] = (sum of g * min(1, LIMIT / norm) + scale * z) / expected.
// A padded sample (valid 0) is never read. Clipping is that of clip_per_sample, z that of
// gaussian_noise; neither is stored. Three dispatches: squares, factors, sum.

struct Params {
    batch: u32, p: u32, key0: u32, key1: u32, tensor: u32, step: u32, scale: f32, expected: f32,
    // Samples in the slices of the batch before and after this one, which has a window into g.
    before: u32, after: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> g: array<T>;
@group(0) @binding(1) var<storage, read> g8: array<T8>;
@group(0) @binding(2) var<storage, read> valid: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;
@group(0) @binding(5) var<storage, read_write> factor: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums4: array<vec4<f32>>;

override WG: u32 = 64u;
// Elements of one invocation in the sums.
override EACH: u32 = 16u;
override LIMIT: f32 = 1.0;
// Partial sums of one sample.
override PARTS: u32 = 1u;

const BLOCK: u32 = 32u;
// The factor of a padded sample; all others are above it.
const PADDED: f32 = -1.0;

// Every WG-th element of a sample from `first` on.
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
    if (sample >= params.batch) { return; }
    if (valid[params.before + sample] == 0u) {
        factor[sample] = PADDED;
        return;
    }
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

// High word of the product.
fn mulhi(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let left = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let right = (a & 0xffffu) * (b >> 16u) + (left & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u);
}

fn philox(start: vec4<u32>) -> vec4<u32> {
    var c = start;
    var key = vec2<u32>(params.key0, params.key1);
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(
            mulhi(0xcd9e8d57u, c.z) ^ c.y ^ key.x, 0xcd9e8d57u * c.z,
            mulhi(0xd2511f53u, c.x) ^ c.w ^ key.y, 0xd2511f53u * c.x);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// An odd multiple of 2^-24 in (0, 1), in units of 2^-24.
fn odd(word: u32) -> u32 {
    return 2u * (word >> 9u) + 1u;
}

// sqrt(-2 log u).
fn radius(word: u32) -> f32 {
    let u = f32(odd(word)) * 5.9604644775390625e-8;
    let t = 1.0 - u;
    var minus_log = t * (1.0 + t * (0.5 + t * (1.0 / 3.0 + t * (0.25 + t * (0.2
        + t * (1.0 / 6.0 + t * (1.0 / 7.0)))))));
    if (t >= 0.0625) { minus_log = -log(u); }
    return sqrt(2.0 * minus_log);
}

// Cosine and sine of a fraction of a turn.
fn turn(word: u32) -> vec2<f32> {
    let n = odd(word);
    let quarter = (n + 0x200000u) >> 22u;
    let x = f32(i32(n) - i32(quarter << 22u)) * (6.283185307179586 / 16777216.0);
    let q = x * x;
    let s = x * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0
        + q * (1.0 / 362880.0)))));
    let c = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0
        + q * (-1.0 / 3628800.0)))));
    switch quarter & 3u {
        case 0u: { return vec2<f32>(c, s); }
        case 1u: { return vec2<f32>(-s, c); }
        case 2u: { return vec2<f32>(-c, -s); }
        default: { return vec2<f32>(s, -c); }
    }
}

fn noise(column: u32) -> f32 {
    let w = philox(vec4<u32>(column / 4u, params.tensor, params.step, 0u));
    let pair = select(w.xy, w.zw, (column & 2u) != 0u);
    let z = radius(pair.x) * turn(pair.y);
    return select(z.x, z.y, (column & 1u) != 0u) * params.scale;
}

// The same for four neighbouring columns, which share their random words.
fn noise4(quad: u32) -> vec4<f32> {
    let w = philox(vec4<u32>(quad, params.tensor, params.step, 0u));
    return vec4<f32>(radius(w.x) * turn(w.y), radius(w.z) * turn(w.w)) * params.scale;
}

// Every `stride`-th sample of a column from `first` on.
fn clipped_sum(column: u32, first: u32, stride: u32) -> f32 {
    var sum = 0.0;
    for (var sample = first; sample < params.batch; sample += stride) {
        let scale = factor[sample];
        if (scale != PADDED) { sum += f32(g[sample * params.p + column]) * scale; }
    }
    return sum;
}

// One invocation a column: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn add_thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = (wid.x + wid.y * groups.x) * WG + lane;
    if (column >= params.p) { return; }
    y[column] = to_storage((clipped_sum(column, 0u, 1u) + noise(column)) / params.expected);
}

// The same for one slice of the batch; the last one finishes.
@compute @workgroup_size(WG)
fn add_slice(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = (wid.x + wid.y * groups.x) * WG + lane;
    if (column >= params.p) { return; }
    var sum = clipped_sum(column, 0u, 1u);
    if (params.before > 0u) { sum += sums[column]; }
    if (params.after > 0u) {
        sums[column] = sum;
    } else {
        y[column] = to_storage((sum + noise(column)) / params.expected);
    }
}

// One workgroup 32 columns, an eighth of the samples for each invocation: WG is 256.
@compute @workgroup_size(WG)
fn add_group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = (wid.x + wid.y * groups.x) * 32u + lane % 32u;
    let inside = min(column, params.p - 1u);
    partial[lane] = clipped_sum(inside, lane / 32u, 8u);
    for (var half = 4u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half * 32u) { partial[lane] += partial[lane + half * 32u]; }
    }
    if (lane < 32u && column < params.p) {
        y[column] = to_storage((partial[lane] + noise(column)) / params.expected);
    }
}

// What follows takes eight columns at a time: p % 8 = 0. An invocation has SPAN such eights, WG
// apart, so that a sample's factor is loaded once for all of them.
const SPAN: u32 = 4u;

// Eights from the end on repeat the last one and are not stored.
fn add_eight(sum: ptr<function, mat2x4<f32>>, base: u32, at: u32, scale: f32) {
    *sum += from_storage8(g8[base + min(at, params.p / 8u - 1u)]) * scale;
}

fn clipped_sums8(first: u32) -> array<mat2x4<f32>, SPAN> {
    var a: mat2x4<f32>;
    var b: mat2x4<f32>;
    var c: mat2x4<f32>;
    var d: mat2x4<f32>;
    for (var sample = 0u; sample < params.batch; sample++) {
        let scale = factor[sample];
        if (scale != PADDED) {
            let base = sample * (params.p / 8u);
            add_eight(&a, base, first, scale);
            add_eight(&b, base, first + WG, scale);
            add_eight(&c, base, first + 2u * WG, scale);
            add_eight(&d, base, first + 3u * WG, scale);
        }
    }
    return array<mat2x4<f32>, SPAN>(a, b, c, d);
}

fn finish8(at: u32, sum: mat2x4<f32>) {
    y4[2u * at] = to_storage4((sum[0] + noise4(2u * at)) / params.expected);
    y4[2u * at + 1u] = to_storage4((sum[1] + noise4(2u * at + 1u)) / params.expected);
}

@compute @workgroup_size(WG)
fn add_thread8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (wid.x + wid.y * groups.x) * WG * SPAN + lane;
    var own = clipped_sums8(first);
    for (var i = 0u; i < SPAN; i++) {
        let at = first + i * WG;
        if (at < params.p / 8u) { finish8(at, own[i]); }
    }
}

// The same for one slice of the batch; the last one finishes.
@compute @workgroup_size(WG)
fn add_slice8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (wid.x + wid.y * groups.x) * WG * SPAN + lane;
    var own = clipped_sums8(first);
    for (var i = 0u; i < SPAN; i++) {
        let at = first + i * WG;
        if (at >= params.p / 8u) { break; }
        if (params.before > 0u) { own[i] += mat2x4<f32>(sums4[2u * at], sums4[2u * at + 1u]); }
        if (params.after > 0u) {
            sums4[2u * at] = own[i][0];
            sums4[2u * at + 1u] = own[i][1];
        } else {
            finish8(at, own[i]);
        }
    }
}
