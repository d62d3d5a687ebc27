// Convolution along time with stride and zero padding:
// y[b, j, o] = bias[o] + sum over taps q and channels c of
// x[b, stride * j + q - pad, c] * w[o, q, c].
// x[batch, steps, c], w[outputs, width, c], bias[outputs] -> y[batch, targets, outputs].
//
// A window of x and the taps of w are both contiguous, so this is a product of overlapping rows of
// x with the rows of w; outside a sample x is zero. `depthwise` filters each channel: w[c, width].
// Products are added in the type Sum, f16 at precision f16acc.

struct Params {
    batch: u32, steps: u32, c: u32, targets: u32, outputs: u32, width: u32, stride: u32, pad: u32
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> w: array<T>;
@group(0) @binding(2) var<storage, read> w4: array<T4>;
@group(0) @binding(3) var<storage, read> bias: array<T>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override WG: u32 = 8u;

// Where the window of output step j starts in its sample, in elements; negative in the padding.
fn window_start(j: u32) -> i32 {
    return i32(j * params.stride * params.c) - i32(params.pad * params.c);
}

// Elements 4q to 4q + 3 of a window and of the taps of an output channel: c % 4 = 0.
fn window4(b: u32, j: u32, q: u32) -> Sum4 {
    let size = params.steps * params.c;
    let at = window_start(j) + i32(4u * q);
    let inside = at >= 0 && at < i32(size);
    let index = (b * size + u32(select(0, at, inside))) / 4u;
    return select(Sum4(), Sum4(x4[index]), inside);
}

fn taps4(column: u32, q: u32) -> Sum4 {
    let quads = params.width * params.c / 4u;
    let index = min(column, params.outputs - 1u) * quads + min(q, quads - 1u);
    return select(Sum4(), Sum4(w4[index]), q < quads);
}

// The same from scalars for any c. What lies outside is loaded from the nearest place inside,
// because a branch would cost more than a load.
fn window_any(b: u32, j: u32, q: u32) -> Sum4 {
    let end = vec4<i32>(i32(params.steps * params.c));
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = window_start(j) + vec4<i32>(i);
    let from_x = b * params.steps * params.c + vec4<u32>(clamp(at, vec4<i32>(), end - 1));
    let v = vec4<T>(x[from_x.x], x[from_x.y], x[from_x.z], x[from_x.w]);
    let inside = (i < vec4<u32>(params.width * params.c)) & (at >= vec4<i32>()) & (at < end);
    return select(Sum4(), Sum4(v), inside);
}

fn taps_any(column: u32, q: u32) -> Sum4 {
    let k = params.width * params.c;
    let i = 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
    let at = min(column, params.outputs - 1u) * k + min(i, vec4<u32>(k - 1u));
    return select(Sum4(), Sum4(vec4<T>(w[at.x], w[at.y], w[at.z], w[at.w])), i < vec4<u32>(k));
}

fn windows(b: u32, j: u32, q: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(window4(b, j, q), window4(b, j + 1u, q), window4(b, j + 2u, q),
        window4(b, j + 3u, q));
}

// Of four output channels `apart`.
fn taps(o: u32, apart: u32, q: u32) -> mat4x4<Sum> {
    return mat4x4<Sum>(taps4(o, q), taps4(o + apart, q), taps4(o + 2u * apart, q),
        taps4(o + 3u * apart, q));
}

// acc + v * transpose(t), one multiply-add after the other.
fn multiply_add(acc: Sum4, v: Sum4, t: mat4x4<Sum>) -> Sum4 {
    return acc + v.x * t[0] + v.y * t[1] + v.z * t[2] + v.w * t[3];
}

// Adds the products of four windows with the taps of four output channels.
fn add_products(acc: ptr<function, mat4x4<Sum>>, rows: mat4x4<Sum>, columns: mat4x4<Sum>) {
    let t = transpose(columns);
    (*acc)[0] = multiply_add((*acc)[0], rows[0], t);
    (*acc)[1] = multiply_add((*acc)[1], rows[1], t);
    (*acc)[2] = multiply_add((*acc)[2], rows[2], t);
    (*acc)[3] = multiply_add((*acc)[3], rows[3], t);
}

fn write(b: u32, j: u32, column: u32, sum: Sum) {
    if (j < params.targets && column < params.outputs) {
        let at = (b * params.targets + j) * params.outputs + column;
        y[at] = to_storage(f32(sum) + f32(bias[column]));
    }
}

// Four steps `down` apart by four channels `apart`.
fn write_block(b: u32, j: u32, down: u32, column: u32, apart: u32, acc: mat4x4<Sum>) {
    for (var i = 0u; i < 4u; i++) {
        write(b, j, column + i * apart, acc[0][i]);
        write(b, j + down, column + i * apart, acc[1][i]);
        write(b, j + 2u * down, column + i * apart, acc[2][i]);
        write(b, j + 3u * down, column + i * apart, acc[3][i]);
    }
}

// Eight steps and eight channels WG apart for each invocation, no barrier.
@compute @workgroup_size(WG)
fn registers(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let j = wid.y * 8u;
    let column = wid.x * 8u * WG + lane;
    var acc00: mat4x4<Sum>;
    var acc01: mat4x4<Sum>;
    var acc10: mat4x4<Sum>;
    var acc11: mat4x4<Sum>;
    for (var q = 0u; q < params.width * params.c / 4u; q++) {
        let upper = windows(wid.z, j, q);
        let lower = windows(wid.z, j + 4u, q);
        let left = taps(column, WG, q);
        let right = taps(column + 4u * WG, WG, q);
        add_products(&acc00, upper, left);
        add_products(&acc01, upper, right);
        add_products(&acc10, lower, left);
        add_products(&acc11, lower, right);
    }
    write_block(wid.z, j, 1u, column, WG, acc00);
    write_block(wid.z, j, 1u, column + 4u * WG, WG, acc01);
    write_block(wid.z, j + 4u, 1u, column, WG, acc10);
    write_block(wid.z, j + 4u, 1u, column + 4u * WG, WG, acc11);
}

// Four steps and four channels for each invocation, because scalar loads dominate.
@compute @workgroup_size(WG)
fn registers_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32)
{
    let j = wid.y * 4u;
    let column = wid.x * 4u * WG + lane;
    var acc: mat4x4<Sum>;
    for (var q = 0u; q < (params.width * params.c + 3u) / 4u; q++) {
        let rows = mat4x4<Sum>(window_any(wid.z, j, q), window_any(wid.z, j + 1u, q),
            window_any(wid.z, j + 2u, q), window_any(wid.z, j + 3u, q));
        add_products(&acc, rows, mat4x4<Sum>(taps_any(column, q), taps_any(column + WG, q),
            taps_any(column + 2u * WG, q), taps_any(column + 3u * WG, q)));
    }
    write_block(wid.z, j, 1u, column, WG, acc);
}

// Sixteen steps by eight channels for each of the eight invocations of a subgroup. Each loads two
// windows and gets the others by broadcast: a CPU driver makes every load one invocation at a time.
fn add_windows(acc: ptr<function, array<Sum4, 8>>, own: vec4<f32>, t: mat4x4<Sum>) {
    (*acc)[0] = multiply_add((*acc)[0], Sum4(subgroupBroadcast(own, 0u)), t);
    (*acc)[1] = multiply_add((*acc)[1], Sum4(subgroupBroadcast(own, 1u)), t);
    (*acc)[2] = multiply_add((*acc)[2], Sum4(subgroupBroadcast(own, 2u)), t);
    (*acc)[3] = multiply_add((*acc)[3], Sum4(subgroupBroadcast(own, 3u)), t);
    (*acc)[4] = multiply_add((*acc)[4], Sum4(subgroupBroadcast(own, 4u)), t);
    (*acc)[5] = multiply_add((*acc)[5], Sum4(subgroupBroadcast(own, 5u)), t);
    (*acc)[6] = multiply_add((*acc)[6], Sum4(subgroupBroadcast(own, 6u)), t);
    (*acc)[7] = multiply_add((*acc)[7], Sum4(subgroupBroadcast(own, 7u)), t);
}

fn write_windows(b: u32, j: u32, column: u32, acc: ptr<function, array<Sum4, 8>>) {
    for (var i = 0u; i < 4u; i++) {
        write(b, j, column + 8u * i, (*acc)[0][i]);
        write(b, j + 1u, column + 8u * i, (*acc)[1][i]);
        write(b, j + 2u, column + 8u * i, (*acc)[2][i]);
        write(b, j + 3u, column + 8u * i, (*acc)[3][i]);
        write(b, j + 4u, column + 8u * i, (*acc)[4][i]);
        write(b, j + 5u, column + 8u * i, (*acc)[5][i]);
        write(b, j + 6u, column + 8u * i, (*acc)[6][i]);
        write(b, j + 7u, column + 8u * i, (*acc)[7][i]);
    }
}

@compute @workgroup_size(8)
fn broadcast(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let j = wid.y * 16u;
    let column = wid.x * 64u + lane;
    let quads = params.width * params.c / 4u;
    var upper_left: array<Sum4, 8>;
    var upper_right: array<Sum4, 8>;
    var lower_left: array<Sum4, 8>;
    var lower_right: array<Sum4, 8>;
    for (var q = 0u; q < quads; q++) {
        let left = transpose(taps(column, 8u, q));
        let right = transpose(taps(column + 32u, 8u, q));
        let upper = vec4<f32>(window4(wid.z, j + lane, q));
        let lower = vec4<f32>(window4(wid.z, j + 8u + lane, q));
        add_windows(&upper_left, upper, left);
        add_windows(&upper_right, upper, right);
        add_windows(&lower_left, lower, left);
        add_windows(&lower_right, lower, right);
    }
    write_windows(wid.z, j, column, &upper_left);
    write_windows(wid.z, j, column + 32u, &upper_right);
    write_windows(wid.z, j + 8u, column, &lower_left);
    write_windows(wid.z, j + 8u, column + 32u, &lower_right);
}

// Sixteen steps by four channels.
@compute @workgroup_size(8)
fn broadcast_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32)
{
    let j = wid.y * 16u;
    let column = wid.x * 32u + lane;
    let quads = (params.width * params.c + 3u) / 4u;
    var upper: array<Sum4, 8>;
    var lower: array<Sum4, 8>;
    for (var q = 0u; q < quads; q++) {
        let t = transpose(mat4x4<Sum>(taps_any(column, q), taps_any(column + 8u, q),
            taps_any(column + 16u, q), taps_any(column + 24u, q)));
        add_windows(&upper, vec4<f32>(window_any(wid.z, j + lane, q)), t);
        add_windows(&lower, vec4<f32>(window_any(wid.z, j + 8u + lane, q)), t);
    }
    write_windows(wid.z, j, column, &upper);
    write_windows(wid.z, j + 8u, column, &lower);
}

// 64 steps by 64 channels by 16 along k, each invocation four by four, 16 apart. Rows are five vec4
// apart instead of four: eight neighbouring columns are on different banks.
var<workgroup> x_tile: array<Sum4, 320>;
var<workgroup> w_tile: array<Sum4, 320>;

fn add_tile(acc: ptr<function, mat4x4<Sum>>, lane: u32) {
    workgroupBarrier();
    for (var q = 0u; q < 4u; q++) {
        let r = lane / 16u * 5u + q;
        let c = lane % 16u * 5u + q;
        add_products(acc,
            mat4x4<Sum>(x_tile[r], x_tile[r + 80u], x_tile[r + 160u], x_tile[r + 240u]),
            mat4x4<Sum>(w_tile[c], w_tile[c + 80u], w_tile[c + 160u], w_tile[c + 240u]));
    }
    workgroupBarrier();
}

@compute @workgroup_size(256)
fn tiled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    var acc: mat4x4<Sum>;
    for (var first = 0u; first < params.width * params.c / 4u; first += 4u) {
        x_tile[at] = window4(wid.z, wid.y * 64u + lane / 4u, first + lane % 4u);
        w_tile[at] = taps4(wid.x * 64u + lane / 4u, first + lane % 4u);
        add_tile(&acc, lane);
    }
    write_block(wid.z, wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

@compute @workgroup_size(256)
fn tiled_any(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let at = lane / 4u * 5u + lane % 4u;
    var acc: mat4x4<Sum>;
    for (var first = 0u; first < (params.width * params.c + 3u) / 4u; first += 4u) {
        x_tile[at] = window_any(wid.z, wid.y * 64u + lane / 4u, first + lane % 4u);
        w_tile[at] = taps_any(wid.x * 64u + lane / 4u, first + lane % 4u);
        add_tile(&acc, lane);
    }
    write_block(wid.z, wid.y * 64u + lane / 16u, 16u, wid.x * 64u + lane % 16u, 16u, acc);
}

// One invocation four steps of a channel: every channel with taps of its own.
@compute @workgroup_size(64)
fn depthwise(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = wid.x * 64u + lane;
    if (i >= params.c) { return; }
    for (var j = 4u * wid.y; j < min(4u * wid.y + 4u, params.targets); j++) {
        let first = j * params.stride;
        let end = min(params.width, max(params.steps + params.pad, first) - first);
        var sum = Sum(0.0);
        for (var q = max(params.pad, first) - first; q < end; q++) {
            let at = (wid.z * params.steps + first + q - params.pad) * params.c + i;
            sum += Sum(x[at]) * Sum(w[i * params.width + q]);
        }
        write(wid.z, j, i, sum);
    }
}
