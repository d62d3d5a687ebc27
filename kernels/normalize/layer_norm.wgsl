// Layer normalisation (arXiv 1607.06450): y = (x - mean) / sqrt(var + eps) * g + b over each row.
// x[rows, d], g[d], b[d] -> y[rows, d].
//
// The row's first element is subtracted before anything is summed, and the variance is centred in
// a second pass: without the shift a constant row of 1000.1 comes out as large as 1.0 in f32.

struct Params { rows: u32, d: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> g: array<T>;
@group(0) @binding(2) var<storage, read> g4: array<T4>;
@group(0) @binding(2) var<storage, read> g8: array<T8>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(3) var<storage, read> b4: array<T4>;
@group(0) @binding(3) var<storage, read> b8: array<T8>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

fn write(row: u32, i: u32, centred: f32, rstd: f32) {
    let out = centred * rstd * f32(g[i]) + f32(b[i]);
    y[row * params.d + i] = to_storage(out);
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
    let base = row * params.d;
    let n = f32(params.d);
    let shift = f32(x[base]);
    var total = 0.0;
    for (var i = 0u; i < params.d; i++) { total += f32(x[base + i]) - shift; }
    let mean = total / n;
    var squares = 0.0;
    for (var i = 0u; i < params.d; i++) {
        let centred = f32(x[base + i]) - shift - mean;
        squares += centred * centred;
    }
    let rstd = inverseSqrt(squares / n + params.eps);
    for (var i = 0u; i < params.d; i++) {
        write(row, i, f32(x[base + i]) - shift - mean, rstd);
    }
}

fn sum4(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }

// Mean and sum of squared differences from it, of `count` elements (Chan, Golub and LeVeque 1979).
struct Moments { count: f32, mean: f32, squares: f32 }

fn merge8(before: Moments, v: mat2x4<f32>, shift: f32) -> Moments {
    let mean = sum4((v[0] - shift) + (v[1] - shift)) / 8.0;
    let low = v[0] - shift - mean;
    let high = v[1] - shift - mean;
    let count = before.count + 8.0;
    let share = 8.0 / count;
    let delta = mean - before.mean;
    let squares = before.squares + sum4(low * low + high * high);
    let apart = delta * delta * (before.count * share);
    return Moments(count, before.mean + delta * share, squares + apart);
}

// The same where d % 8 = 0, in two passes over the row instead of three: eight elements at a time,
// and their moments merged into those of the row.
@compute @workgroup_size(WG)
fn thread8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let eighths = params.d / 8u;
    let base = row * eighths;
    let shift = from_storage8(x8[base])[0].x;
    var moments = Moments(0.0, 0.0, 0.0);
    for (var i = 0u; i < eighths; i++) {
        moments = merge8(moments, from_storage8(x8[base + i]), shift);
    }
    let rstd = inverseSqrt(moments.squares / moments.count + params.eps);
    let mean = moments.mean;
    for (var i = 0u; i < eighths; i++) {
        let v = from_storage8(x8[base + i]);
        let gain = from_storage8(g8[i]);
        let bias = from_storage8(b8[i]);
        y4[2u * (base + i)] = to_storage4((v[0] - shift - mean) * rstd * gain[0] + bias[0]);
        y4[2u * (base + i) + 1u] = to_storage4((v[1] - shift - mean) * rstd * gain[1] + bias[1]);
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
    let base = row * params.d;
    let n = f32(params.d);
    let shift = f32(x[base]);
    var total = 0.0;
    for (var i = lane; i < params.d; i += WG) { total += f32(x[base + i]) - shift; }
    let mean = reduce(lane, total) / n;
    var squares = 0.0;
    for (var i = lane; i < params.d; i += WG) {
        let centred = f32(x[base + i]) - shift - mean;
        squares += centred * centred;
    }
    let rstd = inverseSqrt(reduce(lane, squares) / n + params.eps);
    for (var i = lane; i < params.d; i += WG) {
        write(row, i, f32(x[base + i]) - shift - mean, rstd);
    }
}

// What follows reads vec4: d % 4 = 0. An invocation keeps the first CACHED of its vectors.
const CACHED: u32 = 8u;
var<private> cache: array<vec4<f32>, CACHED>;

// Shifted vector i of the row, zero beyond it.
fn shifted4(base: u32, i: u32, quads: u32, shift: f32) -> vec4<f32> {
    let v = vec4<f32>(x4[base + min(i, quads - 1u)]) - shift;
    return select(vec4<f32>(), v, i < quads);
}

fn store4(base: u32, i: u32, quads: u32, centred: vec4<f32>, rstd: f32) {
    if (i < quads) {
        y4[base + i] = to_storage4(centred * rstd * vec4<f32>(g4[i]) + vec4<f32>(b4[i]));
    }
}

// Sum over the vectors i, i + lanes, i + 2 lanes… of a row, from memory once.
fn sum_row(base: u32, first: u32, lanes: u32, quads: u32, shift: f32) -> f32 {
    var total = vec4<f32>();
    for (var c = 0u; c < CACHED; c++) {
        cache[c] = shifted4(base, first + c * lanes, quads, shift);
        total += cache[c];
    }
    for (var i = first + CACHED * lanes; i < quads; i += lanes) {
        total += shifted4(base, i, quads, shift);
    }
    return sum4(total);
}

fn sum_squares(
    base: u32, first: u32, lanes: u32, quads: u32, shift: f32, mean: f32,
) -> f32 {
    var squares = vec4<f32>();
    for (var c = 0u; c < CACHED; c++) {
        let centred = select(vec4<f32>(), cache[c] - mean, first + c * lanes < quads);
        squares += centred * centred;
    }
    for (var i = first + CACHED * lanes; i < quads; i += lanes) {
        let centred = shifted4(base, i, quads, shift) - mean;
        squares += centred * centred;
    }
    return sum4(squares);
}

fn store_row(
    base: u32, first: u32, lanes: u32, quads: u32, shift: f32, mean: f32, rstd: f32,
) {
    for (var c = 0u; c < CACHED; c++) {
        store4(base, first + c * lanes, quads, cache[c] - mean, rstd);
    }
    for (var i = first + CACHED * lanes; i < quads; i += lanes) {
        store4(base, i, quads, shifted4(base, i, quads, shift) - mean, rstd);
    }
}

// One subgroup a row: registers, no barrier. The grid suits subgroups of 32; smaller ones come
// round again, so that every invocation reaches every subgroup operation as often.
@compute @workgroup_size(WG)
fn subgroup(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) number: u32,
    @builtin(num_subgroups) rows_each: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let quads = params.d / 4u;
    let n = f32(params.d);
    let stride = groups.x * groups.y * rows_each;
    for (var first = (wid.x + wid.y * groups.x) * rows_each; first < params.rows; first += stride) {
        let row = min(first + number, params.rows - 1u);
        let base = row * quads;
        let shift = f32(x4[base].x);
        let mean = subgroupAdd(sum_row(base, lane, lanes, quads, shift)) / n;
        let squares = subgroupAdd(sum_squares(base, lane, lanes, quads, shift, mean));
        let rstd = inverseSqrt(squares / n + params.eps);
        let past = select(quads, 0u, first + number >= params.rows);
        store_row(base, lane, lanes, past, shift, mean, rstd);
    }
}

// One per subgroup, of at least four invocations.
var<workgroup> shares: array<f32, WG / 4u>;

// Sum over the workgroup: within subgroups, then over them in order.
fn sum_shares(own: f32, number: u32, count: u32) -> f32 {
    let share = subgroupAdd(own);
    workgroupBarrier();
    shares[number] = share;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < count; i++) { sum += shares[i]; }
    return sum;
}

// One workgroup a row.
@compute @workgroup_size(WG)
fn subgroups(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) number: u32,
    @builtin(num_subgroups) count: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let quads = params.d / 4u;
    let base = row * quads;
    let n = f32(params.d);
    let shift = f32(x4[base].x);
    let mean = sum_shares(sum_row(base, lane, WG, quads, shift), number, count) / n;
    let squares = sum_shares(sum_squares(base, lane, WG, quads, shift, mean), number, count);
    let rstd = inverseSqrt(squares / n + params.eps);
    store_row(base, lane, WG, quads, shift, mean, rstd);
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

// What is subtracted from a row, and what its elements are multiplied by then.
struct Scale { shift: f32, mean: f32, rstd: f32 }

fn put8(at: u32, is_live: bool, s: Scale, gain: mat2x4<f32>, bias: mat2x4<f32>) {
    let v = from_storage8(x8[at]);
    if (is_live) {
        y4[2u * at] = to_storage4((v[0] - s.shift - s.mean) * s.rstd * gain[0] + bias[0]);
        y4[2u * at + 1u] = to_storage4((v[1] - s.shift - s.mean) * s.rstd * gain[1] + bias[1]);
    }
}

// Subgroups of eight, a row an invocation, which loads one of eight vectors of gain and bias and
// gets the others by broadcast: d % 32 = 0. Moments as in thread8.
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
    let shift = from_storage8(x8[base])[0].x;
    var m = Moments(0.0, 0.0, 0.0);
    for (var i = 0u; i < eighths; i++) { m = merge8(m, from_storage8(x8[base + i]), shift); }
    let s = Scale(shift, m.mean, inverseSqrt(m.squares / m.count + params.eps));
    for (var i = 0u; i < eighths; i += 4u) {
        let gain = vec4<f32>(g4[2u * i + lane]);
        let bias = vec4<f32>(b4[2u * i + lane]);
        put8(base + i, is_live, s, pair0(gain), pair0(bias));
        put8(base + i + 1u, is_live, s, pair1(gain), pair1(bias));
        put8(base + i + 2u, is_live, s, pair2(gain), pair2(bias));
        put8(base + i + 3u, is_live, s, pair3(gain), pair3(bias));
    }
}
