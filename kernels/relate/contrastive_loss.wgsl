// Symmetric InfoNCE loss (arXiv 2103.00020): logits L = scale * a . b^T; row and column
// log-sum-exp; loss = mean over pairs of ((row_lse_i - L_ii) + (col_lse_i - L_ii)) / 2.
// a and b[batch, d], present[batch] -> row_lse and col_lse[batch], loss[1], all f32. An absent
// pair leaves the rows and columns of all others; its own are LOWEST, the LSE of nothing.
//
// `logits` and `broadcast` store L; `fused` streams 64 rows of one side past four of the other for
// each invocation, `tiled` keeps a tile of 64 by 64 in registers: both store an LSE for each 64.

struct Params { batch: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> a4: array<T4>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read> b4: array<T4>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> row_lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> col_lse: array<f32>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> diagonal: array<f32>;
@group(0) @binding(8) var<storage, read_write> work: array<f32>;

override WG: u32 = 64u;
override SIDE: u32 = 0u; // whose LSE: 0 the rows of L, 1 its columns
override TILED: u32 = 0u; // what work holds: 0 logits, 1 the LSE of every 64
alias Block = mat4x4<f32>;
const LOWEST: f32 = -3.0e38;
fn live(i: u32) -> bool { return i < params.batch && present[min(i, params.batch - 1u)] != 0u; }
fn tile_count() -> u32 { return (params.batch + 63u) / 64u; }
fn kept(i: u32) -> bool { return TILED == 1u || live(i); }
fn element(side: u32, at: u32) -> f32 { if (side == 0u) { return f32(a[at]); } return f32(b[at]); }
fn lse_of(m: f32, sum: f32) -> f32 { return select(LOWEST, m + log(max(sum, 0.5)), sum > 0.0); }

// Four elements of a row of one side, zero beyond it. Rows beyond the batch are the last one.
fn quad(side: u32, row: u32, q: u32) -> vec4<f32> {
    let at = min(row, params.batch - 1u) * params.d + 4u * q;
    if (4u * q + 4u <= params.d) {
        return vec4<f32>(element(side, at), element(side, at + 1u),
            element(side, at + 2u), element(side, at + 3u));
    }
    var v = vec4<f32>(element(side, at), 0.0, 0.0, 0.0);
    if (params.d % 4u > 1u) { v.y = element(side, at + 1u); }
    if (params.d % 4u > 2u) { v.z = element(side, at + 2u); }
    return v;
}

fn quads(side: u32, row: u32, step: u32, q: u32) -> Block {
    return Block(quad(side, row, q), quad(side, row + step, q),
        quad(side, row + 2u * step, q), quad(side, row + 3u * step, q));
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: Block) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four rows u with four columns v, all vectors along d.
fn add_products(acc: ptr<function, Block>, u: Block, v: Block) {
    let t = transpose(v);
    (*acc)[0] = multiply_add((*acc)[0], u[0], t);
    (*acc)[1] = multiply_add((*acc)[1], u[1], t);
    (*acc)[2] = multiply_add((*acc)[2], u[2], t);
    (*acc)[3] = multiply_add((*acc)[3], u[3], t);
}

// Stores the LSE of a row and L_ii, or the LSE of a column.
fn finish(i: u32, value: f32) {
    let lse = select(LOWEST, value, live(i));
    if (SIDE == 1u) { col_lse[i] = lse; return; }
    row_lse[i] = lse;
    if (TILED == 0u) { diagonal[i] = work[i * params.batch + i]; return; }
    var sum = 0.0;
    for (var q = 0u; q < (params.d + 3u) / 4u; q++) { sum += dot(quad(0u, i, q), quad(1u, i, q)); }
    diagonal[i] = sum * params.scale;
}

// Logits of four rows of the other side, from `first` on, with four own ones WG apart.
fn logits_of(first: u32, own: u32) -> Block {
    var acc: Block;
    for (var q = 0u; q < (params.d + 3u) / 4u; q++) {
        add_products(&acc, quads(1u - SIDE, first, 1u, q), quads(SIDE, own, WG, q));
    }
    return acc * params.scale;
}

// A running maximum and the sum of exponentials about it, for four rows an invocation.
@compute @workgroup_size(WG)
fn stream(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = wid.x * 4u * WG + lane;
    var peak = vec4<f32>(LOWEST);
    var total = vec4<f32>();
    for (var first = 64u * wid.y; first < min(64u * wid.y + 64u, params.batch); first += 4u) {
        var l = logits_of(first, own);
        let old = peak;
        for (var i = 0u; i < 4u; i++) { if (live(first + i)) { peak = max(peak, l[i]); } }
        total *= select(vec4<f32>(1.0), exp(old - peak), peak > old);
        for (var i = 0u; i < 4u; i++) { if (live(first + i)) { total += exp(l[i] - peak); } }
    }
    let base = (SIDE * tile_count() + wid.y) * params.batch;
    for (var i = 0u; i < 4u; i++) {
        if (own + i * WG < params.batch) { work[base + own + i * WG] = lse_of(peak[i], total[i]); }
    }
}

// With SIDE 1: four rows of a, four columns WG apart.
@compute @workgroup_size(WG)
fn logits(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    var l = logits_of(wid.y * 4u, wid.x * 4u * WG + lane);
    for (var i = 0u; i < 16u; i++) {
        let row = wid.y * 4u + i / 4u;
        let col = wid.x * 4u * WG + lane + i % 4u * WG;
        if (max(row, col) < params.batch) { work[row * params.batch + col] = l[i / 4u][i % 4u]; }
    }
}

// Sixteen rows of a by eight of b for each of the eight invocations of a subgroup. Each loads
// two rows of a and gets the others by broadcast: a CPU driver loads one invocation at a time.
fn add_rows(acc: ptr<function, array<vec4<f32>, 8>>, own: vec4<f32>, t: Block) {
    (*acc)[0] = multiply_add((*acc)[0], subgroupBroadcast(own, 0u), t);
    (*acc)[1] = multiply_add((*acc)[1], subgroupBroadcast(own, 1u), t);
    (*acc)[2] = multiply_add((*acc)[2], subgroupBroadcast(own, 2u), t);
    (*acc)[3] = multiply_add((*acc)[3], subgroupBroadcast(own, 3u), t);
    (*acc)[4] = multiply_add((*acc)[4], subgroupBroadcast(own, 4u), t);
    (*acc)[5] = multiply_add((*acc)[5], subgroupBroadcast(own, 5u), t);
    (*acc)[6] = multiply_add((*acc)[6], subgroupBroadcast(own, 6u), t);
    (*acc)[7] = multiply_add((*acc)[7], subgroupBroadcast(own, 7u), t);
}

// Rows beyond the batch are the last one.
fn a_quad(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(a4[min(row, params.batch - 1u) * (params.d / 4u) + q]);
}

fn b_quad(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(b4[min(row, params.batch - 1u) * (params.d / 4u) + q]);
}

fn columns(col: u32, q: u32) -> Block {
    return transpose(
        Block(b_quad(col, q), b_quad(col + 8u, q), b_quad(col + 16u, q), b_quad(col + 24u, q)));
}

fn store_row(row: u32, col: u32, dots: vec4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        let at = col + 8u * c;
        if (max(row, at) < params.batch) { work[row * params.batch + at] = dots[c] * params.scale; }
    }
}

fn store_logits(row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    store_row(row, col, (*acc)[0]);
    store_row(row + 1u, col, (*acc)[1]);
    store_row(row + 2u, col, (*acc)[2]);
    store_row(row + 3u, col, (*acc)[3]);
    store_row(row + 4u, col, (*acc)[4]);
    store_row(row + 5u, col, (*acc)[5]);
    store_row(row + 6u, col, (*acc)[6]);
    store_row(row + 7u, col, (*acc)[7]);
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let quads = params.d / 4u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = columns(col, q);
        let right = columns(col + 32u, q);
        let upper = a_quad(row + lane, q);
        let lower = a_quad(row + 8u + lane, q);
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    store_logits(row, col, &upper_left);
    store_logits(row, col + 32u, &upper_right);
    store_logits(row + 8u, col, &lower_left);
    store_logits(row + 8u, col + 32u, &lower_right);
}

// The LSE of a row or a column from the stored logits, or from those of its tiles.
@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = wid.x * WG + lane;
    if (own >= params.batch) { return; }
    let along = SIDE == 0u && TILED == 0u;
    let count = select(params.batch, tile_count(), TILED == 1u);
    let base = select(own + TILED * SIDE * count * params.batch, own * params.batch, along);
    let step = select(params.batch, 1u, along);
    var peak = LOWEST;
    for (var i = 0u; i < count; i++) { if (kept(i)) { peak = max(peak, work[base + i * step]); } }
    var sum = 0.0;
    for (var i = 0u; i < count; i++) { if (kept(i)) { sum += exp(work[base + i * step] - peak); } }
    finish(own, lse_of(peak, sum));
}

// 64 rows of a, then of b, 16 along d, five vec4 apart against bank conflicts.
var<workgroup> tile: array<vec4<f32>, 640>;
// Maximum and sum of exponentials of four logits, sixteen for each of sixteen rows or columns.
var<workgroup> shares: array<vec2<f32>, 256>;

fn block(i: u32) -> Block { return Block(tile[i], tile[i + 80u], tile[i + 160u], tile[i + 240u]); }
fn live4(i: u32) -> vec4<bool> {
    return vec4<bool>(live(i), live(i + 16u), live(i + 32u), live(i + 48u));
}

// Stores the LSE of sixteen rows or columns from `first` on in line `base` of work.
fn reduce(lane: u32, place: u32, l: vec4<f32>, kept: vec4<bool>, base: u32, first: u32) {
    let known = select(vec4<f32>(LOWEST), l, kept);
    let peak = max(max(known.x, known.y), max(known.z, known.w));
    let terms = select(vec4<f32>(), exp(known - peak), kept);
    shares[place] = vec2<f32>(peak, (terms.x + terms.y) + (terms.z + terms.w));
    workgroupBarrier();
    if (lane < 16u && first + lane < params.batch) {
        let own = 16u * lane;
        var top = LOWEST;
        for (var i = own; i < own + 16u; i++) { top = max(top, shares[i].x); }
        var total = 0.0;
        for (var i = own; i < own + 16u; i++) { total += shares[i].y * exp(shares[i].x - top); }
        work[base * params.batch + first + lane] = lse_of(top, total);
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn tiles(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.d / 4u;
    let from_a = min(wid.y * 64u + lane / 4u, params.batch - 1u) * width;
    let from_b = min(wid.x * 64u + lane / 4u, params.batch - 1u) * width;
    let r = lane / 16u;
    let c = lane % 16u;
    var acc: Block;
    for (var first = 0u; first < width; first += 4u) {
        let q = min(first + lane % 4u, width - 1u);
        let inside = first + lane % 4u < width;
        let at = lane / 4u * 5u + lane % 4u;
        tile[at] = select(vec4<f32>(), vec4<f32>(a4[from_a + q]), inside);
        tile[320u + at] = select(vec4<f32>(), vec4<f32>(b4[from_b + q]), inside);
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            add_products(&acc, block(5u * r + i), block(320u + 5u * c + i));
        }
        workgroupBarrier();
    }
    var l = acc * params.scale;
    let cols = live4(wid.x * 64u + c);
    for (var i = 0u; i < 4u; i++) {
        reduce(lane, lane, l[i], cols, wid.x, wid.y * 64u + 16u * i);
    }
    l = transpose(l);
    let rows = live4(wid.y * 64u + r);
    for (var i = 0u; i < 4u; i++) {
        reduce(lane, 16u * c + r, l[i], rows, tile_count() + wid.y, wid.x * 64u + 16u * i);
    }
}

// One workgroup: the mean over the pairs that are present, zero without any.
@compute @workgroup_size(256)
fn mean(@builtin(local_invocation_index) lane: u32) {
    var share = vec2<f32>();
    for (var i = lane; i < params.batch; i += 256u) {
        let term = (row_lse[i] - diagonal[i]) + (col_lse[i] - diagonal[i]);
        if (live(i)) { share += vec2<f32>(term, 1.0); }
    }
    shares[lane] = share;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { shares[lane] += shares[lane + half]; }
    }
    if (lane == 0u) { loss[0] = 0.5 * shares[0].x / max(shares[0].y, 1.0); }
}
