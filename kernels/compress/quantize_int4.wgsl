// Quantise to int4: q = clamp(round(x / s), -7, 7), half to even, eight codes to a word, lowest
// nibble first; s = absmax / 7 for each group of `group` columns of a row, as it is stored.
// x[rows, k] -> s[rows, ceil(k/group)], q[rows, ceil(k/8)]. The last group may be shorter. A group
// whose absmax is below `least`, which would give a subnormal scale, has scale 1 and codes 0.
// Symmetric weight-only quantisation as in arXiv 2210.17323 and 2306.00978.

struct Params { rows: u32, k: u32, group: u32, least: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> s: array<T>;
@group(0) @binding(3) var<storage, read_write> q: array<u32>;
@group(0) @binding(3) var<storage, read_write> q4: array<vec4<u32>>;

override WG: u32 = 8u;
override ALIGNED: bool = false; // k % 8 = 0
override LANES: u32 = 1u; // invocations that share a scale in `tile`

fn words() -> u32 {
    return (params.k + 7u) / 8u;
}

// Four elements of a row, zero beyond it; a row may start anywhere in a vector.
fn load(row: u32, quad: u32) -> vec4<f32> {
    if (ALIGNED) { return vec4<f32>(x4[row * (params.k / 4u) + quad]); }
    if (4u * quad >= params.k) { return vec4<f32>(); }
    let at = row * params.k + 4u * quad;
    let a = vec4<f32>(x4[at / 4u]);
    if (params.k % 4u == 0u) { return a; }
    let b = vec4<f32>(x4[min(at / 4u + 1u, (params.rows * params.k - 1u) / 4u)]);
    var v = a;
    switch at % 4u {
        case 1u: { v = vec4<f32>(a.yzw, b.x); }
        case 2u: { v = vec4<f32>(a.zw, b.xy); }
        case 3u: { v = vec4<f32>(a.w, b.xyz); }
        default: {}
    }
    let inside = vec4<u32>(0u, 1u, 2u, 3u) + 4u * quad < vec4<u32>(params.k);
    return select(vec4<f32>(), v, inside);
}

fn absmax(row: u32, word: u32) -> f32 {
    let v = max(abs(load(row, 2u * word)), abs(load(row, 2u * word + 1u)));
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn scale_of(peak: f32) -> T {
    if (peak < params.least) { return to_storage(1.0); }
    return to_storage(peak / 7.0);
}

// Four codes in the lower half of a word. What is added has no bits below one, so that the sum is
// rounded half to even, and its lowest bits are those of the code.
fn codes(v: vec4<f32>, scale: f32) -> u32 {
    let rounded = clamp(v / scale, vec4<f32>(-7.0), vec4<f32>(7.0)) + 12582912.0; // 1.5 * 2^23
    let parts = (bitcast<vec4<u32>>(rounded) & vec4<u32>(15u)) << vec4<u32>(0u, 4u, 8u, 12u);
    return parts.x | parts.y | parts.z | parts.w;
}

fn store(row: u32, word: u32, scale: f32) {
    let low = codes(load(row, 2u * word), scale);
    q[row * words() + word] = low | (codes(load(row, 2u * word + 1u), scale) << 16u);
}

// One invocation a group.
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
    let first = index % groups * (params.group / 8u);
    let end = min(first + params.group / 8u, words());
    var peak = 0.0;
    for (var word = first; word < end; word++) { peak = max(peak, absmax(row, word)); }
    let scale = scale_of(peak);
    s[index] = scale;
    for (var word = first; word < end; word++) { store(row, word, f32(scale)); }
}

var<workgroup> partial: array<f32, WG>;

// One invocation a word, LANES of them a group.
@compute @workgroup_size(WG)
fn tile(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (words() + WG - 1u) / WG;
    let index = wid.x + wid.y * grid.x;
    if (index >= params.rows * tiles) { return; }
    let row = index / tiles;
    let word = index % tiles * WG + lane;
    var peak = 0.0;
    if (word < words()) { peak = absmax(row, word); }
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        partial[lane] = peak;
        workgroupBarrier();
        peak = max(peak, partial[lane ^ half]);
        workgroupBarrier();
    }
    let scale = scale_of(peak);
    if (word < words()) {
        let groups = (params.k + params.group - 1u) / params.group;
        if (lane % LANES == 0u) { s[row * groups + word / LANES] = scale; }
        store(row, word, f32(scale));
    }
}

fn widest(a: mat4x4<f32>, b: mat4x4<f32>) -> f32 {
    let low = max(max(abs(a[0]), abs(a[1])), max(abs(a[2]), abs(a[3])));
    let high = max(max(abs(b[0]), abs(b[1])), max(abs(b[2]), abs(b[3])));
    let v = max(low, high);
    return max(max(v.x, v.y), max(v.z, v.w));
}

fn sixteen(first: u32) -> mat4x4<f32> {
    return mat4x4<f32>(
        vec4<f32>(x4[first]),
        vec4<f32>(x4[first + 1u]),
        vec4<f32>(x4[first + 2u]),
        vec4<f32>(x4[first + 3u]),
    );
}

fn two_words(v: mat4x4<f32>, scale: f32) -> vec2<u32> {
    let low = codes(v[0], scale) | (codes(v[1], scale) << 16u);
    return vec2<u32>(low, codes(v[2], scale) | (codes(v[3], scale) << 16u));
}

// One invocation 32 elements, LANES of them a group, which are loaded once and stay in registers:
// groups and k are multiples of 32, and k of the group.
@compute @workgroup_size(WG)
fn registers(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let count = params.rows * (params.k / 32u);
    let at = min(index, count - 1u);
    let a = sixteen(8u * at);
    let b = sixteen(8u * at + 4u);
    var peak = widest(a, b);
    if (LANES > 1u) { peak = max(peak, subgroupShuffleXor(peak, 1u)); }
    if (LANES > 2u) { peak = max(peak, subgroupShuffleXor(peak, 2u)); }
    if (index < count) {
        let scale = scale_of(peak);
        if (lane % LANES == 0u) { s[index / LANES] = scale; }
        q4[index] = vec4<u32>(two_words(a, f32(scale)), two_words(b, f32(scale)));
    }
}
