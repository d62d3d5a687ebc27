// Pairwise sigmoid loss (SigLIP, arXiv 2303.15343): each pair is a yes-or-no question of its own.
// loss = (1 / batch) * sum over i, j of softplus(-z_ij * (scale * a_i . b_j + bias)), where z is 1
// on the diagonal and -1 elsewhere. a and b[batch, d] -> rows[batch], the sums over j, and loss[1],
// both f32.
//
// `stream` passes 64 rows of b by four rows of a for each invocation; `tiles` and `broadcast` have
// 64 by 64 and 16 by 64 logits in registers and read vec4, so that d % 4 = 0. All store the sum of
// every 64, not the logits.

struct Params { batch: u32, d: u32, scale: f32, bias: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> a4: array<T4>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read> b4: array<T4>;
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;
// The sums of each row over every 64.
@group(0) @binding(5) var<storage, read_write> work: array<f32>;

override WG: u32 = 64u;
alias Block = mat4x4<f32>;

// log(1 + e) for e in [0, 1]. The built-in may be off by 2^-21 near 1, which is a lot when e is
// small and a batch has many; the series is short of it by e^8 / 8.
fn log1p(e: vec4<f32>) -> vec4<f32> {
    let series = e * (1.0 + e * (-1.0 / 2.0 + e * (1.0 / 3.0 + e * (-1.0 / 4.0 + e * (1.0 / 5.0
        + e * (-1.0 / 6.0 + e * (1.0 / 7.0)))))));
    return select(log(1.0 + e), series, e < vec4<f32>(0.0625));
}

fn softplus(x: vec4<f32>) -> vec4<f32> {
    return max(x, vec4<f32>()) + log1p(exp(-abs(x)));
}

// Losses of row i with four columns `step` apart, zero beyond the batch.
fn losses(i: u32, col: u32, step: u32, dots: vec4<f32>) -> vec4<f32> {
    let j = vec4<u32>(col, col + step, col + 2u * step, col + 3u * step);
    let x = params.scale * dots + params.bias;
    let own = softplus(select(x, -x, j == vec4<u32>(i)));
    return select(vec4<f32>(), own, j < vec4<u32>(params.batch));
}

// Four elements of a row, zero beyond it. Rows beyond the batch are the last one.
fn quad_a(row: u32, q: u32) -> vec4<f32> {
    let at = min(row, params.batch - 1u) * params.d + 4u * q;
    if (4u * q + 4u <= params.d) {
        return vec4<f32>(f32(a[at]), f32(a[at + 1u]), f32(a[at + 2u]), f32(a[at + 3u]));
    }
    var v = vec4<f32>(f32(a[at]), 0.0, 0.0, 0.0);
    if (params.d % 4u > 1u) { v.y = f32(a[at + 1u]); }
    if (params.d % 4u > 2u) { v.z = f32(a[at + 2u]); }
    return v;
}

fn quad_b(row: u32, q: u32) -> vec4<f32> {
    let at = min(row, params.batch - 1u) * params.d + 4u * q;
    if (4u * q + 4u <= params.d) {
        return vec4<f32>(f32(b[at]), f32(b[at + 1u]), f32(b[at + 2u]), f32(b[at + 3u]));
    }
    var v = vec4<f32>(f32(b[at]), 0.0, 0.0, 0.0);
    if (params.d % 4u > 1u) { v.y = f32(b[at + 1u]); }
    if (params.d % 4u > 2u) { v.z = f32(b[at + 2u]); }
    return v;
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: vec4<f32>, v: vec4<f32>, t: Block) -> vec4<f32> {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four rows u with four columns v, all vectors along d.
fn add_products(acc: ptr<function, Block>, u: Block, v: Block) {
    let t = transpose(v);
    (*acc)[0] = multiply_add((*acc)[0], u[0], t);
    (*acc)[1] = multiply_add((*acc)[1], u[1], t);
    (*acc)[2] = multiply_add((*acc)[2], u[2], t);
    (*acc)[3] = multiply_add((*acc)[3], u[3], t);
}

// Four rows WG apart for each invocation, four columns at a time.
@compute @workgroup_size(WG)
fn stream(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.x * 4u * WG + lane;
    var sum = Block();
    for (var j = 64u * wid.y; j < min(64u * wid.y + 64u, params.batch); j += 4u) {
        var dots = Block();
        for (var q = 0u; q < (params.d + 3u) / 4u; q++) {
            add_products(&dots,
                Block(quad_a(row, q), quad_a(row + WG, q), quad_a(row + 2u * WG, q),
                    quad_a(row + 3u * WG, q)),
                Block(quad_b(j, q), quad_b(j + 1u, q), quad_b(j + 2u, q), quad_b(j + 3u, q)));
        }
        sum[0] += losses(row, j, 1u, dots[0]);
        sum[1] += losses(row + WG, j, 1u, dots[1]);
        sum[2] += losses(row + 2u * WG, j, 1u, dots[2]);
        sum[3] += losses(row + 3u * WG, j, 1u, dots[3]);
    }
    for (var i = 0u; i < 4u; i++) {
        let at = row + i * WG;
        let total = (sum[i].x + sum[i].y) + (sum[i].z + sum[i].w);
        if (at < params.batch) { work[wid.y * params.batch + at] = total; }
    }
}

// Sixteen rows of a by eight of b for each of the eight invocations of a subgroup. Each loads
// two rows of a and gets the others by broadcast: a CPU driver loads one invocation at a time.
fn add_rows(acc: ptr<function, array<vec4<f32>, 8>>, own: vec4<f32>, t: Block) {
    (*acc)[0] = multiply_add((*acc)[0], subgroupBroadcast(own, 0u), t);
    (*acc)[1] = multiply_add((*acc)[1], subgroupBroadcast(own, 1u), t);
    (*acc)[2] = multiply_add((*acc)[2], subgroupBroadcast(own, 2u), t);
    (*acc)[3] = multiply_add((*acc)[3], subgroupBroadcast(own, 3u), t);
    (*acc)[4] = multiply_add((*acc)[4], subgroupBroadcast(own, 4u), t);
    (*acc)[5] = multiply_add((*acc)[5], subgroupBroadcast(own, 5u), t);
    (*acc)[6] = multiply_add((*acc)[6], subgroupBroadcast(own, 6u), t);
    (*acc)[7] = multiply_add((*acc)[7], subgroupBroadcast(own, 7u), t);
}

// Rows beyond the batch are the last one.
fn a_quad(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(a4[min(row, params.batch - 1u) * (params.d / 4u) + q]);
}

fn b_quad(row: u32, q: u32) -> vec4<f32> {
    return vec4<f32>(b4[min(row, params.batch - 1u) * (params.d / 4u) + q]);
}

fn columns(col: u32, q: u32) -> Block {
    return transpose(
        Block(b_quad(col, q), b_quad(col + 8u, q), b_quad(col + 16u, q), b_quad(col + 24u, q)));
}

// The losses of one row in tile `tile_x`.
fn store_row(tile_x: u32, row: u32, col: u32, lane: u32, left: vec4<f32>, right: vec4<f32>) {
    let own = losses(row, col, 8u, left) + losses(row, col + 32u, 8u, right);
    let total = subgroupAdd((own.x + own.y) + (own.z + own.w));
    if (lane == 0u && row < params.batch) { work[tile_x * params.batch + row] = total; }
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.y * 16u;
    let col = wid.x * 64u + lane;
    let quads = params.d / 4u;
    var upper_left: array<vec4<f32>, 8>;
    var upper_right: array<vec4<f32>, 8>;
    var lower_left: array<vec4<f32>, 8>;
    var lower_right: array<vec4<f32>, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = columns(col, q);
        let right = columns(col + 32u, q);
        let upper = a_quad(row + lane, q);
        let lower = a_quad(row + 8u + lane, q);
        add_rows(&upper_left, upper, left);
        add_rows(&upper_right, upper, right);
        add_rows(&lower_left, lower, left);
        add_rows(&lower_right, lower, right);
    }
    store_row(wid.x, row, col, lane, upper_left[0], upper_right[0]);
    store_row(wid.x, row + 1u, col, lane, upper_left[1], upper_right[1]);
    store_row(wid.x, row + 2u, col, lane, upper_left[2], upper_right[2]);
    store_row(wid.x, row + 3u, col, lane, upper_left[3], upper_right[3]);
    store_row(wid.x, row + 4u, col, lane, upper_left[4], upper_right[4]);
    store_row(wid.x, row + 5u, col, lane, upper_left[5], upper_right[5]);
    store_row(wid.x, row + 6u, col, lane, upper_left[6], upper_right[6]);
    store_row(wid.x, row + 7u, col, lane, upper_left[7], upper_right[7]);
    store_row(wid.x, row + 8u, col, lane, lower_left[0], lower_right[0]);
    store_row(wid.x, row + 9u, col, lane, lower_left[1], lower_right[1]);
    store_row(wid.x, row + 10u, col, lane, lower_left[2], lower_right[2]);
    store_row(wid.x, row + 11u, col, lane, lower_left[3], lower_right[3]);
    store_row(wid.x, row + 12u, col, lane, lower_left[4], lower_right[4]);
    store_row(wid.x, row + 13u, col, lane, lower_left[5], lower_right[5]);
    store_row(wid.x, row + 14u, col, lane, lower_left[6], lower_right[6]);
    store_row(wid.x, row + 15u, col, lane, lower_left[7], lower_right[7]);
}

// 64 rows of a, then of b, 16 along d, five vec4 apart against bank conflicts.
var<workgroup> tile: array<vec4<f32>, 640>;
var<workgroup> shares: array<f32, 256>;

fn block(i: u32) -> Block { return Block(tile[i], tile[i + 80u], tile[i + 160u], tile[i + 240u]); }

// Stores the sums of sixteen rows of a tile, sixteen lanes each.
fn reduce(lane: u32, own: vec4<f32>, base: u32, first: u32) {
    shares[lane] = (own.x + own.y) + (own.z + own.w);
    workgroupBarrier();
    if (lane < 16u && first + lane < params.batch) {
        var sum = 0.0;
        for (var i = 0u; i < 16u; i++) { sum += shares[16u * lane + i]; }
        work[base * params.batch + first + lane] = sum;
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn tiles(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let width = params.d / 4u;
    let from_a = min(wid.y * 64u + lane / 4u, params.batch - 1u) * width;
    let from_b = min(wid.x * 64u + lane / 4u, params.batch - 1u) * width;
    let row = wid.y * 64u + lane / 16u;
    let col = wid.x * 64u + lane % 16u;
    var dots = Block();
    for (var first = 0u; first < width; first += 4u) {
        let q = min(first + lane % 4u, width - 1u);
        let inside = first + lane % 4u < width;
        let at = lane / 4u * 5u + lane % 4u;
        tile[at] = select(vec4<f32>(), vec4<f32>(a4[from_a + q]), inside);
        tile[320u + at] = select(vec4<f32>(), vec4<f32>(b4[from_b + q]), inside);
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            add_products(&dots, block(5u * (lane / 16u) + i), block(320u + 5u * (lane % 16u) + i));
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let own = losses(row + 16u * i, col, 16u, dots[i]);
        reduce(lane, own, wid.x, wid.y * 64u + 16u * i);
    }
}

// One invocation a row adds its tiles up.
@compute @workgroup_size(WG)
fn gather(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let row = wid.x * WG + lane;
    if (row >= params.batch) { return; }
    var sum = 0.0;
    for (var i = 0u; i < (params.batch + 63u) / 64u; i++) { sum += work[i * params.batch + row]; }
    rows[row] = sum;
}

// One workgroup: the mean over the batch, zero without any.
@compute @workgroup_size(256)
fn mean(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < params.batch; i += 256u) { sum += rows[i]; }
    shares[lane] = sum;
    for (var half = 128u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { shares[lane] += shares[lane + half]; }
    }
    if (lane == 0u) { loss[0] = shares[0] / f32(max(params.batch, 1u)); }
}
