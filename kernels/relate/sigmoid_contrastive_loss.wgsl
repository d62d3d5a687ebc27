// Pairwise sigmoid loss (SigLIP, arXiv 2303.15343): each pair is a yes-or-no question of its own.
// loss = (1 / batch) * sum over i, j of softplus(-z_ij * (scale * a_i . b_j + bias)), where z is 1
// on the diagonal and -1 elsewhere. a and b[batch, d] -> rows[batch], the sums over j, and loss[1],
// both f32.
//
// `stream` passes 64 rows of b by four rows of a for each invocation; `tiles` has 64 by 64 logits
// in registers and reads vec4, so that d % 4 = 0. Both store the sum of every 64, not the logits.

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

// Adds the products of four rows u with four columns v, all vectors along d.
fn add_products(acc: ptr<function, Block>, u: Block, v: Block) {
    let t = transpose(v);
    (*acc)[0] = (*acc)[0] + u[0].x * t[0] + u[0].y * t[1] + u[0].z * t[2] + u[0].w * t[3];
    (*acc)[1] = (*acc)[1] + u[1].x * t[0] + u[1].y * t[1] + u[1].z * t[2] + u[1].w * t[3];
    (*acc)[2] = (*acc)[2] + u[2].x * t[0] + u[2].y * t[1] + u[2].z * t[2] + u[2].w * t[3];
    (*acc)[3] = (*acc)[3] + u[3].x * t[0] + u[3].y * t[1] + u[3].z * t[2] + u[3].w * t[3];
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
