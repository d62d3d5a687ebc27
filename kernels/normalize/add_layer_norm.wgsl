// Residual addition fused with layer normalisation (arXiv 1607.06450):
// h = x + res + bias; y = (h - mean) / sqrt(var + eps) * g + b over each row of h.
// x and res[rows, d], bias, g and b[d] -> h and y[rows, d]. The statistics are those of h before it
// is rounded to storage.
//
// The row's first element is subtracted before anything is summed, and the variance is centred in
// a second pass, as in layer_norm. Where d % 4 = 0 rows are read as vec4.

struct Params { rows: u32, d: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> res: array<T>;
@group(0) @binding(2) var<storage, read> res4: array<T4>;
@group(0) @binding(2) var<storage, read> res8: array<T8>;
@group(0) @binding(3) var<storage, read> bias: array<T>;
@group(0) @binding(3) var<storage, read> bias4: array<T4>;
@group(0) @binding(4) var<storage, read> g: array<T>;
@group(0) @binding(4) var<storage, read> g4: array<T4>;
@group(0) @binding(5) var<storage, read> b: array<T>;
@group(0) @binding(5) var<storage, read> b4: array<T4>;
@group(0) @binding(6) var<storage, read_write> h: array<T>;
@group(0) @binding(6) var<storage, read_write> h4: array<T4>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
@group(0) @binding(7) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
override REJOIN: u32 = 0u; // whether storage rounds h, so that it must be added up again

fn joined(row: u32, i: u32) -> f32 {
    let at = row * params.d + i;
    return f32(x[at]) + f32(res[at]) + f32(bias[i]);
}

fn joined4(row: u32, q: u32) -> vec4<f32> {
    let at = row * (params.d / 4u) + q;
    return vec4<f32>(x4[at]) + vec4<f32>(res4[at]) + vec4<f32>(bias4[q]);
}

// Sum over every step-th element of a row, shifted; stores h on the way.
fn total_of(row: u32, first: u32, step: u32, shift: f32) -> f32 {
    var total = 0.0;
    for (var i = first; i < params.d; i += step) {
        let v = joined(row, i);
        h[row * params.d + i] = to_storage(v);
        total += v - shift;
    }
    return total;
}

fn total_of4(row: u32, first: u32, step: u32, shift: f32) -> f32 {
    let quads = params.d / 4u;
    var sums = vec4<f32>();
    for (var q = first; q < quads; q += step) {
        let v = joined4(row, q);
        h4[row * quads + q] = to_storage4(v);
        sums += v - shift;
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// Sum of squares about the mean.
fn squares_of(row: u32, first: u32, step: u32, shift: f32, mean: f32) -> f32 {
    var squares = 0.0;
    for (var i = first; i < params.d; i += step) {
        let centred = joined(row, i) - shift - mean;
        squares += centred * centred;
    }
    return squares;
}

fn squares_of4(row: u32, first: u32, step: u32, shift: f32, mean: f32) -> f32 {
    var sums = vec4<f32>();
    for (var q = first; q < params.d / 4u; q += step) {
        let centred = joined4(row, q) - shift - mean;
        sums += centred * centred;
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

fn rstd_of(squares: f32) -> f32 {
    return inverseSqrt(squares / f32(params.d) + params.eps);
}

fn write(row: u32, first: u32, step: u32, shift: f32, mean: f32, rstd: f32) {
    for (var i = first; i < params.d; i += step) {
        let scaled = (joined(row, i) - shift - mean) * rstd;
        y[row * params.d + i] = to_storage(scaled * f32(g[i]) + f32(b[i]));
    }
}

fn write4(row: u32, first: u32, step: u32, shift: f32, mean: f32, rstd: f32) {
    let quads = params.d / 4u;
    for (var q = first; q < quads; q += step) {
        let scaled = (joined4(row, q) - shift - mean) * rstd;
        y4[row * quads + q] = to_storage4(scaled * vec4<f32>(g4[q]) + vec4<f32>(b4[q]));
    }
}

// One invocation a row: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let shift = joined(row, 0u);
    let mean = total_of(row, 0u, 1u, shift) / f32(params.d);
    write(row, 0u, 1u, shift, mean, rstd_of(squares_of(row, 0u, 1u, shift, mean)));
}

// The same by vectors: d % 4 = 0.
@compute @workgroup_size(WG)
fn thread4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let shift = joined4(row, 0u).x;
    let mean = total_of4(row, 0u, 1u, shift) / f32(params.d);
    write4(row, 0u, 1u, shift, mean, rstd_of(squares_of4(row, 0u, 1u, shift, mean)));
}

fn sum4(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }

// Mean and sum of squared differences from it, of `count` elements (Chan, Golub and LeVeque 1979).
struct Moments { count: f32, mean: f32, squares: f32 }

fn merge8(before: Moments, low: vec4<f32>, high: vec4<f32>) -> Moments {
    let mean = sum4(low + high) / 8.0;
    let count = before.count + 8.0;
    let share = 8.0 / count;
    let delta = mean - before.mean;
    let squares = sum4((low - mean) * (low - mean) + (high - mean) * (high - mean));
    let apart = delta * delta * (before.count * share);
    return Moments(count, before.mean + delta * share, before.squares + squares + apart);
}

fn joined8(at: u32, low: vec4<f32>, high: vec4<f32>) -> mat2x4<f32> {
    let v = from_storage8(x8[at]) + from_storage8(res8[at]);
    return mat2x4<f32>(v[0] + low, v[1] + high);
}

// Eight elements of a row into h and into its moments.
fn take(
    before: Moments, at: u32, is_live: bool, shift: f32, low: vec4<f32>, high: vec4<f32>,
) -> Moments {
    let v = joined8(at, low, high);
    if (is_live) {
        h4[2u * at] = to_storage4(v[0]);
        h4[2u * at + 1u] = to_storage4(v[1]);
    }
    return merge8(before, v[0] - shift, v[1] - shift);
}

// What is subtracted from a row, and what its elements are multiplied by then.
struct Scale { shift: f32, mean: f32, rstd: f32 }

fn put(
    at: u32, is_live: bool, s: Scale, bias: mat2x4<f32>, gain: mat2x4<f32>, b: mat2x4<f32>,
) {
    var v: mat2x4<f32>;
    if (REJOIN == 1u) { v = joined8(at, bias[0], bias[1]); }
    else { v = mat2x4<f32>(vec4<f32>(h4[2u * at]), vec4<f32>(h4[2u * at + 1u])); }
    if (is_live) {
        y4[2u * at] = to_storage4((v[0] - s.shift - s.mean) * s.rstd * gain[0] + b[0]);
        y4[2u * at + 1u] = to_storage4((v[1] - s.shift - s.mean) * s.rstd * gain[1] + b[1]);
    }
}

// Eight elements of a vector of the row that the subgroup holds.
fn pair0(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u));
}
fn pair1(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}
fn pair2(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u));
}
fn pair3(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

// Subgroups of eight, a row an invocation, which loads one of eight vectors of bias, gain and b and
// gets the others by broadcast: a CPU driver loads for one invocation at a time. d % 32 = 0.
@compute @workgroup_size(8)
fn broadcast(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let own = (wid.x + wid.y * groups.x) * 8u + lane;
    let is_live = own < params.rows;
    let eighths = params.d / 8u;
    let base = min(own, params.rows - 1u) * eighths;
    let shift = joined8(base, vec4<f32>(bias4[0]), vec4<f32>())[0].x;
    var m = Moments(0.0, 0.0, 0.0);
    for (var i = 0u; i < eighths; i += 4u) {
        let bias = vec4<f32>(bias4[2u * i + lane]);
        let p0 = pair0(bias);
        let p1 = pair1(bias);
        let p2 = pair2(bias);
        let p3 = pair3(bias);
        m = take(m, base + i, is_live, shift, p0[0], p0[1]);
        m = take(m, base + i + 1u, is_live, shift, p1[0], p1[1]);
        m = take(m, base + i + 2u, is_live, shift, p2[0], p2[1]);
        m = take(m, base + i + 3u, is_live, shift, p3[0], p3[1]);
    }
    let s = Scale(shift, m.mean, inverseSqrt(m.squares / m.count + params.eps));
    for (var i = 0u; i < eighths; i += 4u) {
        let bias = vec4<f32>(bias4[2u * i + lane]);
        let gain = vec4<f32>(g4[2u * i + lane]);
        let b = vec4<f32>(b4[2u * i + lane]);
        put(base + i, is_live, s, pair0(bias), pair0(gain), pair0(b));
        put(base + i + 1u, is_live, s, pair1(bias), pair1(gain), pair1(b));
        put(base + i + 2u, is_live, s, pair2(bias), pair2(gain), pair2(b));
        put(base + i + 3u, is_live, s, pair3(bias), pair3(gain), pair3(b));
    }
}

var<workgroup> partial: array<f32, WG>;

// Sum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    let sum = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return sum;
}

// One workgroup a row, coalesced loads, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let shift = joined(row, 0u);
    let mean = reduce(lane, total_of(row, lane, WG, shift)) / f32(params.d);
    let squares = reduce(lane, squares_of(row, lane, WG, shift, mean));
    write(row, lane, WG, shift, mean, rstd_of(squares));
}

// The same by vectors: d % 4 = 0.
@compute @workgroup_size(WG)
fn group4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let shift = joined4(row, 0u).x;
    let mean = reduce(lane, total_of4(row, lane, WG, shift)) / f32(params.d);
    let squares = reduce(lane, squares_of4(row, lane, WG, shift, mean));
    write4(row, lane, WG, shift, mean, rstd_of(squares));
}
