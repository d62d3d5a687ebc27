// Two-layer projector of LLaVA (arXiv 2310.03744): y = gelu(x w^T + b) u^T + c.
// x[m, k], w[h, k], b[h], u[n, h], c[n], hidden[m, h] in between -> y[m, n].
//
// The hidden layer is rounded to the storage type, as LLaVA's own is. Where k and h are positive
// multiples of 4 rows are read as vec4; `_any`, one invocation an output, serves other widths.
// GELU: arXiv 1606.08415; its erf is 7.1.26 of Abramowitz and Stegun.

struct Params { m: u32, k: u32, h: u32, n: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read> u: array<T>;
@group(0) @binding(4) var<storage, read> u4: array<T4>;
@group(0) @binding(5) var<storage, read> c: array<T>;
@group(0) @binding(6) var<storage, read_write> y: array<T>;
@group(0) @binding(7) var<storage, read_write> hidden: array<T>;
@group(0) @binding(7) var<storage, read_write> hidden4: array<T4>;

override WG: u32 = 8u;

fn erf(v: f32) -> f32 {
    let magnitude = abs(v);
    let t = 1.0 / (1.0 + 0.3275911 * magnitude);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
        + 0.254829592) * t;
    let tail = 1.0 - poly * exp(-(magnitude * magnitude));
    return select(tail, -tail, v < 0.0);
}

fn write_hidden(row: u32, col: u32, dot: f32) {
    if (row >= params.m || col >= params.h) { return; }
    let v = dot + f32(b[col]);
    hidden[row * params.h + col] = to_storage(0.5 * v * (1.0 + erf(v * 0.70710678)));
}

fn write_y(row: u32, col: u32, dot: f32) {
    if (row >= params.m || col >= params.n) { return; }
    y[row * params.n + col] = to_storage(dot + f32(c[col]));
}

// Four rows `down` apart by four columns `across` apart.
fn block_hidden(row: u32, down: u32, col: u32, across: u32, acc: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        write_hidden(row, col + i * across, acc[0][i]);
        write_hidden(row + down, col + i * across, acc[1][i]);
        write_hidden(row + 2u * down, col + i * across, acc[2][i]);
        write_hidden(row + 3u * down, col + i * across, acc[3][i]);
    }
}

fn block_y(row: u32, down: u32, col: u32, across: u32, acc: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        write_y(row, col + i * across, acc[0][i]);
        write_y(row + down, col + i * across, acc[1][i]);
        write_y(row + 2u * down, col + i * across, acc[2][i]);
        write_y(row + 3u * down, col + i * across, acc[3][i]);
    }
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: mat4x4<f32>) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four rows with four columns, all vectors along the reduction.
fn add_products(acc: ptr<function, mat4x4<f32>>, rows: mat4x4<f32>, cols: mat4x4<f32>) {
    let t = transpose(cols);
    (*acc)[0] = multiply_add((*acc)[0], rows[0], t);
    (*acc)[1] = multiply_add((*acc)[1], rows[1], t);
    (*acc)[2] = multiply_add((*acc)[2], rows[2], t);
    (*acc)[3] = multiply_add((*acc)[3], rows[3], t);
}

// Rows and columns beyond a matrix load the last one and are not stored.
fn x_row(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(x4[min(row, params.m - 1u) * (params.k / 4u) + q]);
}

fn w_row(col: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(w4[min(col, params.h - 1u) * (params.k / 4u) + q]);
}

fn hidden_row(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(hidden4[min(row, params.m - 1u) * (params.h / 4u) + q]);
}

fn u_row(col: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(u4[min(col, params.n - 1u) * (params.h / 4u) + q]);
}

// Eight consecutive rows and four columns WG apart for each invocation, no barrier.
@compute @workgroup_size(WG)
fn first(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r = wid.y * 8u;
    let o = wid.x * 4u * WG + lane;
    var upper: mat4x4<f32>;
    var lower: mat4x4<f32>;
    for (var q = 0u; q < params.k / 4u; q++) {
        let cols = mat4x4<f32>(
            w_row(o, q), w_row(o + WG, q), w_row(o + 2u * WG, q), w_row(o + 3u * WG, q));
        add_products(&upper, mat4x4<f32>(
            x_row(r, q), x_row(r + 1u, q), x_row(r + 2u, q), x_row(r + 3u, q)), cols);
        add_products(&lower, mat4x4<f32>(
            x_row(r + 4u, q), x_row(r + 5u, q), x_row(r + 6u, q), x_row(r + 7u, q)), cols);
    }
    block_hidden(r, 1u, o, WG, upper);
    block_hidden(r + 4u, 1u, o, WG, lower);
}

@compute @workgroup_size(WG)
fn second(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r = wid.y * 8u;
    let o = wid.x * 4u * WG + lane;
    var upper: mat4x4<f32>;
    var lower: mat4x4<f32>;
    for (var q = 0u; q < params.h / 4u; q++) {
        let cols = mat4x4<f32>(
            u_row(o, q), u_row(o + WG, q), u_row(o + 2u * WG, q), u_row(o + 3u * WG, q));
        add_products(&upper, mat4x4<f32>(hidden_row(r, q), hidden_row(r + 1u, q),
            hidden_row(r + 2u, q), hidden_row(r + 3u, q)), cols);
        add_products(&lower, mat4x4<f32>(hidden_row(r + 4u, q), hidden_row(r + 5u, q),
            hidden_row(r + 6u, q), hidden_row(r + 7u, q)), cols);
    }
    block_y(r, 1u, o, WG, upper);
    block_y(r + 4u, 1u, o, WG, lower);
}

@compute @workgroup_size(WG)
fn first_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = wid.x * WG + lane;
    var dot = 0.0;
    for (var i = 0u; i < params.k && col < params.h; i++) {
        dot += f32(x[wid.y * params.k + i]) * f32(w[col * params.k + i]);
    }
    write_hidden(wid.y, col, dot);
}

@compute @workgroup_size(WG)
fn second_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = wid.x * WG + lane;
    var dot = 0.0;
    for (var i = 0u; i < params.h && col < params.n; i++) {
        dot += f32(hidden[wid.y * params.h + i]) * f32(u[col * params.h + i]);
    }
    write_y(wid.y, col, dot);
}

// 64 rows by 64 columns by 16 along the reduction, each invocation four by four, 16 apart. Rows are
// five vec4 apart instead of four, so that eight neighbouring columns are on different banks.
var<workgroup> rows: array<vec4<f32>, 320>;
var<workgroup> cols: array<vec4<f32>, 320>;

fn add_tile(acc: ptr<function, mat4x4<f32>>, lane: u32) {
    for (var q = 0u; q < 4u; q++) {
        let r = lane / 16u * 5u + q;
        let c = lane % 16u * 5u + q;
        add_products(acc, mat4x4<f32>(rows[r], rows[r + 80u], rows[r + 160u], rows[r + 240u]),
            mat4x4<f32>(cols[c], cols[c + 80u], cols[c + 160u], cols[c + 240u]));
    }
}

@compute @workgroup_size(256)
fn first_tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    let last = params.k / 4u - 1u;
    var acc: mat4x4<f32>;
    for (var start = 0u; start <= last; start += 4u) {
        let q = start + lane % 4u;
        let row = x_row(wid.y * 64u + lane / 4u, min(q, last));
        rows[at] = select(vec4<f32>(), row, q <= last);
        cols[at] = w_row(wid.x * 64u + lane / 4u, min(q, last));
        workgroupBarrier();
        add_tile(&acc, lane);
        workgroupBarrier();
    }
    block_hidden(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

@compute @workgroup_size(256)
fn second_tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    let last = params.h / 4u - 1u;
    var acc: mat4x4<f32>;
    for (var start = 0u; start <= last; start += 4u) {
        let q = start + lane % 4u;
        let row = hidden_row(wid.y * 64u + lane / 4u, min(q, last));
        rows[at] = select(vec4<f32>(), row, q <= last);
        cols[at] = u_row(wid.x * 64u + lane / 4u, min(q, last));
        workgroupBarrier();
        add_tile(&acc, lane);
        workgroupBarrier();
    }
    block_y(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

// Sixteen rows by eight columns for each of the eight invocations of a subgroup. Each loads two
// rows and gets the others by broadcast: a CPU driver makes every load one invocation at a time.
fn add_rows(acc: ptr<function, array<vec4<f32>, 8>>, row: vec4<f32>, t: mat4x4<f32>) {
    (*acc)[0] = multiply_add((*acc)[0], subgroupBroadcast(row, 0u), t);
    (*acc)[1] = multiply_add((*acc)[1], subgroupBroadcast(row, 1u), t);
    (*acc)[2] = multiply_add((*acc)[2], subgroupBroadcast(row, 2u), t);
    (*acc)[3] = multiply_add((*acc)[3], subgroupBroadcast(row, 3u), t);
    (*acc)[4] = multiply_add((*acc)[4], subgroupBroadcast(row, 4u), t);
    (*acc)[5] = multiply_add((*acc)[5], subgroupBroadcast(row, 5u), t);
    (*acc)[6] = multiply_add((*acc)[6], subgroupBroadcast(row, 6u), t);
    (*acc)[7] = multiply_add((*acc)[7], subgroupBroadcast(row, 7u), t);
}

fn rows_hidden(row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    for (var i = 0u; i < 4u; i++) {
        write_hidden(row, col + i * 8u, (*acc)[0][i]);
        write_hidden(row + 1u, col + i * 8u, (*acc)[1][i]);
        write_hidden(row + 2u, col + i * 8u, (*acc)[2][i]);
        write_hidden(row + 3u, col + i * 8u, (*acc)[3][i]);
        write_hidden(row + 4u, col + i * 8u, (*acc)[4][i]);
        write_hidden(row + 5u, col + i * 8u, (*acc)[5][i]);
        write_hidden(row + 6u, col + i * 8u, (*acc)[6][i]);
        write_hidden(row + 7u, col + i * 8u, (*acc)[7][i]);
    }
}

fn rows_y(row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    for (var i = 0u; i < 4u; i++) {
        write_y(row, col + i * 8u, (*acc)[0][i]);
        write_y(row + 1u, col + i * 8u, (*acc)[1][i]);
        write_y(row + 2u, col + i * 8u, (*acc)[2][i]);
        write_y(row + 3u, col + i * 8u, (*acc)[3][i]);
        write_y(row + 4u, col + i * 8u, (*acc)[4][i]);
        write_y(row + 5u, col + i * 8u, (*acc)[5][i]);
        write_y(row + 6u, col + i * 8u, (*acc)[6][i]);
        write_y(row + 7u, col + i * 8u, (*acc)[7][i]);
    }
}

@compute @workgroup_size(8)
fn first_broadcast(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let r = wid.y * 16u;
    let o = wid.x * 64u + lane;
    let quads = params.k / 4u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = transpose(mat4x4<f32>(w_row(o, q), w_row(o + 8u, q),
            w_row(o + 16u, q), w_row(o + 24u, q)));
        let right = transpose(mat4x4<f32>(w_row(o + 32u, q), w_row(o + 40u, q),
            w_row(o + 48u, q), w_row(o + 56u, q)));
        let upper = x_row(r + lane, q);
        let lower = x_row(r + 8u + lane, q);
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    rows_hidden(r, o, &upper_left);
    rows_hidden(r, o + 32u, &upper_right);
    rows_hidden(r + 8u, o, &lower_left);
    rows_hidden(r + 8u, o + 32u, &lower_right);
}

@compute @workgroup_size(8)
fn second_broadcast(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let r = wid.y * 16u;
    let o = wid.x * 64u + lane;
    let quads = params.h / 4u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = transpose(mat4x4<f32>(u_row(o, q), u_row(o + 8u, q),
            u_row(o + 16u, q), u_row(o + 24u, q)));
        let right = transpose(mat4x4<f32>(u_row(o + 32u, q), u_row(o + 40u, q),
            u_row(o + 48u, q), u_row(o + 56u, q)));
        let upper = hidden_row(r + lane, q);
        let lower = hidden_row(r + 8u + lane, q);
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    rows_y(r, o, &upper_left);
    rows_y(r, o + 32u, &upper_right);
    rows_y(r + 8u, o, &lower_left);
    rows_y(r + 8u, o + 32u, &lower_right);
}
