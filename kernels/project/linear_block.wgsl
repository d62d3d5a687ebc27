// Linear layer for subgroups of eight: y = act(x * w^T + b), as linear.wgsl has it.
// x[m, k], w[n, k], b[n] -> y[m, n]. With k = 0 the result is act(b).
//
// A CPU driver makes every load one invocation at a time and takes as many instructions for eight
// elements of f16 as for four of f32. So rows are shared by broadcast, and where k % 8 = 0 entry
// points that end in 8 read both operands by eights: with f16 half as many loads. Where k % 4 = 0
// they are read as vec4; `_any` assembles the vectors from scalars and never reads past a row.
// GELU: arXiv 1606.08415; its erf is 7.1.26 of Abramowitz and Stegun.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(2) var<storage, read> w8: array<T8>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override ACTIVATION: u32 = 0u; // 0 none, 1 GELU by erf, 2 GELU by tanh, 3 GELU by sigmoid
override STEP: u32 = 8u; // from one column of an invocation to its next

fn erf(v: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
        + 0.254829592) * t;
    let tail = 1.0 - poly * exp(-(v * v));
    return select(tail, -tail, v < 0.0);
}
// Absolute error below 1e-6, where the built-in may be off by 1e-5.
fn tanh_exp(v: f32) -> f32 {
    let magnitude = 1.0 - 2.0 / (exp(2.0 * min(abs(v), 15.0)) + 1.0);
    return select(magnitude, -magnitude, v < 0.0);
}
// exp(-v) would pass the largest f32 at v = -88.7.
fn sigmoid(v: f32) -> f32 { return 1.0 / (1.0 + exp(-max(v, -80.0))); }
fn activate(v: f32) -> f32 {
    if (ACTIVATION == 1u) { return 0.5 * v * (1.0 + erf(v * 0.70710678)); }
    let inner = 0.7978846 * (v + 0.044715 * (v * v * v));
    if (ACTIVATION == 2u) { return 0.5 * v * (1.0 + tanh_exp(inner)); }
    return select(v, v * sigmoid(1.702 * v), ACTIVATION == 3u);
}
fn write(row: u32, col: u32, dot: Sum) {
    if (row >= params.m || col >= params.n) { return; }
    y[row * params.n + col] = to_storage(activate(f32(dot) + f32(b[col])));
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: Sum4, v: Sum4, t: mat4x4<Sum>) -> Sum4 {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}
fn row4(row: u32, q: u32) -> Sum4 {
    return Sum4(x4[min(row, params.m - 1u) * (params.k / 4u) + q]);
}
fn col4(col: u32, q: u32) -> Sum4 {
    return Sum4(w4[min(col, params.n - 1u) * (params.k / 4u) + q]);
}
fn cols4(col: u32, q: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(
        col4(col, q), col4(col + STEP, q), col4(col + 2u * STEP, q), col4(col + 3u * STEP, q));
}

// The same from scalars, zero beyond the row: its end is loaded there, a branch would cost more.
fn row_any(row: u32, q: u32) -> Sum4 {
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = min(row, params.m - 1u) * params.k + min(i, vec4<u32>(params.k - 1u));
    let v = Sum4(vec4<T>(x[at.x], x[at.y], x[at.z], x[at.w]));
    return select(Sum4(), v, i < vec4<u32>(params.k));
}
fn col_any(col: u32, q: u32) -> Sum4 {
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = min(col, params.n - 1u) * params.k + min(i, vec4<u32>(params.k - 1u));
    let v = Sum4(vec4<T>(w[at.x], w[at.y], w[at.z], w[at.w]));
    return select(Sum4(), v, i < vec4<u32>(params.k));
}
// Eight elements along k, of a row or of four columns that begin at `at`.
struct Eights { low: mat4x4<Sum>, high: mat4x4<Sum> }
fn row8(row: u32, q: u32) -> mat2x4<f32> {
    return from_storage8(x8[min(row, params.m - 1u) * (params.k / 8u) + q]);
}
fn columns(col: u32) -> vec4<u32> {
    let four = col + vec4<u32>(0u, STEP, 2u * STEP, 3u * STEP);
    return min(four, vec4<u32>(params.n - 1u)) * (params.k / 8u);
}
fn cols8(at: vec4<u32>, q: u32) -> Eights {
    let a = from_storage8(w8[at.x + q]);
    let b = from_storage8(w8[at.y + q]);
    let c = from_storage8(w8[at.z + q]);
    let d = from_storage8(w8[at.w + q]);
    return Eights(mat4x4<Sum>(Sum4(a[0]), Sum4(b[0]), Sum4(c[0]), Sum4(d[0])),
        mat4x4<Sum>(Sum4(a[1]), Sum4(b[1]), Sum4(c[1]), Sum4(d[1])));
}

// One row by sixteen columns for a subgroup of eight, whose invocations take neighbouring vectors
// along k: columns of their own would meet in few sets of a cache where k is a multiple of 256.
fn write_four(col: u32, lane: u32, part: Sum4) {
    let sum = Sum4(subgroupAdd(vec4<f32>(part)));
    if (lane == 0u) { write_row(0u, 0u, col, sum); }
}
@compute @workgroup_size(8)
fn one_row(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = wid.x * 16u;
    let quads = params.k / 4u;
    var acc: mat4x4<Sum>;
    for (var q = lane; q < quads; q += 8u) {
        let row = row4(0u, q);
        acc[0] += row * cols4(col, q);
        acc[1] += row * cols4(col + 4u, q);
        acc[2] += row * cols4(col + 8u, q);
        acc[3] += row * cols4(col + 12u, q);
    }
    write_four(col, lane, acc[0]);
    write_four(col + 4u, lane, acc[1]);
    write_four(col + 8u, lane, acc[2]);
    write_four(col + 12u, lane, acc[3]);
}

// The same where k % 8 = 0.
fn times8(row: mat2x4<f32>, at: vec4<u32>, q: u32) -> Sum4 {
    let cols = cols8(at, q);
    return Sum4(row[0]) * cols.low + Sum4(row[1]) * cols.high;
}
@compute @workgroup_size(8)
fn one_row8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = wid.x * 16u;
    let at_0 = columns(col);
    let at_4 = columns(col + 4u);
    let at_8 = columns(col + 8u);
    let at_12 = columns(col + 12u);
    var acc: mat4x4<Sum>;
    for (var q = lane; q < params.k / 8u; q += 8u) {
        let row = row8(0u, q);
        acc[0] += times8(row, at_0, q);
        acc[1] += times8(row, at_4, q);
        acc[2] += times8(row, at_8, q);
        acc[3] += times8(row, at_12, q);
    }
    write_four(col, lane, acc[0]);
    write_four(col + 4u, lane, acc[1]);
    write_four(col + 8u, lane, acc[2]);
    write_four(col + 12u, lane, acc[3]);
}

// Sixteen rows by eight columns for each of the eight invocations of a subgroup. A CPU driver makes
// every load one invocation at a time: so i loads the rows i and i + 8, the others get them by
// broadcast. That is ten loads of four elements for 512 products; `registers` makes 16 for 256.
fn add_rows(acc: ptr<function, array<Sum4, 8>>, row: vec4<f32>, t: mat4x4<Sum>) {
    (*acc)[0] = multiply_add((*acc)[0], Sum4(subgroupBroadcast(row, 0u)), t);
    (*acc)[1] = multiply_add((*acc)[1], Sum4(subgroupBroadcast(row, 1u)), t);
    (*acc)[2] = multiply_add((*acc)[2], Sum4(subgroupBroadcast(row, 2u)), t);
    (*acc)[3] = multiply_add((*acc)[3], Sum4(subgroupBroadcast(row, 3u)), t);
    (*acc)[4] = multiply_add((*acc)[4], Sum4(subgroupBroadcast(row, 4u)), t);
    (*acc)[5] = multiply_add((*acc)[5], Sum4(subgroupBroadcast(row, 5u)), t);
    (*acc)[6] = multiply_add((*acc)[6], Sum4(subgroupBroadcast(row, 6u)), t);
    (*acc)[7] = multiply_add((*acc)[7], Sum4(subgroupBroadcast(row, 7u)), t);
}
// Known when compiled, so that nothing is loaded or multiplied for the other rows.
override ROWS: u32 = 16u;
fn write_row(row: u32, i: u32, col: u32, sums: Sum4) {
    if (i >= ROWS) { return; }
    for (var c = 0u; c < 4u; c++) { write(row + i, col + c * STEP, sums[c]); }
}
// From row `first` of the sixteen on.
fn write_rows(row: u32, first: u32, col: u32, acc: ptr<function, array<Sum4, 8>>) {
    write_row(row, first, col, (*acc)[0]);
    write_row(row, first + 1u, col, (*acc)[1]);
    write_row(row, first + 2u, col, (*acc)[2]);
    write_row(row, first + 3u, col, (*acc)[3]);
    write_row(row, first + 4u, col, (*acc)[4]);
    write_row(row, first + 5u, col, (*acc)[5]);
    write_row(row, first + 6u, col, (*acc)[6]);
    write_row(row, first + 7u, col, (*acc)[7]);
}
@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let quads = params.k / 4u;
    var upper_left: array<Sum4, 8>;
    var upper_right: array<Sum4, 8>;
    var lower_left: array<Sum4, 8>;
    var lower_right: array<Sum4, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = transpose(cols4(col, q));
        let right = transpose(cols4(col + 32u, q));
        let upper = vec4<f32>(row4(row + lane, q));
        let lower = vec4<f32>(row4(row + 8u + lane, q));
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    write_rows(row, 0u, col, &upper_left);
    write_rows(row, 0u, col + 32u, &upper_right);
    write_rows(row, 8u, col, &lower_left);
    write_rows(row, 8u, col + 32u, &lower_right);
}
// The same where k % 8 = 0: each half of the columns meets all rows before the other half.
fn add_tile8(upper: ptr<function, array<Sum4, 8>>, lower: ptr<function, array<Sum4, 8>>,
    upper_row: mat2x4<f32>, lower_row: mat2x4<f32>, cols: Eights) {
    let low = transpose(cols.low);
    add_rows(upper, upper_row[0], low);
    add_rows(lower, lower_row[0], low);
    let high = transpose(cols.high);
    add_rows(upper, upper_row[1], high);
    add_rows(lower, lower_row[1], high);
}
@compute @workgroup_size(8)
fn broadcast8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    var upper_left: array<Sum4, 8>;
    var upper_right: array<Sum4, 8>;
    var lower_left: array<Sum4, 8>;
    var lower_right: array<Sum4, 8>;
    for (var q = 0u; q < params.k / 8u; q++) {
        let upper = row8(row + lane, q);
        let lower = row8(row + 8u + lane, q);
        add_tile8(&upper_left, &lower_left, upper, lower, cols8(columns(col), q));
        add_tile8(&upper_right, &lower_right, upper, lower, cols8(columns(col + 32u), q));
    }
    write_rows(row, 0u, col, &upper_left);
    write_rows(row, 0u, col + 32u, &upper_right);
    write_rows(row, 8u, col, &lower_left);
    write_rows(row, 8u, col + 32u, &lower_right);
}
// Sixteen rows by four columns.
@compute @workgroup_size(8)
fn broadcast_any(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 32u + lane;
    let quads = (params.k + 3u) / 4u;
    var upper: array<Sum4, 8>;
    var lower: array<Sum4, 8>;
    for (var q = 0u; q < quads; q++) {
        let cols = transpose(mat4x4<Sum>(
            col_any(col, q), col_any(col + STEP, q),
            col_any(col + 2u * STEP, q), col_any(col + 3u * STEP, q)));
        add_rows(&upper, vec4<f32>(row_any(row + lane, q)), cols);
        add_rows(&lower, vec4<f32>(row_any(row + 8u + lane, q)), cols);
    }
    write_rows(row, 0u, col, &upper);
    write_rows(row, 8u, col, &lower);
}
