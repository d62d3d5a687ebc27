// Layer normalisation (arXiv 1607.06450): y = (x - mean) / sqrt(var + eps) * g + b over each row.
// x[rows, d], g[d], b[d] -> y[rows, d].
//
// The row's first element is subtracted before anything is summed, and the variance is centred in
// a second pass: without the shift a constant row of 1000.1 comes out as large as 1.0 in f32.

struct Params { rows: u32, d: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> g: array<T>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override WG: u32 = 64u;

fn write(row: u32, i: u32, centred: f32, rstd: f32) {
    let out = centred * rstd * f32(g[i]) + f32(b[i]);
    y[row * params.d + i] = to_storage(out);
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
    let base = row * params.d;
    let n = f32(params.d);
    let shift = f32(x[base]);
    var total = 0.0;
    for (var i = 0u; i < params.d; i++) { total += f32(x[base + i]) - shift; }
    let mean = total / n;
    var squares = 0.0;
    for (var i = 0u; i < params.d; i++) {
        let centred = f32(x[base + i]) - shift - mean;
        squares += centred * centred;
    }
    let rstd = inverseSqrt(squares / n + params.eps);
    for (var i = 0u; i < params.d; i++) {
        write(row, i, f32(x[base + i]) - shift - mean, rstd);
    }
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
    let base = row * params.d;
    let n = f32(params.d);
    let shift = f32(x[base]);
    var total = 0.0;
    for (var i = lane; i < params.d; i += WG) { total += f32(x[base + i]) - shift; }
    let mean = reduce(lane, total) / n;
    var squares = 0.0;
    for (var i = lane; i < params.d; i += WG) {
        let centred = f32(x[base + i]) - shift - mean;
        squares += centred * centred;
    }
    let rstd = inverseSqrt(reduce(lane, squares) / n + params.eps);
    for (var i = lane; i < params.d; i += WG) {
        write(row, i, f32(x[base + i]) - shift - mean, rstd);
    }
}
