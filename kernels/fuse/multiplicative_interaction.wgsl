// Multiplicative interaction of two modalities (Jayakumar et al., ICLR 2020), for each sample:
// y = m2^T (m1 . W + V) + m1 . U + c with W[d1, d2, outputs], V[d2, outputs], U[d1, outputs] or,
// in the vector form, y = m2 * (m1 . W + V) + m1 . U + c with W and U[d1, d2], V[d2], outputs = d2.
// m1[batch, d1], m2[batch, d2], c[outputs] -> y[batch, outputs].
// Bits 0 and 1 of present[batch]: m1, m2. What is absent counts as zeros, whatever it holds.
// W is stored in blocks of `block` outputs, each row-major, the last one narrower; a slice has a
// window that starts at the block of output `first`.
// Each invocation computes four samples by four outputs `across` apart, so that neighbours read
// neighbouring weights whatever the number of outputs; SHARES of them may split the outer sum.

struct Params { batch: u32, d1: u32, d2: u32, outputs: u32, block: u32, first: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> m1: array<T>;
@group(0) @binding(2) var<storage, read> m2: array<T>;
@group(0) @binding(3) var<storage, read> w: array<T>;
@group(0) @binding(3) var<storage, read> w4: array<T4>;
@group(0) @binding(4) var<storage, read> v: array<T>;
@group(0) @binding(4) var<storage, read> v4: array<T4>;
@group(0) @binding(5) var<storage, read> u: array<T>;
@group(0) @binding(5) var<storage, read> u4: array<T4>;
@group(0) @binding(6) var<storage, read> c: array<T>;
@group(0) @binding(6) var<storage, read> c4: array<T4>;
@group(0) @binding(7) var<storage, read> present: array<u32>;
@group(0) @binding(8) var<storage, read_write> y: array<T>;
@group(0) @binding(8) var<storage, read_write> y4: array<T4>;

override WG: u32 = 8u;
const SHARES: u32 = 16u;

// The outputs of one invocation, the terms it adds: begin, begin + step, …, and where W has them:
// a block that starts at output `start` and at element `base`, `width` outputs wide.
struct Block {
    row: u32, col: u32, across: u32, begin: u32, step: u32, start: u32, base: u32, width: u32 }

fn block(row: u32, left: u32, across: u32, begin: u32, step: u32, rows: u32) -> Block {
    let col = params.first + left;
    let start = col / params.block * params.block;
    return Block(row, col, across, begin, step, start, (start - params.first) * rows,
        min(params.block, params.outputs - start));
}

// Columns beyond the last load it and are not stored.
fn columns(p: Block) -> vec4<u32> {
    return min(p.col + vec4<u32>(0u, 1u, 2u, 3u) * p.across, vec4<u32>(params.outputs - 1u));
}

fn w_quad(p: Block, row: u32) -> vec4<f32> {
    let at = p.base + row * p.width + columns(p) - p.start;
    return vec4<f32>(f32(w[at.x]), f32(w[at.y]), f32(w[at.z]), f32(w[at.w]));
}

fn v_quad(p: Block, row: u32) -> vec4<f32> {
    let at = row * params.outputs + columns(p);
    return vec4<f32>(f32(v[at.x]), f32(v[at.y]), f32(v[at.z]), f32(v[at.w]));
}

fn u_quad(p: Block, row: u32) -> vec4<f32> {
    let at = row * params.outputs + columns(p);
    return vec4<f32>(f32(u[at.x]), f32(u[at.y]), f32(u[at.z]), f32(u[at.w]));
}

// Samples beyond the batch load the last one and are not stored.
fn samples(row: u32) -> vec4<u32> {
    return min(row + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.batch - 1u));
}

// Presence of four samples; entry i of m1 and entry j of m2 in them. Absent entries are selected
// away, not branched over: 32 inlined branches a turn take some compilers minutes.
fn masks_of(row: u32) -> vec4<u32> {
    let at = samples(row);
    return vec4<u32>(present[at.x], present[at.y], present[at.z], present[at.w]);
}

fn m1_rows(row: u32, masks: vec4<u32>, i: u32) -> vec4<f32> {
    let at = samples(row) * params.d1 + i;
    let values = vec4<f32>(f32(m1[at.x]), f32(m1[at.y]), f32(m1[at.z]), f32(m1[at.w]));
    return select(vec4<f32>(), values, (masks & vec4<u32>(1u)) != vec4<u32>());
}

fn m2_rows(row: u32, masks: vec4<u32>, j: u32) -> vec4<f32> {
    let at = samples(row) * params.d2 + j;
    let values = vec4<f32>(f32(m2[at.x]), f32(m2[at.y]), f32(m2[at.z]), f32(m2[at.w]));
    return select(vec4<f32>(), values, (masks & vec4<u32>(2u)) != vec4<u32>());
}

fn outer(a: vec4<f32>, q: vec4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(a.x * q, a.y * q, a.z * q, a.w * q);
}

// The terms of m1 . U or, in the vector form, of m1 . W.
fn project(p: Block, by_u: bool) -> mat4x4<f32> {
    let masks = masks_of(p.row);
    var sum: mat4x4<f32>;
    for (var i = p.begin; i < params.d1; i += p.step) {
        let a = m1_rows(p.row, masks, i);
        if (by_u) { sum += outer(a, u_quad(p, i)); } else { sum += outer(a, w_quad(p, i)); }
    }
    return sum;
}

fn term(p: Block, masks: vec4<u32>, i: u32, j: u32) -> mat4x4<f32> {
    return outer(m1_rows(p.row, masks, i), w_quad(p, i * params.d2 + j));
}

// The terms of m2^T (m1 . W + V). Eight terms of the inner sum at a time: llvmpipe ends an
// invocation's loops after 65,535 turns.
fn contract(p: Block) -> mat4x4<f32> {
    let masks = masks_of(p.row);
    var sum: mat4x4<f32>;
    for (var j = p.begin; j < params.d2; j += p.step) {
        var inner: mat4x4<f32>;
        var i = 0u;
        for (; i + 8u <= params.d1; i += 8u) {
            inner += term(p, masks, i, j) + term(p, masks, i + 1u, j) + term(p, masks, i + 2u, j)
                + term(p, masks, i + 3u, j) + term(p, masks, i + 4u, j) + term(p, masks, i + 5u, j)
                + term(p, masks, i + 6u, j) + term(p, masks, i + 7u, j);
        }
        for (; i < params.d1; i++) {
            inner += term(p, masks, i, j);
        }
        let q = v_quad(p, j);
        let a = m2_rows(p.row, masks, j);
        sum += mat4x4<f32>(a.x * (inner[0] + q), a.y * (inner[1] + q), a.z * (inner[2] + q),
            a.w * (inner[3] + q));
    }
    return sum;
}

// m2 * (product + V) + linear for four samples, each column with its own entry of m2.
fn modulate(p: Block, product: mat4x4<f32>, linear: mat4x4<f32>) -> mat4x4<f32> {
    let masks = masks_of(p.row);
    let j = columns(p);
    let gains = transpose(mat4x4<f32>(m2_rows(p.row, masks, j.x), m2_rows(p.row, masks, j.y),
        m2_rows(p.row, masks, j.z), m2_rows(p.row, masks, j.w)));
    let q = v_quad(p, 0u);
    return mat4x4<f32>(gains[0] * (product[0] + q), gains[1] * (product[1] + q),
        gains[2] * (product[2] + q), gains[3] * (product[3] + q)) + linear;
}

fn write(p: Block, row: u32, sum: vec4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        let col = p.col + i * p.across;
        if (row < params.batch && col < params.outputs) {
            y[row * params.outputs + col] = to_storage(sum[i] + f32(c[col]));
        }
    }
}

fn write_rows(p: Block, sum: mat4x4<f32>) {
    write(p, p.row, sum[0]);
    write(p, p.row + 1u, sum[1]);
    write(p, p.row + 2u, sum[2]);
    write(p, p.row + 3u, sum[3]);
}

// One invocation has the whole sum: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn matrix(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let p = block(4u * wid.y, 4u * WG * wid.x + lane, WG, 0u, 1u, params.d1 * params.d2);
    write_rows(p, contract(p) + project(p, true));
}

@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let p = block(4u * wid.y, 4u * WG * wid.x + lane, WG, 0u, 1u, params.d1);
    write_rows(p, modulate(p, project(p, false), project(p, true)));
}

var<workgroup> partial: array<vec4<f32>, 256>;

// Adds the partial sums of each of 16 columns.
fn reduce(lane: u32, value: vec4<f32>) -> vec4<f32> {
    partial[lane] = value;
    for (var half = SHARES / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < 16u * half) { partial[lane] += partial[lane + 16u * half]; }
    }
    workgroupBarrier();
    let sum = partial[lane % 16u];
    workgroupBarrier();
    return sum;
}

fn reduce_rows(lane: u32, part: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4<f32>(reduce(lane, part[0]), reduce(lane, part[1]), reduce(lane, part[2]),
        reduce(lane, part[3]));
}

// Four samples by 64 outputs for each workgroup.
@compute @workgroup_size(256)
fn matrix_split(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let rows = params.d1 * params.d2;
    let p = block(4u * wid.y, 64u * wid.x + lane % 16u, 16u, lane / 16u, SHARES, rows);
    let sum = reduce_rows(lane, contract(p) + project(p, true));
    if (lane < 16u) { write_rows(p, sum); }
}

@compute @workgroup_size(256)
fn vector_split(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let p = block(4u * wid.y, 64u * wid.x + lane % 16u, 16u, lane / 16u, SHARES, params.d1);
    let product = reduce_rows(lane, project(p, false));
    let linear = reduce_rows(lane, project(p, true));
    if (lane < 16u) { write_rows(p, modulate(p, product, linear)); }
}

// The matrix form by subgroups of eight, 32 samples by 32 outputs. Invocation i has four
// neighbouring outputs of all samples and loads the entries of samples i, i + 8, i + 16 and i + 24,
// which the others get by broadcast: what is loaded of the weights meets 32 samples. Entries of m1
// and m2 are multiplied first, and four of m2 at a time meet all of m1. outputs % 4 = 0.
alias Eight = array<vec4<f32>, 8>;
var<private> inner_0: Eight;
var<private> inner_1: Eight;
var<private> inner_2: Eight;
var<private> inner_3: Eight;
var<private> sums_0: Eight;
var<private> sums_1: Eight;
var<private> sums_2: Eight;
var<private> sums_3: Eight;

fn add_eight(acc: ptr<private, Eight>, entry: f32, q: vec4<f32>) {
    (*acc)[0] += subgroupBroadcast(entry, 0u) * q;
    (*acc)[1] += subgroupBroadcast(entry, 1u) * q;
    (*acc)[2] += subgroupBroadcast(entry, 2u) * q;
    (*acc)[3] += subgroupBroadcast(entry, 3u) * q;
    (*acc)[4] += subgroupBroadcast(entry, 4u) * q;
    (*acc)[5] += subgroupBroadcast(entry, 5u) * q;
    (*acc)[6] += subgroupBroadcast(entry, 6u) * q;
    (*acc)[7] += subgroupBroadcast(entry, 7u) * q;
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
    *terms = Eight();
}
fn add_entries(entries: vec4<f32>, q: vec4<f32>) {
    add_eight(&inner_0, entries.x, q);
    add_eight(&inner_1, entries.y, q);
    add_eight(&inner_2, entries.z, q);
    add_eight(&inner_3, entries.w, q);
}
fn sum_inner() {
    sum_eight(&sums_0, &inner_0);
    sum_eight(&sums_1, &inner_1);
    sum_eight(&sums_2, &inner_2);
    sum_eight(&sums_3, &inner_3);
}

// The four samples of an invocation; those beyond the batch repeat the last one.
fn spread(row: u32) -> vec4<u32> {
    return min(row + vec4<u32>(0u, 8u, 16u, 24u), vec4<u32>(params.batch - 1u));
}
fn spread_m1(rows: vec4<u32>, hidden: vec4<bool>, i: u32) -> vec4<f32> {
    let at = rows * params.d1 + i;
    let values = vec4<f32>(f32(m1[at.x]), f32(m1[at.y]), f32(m1[at.z]), f32(m1[at.w]));
    return select(values, vec4<f32>(), hidden);
}
// Zeros beyond the last entry.
fn spread_m2(rows: vec4<u32>, hidden: vec4<bool>, j: u32) -> vec4<f32> {
    let at = rows * params.d2 + min(j, params.d2 - 1u);
    let values = vec4<f32>(f32(m2[at.x]), f32(m2[at.y]), f32(m2[at.z]), f32(m2[at.w]));
    return select(values, vec4<f32>(), hidden | vec4<bool>(j >= params.d2));
}
fn store(row: u32, col: u32, sum: vec4<f32>) {
    if (row < params.batch) { y4[row * (params.outputs / 4u) + col] = to_storage4(sum); }
}
fn store_eight(first: u32, col: u32, sums: ptr<private, Eight>) {
    if (4u * col >= params.outputs) { return; }
    let bias = vec4<f32>(c4[col]);
    store(first + 0u, col, (*sums)[0] + bias);
    store(first + 1u, col, (*sums)[1] + bias);
    store(first + 2u, col, (*sums)[2] + bias);
    store(first + 3u, col, (*sums)[3] + bias);
    store(first + 4u, col, (*sums)[4] + bias);
    store(first + 5u, col, (*sums)[5] + bias);
    store(first + 6u, col, (*sums)[6] + bias);
    store(first + 7u, col, (*sums)[7] + bias);
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(subgroup_invocation_id) lane: u32) {
    let p = block(0u, 4u * min(8u * wid.x + lane, params.outputs / 4u - 1u), 1u, 0u, 1u,
        params.d1 * params.d2);
    let rows = spread(32u * wid.y + lane);
    let masks = vec4<u32>(present[rows.x], present[rows.y], present[rows.z], present[rows.w]);
    let no_m1 = (masks & vec4<u32>(1u)) == vec4<u32>();
    let no_m2 = (masks & vec4<u32>(2u)) == vec4<u32>();
    let quads = params.outputs / 4u;
    let col = p.col / 4u;
    let step = p.width / 4u;
    for (var j = 0u; j < params.d2; j += 4u) {
        let a = spread_m2(rows, no_m2, j);
        let b = spread_m2(rows, no_m2, j + 1u);
        let c = spread_m2(rows, no_m2, j + 2u);
        let d = spread_m2(rows, no_m2, j + 3u);
        let last = params.d2 - 1u;
        let at = min(j + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(last));
        let of_v = at * quads + col;
        add_entries(a, vec4<f32>(v4[of_v.x]));
        add_entries(b, vec4<f32>(v4[of_v.y]));
        add_entries(c, vec4<f32>(v4[of_v.z]));
        add_entries(d, vec4<f32>(v4[of_v.w]));
        let of_w = (p.base + p.col - p.start) / 4u + at * step;
        for (var i = 0u; i < params.d1; i++) {
            let entries = spread_m1(rows, no_m1, i);
            let next = of_w + i * params.d2 * step;
            add_entries(entries * a, vec4<f32>(w4[next.x]));
            add_entries(entries * b, vec4<f32>(w4[next.y]));
            add_entries(entries * c, vec4<f32>(w4[next.z]));
            add_entries(entries * d, vec4<f32>(w4[next.w]));
        }
        sum_inner();
    }
    for (var i = 0u; i < params.d1; i++) {
        add_entries(spread_m1(rows, no_m1, i), vec4<f32>(u4[i * quads + col]));
    }
    sum_inner();
    let own = 8u * wid.x + lane;
    store_eight(32u * wid.y, own, &sums_0);
    store_eight(32u * wid.y + 8u, own, &sums_1);
    store_eight(32u * wid.y + 16u, own, &sums_2);
    store_eight(32u * wid.y + 24u, own, &sums_3);
}
