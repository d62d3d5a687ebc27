// Prune 2:4: of every four consecutive weights of a row the two of largest magnitude stay, of equal
// ones the first. x[rows, k] -> v[rows, groups] pairs of survivors in their order, bit for bit, and
// p[rows, ceil(groups/8)] words of their positions, four bits a group: the first in bits 0 and 1,
// the second in bits 2 and 3. groups = ceil(k/4); a last group that is not full ends in zeros.
// Pattern: arXiv 2104.08378.

struct Params { rows: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
@group(0) @binding(2) var<storage, read_write> v: array<vec2<T>>;
@group(0) @binding(2) var<storage, read_write> v4: array<T4>;
@group(0) @binding(3) var<storage, read_write> p: array<u32>;

override WG: u32 = 8u;

fn groups() -> u32 {
    return (params.k + 3u) / 4u;
}

// Four elements of a row, zero beyond it; a row may start anywhere in a vector.
fn load(row: u32, group: u32) -> T4 {
    let at = row * params.k + 4u * group;
    let a = x4[at / 4u];
    if (params.k % 4u == 0u) { return a; }
    let b = x4[min(at / 4u + 1u, (params.rows * params.k - 1u) / 4u)];
    var out = a;
    switch at % 4u {
        case 1u: { out = T4(a.yzw, b.x); }
        case 2u: { out = T4(a.zw, b.xy); }
        case 3u: { out = T4(a.w, b.xyz); }
        default: {}
    }
    let inside = vec4<u32>(0u, 1u, 2u, 3u) + 4u * group < vec4<u32>(params.k);
    return select(T4(), out, inside);
}

fn pick(four: T4, at: u32) -> T {
    return select(select(four.x, four.y, at == 1u), select(four.z, four.w, at == 3u), at > 1u);
}

// The positions of the survivors of four.
fn survivors(four: vec4<f32>) -> vec2<u32> {
    // Magnitudes order as their bits do.
    let m = bitcast<vec4<u32>>(four) & vec4<u32>(0x7fffffffu);
    // How many others go first.
    let before_x = u32(m.y > m.x) + u32(m.z > m.x) + u32(m.w > m.x);
    let before_y = u32(m.x >= m.y) + u32(m.z > m.y) + u32(m.w > m.y);
    let before_z = u32(m.x >= m.z) + u32(m.y >= m.z) + u32(m.w > m.z);
    let before_w = u32(m.x >= m.w) + u32(m.y >= m.w) + u32(m.z >= m.w);
    let first = select(select(2u, 1u, before_y < 2u), 0u, before_x < 2u);
    let second = select(select(1u, 2u, before_z < 2u), 3u, before_w < 2u);
    return vec2<u32>(first, second);
}

// Stores the survivors of one group and gives their positions.
fn prune(row: u32, group: u32) -> u32 {
    let four = load(row, group);
    let places = survivors(vec4<f32>(four));
    v[row * groups() + group] = vec2<T>(pick(four, places.x), pick(four, places.y));
    return places.x | (places.y << 2u);
}

// One invocation a word of positions, which is eight groups.
@compute @workgroup_size(WG)
fn word(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * grid.x) * WG + lane;
    let words = (groups() + 7u) / 8u;
    if (index >= params.rows * words) { return; }
    let row = index / words;
    let first = index % words * 8u;
    var code = 0u;
    for (var i = 0u; i < min(8u, groups() - first); i++) {
        code |= prune(row, first + i) << (4u * i);
    }
    p[index] = code;
}

var<workgroup> parts: array<u32, WG>;

// One invocation a group, one workgroup WG of them: neighbours read neighbouring vectors.
@compute @workgroup_size(WG)
fn tile(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tiles = (groups() + WG - 1u) / WG;
    let index = wid.x + wid.y * grid.x;
    if (index >= params.rows * tiles) { return; }
    let row = index / tiles;
    let first = index % tiles * WG;
    var own = 0u;
    if (first + lane < groups()) { own = prune(row, first + lane); }
    parts[lane] = own;
    workgroupBarrier();
    if (lane % 8u == 0u && first + lane < groups()) {
        var code = 0u;
        for (var i = 0u; i < 8u; i++) { code |= parts[lane + i] << (4u * i); }
        p[row * ((groups() + 7u) / 8u) + (first + lane) / 8u] = code;
    }
}

// One workgroup a row, a word of positions an invocation and turn: k % 8 = 0. Two groups come as
// one load of sixteen bytes in f16, and a CPU driver charges for loads by their number. Values go
// through f32, where every f16 has a place.
fn pick_one(four: vec4<f32>, at: u32) -> f32 {
    return select(select(four.x, four.y, at == 1u), select(four.z, four.w, at == 3u), at > 1u);
}

@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * grid.x;
    if (row >= params.rows) { return; }
    let end = params.k / 8u;
    let words = (end + 3u) / 4u;
    for (var word = lane; word < words; word += WG) {
        var code = 0u;
        for (var i = 0u; i < min(4u, end - 4u * word); i++) {
            let at = row * end + 4u * word + i;
            let two = from_storage8(x8[at]);
            let a = survivors(two[0]);
            let b = survivors(two[1]);
            v4[at] = T4(vec4<f32>(pick_one(two[0], a.x), pick_one(two[0], a.y),
                pick_one(two[1], b.x), pick_one(two[1], b.y)));
            code |= (a.x | (a.y << 2u) | (b.x << 4u) | (b.y << 6u)) << (8u * i);
        }
        p[row * words + word] = code;
    }
}
