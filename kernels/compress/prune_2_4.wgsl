// Prune 2:4: of every four consecutive weights of a row the two of largest magnitude stay, of equal
// ones the first. x[rows, k] -> v[rows, groups] pairs of survivors in their order, bit for bit, and
// p[rows, ceil(groups/8)] words of their positions, four bits a group: the first in bits 0 and 1,
// the second in bits 2 and 3. groups = ceil(k/4); a last group that is not full ends in zeros.
// Pattern: arXiv 2104.08378.

struct Params { rows: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(1) var<storage, read> x8: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> v: array<vec2<T>>;
@group(0) @binding(2) var<storage, read_write> v4: array<vec4<u32>>;
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

// The places of the survivors of four, by their bits without signs.
fn places_of(m: vec4<u32>) -> vec2<u32> {
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
    // Magnitudes order as their bits do.
    let m = bitcast<vec4<u32>>(vec4<f32>(four)) & vec4<u32>(0x7fffffffu);
    let places = places_of(m);
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

// One workgroup a row, sixteen bytes a load and a store: k % 16 = 0. A CPU driver charges for loads
// by their number, so that f16 comes eight to a load; nothing leaves its bits. x8 and v4 are the
// bytes of x and v, sixteen at a time.
override HALF: bool = false; // elements are f16, two to a word

fn pick_bits(four: vec4<u32>, at: u32) -> u32 {
    return select(select(four.x, four.y, at == 1u), select(four.z, four.w, at == 3u), at > 1u);
}

// What stays of a group, and the code of where it was.
struct Kept { bits: vec2<u32>, code: u32 }

fn keep(four: vec4<u32>, signs: u32) -> Kept {
    let places = places_of(four & vec4<u32>(signs - 1u));
    let bits = vec2<u32>(pick_bits(four, places.x), pick_bits(four, places.y));
    return Kept(bits, places.x | (places.y << 2u));
}

// The four elements of two words of f16.
fn halves(words: vec2<u32>) -> vec4<u32> {
    let low = words & vec2<u32>(0xffffu);
    let high = words >> vec2<u32>(16u);
    return vec4<u32>(low.x, high.x, low.y, high.y);
}

// What stays of two groups of f16: two words, and a code of eight bits.
fn keep_halves(words: vec4<u32>) -> Kept {
    let a = keep(halves(words.xy), 0x8000u);
    let b = keep(halves(words.zw), 0x8000u);
    let bits = vec2<u32>(a.bits.x | (a.bits.y << 16u), b.bits.x | (b.bits.y << 16u));
    return Kept(bits, a.code | (b.code << 4u));
}

// Stores what stays of two vectors and gives its code: eight bits in f32, sixteen in f16.
fn prune_two(at: u32) -> u32 {
    let a = x8[2u * at];
    let b = x8[2u * at + 1u];
    var first: Kept;
    var second: Kept;
    if (HALF) {
        first = keep_halves(a);
        second = keep_halves(b);
    } else {
        first = keep(a, 0x80000000u);
        second = keep(b, 0x80000000u);
    }
    v4[at] = vec4<u32>(first.bits, second.bits);
    return first.code | (second.code << select(4u, 8u, HALF));
}

@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * grid.x;
    if (row >= params.rows) { return; }
    // Pairs of vectors of a row, and those whose codes fill a word.
    let end = params.k / select(8u, 16u, HALF);
    let each = select(4u, 2u, HALF);
    let words = (params.k + 31u) / 32u;
    for (var word = lane; word < words; word += WG) {
        var code = 0u;
        for (var i = 0u; i < min(each, end - each * word); i++) {
            code |= prune_two(row * end + each * word + i) << (i * (32u / each));
        }
        p[row * words + word] = code;
    }
}
