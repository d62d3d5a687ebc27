// Non-local gate (`NLgate` of MultiBench): y = q + softmax(q . k^T) . k, without 1 / sqrt(d), so
// that scores may be large.
// q[batch, queries, d], k[batch, keys, d], len[batch], present[batch] -> y like q.
// Keys from len on are padding. Bits 0 and 1 of present: the modality of q, without which a sample
// is all zeros, and that of k, without which, as without keys, q is copied. What is masked or
// absent is never read.
//
// Online softmax (arXiv 1805.02867), one invocation for each query.

struct Params { batch: u32, queries: u32, keys: u32, d: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(2) var<storage, read> k: array<T>;
@group(0) @binding(3) var<storage, read> len: array<u32>;
@group(0) @binding(4) var<storage, read> present: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;
// ceil(d / 4), so that loops over a row can be unrolled; at most 32.
override QUADS: u32 = 32u;

// Below every score.
const LOWEST: f32 = -3.0e38;

// What a query has seen so far.
struct State { peak: f32, total: f32, sums: array<vec4<f32>, 32> }

fn valid_keys(mask: u32, b: u32) -> u32 {
    return select(0u, min(len[b], params.keys), mask == 3u);
}

// Elements i to i + 3 of a row of d elements, zero beyond it.
fn q_quad(base: u32, i: u32) -> vec4<f32> {
    let at = base + i;
    if (i + 3u < params.d) {
        return vec4<f32>(f32(q[at]), f32(q[at + 1u]), f32(q[at + 2u]), f32(q[at + 3u]));
    }
    var row = vec4<f32>(f32(q[at]), 0.0, 0.0, 0.0);
    if (i + 1u < params.d) { row.y = f32(q[at + 1u]); }
    if (i + 2u < params.d) { row.z = f32(q[at + 2u]); }
    return row;
}

fn k_quad(base: u32, i: u32) -> vec4<f32> {
    let at = base + i;
    if (i + 3u < params.d) {
        return vec4<f32>(f32(k[at]), f32(k[at + 1u]), f32(k[at + 2u]), f32(k[at + 3u]));
    }
    var row = vec4<f32>(f32(k[at]), 0.0, 0.0, 0.0);
    if (i + 1u < params.d) { row.y = f32(k[at + 1u]); }
    if (i + 2u < params.d) { row.z = f32(k[at + 2u]); }
    return row;
}

// The weight of one more key; earlier sums shrink when the maximum grows.
fn weigh(state: ptr<function, State>, score: f32) -> f32 {
    if (score > (*state).peak) {
        let shrink = exp((*state).peak - score);
        (*state).total *= shrink;
        for (var c = 0u; c < QUADS; c++) { (*state).sums[c] *= shrink; }
        (*state).peak = score;
    }
    let weight = exp(score - (*state).peak);
    (*state).total += weight;
    return weight;
}

fn write(base: u32, mask: u32, valid: u32, query: array<vec4<f32>, 32>, state: State) {
    for (var c = 0u; c < QUADS; c++) {
        var out = vec4<f32>();
        if ((mask & 1u) == 1u) { out = query[c]; }
        if (valid > 0u) { out += state.sums[c] / state.total; }
        for (var i = 0u; i < 4u; i++) {
            if (4u * c + i < params.d) { y[base + 4u * c + i] = to_storage(out[i]); }
        }
    }
}

// No barrier, the choice for CPU adapters; neighbours share the sample and read the same key.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.batch * params.queries) { return; }
    let b = row / params.queries;
    let mask = present[b];
    let valid = valid_keys(mask, b);
    var query: array<vec4<f32>, 32>;
    if ((mask & 1u) == 1u) {
        for (var c = 0u; c < QUADS; c++) { query[c] = q_quad(row * params.d, 4u * c); }
    }
    var state: State;
    state.peak = LOWEST;
    for (var key = 0u; key < valid; key++) {
        let base = (b * params.keys + key) * params.d;
        var score = 0.0;
        for (var c = 0u; c < QUADS; c++) { score += dot(query[c], k_quad(base, 4u * c)); }
        let weight = weigh(&state, score);
        for (var c = 0u; c < QUADS; c++) { state.sums[c] += weight * k_quad(base, 4u * c); }
    }
    write(row * params.d, mask, valid, query, state);
}

// Keys staged at a time: 16 rows of at most 32 quads.
const TILE: u32 = 16u;
var<workgroup> tile: array<vec4<f32>, 512>;

// One workgroup WG queries of one sample, which share keys staged in workgroup memory.
@compute @workgroup_size(WG)
fn staged(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.queries + WG - 1u) / WG;
    let group = wid.x + wid.y * groups.x;
    let b = group / across;
    if (b >= params.batch) { return; }
    let mine = group % across * WG + lane;
    let row = b * params.queries + min(mine, params.queries - 1u);
    let mask = present[b];
    let valid = valid_keys(mask, b);
    var query: array<vec4<f32>, 32>;
    if ((mask & 1u) == 1u) {
        for (var c = 0u; c < QUADS; c++) { query[c] = q_quad(row * params.d, 4u * c); }
    }
    var state: State;
    state.peak = LOWEST;
    for (var first = 0u; first < valid; first += TILE) {
        let staged_keys = min(TILE, valid - first);
        for (var at = lane; at < staged_keys * QUADS; at += WG) {
            let base = (b * params.keys + first + at / QUADS) * params.d;
            tile[at] = k_quad(base, at % QUADS * 4u);
        }
        workgroupBarrier();
        for (var key = 0u; key < staged_keys; key++) {
            var score = 0.0;
            for (var c = 0u; c < QUADS; c++) { score += dot(query[c], tile[key * QUADS + c]); }
            let weight = weigh(&state, score);
            for (var c = 0u; c < QUADS; c++) { state.sums[c] += weight * tile[key * QUADS + c]; }
        }
        workgroupBarrier();
    }
    if (mine < params.queries) { write(row * params.d, mask, valid, query, state); }
}
