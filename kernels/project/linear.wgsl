// Linear layer with an optional activation: y = act(x * w^T + b).
// x[m, k], w[n, k], b[n] -> y[m, n]. With k = 0 the result is act(b).
// Where k % 4 = 0 both operands are read as vec4 along k through x4 and w4, the same buffers; the
// `_any` entry points assemble the vectors from scalars and never read past a row.
// GELU: arXiv 1606.08415; its erf is 7.1.26 of Abramowitz and Stegun.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override ACTIVATION: u32 = 0u; // 0 none, 1 GELU by erf, 2 GELU by tanh, 3 GELU by sigmoid
override WG: u32 = 8u;
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
// Adds the products of four rows with four columns, all vectors along k.
fn add_products(acc: ptr<function, mat4x4<Sum>>, rows: mat4x4<Sum>, cols: mat4x4<Sum>) {
    let t = transpose(cols);
    (*acc)[0] = multiply_add((*acc)[0], rows[0], t);
    (*acc)[1] = multiply_add((*acc)[1], rows[1], t);
    (*acc)[2] = multiply_add((*acc)[2], rows[2], t);
    (*acc)[3] = multiply_add((*acc)[3], rows[3], t);
}
// Four rows `down` apart by four columns `across` apart.
fn write_block(row: u32, down: u32, col: u32, across: u32, acc: mat4x4<Sum>) {
    for (var c = 0u; c < 4u; c++) {
        write(row, col + c * across, acc[0][c]);
        write(row + down, col + c * across, acc[1][c]);
        write(row + 2u * down, col + c * across, acc[2][c]);
        write(row + 3u * down, col + c * across, acc[3][c]);
    }
}

// Rows and columns beyond the matrix load the last one and are not stored.
fn row4(row: u32, q: u32) -> Sum4 {
    return Sum4(x4[min(row, params.m - 1u) * (params.k / 4u) + q]);
}
fn col4(col: u32, q: u32) -> Sum4 {
    return Sum4(w4[min(col, params.n - 1u) * (params.k / 4u) + q]);
}
fn rows4(row: u32, q: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(row4(row, q), row4(row + 1u, q), row4(row + 2u, q), row4(row + 3u, q));
}
fn cols4(col: u32, q: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(
        col4(col, q), col4(col + STEP, q), col4(col + 2u * STEP, q), col4(col + 3u * STEP, q));
}

// Eight consecutive rows and eight columns WG apart for each invocation.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 8u;
    let col = wid.x * 8u * WG + lane;
    var acc00: mat4x4<Sum>;
    var acc01: mat4x4<Sum>;
    var acc10: mat4x4<Sum>;
    var acc11: mat4x4<Sum>;
    for (var q = 0u; q < params.k / 4u; q++) {
        let upper = rows4(row, q);
        let lower = rows4(row + 4u, q);
        let left = cols4(col, q);
        let right = cols4(col + 4u * WG, q);
        add_products(&acc00, upper, left);
        add_products(&acc01, upper, right);
        add_products(&acc10, lower, left);
        add_products(&acc11, lower, right);
    }
    write_block(row, 1u, col, WG, acc00);
    write_block(row, 1u, col + 4u * WG, WG, acc01);
    write_block(row + 4u, 1u, col, WG, acc10);
    write_block(row + 4u, 1u, col + 4u * WG, WG, acc11);
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
// Four rows and four columns for each invocation, because scalar loads dominate.
@compute @workgroup_size(WG)
fn registers_any(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    var acc: mat4x4<Sum>;
    for (var q = 0u; q < (params.k + 3u) / 4u; q++) {
        let rows = mat4x4<Sum>(
            row_any(row, q), row_any(row + 1u, q), row_any(row + 2u, q), row_any(row + 3u, q));
        add_products(&acc, rows, mat4x4<Sum>(
            col_any(col, q), col_any(col + WG, q),
            col_any(col + 2u * WG, q), col_any(col + 3u * WG, q)));
    }
    write_block(row, 1u, col, WG, acc);
}

// 64 rows by 64 columns by 16 along k, each invocation four by four, 16 apart. Rows are five vec4
// apart instead of four, so that eight neighbouring columns are on different banks.
var<workgroup> x_tile: array<Sum4, 320>;
var<workgroup> w_tile: array<Sum4, 320>;
fn add_tile(acc: ptr<function, mat4x4<Sum>>, lane: u32, own_x: Sum4, own_w: Sum4) {
    x_tile[lane / 4u * 5u + lane % 4u] = own_x;
    w_tile[lane / 4u * 5u + lane % 4u] = own_w;
    workgroupBarrier();
    for (var q = 0u; q < 4u; q++) {
        let r = lane / 16u * 5u + q;
        let c = lane % 16u * 5u + q;
        add_products(acc,
            mat4x4<Sum>(x_tile[r], x_tile[r + 80u], x_tile[r + 160u], x_tile[r + 240u]),
            mat4x4<Sum>(w_tile[c], w_tile[c + 80u], w_tile[c + 160u], w_tile[c + 240u]));
    }
    workgroupBarrier();
}
@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let end = params.k / 4u;
    let own = lane / 4u;
    var acc: mat4x4<Sum>;
    for (var first = 0u; first < end; first += 4u) {
        let q = first + lane % 4u;
        add_tile(&acc, lane, x_part(wid.y * 64u + own, q, end), w_part(wid.x * 64u + own, q, end));
    }
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}
@compute @workgroup_size(256)
fn tiled_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = lane / 4u;
    var acc: mat4x4<Sum>;
    for (var first = 0u; first < (params.k + 3u) / 4u; first += 4u) {
        let q = first + lane % 4u;
        add_tile(&acc, lane, row_any(wid.y * 64u + own, q), col_any(wid.x * 64u + own, q));
    }
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

// For few rows: four by four a workgroup, neighbours read neighbouring vectors along k.
var<workgroup> partial: array<mat4x4<Sum>, WG>;
@compute @workgroup_size(WG)
fn matvec(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var acc: mat4x4<Sum>;
    for (var q = lane; q < params.k / 4u; q += WG) {
        add_products(&acc, rows4(wid.y * 4u, q), cols4(wid.x * 4u, q));
    }
    partial[lane] = acc;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    if (lane == 0u) { write_block(wid.y * 4u, 1u, wid.x * 4u, 1u, partial[0]); }
}

// Tiles without padding: four vectors of a row along k, turned by one every other row, so that
// eight neighbouring rows are on different banks.
fn turned(row: u32, q: u32) -> u32 { return row * 4u + (q + row / 2u) % 4u; }
// Zero from `end` on.
fn x_part(row: u32, q: u32, end: u32) -> Sum4 {
    return select(Sum4(), row4(row, min(q, params.k / 4u - 1u)), q < end);
}
fn w_part(col: u32, q: u32, end: u32) -> Sum4 {
    return select(Sum4(), col4(col, min(q, params.k / 4u - 1u)), q < end);
}

// 64 by 64 by 16 as in `tiled`, of two buffers in turn: one barrier a step, and the next tile is on
// its way while this one is multiplied. Together 16 KiB, which WebGPU guarantees.
var<workgroup> x_pair: array<Sum4, 512>;
var<workgroup> w_pair: array<Sum4, 512>;
fn products(wid: vec3<u32>, lane: u32, first: u32, end: u32) -> mat4x4<Sum> {
    var acc: mat4x4<Sum>;
    let own = lane / 4u;
    var x_next = x_part(wid.y * 64u + own, first + lane % 4u, end);
    var w_next = w_part(wid.x * 64u + own, first + lane % 4u, end);
    var at = 0u;
    for (var q = first; q < end; q += 4u) {
        x_pair[at + turned(own, lane % 4u)] = x_next;
        w_pair[at + turned(own, lane % 4u)] = w_next;
        workgroupBarrier();
        x_next = x_part(wid.y * 64u + own, q + 4u + lane % 4u, end);
        w_next = w_part(wid.x * 64u + own, q + 4u + lane % 4u, end);
        for (var i = 0u; i < 4u; i++) {
            let r = at + turned(lane / 16u, i);
            let c = at + turned(lane % 16u, i);
            add_products(&acc,
                mat4x4<Sum>(x_pair[r], x_pair[r + 64u], x_pair[r + 128u], x_pair[r + 192u]),
                mat4x4<Sum>(w_pair[c], w_pair[c + 64u], w_pair[c + 128u], w_pair[c + 192u]));
        }
        at = 256u - at;
    }
    return acc;
}
@compute @workgroup_size(256)
fn pair(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let acc = products(wid, lane, 0u, params.k / 4u);
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

// For few tiles: each of SPLITS workgroups multiplies a part of k into sums[SPLITS, m, n].
override SPLITS: u32 = 4u;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;
@compute @workgroup_size(256)
fn split(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let quads = params.k / 4u;
    let part = (quads + SPLITS - 1u) / SPLITS;
    let acc = products(wid, lane, min(wid.z * part, quads), min((wid.z + 1u) * part, quads));
    for (var r = 0u; r < 4u; r++) {
        let row = wid.y * 64u + lane / 16u + 16u * r;
        for (var c = 0u; c < 4u; c++) {
            let col = wid.x * 64u + lane % 16u + 16u * c;
            if (row < params.m && col < params.n) {
                sums[(wid.z * params.m + row) * params.n + col] = f32(acc[r][c]);
            }
        }
    }
}
// The parts in order, one invocation an element.
@compute @workgroup_size(256)
fn merge(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let index = (wid.x + wid.y * groups.x) * 256u + lane;
    if (index >= params.m * params.n) { return; }
    var sum = 0.0;
    for (var s = 0u; s < SPLITS; s++) { sum += sums[s * params.m * params.n + index]; }
    write(index / params.n, index % params.n, Sum(sum));
}

// 128 by 64 by 16, eight rows by four columns an invocation; the next tile waits in registers.
var<workgroup> x_tall: array<Sum4, 512>;
var<workgroup> w_tall: array<Sum4, 256>;
@compute @workgroup_size(256)
fn tall(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let end = params.k / 4u;
    let own = lane / 4u;
    let row = wid.y * 128u + own;
    let col = wid.x * 64u + own;
    var upper: mat4x4<Sum>;
    var lower: mat4x4<Sum>;
    var x_next = x_part(row, lane % 4u, end);
    var x_later = x_part(row + 64u, lane % 4u, end);
    var w_next = w_part(col, lane % 4u, end);
    for (var q = 0u; q < end; q += 4u) {
        workgroupBarrier();
        x_tall[turned(own, lane % 4u)] = x_next;
        x_tall[256u + turned(own, lane % 4u)] = x_later;
        w_tall[turned(own, lane % 4u)] = w_next;
        workgroupBarrier();
        x_next = x_part(row, q + 4u + lane % 4u, end);
        x_later = x_part(row + 64u, q + 4u + lane % 4u, end);
        w_next = w_part(col, q + 4u + lane % 4u, end);
        for (var i = 0u; i < 4u; i++) {
            let r = turned(lane / 16u, i);
            let c = turned(lane % 16u, i);
            let cols = mat4x4<Sum>(w_tall[c], w_tall[c + 64u], w_tall[c + 128u], w_tall[c + 192u]);
            add_products(&upper,
                mat4x4<Sum>(x_tall[r], x_tall[r + 64u], x_tall[r + 128u], x_tall[r + 192u]), cols);
            add_products(&lower, mat4x4<Sum>(
                x_tall[r + 256u], x_tall[r + 320u], x_tall[r + 384u], x_tall[r + 448u]), cols);
        }
    }
    let first = wid.y * 128u + lane / 16u;
    write_block(first, 16u, wid.x * 64u + lane % 16u, 16u, upper);
    write_block(first + 64u, 16u, wid.x * 64u + lane % 16u, 16u, lower);
}
