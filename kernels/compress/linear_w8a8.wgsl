// Linear layer on int8 weights and activations: y = (qa * qw^T) * sa * sw + b.
// qa[m, words] and qw[n, words] hold four signed codes a word, sa[m] and sw[n] the scales, b[n]
// -> y[m, n], with an optional GELU. Products are summed in i32, exact while k <= 131,071
// (2^31 / 127^2); an f32 would lose bits from k = 1,041 on. Scheme: W8A8 of SmoothQuant (arXiv
// 2211.10438), one scale a row.
//
// Where words % 4 = 0 rows are read as vec4 through qa4 and qw4, the same buffers.

struct Params { m: u32, n: u32, words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qa: array<u32>;
@group(0) @binding(1) var<storage, read> qa4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> sa: array<f32>;
@group(0) @binding(3) var<storage, read> qw: array<u32>;
@group(0) @binding(3) var<storage, read> qw4: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> sw: array<f32>;
@group(0) @binding(5) var<storage, read> b: array<T>;
@group(0) @binding(6) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;
override GELU: u32 = 0u;

// 7.1.26 of Abramowitz and Stegun.
fn erf(v: f32) -> f32 {
    let magnitude = abs(v);
    let t = 1.0 / (1.0 + 0.3275911 * magnitude);
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
        + 0.254829592) * t;
    let tail = 1.0 - poly * exp(-(magnitude * magnitude));
    return select(tail, -tail, v < 0.0);
}

// GELU by the error function (arXiv 1606.08415), where the shape asks for it.
fn activate(v: f32) -> f32 {
    if (GELU == 0u) { return v; }
    return 0.5 * v * (1.0 + erf(v * 0.70710678));
}

fn write(row: u32, col: u32, acc: i32) {
    if (row < params.m && col < params.n) {
        y[row * params.n + col] = to_storage(activate(f32(acc) * sa[row] * sw[col] + f32(b[col])));
    }
}

// One row by four columns `across` apart.
fn write4(row: u32, col: u32, across: u32, acc: vec4<i32>) {
    write(row, col, acc.x);
    write(row, col + across, acc.y);
    write(row, col + 2u * across, acc.z);
    write(row, col + 3u * across, acc.w);
}

// A word of one row with a word of each of four columns.
fn dots(a: u32, w: vec4<u32>) -> vec4<i32> {
    return vec4<i32>(
        dot4I8Packed(a, w.x), dot4I8Packed(a, w.y), dot4I8Packed(a, w.z), dot4I8Packed(a, w.w));
}

// Rows and columns beyond the matrix load the last one and are not stored.
fn a_at(row: u32) -> u32 {
    return min(row, params.m - 1u) * params.words;
}

fn w_at(col: u32) -> u32 {
    return min(col, params.n - 1u) * params.words;
}

// Four rows and four columns WG apart for each invocation, sixteen codes a step.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    var acc0 = vec4<i32>();
    var acc1 = vec4<i32>();
    var acc2 = vec4<i32>();
    var acc3 = vec4<i32>();
    for (var i = 0u; i < params.words / 4u; i++) {
        let a0 = qa4[a_at(row) / 4u + i];
        let a1 = qa4[a_at(row + 1u) / 4u + i];
        let a2 = qa4[a_at(row + 2u) / 4u + i];
        let a3 = qa4[a_at(row + 3u) / 4u + i];
        let w0 = qw4[w_at(col) / 4u + i];
        let w1 = qw4[w_at(col + WG) / 4u + i];
        let w2 = qw4[w_at(col + 2u * WG) / 4u + i];
        let w3 = qw4[w_at(col + 3u * WG) / 4u + i];
        let x = vec4<u32>(w0.x, w1.x, w2.x, w3.x);
        let y = vec4<u32>(w0.y, w1.y, w2.y, w3.y);
        let z = vec4<u32>(w0.z, w1.z, w2.z, w3.z);
        let w = vec4<u32>(w0.w, w1.w, w2.w, w3.w);
        acc0 += dots(a0.x, x) + dots(a0.y, y) + dots(a0.z, z) + dots(a0.w, w);
        acc1 += dots(a1.x, x) + dots(a1.y, y) + dots(a1.z, z) + dots(a1.w, w);
        acc2 += dots(a2.x, x) + dots(a2.y, y) + dots(a2.z, z) + dots(a2.w, w);
        acc3 += dots(a3.x, x) + dots(a3.y, y) + dots(a3.z, z) + dots(a3.w, w);
    }
    write4(row, col, WG, acc0);
    write4(row + 1u, col, WG, acc1);
    write4(row + 2u, col, WG, acc2);
    write4(row + 3u, col, WG, acc3);
}

// The same, four codes a step.
@compute @workgroup_size(WG)
fn registers_any(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    var acc0 = vec4<i32>();
    var acc1 = vec4<i32>();
    var acc2 = vec4<i32>();
    var acc3 = vec4<i32>();
    for (var i = 0u; i < params.words; i++) {
        let w = vec4<u32>(
            qw[w_at(col) + i], qw[w_at(col + WG) + i],
            qw[w_at(col + 2u * WG) + i], qw[w_at(col + 3u * WG) + i]);
        acc0 += dots(qa[a_at(row) + i], w);
        acc1 += dots(qa[a_at(row + 1u) + i], w);
        acc2 += dots(qa[a_at(row + 2u) + i], w);
        acc3 += dots(qa[a_at(row + 3u) + i], w);
    }
    write4(row, col, WG, acc0);
    write4(row + 1u, col, WG, acc1);
    write4(row + 2u, col, WG, acc2);
    write4(row + 3u, col, WG, acc3);
}

// 64 rows by 64 columns by 64 codes along k, each invocation four by four, 16 apart. Two tiles in
// turn: one barrier a step, and the next tile is on its way while this one is multiplied. Together
// 16 KiB, which WebGPU guarantees.
var<workgroup> a_tile: array<vec4<u32>, 512>;
var<workgroup> w_tile: array<vec4<u32>, 512>;

// Rows of four vectors, turned by one every other row, so that eight neighbouring rows are on
// different banks.
fn turned(row: u32, quad: u32) -> u32 {
    return row * 4u + (quad + row / 2u) % 4u;
}

// Sixteen codes of one row with those of each of four columns, 16 apart in the tile.
fn dots16(row: u32, col: u32) -> vec4<i32> {
    let a = a_tile[row];
    let c0 = w_tile[col];
    let c1 = w_tile[col + 64u];
    let c2 = w_tile[col + 128u];
    let c3 = w_tile[col + 192u];
    return dots(a.x, vec4<u32>(c0.x, c1.x, c2.x, c3.x))
        + dots(a.y, vec4<u32>(c0.y, c1.y, c2.y, c3.y))
        + dots(a.z, vec4<u32>(c0.z, c1.z, c2.z, c3.z))
        + dots(a.w, vec4<u32>(c0.w, c1.w, c2.w, c3.w));
}

struct Sums { a: vec4<i32>, b: vec4<i32>, c: vec4<i32>, d: vec4<i32> }

// The products of the tiles at `at`.
fn add_tile(sums: Sums, lane: u32, at: u32) -> Sums {
    var sum = sums;
    for (var i = 0u; i < 4u; i++) {
        let row = at + turned(lane / 16u, i);
        let col = at + turned(lane % 16u, i);
        sum.a += dots16(row, col);
        sum.b += dots16(row + 64u, col);
        sum.c += dots16(row + 128u, col);
        sum.d += dots16(row + 192u, col);
    }
    return sum;
}

fn write_tile(wid: vec3<u32>, lane: u32, sums: Sums) {
    let row = wid.y * 64u + lane / 16u;
    let col = wid.x * 64u + lane % 16u;
    write4(row, col, 16u, sums.a);
    write4(row + 16u, col, 16u, sums.b);
    write4(row + 32u, col, 16u, sums.c);
    write4(row + 48u, col, 16u, sums.d);
}

// Four words of a row, zero beyond it.
fn a_part(row: u32, quad: u32) -> vec4<u32> {
    let last = params.words / 4u - 1u;
    return select(vec4<u32>(), qa4[a_at(row) / 4u + min(quad, last)], quad <= last);
}

fn w_part(col: u32, quad: u32) -> vec4<u32> {
    let last = params.words / 4u - 1u;
    return select(vec4<u32>(), qw4[w_at(col) / 4u + min(quad, last)], quad <= last);
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 64u + lane / 4u;
    let col = wid.x * 64u + lane / 4u;
    let quads = params.words / 4u;
    let own = turned(lane / 4u, lane % 4u);
    var sums: Sums;
    var at = 0u;
    var a_next: vec4<u32>;
    var w_next: vec4<u32>;
    if (quads > 0u) {
        a_next = a_part(row, lane % 4u);
        w_next = w_part(col, lane % 4u);
    }
    for (var first = 0u; first < quads; first += 4u) {
        a_tile[at + own] = a_next;
        w_tile[at + own] = w_next;
        workgroupBarrier();
        a_next = a_part(row, first + 4u + lane % 4u);
        w_next = w_part(col, first + 4u + lane % 4u);
        sums = add_tile(sums, lane, at);
        at = 256u - at;
    }
    write_tile(wid, lane, sums);
}

// The same word by word, for rows that are no whole vectors.
fn a_any(row: u32, quad: u32) -> vec4<u32> {
    let i = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    let at = a_at(row) + min(i, vec4<u32>(params.words - 1u));
    let four = vec4<u32>(qa[at.x], qa[at.y], qa[at.z], qa[at.w]);
    return select(vec4<u32>(), four, i < vec4<u32>(params.words));
}

fn w_any(col: u32, quad: u32) -> vec4<u32> {
    let i = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    let at = w_at(col) + min(i, vec4<u32>(params.words - 1u));
    let four = vec4<u32>(qw[at.x], qw[at.y], qw[at.z], qw[at.w]);
    return select(vec4<u32>(), four, i < vec4<u32>(params.words));
}

@compute @workgroup_size(256)
fn tiled_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 64u + lane / 4u;
    let col = wid.x * 64u + lane / 4u;
    let quads = (params.words + 3u) / 4u;
    let own = turned(lane / 4u, lane % 4u);
    var sums: Sums;
    var at = 0u;
    var a_next: vec4<u32>;
    var w_next: vec4<u32>;
    if (quads > 0u) {
        a_next = a_any(row, lane % 4u);
        w_next = w_any(col, lane % 4u);
    }
    for (var first = 0u; first < quads; first += 4u) {
        a_tile[at + own] = a_next;
        w_tile[at + own] = w_next;
        workgroupBarrier();
        a_next = a_any(row, first + 4u + lane % 4u);
        w_next = w_any(col, first + 4u + lane % 4u);
        sums = add_tile(sums, lane, at);
        at = 256u - at;
    }
    write_tile(wid, lane, sums);
}

// Sixteen rows by four columns for each of the eight invocations of a subgroup: invocation i loads
// the rows i and i + 8, and the others get them by broadcast, as in `linear`.
var<private> upper: array<vec4<i32>, 8>;
var<private> lower: array<vec4<i32>, 8>;

// Code by code of a word of each of four columns.
struct Codes { x: vec4<i32>, y: vec4<i32>, z: vec4<i32>, w: vec4<i32> }

fn codes_of(cols: vec4<u32>) -> Codes {
    let a = unpack4xI8(cols.x);
    let b = unpack4xI8(cols.y);
    let c = unpack4xI8(cols.z);
    let d = unpack4xI8(cols.w);
    return Codes(vec4<i32>(a.x, b.x, c.x, d.x), vec4<i32>(a.y, b.y, c.y, d.y),
        vec4<i32>(a.z, b.z, c.z, d.z), vec4<i32>(a.w, b.w, c.w, d.w));
}

fn multiply_add(acc: vec4<i32>, v: vec4<i32>, t: Codes) -> vec4<i32> {
    return acc + v.x * t.x + v.y * t.y + v.z * t.z + v.w * t.w;
}

// Codes are unpacked once for sixteen rows: without an instruction for packed products that is
// what takes time.
fn add_rows(acc: ptr<private, array<vec4<i32>, 8>>, row: u32, t: Codes) {
    let own = unpack4xI8(row);
    (*acc)[0] = multiply_add((*acc)[0], subgroupBroadcast(own, 0u), t);
    (*acc)[1] = multiply_add((*acc)[1], subgroupBroadcast(own, 1u), t);
    (*acc)[2] = multiply_add((*acc)[2], subgroupBroadcast(own, 2u), t);
    (*acc)[3] = multiply_add((*acc)[3], subgroupBroadcast(own, 3u), t);
    (*acc)[4] = multiply_add((*acc)[4], subgroupBroadcast(own, 4u), t);
    (*acc)[5] = multiply_add((*acc)[5], subgroupBroadcast(own, 5u), t);
    (*acc)[6] = multiply_add((*acc)[6], subgroupBroadcast(own, 6u), t);
    (*acc)[7] = multiply_add((*acc)[7], subgroupBroadcast(own, 7u), t);
}

fn add_words(above: u32, below: u32, cols: vec4<u32>) {
    let t = codes_of(cols);
    add_rows(&upper, above, t);
    add_rows(&lower, below, t);
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 32u + lane;
    let quads = params.words / 4u;
    let above_at = a_at(row + lane) / 4u;
    let below_at = a_at(row + 8u + lane) / 4u;
    let first = vec4<u32>(w_at(col), w_at(col + 8u), w_at(col + 16u), w_at(col + 24u)) / 4u;
    for (var i = 0u; i < quads; i++) {
        let above = qa4[above_at + i];
        let below = qa4[below_at + i];
        let a = qw4[first.x + i];
        let b = qw4[first.y + i];
        let c = qw4[first.z + i];
        let d = qw4[first.w + i];
        add_words(above.x, below.x, vec4<u32>(a.x, b.x, c.x, d.x));
        add_words(above.y, below.y, vec4<u32>(a.y, b.y, c.y, d.y));
        add_words(above.z, below.z, vec4<u32>(a.z, b.z, c.z, d.z));
        add_words(above.w, below.w, vec4<u32>(a.w, b.w, c.w, d.w));
    }
    write4(row + 0u, col, 8u, upper[0]);
    write4(row + 1u, col, 8u, upper[1]);
    write4(row + 2u, col, 8u, upper[2]);
    write4(row + 3u, col, 8u, upper[3]);
    write4(row + 4u, col, 8u, upper[4]);
    write4(row + 5u, col, 8u, upper[5]);
    write4(row + 6u, col, 8u, upper[6]);
    write4(row + 7u, col, 8u, upper[7]);
    write4(row + 8u, col, 8u, lower[0]);
    write4(row + 9u, col, 8u, lower[1]);
    write4(row + 10u, col, 8u, lower[2]);
    write4(row + 11u, col, 8u, lower[3]);
    write4(row + 12u, col, 8u, lower[4]);
    write4(row + 13u, col, 8u, lower[5]);
    write4(row + 14u, col, 8u, lower[6]);
    write4(row + 15u, col, 8u, lower[7]);
}
