// L2 normalisation: y = x / max(||x||, 1e-12) over each row, the epsilon of PyTorch's `normalize`.
// x[rows, d] -> y[rows, d]. A row of zeros gives zeros.
//
// Where d % 4 = 0 rows are read as vec4 through x4 and y4, the same buffers.

struct Params { rows: u32, d: u32, floor: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;

// Sum of squares of every step-th element of a row.
fn squares_of(row: u32, first: u32, step: u32) -> f32 {
    var squares = 0.0;
    for (var i = first; i < params.d; i += step) {
        let v = f32(x[row * params.d + i]);
        squares += v * v;
    }
    return squares;
}

// The same by vectors: d % 4 = 0.
fn squares_of4(row: u32, first: u32, step: u32) -> f32 {
    let quads = params.d / 4u;
    var sums = vec4<f32>();
    for (var q = first; q < quads; q += step) {
        let v = vec4<f32>(x4[row * quads + q]);
        sums += v * v;
    }
    return (sums.x + sums.y) + (sums.z + sums.w);
}

// `floor` is the square of the smallest norm that is divided by.
fn scale_of(squares: f32) -> f32 {
    return inverseSqrt(max(squares, params.floor));
}

fn write(row: u32, first: u32, step: u32, scale: f32) {
    for (var i = first; i < params.d; i += step) {
        y[row * params.d + i] = to_storage(f32(x[row * params.d + i]) * scale);
    }
}

fn write4(row: u32, first: u32, step: u32, scale: f32) {
    let quads = params.d / 4u;
    for (var q = first; q < quads; q += step) {
        y4[row * quads + q] = to_storage4(vec4<f32>(x4[row * quads + q]) * scale);
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
    write(row, 0u, 1u, scale_of(squares_of(row, 0u, 1u)));
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
    write4(row, 0u, 1u, scale_of(squares_of4(row, 0u, 1u)));
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
    write(row, lane, WG, scale_of(reduce(lane, squares_of(row, lane, WG))));
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
    write4(row, lane, WG, scale_of(reduce(lane, squares_of4(row, lane, WG))));
}
