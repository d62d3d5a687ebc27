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
@group(0) @binding(2) var<storage, read> valid: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;
@group(0) @binding(5) var<storage, read_write> factor: array<f32>;
@group(0) @binding(6) var<storage, read_write> sums: array<f32>;

override WG: u32 = 64u;
// Elements of one invocation in the sums.
override EACH: u32 = 16u;
override LIMIT: f32 = 1.0;
// Partial sums of one sample.
override PARTS: u32 = 1u;

const BLOCK: u32 = 32u;

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

// One partial sum an invocation: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn norms_thread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    if (valid[params.before + wid.y] == 0u) { return; }
    squares[wid.y * PARTS + wid.x * WG + lane] = sum_of_squares(wid.y, wid.x * WG * EACH + lane);
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

// Every `stride`-th sample of a column from `first` on.
fn clipped_sum(column: u32, first: u32, stride: u32) -> f32 {
    var sum = 0.0;
    for (var sample = first; sample < params.batch; sample += stride) {
        if (valid[params.before + sample] != 0u) {
            sum += f32(g[sample * params.p + column]) * factor[sample];
        }
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
