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
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> y4: array<T4>;
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

// The first elements of the four columns, which they are shifted by.
fn shift_of(t: Track) -> vec4<f32> {
    let at = t.batch * (params.rows * params.f) + t.feature;
    return vec4<f32>(
        f32(x4[at.x / 4u][at.x % 4u]),
        f32(x4[at.y / 4u][at.y % 4u]),
        f32(x4[at.z / 4u][at.z % 4u]),
        f32(x4[at.w / 4u][at.w % 4u]),
    );
}

// Moments of four columns.
struct Moments { count: vec4<f32>, mean: vec4<f32>, squares: vec4<f32> }

fn merge(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / max(count, vec4<f32>(1.0));
    let delta = b.mean - a.mean;
    let apart = delta * delta * (a.count * share);
    return Moments(count, a.mean + delta * share, a.squares + b.squares + apart);
}

// Round i of a track, zero where it is padding.
fn round_of(t: Track, i: u32, shift: vec4<f32>) -> vec4<f32> {
    let v = vec4<f32>(x4[t.base + min(i, t.last - 1u) * t.stride]) - shift;
    return select(vec4<f32>(), v, vec4<u32>(i) < t.valid);
}

fn square_of(t: Track, i: u32, v: vec4<f32>, mean: vec4<f32>) -> vec4<f32> {
    let centred = select(vec4<f32>(), v - mean, vec4<u32>(i) < t.valid);
    return centred * centred;
}

// One invocation a track: the moments of four rounds, merged into those before.
@compute @workgroup_size(WG)
fn measure_quads(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= tracks()) { return; }
    let t = track(index);
    let shift = shift_of(t);
    var all = Moments(vec4<f32>(), vec4<f32>(), vec4<f32>());
    for (var i = t.first; i < end_of(t); i += 4u) {
        let a = round_of(t, i, shift);
        let b = round_of(t, i + 1u, shift);
        let c = round_of(t, i + 2u, shift);
        let d = round_of(t, i + 3u, shift);
        let count = vec4<f32>(min(max(t.valid, vec4<u32>(i)) - i, vec4<u32>(4u)));
        let mean = ((a + b) + (c + d)) / max(count, vec4<f32>(1.0));
        let near = square_of(t, i, a, mean) + square_of(t, i + 1u, b, mean);
        let far = square_of(t, i + 2u, c, mean) + square_of(t, i + 3u, d, mean);
        all = merge(all, Moments(count, mean, near + far));
    }
    parts[4u * index] = vec2<f32>(all.mean.x, all.squares.x);
    parts[4u * index + 1u] = vec2<f32>(all.mean.y, all.squares.y);
    parts[4u * index + 2u] = vec2<f32>(all.mean.z, all.squares.z);
    parts[4u * index + 3u] = vec2<f32>(all.mean.w, all.squares.w);
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
    var moment = vec2<f32>();
    var before = 0.0;
    for (var first = 0u; first * rows < valid; first += ROWS) {
        for (var row = first * rows; row < min((first + 1u) * rows, valid); row++) {
            let part = parts[start + first / ROWS * columns + (row - first * rows) * params.f];
            let more = f32(min((valid - row + rows - 1u) / rows, ROWS));
            let delta = part.x - moment.x;
            let share = more / (before + more);
            moment.x += delta * share;
            moment.y += part.y + delta * delta * (before * share);
            before += more;
        }
    }
    moments[index] = finish(moment, max(valid, 1u));
}

// One invocation a track.
@compute @workgroup_size(WG)
fn write_quads(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= tracks()) { return; }
    let t = track(index);
    let shift = shift_of(t);
    let from_moment = t.batch * params.f + t.feature;
    let a = moments[from_moment.x];
    let b = moments[from_moment.y];
    let c = moments[from_moment.z];
    let d = moments[from_moment.w];
    let mean = vec4<f32>(a.x, b.x, c.x, d.x);
    let rstd = vec4<f32>(a.y, b.y, c.y, d.y);
    let end = max(t.first, select(0u, end_of(t), valid_rows(t.batch) > 1u));
    for (var i = t.first; i < end; i++) {
        let v = (vec4<f32>(x4[t.base + i * t.stride]) - shift - mean) * rstd;
        let inside = vec4<u32>(i) < t.valid;
        y4[t.base + i * t.stride] = to_storage4(select(vec4<f32>(), v, inside));
    }
    for (var i = end; i < t.last; i++) { y4[t.base + i * t.stride] = to_storage4(vec4<f32>()); }
}
