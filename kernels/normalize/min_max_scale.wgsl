// Min-max scaling of features over time: y = (x - min) / (max - min), clamped to [0, 1], with the
// limits of the valid rows of each (batch, feature). x[batch, rows, f], len[batch] -> y like x.
// Rows from len on are padding: never read, and zero in the result. A feature without range gives
// zeros.

struct Params { batch: u32, rows: u32, f: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
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
