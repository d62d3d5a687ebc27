// Low-rank multimodal fusion (arXiv 1806.00064):
// y = bias + sum over r of w_r * product over m of (F_m^r . [1; x_m]).
// x[batch, total] (the modalities of a sample side by side), first[modalities + 1] = where each
// one starts, f[rank, total + modalities, outputs] (of each modality the row of its one, then those
// of its entries), w[rank], bias[outputs], present[batch] (bit m) -> y[batch, outputs].
// An absent modality is never read and counts as a vector of zeros.
//
// A slice of the ranks, begin to end, has a window into f and leaves what it adds up in `sums`.
//
// Each invocation computes four samples by four outputs `across` apart, so that neighbours read
// neighbouring weights whatever the number of outputs.

struct Params {
    batch: u32, modalities: u32, total: u32, rank: u32, outputs: u32, begin: u32, end: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> first: array<u32>;
@group(0) @binding(3) var<storage, read> f: array<T>;
@group(0) @binding(3) var<storage, read> f4: array<T4>;
@group(0) @binding(4) var<storage, read> w: array<T>;
@group(0) @binding(5) var<storage, read> bias: array<T>;
@group(0) @binding(5) var<storage, read> bias4: array<T4>;
@group(0) @binding(6) var<storage, read> present: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
@group(0) @binding(7) var<storage, read_write> y4: array<T4>;
@group(0) @binding(8) var<storage, read_write> sums: array<mat4x4<f32>>;

override WG: u32 = 8u;

// The outputs of one invocation, and the ranks it adds: begin, begin + step, …
struct Block { row: u32, col: u32, across: u32, begin: u32, step: u32 }

// Four outputs of one row of a factor. Those beyond the last load it and are not stored.
fn f_quad(p: Block, start: u32) -> vec4<f32> {
    let last = params.outputs - 1u;
    return vec4<f32>(
        f32(f[start + min(p.col, last)]), f32(f[start + min(p.col + p.across, last)]),
        f32(f[start + min(p.col + 2u * p.across, last)]),
        f32(f[start + min(p.col + 3u * p.across, last)]));
}

// Samples beyond the batch load the last one and are not stored.
fn mask_of(row: u32) -> u32 {
    return present[min(row, params.batch - 1u)];
}

fn x_of(row: u32, is_present: bool, i: u32) -> f32 {
    if (!is_present) { return 0.0; }
    return f32(x[min(row, params.batch - 1u) * params.total + i]);
}

fn add_ranks(p: Block, start: mat4x4<f32>) -> mat4x4<f32> {
    let row = p.row;
    let masks = vec4<u32>(mask_of(row), mask_of(row + 1u), mask_of(row + 2u), mask_of(row + 3u));
    var sum = start;
    for (var r = p.begin; r < params.end; r += p.step) {
        let of_rank = (r - params.begin) * (params.total + params.modalities);
        let weight = vec4<f32>(f32(w[r]));
        var product = mat4x4<f32>(weight, weight, weight, weight);
        for (var m = 0u; m < params.modalities; m++) {
            let width = first[m + 1u] - first[m];
            let factor = (of_rank + first[m] + m) * params.outputs;
            let is_present = ((masks >> vec4<u32>(m)) & vec4<u32>(1u)) == vec4<u32>(1u);
            let one = f_quad(p, factor);
            var dots = mat4x4<f32>(one, one, one, one);
            for (var i = 0u; i < width; i++) {
                let v = f_quad(p, factor + (i + 1u) * params.outputs);
                dots[0] += x_of(row, is_present.x, first[m] + i) * v;
                dots[1] += x_of(row + 1u, is_present.y, first[m] + i) * v;
                dots[2] += x_of(row + 2u, is_present.z, first[m] + i) * v;
                dots[3] += x_of(row + 3u, is_present.w, first[m] + i) * v;
            }
            product[0] *= dots[0];
            product[1] *= dots[1];
            product[2] *= dots[2];
            product[3] *= dots[3];
        }
        sum += product;
    }
    return sum;
}

fn write(p: Block, row: u32, v: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        let col = p.col + i * p.across;
        if (row < params.batch && col < params.outputs) {
            y[row * params.outputs + col] = to_storage(v[i] + f32(bias[col]));
        }
    }
}

fn write_rows(p: Block, sum: mat4x4<f32>) {
    write(p, p.row, sum[0]);
    write(p, p.row + 1u, sum[1]);
    write(p, p.row + 2u, sum[2]);
    write(p, p.row + 3u, sum[3]);
}

// All ranks in one invocation: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let p = Block(4u * wid.y, 4u * WG * wid.x + lane, WG, 0u, 1u);
    write_rows(p, add_ranks(p, mat4x4<f32>()));
}

// The ranks of one slice, added to those of the slices before it.
@compute @workgroup_size(WG)
fn add_slice(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = Block(4u * wid.y, 4u * WG * wid.x + lane, WG, params.begin, 1u);
    let at = (wid.y * groups.x + wid.x) * WG + lane;
    var sum: mat4x4<f32>;
    if (params.begin > 0u) { sum = sums[at]; }
    sum = add_ranks(p, sum);
    if (params.end < params.rank) { sums[at] = sum; } else { write_rows(p, sum); }
}

var<workgroup> partial: array<vec4<f32>, 256>;

// Adds the 16 partial sums of each of 16 columns.
fn reduce(lane: u32, value: vec4<f32>) -> vec4<f32> {
    partial[lane] = value;
    for (var half = 8u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < 16u * half) { partial[lane] += partial[lane + 16u * half]; }
    }
    workgroupBarrier();
    let sum = partial[lane % 16u];
    workgroupBarrier();
    return sum;
}

// Four samples by 64 outputs for each workgroup, 16 invocations share the ranks.
@compute @workgroup_size(256)
fn split_ranks(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let p = Block(4u * wid.y, 64u * wid.x + lane % 16u, 16u, lane / 16u, 16u);
    let sum = add_ranks(p, mat4x4<f32>());
    let sums = mat4x4<f32>(reduce(lane, sum[0]), reduce(lane, sum[1]), reduce(lane, sum[2]),
        reduce(lane, sum[3]));
    if (lane < 16u) { write_rows(p, sums); }
}

// Subgroups of eight, 32 samples by 32 outputs. Invocation i has four neighbouring outputs of all
// samples and loads the entries of samples i, i + 8, i + 16 and i + 24, which the others get by
// broadcast: what is loaded of the factors meets 32 samples. o % 4 = 0.
alias Eight = array<vec4<f32>, 8>;
var<private> dots_0: Eight;
var<private> dots_1: Eight;
var<private> dots_2: Eight;
var<private> dots_3: Eight;
var<private> products_0: Eight;
var<private> products_1: Eight;
var<private> products_2: Eight;
var<private> products_3: Eight;
var<private> sums_0: Eight;
var<private> sums_1: Eight;
var<private> sums_2: Eight;
var<private> sums_3: Eight;

fn eight(v: vec4<f32>) -> Eight { return Eight(v, v, v, v, v, v, v, v); }

fn add_eight(acc: ptr<private, Eight>, entry: f32, v: vec4<f32>) {
    (*acc)[0] += subgroupBroadcast(entry, 0u) * v;
    (*acc)[1] += subgroupBroadcast(entry, 1u) * v;
    (*acc)[2] += subgroupBroadcast(entry, 2u) * v;
    (*acc)[3] += subgroupBroadcast(entry, 3u) * v;
    (*acc)[4] += subgroupBroadcast(entry, 4u) * v;
    (*acc)[5] += subgroupBroadcast(entry, 5u) * v;
    (*acc)[6] += subgroupBroadcast(entry, 6u) * v;
    (*acc)[7] += subgroupBroadcast(entry, 7u) * v;
}
fn multiply_eight(acc: ptr<private, Eight>, by: ptr<private, Eight>) {
    (*acc)[0] *= (*by)[0];
    (*acc)[1] *= (*by)[1];
    (*acc)[2] *= (*by)[2];
    (*acc)[3] *= (*by)[3];
    (*acc)[4] *= (*by)[4];
    (*acc)[5] *= (*by)[5];
    (*acc)[6] *= (*by)[6];
    (*acc)[7] *= (*by)[7];
}
fn sum_eight(acc: ptr<private, Eight>, terms: ptr<private, Eight>) {
    (*acc)[0] += (*terms)[0];
    (*acc)[1] += (*terms)[1];
    (*acc)[2] += (*terms)[2];
    (*acc)[3] += (*terms)[3];
    (*acc)[4] += (*terms)[4];
    (*acc)[5] += (*terms)[5];
    (*acc)[6] += (*terms)[6];
    (*acc)[7] += (*terms)[7];
}

// One entry of each of the four samples of this invocation, times its outputs of a factor's row.
fn add_entries(start: u32, entries: vec4<f32>) {
    let v = vec4<f32>(f4[start]);
    add_eight(&dots_0, entries.x, v);
    add_eight(&dots_1, entries.y, v);
    add_eight(&dots_2, entries.z, v);
    add_eight(&dots_3, entries.w, v);
}
fn begin_rank(r: u32) {
    let weight = eight(vec4<f32>(f32(w[r])));
    products_0 = weight;
    products_1 = weight;
    products_2 = weight;
    products_3 = weight;
}
fn begin_modality(start: u32) {
    let ones = eight(vec4<f32>(f4[start]));
    dots_0 = ones;
    dots_1 = ones;
    dots_2 = ones;
    dots_3 = ones;
}
fn end_modality() {
    multiply_eight(&products_0, &dots_0);
    multiply_eight(&products_1, &dots_1);
    multiply_eight(&products_2, &dots_2);
    multiply_eight(&products_3, &dots_3);
}
fn end_rank() {
    sum_eight(&sums_0, &products_0);
    sum_eight(&sums_1, &products_1);
    sum_eight(&sums_2, &products_2);
    sum_eight(&sums_3, &products_3);
}

// First sample and first vector of outputs of an invocation; whether it stores them.
struct Tile { row: u32, col: u32, is_stored: bool }

fn tile(wid: vec3<u32>, lane: u32) -> Tile {
    let col = 8u * wid.x + lane;
    let last = params.outputs / 4u - 1u;
    return Tile(32u * wid.y + lane, min(col, last), col <= last);
}
fn four_rows(row: u32) -> vec4<u32> {
    return min(row + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(params.batch - 1u));
}
fn store(at: Tile, row: u32, sum: vec4<f32>) {
    if (!at.is_stored || row >= params.batch) { return; }
    y4[row * (params.outputs / 4u) + at.col] = to_storage4(sum);
}
fn store_eight(at: Tile, first: u32, sums: ptr<private, Eight>) {
    let bias = vec4<f32>(bias4[at.col]);
    store(at, first + 0u, (*sums)[0] + bias);
    store(at, first + 1u, (*sums)[1] + bias);
    store(at, first + 2u, (*sums)[2] + bias);
    store(at, first + 3u, (*sums)[3] + bias);
    store(at, first + 4u, (*sums)[4] + bias);
    store(at, first + 5u, (*sums)[5] + bias);
    store(at, first + 6u, (*sums)[6] + bias);
    store(at, first + 7u, (*sums)[7] + bias);
}
fn store_tile(wid: vec3<u32>, at: Tile) {
    store_eight(at, 32u * wid.y, &sums_0);
    store_eight(at, 32u * wid.y + 8u, &sums_1);
    store_eight(at, 32u * wid.y + 16u, &sums_2);
    store_eight(at, 32u * wid.y + 24u, &sums_3);
}
// Where the row of a modality's one lies, in vectors.
fn factor_of(r: u32, m: u32, at: Tile) -> u32 {
    let rows = r * (params.total + params.modalities) + first[m] + m;
    return rows * (params.outputs / 4u) + at.col;
}

// Every modality is a multiple of four wide.
@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let at = tile(wid, lane);
    let rows = four_rows(at.row);
    let masks = vec4<u32>(present[rows.x], present[rows.y], present[rows.z], present[rows.w]);
    let quads = params.outputs / 4u;
    for (var r = 0u; r < params.rank; r++) {
        begin_rank(r);
        for (var m = 0u; m < params.modalities; m++) {
            let factor = factor_of(r, m, at);
            let start = rows * (params.total / 4u) + first[m] / 4u;
            let hidden = ((masks >> vec4<u32>(m)) & vec4<u32>(1u)) == vec4<u32>();
            let width = first[m + 1u] - first[m];
            begin_modality(factor);
            for (var i = 0u; i < width; i += 4u) {
                let c = i / 4u;
                let x = transpose(mat4x4<f32>(vec4<f32>(x4[start.x + c]),
                    vec4<f32>(x4[start.y + c]), vec4<f32>(x4[start.z + c]),
                    vec4<f32>(x4[start.w + c])));
                let row = factor + i * quads + quads;
                add_entries(row, select(x[0], vec4<f32>(), hidden));
                add_entries(row + quads, select(x[1], vec4<f32>(), hidden));
                add_entries(row + 2u * quads, select(x[2], vec4<f32>(), hidden));
                add_entries(row + 3u * quads, select(x[3], vec4<f32>(), hidden));
            }
            end_modality();
        }
        end_rank();
    }
    store_tile(wid, at);
}

@compute @workgroup_size(8)
fn broadcast_any(
    @builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32,
) {
    let at = tile(wid, lane);
    let rows = four_rows(at.row);
    let masks = vec4<u32>(present[rows.x], present[rows.y], present[rows.z], present[rows.w]);
    let quads = params.outputs / 4u;
    for (var r = 0u; r < params.rank; r++) {
        begin_rank(r);
        for (var m = 0u; m < params.modalities; m++) {
            let factor = factor_of(r, m, at);
            let start = rows * params.total + first[m];
            let hidden = ((masks >> vec4<u32>(m)) & vec4<u32>(1u)) == vec4<u32>();
            let width = first[m + 1u] - first[m];
            begin_modality(factor);
            for (var i = 0u; i < width; i++) {
                let entries = vec4<f32>(f32(x[start.x + i]), f32(x[start.y + i]),
                    f32(x[start.z + i]), f32(x[start.w + i]));
                add_entries(factor + (i + 1u) * quads, select(entries, vec4<f32>(), hidden));
            }
            end_modality();
        }
        end_rank();
    }
    store_tile(wid, at);
}
