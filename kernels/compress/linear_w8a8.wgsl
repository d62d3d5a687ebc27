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

// 64 rows by 64 columns by 16 words along k, each invocation four by four, 16 apart. Rows are 17
// words apart, so that neighbouring columns are on different banks.
var<workgroup> a_tile: array<u32, 1088>;
var<workgroup> w_tile: array<u32, 1088>;

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r = lane / 16u;
    let c = lane % 16u;
    var acc0 = vec4<i32>();
    var acc1 = vec4<i32>();
    var acc2 = vec4<i32>();
    var acc3 = vec4<i32>();
    for (var first = 0u; first < params.words; first += 16u) {
        let word = min(first + c, params.words - 1u);
        let inside = first + c < params.words;
        for (var i = r; i < 64u; i += 16u) {
            a_tile[17u * i + c] = select(0u, qa[a_at(wid.y * 64u + i) + word], inside);
            w_tile[17u * i + c] = select(0u, qw[w_at(wid.x * 64u + i) + word], inside);
        }
        workgroupBarrier();
        for (var i = 0u; i < 16u; i++) {
            let at = 17u * c + i;
            let w = vec4<u32>(
                w_tile[at], w_tile[at + 272u], w_tile[at + 544u], w_tile[at + 816u]);
            acc0 += dots(a_tile[17u * r + i], w);
            acc1 += dots(a_tile[17u * r + i + 272u], w);
            acc2 += dots(a_tile[17u * r + i + 544u], w);
            acc3 += dots(a_tile[17u * r + i + 816u], w);
        }
        workgroupBarrier();
    }
    let row = wid.y * 64u + r;
    let col = wid.x * 64u + c;
    write4(row, col, 16u, acc0);
    write4(row + 16u, col, 16u, acc1);
    write4(row + 32u, col, 16u, acc2);
    write4(row + 48u, col, 16u, acc3);
}
