// Attention by cooperative matrices: o = softmax(scale * q k^T) v by heads, as cross_attention.wgsl
// has it. q[batch, queries, heads, D], k[batch, keys, kv_heads, D], v[batch, keys, kv_heads, E],
// len[batch], mask[queries, ceil(keys / 32)] -> o[batch, queries, heads, E]; D % 4 = E % 4 = 0.
//
// The prelude gives SIDE and the types Left, Right and Total, squares that a subgroup holds. A
// workgroup has SIDE queries of one head and takes 2 SIDE keys at a time, zero beyond the last one:
// their scores are squares that its subgroups share, then each row of them is weighed by LANES /
// SIDE invocations against a running maximum (arXiv 2205.14135), and the sums of values are squares
// again. Weights are factors and so of the type T; maxima, totals and sums are not.

struct Params {
    rows: u32, heads: u32, kv_heads: u32, queries: u32, keys: u32, reach: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q4: array<T4>;
@group(0) @binding(2) var<storage, read> k4: array<T4>;
@group(0) @binding(3) var<storage, read> v4: array<T4>;
@group(0) @binding(4) var<storage, read> len: array<u32>;
@group(0) @binding(5) var<storage, read> mask: array<u32>;
@group(0) @binding(6) var<storage, read_write> o: array<T>;

override D: u32 = 64u;
override E: u32 = 64u;
override BITS: bool = false;
// A multiple of every subgroup size, because subgroups must be full, and of SIDE.
override LANES: u32 = 128u;
// Whole squares.
override D_WIDE: u32 = (D + SIDE - 1u) / SIDE * SIDE;
override E_WIDE: u32 = (E + SIDE - 1u) / SIDE * SIDE;
override PARTS: u32 = LANES / SIDE; // invocations of a row
const KEYS: u32 = 2u * SIDE;
const LOWEST: f32 = -3.0e38; // below every score

fn is_hidden(query: u32, key: u32) -> bool {
    let word = query * ((params.keys + 31u) / 32u) + key / 32u;
    return BITS && ((mask[word] >> (key % 32u)) & 1u) == 0u;
}

// Weight of a score so far below the largest: exactly 1 for that one, so that ties sum exactly.
fn weight_of(below: f32) -> f32 { return select(exp(below), 1.0, below == 0.0); }

var<workgroup> queries: array<T, SIDE * D_WIDE>;
var<workgroup> keys: array<T, KEYS * D_WIDE>;
var<workgroup> values: array<T, KEYS * E_WIDE>;
var<workgroup> scores: array<Sum, SIDE * KEYS>;
var<workgroup> weights: array<T, SIDE * KEYS>;
var<workgroup> sums: array<Sum, SIDE * E_WIDE>;
var<workgroup> parts: array<f32, LANES>;

// First row of the head, first query of the workgroup, first row of keys, how many keys count.
struct Tile { base: u32, first_query: u32, first_key: u32, end: u32 }

fn tile_of(index: u32) -> Tile {
    let tiles = (params.queries + SIDE - 1u) / SIDE;
    let pairs = params.rows / params.queries;
    let is_one = index / tiles < pairs; // a grid may have workgroups beyond the last
    let pair = min(index / tiles, pairs - 1u);
    let batch = pair / params.heads;
    let head = pair % params.heads;
    let base = batch * params.queries * params.heads + head;
    let key_head = head / (params.heads / params.kv_heads);
    let first_key = batch * params.keys * params.kv_heads + key_head;
    let first_query = select(params.queries, index % tiles * SIDE, is_one);
    return Tile(base, first_query, first_key, select(0u, min(len[batch], params.keys), is_one));
}

// Four elements of a row of q, k or v, zero beyond the rows and their ends.
fn query_part(at: Tile, row: u32, c: u32) -> T4 {
    let query = min(at.first_query + row, params.queries - 1u);
    let inside = at.first_query + row < params.queries && c < D / 4u;
    let from_q = q4[(at.base + query * params.heads) * (D / 4u) + min(c, D / 4u - 1u)];
    return select(T4(), from_q, inside);
}
fn key_part(at: Tile, key: u32, c: u32) -> T4 {
    let row = at.first_key + min(key, at.end - 1u) * params.kv_heads;
    return select(T4(), k4[row * (D / 4u) + min(c, D / 4u - 1u)], key < at.end && c < D / 4u);
}
fn value_part(at: Tile, key: u32, c: u32) -> T4 {
    let row = at.first_key + min(key, at.end - 1u) * params.kv_heads;
    return select(T4(), v4[row * (E / 4u) + min(c, E / 4u - 1u)], key < at.end && c < E / 4u);
}

fn fill_queries(at: Tile, lane: u32) {
    for (var i = lane; i < SIDE * D_WIDE / 4u; i += LANES) {
        let part = query_part(at, i / (D_WIDE / 4u), i % (D_WIDE / 4u));
        for (var c = 0u; c < 4u; c++) { queries[4u * i + c] = part[c]; }
    }
    for (var i = lane; i < SIDE * E_WIDE; i += LANES) { sums[i] = Sum(); }
}
fn fill_keys(at: Tile, start: u32, lane: u32) {
    for (var i = lane; i < KEYS * D_WIDE / 4u; i += LANES) {
        let part = key_part(at, start + i / (D_WIDE / 4u), i % (D_WIDE / 4u));
        for (var c = 0u; c < 4u; c++) { keys[4u * i + c] = part[c]; }
    }
    for (var i = lane; i < KEYS * E_WIDE / 4u; i += LANES) {
        let part = value_part(at, start + i / (E_WIDE / 4u), i % (E_WIDE / 4u));
        for (var c = 0u; c < 4u; c++) { values[4u * i + c] = part[c]; }
    }
    for (var i = lane; i < SIDE * KEYS; i += LANES) { scores[i] = Sum(); }
}

// Each invocation weighs every PARTS-th key of its row.
var<private> peak: f32 = LOWEST;
var<private> total: f32;

fn sees(at: Tile, row: u32, key: u32) -> bool {
    let query = min(at.first_query + row, params.queries - 1u);
    let end = min(at.end, query + params.reach + 1u);
    return key < end && !is_hidden(query, min(key, params.keys - 1u));
}
fn weigh_keys(at: Tile, start: u32, lane: u32) {
    let row = lane / PARTS;
    var highest = LOWEST;
    for (var i = lane % PARTS; i < KEYS; i += PARTS) {
        let score = f32(scores[row * KEYS + i]) * params.scale;
        if (sees(at, row, start + i)) { highest = max(highest, score); }
    }
    parts[lane] = highest;
    workgroupBarrier();
    let before = peak;
    for (var i = 0u; i < PARTS; i++) { peak = max(peak, parts[row * PARTS + i]); }
    let shrink = weight_of(before - peak);
    total *= shrink;
    for (var i = lane % PARTS; i < KEYS; i += PARTS) {
        let below = f32(scores[row * KEYS + i]) * params.scale - peak;
        let weight = select(0.0, weight_of(min(below, 0.0)), sees(at, row, start + i));
        weights[row * KEYS + i] = T(weight);
        total += weight;
    }
    for (var i = lane % PARTS; i < E_WIDE; i += PARTS) { sums[row * E_WIDE + i] *= Sum(shrink); }
}

fn store_means(at: Tile, lane: u32) {
    let row = lane / PARTS;
    parts[lane] = total;
    workgroupBarrier();
    var all = 0.0;
    for (var i = 0u; i < PARTS; i++) { all += parts[row * PARTS + i]; }
    let divisor = select(all, 1.0, all == 0.0);
    if (at.first_query + row >= params.queries) { return; }
    let first = (at.base + (at.first_query + row) * params.heads) * E;
    for (var i = lane % PARTS; i < E; i += PARTS) {
        o[first + i] = to_storage(f32(sums[row * E_WIDE + i]) / divisor);
    }
}

@compute @workgroup_size(LANES)
fn attend(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let at = tile_of(wid.x + wid.y * groups.x);
    fill_queries(at, lane);
    let end = min(at.end, at.first_query + params.reach + SIDE);
    for (var start = 0u; start < end; start += KEYS) {
        fill_keys(at, start, lane);
        workgroupBarrier();
        for (var j = subgroup; j < KEYS / SIDE; j += subgroups) {
            var c = coopLoadT<Total>(&scores[j * SIDE], KEYS);
            for (var s = 0u; s < D_WIDE; s += SIDE) {
                // A row of keys is a column of their transpose.
                let a = coopLoadT<Left>(&queries[s], D_WIDE);
                let b = coopLoad<Right>(&keys[j * SIDE * D_WIDE + s], D_WIDE);
                c = coopMultiplyAdd(a, b, c);
            }
            coopStoreT(c, &scores[j * SIDE], KEYS);
        }
        workgroupBarrier();
        weigh_keys(at, start, lane);
        workgroupBarrier();
        for (var j = subgroup; j < E_WIDE / SIDE; j += subgroups) {
            var c = coopLoadT<Total>(&sums[j * SIDE], E_WIDE);
            for (var s = 0u; s < KEYS; s += SIDE) {
                let a = coopLoadT<Left>(&weights[s], KEYS);
                let b = coopLoadT<Right>(&values[s * E_WIDE + j * SIDE], E_WIDE);
                c = coopMultiplyAdd(a, b, c);
            }
            coopStoreT(c, &sums[j * SIDE], E_WIDE);
        }
        workgroupBarrier();
    }
    store_means(at, lane);
}
