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
