// Root-mean-square normalisation (arXiv 1910.07467): y = x / sqrt(mean(x^2) + eps) * g per row.
// x[rows, d], g[d] -> y[rows, d]. A row of zeros gives zeros.

struct Params { rows: u32, d: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read> g: array<T>;
@group(0) @binding(2) var<storage, read> g4: array<T4>;
@group(0) @binding(2) var<storage, read> g8: array<T8>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

fn square(index: u32) -> f32 {
    let value = f32(x[index]);
    return value * value;
}

fn write(row: u32, i: u32, scale: f32) {
    let index = row * params.d + i;
    y[index] = to_storage(f32(x[index]) * scale * f32(g[i]));
}

// One invocation a row: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let base = row * params.d;
    var squares = 0.0;
    for (var i = 0u; i < params.d; i++) { squares += square(base + i); }
    let scale = inverseSqrt(squares / f32(params.d) + params.eps);
    for (var i = 0u; i < params.d; i++) { write(row, i, scale); }
}

fn sum4(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }

// The same where d % 8 = 0, eight elements at a time.
@compute @workgroup_size(WG)
fn thread8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let eighths = params.d / 8u;
    let base = row * eighths;
    var squares = vec4<f32>();
    for (var i = 0u; i < eighths; i++) {
        let v = from_storage8(x8[base + i]);
        squares += v[0] * v[0] + v[1] * v[1];
    }
    let scale = inverseSqrt(sum4(squares) / f32(params.d) + params.eps);
    for (var i = 0u; i < eighths; i++) {
        let v = from_storage8(x8[base + i]);
        let gain = from_storage8(g8[i]);
        y4[2u * (base + i)] = to_storage4(v[0] * scale * gain[0]);
        y4[2u * (base + i) + 1u] = to_storage4(v[1] * scale * gain[1]);
    }
}

var<workgroup> partial: array<f32, WG>;

// Sum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    return workgroupUniformLoad(&partial[0]);
}

// One workgroup a row, coalesced loads, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row * params.d;
    var squares = 0.0;
    for (var i = lane; i < params.d; i += WG) { squares += square(base + i); }
    let scale = inverseSqrt(reduce(lane, squares) / f32(params.d) + params.eps);
    for (var i = lane; i < params.d; i += WG) { write(row, i, scale); }
}
// What follows reads vec4: d % 4 = 0. An invocation keeps the first CACHED of its vectors.
const CACHED: u32 = 8u;
var<private> cache: array<vec4<f32>, CACHED>;

// Vector i of the row, zero beyond it.
fn row4(base: u32, i: u32, quads: u32) -> vec4<f32> {
    return select(vec4<f32>(), vec4<f32>(x4[base + min(i, quads - 1u)]), i < quads);
}

// Squares of the vectors i, i + lanes, i + 2 lanes… of a row, from memory once.
fn sum_squares(base: u32, first: u32, lanes: u32, quads: u32) -> f32 {
    var squares = vec4<f32>();
    for (var c = 0u; c < CACHED; c++) {
        cache[c] = row4(base, first + c * lanes, quads);
        squares += cache[c] * cache[c];
    }
    for (var i = first + CACHED * lanes; i < quads; i += lanes) {
        let v = row4(base, i, quads);
        squares += v * v;
    }
    return sum4(squares);
}

fn store4(base: u32, i: u32, quads: u32, v: vec4<f32>, scale: f32) {
    if (i < quads) { y4[base + i] = to_storage4(v * scale * vec4<f32>(g4[i])); }
}

fn store_row(base: u32, first: u32, lanes: u32, quads: u32, scale: f32) {
    for (var c = 0u; c < CACHED; c++) { store4(base, first + c * lanes, quads, cache[c], scale); }
    for (var i = first + CACHED * lanes; i < quads; i += lanes) {
        store4(base, i, quads, row4(base, i, quads), scale);
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
    let quads = params.d / 4u;
    let stride = groups.x * groups.y * rows_each;
    for (var first = (wid.x + wid.y * groups.x) * rows_each; first < params.rows; first += stride) {
        let base = min(first + number, params.rows - 1u) * quads;
        let squares = subgroupAdd(sum_squares(base, lane, lanes, quads));
        let scale = inverseSqrt(squares / f32(params.d) + params.eps);
        store_row(base, lane, lanes, select(quads, 0u, first + number >= params.rows), scale);
    }
}

// One per subgroup, of at least four invocations.
var<workgroup> shares: array<f32, WG / 4u>;

// Sum over the workgroup: within subgroups, then over them in order.
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
    let quads = params.d / 4u;
    let base = row * quads;
    let squares = sum_shares(sum_squares(base, lane, WG, quads), number, count);
    store_row(base, lane, WG, quads, inverseSqrt(squares / f32(params.d) + params.eps));
}

// Eight elements of a vector of the row that the subgroup holds.
fn pair0(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 0u), subgroupBroadcast(v, 1u));
}
fn pair1(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 2u), subgroupBroadcast(v, 3u));
}
fn pair2(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 4u), subgroupBroadcast(v, 5u));
}
fn pair3(v: vec4<f32>) -> mat2x4<f32> {
    return mat2x4<f32>(subgroupBroadcast(v, 6u), subgroupBroadcast(v, 7u));
}

fn put8(at: u32, is_live: bool, scale: f32, gain: mat2x4<f32>) {
    let v = from_storage8(x8[at]);
    if (is_live) {
        y4[2u * at] = to_storage4(v[0] * scale * gain[0]);
        y4[2u * at + 1u] = to_storage4(v[1] * scale * gain[1]);
    }
}

// Subgroups of eight, a row an invocation, which loads one of eight vectors of the gain and gets
// the others by broadcast: d % 32 = 0.
@compute @workgroup_size(8)
fn broadcast(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32,
) {
    let own = (wid.x + wid.y * groups.x) * 8u + lane;
    let is_live = own < params.rows;
    let eighths = params.d / 8u;
    let base = min(own, params.rows - 1u) * eighths;
    var squares = vec4<f32>();
    for (var i = 0u; i < eighths; i++) {
        let v = from_storage8(x8[base + i]);
        squares += v[0] * v[0] + v[1] * v[1];
    }
    let scale = inverseSqrt(sum4(squares) / f32(params.d) + params.eps);
    for (var i = 0u; i < eighths; i += 4u) {
        let gain = vec4<f32>(g4[2u * i + lane]);
        put8(base + i, is_live, scale, pair0(gain));
        put8(base + i + 1u, is_live, scale, pair1(gain));
        put8(base + i + 2u, is_live, scale, pair2(gain));
        put8(base + i + 3u, is_live, scale, pair3(gain));
    }
}
