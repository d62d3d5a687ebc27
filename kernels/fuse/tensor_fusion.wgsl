// Tensor fusion network (arXiv 1707.07250): the outer product of [1; x_m] over all modalities,
// flattened with the last modality fastest.
// x[batch, total] (the modalities of a sample side by side), first[modalities + 1] = where each
// one starts, present[batch] (bit m) -> y[batch, cells], cells = product of (width + 1).
// An absent modality is never read and counts as a vector of zeros.

struct Params { batch: u32, modalities: u32, total: u32, cells: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> first: array<u32>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override WG: u32 = 64u;
// Of `split`: modalities from SPLIT on form a table of RIGHT cells, at most 2,048.
override SPLIT: u32 = 0u;
override RIGHT: u32 = 2048u;
// Rows of such tables that one workgroup writes.
override ROWS: u32 = 16u;

// One cell of the outer product of the modalities from `begin` to before `end` of one sample.
fn product(row: u32, mask: u32, begin: u32, end: u32, cell: u32) -> f32 {
    var value = 1.0;
    var rest = cell;
    for (var m = end; m > begin; m--) {
        let start = first[m - 1u];
        let width = first[m] - start + 1u;
        let entry = rest % width;
        rest /= width;
        if (entry > 0u) {
            if (((mask >> (m - 1u)) & 1u) == 0u) { return 0.0; }
            value *= f32(x[row * params.total + start + entry - 1u]);
        }
    }
    return value;
}

// One invocation a cell.
@compute @workgroup_size(WG)
fn cell(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.cells) { return; }
    let row = index / params.cells;
    let at = index - row * params.cells;
    y[index] = to_storage(product(row, present[row], 0u, params.modalities, at));
}

// Every invocation reads only the cells it wrote itself, so that no barrier is needed.
var<workgroup> table: array<f32, RIGHT>;

// One workgroup ROWS multiples of the product of the last modalities of one sample: no division
// for each cell, and neighbours write neighbouring cells.
@compute @workgroup_size(WG)
fn split(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wid.x + wid.y * groups.x;
    let left = params.cells / RIGHT;
    let bands = (left + ROWS - 1u) / ROWS;
    let row = group / bands;
    if (row >= params.batch) { return; }
    let mask = present[row];
    for (var j = lane; j < RIGHT; j += WG) {
        table[j] = product(row, mask, SPLIT, params.modalities, j);
    }
    let start = group % bands * ROWS;
    for (var i = start; i < min(start + ROWS, left); i++) {
        let factor = product(row, mask, 0u, SPLIT, i);
        let at = row * params.cells + i * RIGHT;
        for (var j = lane; j < RIGHT; j += WG) { y[at + j] = to_storage(factor * table[j]); }
    }
}
