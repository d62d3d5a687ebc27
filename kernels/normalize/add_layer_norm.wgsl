// Residual addition fused with layer normalisation (arXiv 1607.06450):
// h = x + res + bias; y = (h - mean) / sqrt(var + eps) * g + b over each row of h.
// x and res[rows, d], bias, g and b[d] -> h and y[rows, d]. The statistics are those of h before it
// is rounded to storage.
//
// The row's first element is subtracted before anything is summed, and the variance is centred in
// a second pass, as in layer_norm. Where d % 4 = 0 rows are read as vec4.

struct Params { rows: u32, d: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> res: array<T>;
@group(0) @binding(2) var<storage, read> res4: array<T4>;
@group(0) @binding(3) var<storage, read> bias: array<T>;
@group(0) @binding(3) var<storage, read> bias4: array<T4>;
@group(0) @binding(4) var<storage, read> g: array<T>;
@group(0) @binding(4) var<storage, read> g4: array<T4>;
@group(0) @binding(5) var<storage, read> b: array<T>;
@group(0) @binding(5) var<storage, read> b4: array<T4>;
@group(0) @binding(6) var<storage, read_write> h: array<T>;
@group(0) @binding(6) var<storage, read_write> h4: array<T4>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
@group(0) @binding(7) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

fn joined(row: u32, i: u32) -> f32 {
    let at = row * params.d + i;
    return f32(x[at]) + f32(res[at]) + f32(bias[i]);
}

fn joined4(row: u32, q: u32) -> vec4<f32> {
    let at = row * (params.d / 4u) + q;
    return vec4<f32>(x4[at]) + vec4<f32>(res4[at]) + vec4<f32>(bias4[q]);
}

// Sum over every step-th element of a row, shifted; stores h on the way.
fn total_of(row: u32, first: u32, step: u32, shift: f32) -> f32 {
    var total = 0.0;
    for (var i = first; i < params.d; i += step) {
        let v = joined(row, i);
        h[row * params.d + i] = to_storage(v);
        total += v - shift;
    }
    return total;
}

fn total_of4(row: u32, first: u32, step: u32, shift: f32) -> f32 {
    let quads = params.d / 4u;
    var sums = vec4<f32>();
    for (var q = first; q < quads; q += step) {
        let v = joined4(row, q);
        h4[row * quads + q] = to_storage4(v);
        sums += v - shift;
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// Sum of squares about the mean.
fn squares_of(row: u32, first: u32, step: u32, shift: f32, mean: f32) -> f32 {
    var squares = 0.0;
    for (var i = first; i < params.d; i += step) {
        let centred = joined(row, i) - shift - mean;
        squares += centred * centred;
    }
    return squares;
}

fn squares_of4(row: u32, first: u32, step: u32, shift: f32, mean: f32) -> f32 {
    var sums = vec4<f32>();
    for (var q = first; q < params.d / 4u; q += step) {
        let centred = joined4(row, q) - shift - mean;
        sums += centred * centred;
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

fn rstd_of(squares: f32) -> f32 {
    return inverseSqrt(squares / f32(params.d) + params.eps);
}

fn write(row: u32, first: u32, step: u32, shift: f32, mean: f32, rstd: f32) {
    for (var i = first; i < params.d; i += step) {
        let scaled = (joined(row, i) - shift - mean) * rstd;
        y[row * params.d + i] = to_storage(scaled * f32(g[i]) + f32(b[i]));
    }
}

fn write4(row: u32, first: u32, step: u32, shift: f32, mean: f32, rstd: f32) {
    let quads = params.d / 4u;
    for (var q = first; q < quads; q += step) {
        let scaled = (joined4(row, q) - shift - mean) * rstd;
        y4[row * quads + q] = to_storage4(scaled * vec4<f32>(g4[q]) + vec4<f32>(b4[q]));
    }
}

// One invocation a row: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let shift = joined(row, 0u);
    let mean = total_of(row, 0u, 1u, shift) / f32(params.d);
    write(row, 0u, 1u, shift, mean, rstd_of(squares_of(row, 0u, 1u, shift, mean)));
}

// The same by vectors: d % 4 = 0.
@compute @workgroup_size(WG)
fn thread4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let shift = joined4(row, 0u).x;
    let mean = total_of4(row, 0u, 1u, shift) / f32(params.d);
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

// One workgroup a row, coalesced loads, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let shift = joined(row, 0u);
    let mean = reduce(lane, total_of(row, lane, WG, shift)) / f32(params.d);
    let squares = reduce(lane, squares_of(row, lane, WG, shift, mean));
    write(row, lane, WG, shift, mean, rstd_of(squares));
}

// The same by vectors: d % 4 = 0.
@compute @workgroup_size(WG)
fn group4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let shift = joined4(row, 0u).x;
    let mean = reduce(lane, total_of4(row, lane, WG, shift)) / f32(params.d);
    let squares = reduce(lane, squares_of4(row, lane, WG, shift, mean));
    write4(row, lane, WG, shift, mean, rstd_of(squares));
}
