// Attention through bottleneck tokens (MBT, arXiv 2107.00135): each modality attends over its own
// tokens and the bottlenecks, which then become the mean over the modalities that are present.
// q, k, v[batch, tokens, heads, D] with, for each modality, its tokens and then its projections of
// the bottlenecks; f[batch, bottlenecks, heads, D], present[batch] (bit m)
// -> z[batch, tokens without bottlenecks, heads, D], f_next as f.
//
// ends hold where each modality stops. An absent one is never read and gives zeros; with none the
// bottlenecks stay. `scratch` starts with the parts[modalities, batch, bottlenecks, heads, D] that
// will be averaged. The attention keeps a running maximum (arXiv 2205.14135) or, unfused, leaves
// its scores behind the parts: those of all rows, or of one slice of them after the other.

struct Params {
    batch: u32, heads: u32, modalities: u32, bottlenecks: u32,
    end0: u32, end1: u32, end2: u32, scale: f32,
    // The rows of an unfused slice, how many, and the most keys that a row has.
    first: u32, rows: u32, longest: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(2) var<storage, read> k4: array<T4>;
@group(0) @binding(3) var<storage, read> v: array<T>;
@group(0) @binding(3) var<storage, read> v4: array<T4>;
@group(0) @binding(4) var<storage, read> f: array<T>;
@group(0) @binding(5) var<storage, read> present: array<u32>;
@group(0) @binding(6) var<storage, read_write> z: array<T>;
@group(0) @binding(7) var<storage, read_write> f_next: array<T>;
@group(0) @binding(8) var<storage, read_write> scratch: array<f32>;

override WG: u32 = 64u;
override D: u32 = 64u;
const TILE: u32 = 16u; // keys and values in workgroup memory, 16 KiB at D = 128
const LOWEST: f32 = -3.0e38; // below every score

fn end_of(m: u32) -> u32 {
    return select(select(params.end2, params.end1, m == 1u), params.end0, m == 0u);
}

fn start_of(m: u32) -> u32 { return select(end_of(m - 1u), 0u, m == 0u); }

fn is_present(b: u32, m: u32) -> bool { return ((present[b] >> m) & 1u) == 1u; }

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

// A token of modality m and one of its heads.
struct Row { b: u32, h: u32, m: u32, token: u32 }

// Neighbours share batch and head, and most of them the modality.
fn row_of(index: u32) -> Row {
    let tokens = end_of(params.modalities - 1u);
    let pair = index / tokens;
    let token = index % tokens;
    let m = select(0u, 1u, token >= params.end0) + select(0u, 1u, token >= params.end1);
    return Row(pair / params.heads, pair % params.heads, m, token);
}

fn number(r: Row, token: u32) -> u32 {
    return (r.b * end_of(params.modalities - 1u) + token) * params.heads + r.h;
}

// Stores element i of the mean of values: of a token in z, of a bottleneck among the parts.
fn place(r: Row, i: u32, mean: f32) {
    let plain = end_of(r.m) - params.bottlenecks;
    if (r.token < plain) {
        let each = end_of(params.modalities - 1u) - params.modalities * params.bottlenecks;
        let token = r.b * each + r.token - r.m * params.bottlenecks;
        z[(token * params.heads + r.h) * D + i] = to_storage(mean);
    } else {
        let token = (r.m * params.batch + r.b) * params.bottlenecks + r.token - plain;
        scratch[(token * params.heads + r.h) * D + i] = mean;
    }
}

fn finish(r: Row) {
    let divisor = select(total, 1.0, total == 0.0);
    for (var i = 0u; i < D; i++) { place(r, i, sums[i / 4u][i % 4u] / divisor); }
}

// One invocation a row, no barrier: D % 4 = 0.
@compute @workgroup_size(WG)
fn flash(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let r = row_of((wid.x + wid.y * groups.x) * WG + lane);
    if (r.b >= params.batch) { return; }
    let end = select(0u, end_of(r.m), is_present(r.b, r.m));
    let from_q = number(r, r.token) * (D / 4u);
    var query: array<vec4<f32>, 32>;
    for (var c = 0u; c < D / 4u; c++) { query[c] = vec4<f32>(q4[from_q + c]); }
    for (var key = start_of(r.m); key < end; key++) {
        let at = number(r, key) * (D / 4u);
        var products = 0.0;
        for (var c = 0u; c < D / 4u; c++) { products += dot(query[c], vec4<f32>(k4[at + c])); }
        let weight = weigh(products * params.scale);
        for (var c = 0u; c < D / 4u; c++) { sums[c] += weight * vec4<f32>(v4[at + c]); }
    }
    finish(r);
}

@compute @workgroup_size(WG)
fn flash_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let r = row_of((wid.x + wid.y * groups.x) * WG + lane);
    if (r.b >= params.batch) { return; }
    let end = select(0u, end_of(r.m), is_present(r.b, r.m));
    let from_q = number(r, r.token) * D;
    for (var key = start_of(r.m); key < end; key++) {
        let at = number(r, key) * D;
        var products = 0.0;
        for (var i = 0u; i < D; i++) { products += f32(q[from_q + i]) * f32(k[at + i]); }
        let weight = weigh(products * params.scale);
        for (var i = 0u; i < D; i++) { sums[i / 4u][i % 4u] += weight * f32(v[at + i]); }
    }
    finish(r);
}

var<workgroup> key_tile: array<vec4<f32>, TILE * D / 4u>;
var<workgroup> value_tile: array<vec4<f32>, TILE * D / 4u>;

// WG rows of one modality, batch and head share tiles of keys and values: D % 4 = 0.
@compute @workgroup_size(WG)
fn tile(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let m = wid.y;
    let b = wid.z / params.heads;
    let stop = end_of(m);
    let token = start_of(m) + wid.x * WG + lane;
    let r = Row(b, wid.z % params.heads, m, token);
    let from_q = number(r, min(token, stop - 1u)) * (D / 4u);
    var query: array<vec4<f32>, 32>;
    let end = select(0u, stop, is_present(b, m));
    for (var c = 0u; c < D / 4u; c++) { query[c] = vec4<f32>(q4[from_q + c]); }
    for (var first = start_of(m); first < end; first += TILE) {
        for (var i = lane; i < TILE * D / 4u; i += WG) {
            let at = number(r, min(first + i / (D / 4u), end - 1u)) * (D / 4u) + i % (D / 4u);
            key_tile[i] = vec4<f32>(k4[at]);
            value_tile[i] = vec4<f32>(v4[at]);
        }
        workgroupBarrier();
        for (var j = 0u; j < min(TILE, end - first); j++) {
            var products = 0.0;
            for (var c = 0u; c < D / 4u; c++) {
                products += dot(query[c], key_tile[j * (D / 4u) + c]);
            }
            let weight = weigh(products * params.scale);
            for (var c = 0u; c < D / 4u; c++) { sums[c] += weight * value_tile[j * (D / 4u) + c]; }
        }
        workgroupBarrier();
    }
    if (token < stop) { finish(r); }
}

// Where the scores of a row of the slice are.
fn scores_of(index: u32) -> u32 {
    let parts = params.modalities * params.batch * params.bottlenecks * params.heads * D;
    return parts + index * params.longest;
}

fn keys_of(r: Row) -> u32 {
    return select(0u, end_of(r.m) - start_of(r.m), is_present(r.b, r.m));
}

// One invocation a score.
@compute @workgroup_size(WG)
fn score_pairs(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let pair = (wid.x + wid.y * groups.x) * WG + lane;
    let index = pair / params.longest;
    if (index >= params.rows) { return; }
    let r = row_of(params.first + index);
    let key = pair % params.longest;
    if (key >= keys_of(r)) { return; }
    let from_q = number(r, r.token) * D;
    let from_k = number(r, start_of(r.m) + key) * D;
    var products = 0.0;
    for (var i = 0u; i < D; i++) { products += f32(q[from_q + i]) * f32(k[from_k + i]); }
    scratch[scores_of(index) + key] = products * params.scale;
}

var<workgroup> partial: array<f32, WG>;

// Sum or maximum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32, is_sum: bool) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = partial[lane + half];
            partial[lane] = select(max(partial[lane], other), partial[lane] + other, is_sum);
        }
    }
    return workgroupUniformLoad(&partial[0]);
}

// One workgroup a row of scores, in place.
@compute @workgroup_size(WG)
fn softmax_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let index = wid.x + wid.y * groups.x;
    if (index >= params.rows) { return; }
    let base = scores_of(index);
    let stop = base + keys_of(row_of(params.first + index));
    var highest = LOWEST;
    for (var i = base + lane; i < stop; i += WG) { highest = max(highest, scratch[i]); }
    highest = reduce(lane, highest, false);
    var sum = 0.0;
    for (var i = base + lane; i < stop; i += WG) { sum += exp(scratch[i] - highest); }
    sum = reduce(lane, sum, true);
    for (var i = base + lane; i < stop; i += WG) { scratch[i] = exp(scratch[i] - highest) / sum; }
}

// One invocation an element of a row.
@compute @workgroup_size(WG)
fn mix_values(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let element = (wid.x + wid.y * groups.x) * WG + lane;
    let index = element / D;
    if (index >= params.rows) { return; }
    let r = row_of(params.first + index);
    let weights = scores_of(index);
    let values = number(r, start_of(r.m)) * D + element % D;
    let keys = keys_of(r);
    var sum = 0.0;
    for (var key = 0u; key < keys; key++) {
        sum += scratch[weights + key] * f32(v[values + key * params.heads * D]);
    }
    place(r, element % D, sum);
}

// One invocation an element of f_next.
@compute @workgroup_size(WG)
fn average(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let each = params.bottlenecks * params.heads * D;
    if (index >= params.batch * each) { return; }
    var sum = 0.0;
    var count = 0.0;
    for (var m = 0u; m < params.modalities; m++) {
        if (is_present(index / each, m)) {
            sum += scratch[m * params.batch * each + index];
            count += 1.0;
        }
    }
    if (count > 0.0) { f_next[index] = to_storage(sum / count); } else { f_next[index] = f[index]; }
}

// Sixteen rows of a modality for a subgroup of eight, as in cross_attention_block.wgsl: invocation
// i loads rows i and i + 8 and, of 32 keys at a time, i, i + 8, i + 16 and i + 24; then four values
// of each key, those at i, i + 8 and so on. D % 4 = 0.
struct Query { weights: vec4<f32>, peak: f32, total: f32, shrink: f32 }
// `sums` are those of the values at i, i + 8, i + 16 and i + 24 vectors of four.
struct Octet {
    scores: array<vec4<f32>, 8>, queries: array<Query, 8>, sums: array<array<vec4<f32>, 8>, 4>,
}
alias Held = ptr<private, Octet>;
var<private> low: Octet;
var<private> high: Octet;

// The first row, and where its modality ends.
struct Block { r: Row, end: u32 }

// Where four tokens begin, in vectors; the last one instead of any beyond.
fn tokens4(at: Block, start: u32) -> vec4<u32> {
    let token = min(vec4<u32>(start, start + 8u, start + 16u, start + 24u), vec4<u32>(at.end - 1u));
    return (number(at.r, 0u) + token * params.heads) * (D / 4u);
}
fn add_scores(octet: Held, query: vec4<f32>, t: mat4x4<f32>) {
    (*octet).scores[0] += t * subgroupBroadcast(query, 0u);
    (*octet).scores[1] += t * subgroupBroadcast(query, 1u);
    (*octet).scores[2] += t * subgroupBroadcast(query, 2u);
    (*octet).scores[3] += t * subgroupBroadcast(query, 3u);
    (*octet).scores[4] += t * subgroupBroadcast(query, 4u);
    (*octet).scores[5] += t * subgroupBroadcast(query, 5u);
    (*octet).scores[6] += t * subgroupBroadcast(query, 6u);
    (*octet).scores[7] += t * subgroupBroadcast(query, 7u);
}
fn weigh_query(octet: Held, i: u32, hidden: vec4<bool>) {
    let before = (*octet).queries[i];
    let scaled = select((*octet).scores[i] * params.scale, vec4<f32>(LOWEST), hidden);
    let highest = max(max(scaled.x, scaled.y), max(scaled.z, scaled.w));
    let top = max(before.peak, subgroupMax(highest));
    let shrink = select(exp(before.peak - top), 1.0, before.peak == top);
    let apart = scaled - top;
    let tied = select(exp(apart), vec4<f32>(1.0), apart == vec4<f32>()); // ties sum exactly
    let weights = select(tied, vec4<f32>(), hidden);
    let sum = before.total * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
    (*octet).queries[i] = Query(weights, top, sum, shrink);
    (*octet).scores[i] = vec4<f32>();
    (*octet).sums[0][i] *= shrink;
    if (D > 32u) { (*octet).sums[1][i] *= shrink; }
    if (D > 64u) { (*octet).sums[2][i] *= shrink; }
    if (D > 96u) { (*octet).sums[3][i] *= shrink; }
}
fn weigh_octet(octet: Held, hidden: vec4<bool>) {
    weigh_query(octet, 0u, hidden); weigh_query(octet, 1u, hidden);
    weigh_query(octet, 2u, hidden); weigh_query(octet, 3u, hidden);
    weigh_query(octet, 4u, hidden); weigh_query(octet, 5u, hidden);
    weigh_query(octet, 6u, hidden); weigh_query(octet, 7u, hidden);
}
fn add_to(octet: Held, part: u32, n: u32, i: u32, values: mat4x4<f32>) {
    (*octet).sums[part][n] += values * subgroupShuffle((*octet).queries[n].weights, i);
}
fn add_part(octet: Held, part: u32, i: u32, values: mat4x4<f32>) {
    add_to(octet, part, 0u, i, values); add_to(octet, part, 1u, i, values);
    add_to(octet, part, 2u, i, values); add_to(octet, part, 3u, i, values);
    add_to(octet, part, 4u, i, values); add_to(octet, part, 5u, i, values);
    add_to(octet, part, 6u, i, values); add_to(octet, part, 7u, i, values);
}
// Vectors beyond the row repeat its last one and are not stored.
fn add_values(tokens: vec4<u32>, part: u32, i: u32, lane: u32) {
    let c = min(8u * part + lane, D / 4u - 1u);
    let values = mat4x4<f32>(vec4<f32>(v4[tokens.x + c]), vec4<f32>(v4[tokens.y + c]),
        vec4<f32>(v4[tokens.z + c]), vec4<f32>(v4[tokens.w + c]));
    add_part(&low, part, i, values);
    add_part(&high, part, i, values);
}
fn place_part(r: Row, part: u32, lane: u32, mean: vec4<f32>) {
    let first = 4u * (8u * part + lane);
    for (var i = first; i < min(first + 4u, D); i++) { place(r, i, mean[i % 4u]); }
}
fn place_query(octet: Held, at: Block, i: u32, offset: u32, lane: u32) {
    let sum = subgroupAdd((*octet).queries[i].total);
    let divisor = select(sum, 1.0, sum == 0.0);
    var r = at.r;
    r.token += i + offset;
    if (r.token >= end_of(r.m)) { return; }
    place_part(r, 0u, lane, (*octet).sums[0][i] / divisor);
    if (D > 32u) { place_part(r, 1u, lane, (*octet).sums[1][i] / divisor); }
    if (D > 64u) { place_part(r, 2u, lane, (*octet).sums[2][i] / divisor); }
    if (D > 96u) { place_part(r, 3u, lane, (*octet).sums[3][i] / divisor); }
}
fn place_octet(octet: Held, at: Block, offset: u32, lane: u32) {
    place_query(octet, at, 0u, offset, lane); place_query(octet, at, 1u, offset, lane);
    place_query(octet, at, 2u, offset, lane); place_query(octet, at, 3u, offset, lane);
    place_query(octet, at, 4u, offset, lane); place_query(octet, at, 5u, offset, lane);
    place_query(octet, at, 6u, offset, lane); place_query(octet, at, 7u, offset, lane);
}
fn begin(octet: Held) {
    let none = Query(vec4<f32>(), LOWEST, 0.0, 1.0);
    (*octet).queries = array<Query, 8>(none, none, none, none, none, none, none, none);
}

// The grid is blocks of rows by modalities by batch and heads.
@compute @workgroup_size(8)
fn subgroup_block(@builtin(workgroup_id) wid: vec3<u32>,
    @builtin(subgroup_invocation_id) lane: u32) {
    let pair = wid.z;
    let m = wid.y;
    let start = start_of(m);
    let first = start + 16u * wid.x;
    if (first >= end_of(m)) { return; }
    let at = Block(Row(pair / params.heads, pair % params.heads, m, first), end_of(m));
    begin(&low);
    begin(&high);
    let rows = tokens4(at, first + lane);
    let end = select(start, at.end, is_present(at.r.b, m));
    for (var key = start; key < end; key += 32u) {
        let keys = tokens4(at, key + lane);
        for (var c = 0u; c < D / 4u; c++) {
            let t = transpose(mat4x4<f32>(vec4<f32>(k4[keys.x + c]), vec4<f32>(k4[keys.y + c]),
                vec4<f32>(k4[keys.z + c]), vec4<f32>(k4[keys.w + c])));
            add_scores(&low, vec4<f32>(q4[rows.x + c]), t);
            add_scores(&high, vec4<f32>(q4[rows.y + c]), t);
        }
        let own = key + lane + vec4<u32>(0u, 8u, 16u, 24u);
        weigh_octet(&low, own >= vec4<u32>(end));
        weigh_octet(&high, own >= vec4<u32>(end));
        for (var i = 0u; i < 8u; i++) {
            let tokens = tokens4(at, key + i);
            add_values(tokens, 0u, i, lane);
            if (D > 32u) { add_values(tokens, 1u, i, lane); }
            if (D > 64u) { add_values(tokens, 2u, i, lane); }
            if (D > 96u) { add_values(tokens, 3u, i, lane); }
        }
    }
    place_octet(&low, at, 0u, lane);
    place_octet(&high, at, 8u, lane);
}
