// Attention over modalities: scores s_m = scale * query . x_m, weights softmax(s) over the present
// modalities of each sample, y = sum of weight_m * x_m.
// x[modalities, batch, d], query[d], present[batch] (bit m) -> y[batch, d].
// An absent modality is never read; a sample without any gives zeros.
//
// Where d % 4 = 0 `group4` and `registers` read and write vectors through the views x4, query4, y4;
// where d % 8 = 0 `registers8` reads eight elements at a time through x8.

struct Params { modalities: u32, batch: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> query: array<T>;
@group(0) @binding(2) var<storage, read> query4: array<T4>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
// A constant, so that loops over modalities unroll and their weights stay in registers.
override MODALITIES: u32 = 8u;

// Below every score.
const LOWEST: f32 = -3.0e38;

fn is_present(mask: u32, m: u32) -> bool {
    return ((mask >> m) & 1u) == 1u;
}

// Where an embedding starts in x.
fn start_of(m: u32, row: u32) -> u32 {
    return (m * params.batch + row) * params.d;
}

// Scores to weights that sum to 1 over the present modalities.
fn softmax(weights: ptr<function, array<f32, 8>>, mask: u32) {
    var peak = LOWEST;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) { peak = max(peak, (*weights)[m]); }
    }
    var total = 0.0;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            (*weights)[m] = exp((*weights)[m] - peak);
            total += (*weights)[m];
        }
    }
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) { (*weights)[m] /= total; }
    }
}

// One invocation a sample: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.batch) { return; }
    let mask = present[row];
    var weights: array<f32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            let start = start_of(m, row);
            var sum = 0.0;
            for (var i = 0u; i < params.d; i++) { sum += f32(query[i]) * f32(x[start + i]); }
            weights[m] = sum * params.scale;
        }
    }
    softmax(&weights, mask);
    for (var i = 0u; i < params.d; i++) {
        var sum = 0.0;
        for (var m = 0u; m < MODALITIES; m++) {
            if (is_present(mask, m)) { sum += weights[m] * f32(x[start_of(m, row) + i]); }
        }
        y[row * params.d + i] = to_storage(sum);
    }
}

var<workgroup> partial: array<f32, WG>;

// Sum over the workgroup, the same bits in every invocation.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    let sum = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return sum;
}

// One workgroup a sample, coalesced loads.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch) { return; }
    let mask = present[row];
    var weights: array<f32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            let start = start_of(m, row);
            var sum = 0.0;
            for (var i = lane; i < params.d; i += WG) { sum += f32(query[i]) * f32(x[start + i]); }
            weights[m] = reduce_sum(lane, sum) * params.scale;
        }
    }
    softmax(&weights, mask);
    for (var i = lane; i < params.d; i += WG) {
        var sum = 0.0;
        for (var m = 0u; m < MODALITIES; m++) {
            if (is_present(mask, m)) { sum += weights[m] * f32(x[start_of(m, row) + i]); }
        }
        y[row * params.d + i] = to_storage(sum);
    }
}

@compute @workgroup_size(WG)
fn group4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch) { return; }
    let mask = present[row];
    let quads = params.d / 4u;
    var weights: array<f32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            let start = start_of(m, row) / 4u;
            var sum = 0.0;
            for (var q = lane; q < quads; q += WG) {
                sum += dot(vec4<f32>(query4[q]), vec4<f32>(x4[start + q]));
            }
            weights[m] = reduce_sum(lane, sum) * params.scale;
        }
    }
    softmax(&weights, mask);
    for (var q = lane; q < quads; q += WG) {
        var sum = vec4<f32>();
        for (var m = 0u; m < MODALITIES; m++) {
            if (is_present(mask, m)) {
                sum += weights[m] * vec4<f32>(x4[start_of(m, row) / 4u + q]);
            }
        }
        y4[row * quads + q] = to_storage4(sum);
    }
}

// Subgroups of eight, ROWS samples each, one after the other. Every invocation has up to 32
// vectors of a sample in registers, so that a modality is loaded once: its weight is relative to
// the largest score so far, and older sums shrink when that grows (arXiv 2205.14135). Below, k is
// a constant, so that what is not held, from VECTORS on, costs little.
override VECTORS: u32 = 16u;
override BY_EIGHTS: bool = false;
const ROWS: u32 = 8u;

struct Part { a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32> }

var<private> query_low: Part;
var<private> query_high: Part;
var<private> sum_low: Part;
var<private> sum_high: Part;
// The largest score so far and the sum of weights relative to it.
var<private> peak: f32;
var<private> total: f32;

// Which vector of a sample is the k-th of invocation i: invocations take turns, by eights in pairs.
fn place(i: u32, k: u32) -> u32 {
    return select(i + 8u * k, 2u * (i + 8u * (k / 2u)) + k % 2u, BY_EIGHTS);
}
// Vectors beyond the sample are zero.
fn of_query(i: u32, k: u32) -> vec4<f32> {
    let last = params.d / 4u - 1u;
    if (k >= VECTORS) { return vec4<f32>(); }
    return select(vec4<f32>(), vec4<f32>(query4[min(place(i, k), last)]), place(i, k) <= last);
}
fn of_x(start: u32, i: u32, k: u32) -> vec4<f32> {
    if (k >= VECTORS) { return vec4<f32>(); }
    return vec4<f32>(x4[start + min(place(i, k), params.d / 4u - 1u)]);
}
fn four_of_query(i: u32, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(of_query(i, k), of_query(i, k + 1u), of_query(i, k + 2u),
        of_query(i, k + 3u));
}
fn four_of_x(start: u32, i: u32, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(of_x(start, i, k), of_x(start, i, k + 1u), of_x(start, i, k + 2u),
        of_x(start, i, k + 3u));
}
fn part_of_query(i: u32, k: u32) -> Part {
    return Part(four_of_query(i, k), four_of_query(i, k + 4u), four_of_query(i, k + 8u),
        four_of_query(i, k + 12u));
}
fn part_of_x(start: u32, i: u32, k: u32) -> Part {
    return Part(four_of_x(start, i, k), four_of_x(start, i, k + 4u), four_of_x(start, i, k + 8u),
        four_of_x(start, i, k + 12u));
}
fn eight_of_x(start: u32, i: u32, k: u32) -> mat2x4<f32> {
    if (k >= VECTORS) { return mat2x4<f32>(); }
    return from_storage8(x8[start + min(place(i, k) / 2u, params.d / 8u - 1u)]);
}
fn eights_of_x(start: u32, i: u32, k: u32) -> mat4x4<f32> {
    let v = eight_of_x(start, i, k);
    let w = eight_of_x(start, i, k + 2u);
    return mat4x4<f32>(v[0], v[1], w[0], w[1]);
}
fn part_of_x8(start: u32, i: u32, k: u32) -> Part {
    return Part(eights_of_x(start, i, k), eights_of_x(start, i, k + 4u),
        eights_of_x(start, i, k + 8u), eights_of_x(start, i, k + 12u));
}

fn products(a: mat4x4<f32>, b: mat4x4<f32>) -> vec4<f32> {
    return (a[0] * b[0] + a[1] * b[1]) + (a[2] * b[2] + a[3] * b[3]);
}
fn score_part(q: Part, x: Part) -> vec4<f32> {
    return (products(q.a, x.a) + products(q.b, x.b)) + (products(q.c, x.c) + products(q.d, x.d));
}
fn grown(sum: Part, shrink: f32, x: Part, weight: f32) -> Part {
    return Part(sum.a * shrink + x.a * weight, sum.b * shrink + x.b * weight,
        sum.c * shrink + x.c * weight, sum.d * shrink + x.d * weight);
}
fn add_modality(low: Part, high: Part) {
    var own = score_part(query_low, low);
    if (VECTORS > 16u) { own += score_part(query_high, high); }
    let score = subgroupAdd((own.x + own.y) + (own.z + own.w)) * params.scale;
    let before = peak;
    peak = max(peak, score);
    let shrink = exp(before - peak);
    let weight = exp(score - peak);
    total = total * shrink + weight;
    sum_low = grown(sum_low, shrink, low, weight);
    if (VECTORS > 16u) { sum_high = grown(sum_high, shrink, high, weight); }
}

fn put(row: u32, i: u32, k: u32, v: vec4<f32>) {
    let quads = params.d / 4u;
    if (k < VECTORS && place(i, k) < quads) { y4[row * quads + place(i, k)] = to_storage4(v); }
}
fn put_four(row: u32, i: u32, k: u32, m: mat4x4<f32>, factor: f32) {
    put(row, i, k, m[0] * factor);
    put(row, i, k + 1u, m[1] * factor);
    put(row, i, k + 2u, m[2] * factor);
    put(row, i, k + 3u, m[3] * factor);
}
fn put_part(row: u32, i: u32, k: u32, sum: Part, factor: f32) {
    put_four(row, i, k, sum.a, factor);
    put_four(row, i, k + 4u, sum.b, factor);
    put_four(row, i, k + 8u, sum.c, factor);
    put_four(row, i, k + 12u, sum.d, factor);
}
fn put_sample(row: u32, i: u32) {
    let factor = 1.0 / select(total, 1.0, total == 0.0);
    put_part(row, i, 0u, sum_low, factor);
    if (VECTORS > 16u) { put_part(row, i, 16u, sum_high, factor); }
}
fn begin_sample() {
    peak = LOWEST;
    total = 0.0;
    sum_low = Part();
    sum_high = Part();
}
fn hold_query(i: u32) {
    query_low = part_of_query(i, 0u);
    if (VECTORS > 16u) { query_high = part_of_query(i, 16u); }
}

@compute @workgroup_size(8)
fn registers(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) i: u32,
) {
    let first = (wid.x + wid.y * groups.x) * ROWS;
    hold_query(i);
    for (var row = first; row < min(first + ROWS, params.batch); row++) {
        begin_sample();
        for (var m = 0u; m < MODALITIES; m++) {
            if (!is_present(present[row], m)) { continue; }
            let start = start_of(m, row) / 4u;
            add_modality(part_of_x(start, i, 0u), part_of_x(start, i, 16u));
        }
        put_sample(row, i);
    }
}

@compute @workgroup_size(8)
fn registers8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) i: u32,
) {
    let first = (wid.x + wid.y * groups.x) * ROWS;
    hold_query(i);
    for (var row = first; row < min(first + ROWS, params.batch); row++) {
        begin_sample();
        for (var m = 0u; m < MODALITIES; m++) {
            if (!is_present(present[row], m)) { continue; }
            let start = start_of(m, row) / 8u;
            add_modality(part_of_x8(start, i, 0u), part_of_x8(start, i, 16u));
        }
        put_sample(row, i);
    }
}
