// Cross-attention over int8 keys and values: o = softmax(q * (sk * k)^T / sqrt(d)) * (sv * v).
// q[batch, queries, heads, d]; k and v[batch, keys, heads, QUADS] words of four signed codes with
// scales sk and sv[batch, keys, heads]; len[batch] -> o like q.
// Keys from len on are padding: never read; a batch of length 0 gives zeros.
//
// Online softmax of arXiv 1805.02867 as in cross_attention; codes are scaled after the dot product
// and before the weighted sum, so that each is scaled once (KV cache of arXiv 2402.02750).

struct Params { batch: u32, heads: u32, queries: u32, keys: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(3) var<storage, read> sk: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<u32>;
@group(0) @binding(5) var<storage, read> sv: array<f32>;
@group(0) @binding(6) var<storage, read> len: array<u32>;
@group(0) @binding(7) var<storage, read_write> o: array<T>;

override WG: u32 = 8u;
// ceil(d / 4), so that loops over a row can be unrolled.
override QUADS: u32 = 32u;

// Below every score.
const LOWEST: f32 = -3.0e38;

fn valid_keys(b: u32) -> u32 {
    return min(len[b], params.keys);
}

// Elements i to i + 3 of a row of q, zero beyond it.
fn quad_q(base: u32, i: u32) -> vec4<f32> {
    var row = vec4<f32>();
    for (var c = 0u; c < 4u; c++) { if (i + c < params.d) { row[c] = f32(q[base + i + c]); } }
    return row;
}

fn steps(code: u32) -> vec4<f32> {
    return vec4<f32>(unpack4xI8(code));
}

// What has been seen of one query's keys.
struct Running { peak: f32, total: f32 }

// Takes a score in: the factor for what was summed before.
fn shrink(seen: ptr<function, Running>, score: f32) -> f32 {
    if (score <= (*seen).peak) { return 1.0; }
    let factor = exp((*seen).peak - score);
    (*seen).total *= factor;
    (*seen).peak = score;
    return factor;
}

fn store(base: u32, c: u32, out: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if (4u * c + i < params.d) { o[base + 4u * c + i] = to_storage(out[i]); }
    }
}

// One invocation a query row; neighbours share batch and head and so read the same key.
@compute @workgroup_size(WG)
fn flash(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.heads * params.queries) { return; }
    let b = index / (params.heads * params.queries);
    let h = index / params.queries % params.heads;
    let base = ((b * params.queries + index % params.queries) * params.heads + h) * params.d;
    var query: array<vec4<f32>, 32>;
    var sums: array<vec4<f32>, 32>;
    for (var c = 0u; c < QUADS; c++) { query[c] = quad_q(base, 4u * c); }
    let valid = valid_keys(b);
    var seen = Running(LOWEST, 0.0);
    for (var key = 0u; key < valid; key++) {
        let row = (b * params.keys + key) * params.heads + h;
        var products = 0.0;
        for (var c = 0u; c < QUADS; c++) { products += dot(query[c], steps(k[row * QUADS + c])); }
        let score = products * sk[row] * params.scale;
        let factor = shrink(&seen, score);
        if (factor != 1.0) { for (var c = 0u; c < QUADS; c++) { sums[c] *= factor; } }
        let weight = exp(score - seen.peak);
        seen.total += weight;
        let scaled = weight * sv[row];
        for (var c = 0u; c < QUADS; c++) { sums[c] += scaled * steps(v[row * QUADS + c]); }
    }
    let divisor = select(seen.total, 1.0, valid == 0u);
    for (var c = 0u; c < QUADS; c++) { store(base, c, sums[c] / divisor); }
}

// Keys in workgroup memory at a time.
const TILE: u32 = 32u;
var<workgroup> k_tile: array<u32, 1024>;
var<workgroup> v_tile: array<u32, 1024>;
var<workgroup> scales: array<vec2<f32>, 32>;

// One workgroup WG query rows of one batch and head, which share keys and values.
@compute @workgroup_size(WG)
fn shared_keys(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (params.queries + WG - 1u) / WG;
    let index = wid.x + wid.y * groups.x;
    if (index >= params.batch * params.heads * tiles) { return; }
    let b = index / (params.heads * tiles);
    let h = index / tiles % params.heads;
    let i = index % tiles * WG + lane;
    let query_row = b * params.queries + min(i, params.queries - 1u);
    let base = (query_row * params.heads + h) * params.d;
    var query: array<vec4<f32>, 32>;
    var sums: array<vec4<f32>, 32>;
    for (var c = 0u; c < QUADS; c++) { query[c] = quad_q(base, 4u * c); }
    let valid = valid_keys(b);
    var seen = Running(LOWEST, 0.0);
    for (var first = 0u; first < valid; first += TILE) {
        let here = min(TILE, valid - first);
        for (var at = lane; at < here * QUADS; at += WG) {
            let row = (b * params.keys + first + at / QUADS) * params.heads + h;
            k_tile[at] = k[row * QUADS + at % QUADS];
            v_tile[at] = v[row * QUADS + at % QUADS];
        }
        for (var key = lane; key < here; key += WG) {
            let row = (b * params.keys + first + key) * params.heads + h;
            scales[key] = vec2<f32>(sk[row], sv[row]);
        }
        workgroupBarrier();
        for (var key = 0u; key < here; key++) {
            var products = 0.0;
            for (var c = 0u; c < QUADS; c++) {
                products += dot(query[c], steps(k_tile[key * QUADS + c]));
            }
            let score = products * scales[key].x * params.scale;
            let factor = shrink(&seen, score);
            if (factor != 1.0) { for (var c = 0u; c < QUADS; c++) { sums[c] *= factor; } }
            let weight = exp(score - seen.peak);
            seen.total += weight;
            let scaled = weight * scales[key].y;
            for (var c = 0u; c < QUADS; c++) {
                sums[c] += scaled * steps(v_tile[key * QUADS + c]);
            }
        }
        workgroupBarrier();
    }
    let divisor = select(seen.total, 1.0, valid == 0u);
    if (i < params.queries) {
        for (var c = 0u; c < QUADS; c++) { store(base, c, sums[c] / divisor); }
    }
}
