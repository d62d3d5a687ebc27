// Linear layer on int4 weights: y = sum over groups g of s_g * (x_g * q_g^T), plus b.
// x[m, k], q[n, ceil(k/8)] words of eight codes, s[n, ceil(k/group)], b[n] -> y[m, n], with an
// optional GELU. Sums are f32. The last group of a row may be shorter.
// Weight-only quantisation as in GPTQ (arXiv 2210.17323) and AWQ (arXiv 2306.00978).
//
// Weights do not change, so that their words are laid out for this kernel beforehand: a byte holds
// code i + 8 in its lower half and code i + 4 plus 8 in its upper one, i from 0 to 3. Then
// word & 0x0f0f0f0f is codes 0 to 3, (word >> 4) & 0x0f0f0f0f codes 4 to 7, one byte each and none
// with a sign to extend: a GPU turns a byte into a float by one instruction. Codes beyond k are 0.

struct Params { m: u32, n: u32, k: u32, group: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> q: array<u32>;
@group(0) @binding(3) var<storage, read> s: array<T>;
@group(0) @binding(4) var<storage, read> b: array<T>;
@group(0) @binding(5) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;
override GELU: u32 = 0u;
override ALIGNED: bool = false; // k % 8 = 0

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

fn write(row: u32, col: u32, dot: f32) {
    if (row < params.m && col < params.n) {
        y[row * params.n + col] = to_storage(activate(dot + f32(b[col])));
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
    if (ALIGNED) { return vec4<f32>(x4[last_row(any_row) * (params.k / 4u) + quad]); }
    if (4u * quad >= params.k) { return vec4<f32>(); }
    let at = last_row(any_row) * params.k + 4u * quad;
    let v = vec4<f32>(x4[at / 4u]);
    if (params.k % 4u == 0u) { return v; }
    let n = vec4<f32>(x4[min(at / 4u + 1u, (params.m * params.k - 1u) / 4u)]);
    var out = v;
    switch at % 4u {
        case 1u: { out = vec4<f32>(v.yzw, n.x); }
        case 2u: { out = vec4<f32>(v.zw, n.xy); }
        case 3u: { out = vec4<f32>(v.w, n.xyz); }
        default: {}
    }
    let inside = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad < vec4<u32>(params.k);
    return select(vec4<f32>(), out, inside);
}

fn rows4(row: u32, quad: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        load(row, quad), load(row + 1u, quad), load(row + 2u, quad), load(row + 3u, quad));
}

fn word_at(col: u32, word: u32) -> u32 {
    return q[last_col(col) * ((params.k + 7u) / 8u) + word];
}

fn scale_at(col: u32, group: u32) -> f32 {
    return f32(s[last_col(col) * ((params.k + params.group - 1u) / params.group) + group]);
}

// Codes 0 to 3 of a word; of one moved by 4 to the right, codes 4 to 7.
fn nibbles(word: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xU8(word & 0x0f0f0f0fu)) - 8.0;
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

fn columns(words: vec4<u32>) -> mat4x4<f32> {
    return mat4x4<f32>(nibbles(words.x), nibbles(words.y), nibbles(words.z), nibbles(words.w));
}

// Four rows and four columns WG apart for each invocation; a group is scaled once it is summed.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    let words = (params.k + 7u) / 8u;
    let each = params.group / 8u;
    var acc: mat4x4<f32>;
    for (var group = 0u; group * each < words; group++) {
        var part = mat4x4<f32>();
        for (var i = group * each; i < min(group * each + each, words); i++) {
            let codes = vec4<u32>(
                word_at(col, i), word_at(col + WG, i),
                word_at(col + 2u * WG, i), word_at(col + 3u * WG, i));
            add_products(&part, rows4(row, 2u * i), columns(codes));
            add_products(&part, rows4(row, 2u * i + 1u), columns(codes >> vec4<u32>(4u)));
        }
        let scales = vec4<f32>(
            scale_at(col, group), scale_at(col + WG, group),
            scale_at(col + 2u * WG, group), scale_at(col + 3u * WG, group));
        acc[0] += part[0] * scales;
        acc[1] += part[1] * scales;
        acc[2] += part[2] * scales;
        acc[3] += part[3] * scales;
    }
    write_block(row, 1u, col, WG, acc);
}

// 64 rows by 64 columns by 16 along k, each invocation four by four, 16 apart; weights are scaled
// on their way into the tile. Two tiles in turn: one barrier a step, and the next tile is on its
// way while this one is multiplied. Together 16 KiB, which WebGPU guarantees.
var<workgroup> x_tile: array<vec4<f32>, 512>;
var<workgroup> w_tile: array<vec4<f32>, 512>;

// Rows of four vectors, turned by one every other row, so that eight neighbouring rows are on
// different banks.
fn turned(row: u32, quad: u32) -> u32 {
    return row * 4u + (quad + row / 2u) % 4u;
}

// Four elements of a row, zero beyond it, where `load` may read those of the next one.
fn part(row: u32, quad: u32) -> vec4<f32> {
    let last = (params.k + 3u) / 4u - 1u;
    return select(vec4<f32>(), load(row, min(quad, last)), quad <= last);
}

// Four scaled weights of a column; what is beyond it meets zeros.
fn weights(col: u32, any_quad: u32) -> vec4<f32> {
    let quad = min(any_quad, (params.k + 3u) / 4u - 1u);
    let word = word_at(col, quad / 2u) >> (4u * (quad % 2u));
    return nibbles(word) * scale_at(col, 4u * quad / params.group);
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 64u + lane / 4u;
    let col = wid.x * 64u + lane / 4u;
    let quads = (params.k + 3u) / 4u;
    let own = turned(lane / 4u, lane % 4u);
    var acc: mat4x4<f32>;
    var at = 0u;
    var x_next: vec4<f32>;
    var w_next: vec4<f32>;
    if (quads > 0u) {
        x_next = part(row, lane % 4u);
        w_next = weights(col, lane % 4u);
    }
    for (var first = 0u; first < quads; first += 4u) {
        x_tile[at + own] = x_next;
        w_tile[at + own] = w_next;
        workgroupBarrier();
        x_next = part(row, first + 4u + lane % 4u);
        w_next = weights(col, first + 4u + lane % 4u);
        for (var i = 0u; i < 4u; i++) {
            let r = at + turned(lane / 16u, i);
            let c = at + turned(lane % 16u, i);
            add_products(&acc,
                mat4x4<f32>(x_tile[r], x_tile[r + 64u], x_tile[r + 128u], x_tile[r + 192u]),
                mat4x4<f32>(w_tile[c], w_tile[c + 64u], w_tile[c + 128u], w_tile[c + 192u]));
        }
        at = 256u - at;
    }
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

// For up to eight rows: four columns a workgroup, whose invocations take neighbouring words along
// k, so that weights are read once and in their order. The sums of a word are scaled at once.
override ROWS: u32 = 8u; // known when compiled: nothing is loaded or multiplied for the others
var<workgroup> sums: array<vec4<f32>, 8u * WG>;

// The products of a word's eight codes of each of four columns with one row.
fn add_row(acc: vec4<f32>, row: u32, word: u32, low: mat4x4<f32>, high: mat4x4<f32>,
    scales: vec4<f32>) -> vec4<f32> {
    if (row >= ROWS) { return acc; }
    return acc + (part(row, 2u * word) * low + part(row, 2u * word + 1u) * high) * scales;
}

@compute @workgroup_size(WG)
fn matvec(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = wid.x * 4u;
    let words = (params.k + 7u) / 8u;
    var acc: array<vec4<f32>, 8>;
    for (var i = lane; i < words; i += WG) {
        let codes = vec4<u32>(word_at(col, i), word_at(col + 1u, i),
            word_at(col + 2u, i), word_at(col + 3u, i));
        let low = columns(codes);
        let high = columns(codes >> vec4<u32>(4u));
        let group = 8u * i / params.group;
        let scales = vec4<f32>(scale_at(col, group), scale_at(col + 1u, group),
            scale_at(col + 2u, group), scale_at(col + 3u, group));
        acc[0] = add_row(acc[0], 0u, i, low, high, scales);
        acc[1] = add_row(acc[1], 1u, i, low, high, scales);
        acc[2] = add_row(acc[2], 2u, i, low, high, scales);
        acc[3] = add_row(acc[3], 3u, i, low, high, scales);
        acc[4] = add_row(acc[4], 4u, i, low, high, scales);
        acc[5] = add_row(acc[5], 5u, i, low, high, scales);
        acc[6] = add_row(acc[6], 6u, i, low, high, scales);
        acc[7] = add_row(acc[7], 7u, i, low, high, scales);
    }
    sums[lane] = acc[0];
    sums[WG + lane] = acc[1];
    sums[2u * WG + lane] = acc[2];
    sums[3u * WG + lane] = acc[3];
    sums[4u * WG + lane] = acc[4];
    sums[5u * WG + lane] = acc[5];
    sums[6u * WG + lane] = acc[6];
    sums[7u * WG + lane] = acc[7];
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            for (var r = 0u; r < ROWS; r++) { sums[r * WG + lane] += sums[r * WG + lane + half]; }
        }
    }
    workgroupBarrier();
    if (lane < 4u * ROWS) { write(lane / 4u, col + lane % 4u, sums[lane / 4u * WG][lane % 4u]); }
}

// Sixteen rows by four columns for each of the eight invocations of a subgroup: invocation i loads
// the rows i and i + 8, and the others get them by broadcast, as in `linear`.
var<private> upper: array<vec4<f32>, 8>;
var<private> lower: array<vec4<f32>, 8>;
var<private> upper_part: array<vec4<f32>, 8>;
var<private> lower_part: array<vec4<f32>, 8>;

fn add_rows(part: ptr<private, array<vec4<f32>, 8>>, row: vec4<f32>, t: mat4x4<f32>) {
    (*part)[0] = multiply_add((*part)[0], subgroupBroadcast(row, 0u), t);
    (*part)[1] = multiply_add((*part)[1], subgroupBroadcast(row, 1u), t);
    (*part)[2] = multiply_add((*part)[2], subgroupBroadcast(row, 2u), t);
    (*part)[3] = multiply_add((*part)[3], subgroupBroadcast(row, 3u), t);
    (*part)[4] = multiply_add((*part)[4], subgroupBroadcast(row, 4u), t);
    (*part)[5] = multiply_add((*part)[5], subgroupBroadcast(row, 5u), t);
    (*part)[6] = multiply_add((*part)[6], subgroupBroadcast(row, 6u), t);
    (*part)[7] = multiply_add((*part)[7], subgroupBroadcast(row, 7u), t);
}

fn add_part(
    acc: ptr<private, array<vec4<f32>, 8>>, part: ptr<private, array<vec4<f32>, 8>>,
    scales: vec4<f32>,
) {
    (*acc)[0] += (*part)[0] * scales;
    (*acc)[1] += (*part)[1] * scales;
    (*acc)[2] += (*part)[2] * scales;
    (*acc)[3] += (*part)[3] * scales;
    (*acc)[4] += (*part)[4] * scales;
    (*acc)[5] += (*part)[5] * scales;
    (*acc)[6] += (*part)[6] * scales;
    (*acc)[7] += (*part)[7] * scales;
    *part = array<vec4<f32>, 8>();
}

fn write_rows(row: u32, col: u32, acc: ptr<private, array<vec4<f32>, 8>>) {
    for (var c = 0u; c < 4u; c++) {
        write(row + 0u, col + 8u * c, (*acc)[0][c]);
        write(row + 1u, col + 8u * c, (*acc)[1][c]);
        write(row + 2u, col + 8u * c, (*acc)[2][c]);
        write(row + 3u, col + 8u * c, (*acc)[3][c]);
        write(row + 4u, col + 8u * c, (*acc)[4][c]);
        write(row + 5u, col + 8u * c, (*acc)[5][c]);
        write(row + 6u, col + 8u * c, (*acc)[6][c]);
        write(row + 7u, col + 8u * c, (*acc)[7][c]);
    }
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 32u + lane;
    let words = (params.k + 7u) / 8u;
    let each = params.group / 8u;
    for (var group = 0u; group * each < words; group++) {
        for (var i = group * each; i < min(group * each + each, words); i++) {
            let codes = vec4<u32>(word_at(col, i), word_at(col + 8u, i),
                word_at(col + 16u, i), word_at(col + 24u, i));
            let low = transpose(columns(codes));
            add_rows(&upper_part, load(row + lane, 2u * i), low);
            add_rows(&lower_part, load(row + 8u + lane, 2u * i), low);
            let high = transpose(columns(codes >> vec4<u32>(4u)));
            add_rows(&upper_part, load(row + lane, 2u * i + 1u), high);
            add_rows(&lower_part, load(row + 8u + lane, 2u * i + 1u), high);
        }
        let scales = vec4<f32>(scale_at(col, group), scale_at(col + 8u, group),
            scale_at(col + 16u, group), scale_at(col + 24u, group));
        add_part(&upper, &upper_part, scales);
        add_part(&lower, &lower_part, scales);
    }
    write_rows(row, col, &upper);
    write_rows(row + 8u, col, &lower);
}
