// Batched linear layer: y_i = x_i w_i^T + b_i for every i of a batch, each with its own weights.
// x[batch][m, k], w[batch][n, k], b[batch][n] -> y[batch][m, n], where the matrices of each operand
// are its stride in elements apart: a stride of 0 shares one matrix, a larger one skips padding.
//
// Where k and the strides of x and w % 4 = 0 both are read as vec4 along k through x4 and w4; the
// `_any` entry points assemble the vectors from scalars. With k = 0 the result is the bias.

struct Params {
    m: u32, n: u32, k: u32, x_stride: u32, w_stride: u32, b_stride: u32, y_stride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(2) var<storage, read> w8: array<T8>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: mat4x4<f32>) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four rows with four columns, all vectors along k.
fn add_products(acc: ptr<function, mat4x4<f32>>, rows: mat4x4<f32>, cols: mat4x4<f32>) {
    let t = transpose(cols);
    (*acc)[0] = multiply_add((*acc)[0], rows[0], t);
    (*acc)[1] = multiply_add((*acc)[1], rows[1], t);
    (*acc)[2] = multiply_add((*acc)[2], rows[2], t);
    (*acc)[3] = multiply_add((*acc)[3], rows[3], t);
}

fn write(i: u32, row: u32, col: u32, dot: f32) {
    if (row < params.m && col < params.n) {
        let bias = f32(b[i * params.b_stride + col]);
        y[i * params.y_stride + row * params.n + col] = to_storage(dot + bias);
    }
}

// Four rows `down` apart by four columns `across` apart.
fn write_block(i: u32, row: u32, down: u32, col: u32, across: u32, acc: mat4x4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        write(i, row, col + c * across, acc[0][c]);
        write(i, row + down, col + c * across, acc[1][c]);
        write(i, row + 2u * down, col + c * across, acc[2][c]);
        write(i, row + 3u * down, col + c * across, acc[3][c]);
    }
}

// Rows and columns beyond the matrix load the last one and are not stored.
fn row4(i: u32, row: u32, q: u32) -> vec4<f32> {
    let at = i * (params.x_stride / 4u) + min(row, params.m - 1u) * (params.k / 4u);
    return vec4<f32>(x4[at + q]);
}

fn col4(i: u32, col: u32, q: u32) -> vec4<f32> {
    let at = i * (params.w_stride / 4u) + min(col, params.n - 1u) * (params.k / 4u);
    return vec4<f32>(w4[at + q]);
}

fn rows4(i: u32, row: u32, q: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        row4(i, row, q), row4(i, row + 1u, q), row4(i, row + 2u, q), row4(i, row + 3u, q));
}

fn cols4(i: u32, col: u32, q: u32) -> mat4x4<f32> {
    return mat4x4<f32>(col4(i, col, q), col4(i, col + WG, q),
        col4(i, col + 2u * WG, q), col4(i, col + 3u * WG, q));
}

// Eight consecutive rows and eight columns WG apart for each invocation, no barrier.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 8u;
    let col = wid.x * 8u * WG + lane;
    var acc00: mat4x4<f32>;
    var acc01: mat4x4<f32>;
    var acc10: mat4x4<f32>;
    var acc11: mat4x4<f32>;
    for (var q = 0u; q < params.k / 4u; q++) {
        let upper = rows4(wid.z, row, q);
        let lower = rows4(wid.z, row + 4u, q);
        let left = cols4(wid.z, col, q);
        let right = cols4(wid.z, col + 4u * WG, q);
        add_products(&acc00, upper, left);
        add_products(&acc01, upper, right);
        add_products(&acc10, lower, left);
        add_products(&acc11, lower, right);
    }
    write_block(wid.z, row, 1u, col, WG, acc00);
    write_block(wid.z, row, 1u, col + 4u * WG, WG, acc01);
    write_block(wid.z, row + 4u, 1u, col, WG, acc10);
    write_block(wid.z, row + 4u, 1u, col + 4u * WG, WG, acc11);
}

// The vectors of row4 and col4 from scalars, zero beyond the row.
fn row_any(i: u32, row: u32, q: u32) -> vec4<f32> {
    let base = i * params.x_stride + min(row, params.m - 1u) * params.k;
    var v = vec4<f32>();
    for (var j = 4u * q; j < min(4u * q + 4u, params.k); j++) { v[j % 4u] = f32(x[base + j]); }
    return v;
}

fn col_any(i: u32, col: u32, q: u32) -> vec4<f32> {
    let base = i * params.w_stride + min(col, params.n - 1u) * params.k;
    var v = vec4<f32>();
    for (var j = 4u * q; j < min(4u * q + 4u, params.k); j++) { v[j % 4u] = f32(w[base + j]); }
    return v;
}

// Four rows and four columns for each invocation, because scalar loads dominate.
@compute @workgroup_size(WG)
fn registers_any(
    @builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32,
) {
    let i = wid.z;
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    var acc: mat4x4<f32>;
    for (var q = 0u; q < (params.k + 3u) / 4u; q++) {
        let rows = mat4x4<f32>(row_any(i, row, q), row_any(i, row + 1u, q),
            row_any(i, row + 2u, q), row_any(i, row + 3u, q));
        add_products(&acc, rows, mat4x4<f32>(col_any(i, col, q), col_any(i, col + WG, q),
            col_any(i, col + 2u * WG, q), col_any(i, col + 3u * WG, q)));
    }
    write_block(i, row, 1u, col, WG, acc);
}

// 64 rows by 64 columns by 16 along k, each invocation four by four, 16 apart. Rows are five vec4
// apart instead of four, so that eight neighbouring columns are on different banks.
var<workgroup> x_tile: array<vec4<f32>, 320>;
var<workgroup> w_tile: array<vec4<f32>, 320>;

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    var acc: mat4x4<f32>;
    for (var first = 0u; first < params.k / 4u; first += 4u) {
        let q = min(first + lane % 4u, params.k / 4u - 1u);
        let inside = first + lane % 4u < params.k / 4u;
        x_tile[at] = select(vec4<f32>(), row4(wid.z, wid.y * 64u + lane / 4u, q), inside);
        w_tile[at] = select(vec4<f32>(), col4(wid.z, wid.x * 64u + lane / 4u, q), inside);
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let r = lane / 16u * 5u + i;
            let c = lane % 16u * 5u + i;
            add_products(&acc,
                mat4x4<f32>(x_tile[r], x_tile[r + 80u], x_tile[r + 160u], x_tile[r + 240u]),
                mat4x4<f32>(w_tile[c], w_tile[c + 80u], w_tile[c + 160u], w_tile[c + 240u]));
        }
        workgroupBarrier();
    }
    write_block(wid.z, wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
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

fn write_rows(i: u32, row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    for (var c = 0u; c < 4u; c++) {
        write(i, row, col + c * 8u, (*acc)[0][c]);
        write(i, row + 1u, col + c * 8u, (*acc)[1][c]);
        write(i, row + 2u, col + c * 8u, (*acc)[2][c]);
        write(i, row + 3u, col + c * 8u, (*acc)[3][c]);
        write(i, row + 4u, col + c * 8u, (*acc)[4][c]);
        write(i, row + 5u, col + c * 8u, (*acc)[5][c]);
        write(i, row + 6u, col + c * 8u, (*acc)[6][c]);
        write(i, row + 7u, col + c * 8u, (*acc)[7][c]);
    }
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = wid.z;
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let quads = params.k / 4u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = transpose(cols4(i, col, q));
        let right = transpose(cols4(i, col + 32u, q));
        let upper = row4(i, row + lane, q);
        let lower = row4(i, row + 8u + lane, q);
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    write_rows(i, row, col, &upper_left);
    write_rows(i, row, col + 32u, &upper_right);
    write_rows(i, row + 8u, col, &lower_left);
    write_rows(i, row + 8u, col + 32u, &lower_right);
}

// The same where k and strides are multiples of eight: f16 in half as many loads. Each half of the
// columns meets all rows before the other half.
struct Eights { low: mat4x4<f32>, high: mat4x4<f32> }
fn row8(i: u32, row: u32, q: u32) -> mat2x4<f32> {
    let at = i * (params.x_stride / 8u) + min(row, params.m - 1u) * (params.k / 8u);
    return from_storage8(x8[at + q]);
}
fn col8(i: u32, col: u32, q: u32) -> mat2x4<f32> {
    let at = i * (params.w_stride / 8u) + min(col, params.n - 1u) * (params.k / 8u);
    return from_storage8(w8[at + q]);
}
fn cols8(i: u32, col: u32, q: u32) -> Eights {
    let a = col8(i, col, q);
    let b = col8(i, col + 8u, q);
    let c = col8(i, col + 16u, q);
    let d = col8(i, col + 24u, q);
    return Eights(mat4x4<f32>(a[0], b[0], c[0], d[0]), mat4x4<f32>(a[1], b[1], c[1], d[1]));
}
fn add_tile8(upper: ptr<function, array<vec4<f32>, 8>>, lower: ptr<function, array<vec4<f32>, 8>>,
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
    let i = wid.z;
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < params.k / 8u; q++) {
        let upper = row8(i, row + lane, q);
        let lower = row8(i, row + 8u + lane, q);
        add_tile8(&upper_left, &lower_left, upper, lower, cols8(i, col, q));
        add_tile8(&upper_right, &lower_right, upper, lower, cols8(i, col + 32u, q));
    }
    write_rows(i, row, col, &upper_left);
    write_rows(i, row, col + 32u, &upper_right);
    write_rows(i, row + 8u, col, &lower_left);
    write_rows(i, row + 8u, col + 32u, &lower_right);
}

// Sixteen rows by four columns.
@compute @workgroup_size(8)
fn broadcast_any(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let i = wid.z;
    let row = wid.y * 16u;
    let col = wid.x * 32u + lane;
    let quads = (params.k + 3u) / 4u;
    var upper: array<vec4<f32>, 8>;
    var lower: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let cols = transpose(mat4x4<f32>(col_any(i, col, q), col_any(i, col + 8u, q),
            col_any(i, col + 16u, q), col_any(i, col + 24u, q)));
        add_rows(&upper, row_any(i, row + lane, q), cols);
        add_rows(&lower, row_any(i, row + 8u + lane, q), cols);
    }
    write_rows(i, row, col, &upper);
    write_rows(i, row + 8u, col, &lower);
}
