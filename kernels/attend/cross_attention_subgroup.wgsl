// Attention by tiles of keys, for GPUs: o = softmax(scale * q k^T) v by heads, as
// cross_attention.wgsl has it. q[batch, queries, heads, D], k[batch, keys, kv_heads, D],
// v[batch, keys, kv_heads, E], len[batch], mask[queries, ceil(keys / 32)]
// -> o[batch, queries, heads, E]; D % 4 = E % 4 = 0.
//
// A workgroup has 8 OCTETS queries of one head and takes KEYS keys at a time (arXiv 2205.14135).
// The tile in workgroup memory holds first the keys, then their values, and so twice as many as
// with both. An invocation multiplies eight queries by two keys, later the weights of eight queries
// by four columns of the values: what it loads meets eight queries. In between subgroups of any
// size turn scores into weights, four rows each, against a running maximum. Products are added in
// Sum; scores, maxima, weights and totals are f32.

struct Params {
    rows: u32, heads: u32, kv_heads: u32, queries: u32, keys: u32, reach: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(2) var<storage, read> k4: array<T4>;
@group(0) @binding(3) var<storage, read> v4: array<T4>;
@group(0) @binding(4) var<storage, read> len: array<u32>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> o4: array<T4>;

override D: u32 = 64u;
override E: u32 = 64u;
override BITS: bool = false;
override LANES: u32 = 64u; // at least OCTETS * E / 4
override OCTETS: u32 = 4u;
override KEYS: u32 = 32u; // even
// Vectors from one row of the tile to the next: an odd number, so that invocations that read the
// same column of neighbouring keys meet in no bank.
override K_STEP: u32 = (D / 4u) | 1u;
override V_STEP: u32 = (E / 4u) | 1u;
override STEP: u32 = select(V_STEP, K_STEP, K_STEP > V_STEP);
override QUADS: u32 = 2u * OCTETS;
const LOWEST: f32 = -3.0e38; // below every score

fn is_hidden(query: u32, key: u32) -> bool {
    let word = query * ((params.keys + 31u) / 32u) + key / 32u;
    return BITS && ((mask[word] >> (key % 32u)) & 1u) == 0u;
}

// Weight of a score so far below the largest: exactly 1 for that one, so that ties sum exactly.
fn weights_of(v: vec4<f32>) -> vec4<f32> { return select(exp(v), vec4(1.0), v == vec4<f32>()); }

var<workgroup> tile: array<T4, KEYS * STEP>;
// By quads of rows and then keys: scores of four rows, then their weights.
var<workgroup> scores: array<vec4<f32>, QUADS * KEYS>;
// Largest score, what older sums shrink by, sum of weights relative to the largest score.
var<workgroup> peaks: array<vec4<f32>, QUADS>;
var<workgroup> shrinks: array<vec4<f32>, QUADS>;
var<workgroup> totals: array<vec4<f32>, QUADS>;

// First row of the head, first query of the workgroup, first row of keys, how many keys count.
struct Tile { base: u32, first_query: u32, first_key: u32, end: u32 }

fn tile_of(index: u32) -> Tile {
    let blocks = (params.queries + 8u * OCTETS - 1u) / (8u * OCTETS);
    let pairs = params.rows / params.queries;
    let is_one = index / blocks < pairs; // a grid may have workgroups beyond the last
    let pair = min(index / blocks, pairs - 1u);
    let batch = pair / params.heads;
    let head = pair % params.heads;
    let base = batch * params.queries * params.heads + head;
    let key_head = head / (params.heads / params.kv_heads);
    let first_key = batch * params.keys * params.kv_heads + key_head;
    let first_query = select(params.queries, index % blocks * 8u * OCTETS, is_one);
    return Tile(base, first_query, first_key, select(0u, min(len[batch], params.keys), is_one));
}

// Keys beyond the last one that counts repeat it and are hidden.
fn row_of_key(at: Tile, key: u32) -> u32 {
    return at.first_key + min(key, at.end - 1u) * params.kv_heads;
}
fn fill_keys(at: Tile, start: u32, lane: u32) {
    for (var i = lane; i < KEYS * (D / 4u); i += LANES) {
        let key = i / (D / 4u);
        let c = i % (D / 4u);
        tile[key * K_STEP + c] = k4[row_of_key(at, start + key) * (D / 4u) + c];
    }
}
fn fill_values(at: Tile, start: u32, lane: u32) {
    for (var i = lane; i < KEYS * (E / 4u); i += LANES) {
        let key = i / (E / 4u);
        let c = i % (E / 4u);
        tile[key * V_STEP + c] = v4[row_of_key(at, start + key) * (E / 4u) + c];
    }
}

// Four queries; those beyond the last repeat it and are not stored.
fn queries_of(at: Tile, quad: u32) -> vec4<u32> {
    let first = at.first_query + 4u * quad;
    return min(first + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.queries - 1u));
}
fn query_rows(at: Tile, quad: u32) -> vec4<u32> {
    return (at.base + queries_of(at, quad) * params.heads) * (D / 4u);
}
// They are read where they are: neighbouring invocations want the same ones at the same time.
fn query_part(rows: vec4<u32>, c: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(Sum4(q4[rows.x + c]), Sum4(q4[rows.y + c]), Sum4(q4[rows.z + c]),
        Sum4(q4[rows.w + c]));
}

fn store_scores(at: Tile, quad: u32, key: u32, start: u32, sum: Sum4) {
    let query = queries_of(at, quad);
    var hidden = vec4<u32>(start + key) >= min(vec4<u32>(at.end), query + params.reach + 1u);
    if (BITS) {
        let bit = min(start + key, at.end - 1u);
        hidden = hidden | vec4<bool>(is_hidden(query.x, bit), is_hidden(query.y, bit),
            is_hidden(query.z, bit), is_hidden(query.w, bit));
    }
    let scaled = vec4<f32>(sum) * params.scale;
    scores[quad * KEYS + key] = select(scaled, vec4<f32>(LOWEST), hidden);
}
// Each invocation multiplies eight queries by two keys.
fn score_keys(at: Tile, start: u32, lane: u32) {
    for (var unit = lane; unit < OCTETS * (KEYS / 2u); unit += LANES) {
        let quad = unit / (KEYS / 2u) * 2u;
        let key = unit % (KEYS / 2u);
        let rows = query_rows(at, quad);
        let more_rows = query_rows(at, quad + 1u);
        let a = key * K_STEP;
        let b = (key + KEYS / 2u) * K_STEP;
        var products = mat4x4<Sum>();
        for (var c = 0u; c < D / 4u; c++) {
            let queries = query_part(rows, c);
            let more = query_part(more_rows, c);
            let key_a = Sum4(tile[a + c]);
            let key_b = Sum4(tile[b + c]);
            products += mat4x4<Sum>(key_a * queries, key_a * more, key_b * queries, key_b * more);
        }
        store_scores(at, quad, key, start, products[0]);
        store_scores(at, quad + 1u, key, start, products[1]);
        store_scores(at, quad, key + KEYS / 2u, start, products[2]);
        store_scores(at, quad + 1u, key + KEYS / 2u, start, products[3]);
    }
}

// Scores become weights where they are, a subgroup four rows at a time. Every subgroup comes round
// as often as the first one, so that none is missing where all exchange values. Only its first
// invocation knows the state of the rows.
fn weigh_keys(subgroup: u32, subgroups: u32, own: u32, size: u32) {
    for (var first = 0u; first < QUADS; first += subgroups) {
        let quad = first + subgroup;
        let end = select(0u, KEYS, quad < QUADS);
        let leads = own == 0u && quad < QUADS;
        var before = vec4<f32>(LOWEST);
        if (leads) { before = peaks[quad]; }
        var highest = before;
        for (var key = own; key < end; key += size) {
            highest = max(highest, scores[quad * KEYS + key]);
        }
        let peak = subgroupMax(highest);
        var sum = vec4<f32>();
        for (var key = own; key < end; key += size) {
            let score = scores[quad * KEYS + key];
            let is_seen = score > vec4<f32>(LOWEST);
            let weights = select(vec4<f32>(), weights_of(score - peak), is_seen);
            scores[quad * KEYS + key] = weights;
            sum += weights;
        }
        let total = subgroupAdd(sum);
        if (leads) {
            let shrink = weights_of(before - peak);
            peaks[quad] = peak;
            shrinks[quad] = shrink;
            totals[quad] = totals[quad] * shrink + total;
        }
    }
}

// Eight rows of four columns of the sums.
var<private> sums: mat4x4<Sum>;
var<private> more_sums: mat4x4<Sum>;

fn outer(values: Sum4, weights: vec4<f32>) -> mat4x4<Sum> {
    let w = Sum4(weights);
    return mat4x4<Sum>(w.x * values, w.y * values, w.z * values, w.w * values);
}
fn shrunk(older: mat4x4<Sum>, by: vec4<f32>) -> mat4x4<Sum> {
    let s = Sum4(by);
    return mat4x4<Sum>(s.x * older[0], s.y * older[1], s.z * older[2], s.w * older[3]);
}
fn add_tile(quad: u32, column: u32) {
    if (any(shrinks[quad] != vec4<f32>(1.0))) { sums = shrunk(sums, shrinks[quad]); }
    if (any(shrinks[quad + 1u] != vec4<f32>(1.0))) {
        more_sums = shrunk(more_sums, shrinks[quad + 1u]);
    }
    for (var key = 0u; key < KEYS; key++) {
        let values = Sum4(tile[key * V_STEP + column]);
        sums += outer(values, scores[quad * KEYS + key]);
        more_sums += outer(values, scores[(quad + 1u) * KEYS + key]);
    }
}

fn store_mean(at: Tile, row: u32, column: u32, sum: Sum4, total: f32) {
    let query = at.first_query + row;
    if (query >= params.queries) { return; }
    let mean = vec4<f32>(sum) / select(total, 1.0, total == 0.0);
    o4[(at.base + query * params.heads) * (E / 4u) + column] = to_storage4(mean);
}
fn store_means(at: Tile, quad: u32, column: u32, four: mat4x4<Sum>) {
    let total = totals[quad];
    store_mean(at, 4u * quad, column, four[0], total.x);
    store_mean(at, 4u * quad + 1u, column, four[1], total.y);
    store_mean(at, 4u * quad + 2u, column, four[2], total.z);
    store_mean(at, 4u * quad + 3u, column, four[3], total.w);
}

@compute @workgroup_size(LANES)
fn subgroup_tile(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) own: u32,
    @builtin(subgroup_size) size: u32,
) {
    let at = tile_of(wid.x + wid.y * groups.x);
    for (var quad = lane; quad < QUADS; quad += LANES) {
        peaks[quad] = vec4<f32>(LOWEST);
        totals[quad] = vec4<f32>();
    }
    workgroupBarrier();
    let quad = lane / (E / 4u) * 2u;
    let column = lane % (E / 4u);
    let end = min(at.end, at.first_query + params.reach + 8u * OCTETS);
    for (var start = 0u; start < end; start += KEYS) {
        fill_keys(at, start, lane);
        workgroupBarrier();
        score_keys(at, start, lane);
        workgroupBarrier();
        fill_values(at, start, lane);
        weigh_keys(subgroup, subgroups, own, size);
        workgroupBarrier();
        if (quad < QUADS) { add_tile(quad, column); }
        workgroupBarrier();
    }
    if (quad < QUADS) {
        store_means(at, quad, column, sums);
        store_means(at, quad + 1u, column, more_sums);
    }
}
