// Kernel SHAP (arXiv 1705.07874): Shapley values as a weighted least-squares fit of a model's
// outputs on coalitions of players.
// z[n, 2] (bits of 64 players), w[n], y[n, c], ends[2, c] (no player, all players)
// -> phi[c, players], solved[c] (1, or 0 for a singular system, whose phi are 0).
//
// The two end points are constraints, not rows of large weight: phi sums to their difference by
// eliminating the last player. A pivot below RANK of its diagonal element means that the coalitions
// cannot tell the players apart. Cholesky in a fixed order; the diagonal of the factor is stored
// inverted.

struct Params { n: u32, players: u32, c: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> y: array<f32>;
@group(0) @binding(4) var<storage, read> ends: array<f32>;
@group(0) @binding(5) var<storage, read_write> phi: array<f32>;
@group(0) @binding(6) var<storage, read_write> solved: array<u32>;
@group(0) @binding(7) var<storage, read_write> gram: array<f32>;

override WG: u32 = 64u;

const RANK: f32 = 0.000244140625; // 2^-12
const MAX: u32 = 49u;

fn bit(row: u32, player: u32) -> f32 {
    return f32((z[2u * row + player / 32u] >> (player % 32u)) & 1u);
}

// Element of the design matrix without the last player.
fn design(row: u32, player: u32) -> f32 {
    return bit(row, player) - bit(row, params.players - 1u);
}

// One invocation an element of the lower triangle of the normal matrix.
@compute @workgroup_size(WG)
fn normal(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = params.players - 1u;
    let index = wid.x * WG + lane;
    let i = index / m;
    let j = index % m;
    if (i >= m || j > i) { return; }
    var sum = 0.0;
    for (var row = 0u; row < params.n; row++) { sum += w[row] * (design(row, i) * design(row, j)); }
    gram[index] = sum;
}

// One invocation an element of a right-hand side, which waits in phi: solving is then short enough
// for llvmpipe, which ends every loop of an invocation after 65,535 iterations in all.
@compute @workgroup_size(WG)
fn sides(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.c * params.players) { return; }
    let column = index / params.players;
    let i = index % params.players;
    let none = ends[column];
    let gain = ends[params.c + column] - none;
    var sum = 0.0;
    for (var row = 0u; row < params.n; row++) {
        let rest = y[row * params.c + column] - none - bit(row, params.players - 1u) * gain;
        sum += w[row] * (design(row, i) * rest);
    }
    phi[index] = sum;
}

// One invocation factorises in place: no barrier. A first element of 0 says singular.
@compute @workgroup_size(1)
fn factor() {
    let m = params.players - 1u;
    var singular = false;
    for (var j = 0u; j < m; j++) {
        for (var i = j; i < m; i++) {
            var rest = gram[i * m + j];
            for (var k = 0u; k < j; k++) { rest -= gram[i * m + k] * gram[j * m + k]; }
            if (i > j) {
                gram[i * m + j] = rest * gram[j * m + j];
            } else {
                let small = rest <= RANK * gram[j * m + j];
                singular = singular || small;
                gram[j * m + j] = select(inverseSqrt(select(rest, 1.0, small)), 0.0, singular);
            }
        }
    }
    if (singular) { gram[0] = 0.0; }
}

// One invocation a column, its row of phi holding the vector: no barrier.
@compute @workgroup_size(WG)
fn solve_thread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = params.players - 1u;
    let column = wid.x * WG + lane;
    if (column >= params.c) { return; }
    let base = column * params.players;
    let singular = m > 0u && gram[0] == 0.0;
    for (var i = 0u; i < m; i++) {
        var rest = phi[base + i];
        for (var k = 0u; k < i; k++) { rest -= gram[i * m + k] * phi[base + k]; }
        phi[base + i] = rest * gram[i * m + i];
    }
    var last = ends[params.c + column] - ends[column];
    for (var i = m; i > 0u; i--) {
        let at = i - 1u;
        var rest = phi[base + at];
        for (var k = i; k < m; k++) { rest -= gram[k * m + at] * phi[base + k]; }
        phi[base + at] = select(rest * gram[at * m + at], 0.0, singular);
        last -= phi[base + at];
    }
    phi[base + m] = select(last, 0.0, singular);
    solved[column] = select(1u, 0u, singular);
}

var<workgroup> lower: array<f32, 2401>;
var<workgroup> inverted: array<f32, MAX>;
var<workgroup> first: array<f32, MAX>;
var<workgroup> second: array<f32, MAX>;

// One workgroup a column, one invocation a row of the matrix; each factorises for itself.
@compute @workgroup_size(64)
fn solve_group(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = params.players - 1u;
    let column = wid.x;
    let base = column * params.players;
    for (var at = lane; at < m * m; at += 64u) {
        if (at % m <= at / m) { lower[at] = gram[at]; }
    }
    if (lane < m) { first[lane] = phi[base + lane]; }
    workgroupBarrier();
    var singular = false;
    for (var j = 0u; j < m; j++) {
        var pivot = lower[j * m + j];
        let limit = RANK * pivot;
        for (var k = 0u; k < j; k++) { pivot -= lower[j * m + k] * lower[j * m + k]; }
        singular = singular || pivot <= limit;
        // Zeros instead of garbage from here on.
        let inverse = select(inverseSqrt(select(pivot, 1.0, singular)), 0.0, singular);
        if (lane == j) { inverted[j] = inverse; }
        if (lane > j && lane < m) {
            var rest = lower[lane * m + j];
            for (var k = 0u; k < j; k++) { rest -= lower[lane * m + k] * lower[j * m + k]; }
            lower[lane * m + j] = rest * inverse;
        }
        workgroupBarrier();
    }
    for (var j = 0u; j < m; j++) {
        let value = first[j] * inverted[j];
        if (lane == j) { second[j] = value; }
        if (lane > j && lane < m) { first[lane] -= lower[lane * m + j] * value; }
        workgroupBarrier();
    }
    for (var i = m; i > 0u; i--) {
        let j = i - 1u;
        let value = second[j] * inverted[j];
        if (lane == j) { first[j] = value; }
        if (lane < j) { second[lane] -= lower[j * m + lane] * value; }
        workgroupBarrier();
    }
    if (lane < m) { phi[base + lane] = select(first[lane], 0.0, singular); }
    if (lane == 0u) {
        var last = ends[params.c + column] - ends[column];
        for (var i = 0u; i < m; i++) { last -= first[i]; }
        phi[base + m] = select(last, 0.0, singular);
        solved[column] = select(1u, 0u, singular);
    }
}

// `broadcast`: subgroups of eight, whose invocations load a row each of eight and get the others by
// shuffle from `at_lane`; rows are added in order all the same.

// Weight and players of a coalition; the last player's bit.
struct Row { weight: f32, low: u32, high: u32 }

fn load_row(row: u32) -> Row {
    let at = min(row, params.n - 1u);
    return Row(select(0.0, w[at], row < params.n), z[2u * at], z[2u * at + 1u]);
}

fn has(own: Row, at_lane: u32, player: u32) -> f32 {
    let word = subgroupShuffle(select(own.low, own.high, player >= 32u), at_lane);
    return f32((word >> (player % 32u)) & 1u);
}

// The last player of each of eight coalitions, in the place of its row.
fn last_of(own: Row) -> f32 {
    let last = params.players - 1u;
    return f32((select(own.low, own.high, last >= 32u) >> (last % 32u)) & 1u);
}

fn four_of(v: f32, first: u32) -> vec4<f32> {
    return vec4<f32>(subgroupShuffle(v, first), subgroupShuffle(v, first + 1u),
        subgroupShuffle(v, first + 2u), subgroupShuffle(v, first + 3u));
}

// Sums of eight columns in one row of the normal matrix.
struct Products { left: vec4<f32>, right: vec4<f32> }

fn add_products(
    before: Products, own: Row, last: f32, at_lane: u32, at: vec2<u32>,
) -> Products {
    let weight = subgroupShuffle(own.weight, at_lane);
    let without = subgroupShuffle(last, at_lane);
    let u = has(own, at_lane, at.x) - without;
    let v = has(own, at_lane, at.y) - without;
    return Products(
        before.left + weight * (u * four_of(v, 0u)), before.right + weight * (u * four_of(v, 4u)));
}

// Eight rows and eight columns of the normal matrix, one row an invocation.
@compute @workgroup_size(8)
fn normal_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    if (wid.x > wid.y) { return; }
    let n = params.n;
    let i = 8u * wid.y + lane;
    let first = 8u * wid.x;
    let at = vec2<u32>(i, first + lane);
    var sum = Products(vec4<f32>(), vec4<f32>());
    for (var row = 0u; row < n; row += 8u) {
        let own = load_row(row + lane);
        let last = last_of(own);
        sum = add_products(sum, own, last, 0u, at);
        sum = add_products(sum, own, last, 1u, at);
        sum = add_products(sum, own, last, 2u, at);
        sum = add_products(sum, own, last, 3u, at);
        sum = add_products(sum, own, last, 4u, at);
        sum = add_products(sum, own, last, 5u, at);
        sum = add_products(sum, own, last, 6u, at);
        sum = add_products(sum, own, last, 7u, at);
    }
    put_normal(i, first, sum.left.x);
    put_normal(i, first + 1u, sum.left.y);
    put_normal(i, first + 2u, sum.left.z);
    put_normal(i, first + 3u, sum.left.w);
    put_normal(i, first + 4u, sum.right.x);
    put_normal(i, first + 5u, sum.right.y);
    put_normal(i, first + 6u, sum.right.z);
    put_normal(i, first + 7u, sum.right.w);
}

fn put_normal(i: u32, j: u32, sum: f32) {
    let m = params.players - 1u;
    if (i < m && j <= i) { gram[i * m + j] = sum; }
}

// Four outputs of row `base` of y or of the ends, the last one where there are fewer.
fn outputs(base: u32, column: u32) -> vec4<f32> {
    let last = params.c - 1u;
    return vec4<f32>(y[base + min(column, last)], y[base + min(column + 1u, last)],
        y[base + min(column + 2u, last)], y[base + min(column + 3u, last)]);
}

fn ends_of(base: u32, column: u32) -> vec4<f32> {
    let last = params.c - 1u;
    return vec4<f32>(ends[base + min(column, last)], ends[base + min(column + 1u, last)],
        ends[base + min(column + 2u, last)], ends[base + min(column + 3u, last)]);
}

fn shuffled(v: vec4<f32>, at_lane: u32) -> vec4<f32> {
    return vec4<f32>(subgroupShuffle(v.x, at_lane), subgroupShuffle(v.y, at_lane),
        subgroupShuffle(v.z, at_lane), subgroupShuffle(v.w, at_lane));
}

fn add_side(
    before: vec4<f32>, own: Row, last: f32, rest: vec4<f32>, at_lane: u32, player: u32,
) -> vec4<f32> {
    let u = has(own, at_lane, player) - subgroupShuffle(last, at_lane);
    return before + subgroupShuffle(own.weight, at_lane) * (u * shuffled(rest, at_lane));
}

// Eight players of four right-hand sides.
@compute @workgroup_size(8)
fn side_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let n = params.n;
    let player = 8u * wid.x + lane;
    let column = 4u * wid.y;
    let none = ends_of(0u, column);
    let gain = ends_of(params.c, column) - none;
    var sum = vec4<f32>();
    for (var row = 0u; row < n; row += 8u) {
        let own = load_row(row + lane);
        let last = last_of(own);
        let at = min(row + lane, n - 1u) * params.c;
        let rest = outputs(at, column) - none - last * gain;
        sum = add_side(sum, own, last, rest, 0u, player);
        sum = add_side(sum, own, last, rest, 1u, player);
        sum = add_side(sum, own, last, rest, 2u, player);
        sum = add_side(sum, own, last, rest, 3u, player);
        sum = add_side(sum, own, last, rest, 4u, player);
        sum = add_side(sum, own, last, rest, 5u, player);
        sum = add_side(sum, own, last, rest, 6u, player);
        sum = add_side(sum, own, last, rest, 7u, player);
    }
    put_side(column, player, sum.x);
    put_side(column + 1u, player, sum.y);
    put_side(column + 2u, player, sum.z);
    put_side(column + 3u, player, sum.w);
}

fn put_side(column: u32, player: u32, sum: f32) {
    let players = params.players;
    if (column < params.c && player < players) { phi[column * players + player] = sum; }
}

// Eight rows at a time of each column of the factor. A first element of 0 says singular.
@compute @workgroup_size(8)
fn factor_rows(@builtin(subgroup_invocation_id) lane: u32) {
    let m = params.players - 1u;
    var singular = false;
    for (var j = 0u; j < m; j++) {
        let limit = RANK * gram[j * m + j];
        var inverse = 0.0;
        for (var first = j; first < m; first += 8u) {
            let i = min(first + lane, m - 1u);
            var rest = gram[i * m + j];
            for (var block = 0u; block < j; block += 8u) {
                let above = gram[j * m + min(block + lane, j)];
                for (var k = block; k < min(block + 8u, j); k++) {
                    rest -= gram[i * m + k] * subgroupShuffle(above, k - block);
                }
            }
            if (first == j) {
                let pivot = subgroupBroadcast(rest, 0u);
                singular = singular || pivot <= limit;
                inverse = select(inverseSqrt(select(pivot, 1.0, singular)), 0.0, singular);
            }
            if (first + lane < m) {
                gram[i * m + j] = select(rest * inverse, inverse, i == j);
            }
        }
        storageBarrier();
    }
    if (singular && lane == 0u) { gram[0] = 0.0; }
}
