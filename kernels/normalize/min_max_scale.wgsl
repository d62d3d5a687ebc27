// Min-max scaling of features over time: y = (x - min) / (max - min), clamped to [0, 1], with the
// limits of the valid rows of each (batch, feature). x[batch, rows, f], len[batch] -> y like x.
// Rows from len on are padding: never read, and zero in the result. A feature without range gives
// zeros.

struct Params { batch: u32, rows: u32, f: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;
// Lowest and highest element of each block of rows.
@group(0) @binding(4) var<storage, read_write> parts: array<vec2<f32>>;
// The same of each column.
@group(0) @binding(5) var<storage, read_write> limits: array<vec2<f32>>;

override WG: u32 = 64u;
override ROWS: u32 = 64u;

// Below this range differences lose bits to the subnormal range; it counts as zero.
const SMALLEST: f32 = 1e-30;

fn valid_rows(batch: u32) -> u32 {
    return min(len[batch], params.rows);
}

fn at(batch: u32, row: u32, feature: u32) -> u32 {
    return (batch * params.rows + row) * params.f + feature;
}

// Lowest and highest element of rows first..last of a column, at least one.
fn measure(batch: u32, feature: u32, first: u32, last: u32) -> vec2<f32> {
    var limit = vec2<f32>(f32(x[at(batch, first, feature)]));
    for (var row = first + 1u; row < last; row++) {
        let v = f32(x[at(batch, row, feature)]);
        limit = vec2<f32>(min(limit.x, v), max(limit.y, v));
    }
    return limit;
}

fn write(batch: u32, feature: u32, first: u32, last: u32, limit: vec2<f32>) {
    let range = limit.y - limit.x;
    // Nothing is left to scale without a range.
    let end = select(first, clamp(valid_rows(batch), first, last), range >= SMALLEST);
    for (var row = first; row < end; row++) {
        let above = f32(x[at(batch, row, feature)]) - limit.x;
        y[at(batch, row, feature)] = to_storage(clamp(above / range, 0.0, 1.0));
    }
    for (var row = end; row < last; row++) { y[at(batch, row, feature)] = to_storage(0.0); }
}

// One invocation a column of a sample; neighbouring lanes read neighbouring features.
@compute @workgroup_size(WG)
fn column(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.f) { return; }
    let batch = index / params.f;
    let feature = index % params.f;
    let valid = valid_rows(batch);
    var limit = vec2<f32>();
    if (valid > 0u) { limit = measure(batch, feature, 0u, valid); }
    write(batch, feature, 0u, params.rows, limit);
}

fn blocks() -> u32 {
    return (params.rows + ROWS - 1u) / ROWS;
}

// One invocation a column of a block of ROWS rows.
@compute @workgroup_size(WG)
fn measure_blocks(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * blocks() * params.f) { return; }
    let batch = index / params.f / blocks();
    let first = index / params.f % blocks() * ROWS;
    let last = min(first + ROWS, valid_rows(batch));
    if (first < last) { parts[index] = measure(batch, index % params.f, first, last); }
}

// One invocation a column of a sample, block after block.
@compute @workgroup_size(WG)
fn merge_blocks(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.f) { return; }
    let batch = index / params.f;
    let valid = valid_rows(batch);
    let start = batch * blocks() * params.f + index % params.f;
    var limit = vec2<f32>();
    if (valid > 0u) { limit = parts[start]; }
    for (var first = ROWS; first < valid; first += ROWS) {
        let part = parts[start + first / ROWS * params.f];
        limit = vec2<f32>(min(limit.x, part.x), max(limit.y, part.y));
    }
    limits[index] = limit;
}

// One invocation a column of a block of ROWS rows.
@compute @workgroup_size(WG)
fn write_blocks(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * blocks() * params.f) { return; }
    let batch = index / params.f / blocks();
    let feature = index % params.f;
    let first = index / params.f % blocks() * ROWS;
    let last = min(first + ROWS, params.rows);
    write(batch, feature, first, last, limits[batch * params.f + feature]);
}

// `split4` reads vectors. After so many rows x is back at the beginning of one.
fn period() -> u32 {
    return select(select(4u, 2u, params.f % 2u == 0u), 1u, params.f % 4u == 0u);
}

// One vector of every `period` rows of a block, which holds four columns. Rounds first to last - 1;
// those from `valid` on are padding.
struct Track {
    batch: u32,
    base: u32,
    stride: u32,
    first: u32,
    last: u32,
    valid: vec4<u32>,
    feature: vec4<u32>,
}

fn track(index: u32) -> Track {
    let f = params.f;
    let rows = period();
    let rounds = params.rows / rows;
    let quads = f * rows / 4u;
    let blocks = (rounds + ROWS - 1u) / ROWS;
    let place = index % quads;
    let batch = min(index / quads / blocks, params.batch - 1u);
    let first = index / quads % blocks * ROWS;
    let last = min(first + ROWS, rounds);
    let column = 4u * place + vec4<u32>(0u, 1u, 2u, 3u);
    let row = column / f;
    let valid = (valid_rows(batch) + rows - 1u - row) / rows;
    let base = batch * rounds * quads + place;
    return Track(batch, base, quads, first, last, min(valid, vec4<u32>(last)), column - row * f);
}

fn tracks() -> u32 {
    let rounds = params.rows / period();
    return params.batch * ((rounds + ROWS - 1u) / ROWS) * (params.f * period() / 4u);
}

fn end_of(t: Track) -> u32 {
    return max(max(t.valid.x, t.valid.y), max(t.valid.z, t.valid.w));
}

// Lowest and highest elements of four columns.
struct Limits { low: vec4<f32>, high: vec4<f32> }

// With round i of a track, unless that is padding.
fn widened(before: Limits, t: Track, i: u32, v: vec4<f32>) -> Limits {
    let low = before.low;
    let high = before.high;
    let inside = vec4<u32>(i) < t.valid;
    return Limits(select(low, min(low, v), inside), select(high, max(high, v), inside));
}

fn round_of(t: Track, i: u32) -> vec4<f32> {
    return vec4<f32>(x4[t.base + min(i, t.last - 1u) * t.stride]);
}

// One invocation a track, four rounds at a time: rows are so far apart that each waits for memory,
// and four wait together.
@compute @workgroup_size(WG)
fn measure_quads(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= tracks()) { return; }
    let t = track(index);
    let begin = round_of(t, t.first);
    var limit = Limits(begin, begin);
    for (var i = t.first; i < end_of(t); i += 4u) {
        let a = round_of(t, i);
        let b = round_of(t, i + 1u);
        let c = round_of(t, i + 2u);
        let d = round_of(t, i + 3u);
        limit = widened(widened(limit, t, i, a), t, i + 1u, b);
        limit = widened(widened(limit, t, i + 2u, c), t, i + 3u, d);
    }
    parts[4u * index] = vec2<f32>(limit.low.x, limit.high.x);
    parts[4u * index + 1u] = vec2<f32>(limit.low.y, limit.high.y);
    parts[4u * index + 2u] = vec2<f32>(limit.low.z, limit.high.z);
    parts[4u * index + 3u] = vec2<f32>(limit.low.w, limit.high.w);
}

// One invocation a column of a sample, which has parts of `period` tracks in each block.
@compute @workgroup_size(WG)
fn merge_quads(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.f) { return; }
    let batch = index / params.f;
    let valid = valid_rows(batch);
    let rows = period();
    let columns = rows * params.f;
    let blocks = (params.rows / rows + ROWS - 1u) / ROWS;
    let start = batch * blocks * columns + index % params.f;
    var limit = vec2<f32>();
    if (valid > 0u) { limit = parts[start]; }
    for (var first = 0u; first * rows < valid; first += ROWS) {
        for (var row = first * rows; row < min((first + 1u) * rows, valid); row++) {
            let part = parts[start + first / ROWS * columns + (row - first * rows) * params.f];
            limit = vec2<f32>(min(limit.x, part.x), max(limit.y, part.y));
        }
    }
    limits[index] = limit;
}

// Round i of a track, zero from `scaled` on.
fn put(t: Track, i: u32, scaled: vec4<u32>, above: vec4<f32>, range: vec4<f32>) {
    let clamped = clamp(above / range, vec4<f32>(), vec4<f32>(1.0));
    let v = select(vec4<f32>(), clamped, vec4<u32>(i) < scaled);
    if (i < t.last) { y4[t.base + i * t.stride] = to_storage4(v); }
}

// One invocation a track, four rounds at a time.
@compute @workgroup_size(WG)
fn write_quads(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= tracks()) { return; }
    let t = track(index);
    let from_limit = t.batch * params.f + t.feature;
    let a = limits[from_limit.x];
    let b = limits[from_limit.y];
    let c = limits[from_limit.z];
    let d = limits[from_limit.w];
    let low = vec4<f32>(a.x, b.x, c.x, d.x);
    let range = vec4<f32>(a.y, b.y, c.y, d.y) - low;
    let scaled = select(vec4<u32>(), t.valid, range >= vec4<f32>(SMALLEST));
    let end = max(t.first, end_of(t));
    var i = t.first;
    for (; i < end; i += 4u) {
        let first = round_of(t, i);
        let second = round_of(t, i + 1u);
        let third = round_of(t, i + 2u);
        let fourth = round_of(t, i + 3u);
        put(t, i, scaled, first - low, range);
        put(t, i + 1u, scaled, second - low, range);
        put(t, i + 2u, scaled, third - low, range);
        put(t, i + 3u, scaled, fourth - low, range);
    }
    for (; i < t.last; i++) { y4[t.base + i * t.stride] = to_storage4(vec4<f32>()); }
}
