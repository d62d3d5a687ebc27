// Group normalisation (arXiv 1803.08494): the channels of a sample in equal groups, each to zero
// mean and unit variance over its channels and positions, then a gain and a bias per channel.
// x[n, c, l], g[c], b[c] -> y like x. A group is `span` = c / groups * l consecutive elements.
//
// Shifted by the group's first element and centred in a second pass, as in layer_norm. Where
// l % 4 = 0 a vec4 lies inside one channel and groups are read through x4 and y4.

struct Params { groups: u32, all_groups: u32, channels: u32, l: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> g: array<T>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;
// Mean and sum of squared deviations of each slice, from the group's first element on.
@group(0) @binding(5) var<storage, read_write> parts: array<vec2<f32>>;
// Mean and 1/sigma of each group.
@group(0) @binding(6) var<storage, read_write> moments: array<vec2<f32>>;

override WG: u32 = 64u;
// Vectors of a slice.
override QUADS: u32 = 128u;

// Elements of a group.
fn span() -> u32 {
    return params.channels / params.groups * params.l;
}

// Sum over every step-th element of group `row`, shifted.
fn total_of(row: u32, first: u32, step: u32, shift: f32) -> f32 {
    var total = 0.0;
    for (var i = first; i < span(); i += step) { total += f32(x[row * span() + i]) - shift; }
    return total;
}

fn total_of4(row: u32, first: u32, step: u32, shift: f32) -> f32 {
    let quads = span() / 4u;
    var sums = vec4<f32>();
    for (var q = first; q < quads; q += step) { sums += vec4<f32>(x4[row * quads + q]) - shift; }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// Sum of squares about the mean.
fn squares_of(row: u32, first: u32, step: u32, shift: f32, mean: f32) -> f32 {
    var squares = 0.0;
    for (var i = first; i < span(); i += step) {
        let centred = f32(x[row * span() + i]) - shift - mean;
        squares += centred * centred;
    }
    return squares;
}

fn squares_of4(row: u32, first: u32, step: u32, shift: f32, mean: f32) -> f32 {
    let quads = span() / 4u;
    var sums = vec4<f32>();
    for (var q = first; q < quads; q += step) {
        let centred = vec4<f32>(x4[row * quads + q]) - shift - mean;
        sums += centred * centred;
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

fn rstd_of(squares: f32) -> f32 {
    return inverseSqrt(squares / f32(span()) + params.eps);
}

// The first channel of group `row`.
fn channel_of(row: u32) -> u32 {
    return row % params.groups * (params.channels / params.groups);
}

fn write(row: u32, first: u32, step: u32, shift: f32, mean: f32, rstd: f32) {
    for (var i = first; i < span(); i += step) {
        let c = channel_of(row) + i / params.l;
        let scaled = (f32(x[row * span() + i]) - shift - mean) * rstd;
        y[row * span() + i] = to_storage(scaled * f32(g[c]) + f32(b[c]));
    }
}

fn write4(row: u32, first: u32, step: u32, shift: f32, mean: f32, rstd: f32) {
    let quads = span() / 4u;
    for (var q = first; q < quads; q += step) {
        let c = channel_of(row) + 4u * q / params.l;
        let scaled = (vec4<f32>(x4[row * quads + q]) - shift - mean) * rstd;
        y4[row * quads + q] = to_storage4(scaled * f32(g[c]) + f32(b[c]));
    }
}

// One invocation a group: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.all_groups) { return; }
    let shift = f32(x[row * span()]);
    let mean = total_of(row, 0u, 1u, shift) / f32(span());
    write(row, 0u, 1u, shift, mean, rstd_of(squares_of(row, 0u, 1u, shift, mean)));
}

// The same by vectors: l % 4 = 0.
@compute @workgroup_size(WG)
fn thread4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.all_groups) { return; }
    let shift = f32(x4[row * span() / 4u].x);
    let mean = total_of4(row, 0u, 1u, shift) / f32(span());
    write4(row, 0u, 1u, shift, mean, rstd_of(squares_of4(row, 0u, 1u, shift, mean)));
}

var<workgroup> partial: array<f32, WG>;

// Sum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    let sum = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return sum;
}

// One workgroup a group, coalesced loads, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.all_groups) { return; }
    let shift = f32(x[row * span()]);
    let mean = reduce(lane, total_of(row, lane, WG, shift)) / f32(span());
    let squares = reduce(lane, squares_of(row, lane, WG, shift, mean));
    write(row, lane, WG, shift, mean, rstd_of(squares));
}

// The same by vectors: l % 4 = 0.
@compute @workgroup_size(WG)
fn group4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.all_groups) { return; }
    let shift = f32(x4[row * span() / 4u].x);
    let mean = reduce(lane, total_of4(row, lane, WG, shift)) / f32(span());
    let squares = reduce(lane, squares_of4(row, lane, WG, shift, mean));
    write4(row, lane, WG, shift, mean, rstd_of(squares));
}

// `slices` reads x twice and has no barrier: the moments of slices of channels, merged for each
// group, then all slices written. A channel may begin and end inside a vector; what such a vector
// has of other channels is masked.
struct Slice { first: u32, end: u32, low: u32, high: u32 }

fn slices() -> u32 {
    let most = select((params.l + 6u) / 4u, params.l / 4u, params.l % 4u == 0u);
    return (most + QUADS - 1u) / QUADS;
}

// Vectors first to end - 1 of a channel, whose elements are low to high - 1.
fn slice(channel: u32, number: u32) -> Slice {
    let low = channel * params.l;
    let high = low + params.l;
    let first = low / 4u + number * QUADS;
    return Slice(first, min(first + QUADS, (high + 3u) / 4u), low, high);
}

fn is_inside(quad: u32, s: Slice) -> vec4<bool> {
    return 4u * quad + vec4<u32>(0u, 1u, 2u, 3u) - s.low < vec4<u32>(s.high - s.low);
}

fn count_of(s: Slice) -> u32 {
    let begin = max(4u * s.first, s.low);
    return max(min(4u * s.end, s.high), begin) - begin;
}

// The first element of the group of a channel.
fn shift_of(channel: u32) -> f32 {
    let each = params.channels / params.groups;
    let at = channel / each * each * params.l;
    return f32(x4[at / 4u][at % 4u]);
}

fn sum4(v: vec4<f32>) -> f32 { return (v.x + v.y) + (v.z + v.w); }

// Mean and sum of squared deviations of `count` elements (Chan, Golub and LeVeque 1979).
struct Moments { count: f32, mean: f32, squares: f32 }

fn merge(a: Moments, b: Moments) -> Moments {
    let count = a.count + b.count;
    let share = b.count / count;
    let delta = b.mean - a.mean;
    let apart = delta * delta * (a.count * share);
    return Moments(count, a.mean + delta * share, (a.squares + b.squares) + apart);
}

fn moments_of(v: vec4<f32>, inside: vec4<bool>) -> Moments {
    let count = sum4(select(vec4<f32>(), vec4<f32>(1.0), inside));
    let mean = sum4(select(vec4<f32>(), v, inside)) / count;
    let centred = select(vec4<f32>(), v - mean, inside);
    return Moments(count, mean, sum4(centred * centred));
}

// One invocation a slice.
@compute @workgroup_size(WG)
fn measure_slices(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let channel = index / slices();
    if (channel >= params.all_groups / params.groups * params.channels) { return; }
    let s = slice(channel, index % slices());
    let shift = shift_of(channel);
    var own = Moments(0.0, 0.0, 0.0);
    for (var q = s.first; q < s.end; q++) {
        own = merge(own, moments_of(vec4<f32>(x4[q]) - shift, is_inside(q, s)));
    }
    parts[index] = vec2<f32>(own.mean, own.squares);
}

// One invocation a group, slice after slice.
@compute @workgroup_size(WG)
fn merge_slices(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.all_groups) { return; }
    let each = params.channels / params.groups;
    let count = slices();
    var all = Moments(0.0, 0.0, 0.0);
    for (var channel = row * each; channel < (row + 1u) * each; channel++) {
        for (var number = 0u; number < count; number++) {
            let more = f32(count_of(slice(channel, number)));
            let part = parts[channel * count + number];
            if (more > 0.0) { all = merge(all, Moments(more, part.x, part.y)); }
        }
    }
    moments[row] = vec2<f32>(all.mean, rstd_of(all.squares));
}

// What a slice is shifted by, then multiplied by, then shifted by.
fn scaling(channel: u32) -> vec4<f32> {
    let moment = moments[channel / (params.channels / params.groups)];
    let c = channel % params.channels;
    return vec4<f32>(moment.x, moment.y, f32(g[c]), f32(b[c]));
}

fn scaled(v: vec4<f32>, shift: f32, by: vec4<f32>) -> vec4<f32> {
    return (v - shift - by.x) * by.y * by.z + by.w;
}

// One invocation a slice; neighbouring channels may meet inside a vector.
@compute @workgroup_size(WG)
fn write_slices(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let channel = index / slices();
    if (channel >= params.all_groups / params.groups * params.channels) { return; }
    let s = slice(channel, index % slices());
    let shift = shift_of(channel);
    let by = scaling(channel);
    for (var q = s.first; q < s.end; q++) {
        let v = scaled(vec4<f32>(x4[q]), shift, by);
        let inside = is_inside(q, s);
        if (inside.x) { y[4u * q] = to_storage(v.x); }
        if (inside.y) { y[4u * q + 1u] = to_storage(v.y); }
        if (inside.z) { y[4u * q + 2u] = to_storage(v.z); }
        if (inside.w) { y[4u * q + 3u] = to_storage(v.w); }
    }
}

// The same where l % 4 = 0.
@compute @workgroup_size(WG)
fn write_slices4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let channel = index / slices();
    if (channel >= params.all_groups / params.groups * params.channels) { return; }
    let s = slice(channel, index % slices());
    let shift = shift_of(channel);
    let by = scaling(channel);
    for (var q = s.first; q < s.end; q++) {
        y4[q] = to_storage4(scaled(vec4<f32>(x4[q]), shift, by));
    }
}
