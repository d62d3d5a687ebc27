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

// Four columns, eight apart.
fn w_rows(col: u32, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        w_row(col, i), w_row(col + 8u, i), w_row(col + 16u, i), w_row(col + 24u, i));
}

// Sixteen rows by four columns of an invocation.
struct Sums { a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32> }

fn added(s: Sums, w: mat4x4<f32>, low: vec4<f32>, high: vec4<f32>) -> Sums {
    return Sums(add_rows(s.a, w, low, 0u), add_rows(s.b, w, low, 4u),
        add_rows(s.c, w, high, 0u), add_rows(s.d, w, high, 4u));
}

fn write_sums(r: u32, col: u32, s: Sums) {
    write_block(r, 1u, col, 8u, s.a);
    write_block(r + 4u, 1u, col, 8u, s.b);
    write_block(r + 8u, 1u, col, 8u, s.c);
    write_block(r + 12u, 1u, col, 8u, s.d);
}

// Sixteen rows by 64 columns a subgroup of eight: invocation i loads rows i and i + 8, which the
// others get from it, and has eight columns, eight apart. D % 4 = 0.
@compute @workgroup_size(8)
fn project_broadcast(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32) {
    let r = wid.y * 16u;
    let col = wid.x * 64u + lane;
    var left: Sums;
    var right: Sums;
    for (var i = 0u; i < params.heads * D / 4u; i++) {
        let low = o_row(r + lane, i);
        let high = o_row(r + lane + 8u, i);
        left = added(left, w_rows(col, i), low, high);
        right = added(right, w_rows(col + 32u, i), low, high);
    }
    write_sums(r, col, left);
    write_sums(r, col + 32u, right);
}

// Sixteen queries of a head for a subgroup of eight, as in cross_attention_block.wgsl: invocation i
// loads queries i and i + 8 and, of 32 keys at a time, i, i + 8, i + 16 and i + 24; then four
// values of each key, those at i, i + 8 and so on. Keys are those of all media that the queries
// see.
struct Query { scores: vec4<f32>, weights: vec4<f32>, peak: f32, total: f32, shrink: f32 }
var<private> held: array<Query, 16>;
// Sums of the values at i, i + 8, i + 16 and i + 24 vectors of four.
var<private> parts: array<array<vec4<f32>, 16>, 4>;

// The keys of a query, none if it sees no medium.
struct Span { first: u32, end: u32 }
fn span_of(b: u32, query: u32) -> Span {
    let time = times[b * params.queries + min(query, params.queries - 1u)];
    if (query >= params.queries || !sees(time)) { return Span(0xffffffffu, 0u); }
    let first = (b * params.media + time - 1u) * params.latents;
    return Span(first, first + params.latents);
}
fn four(start: u32) -> vec4<u32> { return start + vec4<u32>(0u, 8u, 16u, 24u); }
fn add_score(i: u32, query: vec4<f32>, t: mat4x4<f32>) { held[i].scores += t * query; }
fn add_scores(first: u32, query: vec4<f32>, t: mat4x4<f32>) {
    add_score(first, subgroupBroadcast(query, 0u), t);
    add_score(first + 1u, subgroupBroadcast(query, 1u), t);
    add_score(first + 2u, subgroupBroadcast(query, 2u), t);
    add_score(first + 3u, subgroupBroadcast(query, 3u), t);
    add_score(first + 4u, subgroupBroadcast(query, 4u), t);
    add_score(first + 5u, subgroupBroadcast(query, 5u), t);
    add_score(first + 6u, subgroupBroadcast(query, 6u), t);
    add_score(first + 7u, subgroupBroadcast(query, 7u), t);
}
fn weigh_query(i: u32, own: vec4<u32>, span: Span) {
    let before = held[i];
    let hidden = (own < vec4<u32>(span.first)) | (own >= vec4<u32>(span.end));
    let scaled = select(before.scores * params.scale, vec4<f32>(LOWEST), hidden);
    let highest = max(max(scaled.x, scaled.y), max(scaled.z, scaled.w));
    let top = max(before.peak, subgroupMax(highest));
    let shrink = select(exp(before.peak - top), 1.0, before.peak == top);
    let apart = scaled - top;
    let tied = select(exp(apart), vec4<f32>(1.0), apart == vec4<f32>()); // ties sum exactly
    let weights = select(tied, vec4<f32>(), hidden);
    let sum = before.total * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
    held[i] = Query(vec4<f32>(), weights, top, sum, shrink);
    parts[0][i] *= shrink;
    if (D > 32u) { parts[1][i] *= shrink; }
    if (D > 64u) { parts[2][i] *= shrink; }
    if (D > 96u) { parts[3][i] *= shrink; }
}
fn weigh_octet(first: u32, own: vec4<u32>, span: Span) {
    weigh_query(first, own, of_query(span, 0u)); weigh_query(first + 1u, own, of_query(span, 1u));
    weigh_query(first + 2u, own, of_query(span, 2u));
    weigh_query(first + 3u, own, of_query(span, 3u));
    weigh_query(first + 4u, own, of_query(span, 4u));
    weigh_query(first + 5u, own, of_query(span, 5u));
    weigh_query(first + 6u, own, of_query(span, 6u));
    weigh_query(first + 7u, own, of_query(span, 7u));
}
fn of_query(span: Span, i: u32) -> Span {
    return Span(subgroupShuffle(span.first, i), subgroupShuffle(span.end, i));
}
fn add_to(part: u32, n: u32, i: u32, values: mat4x4<f32>) {
    parts[part][n] += values * subgroupShuffle(held[n].weights, i);
}
// Vectors beyond the row repeat its last one and are not stored.
fn add_values(first: vec4<u32>, part: u32, i: u32, lane: u32) {
    let at = first + min(8u * part + lane, D / 4u - 1u);
    let values = mat4x4<f32>(
        vec4<f32>(kv4[at.x]), vec4<f32>(kv4[at.y]), vec4<f32>(kv4[at.z]), vec4<f32>(kv4[at.w]));
    add_to(part, 0u, i, values); add_to(part, 1u, i, values); add_to(part, 2u, i, values);
    add_to(part, 3u, i, values); add_to(part, 4u, i, values); add_to(part, 5u, i, values);
    add_to(part, 6u, i, values); add_to(part, 7u, i, values); add_to(part, 8u, i, values);
    add_to(part, 9u, i, values); add_to(part, 10u, i, values); add_to(part, 11u, i, values);
    add_to(part, 12u, i, values); add_to(part, 13u, i, values); add_to(part, 14u, i, values);
    add_to(part, 15u, i, values);
}
fn place(i: u32, b: u32, query: u32, h: u32, lane: u32) {
    let sum = subgroupAdd(held[i].total);
    let divisor = select(sum, 1.0, sum == 0.0);
    if (query + i >= params.queries) { return; }
    let row = ((b * params.queries + query + i) * params.heads + h) * (D / 4u);
    if (lane < D / 4u) { o4[row + lane] = parts[0][i] / divisor; }
    if (lane + 8u < D / 4u) { o4[row + lane + 8u] = parts[1][i] / divisor; }
    if (lane + 16u < D / 4u) { o4[row + lane + 16u] = parts[2][i] / divisor; }
    if (lane + 24u < D / 4u) { o4[row + lane + 24u] = parts[3][i] / divisor; }
}
fn place_octet(first: u32, b: u32, query: u32, h: u32, lane: u32) {
    place(first, b, query, h, lane); place(first + 1u, b, query, h, lane);
    place(first + 2u, b, query, h, lane); place(first + 3u, b, query, h, lane);
    place(first + 4u, b, query, h, lane); place(first + 5u, b, query, h, lane);
    place(first + 6u, b, query, h, lane); place(first + 7u, b, query, h, lane);
}
fn query_row(b: u32, query: u32, h: u32) -> u32 {
    let position = b * params.queries + min(query, params.queries - 1u);
    return (position * params.heads + h) * (D / 4u);
}

// D % 4 = 0.
@compute @workgroup_size(8)
fn attend_block(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32) {
    let blocks = (params.queries + 15u) / 16u;
    let index = wid.x + wid.y * groups.x;
    let pair = index / blocks;
    if (pair >= params.batch * params.heads) { return; }
    let b = pair / params.heads;
    let h = pair % params.heads;
    let query = index % blocks * 16u;
    let low = span_of(b, query + lane);
    let high = span_of(b, query + lane + 8u);
    for (var i = 0u; i < 16u; i++) { held[i].peak = LOWEST; }
    let low_row = query_row(b, query + lane, h);
    let high_row = query_row(b, query + lane + 8u, h);
    let end = subgroupMax(max(low.end, high.end));
    for (var key = subgroupMin(min(low.first, high.first)); key < end; key += 32u) {
        let own = four(key + lane);
        let keys = (2u * min(own, vec4<u32>(end - 1u)) * params.heads + h) * (D / 4u);
        for (var c = 0u; c < D / 4u; c++) {
            let t = transpose(mat4x4<f32>(vec4<f32>(kv4[keys.x + c]), vec4<f32>(kv4[keys.y + c]),
                vec4<f32>(kv4[keys.z + c]), vec4<f32>(kv4[keys.w + c])));
            add_scores(0u, vec4<f32>(q4[low_row + c]), t);
            add_scores(8u, vec4<f32>(q4[high_row + c]), t);
        }
        weigh_octet(0u, own, low);
        weigh_octet(8u, own, high);
        for (var i = 0u; i < 8u; i++) {
            let taken = min(four(key + i), vec4<u32>(end - 1u));
            let values = ((2u * taken + 1u) * params.heads + h) * (D / 4u);
            add_values(values, 0u, i, lane);
            if (D > 32u) { add_values(values, 1u, i, lane); }
            if (D > 64u) { add_values(values, 2u, i, lane); }
            if (D > 96u) { add_values(values, 3u, i, lane); }
        }
    }
    place_octet(0u, b, query, h, lane);
    place_octet(8u, b, query, h, lane);
}
