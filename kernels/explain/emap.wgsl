// Empirical multimodally-additive projection (arXiv 2010.06572): what is left of a model's logits
// when modalities may not interact. f[n, n, c] holds the logits of text i with image j;
// y[i] = mean of row i + mean of column i - mean of all -> y[n, c].
//
// Sums first: sums[n, c] over j, then over i, then the total of the rows. The factor 1/n is one
// multiplication, so that integer logits and n a power of two give exact results. All sums and y
// are f32, whatever the logits are stored as.

struct Params { n: u32, c: u32, inverse: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> f: array<T>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> row_sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> column_sums: array<f32>;
@group(0) @binding(5) var<storage, read_write> totals: array<f32>;

override WG: u32 = 64u;

// One invocation a column and class, neighbours neighbours in memory.
@compute @workgroup_size(WG)
fn columns(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    let width = params.n * params.c;
    if (index >= width) { return; }
    var sum = 0.0;
    for (var i = 0u; i < params.n; i++) { sum += f32(f[i * width + index]); }
    column_sums[index] = sum;
}

// One invocation a row and class: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn rows_thread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    if (index >= params.n * params.c) { return; }
    let base = index / params.c * params.n * params.c + index % params.c;
    var sum = 0.0;
    for (var j = 0u; j < params.n; j++) { sum += f32(f[base + j * params.c]); }
    row_sums[index] = sum;
}

var<workgroup> partial: array<f32, WG>;

// One workgroup a row and class, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn rows_group(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let base = wid.y * params.n * params.c + wid.x;
    var sum = 0.0;
    for (var j = lane; j < params.n; j += WG) { sum += f32(f[base + j * params.c]); }
    partial[lane] = sum;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    if (lane == 0u) { row_sums[wid.y * params.c + wid.x] = partial[0]; }
}

// One invocation a class.
@compute @workgroup_size(WG)
fn total(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let class_number = wid.x * WG + lane;
    if (class_number >= params.c) { return; }
    var sum = 0.0;
    for (var i = 0u; i < params.n; i++) { sum += row_sums[i * params.c + class_number]; }
    totals[class_number] = sum;
}

// One invocation an output.
@compute @workgroup_size(WG)
fn project(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    if (index >= params.n * params.c) { return; }
    let grand = totals[index % params.c] * params.inverse;
    y[index] = (row_sums[index] + column_sums[index] - grand) * params.inverse;
}
