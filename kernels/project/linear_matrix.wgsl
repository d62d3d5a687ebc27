// Linear layer with an optional activation by cooperative matrices: y = act(x * w^T + b).
// x[m, k], w[n, k], b[n] -> y[m, n], where k is a multiple of 4.
//
// The prelude gives SIDE and the types Left, Right and Total, squares that a subgroup holds. A
// workgroup makes a tile of 4 by 4 of them from tiles of x and w in its memory, STEP along k at a
// time and zero beyond the matrices. Each subgroup adds up one of the four blocks, 2 by 2; where
// there are fewer subgroups than blocks, k is gone through again for the others. A square is
// stored whole, so results leave through workgroup memory, half a tile at a time.
// GELU: arXiv 1606.08415; its erf is 7.1.26 of Abramowitz and Stegun.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override ACTIVATION: u32 = 0u; // 0 none, 1 GELU by erf, 2 GELU by tanh, 3 GELU by sigmoid
override LANES: u32 = 128u; // a multiple of every subgroup size: subgroups must be full
override STEP: u32 = 16u; // a multiple of SIDE

const BLOCKS: u32 = 4u;
const BLOCK: u32 = 2u * SIDE; // rows of a block, and its columns
const TILE: u32 = 4u * SIDE;

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

// Four elements along k, zero beyond the matrix.
fn x_quad(row: u32, q: u32) -> T4 {
    let quads = params.k / 4u;
    let at = min(row, params.m - 1u) * quads + min(q, quads - 1u);
    return select(T4(), x4[at], row < params.m && q < quads);
}
fn w_quad(col: u32, q: u32) -> T4 {
    let quads = params.k / 4u;
    let at = min(col, params.n - 1u) * quads + min(q, quads - 1u);
    return select(T4(), w4[at], col < params.n && q < quads);
}

// Rows of x and of w, STEP elements each; then half a tile of results.
var<workgroup> x_tile: array<T, TILE * STEP>;
var<workgroup> w_tile: array<T, TILE * STEP>;
var<workgroup> totals: array<Sum, BLOCK * TILE>;

fn fill(tile: vec2<u32>, first: u32, lane: u32) {
    for (var i = lane; i < TILE * STEP / 4u; i += LANES) {
        let line = i / (STEP / 4u);
        let q = first / 4u + i % (STEP / 4u);
        let from_x = x_quad(tile.y * TILE + line, q);
        let from_w = w_quad(tile.x * TILE + line, q);
        for (var c = 0u; c < 4u; c++) {
            x_tile[4u * i + c] = from_x[c];
            w_tile[4u * i + c] = from_w[c];
        }
    }
}

// What the subgroups left of the blocks from `first` on, in the upper or the lower half of a tile.
fn empty(tile: vec2<u32>, half: u32, first: u32, subgroups: u32, lane: u32) {
    for (var i = lane; i < BLOCK * TILE; i += LANES) {
        let block = 2u * half + i % TILE / BLOCK;
        if (block >= first && block < first + subgroups) {
            write(tile.y * TILE + half * BLOCK + i / TILE, tile.x * TILE + i % TILE, totals[i]);
        }
    }
}

@compute @workgroup_size(LANES)
fn multiply(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    for (var first = 0u; first < BLOCKS; first += subgroups) {
        // Subgroups beyond the last block do what others do and store nothing.
        let block = (first + subgroup) % BLOCKS;
        let rows = block / 2u * BLOCK * STEP;
        let cols = block % 2u * BLOCK * STEP;
        for (var i = lane; i < SIDE * SIDE; i += LANES) { totals[i] = Sum(); }
        workgroupBarrier();
        var c00 = coopLoadT<Total>(&totals[0], SIDE);
        var c01 = coopLoadT<Total>(&totals[0], SIDE);
        var c10 = coopLoadT<Total>(&totals[0], SIDE);
        var c11 = coopLoadT<Total>(&totals[0], SIDE);
        for (var along = 0u; along < params.k; along += STEP) {
            fill(wid.xy, along, lane);
            workgroupBarrier();
            for (var s = 0u; s < STEP; s += SIDE) {
                // A row of w is a column of its transpose.
                let a0 = coopLoadT<Left>(&x_tile[rows + s], STEP);
                let a1 = coopLoadT<Left>(&x_tile[rows + SIDE * STEP + s], STEP);
                let b0 = coopLoad<Right>(&w_tile[cols + s], STEP);
                let b1 = coopLoad<Right>(&w_tile[cols + SIDE * STEP + s], STEP);
                c00 = coopMultiplyAdd(a0, b0, c00);
                c01 = coopMultiplyAdd(a0, b1, c01);
                c10 = coopMultiplyAdd(a1, b0, c10);
                c11 = coopMultiplyAdd(a1, b1, c11);
            }
            workgroupBarrier();
        }
        for (var half = 0u; half < 2u; half++) {
            if (first + subgroup < BLOCKS && block / 2u == half) {
                let at = block % 2u * BLOCK;
                coopStoreT(c00, &totals[at], TILE);
                coopStoreT(c01, &totals[at + SIDE], TILE);
                coopStoreT(c10, &totals[at + SIDE * TILE], TILE);
                coopStoreT(c11, &totals[at + SIDE * TILE + SIDE], TILE);
            }
            workgroupBarrier();
            empty(wid.xy, half, first, subgroups, lane);
            workgroupBarrier();
        }
    }
}
