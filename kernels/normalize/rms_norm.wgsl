// Root-mean-square normalisation (arXiv 1910.07467): y = x / sqrt(mean(x^2) + eps) * g per row.
// x[rows, d], g[d] -> y[rows, d]. A row of zeros gives zeros.

struct Params { rows: u32, d: u32, eps: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> g: array<T>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

override WG: u32 = 64u;

fn square(index: u32) -> f32 {
    let value = f32(x[index]);
    return value * value;
}

fn write(row: u32, i: u32, scale: f32) {
    let index = row * params.d + i;
    y[index] = to_storage(f32(x[index]) * scale * f32(g[i]));
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
    var squares = 0.0;
    for (var i = 0u; i < params.d; i++) { squares += square(base + i); }
    let scale = inverseSqrt(squares / f32(params.d) + params.eps);
    for (var i = 0u; i < params.d; i++) { write(row, i, scale); }
}

var<workgroup> partial: array<f32, WG>;

// Sum over the workgroup, the same bits in every invocation.
fn reduce(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    return workgroupUniformLoad(&partial[0]);
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
    var squares = 0.0;
    for (var i = lane; i < params.d; i += WG) { squares += square(base + i); }
    let scale = inverseSqrt(reduce(lane, squares) / f32(params.d) + params.eps);
    for (var i = lane; i < params.d; i += WG) { write(row, i, scale); }
}
