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

override WG: u32 = 64u;

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
