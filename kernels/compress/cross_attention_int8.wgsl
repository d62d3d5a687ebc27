// Cross-attention over int8 keys and values: o = softmax(q * (sk * k)^T / sqrt(d)) * (sv * v).
// q[batch, queries, heads, d]; k and v[batch, keys, heads, QUADS] words of four signed codes with
// scales sk and sv[batch, keys, heads]; len[batch] -> o like q.
// Keys from len on are padding: never read; a batch of length 0 gives zeros.
//
// Online softmax of arXiv 1805.02867 as in cross_attention; codes are scaled after the dot product
// and before the weighted sum, so that each is scaled once (KV cache of arXiv 2402.02750).
// Where d % 16 = 0 rows of q and k are read as vectors through q4 and k4, the same buffers.

struct Params { batch: u32, heads: u32, queries: u32, keys: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<T>;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(2) var<storage, read> k: array<u32>;
@group(0) @binding(2) var<storage, read> k4: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> sk: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<u32>;
@group(0) @binding(5) var<storage, read> sv: array<f32>;
@group(0) @binding(6) var<storage, read> len: array<u32>;
@group(0) @binding(7) var<storage, read_write> o: array<T>;
@group(0) @binding(7) var<storage, read_write> o4: array<T4>;

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

// Eight queries of one head for the eight invocations of a subgroup, and 32 keys at a time, as in
// cross_attention: invocation i loads query i and the keys i, i + 8, i + 16 and i + 24; then four
// values of each key, those at i, i + 8 and so on. A loaded word of codes is unpacked once for
// eight queries. Scores become weights where they are, four to an invocation.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: mat4x4<f32>) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Weights of four keys times the scales of their values, largest score, sum of weights (of this
// invocation's keys) relative to it.
struct Query { weights: vec4<f32>, peak: f32, total: f32, shrink: f32 }

var<private> scores: array<vec4<f32>, 8>;
var<private> block: array<Query, 8>;
// Sums of the values at i, i + 8, i + 16 and i + 24 words.
var<private> sums_0: array<vec4<f32>, 8>;
var<private> sums_1: array<vec4<f32>, 8>;
var<private> sums_2: array<vec4<f32>, 8>;
var<private> sums_3: array<vec4<f32>, 8>;

// Numbers of the first query and key row and where the keys end.
struct Block { query: u32, queries: u32, key: u32, end: u32 }

fn four(start: u32) -> vec4<u32> {
    return vec4<u32>(start, start + 8u, start + 16u, start + 24u);
}

// Keys beyond the last one are that one and have no weight.
fn block_keys(at: Block, start: u32) -> vec4<u32> {
    return min(four(start), vec4<u32>(at.end - 1u)) * params.heads + at.key;
}

// Adds the products of four elements of each query with those of four keys.
fn add_scores(query: vec4<f32>, words: vec4<u32>) {
    let t = transpose(mat4x4<f32>(
        steps(words.x), steps(words.y), steps(words.z), steps(words.w)));
    scores[0] = multiply_add(scores[0], subgroupBroadcast(query, 0u), t);
    scores[1] = multiply_add(scores[1], subgroupBroadcast(query, 1u), t);
    scores[2] = multiply_add(scores[2], subgroupBroadcast(query, 2u), t);
    scores[3] = multiply_add(scores[3], subgroupBroadcast(query, 3u), t);
    scores[4] = multiply_add(scores[4], subgroupBroadcast(query, 4u), t);
    scores[5] = multiply_add(scores[5], subgroupBroadcast(query, 5u), t);
    scores[6] = multiply_add(scores[6], subgroupBroadcast(query, 6u), t);
    scores[7] = multiply_add(scores[7], subgroupBroadcast(query, 7u), t);
}

struct Scales { k: vec4<f32>, v: vec4<f32>, hidden: vec4<bool> }

fn scales_of(at: Block, start: u32) -> Scales {
    let keys = block_keys(at, start);
    return Scales(
        vec4<f32>(sk[keys.x], sk[keys.y], sk[keys.z], sk[keys.w]) * params.scale,
        vec4<f32>(sv[keys.x], sv[keys.y], sv[keys.z], sv[keys.w]),
        four(start) >= vec4<u32>(at.end));
}

fn weigh_query(products: vec4<f32>, scales: Scales, before: Query) -> Query {
    let scaled = select(products * scales.k, vec4<f32>(LOWEST), scales.hidden);
    let highest = max(max(scaled.x, scaled.y), max(scaled.z, scaled.w));
    let peak = max(before.peak, subgroupMax(highest));
    let shrink = exp(before.peak - peak);
    let weights = select(exp(scaled - peak), vec4<f32>(), scales.hidden);
    let total = before.total * shrink + ((weights.x + weights.y) + (weights.z + weights.w));
    return Query(weights * scales.v, peak, total, shrink);
}

fn shrink_sums(sums: ptr<private, array<vec4<f32>, 8>>) {
    (*sums)[0] *= block[0].shrink;
    (*sums)[1] *= block[1].shrink;
    (*sums)[2] *= block[2].shrink;
    (*sums)[3] *= block[3].shrink;
    (*sums)[4] *= block[4].shrink;
    (*sums)[5] *= block[5].shrink;
    (*sums)[6] *= block[6].shrink;
    (*sums)[7] *= block[7].shrink;
}

fn weigh_block(at: Block, start: u32) {
    let scales = scales_of(at, start);
    block[0] = weigh_query(scores[0], scales, block[0]);
    block[1] = weigh_query(scores[1], scales, block[1]);
    block[2] = weigh_query(scores[2], scales, block[2]);
    block[3] = weigh_query(scores[3], scales, block[3]);
    block[4] = weigh_query(scores[4], scales, block[4]);
    block[5] = weigh_query(scores[5], scales, block[5]);
    block[6] = weigh_query(scores[6], scales, block[6]);
    block[7] = weigh_query(scores[7], scales, block[7]);
    scores = array<vec4<f32>, 8>();
    shrink_sums(&sums_0);
    if (QUADS > 8u) { shrink_sums(&sums_1); }
    if (QUADS > 16u) { shrink_sums(&sums_2); shrink_sums(&sums_3); }
}

// Adds four values of the keys that invocation i holds the weights of; words beyond the row repeat
// its last one and are not stored.
fn add_values(sums: ptr<private, array<vec4<f32>, 8>>, i: u32, keys: vec4<u32>, word: u32) {
    let at = keys * QUADS + min(word, QUADS - 1u);
    let values = mat4x4<f32>(steps(v[at.x]), steps(v[at.y]), steps(v[at.z]), steps(v[at.w]));
    (*sums)[0] = multiply_add((*sums)[0], subgroupShuffle(block[0].weights, i), values);
    (*sums)[1] = multiply_add((*sums)[1], subgroupShuffle(block[1].weights, i), values);
    (*sums)[2] = multiply_add((*sums)[2], subgroupShuffle(block[2].weights, i), values);
    (*sums)[3] = multiply_add((*sums)[3], subgroupShuffle(block[3].weights, i), values);
    (*sums)[4] = multiply_add((*sums)[4], subgroupShuffle(block[4].weights, i), values);
    (*sums)[5] = multiply_add((*sums)[5], subgroupShuffle(block[5].weights, i), values);
    (*sums)[6] = multiply_add((*sums)[6], subgroupShuffle(block[6].weights, i), values);
    (*sums)[7] = multiply_add((*sums)[7], subgroupShuffle(block[7].weights, i), values);
}

fn store4(row: u32, word: u32, mean: vec4<f32>) {
    if (word < QUADS) { o4[row * QUADS + word] = to_storage4(mean); }
}

fn store_query(at: Block, i: u32, lane: u32) {
    let total = subgroupAdd(block[i].total);
    let divisor = select(total, 1.0, total == 0.0);
    if (i >= at.queries) { return; }
    let row = at.query + i * params.heads;
    store4(row, lane, sums_0[i] / divisor);
    if (QUADS > 8u) { store4(row, lane + 8u, sums_1[i] / divisor); }
    if (QUADS > 16u) { store4(row, lane + 16u, sums_2[i] / divisor); }
    if (QUADS > 24u) { store4(row, lane + 24u, sums_3[i] / divisor); }
}

fn block_of(index: u32) -> Block {
    let tiles = (params.queries + 7u) / 8u;
    let b = index / (params.heads * tiles);
    let h = index / tiles % params.heads;
    let first = index % tiles * 8u;
    let query = (b * params.queries + first) * params.heads + h;
    return Block(query, params.queries - first, b * params.keys * params.heads + h, valid_keys(b));
}

// d % 16 = 0.
@compute @workgroup_size(8)
fn subgroup_block(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wid.x + wid.y * groups.x;
    if (index >= params.batch * params.heads * ((params.queries + 7u) / 8u)) { return; }
    let at = block_of(index);
    let none = Query(vec4<f32>(), LOWEST, 0.0, 1.0);
    block = array<Query, 8>(none, none, none, none, none, none, none, none);
    let query = (at.query + min(lane, at.queries - 1u) * params.heads) * QUADS;
    for (var start = 0u; start < at.end; start += 32u) {
        let keys = block_keys(at, start + lane) * (QUADS / 4u);
        for (var c = 0u; c < QUADS / 4u; c++) {
            let w = k4[keys.x + c];
            let x = k4[keys.y + c];
            let y = k4[keys.z + c];
            let z = k4[keys.w + c];
            let quad = query + 4u * c;
            add_scores(vec4<f32>(q4[quad]), vec4<u32>(w.x, x.x, y.x, z.x));
            add_scores(vec4<f32>(q4[quad + 1u]), vec4<u32>(w.y, x.y, y.y, z.y));
            add_scores(vec4<f32>(q4[quad + 2u]), vec4<u32>(w.z, x.z, y.z, z.z));
            add_scores(vec4<f32>(q4[quad + 3u]), vec4<u32>(w.w, x.w, y.w, z.w));
        }
        weigh_block(at, start + lane);
        for (var i = 0u; i < 8u; i++) {
            let values = block_keys(at, start + i);
            add_values(&sums_0, i, values, lane);
            if (QUADS > 8u) { add_values(&sums_1, i, values, lane + 8u); }
            if (QUADS > 16u) { add_values(&sums_2, i, values, lane + 16u); }
            if (QUADS > 24u) { add_values(&sums_3, i, values, lane + 24u); }
        }
    }
    store_query(at, 0u, lane);
    store_query(at, 1u, lane);
    store_query(at, 2u, lane);
    store_query(at, 3u, lane);
    store_query(at, 4u, lane);
    store_query(at, 5u, lane);
    store_query(at, 6u, lane);
    store_query(at, 7u, lane);
}
