// Linear layer on 2:4 sparse weights: y = x * w^T + b, where two of every four weights are zero.
// x[m, k], v[n, groups] pairs of weights, p[n, ceil(groups/8)] words of their positions, four bits
// a group (see prune_2_4), b[n] -> y[m, n]; groups = ceil(k/4). Weights are read compressed and
// spread to four on the way into registers or the tile: half the traffic, a dense layer's sums.
// Pattern: arXiv 2104.08378.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> v: array<vec2<T>>;
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

// The four weights of a group, zero where none is.
fn spread(col: u32, group: u32) -> vec4<f32> {
    let groups = (params.k + 3u) / 4u;
    if (group >= groups) { return vec4<f32>(); }
    let code = p[last_col(col) * ((groups + 7u) / 8u) + group / 8u] >> (4u * (group % 8u));
    let pair = vec2<f32>(v[last_col(col) * groups + group]);
    let place = vec4<u32>(0u, 1u, 2u, 3u);
    let first = select(vec4<f32>(), vec4<f32>(pair.x), place == vec4<u32>(code & 3u));
    return select(first, vec4<f32>(pair.y), place == vec4<u32>((code >> 2u) & 3u));
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
