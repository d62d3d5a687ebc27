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

// One query for each of the eight invocations of a subgroup, all of one sample. A CPU driver makes
// every load one invocation at a time, also where all of them read the same address: so invocation
// i loads the quads i, i + 8, i + 16 and i + 24 of a key, and the others get them by broadcast.
var<private> own_0: array<vec4<f32>, 8>;
var<private> own_1: array<vec4<f32>, 8>;
var<private> own_2: array<vec4<f32>, 8>;
var<private> own_3: array<vec4<f32>, 8>;
var<private> sums_0: array<vec4<f32>, 8>;
var<private> sums_1: array<vec4<f32>, 8>;
var<private> sums_2: array<vec4<f32>, 8>;
var<private> sums_3: array<vec4<f32>, 8>;

fn load_own(own: ptr<private, array<vec4<f32>, 8>>, base: u32, first: u32) {
    (*own)[0] = part_of_q(base, first); (*own)[1] = part_of_q(base, first + 4u);
    (*own)[2] = part_of_q(base, first + 8u); (*own)[3] = part_of_q(base, first + 12u);
    (*own)[4] = part_of_q(base, first + 16u); (*own)[5] = part_of_q(base, first + 20u);
    (*own)[6] = part_of_q(base, first + 24u); (*own)[7] = part_of_q(base, first + 28u);
}

// Elements i to i + 3 of a row, zero beyond it; nothing is read where all are.
fn part_of_q(base: u32, i: u32) -> vec4<f32> {
    if (i >= 4u * QUADS) { return vec4<f32>(); }
    let at = base + min(i + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.d - 1u));
    let row = vec4<f32>(f32(q[at.x]), f32(q[at.y]), f32(q[at.z]), f32(q[at.w]));
    return select(vec4<f32>(), row, i + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.d));
}

fn part_of_k(base: u32, i: u32) -> vec4<f32> {
    let at = base + min(i + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.d - 1u));
    let row = vec4<f32>(f32(k[at.x]), f32(k[at.y]), f32(k[at.z]), f32(k[at.w]));
    return select(vec4<f32>(), row, i + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.d));
}

fn products(own: ptr<private, array<vec4<f32>, 8>>, part: vec4<f32>) -> f32 {
    var sum = (*own)[0] * subgroupBroadcast(part, 0u);
    sum += (*own)[1] * subgroupBroadcast(part, 1u);
    sum += (*own)[2] * subgroupBroadcast(part, 2u);
    sum += (*own)[3] * subgroupBroadcast(part, 3u);
    sum += (*own)[4] * subgroupBroadcast(part, 4u);
    sum += (*own)[5] * subgroupBroadcast(part, 5u);
    sum += (*own)[6] * subgroupBroadcast(part, 6u);
    sum += (*own)[7] * subgroupBroadcast(part, 7u);
    return (sum.x + sum.y) + (sum.z + sum.w);
}

// Earlier sums shrink, and the weighted key is added.
fn add_key(sums: ptr<private, array<vec4<f32>, 8>>, shrink: f32, weight: f32, part: vec4<f32>) {
    (*sums)[0] = (*sums)[0] * shrink + weight * subgroupBroadcast(part, 0u);
    (*sums)[1] = (*sums)[1] * shrink + weight * subgroupBroadcast(part, 1u);
    (*sums)[2] = (*sums)[2] * shrink + weight * subgroupBroadcast(part, 2u);
    (*sums)[3] = (*sums)[3] * shrink + weight * subgroupBroadcast(part, 3u);
    (*sums)[4] = (*sums)[4] * shrink + weight * subgroupBroadcast(part, 4u);
    (*sums)[5] = (*sums)[5] * shrink + weight * subgroupBroadcast(part, 5u);
    (*sums)[6] = (*sums)[6] * shrink + weight * subgroupBroadcast(part, 6u);
    (*sums)[7] = (*sums)[7] * shrink + weight * subgroupBroadcast(part, 7u);
}

fn store_part(base: u32, i: u32, own: vec4<f32>, sum: vec4<f32>, total: f32) {
    if (i >= params.d) { return; }
    let out = own + select(vec4<f32>(), sum / total, total > 0.0);
    y[base + i] = to_storage(out.x);
    if (i + 1u < params.d) { y[base + i + 1u] = to_storage(out.y); }
    if (i + 2u < params.d) { y[base + i + 2u] = to_storage(out.z); }
    if (i + 3u < params.d) { y[base + i + 3u] = to_storage(out.w); }
}

fn store_parts(
    base: u32, first: u32, total: f32,
    own: ptr<private, array<vec4<f32>, 8>>, sums: ptr<private, array<vec4<f32>, 8>>,
) {
    store_part(base, first, (*own)[0], (*sums)[0], total);
    store_part(base, first + 4u, (*own)[1], (*sums)[1], total);
    store_part(base, first + 8u, (*own)[2], (*sums)[2], total);
    store_part(base, first + 12u, (*own)[3], (*sums)[3], total);
    store_part(base, first + 16u, (*own)[4], (*sums)[4], total);
    store_part(base, first + 20u, (*own)[5], (*sums)[5], total);
    store_part(base, first + 24u, (*own)[6], (*sums)[6], total);
    store_part(base, first + 28u, (*own)[7], (*sums)[7], total);
}

@compute @workgroup_size(8)
fn subgroup_keys(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let across = (params.queries + 7u) / 8u;
    let group = wid.x + wid.y * groups.x;
    let b = group / across;
    if (b >= params.batch) { return; }
    let mine = group % across * 8u + lane;
    let base = (b * params.queries + min(mine, params.queries - 1u)) * params.d;
    let mask = present[b];
    let valid = valid_keys(mask, b);
    if ((mask & 1u) == 1u) {
        load_own(&own_0, base, 0u);
        if (QUADS > 8u) { load_own(&own_1, base, 32u); }
        if (QUADS > 16u) { load_own(&own_2, base, 64u); load_own(&own_3, base, 96u); }
    }
    var peak = LOWEST;
    var total = 0.0;
    for (var key = 0u; key < valid; key++) {
        let at = (b * params.keys + key) * params.d;
        let part_0 = part_of_k(at, 4u * lane);
        var part_1: vec4<f32>;
        var part_2: vec4<f32>;
        var part_3: vec4<f32>;
        var score = products(&own_0, part_0);
        if (QUADS > 8u) {
            part_1 = part_of_k(at, 4u * lane + 32u);
            score += products(&own_1, part_1);
        }
        if (QUADS > 16u) {
            part_2 = part_of_k(at, 4u * lane + 64u);
            part_3 = part_of_k(at, 4u * lane + 96u);
            score += products(&own_2, part_2) + products(&own_3, part_3);
        }
        let highest = max(peak, score);
        // Exactly 1 where the maximum stays, so that nothing is rounded then.
        let shrink = select(1.0, exp(peak - highest), score > peak);
        let weight = exp(score - highest);
        peak = highest;
        total = total * shrink + weight;
        add_key(&sums_0, shrink, weight, part_0);
        if (QUADS > 8u) { add_key(&sums_1, shrink, weight, part_1); }
        if (QUADS > 16u) {
            add_key(&sums_2, shrink, weight, part_2);
            add_key(&sums_3, shrink, weight, part_3);
        }
    }
    if (mine >= params.queries) { return; }
    store_parts(base, 0u, total, &own_0, &sums_0);
    if (QUADS > 8u) { store_parts(base, 32u, total, &own_1, &sums_1); }
    if (QUADS > 16u) {
        store_parts(base, 64u, total, &own_2, &sums_2);
        store_parts(base, 96u, total, &own_3, &sums_3);
    }
}
