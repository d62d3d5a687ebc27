// Softmax over the valid part of each row: p = exp(x - max) / sum(exp(x - max)).
// x[rows, n], len[rows] -> y[rows, n]. Elements from len on are padding: never read, and zero in
// the result; a row of length 0 is all zeros.

struct Params { rows: u32, n: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

// Below every finite input of either storage type.
const LOWEST: f32 = -3.0e38;

fn sum4(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn max4(v: vec4<f32>) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

// Which of four elements from `at` on are valid; those before the row count as far behind it.
fn are_valid(at: u32, valid: u32) -> vec4<bool> {
    return at + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(valid);
}

fn is_valid4(i: u32, valid: u32) -> vec4<bool> { return are_valid(4u * i, valid); }

// One invocation a row, in two passes: whenever the maximum grows, the sums so far shrink
// (arXiv 1805.02867). No barrier, the choice for CPU adapters. A row may begin and end inside a
// vector, of which it writes its own elements.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let n = params.n;
    let base = row * n;
    let valid = min(len[row], n);
    let end = (base + valid + 3u) / 4u;
    var peak = LOWEST;
    var totals = vec4<f32>();
    for (var i = base / 4u; i < end; i++) {
        let inside = are_valid(4u * i - base, valid);
        let v = select(vec4<f32>(LOWEST), vec4<f32>(x4[i]), inside);
        let before = peak;
        peak = max(before, max4(v));
        totals = totals * exp(before - peak) + exp(v - peak);
    }
    let total = sum4(totals);
    for (var i = base / 4u; i < end; i++) {
        let inside = are_valid(4u * i - base, valid);
        let weights = exp(vec4<f32>(x4[i]) - peak) / total;
        if (inside.x) { y[4u * i] = to_storage(weights.x); }
        if (inside.y) { y[4u * i + 1u] = to_storage(weights.y); }
        if (inside.z) { y[4u * i + 2u] = to_storage(weights.z); }
        if (inside.w) { y[4u * i + 3u] = to_storage(weights.w); }
    }
    for (var i = valid; i < n; i++) { y[base + i] = to_storage(0.0); }
}

// The same where n % 4 = 0.
@compute @workgroup_size(WG)
fn thread4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let quads = params.n / 4u;
    let base = row * quads;
    let valid = min(len[row], params.n);
    let used = (valid + 3u) / 4u;
    var peak = LOWEST;
    var totals = vec4<f32>();
    for (var i = 0u; i < used; i++) {
        let v = select(vec4<f32>(LOWEST), vec4<f32>(x4[base + i]), is_valid4(i, valid));
        let before = peak;
        peak = max(before, max4(v));
        totals = totals * exp(before - peak) + exp(v - peak);
    }
    let total = sum4(totals);
    for (var i = 0u; i < quads; i++) {
        let weights = exp(vec4<f32>(x4[base + i]) - peak) / total;
        y4[base + i] = to_storage4(select(vec4<f32>(), weights, is_valid4(i, valid)));
    }
}

var<workgroup> partial: array<f32, WG>;

// Maximum over the workgroup, the same bits in every invocation.
fn reduce_max(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
    }
    let peak = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return peak;
}

// Sum over the workgroup, the same bits in every invocation.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    return workgroupUniformLoad(&partial[0]);
}

// One workgroup a row, coalesced loads, tree reductions in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row * params.n;
    let valid = min(len[row], params.n);
    var peak = LOWEST;
    for (var i = lane; i < valid; i += WG) { peak = max(peak, f32(x[base + i])); }
    peak = reduce_max(lane, peak);
    var total = 0.0;
    for (var i = lane; i < valid; i += WG) { total += exp(f32(x[base + i]) - peak); }
    total = reduce_sum(lane, total);
    for (var i = lane; i < valid; i += WG) {
        y[base + i] = to_storage(exp(f32(x[base + i]) - peak) / total);
    }
    for (var i = valid + lane; i < params.n; i += WG) { y[base + i] = to_storage(0.0); }
}

// What follows reads vec4: n % 4 = 0. An invocation keeps the first CACHED of its vectors.
const CACHED: u32 = 8u;
var<private> cache: array<vec4<f32>, CACHED>;

// Vector i of the row, below every valid element beyond its length.
fn row4(base: u32, i: u32, valid: u32) -> vec4<f32> {
    let v = vec4<f32>(x4[base + min(i, params.n / 4u - 1u)]);
    return select(vec4<f32>(LOWEST), v, is_valid4(i, valid));
}

// Maximum of the vectors i, i + lanes, i + 2 lanes… of a row, from memory once.
fn peak_of(base: u32, first: u32, lanes: u32, valid: u32) -> f32 {
    var peaks = vec4<f32>(LOWEST);
    for (var c = 0u; c < CACHED; c++) {
        cache[c] = row4(base, first + c * lanes, valid);
        peaks = max(peaks, cache[c]);
    }
    for (var i = first + CACHED * lanes; 4u * i < valid; i += lanes) {
        peaks = max(peaks, row4(base, i, valid));
    }
    return max4(peaks);
}

fn weights4(i: u32, v: vec4<f32>, valid: u32, peak: f32) -> vec4<f32> {
    return select(vec4<f32>(), exp(v - peak), is_valid4(i, valid));
}

// The cache then holds weights.
fn total_of(base: u32, first: u32, lanes: u32, valid: u32, peak: f32) -> f32 {
    var totals = vec4<f32>();
    for (var c = 0u; c < CACHED; c++) {
        cache[c] = weights4(first + c * lanes, cache[c], valid, peak);
        totals += cache[c];
    }
    for (var i = first + CACHED * lanes; 4u * i < valid; i += lanes) {
        totals += weights4(i, row4(base, i, valid), valid, peak);
    }
    return sum4(totals);
}

fn store_row(base: u32, first: u32, lanes: u32, quads: u32, valid: u32, peak: f32, total: f32) {
    let divisor = select(total, 1.0, valid == 0u);
    for (var c = 0u; c < CACHED; c++) {
        let i = first + c * lanes;
        if (i < quads) { y4[base + i] = to_storage4(cache[c] / divisor); }
    }
    for (var i = first + CACHED * lanes; i < quads; i += lanes) {
        let weights = weights4(i, row4(base, i, valid), valid, peak);
        y4[base + i] = to_storage4(weights / divisor);
    }
}

// One subgroup a row: registers, no barrier. The grid suits subgroups of 32; smaller ones come
// round again, so that every invocation reaches every subgroup operation as often.
@compute @workgroup_size(WG)
fn subgroup(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) number: u32,
    @builtin(num_subgroups) rows_each: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let quads = params.n / 4u;
    let stride = groups.x * groups.y * rows_each;
    for (var first = (wid.x + wid.y * groups.x) * rows_each; first < params.rows; first += stride) {
        let row = min(first + number, params.rows - 1u);
        let base = row * quads;
        let valid = min(len[row], params.n);
        let peak = subgroupMax(peak_of(base, lane, lanes, valid));
        let total = subgroupAdd(total_of(base, lane, lanes, valid, peak));
        let stored = select(quads, 0u, first + number >= params.rows);
        store_row(base, lane, lanes, stored, valid, peak, total);
    }
}

// One per subgroup, of at least four invocations.
var<workgroup> shares: array<f32, WG / 4u>;

// Maximum and sum over the workgroup: within subgroups, then over them in order.
fn peak_of_shares(own: f32, number: u32, count: u32) -> f32 {
    let share = subgroupMax(own);
    shares[number] = share;
    workgroupBarrier();
    var peak = LOWEST;
    for (var i = 0u; i < count; i++) { peak = max(peak, shares[i]); }
    workgroupBarrier();
    return peak;
}
fn sum_shares(own: f32, number: u32, count: u32) -> f32 {
    let share = subgroupAdd(own);
    shares[number] = share;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < count; i++) { sum += shares[i]; }
    return sum;
}

// One workgroup a row.
@compute @workgroup_size(WG)
fn subgroups(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) number: u32,
    @builtin(num_subgroups) count: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let quads = params.n / 4u;
    let base = row * quads;
    let valid = min(len[row], params.n);
    let peak = peak_of_shares(peak_of(base, lane, WG, valid), number, count);
    let total = sum_shares(total_of(base, lane, WG, valid, peak), number, count);
    store_row(base, lane, WG, quads, valid, peak, total);
}

// `registers`: subgroups of eight, a row each, every invocation with VECTORS of its vectors in
// registers: one load, one exponential and one store for each. Below, k is a constant, so that
// what is not held costs nothing.
override VECTORS: u32 = 16u;

// The first element of a row, its length and how much of it is valid; the first vector of this
// invocation and the end of the row's.
struct Held { base: u32, n: u32, valid: u32, first: u32, end: u32 }

fn held(row: u32, lane: u32) -> Held {
    let n = params.n;
    let base = row * n;
    return Held(base, n, min(len[row], n), base / 4u + lane, (base + n + 3u) / 4u);
}

fn vector(h: Held, k: u32) -> vec4<f32> {
    if (k >= VECTORS) { return vec4<f32>(LOWEST); }
    let i = h.first + 8u * k;
    let v = vec4<f32>(x4[min(i, h.end - 1u)]);
    return select(vec4<f32>(LOWEST), v, are_valid(4u * i - h.base, h.valid));
}

fn four(h: Held, k: u32) -> mat4x4<f32> {
    return mat4x4<f32>(vector(h, k), vector(h, k + 1u), vector(h, k + 2u), vector(h, k + 3u));
}

fn largest(m: mat4x4<f32>) -> f32 { return max4(max(max(m[0], m[1]), max(m[2], m[3]))); }

fn weight(h: Held, k: u32, v: vec4<f32>, peak: f32) -> vec4<f32> {
    if (k >= VECTORS) { return vec4<f32>(); }
    let inside = are_valid(4u * (h.first + 8u * k) - h.base, h.valid);
    return select(vec4<f32>(), exp(v - peak), inside);
}

fn weigh(h: Held, k: u32, m: mat4x4<f32>, peak: f32) -> mat4x4<f32> {
    return mat4x4<f32>(weight(h, k, m[0], peak), weight(h, k + 1u, m[1], peak),
        weight(h, k + 2u, m[2], peak), weight(h, k + 3u, m[3], peak));
}

fn added(m: mat4x4<f32>) -> vec4<f32> { return (m[0] + m[1]) + (m[2] + m[3]); }

// Weights of the vectors held and their sum, 1 where nothing is valid.
struct Weights { a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32>, total: f32 }

fn weigh_row(h: Held) -> Weights {
    let a = four(h, 0u);
    let b = four(h, 4u);
    let c = four(h, 8u);
    let d = four(h, 12u);
    let peak = subgroupMax(max(max(largest(a), largest(b)), max(largest(c), largest(d))));
    let wa = weigh(h, 0u, a, peak);
    let wb = weigh(h, 4u, b, peak);
    let wc = weigh(h, 8u, c, peak);
    let wd = weigh(h, 12u, d, peak);
    let own = sum4((added(wa) + added(wb)) + (added(wc) + added(wd)));
    return Weights(wa, wb, wc, wd, select(subgroupAdd(own), 1.0, h.valid == 0u));
}

fn put(h: Held, k: u32, v: vec4<f32>) {
    let i = h.first + 8u * k;
    if (k >= VECTORS || i >= h.end) { return; }
    let own = are_valid(4u * i - h.base, h.n);
    if (own.x) { y[4u * i] = to_storage(v.x); }
    if (own.y) { y[4u * i + 1u] = to_storage(v.y); }
    if (own.z) { y[4u * i + 2u] = to_storage(v.z); }
    if (own.w) { y[4u * i + 3u] = to_storage(v.w); }
}

fn put_four(h: Held, k: u32, m: mat4x4<f32>, total: f32) {
    put(h, k, m[0] / total);
    put(h, k + 1u, m[1] / total);
    put(h, k + 2u, m[2] / total);
    put(h, k + 3u, m[3] / total);
}

@compute @workgroup_size(8)
fn registers(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let h = held(row, lane);
    let w = weigh_row(h);
    put_four(h, 0u, w.a, w.total);
    put_four(h, 4u, w.b, w.total);
    put_four(h, 8u, w.c, w.total);
    put_four(h, 12u, w.d, w.total);
}

// ROWS rows, one after the other, that begin and end at a vector: 1 where n % 4 = 0, otherwise 4.
// What one of them leaves of its last vector is carried into the first one of the next, so that
// only whole vectors are stored.
override ROWS: u32 = 4u;

// The vector after the last one that is full once the row is there, which the next row completes.
fn open_vector(h: Held) -> u32 { return (h.base + h.n) / 4u; }

// Returns what is carried on of a vector.
fn put_whole(h: Held, k: u32, v: vec4<f32>) -> vec4<f32> {
    if (k >= VECTORS) { return vec4<f32>(); }
    let i = h.first + 8u * k;
    if (i < open_vector(h)) { y4[i] = to_storage4(v); }
    return select(vec4<f32>(), v, i == open_vector(h));
}

fn put_whole_four(h: Held, k: u32, m: mat4x4<f32>, total: f32) -> vec4<f32> {
    let low = put_whole(h, k, m[0] / total) + put_whole(h, k + 1u, m[1] / total);
    return low + (put_whole(h, k + 2u, m[2] / total) + put_whole(h, k + 3u, m[3] / total));
}

// The same but for the first vector.
fn put_whole_three(h: Held, m: mat4x4<f32>, total: f32) -> vec4<f32> {
    let low = put_whole(h, 1u, m[1] / total) + put_whole(h, 2u, m[2] / total);
    return low + put_whole(h, 3u, m[3] / total);
}

// The first vector of a row behind what the row before has of it.
fn joined(h: Held, carried: vec4<f32>, v: vec4<f32>) -> vec4<f32> {
    let at = 4u * h.first + vec4<u32>(0u, 1u, 2u, 3u);
    return select(v, carried, at < vec4<u32>(h.base));
}

@compute @workgroup_size(8)
fn registers4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let first = ROWS * (wid.x + wid.y * groups.x);
    if (first >= params.rows) { return; }
    var carried = vec4<f32>();
    for (var row = first; row < first + ROWS; row++) {
        let h = held(row, lane);
        let w = weigh_row(h);
        let begin = joined(h, carried, w.a[0] / w.total);
        let low = put_whole(h, 0u, begin) + put_whole_three(h, w.a, w.total);
        let high = put_whole_four(h, 4u, w.b, w.total) + put_whole_four(h, 8u, w.c, w.total);
        let last = low + (high + put_whole_four(h, 12u, w.d, w.total));
        carried = subgroupShuffle(last, (open_vector(h) - h.base / 4u) % 8u);
    }
}
