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
