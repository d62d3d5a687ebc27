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
@group(0) @binding(2) var<storage, read> first: array<u32>;
@group(0) @binding(3) var<storage, read> f: array<T>;
@group(0) @binding(4) var<storage, read> w: array<T>;
@group(0) @binding(5) var<storage, read> bias: array<T>;
@group(0) @binding(6) var<storage, read> present: array<u32>;
@group(0) @binding(7) var<storage, read_write> y: array<T>;
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
