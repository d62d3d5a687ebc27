// Gated cross-attention of Flamingo (arXiv 2204.14198): y = x + tanh(alpha) * (o w^T), where o
// attends to the latents of the one medium that a query follows, number times[query] from 1.
// x[batch, queries, width], q[batch, queries, heads, D], kv[batch, media * latents, 2, heads, D]
// (keys before values), w[width, heads * D], times[batch, queries], o[batch, queries, heads, D] in
// between -> y[batch, queries, width].
//
// With alpha = 0, or for a query before the first medium or after the last, y is x bit for bit. The
// attention keeps a running maximum (arXiv 2205.14135). Where D % 4 = 0 rows are read as vec4.

struct Params {
    batch: u32, heads: u32, queries: u32, media: u32, latents: u32, width: u32,
    alpha: f32, scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> q4: array<T4>;
@group(0) @binding(3) var<storage, read> kv: array<T>;
@group(0) @binding(3) var<storage, read> kv4: array<T4>;
@group(0) @binding(4) var<storage, read> w: array<T>;
@group(0) @binding(4) var<storage, read> w4: array<T4>;
@group(0) @binding(5) var<storage, read> times: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<T>;
@group(0) @binding(7) var<storage, read_write> o: array<f32>;
@group(0) @binding(7) var<storage, read_write> o4: array<vec4<f32>>;

override WG: u32 = 64u;
override D: u32 = 64u;
const LOWEST: f32 = -3.0e38; // below every score

fn sees(time: u32) -> bool { return time >= 1u && time <= params.media; }

// The largest score seen; the sum of weights relative to it, and of the values they multiply.
var<private> peak: f32 = LOWEST;
var<private> total: f32;
var<private> sums: array<vec4<f32>, 32>;

// The weight of one more score.
fn weigh(score: f32) -> f32 {
    if (score > peak) {
        let shrink = exp(peak - score);
        total *= shrink;
        for (var c = 0u; c < (D + 3u) / 4u; c++) { sums[c] *= shrink; }
        peak = score;
    }
    let weight = select(exp(score - peak), 1.0, score == peak); // ties sum exactly
    total += weight;
    return weight;
}

// What one invocation attends to: neighbours share batch and head.
struct Block { position: u32, h: u32, first: u32, end: u32 }

fn block_of(index: u32) -> Block {
    let pair = index / params.queries;
    let b = pair / params.heads;
    let position = b * params.queries + index % params.queries;
    if (b >= params.batch || !sees(times[position])) {
        return Block(position, pair % params.heads, 0u, 0u);
    }
    let first = (b * params.media + times[position] - 1u) * params.latents;
    return Block(position, pair % params.heads, first, first + params.latents);
}

// One invocation a query row: D % 4 = 0.
@compute @workgroup_size(WG)
fn attend(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = block_of((wid.x + wid.y * groups.x) * WG + lane);
    if (at.position >= params.batch * params.queries) { return; }
    let row = (at.position * params.heads + at.h) * (D / 4u);
    var query: array<vec4<f32>, 32>;
    for (var c = 0u; c < D / 4u; c++) { query[c] = vec4<f32>(q4[row + c]); }
    for (var key = at.first; key < at.end; key++) {
        let from_k = (2u * key * params.heads + at.h) * (D / 4u);
        let from_v = from_k + params.heads * (D / 4u);
        var products = 0.0;
        for (var c = 0u; c < D / 4u; c++) { products += dot(query[c], vec4<f32>(kv4[from_k + c])); }
        let weight = weigh(products * params.scale);
        for (var c = 0u; c < D / 4u; c++) { sums[c] += weight * vec4<f32>(kv4[from_v + c]); }
    }
    let divisor = select(total, 1.0, total == 0.0);
    for (var c = 0u; c < D / 4u; c++) { o4[row + c] = sums[c] / divisor; }
}

@compute @workgroup_size(WG)
fn attend_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let at = block_of((wid.x + wid.y * groups.x) * WG + lane);
    if (at.position >= params.batch * params.queries) { return; }
    let row = (at.position * params.heads + at.h) * D;
    for (var key = at.first; key < at.end; key++) {
        let from_k = (2u * key * params.heads + at.h) * D;
        let from_v = from_k + params.heads * D;
        var products = 0.0;
        for (var i = 0u; i < D; i++) { products += f32(q[row + i]) * f32(kv[from_k + i]); }
        let weight = weigh(products * params.scale);
        for (var i = 0u; i < D; i++) { sums[i / 4u][i % 4u] += weight * f32(kv[from_v + i]); }
    }
    let divisor = select(total, 1.0, total == 0.0);
    for (var i = 0u; i < D; i++) { o[row + i] = sums[i / 4u][i % 4u] / divisor; }
}

// Absolute error below 1e-6, where the built-in may be off by 1e-5.
fn tanh_exp(v: f32) -> f32 {
    let magnitude = 1.0 - 2.0 / (exp(2.0 * min(abs(v), 15.0)) + 1.0);
    return select(magnitude, -magnitude, v < 0.0);
}

fn write(row: u32, col: u32, dot: f32) {
    if (row >= params.batch * params.queries || col >= params.width) { return; }
    let at = row * params.width + col;
    var out = x[at];
    if (params.alpha != 0.0 && sees(times[row])) {
        out = to_storage(f32(x[at]) + tanh_exp(params.alpha) * dot);
    }
    y[at] = out;
}

// Four columns, which are the columns of acc, by four rows.
fn write_block(row: u32, down: u32, col: u32, across: u32, acc: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        write(row + i * down, col, acc[0][i]);
        write(row + i * down, col + across, acc[1][i]);
        write(row + i * down, col + 2u * across, acc[2][i]);
        write(row + i * down, col + 3u * across, acc[3][i]);
    }
}

// Row and column beyond the matrices load the last one and are not stored.
fn o_row(row: u32, c: u32) -> vec4<f32> {
    return o4[min(row, params.batch * params.queries - 1u) * (params.heads * D / 4u) + c];
}
fn w_row(col: u32, c: u32) -> vec4<f32> {
    return vec4<f32>(w4[min(col, params.width - 1u) * (params.heads * D / 4u) + c]);
}

// Eight consecutive rows and four columns WG apart for each invocation, no barrier: D % 4 = 0.
@compute @workgroup_size(WG)
fn project(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let r = wid.y * 8u;
    let col = wid.x * 4u * WG + lane;
    var upper: mat4x4<f32>;
    var lower: mat4x4<f32>;
    for (var c = 0u; c < params.heads * D / 4u; c++) {
        let a = mat4x4<f32>(o_row(r, c), o_row(r + 1u, c), o_row(r + 2u, c), o_row(r + 3u, c));
        let b = mat4x4<f32>(o_row(r + 4u, c), o_row(r + 5u, c), o_row(r + 6u, c), o_row(r + 7u, c));
        let w0 = w_row(col, c);
        let w1 = w_row(col + WG, c);
        let w2 = w_row(col + 2u * WG, c);
        let w3 = w_row(col + 3u * WG, c);
        upper += mat4x4<f32>(w0 * a, w1 * a, w2 * a, w3 * a);
        lower += mat4x4<f32>(w0 * b, w1 * b, w2 * b, w3 * b);
    }
    write_block(r, 1u, col, WG, upper);
    write_block(r + 4u, 1u, col, WG, lower);
}

@compute @workgroup_size(WG)
fn project_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let col = wid.x * WG + lane;
    let inner = params.heads * D;
    var dot = 0.0;
    for (var i = 0u; i < inner && col < params.width; i++) {
        dot += o[wid.y * inner + i] * f32(w[col * inner + i]);
    }
    write(wid.y, col, dot);
}

// 32 rows by 32 columns by 16 along the reduction, each of 64 invocations four by four, 8 apart.
// Rows are five vec4 apart instead of four, so that neighbouring columns are on different banks.
var<workgroup> rows: array<vec4<f32>, 160>;
var<workgroup> cols: array<vec4<f32>, 160>;

@compute @workgroup_size(64)
fn project_tiled(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let last = params.heads * D / 4u - 1u;
    var acc: mat4x4<f32>;
    for (var start = 0u; start <= last; start += 4u) {
        for (var i = lane; i < 128u; i += 64u) {
            let c = start + i % 4u;
            let row = o_row(wid.y * 32u + i / 4u, min(c, last));
            rows[i / 4u * 5u + i % 4u] = select(vec4<f32>(), row, c <= last);
            cols[i / 4u * 5u + i % 4u] = w_row(wid.x * 32u + i / 4u, min(c, last));
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            let r = lane / 8u * 5u + c;
            let n = lane % 8u * 5u + c;
            let four = mat4x4<f32>(rows[r], rows[r + 40u], rows[r + 80u], rows[r + 120u]);
            acc += mat4x4<f32>(cols[n] * four, cols[n + 40u] * four, cols[n + 80u] * four,
                cols[n + 120u] * four);
        }
        workgroupBarrier();
    }
    write_block(wid.y * 32u + lane / 8u, 8u, wid.x * 32u + lane % 8u, 8u, acc);
}

// Products of four columns with the elements that invocation `first` and the next three loaded.
fn add_rows(acc: mat4x4<f32>, w: mat4x4<f32>, v: vec4<f32>, first: u32) -> mat4x4<f32> {
    let four = mat4x4<f32>(subgroupShuffle(v, first), subgroupShuffle(v, first + 1u),
        subgroupShuffle(v, first + 2u), subgroupShuffle(v, first + 3u));
    return acc + mat4x4<f32>(w[0] * four, w[1] * four, w[2] * four, w[3] * four);
}

// Sixteen rows by 32 columns a subgroup of eight: invocation i loads rows i and i + 8, which the
// others get from it, and has four columns, eight apart. D % 4 = 0.
@compute @workgroup_size(8)
fn project_broadcast(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32) {
    let r = wid.y * 16u;
    let col = wid.x * 32u + lane;
    var a: mat4x4<f32>;
    var b: mat4x4<f32>;
    var c: mat4x4<f32>;
    var d: mat4x4<f32>;
    for (var i = 0u; i < params.heads * D / 4u; i++) {
        let low = o_row(r + lane, i);
        let high = o_row(r + lane + 8u, i);
        let w = mat4x4<f32>(
            w_row(col, i), w_row(col + 8u, i), w_row(col + 16u, i), w_row(col + 24u, i));
        a = add_rows(a, w, low, 0u);
        b = add_rows(b, w, low, 4u);
        c = add_rows(c, w, high, 0u);
        d = add_rows(d, w, high, 4u);
    }
    write_block(r, 1u, col, 8u, a);
    write_block(r + 4u, 1u, col, 8u, b);
    write_block(r + 8u, 1u, col, 8u, c);
    write_block(r + 12u, 1u, col, 8u, d);
}
