// Linear layer on 2:4 sparse weights: y = x * w^T + b, where two of every four weights are zero.
// x[m, k], v[n, groups] pairs of weights, p[n, ceil(groups/8)] words of their positions, four bits
// a group (see prune_2_4), b[n] -> y[m, n]; groups = ceil(k/4). Weights are read compressed and
// spread to four on the way into registers or the tile: half the traffic, a dense layer's sums.
// Pattern: arXiv 2104.08378. Where k % 8 = 0 two pairs are read as one vec4 through v4, the same
// buffer.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> v: array<vec2<T>>;
@group(0) @binding(2) var<storage, read> v4: array<T4>;
@group(0) @binding(3) var<storage, read> p: array<u32>;
@group(0) @binding(4) var<storage, read> b: array<T>;
@group(0) @binding(5) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;

fn write(row: u32, col: u32, dot: f32) {
    if (row < params.m && col < params.n) {
        y[row * params.n + col] = to_storage(dot + f32(b[col]));
    }
}

// Four rows `down` apart by four columns `across` apart.
fn write_block(row: u32, down: u32, col: u32, across: u32, acc: mat4x4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        write(row, col + c * across, acc[0][c]);
        write(row + down, col + c * across, acc[1][c]);
        write(row + 2u * down, col + c * across, acc[2][c]);
        write(row + 3u * down, col + c * across, acc[3][c]);
    }
}

// Rows and columns beyond the matrix load the last one and are not stored.
fn last_row(row: u32) -> u32 {
    return min(row, params.m - 1u);
}

fn last_col(col: u32) -> u32 {
    return min(col, params.n - 1u);
}

// Four elements of a row, zero beyond it; a row may start anywhere in a vector.
fn load(any_row: u32, quad: u32) -> vec4<f32> {
    if (4u * quad >= params.k) { return vec4<f32>(); }
    let at = last_row(any_row) * params.k + 4u * quad;
    let a = vec4<f32>(x4[at / 4u]);
    if (params.k % 4u == 0u) { return a; }
    let n = vec4<f32>(x4[min(at / 4u + 1u, (params.m * params.k - 1u) / 4u)]);
    var out = a;
    switch at % 4u {
        case 1u: { out = vec4<f32>(a.yzw, n.x); }
        case 2u: { out = vec4<f32>(a.zw, n.xy); }
        case 3u: { out = vec4<f32>(a.w, n.xyz); }
        default: {}
    }
    let inside = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad < vec4<u32>(params.k);
    return select(vec4<f32>(), out, inside);
}

fn rows4(row: u32, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        load(row, quad), load(row + 1u, quad), load(row + 2u, quad), load(row + 3u, quad));
}

// The four weights of a group, of which two are given with their positions in the lowest bits.
fn spread_pair(pair: vec2<f32>, code: u32) -> vec4<f32> {
    let place = vec4<u32>(0u, 1u, 2u, 3u);
    let first = select(vec4<f32>(), vec4<f32>(pair.x), place == vec4<u32>(code & 3u));
    return select(first, vec4<f32>(pair.y), place == vec4<u32>((code >> 2u) & 3u));
}

// The four weights of a group, zero where none is.
fn spread(col: u32, group: u32) -> vec4<f32> {
    let groups = (params.k + 3u) / 4u;
    if (group >= groups) { return vec4<f32>(); }
    let code = p[last_col(col) * ((groups + 7u) / 8u) + group / 8u] >> (4u * (group % 8u));
    return spread_pair(vec2<f32>(v[last_col(col) * groups + group]), code);
}

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

// Four rows and four columns WG apart for each invocation.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    var acc: mat4x4<f32>;
    for (var i = 0u; i < (params.k + 3u) / 4u; i++) {
        add_products(&acc, rows4(row, i), mat4x4<f32>(
            spread(col, i), spread(col + WG, i), spread(col + 2u * WG, i),
            spread(col + 3u * WG, i)));
    }
    write_block(row, 1u, col, WG, acc);
}

// 64 rows by 64 columns by 16 along k, each invocation four by four, 16 apart. Rows are five vec4
// apart, so that neighbours are on other banks.
var<workgroup> x_tile: array<vec4<f32>, 320>;
var<workgroup> w_tile: array<vec4<f32>, 320>;

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    var acc: mat4x4<f32>;
    for (var first = 0u; first < (params.k + 3u) / 4u; first += 4u) {
        x_tile[at] = load(wid.y * 64u + lane / 4u, first + lane % 4u);
        w_tile[at] = spread(wid.x * 64u + lane / 4u, first + lane % 4u);
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
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

// Sixteen rows by eight columns for each of the eight invocations of a subgroup: invocation i loads
// the rows i and i + 8, and the others get them by broadcast, as in `linear`. Weights are spread
// once for sixteen rows.
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

fn write_rows(row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    for (var c = 0u; c < 4u; c++) {
        write(row + 0u, col + 8u * c, (*acc)[0][c]);
        write(row + 1u, col + 8u * c, (*acc)[1][c]);
        write(row + 2u, col + 8u * c, (*acc)[2][c]);
        write(row + 3u, col + 8u * c, (*acc)[3][c]);
        write(row + 4u, col + 8u * c, (*acc)[4][c]);
        write(row + 5u, col + 8u * c, (*acc)[5][c]);
        write(row + 6u, col + 8u * c, (*acc)[6][c]);
        write(row + 7u, col + 8u * c, (*acc)[7][c]);
    }
}

// Of two neighbouring groups of a column: four weights, and a word of positions for eight groups.
fn pairs_at(col: u32, i: u32) -> vec4<f32> {
    return vec4<f32>(v4[last_col(col) * (params.k / 8u) + i]);
}

fn positions_at(col: u32, word: u32) -> u32 {
    return p[last_col(col) * ((params.k + 31u) / 32u) + word];
}

// The same of four columns eight apart.
fn pairs4(col: u32, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(pairs_at(col, i), pairs_at(col + 8u, i),
        pairs_at(col + 16u, i), pairs_at(col + 24u, i));
}

fn positions4(col: u32, word: u32) -> vec4<u32> {
    return vec4<u32>(positions_at(col, word), positions_at(col + 8u, word),
        positions_at(col + 16u, word), positions_at(col + 24u, word));
}

// The first and the second of the two groups.
fn first_of(pairs: mat4x4<f32>, codes: vec4<u32>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        spread_pair(pairs[0].xy, codes.x), spread_pair(pairs[1].xy, codes.y),
        spread_pair(pairs[2].xy, codes.z), spread_pair(pairs[3].xy, codes.w)));
}

fn second_of(pairs: mat4x4<f32>, codes: vec4<u32>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(
        spread_pair(pairs[0].zw, codes.x >> 4u), spread_pair(pairs[1].zw, codes.y >> 4u),
        spread_pair(pairs[2].zw, codes.z >> 4u), spread_pair(pairs[3].zw, codes.w >> 4u)));
}

// A vector of a row where k % 4 = 0.
fn row4(row: u32, quad: u32) -> vec4<f32> {
    return vec4<f32>(x4[last_row(row) * (params.k / 4u) + quad]);
}

// k % 8 = 0.
@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let end = params.k / 8u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var word = 0u; 4u * word < end; word++) {
        var left_codes = positions4(col, word);
        var right_codes = positions4(col + 32u, word);
        for (var i = 4u * word; i < min(4u * word + 4u, end); i++) {
            let left = pairs4(col, i);
            let right = pairs4(col + 32u, i);
            let upper = row4(row + lane, 2u * i);
            let lower = row4(row + 8u + lane, 2u * i);
            let first_left = first_of(left, left_codes);
            add_rows(&upper_left, upper, first_left);
            add_rows(&lower_left, lower, first_left);
            let first_right = first_of(right, right_codes);
            add_rows(&upper_right, upper, first_right);
            add_rows(&lower_right, lower, first_right);
            let upper_next = row4(row + lane, 2u * i + 1u);
            let lower_next = row4(row + 8u + lane, 2u * i + 1u);
            let second_left = second_of(left, left_codes);
            add_rows(&upper_left, upper_next, second_left);
            add_rows(&lower_left, lower_next, second_left);
            let second_right = second_of(right, right_codes);
            add_rows(&upper_right, upper_next, second_right);
            add_rows(&lower_right, lower_next, second_right);
            left_codes >>= vec4<u32>(8u);
            right_codes >>= vec4<u32>(8u);
        }
    }
    write_rows(row, col, &upper_left);
    write_rows(row, col + 32u, &upper_right);
    write_rows(row + 8u, col, &lower_left);
    write_rows(row + 8u, col + 32u, &lower_right);
}

// Sixteen rows by four columns, any k.
@compute @workgroup_size(8)
fn broadcast_any(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.y * 16u;
    let col = wid.x * 32u + lane;
    var upper: array<vec4<f32>, 8>;
    var lower: array<vec4<f32>, 8>;
    for (var i = 0u; i < (params.k + 3u) / 4u; i++) {
        let cols = transpose(mat4x4<f32>(spread(col, i), spread(col + 8u, i),
            spread(col + 16u, i), spread(col + 24u, i)));
        add_rows(&upper, load(row + lane, i), cols);
        add_rows(&lower, load(row + 8u + lane, i), cols);
    }
    write_rows(row, col, &upper);
    write_rows(row + 8u, col, &lower);
}
