// What each query of one modality attends to in another: the attention weights a heat map shows.
// q[batch, queries, heads, d], k[batch, keys, heads, d], len[batch]
// -> weights[batch, heads, queries, keys] = softmax(q * k^T / sqrt(d)) for each head,
//    map[batch, queries, keys] = their mean over heads.
// Keys from len on are padding: never read, weight 0; a batch of length 0 gives zeros.
//
// Scores and unrounded weights stay in f32 in `scratch`, so that the map is rounded once.

struct Params { batch: u32, heads: u32, queries: u32, keys: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(2) var<storage, read> k4: array<T4>;
@group(0) @binding(3) var<storage, read> len: array<u32>;
@group(0) @binding(4) var<storage, read_write> weights: array<T>;
@group(0) @binding(5) var<storage, read_write> map: array<T>;
@group(0) @binding(6) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(6) var<storage, read_write> scratch4: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> extremes: array<vec2<f32>>;

override WG: u32 = 64u;

// Below every score.
const LOWEST: f32 = -3.0e38;

// Rows are numbered (b, h, query), as the weights are stored.
fn batch_of(row: u32) -> u32 {
    return row / (params.heads * params.queries);
}

// Where a query or key, one of `count` in its batch, starts in q or k.
fn vector_of(b: u32, count: u32, position: u32, row: u32) -> u32 {
    return ((b * count + position) * params.heads + row / params.queries % params.heads) * params.d;
}

// Four products a step: shorter chains of additions.
fn score(row: u32, key: u32) -> f32 {
    let b = batch_of(row);
    let from_q = vector_of(b, params.queries, row % params.queries, row);
    let from_k = vector_of(b, params.keys, key, row);
    let whole = params.d / 4u * 4u;
    var sum = 0.0;
    for (var i = 0u; i < whole; i += 4u) {
        let x = from_q + i;
        let y = from_k + i;
        sum += dot(
            vec4<f32>(f32(q[x]), f32(q[x + 1u]), f32(q[x + 2u]), f32(q[x + 3u])),
            vec4<f32>(f32(k[y]), f32(k[y + 1u]), f32(k[y + 2u]), f32(k[y + 3u])));
    }
    for (var i = whole; i < params.d; i++) { sum += f32(q[from_q + i]) * f32(k[from_k + i]); }
    return sum * params.scale;
}

fn write(at: u32, peak: f32, total: f32) {
    let weight = exp(scratch[at] - peak) / total;
    scratch[at] = weight;
    weights[at] = to_storage(weight);
}

// One invocation a row of weights: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.batch * params.heads * params.queries) { return; }
    let valid = min(len[batch_of(row)], params.keys);
    let base = row * params.keys;
    var peak = LOWEST;
    for (var key = 0u; key < valid; key++) {
        let s = score(row, key);
        scratch[base + key] = s;
        peak = max(peak, s);
    }
    var total = 0.0;
    for (var key = 0u; key < valid; key++) { total += exp(scratch[base + key] - peak); }
    for (var key = 0u; key < valid; key++) { write(base + key, peak, total); }
    for (var key = valid; key < params.keys; key++) { weights[base + key] = to_storage(0.0); }
}

var<workgroup> partial: array<f32, WG>;

// Maximum or sum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32, is_sum: bool) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = partial[lane + half];
            partial[lane] = select(max(partial[lane], other), partial[lane] + other, is_sum);
        }
    }
    let result = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return result;
}

// One workgroup a row of weights: keys side by side, tree reductions in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch * params.heads * params.queries) { return; }
    let valid = min(len[batch_of(row)], params.keys);
    let base = row * params.keys;
    var peak = LOWEST;
    for (var key = lane; key < valid; key += WG) {
        let s = score(row, key);
        scratch[base + key] = s;
        peak = max(peak, s);
    }
    peak = reduce(lane, peak, false);
    var total = 0.0;
    for (var key = lane; key < valid; key += WG) { total += exp(scratch[base + key] - peak); }
    total = reduce(lane, total, true);
    for (var key = lane; key < valid; key += WG) { write(base + key, peak, total); }
    for (var key = valid + lane; key < params.keys; key += WG) {
        weights[base + key] = to_storage(0.0);
    }
}

// One invocation an element of the map.
@compute @workgroup_size(WG)
fn average(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let plane = params.queries * params.keys;
    if (index >= params.batch * plane) { return; }
    let b = index / plane;
    let first = b * params.heads * plane + index % plane;
    var sum = 0.0;
    if (index % params.keys < len[b]) {
        for (var h = 0u; h < params.heads; h++) { sum += scratch[first + h * plane]; }
    }
    map[index] = to_storage(sum / f32(params.heads));
}

// What follows makes eight queries of one head and 32 keys at a time for the eight invocations of a
// subgroup. A CPU driver makes every load one invocation at a time, so each loaded vector meets
// eight queries: invocation i loads query i and the keys 4i to 4i + 3. Rows of `scratch4` are as
// many vectors as 32 keys at a time need, and `extremes` has the largest score and the sum of
// weights of each row.
var<private> scores: array<vec4<f32>, 8>;
var<private> peaks: array<f32, 8>;
var<private> totals: array<f32, 8>;

fn vectors() -> u32 { return (params.keys + 31u) / 32u * 8u; }

fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: mat4x4<f32>) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four elements of each query with those of four keys.
fn add_products(query: vec4<f32>, keys: mat4x4<f32>) {
    let t = transpose(keys);
    scores[0] = multiply_add(scores[0], subgroupBroadcast(query, 0u), t);
    scores[1] = multiply_add(scores[1], subgroupBroadcast(query, 1u), t);
    scores[2] = multiply_add(scores[2], subgroupBroadcast(query, 2u), t);
    scores[3] = multiply_add(scores[3], subgroupBroadcast(query, 3u), t);
    scores[4] = multiply_add(scores[4], subgroupBroadcast(query, 4u), t);
    scores[5] = multiply_add(scores[5], subgroupBroadcast(query, 5u), t);
    scores[6] = multiply_add(scores[6], subgroupBroadcast(query, 6u), t);
    scores[7] = multiply_add(scores[7], subgroupBroadcast(query, 7u), t);
}

// The scores of one query, LOWEST where there is no key.
fn keep_scores(i: u32, at: u32, hidden: vec4<bool>) {
    let s = select(scores[i] * params.scale, vec4<f32>(LOWEST), hidden);
    peaks[i] = max(peaks[i], max(max(s.x, s.y), max(s.z, s.w)));
    scratch4[at] = s;
}

// The first row of eight, and how many of them there are.
struct Block { row: u32, count: u32, valid: u32 }

fn block_of(group: u32) -> Block {
    let across = (params.queries + 7u) / 8u;
    let first = group % across * 8u;
    let row = group / across * params.queries + first;
    let b = group / across / params.heads;
    let valid = min(len[min(b, params.batch - 1u)], params.keys);
    return Block(row, min(8u, params.queries - first), valid);
}

fn keys_at(start: u32, lane: u32) -> vec4<u32> {
    return start + 4u * lane + vec4<u32>(0u, 1u, 2u, 3u);
}

// Rows beyond the last query repeat it, and store what it stores.
fn row_at(at: Block, i: u32) -> u32 { return at.row + min(i, at.count - 1u); }

fn start_block() {
    peaks = array<f32, 8>(LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST, LOWEST);
    totals = array<f32, 8>();
}

fn keep_block(at: Block, start: u32, lane: u32) {
    let hidden = keys_at(start, lane) >= vec4<u32>(at.valid);
    let column = start / 4u + lane;
    keep_scores(0u, row_at(at, 0u) * vectors() + column, hidden);
    keep_scores(1u, row_at(at, 1u) * vectors() + column, hidden);
    keep_scores(2u, row_at(at, 2u) * vectors() + column, hidden);
    keep_scores(3u, row_at(at, 3u) * vectors() + column, hidden);
    keep_scores(4u, row_at(at, 4u) * vectors() + column, hidden);
    keep_scores(5u, row_at(at, 5u) * vectors() + column, hidden);
    keep_scores(6u, row_at(at, 6u) * vectors() + column, hidden);
    keep_scores(7u, row_at(at, 7u) * vectors() + column, hidden);
    scores = array<vec4<f32>, 8>();
}

fn add_weights(i: u32, at: u32, hidden: vec4<bool>) {
    let w = select(exp(scratch4[at] - peaks[i]), vec4<f32>(), hidden);
    totals[i] += (w.x + w.y) + (w.z + w.w);
}

fn keep_extremes(at: Block, i: u32, lane: u32) {
    let total = subgroupAdd(totals[i]);
    if (lane == i) { extremes[row_at(at, i)] = vec2<f32>(peaks[i], total); }
}

fn finish_block(at: Block, lane: u32) {
    peaks[0] = subgroupMax(peaks[0]);
    peaks[1] = subgroupMax(peaks[1]);
    peaks[2] = subgroupMax(peaks[2]);
    peaks[3] = subgroupMax(peaks[3]);
    peaks[4] = subgroupMax(peaks[4]);
    peaks[5] = subgroupMax(peaks[5]);
    peaks[6] = subgroupMax(peaks[6]);
    peaks[7] = subgroupMax(peaks[7]);
    for (var start = 0u; start < at.valid; start += 32u) {
        let hidden = keys_at(start, lane) >= vec4<u32>(at.valid);
        let column = start / 4u + lane;
        add_weights(0u, row_at(at, 0u) * vectors() + column, hidden);
        add_weights(1u, row_at(at, 1u) * vectors() + column, hidden);
        add_weights(2u, row_at(at, 2u) * vectors() + column, hidden);
        add_weights(3u, row_at(at, 3u) * vectors() + column, hidden);
        add_weights(4u, row_at(at, 4u) * vectors() + column, hidden);
        add_weights(5u, row_at(at, 5u) * vectors() + column, hidden);
        add_weights(6u, row_at(at, 6u) * vectors() + column, hidden);
        add_weights(7u, row_at(at, 7u) * vectors() + column, hidden);
    }
    keep_extremes(at, 0u, lane);
    keep_extremes(at, 1u, lane);
    keep_extremes(at, 2u, lane);
    keep_extremes(at, 3u, lane);
    keep_extremes(at, 4u, lane);
    keep_extremes(at, 5u, lane);
    keep_extremes(at, 6u, lane);
    keep_extremes(at, 7u, lane);
}

fn key_rows(row: u32, keys: vec4<u32>, valid: u32, each: u32) -> vec4<u32> {
    let k = min(keys, vec4<u32>(valid - 1u));
    let b = batch_of(row);
    let head = row / params.queries % params.heads;
    return ((b * params.keys + k) * params.heads + head) * each;
}

// d is a multiple of 4.
@compute @workgroup_size(8)
fn block4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = block_of(wid.x + wid.y * groups.x);
    if (at.row >= params.batch * params.heads * params.queries) { return; }
    start_block();
    let own = row_at(at, lane);
    let quads = params.d / 4u;
    let query = vector_of(batch_of(own), params.queries, own % params.queries, own) / 4u;
    for (var start = 0u; start < at.valid; start += 32u) {
        let rows = key_rows(at.row, keys_at(start, lane), at.valid, quads);
        for (var c = 0u; c < quads; c++) {
            add_products(vec4<f32>(q4[query + c]), mat4x4<f32>(
                vec4<f32>(k4[rows.x + c]), vec4<f32>(k4[rows.y + c]),
                vec4<f32>(k4[rows.z + c]), vec4<f32>(k4[rows.w + c])));
        }
        keep_block(at, start, lane);
    }
    finish_block(at, lane);
}

// Elements 4c to 4c + 3 of a vector, zero beyond it.
fn elements(c: u32) -> vec4<u32> { return 4u * c + vec4<u32>(0u, 1u, 2u, 3u); }

fn q_part(base: u32, c: u32) -> vec4<f32> {
    let i = base + min(elements(c), vec4<u32>(params.d - 1u));
    let four = vec4<f32>(f32(q[i.x]), f32(q[i.y]), f32(q[i.z]), f32(q[i.w]));
    return select(vec4<f32>(), four, elements(c) < vec4<u32>(params.d));
}

fn k_part(base: u32, c: u32) -> vec4<f32> {
    let i = base + min(elements(c), vec4<u32>(params.d - 1u));
    let four = vec4<f32>(f32(k[i.x]), f32(k[i.y]), f32(k[i.z]), f32(k[i.w]));
    return select(vec4<f32>(), four, elements(c) < vec4<u32>(params.d));
}

@compute @workgroup_size(8)
fn block_any(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = block_of(wid.x + wid.y * groups.x);
    if (at.row >= params.batch * params.heads * params.queries) { return; }
    start_block();
    let own = row_at(at, lane);
    let query = vector_of(batch_of(own), params.queries, own % params.queries, own);
    for (var start = 0u; start < at.valid; start += 32u) {
        let rows = key_rows(at.row, keys_at(start, lane), at.valid, params.d);
        for (var c = 0u; c < (params.d + 3u) / 4u; c++) {
            add_products(q_part(query, c), mat4x4<f32>(
                k_part(rows.x, c), k_part(rows.y, c), k_part(rows.z, c), k_part(rows.w, c)));
        }
        keep_block(at, start, lane);
    }
    finish_block(at, lane);
}

fn store_weights(at: u32, key: u32, w: vec4<f32>) {
    if (key < params.keys) { weights[at] = to_storage(w.x); }
    if (key + 1u < params.keys) { weights[at + 1u] = to_storage(w.y); }
    if (key + 2u < params.keys) { weights[at + 2u] = to_storage(w.z); }
    if (key + 3u < params.keys) { weights[at + 3u] = to_storage(w.w); }
}

fn store_map(at: u32, key: u32, mean: vec4<f32>) {
    if (key < params.keys) { map[at] = to_storage(mean.x); }
    if (key + 1u < params.keys) { map[at + 1u] = to_storage(mean.y); }
    if (key + 2u < params.keys) { map[at + 2u] = to_storage(mean.z); }
    if (key + 3u < params.keys) { map[at + 3u] = to_storage(mean.w); }
}

// Four neighbouring weights of one query and of every head, and their mean.
@compute @workgroup_size(8)
fn weigh4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * 8u + lane;
    let across = (params.keys + 3u) / 4u;
    let pair = index / across;
    if (pair >= params.batch * params.queries) { return; }
    let b = pair / params.queries;
    let key = index % across * 4u;
    let hidden = key + vec4<u32>(0u, 1u, 2u, 3u) >= vec4<u32>(min(len[b], params.keys));
    var sum = vec4<f32>();
    for (var h = 0u; h < params.heads; h++) {
        let row = (b * params.heads + h) * params.queries + pair % params.queries;
        var w = vec4<f32>();
        if (!hidden.x) {
            let extreme = extremes[row];
            let all = exp(scratch4[row * vectors() + key / 4u] - extreme.x) / extreme.y;
            w = select(all, vec4<f32>(), hidden);
        }
        store_weights(row * params.keys + key, key, w);
        sum += w;
    }
    store_map(pair * params.keys + key, key, sum / f32(params.heads));
}
