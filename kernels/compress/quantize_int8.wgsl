// Quantise to int8: q = clamp(round(x / s) + z, -128, 127), half to even, four codes to a word.
// x[rows, k] -> s and z, one for each tensor, row, column or group of a row; q[rows, ceil(k/4)].
// MODE 0: s = absmax / 127, no z. MODE 1: s = (max - min) / 255 over a range that includes zero,
// and z brings min to -128. MODE 2: s and z are given. A span of zeros has scale 1 and codes 0.
// Semantics: ONNX QuantizeLinear and DynamicQuantizeLinear, with signed codes.

struct Params { rows: u32, k: u32, group: u32, scale: f32, inverse: f32, zero: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> s: array<f32>;
@group(0) @binding(3) var<storage, read_write> z: array<i32>;
@group(0) @binding(4) var<storage, read_write> q: array<u32>;
@group(0) @binding(4) var<storage, read_write> q4: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> ranges: array<vec2<f32>>;

override WG: u32 = 8u;
override MODE: u32 = 0u;
override LANES: u32 = 1u; // invocations that share a scale in `group`
override PARTS: u32 = 64u; // partial ranges of a whole tensor
override ALIGNED: bool = false; // k % 4 = 0

// What a scale below the normal range of f32 would come from: it counts as zero.
const LEAST: f32 = 1.5e-36;

fn words() -> u32 {
    return (params.k + 3u) / 4u;
}

// Four elements of a row, zero beyond it; a row may start anywhere in a vector.
fn load(row: u32, word: u32) -> vec4<f32> {
    let at = row * params.k + 4u * word;
    let a = vec4<f32>(x4[at / 4u]);
    if (ALIGNED) { return a; }
    let b = vec4<f32>(x4[min(at / 4u + 1u, (params.rows * params.k - 1u) / 4u)]);
    var v = a;
    switch at % 4u {
        case 1u: { v = vec4<f32>(a.yzw, b.x); }
        case 2u: { v = vec4<f32>(a.zw, b.xy); }
        case 3u: { v = vec4<f32>(a.w, b.xyz); }
        default: {}
    }
    let inside = vec4<u32>(0u, 1u, 2u, 3u) + 4u * word < vec4<u32>(params.k);
    return select(vec4<f32>(), v, inside);
}

// A range is (-min, max), both at least zero.
fn widen(range: vec2<f32>, v: vec4<f32>) -> vec2<f32> {
    let low = max(max(-v.x, -v.y), max(-v.z, -v.w));
    return max(range, vec2<f32>(low, max(max(v.x, v.y), max(v.z, v.w))));
}

// (scale, zero point)
fn scale_of(range: vec2<f32>) -> vec2<f32> {
    if (MODE == 1u) {
        let a = range.x + range.y;
        if (a < LEAST) { return vec2<f32>(1.0, 0.0); }
        let scale = a / 255.0;
        return vec2<f32>(scale, clamp(round(range.x / scale) - 128.0, -128.0, 127.0));
    }
    let a = max(range.x, range.y);
    if (a < LEAST) { return vec2<f32>(1.0, 0.0); }
    return vec2<f32>(a / 127.0, 0.0);
}

fn publish(at: u32, scale: vec2<f32>) {
    s[at] = scale.x;
    if (MODE != 0u) { z[at] = i32(scale.y); }
}

fn codes_of(t: vec4<f32>, zero: vec4<f32>) -> vec4<i32> {
    return vec4<i32>(clamp(round(t) + zero, vec4<f32>(-128.0), vec4<f32>(127.0)));
}

fn store(row: u32, word: u32, t: vec4<f32>, zero: vec4<f32>) {
    let codes = codes_of(t, zero);
    let inside = vec4<u32>(0u, 1u, 2u, 3u) + 4u * word < vec4<u32>(params.k);
    q[row * words() + word] = pack4xI8(select(vec4<i32>(), codes, inside));
}

// One invocation a row or a group of it.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let groups = (params.k + params.group - 1u) / params.group;
    if (index >= params.rows * groups) { return; }
    let row = index / groups;
    let first = index % groups * (params.group / 4u);
    let end = min(first + (params.group + 3u) / 4u, words());
    var range = vec2<f32>();
    for (var word = first; word < end; word++) { range = widen(range, load(row, word)); }
    let scale = scale_of(range);
    publish(index, scale);
    for (var word = first; word < end; word++) {
        store(row, word, load(row, word) / scale.x, vec4<f32>(scale.y));
    }
}

fn packed(quad: u32, scale: vec2<f32>) -> u32 {
    return pack4xI8(codes_of(vec4<f32>(x4[quad]) / scale.x, vec4<f32>(scale.y)));
}

// The same where k and groups are multiples of sixteen: four words at once.
@compute @workgroup_size(WG)
fn thread16(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let quads = params.k / 4u;
    let each = params.group / 4u;
    let groups = (quads + each - 1u) / each;
    if (index >= params.rows * groups) { return; }
    let row = index / groups;
    let first = row * quads + index % groups * each;
    let end = min(first + each, (row + 1u) * quads);
    var range = vec2<f32>();
    for (var i = first; i < end; i += 4u) {
        range = widen(range, vec4<f32>(x4[i]));
        range = widen(range, vec4<f32>(x4[i + 1u]));
        range = widen(range, vec4<f32>(x4[i + 2u]));
        range = widen(range, vec4<f32>(x4[i + 3u]));
    }
    let scale = scale_of(range);
    publish(index, scale);
    for (var i = first; i < end; i += 4u) {
        let low = vec2<u32>(packed(i, scale), packed(i + 1u, scale));
        q4[i / 4u] = vec4<u32>(low, packed(i + 2u, scale), packed(i + 3u, scale));
    }
}

var<workgroup> partial: array<vec2<f32>, WG>;

// The range over LANES neighbouring invocations, the same in each of them.
fn share(lane: u32, own: vec2<f32>) -> vec2<f32> {
    var range = own;
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        partial[lane] = range;
        workgroupBarrier();
        range = max(range, partial[lane ^ half]);
        workgroupBarrier();
    }
    return range;
}

// One workgroup a row (LANES = WG), or WG words of groups of 4 * LANES elements.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let whole = params.group == params.k;
    let tile = select(WG, words(), whole);
    let tiles = (words() + tile - 1u) / tile;
    let index = wid.x + wid.y * grid.x;
    if (index >= params.rows * tiles) { return; }
    let row = index / tiles;
    let first = index % tiles * tile + lane;
    let end = min(index % tiles * tile + tile, words());
    var range = vec2<f32>();
    for (var word = first; word < end; word += WG) { range = widen(range, load(row, word)); }
    let scale = scale_of(share(lane, range));
    if (lane % LANES == 0u && first < end) {
        let groups = (params.k + params.group - 1u) / params.group;
        publish(row * groups + select(first / LANES, 0u, whole), scale);
    }
    for (var word = first; word < end; word += WG) {
        store(row, word, load(row, word) / scale.x, vec4<f32>(scale.y));
    }
}

// One invocation four columns: neighbours read neighbouring elements of each row.
@compute @workgroup_size(WG)
fn channel(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = (wid.x + wid.y * grid.x) * WG + lane;
    if (word >= words()) { return; }
    var peak = vec4<f32>();
    for (var row = 0u; row < params.rows; row++) { peak = max(peak, abs(load(row, word))); }
    var scale = vec4<f32>();
    for (var i = 0u; i < 4u; i++) {
        let own = scale_of(vec2<f32>(peak[i]));
        scale[i] = own.x;
        if (4u * word + i < params.k) { publish(4u * word + i, own); }
    }
    for (var row = 0u; row < params.rows; row++) {
        store(row, word, load(row, word) / scale, vec4<f32>());
    }
}

// A whole tensor: the ranges of PARTS interleaved parts.
@compute @workgroup_size(WG)
fn tensor_range(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = wid.x * WG + lane;
    var range = vec2<f32>();
    for (var i = first; i < params.rows * words(); i += PARTS) {
        range = widen(range, load(i / words(), i % words()));
    }
    if (first < PARTS) { ranges[first] = range; }
}

@compute @workgroup_size(WG)
fn tensor_scale(@builtin(local_invocation_index) lane: u32) {
    var range = vec2<f32>();
    for (var i = lane; i < PARTS; i += WG) { range = max(range, ranges[i]); }
    let scale = scale_of(share(lane, range));
    if (lane == 0u) { publish(0u, scale); }
}

@compute @workgroup_size(WG)
fn tensor_codes(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    if (index >= params.rows * words()) { return; }
    let v = load(index / words(), index % words());
    if (MODE == 2u) {
        if (index == 0u) { publish(0u, vec2<f32>(params.scale, params.zero)); }
        store(index / words(), index % words(), v * params.inverse, vec4<f32>(params.zero));
    } else {
        store(index / words(), index % words(), v / s[0], vec4<f32>());
    }
}
