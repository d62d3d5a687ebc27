// Standardisation of features over time: z = (x - mean) / sigma over the valid rows of each
// (batch, feature), sigma of the population. x[batch, rows, f], len[batch] -> y like x.
// Rows from len on are padding: never read, and zero in the result. A feature without spread and a
// sample of fewer than two valid rows give zeros.
//
// Every column is shifted by its first element, which makes the variance of a constant exactly
// zero. `split` merges the moments of blocks of rows pairwise (Chan, Golub and LeVeque 1983).

struct Params { batch: u32, rows: u32, f: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
// Mean and sum of squared deviations of each block of rows.
@group(0) @binding(4) var<storage, read_write> parts: array<vec2<f32>>;
// Mean and 1/sigma of each column.
@group(0) @binding(5) var<storage, read_write> moments: array<vec2<f32>>;

override WG: u32 = 64u;
override ROWS: u32 = 64u;

// Below this variance squares lose bits to the subnormal range; it counts as zero.
const SMALLEST: f32 = 1e-30;

fn valid_rows(batch: u32) -> u32 {
    return min(len[batch], params.rows);
}

fn at(batch: u32, row: u32, feature: u32) -> u32 {
    return (batch * params.rows + row) * params.f + feature;
}

// Mean and sum of squared deviations of rows first..last of a column, at least one, in blocks of
// ROWS: what f16 elements lose against a long sum repeats itself instead of averaging out.
fn measure(batch: u32, feature: u32, first: u32, last: u32) -> vec2<f32> {
    let shift = f32(x[at(batch, 0u, feature)]);
    var total = 0.0;
    for (var start = first; start < last; start += ROWS) {
        var part = 0.0;
        for (var row = start; row < min(start + ROWS, last); row++) {
            part += f32(x[at(batch, row, feature)]) - shift;
        }
        total += part;
    }
    let mean = total / f32(last - first);
    var squares = 0.0;
    for (var start = first; start < last; start += ROWS) {
        var part = 0.0;
        for (var row = start; row < min(start + ROWS, last); row++) {
            let centred = f32(x[at(batch, row, feature)]) - shift - mean;
            part += centred * centred;
        }
        squares += part;
    }
    return vec2<f32>(mean, squares);
}

// Mean and 1/sigma of a column with `valid` rows.
fn finish(moment: vec2<f32>, valid: u32) -> vec2<f32> {
    let variance = moment.y / f32(valid);
    let rstd = inverseSqrt(max(variance, SMALLEST));
    return vec2<f32>(moment.x, select(0.0, rstd, variance >= SMALLEST));
}

fn write(batch: u32, feature: u32, first: u32, last: u32, moment: vec2<f32>) {
    let valid = select(0u, valid_rows(batch), valid_rows(batch) > 1u);
    let end = clamp(valid, first, last);
    if (first < end) {
        let shift = f32(x[at(batch, 0u, feature)]);
        for (var row = first; row < end; row++) {
            let centred = f32(x[at(batch, row, feature)]) - shift - moment.x;
            y[at(batch, row, feature)] = to_storage(centred * moment.y);
        }
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
    var moment = vec2<f32>();
    if (valid > 1u) { moment = finish(measure(batch, feature, 0u, valid), valid); }
    write(batch, feature, 0u, params.rows, moment);
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
    var moment = vec2<f32>();
    if (valid > 1u) { moment = parts[start]; }
    for (var first = ROWS; first < valid; first += ROWS) {
        let part = parts[start + first / ROWS * params.f];
        let before = f32(first);
        let more = f32(min(ROWS, valid - first));
        let delta = part.x - moment.x;
        let share = more / (before + more);
        moment.x += delta * share;
        moment.y += part.y + delta * delta * (before * share);
    }
    moments[index] = finish(moment, max(valid, 1u));
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
    write(batch, feature, first, last, moments[batch * params.f + feature]);
}
