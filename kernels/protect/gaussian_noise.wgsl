// Gaussian noise for differential privacy, the same on every device and in any order: element i
// comes from Philox4x32-10 (Salmon et al., SC 2011) at the counter (first + i / 4, tensor, step,
// shard) under a key of two words, and from Box and Muller.
// -> words[n], the random bits, and noise[n] = scale * z with |z| < 5.78.
//
// WGSL has no 64-bit product and its sin, cos and log are too loose: high words come from 16-bit
// halves, angles are reduced in integers to an eighth of a turn, logarithms near 1 are a series.

struct Params {
    n: u32, key0: u32, key1: u32, first: u32, tensor: u32, step: u32, shard: u32, scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> noise: array<f32>;
@group(0) @binding(1) var<storage, read_write> noise4: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> words: array<u32>;
@group(0) @binding(2) var<storage, read_write> words4: array<vec4<u32>>;

override WG: u32 = 64u;

// High word of the product.
fn mulhi(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let left = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let right = (a & 0xffffu) * (b >> 16u) + (left & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u);
}

fn philox(start: vec4<u32>) -> vec4<u32> {
    var c = start;
    var key = vec2<u32>(params.key0, params.key1);
    for (var round = 0u; round < 10u; round++) {
        c = vec4<u32>(
            mulhi(0xcd9e8d57u, c.z) ^ c.y ^ key.x, 0xcd9e8d57u * c.z,
            mulhi(0xd2511f53u, c.x) ^ c.w ^ key.y, 0xd2511f53u * c.x);
        key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

// An odd multiple of 2^-24 in (0, 1), in units of 2^-24.
fn odd(word: u32) -> u32 {
    return 2u * (word >> 9u) + 1u;
}

// sqrt(-2 log u).
fn radius(word: u32) -> f32 {
    let u = f32(odd(word)) * 5.9604644775390625e-8;
    let t = 1.0 - u;
    var minus_log = t * (1.0 + t * (0.5 + t * (1.0 / 3.0 + t * (0.25 + t * (0.2
        + t * (1.0 / 6.0 + t * (1.0 / 7.0)))))));
    if (t >= 0.0625) { minus_log = -log(u); }
    return sqrt(2.0 * minus_log);
}

// Cosine and sine of a fraction of a turn.
fn turn(word: u32) -> vec2<f32> {
    let n = odd(word);
    let quarter = (n + 0x200000u) >> 22u;
    let x = f32(i32(n) - i32(quarter << 22u)) * (6.283185307179586 / 16777216.0);
    let q = x * x;
    let s = x * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0
        + q * (1.0 / 362880.0)))));
    let c = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0
        + q * (-1.0 / 3628800.0)))));
    switch quarter & 3u {
        case 0u: { return vec2<f32>(c, s); }
        case 1u: { return vec2<f32>(-s, c); }
        case 2u: { return vec2<f32>(-c, -s); }
        default: { return vec2<f32>(s, -c); }
    }
}

fn normals(w: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(radius(w.x) * turn(w.y), radius(w.z) * turn(w.w));
}

fn bits(block: u32) -> vec4<u32> {
    return philox(vec4<u32>(params.first + block, params.tensor, params.step, params.shard));
}

// One invocation four elements, stored one by one.
@compute @workgroup_size(WG)
fn scalar(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = (wid.x + wid.y * groups.x) * WG + lane;
    let w = bits(block);
    let z = normals(w) * params.scale;
    for (var i = 0u; i < 4u; i++) {
        if (4u * block + i < params.n) {
            words[4u * block + i] = w[i];
            noise[4u * block + i] = z[i];
        }
    }
}

// One invocation four elements, stored at once: n % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let block = (wid.x + wid.y * groups.x) * WG + lane;
    if (block >= params.n / 4u) { return; }
    let w = bits(block);
    words4[block] = w;
    noise4[block] = normals(w) * params.scale;
}
