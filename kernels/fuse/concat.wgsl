// Concatenation of up to six modalities: row b of y is row b of x0, x1, … one after the other.
// x0..x5[batch, width of each], present[batch] (bit m) -> y[batch, total]. Streams joined along
// time are the same with width = steps * features. Modality m starts at column f<m>.
// An absent modality is never read and gives zeros.
//
// Everything moves as u32 words, so that every bit pattern survives. A word holds EACH elements,
// two in f16 and four codes in i8, which a ragged width brings together from different words.

struct Params { batch: u32, total: u32, f1: u32, f2: u32, f3: u32, f4: u32, f5: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x0: array<u32>;
@group(0) @binding(1) var<storage, read> x04: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> x1: array<u32>;
@group(0) @binding(2) var<storage, read> x14: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> x2: array<u32>;
@group(0) @binding(3) var<storage, read> x24: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> x3: array<u32>;
@group(0) @binding(4) var<storage, read> x34: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> x4: array<u32>;
@group(0) @binding(5) var<storage, read> x44: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> x5: array<u32>;
@group(0) @binding(6) var<storage, read> x54: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> present: array<u32>;
@group(0) @binding(8) var<storage, read_write> y: array<u32>;
@group(0) @binding(8) var<storage, read_write> y4: array<vec4<u32>>;

override WG: u32 = 64u;
override EACH: u32 = 1u;
override COUNT: u32 = 6u; // modalities

// Where an element of the result comes from: `at` counts the elements of its modality.
struct Source { modality: u32, at: u32, is_present: bool }

fn source(row: u32, column: u32) -> Source {
    let p = params;
    var m = 0u;
    var first = 0u;
    var end = p.f1;
    if (column >= p.f1) { m = 1u; first = p.f1; end = p.f2; }
    if (column >= p.f2) { m = 2u; first = p.f2; end = p.f3; }
    if (column >= p.f3) { m = 3u; first = p.f3; end = p.f4; }
    if (column >= p.f4) { m = 4u; first = p.f4; end = p.f5; }
    if (column >= p.f5) { m = 5u; first = p.f5; end = p.total; }
    let is_present = ((present[row] >> m) & 1u) == 1u;
    return Source(m, row * (end - first) + column - first, is_present);
}

// A CPU driver runs every branch, so those of modalities that no shape has are left out.
fn word(m: u32, at: u32) -> u32 {
    if (m == 0u) { return x0[at]; }
    if (COUNT > 1u && m == 1u) { return x1[at]; }
    if (COUNT > 2u && m == 2u) { return x2[at]; }
    if (COUNT > 3u && m == 3u) { return x3[at]; }
    if (COUNT > 4u && m == 4u) { return x4[at]; }
    if (COUNT > 5u && m == 5u) { return x5[at]; }
    return 0u;
}

fn words(m: u32, at: u32) -> vec4<u32> {
    if (m == 0u) { return x04[at]; }
    if (COUNT > 1u && m == 1u) { return x14[at]; }
    if (COUNT > 2u && m == 2u) { return x24[at]; }
    if (COUNT > 3u && m == 3u) { return x34[at]; }
    if (COUNT > 4u && m == 4u) { return x44[at]; }
    if (COUNT > 5u && m == 5u) { return x54[at]; }
    return vec4<u32>();
}

// The bits of one element of the result, the lowest of a word.
fn element(index: u32) -> u32 {
    let row = index / params.total;
    let origin = source(row, index - row * params.total);
    if (!origin.is_present) { return 0u; }
    let bits = 32u / EACH;
    let shifted = word(origin.modality, origin.at / EACH) >> (origin.at % EACH * bits);
    return shifted & (0xffffffffu >> (32u - bits));
}

// One invocation a word of the result.
@compute @workgroup_size(WG)
fn word_each(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let count = params.batch * params.total;
    if (index * EACH >= count) { return; }
    var packed = 0u;
    for (var i = 0u; i < EACH; i++) {
        let at = EACH * index + i;
        if (at < count) { packed |= element(at) << (i * (32u / EACH)); }
    }
    // The other half of the last f16 word lies behind the result; codes end with zeros.
    if (EACH == 2u && 2u * index + 1u >= count) { packed |= y[index] & 0xffff0000u; }
    y[index] = packed;
}

// One invocation four words of one modality: every width is a multiple of 4 * EACH.
@compute @workgroup_size(WG)
fn vector_each(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let across = params.total / (4u * EACH);
    if (index >= params.batch * across) { return; }
    let row = index / across;
    let origin = source(row, (index - row * across) * 4u * EACH);
    var bits = vec4<u32>();
    if (origin.is_present) { bits = words(origin.modality, origin.at / (4u * EACH)); }
    y4[index] = bits;
}

// One workgroup a chunk of a row, CHUNK vectors of it: every width is a multiple of 4 * EACH. Each
// modality has a loop of its own over what the chunk has of it, so that nothing is looked up for
// each vector.
override CHUNK: u32 = 128u;

// Vectors start to end - 1 of a row, and what is added to their number in the modality.
struct Piece { start: u32, end: u32, offset: u32 }

// What a chunk has of the modality in columns first to last - 1; nothing where it is absent.
fn piece(row: u32, chunk: u32, m: u32, first: u32, last: u32) -> Piece {
    let vector = 4u * EACH;
    let width = (last - first) / vector;
    let start = max(chunk * CHUNK, first / vector);
    let end = min((chunk + 1u) * CHUNK, last / vector);
    let is_present = ((present[row] >> m) & 1u) == 1u;
    return Piece(start, select(start, end, is_present), row * width - first / vector);
}

@compute @workgroup_size(WG)
fn chunk(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let p = params;
    let across = p.total / (4u * EACH);
    let chunks = (across + CHUNK - 1u) / CHUNK;
    let index = wid.x + wid.y * groups.x;
    let row = index / chunks;
    if (row >= p.batch) { return; }
    let number = index % chunks;
    let to = row * across;
    let all = (1u << COUNT) - 1u;
    if ((present[row] & all) != all) {
        let end = min((number + 1u) * CHUNK, across);
        for (var i = number * CHUNK + lane; i < end; i += WG) { y4[to + i] = vec4<u32>(); }
    }
    let a = piece(row, number, 0u, 0u, p.f1);
    for (var i = a.start + lane; i < a.end; i += WG) { y4[to + i] = x04[a.offset + i]; }
    if (COUNT > 1u) {
        let b = piece(row, number, 1u, p.f1, p.f2);
        for (var i = b.start + lane; i < b.end; i += WG) { y4[to + i] = x14[b.offset + i]; }
    }
    if (COUNT > 2u) {
        let c = piece(row, number, 2u, p.f2, p.f3);
        for (var i = c.start + lane; i < c.end; i += WG) { y4[to + i] = x24[c.offset + i]; }
    }
    if (COUNT > 3u) {
        let d = piece(row, number, 3u, p.f3, p.f4);
        for (var i = d.start + lane; i < d.end; i += WG) { y4[to + i] = x34[d.offset + i]; }
    }
    if (COUNT > 4u) {
        let e = piece(row, number, 4u, p.f4, p.f5);
        for (var i = e.start + lane; i < e.end; i += WG) { y4[to + i] = x44[e.offset + i]; }
    }
    if (COUNT > 5u) {
        let f = piece(row, number, 5u, p.f5, p.total);
        for (var i = f.start + lane; i < f.end; i += WG) { y4[to + i] = x54[f.offset + i]; }
    }
}
