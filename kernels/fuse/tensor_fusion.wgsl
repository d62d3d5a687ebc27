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
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

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

// Entry `i` of [1; x_m]; 0 where the modality is absent.
fn entry_of(row: u32, mask: u32, start: u32, m: u32, i: u32) -> f32 {
    var entry = 0.0;
    if (((mask >> m) & 1u) == 1u && i > 0u) { entry = f32(x[row * params.total + start + i - 1u]); }
    return select(entry, 1.0, i == 0u);
}

// Four neighbouring entries of the last modality in one invocation, which multiplies them by every
// cell of the product of the others: one entry of the last but one a turn, and a division only
// where that one starts again.
struct Strip { row: u32, mask: u32, column: u32, width: u32, own: vec4<f32> }

fn strip_of(index: u32) -> Strip {
    let m = params.modalities - 1u;
    let start = first[m];
    let width = params.total - start + 1u;
    let quads = (width + 3u) / 4u;
    let row = index / quads;
    if (row >= params.batch) { return Strip(row, 0u, 0u, width, vec4<f32>()); }
    let i = index % quads * 4u;
    let mask = present[row];
    let at = min(i + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(width - 1u));
    return Strip(row, mask, i, width, vec4<f32>(
        entry_of(row, mask, start, m, at.x), entry_of(row, mask, start, m, at.y),
        entry_of(row, mask, start, m, at.z), entry_of(row, mask, start, m, at.w)));
}

// Entries of the last modality but one, of which there may be none, and where they start.
fn middle_of() -> vec2<u32> {
    if (params.modalities < 2u) { return vec2<u32>(1u, 0u); }
    let m = params.modalities - 2u;
    return vec2<u32>(first[m + 1u] - first[m] + 1u, first[m]);
}

fn outer_of(s: Strip, cell: u32) -> f32 {
    if (params.modalities < 3u) { return 1.0; }
    return product(s.row, s.mask, 0u, params.modalities - 2u, cell);
}

// The last modality with its 1 is a multiple of four long.
@compute @workgroup_size(WG)
fn strip4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let s = strip_of((wid.x + wid.y * groups.x) * WG + lane);
    if (s.row >= params.batch) { return; }
    let middle = middle_of();
    let step = s.width / 4u;
    var at = (s.row * params.cells + s.column) / 4u;
    for (var outer = 0u; outer < params.cells / s.width / middle.x; outer++) {
        let factor = outer_of(s, outer);
        for (var i = 0u; i < middle.x; i++) {
            let left = factor * entry_of(s.row, s.mask, middle.y, params.modalities - 2u, i);
            y4[at] = to_storage4(left * s.own);
            at += step;
        }
    }
}

@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let s = strip_of((wid.x + wid.y * groups.x) * WG + lane);
    if (s.row >= params.batch) { return; }
    let middle = middle_of();
    let count = min(4u, s.width - s.column);
    var at = s.row * params.cells + s.column;
    for (var outer = 0u; outer < params.cells / s.width / middle.x; outer++) {
        let factor = outer_of(s, outer);
        for (var i = 0u; i < middle.x; i++) {
            let left = factor * entry_of(s.row, s.mask, middle.y, params.modalities - 2u, i);
            let out = left * s.own;
            y[at] = to_storage(out.x);
            if (count > 1u) { y[at + 1u] = to_storage(out.y); }
            if (count > 2u) { y[at + 2u] = to_storage(out.z); }
            if (count > 3u) { y[at + 3u] = to_storage(out.w); }
            at += s.width;
        }
    }
}

// Sixteen entries instead of four, so that an entry of the last modality but one serves four
// vectors: the last modality with its 1 is a multiple of sixteen long.
@compute @workgroup_size(WG)
fn strip16(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = 4u * ((wid.x + wid.y * groups.x) * WG + lane);
    let a = strip_of(index);
    if (a.row >= params.batch) { return; }
    let b = strip_of(index + 1u).own;
    let c = strip_of(index + 2u).own;
    let d = strip_of(index + 3u).own;
    let middle = middle_of();
    let step = a.width / 4u;
    var at = (a.row * params.cells + a.column) / 4u;
    for (var outer = 0u; outer < params.cells / a.width / middle.x; outer++) {
        let factor = outer_of(a, outer);
        for (var i = 0u; i < middle.x; i++) {
            let left = factor * entry_of(a.row, a.mask, middle.y, params.modalities - 2u, i);
            y4[at] = to_storage4(left * a.own);
            y4[at + 1u] = to_storage4(left * b);
            y4[at + 2u] = to_storage4(left * c);
            y4[at + 3u] = to_storage4(left * d);
            at += step;
        }
    }
}
