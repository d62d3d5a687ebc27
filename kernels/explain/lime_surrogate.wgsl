// LIME (arXiv 1602.04938): a ridge regression of a model's outputs on the presence of features,
// near the instance that is explained.
// z[n, 2] (bits of 64 features), dist[n], y[n, c] -> beta[c, features], intercept[c].
// Sample weights sqrt(exp(-d^2 / width^2)); the intercept is not penalised, so features and
// outputs are centred on their weighted means. All weights 0 give 0.
//
// Cholesky in a fixed order; the diagonal of the factor is stored inverted.

struct Params { n: u32, features: u32, c: u32, falloff: f32, alpha: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> z: array<u32>;
@group(0) @binding(2) var<storage, read> dist: array<f32>;
@group(0) @binding(3) var<storage, read> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> intercept: array<f32>;
@group(0) @binding(6) var<storage, read_write> weights: array<f32>;
@group(0) @binding(7) var<storage, read_write> means: array<f32>;
@group(0) @binding(8) var<storage, read_write> gram: array<f32>;

override WG: u32 = 64u;

// Beyond this exponent a weight is 0.
const FAR: f32 = 80.0;
const MAX: u32 = 50u;

fn bit(row: u32, feature: u32) -> f32 {
    return f32((z[2u * row + feature / 32u] >> (feature % 32u)) & 1u);
}

// One invocation a sample; falloff is 1 / (2 width^2), the square root taken of the exponent.
@compute @workgroup_size(WG)
fn weigh(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.x * WG + lane;
    if (row >= params.n) { return; }
    let exponent = dist[row] * dist[row] * params.falloff;
    weights[row] = select(exp(-min(exponent, FAR)), 0.0, exponent > FAR);
}

fn mean(sum: f32, total: f32) -> f32 {
    if (total > 0.0) { return sum / total; }
    return 0.0;
}

// One invocation a feature, and one more for the total weight.
@compute @workgroup_size(WG)
fn centre(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let feature = wid.x * WG + lane;
    if (feature > params.features) { return; }
    var total = 0.0;
    var sum = 0.0;
    for (var row = 0u; row < params.n; row++) {
        total += weights[row];
        if (feature < params.features) { sum += weights[row] * bit(row, feature); }
    }
    means[feature] = select(total, mean(sum, total), feature < params.features);
}

fn centred(row: u32, feature: u32) -> f32 {
    return bit(row, feature) - means[feature];
}

// One invocation an element of the lower triangle of the normal matrix.
@compute @workgroup_size(WG)
fn normal(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = params.features;
    let index = wid.x * WG + lane;
    let i = index / m;
    let j = index % m;
    if (i >= m || j > i) { return; }
    var sum = 0.0;
    for (var row = 0u; row < params.n; row++) {
        sum += weights[row] * (centred(row, i) * centred(row, j));
    }
    gram[index] = sum + select(0.0, params.alpha, i == j);
}

fn mean_output(column: u32) -> f32 {
    var sum = 0.0;
    for (var row = 0u; row < params.n; row++) { sum += weights[row] * y[row * params.c + column]; }
    return mean(sum, means[params.features]);
}

// One invocation an element of a right-hand side, which waits in beta: solving is then short enough
// for llvmpipe, which ends every loop of an invocation after 65,535 iterations in all.
@compute @workgroup_size(WG)
fn sides(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.c * params.features) { return; }
    let column = index / params.features;
    let feature = index % params.features;
    let level = mean_output(column);
    var sum = 0.0;
    for (var row = 0u; row < params.n; row++) {
        sum += weights[row] * (centred(row, feature) * (y[row * params.c + column] - level));
    }
    beta[index] = sum;
}

// One invocation factorises in place: no barrier.
@compute @workgroup_size(1)
fn factor() {
    let m = params.features;
    for (var j = 0u; j < m; j++) {
        for (var i = j; i < m; i++) {
            var rest = gram[i * m + j];
            for (var k = 0u; k < j; k++) { rest -= gram[i * m + k] * gram[j * m + k]; }
            if (i > j) { gram[i * m + j] = rest * gram[j * m + j]; }
            else { gram[j * m + j] = inverseSqrt(rest); }
        }
    }
}

// One invocation a column, its row of beta holding the vector: no barrier.
@compute @workgroup_size(WG)
fn solve_thread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = params.features;
    let column = wid.x * WG + lane;
    if (column >= params.c) { return; }
    let base = column * m;
    let level = mean_output(column);
    for (var i = 0u; i < m; i++) {
        var rest = beta[base + i];
        for (var k = 0u; k < i; k++) { rest -= gram[i * m + k] * beta[base + k]; }
        beta[base + i] = rest * gram[i * m + i];
    }
    var at_zero = level;
    for (var i = m; i > 0u; i--) {
        let at = i - 1u;
        var rest = beta[base + at];
        for (var k = i; k < m; k++) { rest -= gram[k * m + at] * beta[base + k]; }
        beta[base + at] = rest * gram[at * m + at];
        at_zero -= means[at] * beta[base + at];
    }
    intercept[column] = at_zero;
}

var<workgroup> lower: array<f32, 2500>;
var<workgroup> inverted: array<f32, MAX>;
var<workgroup> first: array<f32, MAX>;
var<workgroup> second: array<f32, MAX>;

// One workgroup a column, one invocation a row of the matrix; each factorises for itself.
@compute @workgroup_size(64)
fn solve_group(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = params.features;
    let column = wid.x;
    for (var at = lane; at < m * m; at += 64u) {
        if (at % m <= at / m) { lower[at] = gram[at]; }
    }
    let level = mean_output(column);
    if (lane < m) { first[lane] = beta[column * m + lane]; }
    workgroupBarrier();
    for (var j = 0u; j < m; j++) {
        var pivot = lower[j * m + j];
        for (var k = 0u; k < j; k++) { pivot -= lower[j * m + k] * lower[j * m + k]; }
        let inverse = inverseSqrt(pivot);
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
    if (lane < m) { beta[column * m + lane] = first[lane]; }
    if (lane == 0u) {
        var at_zero = level;
        for (var i = 0u; i < m; i++) { at_zero -= means[i] * first[i]; }
        intercept[column] = at_zero;
    }
}

// `broadcast`: subgroups of eight, whose invocations load a row each of eight and get the others by
// shuffle from `at_lane`; rows are added in order all the same.

// Weight and features of a sample.
struct Row { weight: f32, low: u32, high: u32 }

fn load_row(row: u32) -> Row {
    let at = min(row, params.n - 1u);
    return Row(select(0.0, weights[at], row < params.n), z[2u * at], z[2u * at + 1u]);
}

fn has(own: Row, at_lane: u32, feature: u32) -> f32 {
    let word = subgroupShuffle(select(own.low, own.high, feature >= 32u), at_lane);
    return f32((word >> (feature % 32u)) & 1u);
}

// Adds one of eight rows to the weighted sum of a feature and to the total weight.
fn add_mean(sums: vec2<f32>, own: Row, at_lane: u32, feature: u32) -> vec2<f32> {
    let weight = subgroupShuffle(own.weight, at_lane);
    return sums + vec2<f32>(weight * has(own, at_lane, feature), weight);
}

// Eight features, and with the first of them the total weight.
@compute @workgroup_size(8)
fn centre_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let feature = 8u * wid.x + lane;
    let n = params.n;
    var sums = vec2<f32>();
    for (var row = 0u; row < n; row += 8u) {
        let own = load_row(row + lane);
        sums = add_mean(sums, own, 0u, feature);
        sums = add_mean(sums, own, 1u, feature);
        sums = add_mean(sums, own, 2u, feature);
        sums = add_mean(sums, own, 3u, feature);
        sums = add_mean(sums, own, 4u, feature);
        sums = add_mean(sums, own, 5u, feature);
        sums = add_mean(sums, own, 6u, feature);
        sums = add_mean(sums, own, 7u, feature);
    }
    if (feature < params.features) { means[feature] = mean(sums.x, sums.y); }
    if (feature == 0u) { means[params.features] = sums.y; }
}

// Sums of eight columns in one row of the normal matrix.
struct Products { left: vec4<f32>, right: vec4<f32> }

fn add_products(
    before: Products, own: Row, at_lane: u32, at: vec2<u32>, level: vec2<f32>,
) -> Products {
    let weight = subgroupShuffle(own.weight, at_lane);
    let u = has(own, at_lane, at.x) - level.x;
    let v = has(own, at_lane, at.y) - level.y;
    return Products(
        before.left + weight * (u * four_of(v, 0u)), before.right + weight * (u * four_of(v, 4u)));
}

// Eight rows and eight columns of the normal matrix, one row an invocation.
@compute @workgroup_size(8)
fn normal_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    if (wid.x > wid.y) { return; }
    let last = params.features - 1u;
    let n = params.n;
    let i = 8u * wid.y + lane;
    let first = 8u * wid.x;
    let at = vec2<u32>(i, first + lane);
    let level = vec2<f32>(means[min(i, last)], means[min(first + lane, last)]);
    var sum = Products(vec4<f32>(), vec4<f32>());
    for (var row = 0u; row < n; row += 8u) {
        let own = load_row(row + lane);
        sum = add_products(sum, own, 0u, at, level);
        sum = add_products(sum, own, 1u, at, level);
        sum = add_products(sum, own, 2u, at, level);
        sum = add_products(sum, own, 3u, at, level);
        sum = add_products(sum, own, 4u, at, level);
        sum = add_products(sum, own, 5u, at, level);
        sum = add_products(sum, own, 6u, at, level);
        sum = add_products(sum, own, 7u, at, level);
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

fn four_of(v: f32, first: u32) -> vec4<f32> {
    return vec4<f32>(subgroupShuffle(v, first), subgroupShuffle(v, first + 1u),
        subgroupShuffle(v, first + 2u), subgroupShuffle(v, first + 3u));
}

fn put_normal(i: u32, j: u32, sum: f32) {
    let m = params.features;
    if (i < m && j <= i) { gram[i * m + j] = sum + select(0.0, params.alpha, i == j); }
}

// Outputs of a sample in four columns, the last of them where there are fewer.
fn outputs(row: u32, column: u32) -> vec4<f32> {
    let base = min(row, params.n - 1u) * params.c;
    let last = params.c - 1u;
    return vec4<f32>(y[base + min(column, last)], y[base + min(column + 1u, last)],
        y[base + min(column + 2u, last)], y[base + min(column + 3u, last)]);
}

fn shuffled(v: vec4<f32>, at_lane: u32) -> vec4<f32> {
    return vec4<f32>(subgroupShuffle(v.x, at_lane), subgroupShuffle(v.y, at_lane),
        subgroupShuffle(v.z, at_lane), subgroupShuffle(v.w, at_lane));
}

fn add_side(
    before: vec4<f32>, own: Row, rest: vec4<f32>, at_lane: u32, feature: u32, level: f32,
) -> vec4<f32> {
    let u = has(own, at_lane, feature) - level;
    return before + subgroupShuffle(own.weight, at_lane) * (u * shuffled(rest, at_lane));
}

// Eight features of four right-hand sides.
@compute @workgroup_size(8)
fn side_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let m = params.features;
    let n = params.n;
    let feature = 8u * wid.x + lane;
    let column = 4u * wid.y;
    let total = means[m];
    let centre_of = means[min(feature, m - 1u)];
    var share = vec4<f32>();
    for (var row = lane; row < n; row += 8u) { share += weights[row] * outputs(row, column); }
    let level = subgroupAdd(share) / select(1.0, total, total > 0.0);
    var sum = vec4<f32>();
    for (var row = 0u; row < n; row += 8u) {
        let own = load_row(row + lane);
        let rest = outputs(row + lane, column) - level;
        sum = add_side(sum, own, rest, 0u, feature, centre_of);
        sum = add_side(sum, own, rest, 1u, feature, centre_of);
        sum = add_side(sum, own, rest, 2u, feature, centre_of);
        sum = add_side(sum, own, rest, 3u, feature, centre_of);
        sum = add_side(sum, own, rest, 4u, feature, centre_of);
        sum = add_side(sum, own, rest, 5u, feature, centre_of);
        sum = add_side(sum, own, rest, 6u, feature, centre_of);
        sum = add_side(sum, own, rest, 7u, feature, centre_of);
    }
    put_side(column, feature, sum.x);
    put_side(column + 1u, feature, sum.y);
    put_side(column + 2u, feature, sum.z);
    put_side(column + 3u, feature, sum.w);
}

fn put_side(column: u32, feature: u32, sum: f32) {
    let m = params.features;
    if (column < params.c && feature < m) { beta[column * m + feature] = sum; }
}

// Eight rows at a time of each column of the factor.
@compute @workgroup_size(8)
fn factor_rows(@builtin(subgroup_invocation_id) lane: u32) {
    let m = params.features;
    for (var j = 0u; j < m; j++) {
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
            if (first == j) { inverse = inverseSqrt(subgroupBroadcast(rest, 0u)); }
            if (first + lane < m) {
                gram[i * m + j] = select(rest * inverse, inverse, i == j);
            }
        }
        storageBarrier();
    }
}
