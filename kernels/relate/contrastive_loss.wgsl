// Symmetric InfoNCE loss (arXiv 2103.00020): logits L = scale * a . b^T; row and column
// log-sum-exp; loss = mean over pairs of ((row_lse_i - L_ii) + (col_lse_i - L_ii)) / 2.
// a and b[batch, d], present[batch] -> row_lse and col_lse[batch], loss[1], all f32. An absent
// pair leaves the rows and columns of all others; its own are LOWEST, the LSE of nothing.
//
// `logits` stores L; `fused` streams 64 rows of one side past four of the other for each
// invocation, `tiled` keeps a tile of 64 by 64 in registers: both store an LSE for each 64.
// `broadcast` has 16 by 64 logits in registers and stores the LSE of each 64 of a row and of each
// 16 of a column.

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
// What work holds: 0 logits, 1 the LSE of every 64, 2 that of 64 of a row or 16 of a column, where
// L_ii is known too.
override TILED: u32 = 0u;
alias Block = mat4x4<f32>;
const LOWEST: f32 = -3.0e38;
fn live(i: u32) -> bool { return i < params.batch && present[min(i, params.batch - 1u)] != 0u; }
fn tile_count() -> u32 { return (params.batch + 63u) / 64u; }
fn kept(i: u32) -> bool { return TILED != 0u || live(i); }
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
    if (TILED == 2u) { return; }
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

fn live_columns(col: u32) -> vec4<bool> {
    return vec4<bool>(live(col), live(col + 8u), live(col + 16u), live(col + 24u));
}

// Logits of columns that are there, LOWEST in the place of others.
fn finished(dots: vec4<f32>, is_live: vec4<bool>) -> vec4<f32> {
    return select(vec4<f32>(LOWEST), dots * params.scale, is_live);
}

fn weights(l: vec4<f32>, peak: vec4<f32>) -> vec4<f32> {
    return select(vec4<f32>(), exp(l - peak), l > vec4<f32>(LOWEST));
}

// Stores the LSE of the 64 logits that the subgroup has of a row, and L_ii where it is among them.
fn finish_row(row: u32, col: u32, left: vec4<f32>, right: vec4<f32>) {
    let top = max(left, right);
    let peak = subgroupMax(max(max(top.x, top.y), max(top.z, top.w)));
    let terms = weights(left, vec4<f32>(peak)) + weights(right, vec4<f32>(peak));
    let total = subgroupAdd((terms.x + terms.y) + (terms.z + terms.w));
    let is_row = row < params.batch;
    if (is_row && col % 64u == 0u) { work[col / 64u * params.batch + row] = lse_of(peak, total); }
    if (is_row && row / 64u == col / 64u && row % 8u == col % 8u) {
        let half = select(left, right, row % 64u >= 32u);
        let place = row / 8u % 4u;
        diagonal[row] = select(
            select(half.x, half.y, place == 1u), select(half.z, half.w, place == 3u), place > 1u);
    }
}

// The same of eight rows.
fn finish_rows(
    row: u32, col: u32,
    left: ptr<function, array<vec4<f32>, 8>>, right: ptr<function, array<vec4<f32>, 8>>,
) {
    finish_row(row, col, (*left)[0], (*right)[0]);
    finish_row(row + 1u, col, (*left)[1], (*right)[1]);
    finish_row(row + 2u, col, (*left)[2], (*right)[2]);
    finish_row(row + 3u, col, (*left)[3], (*right)[3]);
    finish_row(row + 4u, col, (*left)[4], (*right)[4]);
    finish_row(row + 5u, col, (*left)[5], (*right)[5]);
    finish_row(row + 6u, col, (*left)[6], (*right)[6]);
    finish_row(row + 7u, col, (*left)[7], (*right)[7]);
}

fn finish_all(l: ptr<function, array<vec4<f32>, 8>>, is_live: vec4<bool>) {
    (*l)[0] = finished((*l)[0], is_live);
    (*l)[1] = finished((*l)[1], is_live);
    (*l)[2] = finished((*l)[2], is_live);
    (*l)[3] = finished((*l)[3], is_live);
    (*l)[4] = finished((*l)[4], is_live);
    (*l)[5] = finished((*l)[5], is_live);
    (*l)[6] = finished((*l)[6], is_live);
    (*l)[7] = finished((*l)[7], is_live);
}

fn larger(peaks: vec4<f32>, l: vec4<f32>, is_live: u32) -> vec4<f32> {
    return select(peaks, max(peaks, l), is_live != 0u);
}

// The largest logit of each column, of eight rows but those of absent pairs.
fn peaks_of(l: ptr<function, array<vec4<f32>, 8>>, is_live: u32) -> vec4<f32> {
    var peaks = vec4<f32>(LOWEST);
    peaks = larger(peaks, (*l)[0], subgroupBroadcast(is_live, 0u));
    peaks = larger(peaks, (*l)[1], subgroupBroadcast(is_live, 1u));
    peaks = larger(peaks, (*l)[2], subgroupBroadcast(is_live, 2u));
    peaks = larger(peaks, (*l)[3], subgroupBroadcast(is_live, 3u));
    peaks = larger(peaks, (*l)[4], subgroupBroadcast(is_live, 4u));
    peaks = larger(peaks, (*l)[5], subgroupBroadcast(is_live, 5u));
    peaks = larger(peaks, (*l)[6], subgroupBroadcast(is_live, 6u));
    peaks = larger(peaks, (*l)[7], subgroupBroadcast(is_live, 7u));
    return peaks;
}

fn row_weights(l: vec4<f32>, peaks: vec4<f32>, is_live: u32) -> vec4<f32> {
    return select(vec4<f32>(), weights(l, peaks), is_live != 0u);
}

fn weights_of(
    l: ptr<function, array<vec4<f32>, 8>>, peaks: vec4<f32>, is_live: u32,
) -> vec4<f32> {
    var totals = row_weights((*l)[0], peaks, subgroupBroadcast(is_live, 0u));
    totals += row_weights((*l)[1], peaks, subgroupBroadcast(is_live, 1u));
    totals += row_weights((*l)[2], peaks, subgroupBroadcast(is_live, 2u));
    totals += row_weights((*l)[3], peaks, subgroupBroadcast(is_live, 3u));
    totals += row_weights((*l)[4], peaks, subgroupBroadcast(is_live, 4u));
    totals += row_weights((*l)[5], peaks, subgroupBroadcast(is_live, 5u));
    totals += row_weights((*l)[6], peaks, subgroupBroadcast(is_live, 6u));
    totals += row_weights((*l)[7], peaks, subgroupBroadcast(is_live, 7u));
    return totals;
}

fn put_column(tile_y: u32, col: u32, peak: f32, total: f32) {
    if (col < params.batch) {
        work[(tile_count() + tile_y) * params.batch + col] = lse_of(peak, total);
    }
}

// Stores the LSE of sixteen rows of four columns.
fn finish_columns(
    tile_y: u32, col: u32,
    upper: ptr<function, array<vec4<f32>, 8>>, lower: ptr<function, array<vec4<f32>, 8>>,
    in_upper: u32, in_lower: u32,
) {
    let peaks = max(peaks_of(upper, in_upper), peaks_of(lower, in_lower));
    let totals = weights_of(upper, peaks, in_upper) + weights_of(lower, peaks, in_lower);
    put_column(tile_y, col, peaks.x, totals.x);
    put_column(tile_y, col + 8u, peaks.y, totals.y);
    put_column(tile_y, col + 16u, peaks.z, totals.z);
    put_column(tile_y, col + 24u, peaks.w, totals.w);
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
    let in_left = live_columns(col);
    let in_right = live_columns(col + 32u);
    finish_all(&upper_left, in_left);
    finish_all(&lower_left, in_left);
    finish_all(&upper_right, in_right);
    finish_all(&lower_right, in_right);
    finish_rows(row, col, &upper_left, &upper_right);
    finish_rows(row + 8u, col, &lower_left, &lower_right);
    let in_upper = u32(live(row + lane));
    let in_lower = u32(live(row + 8u + lane));
    finish_columns(wid.y, col, &upper_left, &lower_left, in_upper, in_lower);
    finish_columns(wid.y, col + 32u, &upper_right, &lower_right, in_upper, in_lower);
}

// The LSE of a row or a column from the stored logits, or from those of its parts.
@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let own = wid.x * WG + lane;
    if (own >= params.batch) { return; }
    let along = SIDE == 0u && TILED == 0u;
    let each = select(64u, 16u, SIDE == 1u && TILED == 2u);
    let count = select(params.batch, (params.batch + each - 1u) / each, TILED != 0u);
    let of_side = select(0u, tile_count() * params.batch, SIDE == 1u && TILED != 0u);
    let base = select(own + of_side, own * params.batch, along);
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
