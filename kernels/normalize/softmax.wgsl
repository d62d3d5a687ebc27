// Softmax over the valid part of each row: p = exp(x - max) / sum(exp(x - max)).
// x[rows, n], len[rows] -> y[rows, n]. Elements from len on are padding: never read, and zero in
// the result; a row of length 0 is all zeros.

struct Params { rows: u32, n: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> len: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<T>;

override WG: u32 = 64u;

// Below every finite input of either storage type.
const LOWEST: f32 = -3.0e38;

// One invocation a row: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let base = row * params.n;
    let valid = min(len[row], params.n);
    var peak = LOWEST;
    for (var i = 0u; i < valid; i++) { peak = max(peak, f32(x[base + i])); }
    var total = 0.0;
    for (var i = 0u; i < valid; i++) { total += exp(f32(x[base + i]) - peak); }
    for (var i = 0u; i < valid; i++) {
        y[base + i] = to_storage(exp(f32(x[base + i]) - peak) / total);
    }
    for (var i = valid; i < params.n; i++) { y[base + i] = to_storage(0.0); }
}

var<workgroup> partial: array<f32, WG>;

// Maximum over the workgroup, the same bits in every invocation.
fn reduce_max(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] = max(partial[lane], partial[lane + half]); }
    }
    let peak = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return peak;
}

// Sum over the workgroup, the same bits in every invocation.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    return workgroupUniformLoad(&partial[0]);
}

// One workgroup a row, coalesced loads, tree reductions in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    let base = row * params.n;
    let valid = min(len[row], params.n);
    var peak = LOWEST;
    for (var i = lane; i < valid; i += WG) { peak = max(peak, f32(x[base + i])); }
    peak = reduce_max(lane, peak);
    var total = 0.0;
    for (var i = lane; i < valid; i += WG) { total += exp(f32(x[base + i]) - peak); }
    total = reduce_sum(lane, total);
    for (var i = lane; i < valid; i += WG) {
        y[base + i] = to_storage(exp(f32(x[base + i]) - peak) / total);
    }
    for (var i = valid + lane; i < params.n; i += WG) { y[base + i] = to_storage(0.0); }
}
