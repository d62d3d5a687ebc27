// Early fusion in one step: y = [x_1; ...; x_M] * w^T + b without storing the concatenation.
// x: for each modality m one block [batch, width], block m at batch * first[m]; w[n, total], b[n],
// first[modalities + 1] = where each modality starts among the `total` columns of w,
// present[batch] (bit m) -> y[batch, n]. An absent modality is never read and adds nothing; a
// sample without any gives b.
//
// Where every width is a multiple of 4 operands are read as vec4 through x4 and w4, the same
// buffers; the `_any` entry points assemble the vectors from scalars and never read past a width.

struct Params { batch: u32, n: u32, modalities: u32, total: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(3) var<storage, read> b: array<T>;
@group(0) @binding(4) var<storage, read> first: array<u32>;
@group(0) @binding(5) var<storage, read> present: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;

fn width_of(m: u32) -> u32 {
    return first[m + 1u] - first[m];
}

fn quads_of(m: u32) -> u32 {
    return (width_of(m) + 3u) / 4u;
}

// Rows and columns beyond the matrix load the last one and are not stored.
fn mask_of(row: u32) -> u32 {
    return present[min(row, params.batch - 1u)];
}

// Where a modality of one sample starts in x.
fn x_start(row: u32, m: u32) -> u32 {
    return params.batch * first[m] + min(row, params.batch - 1u) * width_of(m);
}

// Elements 4q to 4q + 3 of a modality in one sample, and their weights for one output: zero where
// absent or beyond the width.
fn x_quad(row: u32, mask: u32, m: u32, q: u32) -> vec4<f32> {
    if (((mask >> m) & 1u) == 0u || 4u * q >= width_of(m)) { return vec4<f32>(); }
    return vec4<f32>(x4[x_start(row, m) / 4u + q]);
}

fn w_quad(col: u32, m: u32, q: u32) -> vec4<f32> {
    if (4u * q >= width_of(m)) { return vec4<f32>(); }
    return vec4<f32>(w4[(min(col, params.n - 1u) * params.total + first[m]) / 4u + q]);
}

// The same from scalars, for any width, of a modality that starts there. Beyond the width the last
// element is loaded, because a branch would cost more than a load.
fn x_from(start: u32, width: u32, q: u32) -> vec4<f32> {
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = start + min(i, vec4<u32>(width - 1u));
    let v = vec4<T>(x[at.x], x[at.y], x[at.z], x[at.w]);
    return select(vec4<f32>(), vec4<f32>(v), i < vec4<u32>(width));
}

fn w_from(start: u32, width: u32, q: u32) -> vec4<f32> {
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = start + min(i, vec4<u32>(width - 1u));
    let v = vec4<T>(w[at.x], w[at.y], w[at.z], w[at.w]);
    return select(vec4<f32>(), vec4<f32>(v), i < vec4<u32>(width));
}

fn x_any(row: u32, mask: u32, m: u32, q: u32) -> vec4<f32> {
    if (((mask >> m) & 1u) == 0u) { return vec4<f32>(); }
    return x_from(x_start(row, m), width_of(m), q);
}

fn w_any(col: u32, m: u32, q: u32) -> vec4<f32> {
    return w_from(min(col, params.n - 1u) * params.total + first[m], width_of(m), q);
}

fn x_rows(row: u32, masks: vec4<u32>, m: u32, q: u32) -> mat4x4<f32> {
    return mat4x4<f32>(x_quad(row, masks.x, m, q), x_quad(row + 1u, masks.y, m, q),
        x_quad(row + 2u, masks.z, m, q), x_quad(row + 3u, masks.w, m, q));
}

fn masks_of(row: u32) -> vec4<u32> {
    return vec4<u32>(mask_of(row), mask_of(row + 1u), mask_of(row + 2u), mask_of(row + 3u));
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: mat4x4<f32>) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four rows with four columns, given transposed.
fn add_products(acc: ptr<function, mat4x4<f32>>, rows: mat4x4<f32>, t: mat4x4<f32>) {
    (*acc)[0] = multiply_add((*acc)[0], rows[0], t);
    (*acc)[1] = multiply_add((*acc)[1], rows[1], t);
    (*acc)[2] = multiply_add((*acc)[2], rows[2], t);
    (*acc)[3] = multiply_add((*acc)[3], rows[3], t);
}

fn write(row: u32, col: u32, dot: f32) {
    if (row < params.batch && col < params.n) {
        y[row * params.n + col] = to_storage(dot + f32(b[col]));
    }
}

// Four rows `down` apart by four columns `across` apart.
fn write_block(row: u32, down: u32, col: u32, across: u32, acc: mat4x4<f32>) {
    for (var c = 0u; c < 4u; c++) {
        write(row, col + c * across, acc[0][c]);
        write(row + down, col + c * across, acc[1][c]);
        write(row + 2u * down, col + c * across, acc[2][c]);
        write(row + 3u * down, col + c * across, acc[3][c]);
    }
}

// Eight consecutive samples by four outputs WG apart for each invocation: no barrier.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 8u;
    let col = wid.x * 4u * WG + lane;
    let upper_masks = masks_of(row);
    let lower_masks = masks_of(row + 4u);
    var upper: mat4x4<f32>;
    var lower: mat4x4<f32>;
    for (var m = 0u; m < params.modalities; m++) {
        for (var q = 0u; q < quads_of(m); q++) {
            let weights = transpose(mat4x4<f32>(w_quad(col, m, q), w_quad(col + WG, m, q),
                w_quad(col + 2u * WG, m, q), w_quad(col + 3u * WG, m, q)));
            add_products(&upper, x_rows(row, upper_masks, m, q), weights);
            add_products(&lower, x_rows(row + 4u, lower_masks, m, q), weights);
        }
    }
    write_block(row, 1u, col, WG, upper);
    write_block(row + 4u, 1u, col, WG, lower);
}

// Four by four, because scalar loads dominate.
@compute @workgroup_size(WG)
fn registers_any(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.y * 4u;
    let col = wid.x * 4u * WG + lane;
    let masks = masks_of(row);
    var acc: mat4x4<f32>;
    for (var m = 0u; m < params.modalities; m++) {
        for (var q = 0u; q < quads_of(m); q++) {
            let rows = mat4x4<f32>(x_any(row, masks.x, m, q), x_any(row + 1u, masks.y, m, q),
                x_any(row + 2u, masks.z, m, q), x_any(row + 3u, masks.w, m, q));
            add_products(&acc, rows, transpose(mat4x4<f32>(w_any(col, m, q),
                w_any(col + WG, m, q), w_any(col + 2u * WG, m, q), w_any(col + 3u * WG, m, q))));
        }
    }
    write_block(row, 1u, col, WG, acc);
}

// Sixteen samples by eight outputs for each of the eight invocations of a subgroup. Each loads two
// samples and gets the others by broadcast: a CPU driver makes every load one invocation at a time.
// What is absent is zero in what is broadcast, and not read. Weights stay within a modality, whose
// place and width are read once.
fn add_rows(acc: ptr<function, array<vec4<f32>, 8>>, own: vec4<f32>, t: mat4x4<f32>) {
    (*acc)[0] = multiply_add((*acc)[0], subgroupBroadcast(own, 0u), t);
    (*acc)[1] = multiply_add((*acc)[1], subgroupBroadcast(own, 1u), t);
    (*acc)[2] = multiply_add((*acc)[2], subgroupBroadcast(own, 2u), t);
    (*acc)[3] = multiply_add((*acc)[3], subgroupBroadcast(own, 3u), t);
    (*acc)[4] = multiply_add((*acc)[4], subgroupBroadcast(own, 4u), t);
    (*acc)[5] = multiply_add((*acc)[5], subgroupBroadcast(own, 5u), t);
    (*acc)[6] = multiply_add((*acc)[6], subgroupBroadcast(own, 6u), t);
    (*acc)[7] = multiply_add((*acc)[7], subgroupBroadcast(own, 7u), t);
}

fn write_rows(row: u32, col: u32, acc: ptr<function, array<vec4<f32>, 8>>) {
    for (var c = 0u; c < 4u; c++) {
        write(row, col + c * 8u, (*acc)[0][c]);
        write(row + 1u, col + c * 8u, (*acc)[1][c]);
        write(row + 2u, col + c * 8u, (*acc)[2][c]);
        write(row + 3u, col + c * 8u, (*acc)[3][c]);
        write(row + 4u, col + c * 8u, (*acc)[4][c]);
        write(row + 5u, col + c * 8u, (*acc)[5][c]);
        write(row + 6u, col + c * 8u, (*acc)[6][c]);
        write(row + 7u, col + c * 8u, (*acc)[7][c]);
    }
}

fn starts4(col: u32, m: u32) -> vec4<u32> {
    let cols = min(col + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(params.n - 1u));
    return cols * params.total + first[m];
}

fn w_cols(at: vec4<u32>) -> mat4x4<f32> {
    return transpose(mat4x4<f32>(vec4<f32>(w4[at.x]), vec4<f32>(w4[at.y]), vec4<f32>(w4[at.z]),
        vec4<f32>(w4[at.w])));
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let upper_mask = mask_of(row + lane);
    let lower_mask = mask_of(row + 8u + lane);
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var m = 0u; m < params.modalities; m++) {
        let quads = quads_of(m);
        let left_at = starts4(col, m) / 4u;
        let right_at = starts4(col + 32u, m) / 4u;
        let upper_at = x_start(row + lane, m) / 4u;
        let lower_at = x_start(row + 8u + lane, m) / 4u;
        let in_upper = ((upper_mask >> m) & 1u) != 0u;
        let in_lower = ((lower_mask >> m) & 1u) != 0u;
        for (var q = 0u; q < quads; q++) {
            let left = w_cols(left_at + q);
            let right = w_cols(right_at + q);
            var upper = vec4<f32>();
            var lower = vec4<f32>();
            if (in_upper) { upper = vec4<f32>(x4[upper_at + q]); }
            if (in_lower) { lower = vec4<f32>(x4[lower_at + q]); }
            add_rows(&upper_left, upper, left);
            add_rows(&upper_right, upper, right);
            add_rows(&lower_left, lower, left);
            add_rows(&lower_right, lower, right);
        }
    }
    write_rows(row, col, &upper_left);
    write_rows(row, col + 32u, &upper_right);
    write_rows(row + 8u, col, &lower_left);
    write_rows(row + 8u, col + 32u, &lower_right);
}

// Sixteen samples by four outputs.
@compute @workgroup_size(8)
fn broadcast_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32)
{
    let row = wid.y * 16u;
    let col = wid.x * 32u + lane;
    let upper_mask = mask_of(row + lane);
    let lower_mask = mask_of(row + 8u + lane);
    var upper: array<vec4<f32>, 8>;
    var lower: array<vec4<f32>, 8>;
    for (var m = 0u; m < params.modalities; m++) {
        let width = width_of(m);
        let quads = (width + 3u) / 4u;
        let starts = starts4(col, m);
        let upper_at = x_start(row + lane, m);
        let lower_at = x_start(row + 8u + lane, m);
        let in_upper = ((upper_mask >> m) & 1u) != 0u;
        let in_lower = ((lower_mask >> m) & 1u) != 0u;
        for (var q = 0u; q < quads; q++) {
            let weights = transpose(mat4x4<f32>(w_from(starts.x, width, q),
                w_from(starts.y, width, q), w_from(starts.z, width, q),
                w_from(starts.w, width, q)));
            var own_upper = vec4<f32>();
            var own_lower = vec4<f32>();
            if (in_upper) { own_upper = x_from(upper_at, width, q); }
            if (in_lower) { own_lower = x_from(lower_at, width, q); }
            add_rows(&upper, own_upper, weights);
            add_rows(&lower, own_lower, weights);
        }
    }
    write_rows(row, col, &upper);
    write_rows(row + 8u, col, &lower);
}

// 64 samples by 64 outputs by 16 columns of one modality, each invocation four by four, 16 apart.
// Rows are five vec4 apart instead of four, so that neighbouring ones are on different banks.
var<workgroup> x_tile: array<vec4<f32>, 320>;
var<workgroup> w_tile: array<vec4<f32>, 320>;

fn add_tile(acc: ptr<function, mat4x4<f32>>, lane: u32) {
    for (var q = 0u; q < 4u; q++) {
        let r = lane / 16u * 5u + q;
        let c = lane % 16u * 5u + q;
        let weights = transpose(
            mat4x4<f32>(w_tile[c], w_tile[c + 80u], w_tile[c + 160u], w_tile[c + 240u]));
        let rows = mat4x4<f32>(x_tile[r], x_tile[r + 80u], x_tile[r + 160u], x_tile[r + 240u]);
        add_products(acc, rows, weights);
    }
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    let row = wid.y * 64u + lane / 4u;
    let mask = mask_of(row);
    var acc: mat4x4<f32>;
    for (var m = 0u; m < params.modalities; m++) {
        for (var start = 0u; start < quads_of(m); start += 4u) {
            x_tile[at] = x_quad(row, mask, m, start + lane % 4u);
            w_tile[at] = w_quad(wid.x * 64u + lane / 4u, m, start + lane % 4u);
            workgroupBarrier();
            add_tile(&acc, lane);
            workgroupBarrier();
        }
    }
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

@compute @workgroup_size(256)
fn tiled_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    let row = wid.y * 64u + lane / 4u;
    let mask = mask_of(row);
    var acc: mat4x4<f32>;
    for (var m = 0u; m < params.modalities; m++) {
        for (var start = 0u; start < quads_of(m); start += 4u) {
            x_tile[at] = x_any(row, mask, m, start + lane % 4u);
            w_tile[at] = w_any(wid.x * 64u + lane / 4u, m, start + lane % 4u);
            workgroupBarrier();
            add_tile(&acc, lane);
            workgroupBarrier();
        }
    }
    write_block(wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}
