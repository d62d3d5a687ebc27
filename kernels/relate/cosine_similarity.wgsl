// Cosine similarity of every row of a with every row of b, times a temperature:
// s = t * (a . b) / (max(||a||, 1e-12) * max(||b||, 1e-12)).
// a[m, d], b[n, d] -> s[m, n]. A row of zeros is similar to nothing: zeros.
//
// `register` and `broadcast` take the norms in a dispatch of their own, `tiled` while it loads
// tiles. Rows are read as vec4, so that d % 4 = 0; `_any` assembles the vectors from scalars.

struct Params { m: u32, n: u32, d: u32, floor: f32, temperature: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> a4: array<T4>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read> b4: array<T4>;
@group(0) @binding(3) var<storage, read_write> s: array<T>;
// 1/norm of the rows of a, then of b.
@group(0) @binding(4) var<storage, read_write> inverse: array<f32>;

override WG: u32 = 8u;

// `floor` is the square of the smallest norm that is divided by.
fn inverse_norm(squares: f32) -> f32 { return inverseSqrt(max(squares, params.floor)); }

@compute @workgroup_size(WG)
fn norms(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.x * WG + lane;
    if (row >= params.m + params.n) { return; }
    var squares = 0.0;
    for (var q = 0u; q < params.d / 4u; q++) {
        var v: vec4<f32>;
        if (row < params.m) { v = a_quad(row, q); } else { v = b_quad(row - params.m, q); }
        squares += dot(v, v);
    }
    inverse[row] = inverse_norm(squares);
}

@compute @workgroup_size(WG)
fn norms_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.x * WG + lane;
    if (row >= params.m + params.n) { return; }
    var squares = 0.0;
    for (var q = 0u; q < (params.d + 3u) / 4u; q++) {
        var v: vec4<f32>;
        if (row < params.m) { v = a_any(row, q); } else { v = b_any(row - params.m, q); }
        squares += dot(v, v);
    }
    inverse[row] = inverse_norm(squares);
}

// Rows beyond the matrix load the last one and are not stored.
fn a_quad(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(a4[min(row, params.m - 1u) * (params.d / 4u) + q]);
}

fn b_quad(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(b4[min(row, params.n - 1u) * (params.d / 4u) + q]);
}

// From scalars, zero beyond the row: what lies there is loaded from its end, because a branch would
// cost more than a load.
fn a_any(row: u32, q: u32) -> vec4<f32> {
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = min(row, params.m - 1u) * params.d + min(i, vec4<u32>(params.d - 1u));
    let v = vec4<T>(a[at.x], a[at.y], a[at.z], a[at.w]);
    return select(vec4<f32>(), vec4<f32>(v), i < vec4<u32>(params.d));
}

fn b_any(row: u32, q: u32) -> vec4<f32> {
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = min(row, params.n - 1u) * params.d + min(i, vec4<u32>(params.d - 1u));
    let v = vec4<T>(b[at.x], b[at.y], b[at.z], b[at.w]);
    return select(vec4<f32>(), vec4<f32>(v), i < vec4<u32>(params.d));
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: mat4x4<f32>) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four rows with four columns, all vectors along d.
fn add_products(acc: ptr<function, mat4x4<f32>>, rows: mat4x4<f32>, cols: mat4x4<f32>) {
    let t = transpose(cols);
    (*acc)[0] = multiply_add((*acc)[0], rows[0], t);
    (*acc)[1] = multiply_add((*acc)[1], rows[1], t);
    (*acc)[2] = multiply_add((*acc)[2], rows[2], t);
    (*acc)[3] = multiply_add((*acc)[3], rows[3], t);
}

fn write(row: u32, col: u32, dot: f32, of_a: f32, of_b: f32) {
    s[row * params.n + col] = to_storage(params.temperature * (dot * of_a * of_b));
}

// One row by four columns `apart`.
fn write_row(row: u32, col: u32, apart: u32, dots: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        let at = col + c * apart;
        if (row < params.m && at < params.n) {
            write(row, at, dots[c], inverse[row], inverse[params.m + at]);
        }
    }
}

fn write_rows(row: u32, col: u32, acc: mat4x4<f32>) {
    write_row(row, col, WG, acc[0]);
    write_row(row + 1u, col, WG, acc[1]);
    write_row(row + 2u, col, WG, acc[2]);
    write_row(row + 3u, col, WG, acc[3]);
}

fn rows4(row: u32, q: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        a_quad(row, q), a_quad(row + 1u, q), a_quad(row + 2u, q), a_quad(row + 3u, q));
}

fn cols4(col: u32, apart: u32, q: u32) -> mat4x4<f32> {
    return mat4x4<f32>(b_quad(col, q), b_quad(col + apart, q), b_quad(col + 2u * apart, q),
        b_quad(col + 3u * apart, q));
}

// Eight consecutive rows and four columns WG apart for each invocation.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 8u;
    let col = wid.x * 4u * WG + lane;
    var upper: mat4x4<f32>;
    var lower: mat4x4<f32>;
    for (var q = 0u; q < params.d / 4u; q++) {
        let cols = cols4(col, WG, q);
        add_products(&upper, rows4(row, q), cols);
        add_products(&lower, rows4(row + 4u, q), cols);
    }
    write_rows(row, col, upper);
    write_rows(row + 4u, col, lower);
}

// Four by four, because scalar loads dominate.
@compute @workgroup_size(WG)
fn registers_any(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = id.y * 4u;
    let col = id.x * 4u * WG + lane;
    var acc: mat4x4<f32>;
    for (var q = 0u; q < (params.d + 3u) / 4u; q++) {
        let rows = mat4x4<f32>(
            a_any(row, q), a_any(row + 1u, q), a_any(row + 2u, q), a_any(row + 3u, q));
        add_products(&acc, rows, mat4x4<f32>(b_any(col, q), b_any(col + WG, q),
            b_any(col + 2u * WG, q), b_any(col + 3u * WG, q)));
    }
    write_rows(row, col, acc);
}

// Sixteen rows by eight columns for each of the eight invocations of a subgroup. Each loads two
// rows and gets the others by broadcast: a CPU driver makes every load one invocation at a time.
fn add_rows(acc: ptr<function, array<vec4<f32>, 8>>, own: vec4<f32>, t: mat4x4<f32>) {
    (*acc)[0] = multiply_add((*acc)[0], subgroupBroadcast(own, 0u), t);
    (*acc)[1] = multiply_add((*acc)[1], subgroupBroadcast(own, 1u), t);
    (*acc)[2] = multiply_add((*acc)[2], subgroupBroadcast(own, 2u), t);
    (*acc)[3] = multiply_add((*acc)[3], subgroupBroadcast(own, 3u), t);
    (*acc)[4] = multiply_add((*acc)[4], subgroupBroadcast(own, 4u), t);
    (*acc)[5] = multiply_add((*acc)[5], subgroupBroadcast(own, 5u), t);
    (*acc)[6] = multiply_add((*acc)[6], subgroupBroadcast(own, 6u), t);
    (*acc)[7] = multiply_add((*acc)[7], subgroupBroadcast(own, 7u), t);
}

fn write_eight(row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    write_row(row, col, 8u, (*acc)[0]);
    write_row(row + 1u, col, 8u, (*acc)[1]);
    write_row(row + 2u, col, 8u, (*acc)[2]);
    write_row(row + 3u, col, 8u, (*acc)[3]);
    write_row(row + 4u, col, 8u, (*acc)[4]);
    write_row(row + 5u, col, 8u, (*acc)[5]);
    write_row(row + 6u, col, 8u, (*acc)[6]);
    write_row(row + 7u, col, 8u, (*acc)[7]);
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let quads = params.d / 4u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = transpose(cols4(col, 8u, q));
        let right = transpose(cols4(col + 32u, 8u, q));
        let upper = a_quad(row + lane, q);
        let lower = a_quad(row + 8u + lane, q);
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    write_eight(row, col, &upper_left);
    write_eight(row, col + 32u, &upper_right);
    write_eight(row + 8u, col, &lower_left);
    write_eight(row + 8u, col + 32u, &lower_right);
}

// Sixteen rows by four columns.
@compute @workgroup_size(8)
fn broadcast_any(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = id.y * 16u;
    let col = id.x * 32u + lane;
    let quads = (params.d + 3u) / 4u;
    var upper: array<vec4<f32>, 8>;
    var lower: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let cols = transpose(mat4x4<f32>(b_any(col, q), b_any(col + 8u, q),
            b_any(col + 16u, q), b_any(col + 24u, q)));
        add_rows(&upper, a_any(row + lane, q), cols);
        add_rows(&lower, a_any(row + 8u + lane, q), cols);
    }
    write_eight(row, col, &upper);
    write_eight(row + 8u, col, &lower);
}

// 64 rows by 64 columns by 16 along d, each invocation four by four, 16 apart. Rows are five vec4
// apart instead of four, so that eight neighbouring columns are on different banks.
var<workgroup> a_tile: array<vec4<f32>, 320>;
var<workgroup> b_tile: array<vec4<f32>, 320>;
// Sums of squares of the 64 rows and columns, four partial ones each.
var<workgroup> shares: array<vec2<f32>, 256>;

// Puts one vector of each operand into the tiles and multiplies; returns their squares.
fn add_tile(acc: ptr<function, mat4x4<f32>>, lane: u32, v: vec4<f32>, w: vec4<f32>) -> vec2<f32> {
    a_tile[lane / 4u * 5u + lane % 4u] = v;
    b_tile[lane / 4u * 5u + lane % 4u] = w;
    workgroupBarrier();
    for (var q = 0u; q < 4u; q++) {
        let r = lane / 16u * 5u + q;
        let c = lane % 16u * 5u + q;
        add_products(acc,
            mat4x4<f32>(a_tile[r], a_tile[r + 80u], a_tile[r + 160u], a_tile[r + 240u]),
            mat4x4<f32>(b_tile[c], b_tile[c + 80u], b_tile[c + 160u], b_tile[c + 240u]));
    }
    workgroupBarrier();
    return vec2<f32>(dot(v, v), dot(w, w));
}

fn sum_of(i: u32) -> vec2<f32> {
    return shares[4u * i] + shares[4u * i + 1u] + shares[4u * i + 2u] + shares[4u * i + 3u];
}

fn write_tile_row(wid: vec3<u32>, r: u32, c: u32, dots: vec4<f32>) {
    let of_a = inverse_norm(sum_of(r).x);
    for (var j = 0u; j < 64u; j += 16u) {
        let col = wid.x * 64u + c + j;
        if (wid.y * 64u + r < params.m && col < params.n) {
            write(wid.y * 64u + r, col, dots[j / 16u], of_a, inverse_norm(sum_of(c + j).y));
        }
    }
}

fn write_tile(wid: vec3<u32>, lane: u32, acc: mat4x4<f32>, share: vec2<f32>) {
    shares[lane] = share;
    workgroupBarrier();
    write_tile_row(wid, lane / 16u, lane % 16u, acc[0]);
    write_tile_row(wid, lane / 16u + 16u, lane % 16u, acc[1]);
    write_tile_row(wid, lane / 16u + 32u, lane % 16u, acc[2]);
    write_tile_row(wid, lane / 16u + 48u, lane % 16u, acc[3]);
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var acc: mat4x4<f32>;
    var share = vec2<f32>();
    for (var first = 0u; first < params.d / 4u; first += 4u) {
        let q = min(first + lane % 4u, params.d / 4u - 1u);
        let inside = first + lane % 4u < params.d / 4u;
        share += add_tile(&acc, lane,
            select(vec4<f32>(), a_quad(wid.y * 64u + lane / 4u, q), inside),
            select(vec4<f32>(), b_quad(wid.x * 64u + lane / 4u, q), inside));
    }
    write_tile(wid, lane, acc, share);
}
