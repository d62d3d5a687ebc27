// Prune by magnitude: of n weights the `keep` largest stay, of equal ones the first.
// x[n] -> y[n], survivors bit for bit among zeros, and mask[ceil(n/32)], bit i of word w for
// element 32 w + i.
//
// A radix select, up to eleven bits at a time, finds the smallest magnitude that stays, then among
// the elements of that magnitude the last one that stays, whose key is n - 1 - index: 0 for the
// last. Every workgroup counts for itself and adds what it has to the common histogram.
// state: magnitude, how many elements of it stay, index key, whether all of them do.
// Where n % 4 = 0 vectors are written through y4, the same buffer.

struct Params { n: u32, keep: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<storage, read_write> y4: array<T4>;
@group(0) @binding(3) var<storage, read_write> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> state: array<u32>;
@group(0) @binding(5) var<storage, read_write> histogram: array<atomic<u32>>;

override WG: u32 = 8u; // a power of two, at most 256
override EACH: u32 = 32u; // vectors an invocation looks at
override ALL: u32 = 2048u; // bins of all passes
override FIRST: u32 = 0u; // those before this pass
override SHIFT: u32 = 20u; // lowest bit of the digit
override BITS: u32 = 11u; // of the digit, from 8 to 11
override LAST: bool = false; // the last digit of the magnitude
override BY_INDEX: bool = false;

const MAGNITUDE: u32 = 0x7fffffffu; // all bits but the sign

fn quads() -> u32 {
    return (params.n + 3u) / 4u;
}

// What is known about the last survivor: its magnitude, the key of its index. Loaded once for many
// elements, because a CPU driver takes as long for it as for two of them.
struct Known { magnitude: u32, key: u32, n: u32 }

fn last_survivor() -> Known { return Known(state[0], state[2], params.n); }

// Whether no index is needed, because all elements of the last magnitude stay.
fn idle() -> bool {
    return BY_INDEX && state[3] == 1u;
}

@compute @workgroup_size(WG)
fn reset(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    if (index < ALL) { atomicStore(&histogram[index], 0u); }
    if (index == 0u) {
        state[0] = 0u;
        state[1] = params.keep;
        state[2] = 0u;
        state[3] = 0u;
    }
}

var<workgroup> bins: array<atomic<u32>, 2048>;

// Counts four elements where they agree with what is known about the last survivor. Magnitudes
// order as their bits do; a last vector that is not full ends in padding.
fn count_four(last: Known, quad: u32) {
    let magnitude = bitcast<vec4<u32>>(vec4<f32>(x4[quad])) & vec4<u32>(MAGNITUDE);
    let index = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    let value = select(magnitude, last.n - 1u - index, vec4<bool>(BY_INDEX));
    let known = select(last.magnitude, last.key, BY_INDEX);
    // Two shifts, because one by 32 is none.
    let agrees = (value >> vec4<u32>(SHIFT)) >> vec4<u32>(BITS)
        == vec4<u32>((known >> SHIFT) >> BITS);
    let among = vec4<bool>(!BY_INDEX) | (magnitude == vec4<u32>(last.magnitude));
    let counts = agrees & among & (index < vec4<u32>(last.n));
    let bin = (value >> vec4<u32>(SHIFT)) & vec4<u32>((1u << BITS) - 1u);
    if (counts.x) { atomicAdd(&bins[bin.x], 1u); }
    if (counts.y) { atomicAdd(&bins[bin.y], 1u); }
    if (counts.z) { atomicAdd(&bins[bin.z], 1u); }
    if (counts.w) { atomicAdd(&bins[bin.w], 1u); }
}

@compute @workgroup_size(WG)
fn count(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = select(1u << BITS, 0u, idle());
    for (var i = lane; i < width; i += WG) { atomicStore(&bins[i], 0u); }
    workgroupBarrier();
    let last = last_survivor();
    let first = (wid.x + wid.y * grid.x) * WG * EACH + lane;
    let end = select(min(first + WG * EACH, quads()), 0u, width == 0u);
    for (var quad = first; quad < end; quad += WG) { count_four(last, quad); }
    workgroupBarrier();
    for (var i = lane; i < width; i += WG) {
        let own = atomicLoad(&bins[i]);
        if (own > 0u) { atomicAdd(&histogram[FIRST + i], own); }
    }
}

// The digit of the last survivor: `above` elements have a larger one, `own` have the same.
fn decide(bin: u32, above: u32, own: u32) {
    state[1] -= above;
    if (BY_INDEX) {
        state[2] |= bin << SHIFT;
    } else {
        state[0] |= bin << SHIFT;
        if (LAST && state[1] == own) { state[3] = 1u; }
    }
}

var<workgroup> sums: array<u32, 256>;

// A scan of the bins from the largest on, of which every invocation has some.
@compute @workgroup_size(WG)
fn choose(@builtin(local_invocation_index) lane: u32) {
    let each = (1u << BITS) / WG;
    let top = (1u << BITS) - 1u - lane * each;
    var own = 0u;
    for (var i = 0u; i < each; i++) { own += atomicLoad(&histogram[FIRST + top - i]); }
    let wanted = state[1];
    let done = idle();
    var sum = own;
    for (var reach = 1u; reach < WG; reach *= 2u) {
        sums[lane] = sum;
        workgroupBarrier();
        if (lane >= reach) { sum += sums[lane - reach]; }
        workgroupBarrier();
    }
    storageBarrier();
    if (done || sum < wanted || sum - own >= wanted) { return; }
    var above = sum - own;
    for (var i = 0u; i < each; i++) {
        let here = atomicLoad(&histogram[FIRST + top - i]);
        if (above + here >= wanted) {
            decide(top - i, above, here);
            return;
        }
        above += here;
    }
}

// Which of four elements stay.
fn survivors(four: T4, quad: u32, last: Known, keep: u32) -> vec4<bool> {
    let m = bitcast<vec4<u32>>(vec4<f32>(four)) & vec4<u32>(MAGNITUDE);
    let index = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    let among = (m == vec4<u32>(last.magnitude)) & (last.n - 1u - index >= vec4<u32>(last.key));
    let larger = (m > vec4<u32>(last.magnitude)) | among;
    return select(larger, vec4<bool>(keep > 0u), keep == 0u || keep == last.n);
}

fn bits_of(stays: vec4<bool>) -> u32 {
    let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), stays);
    return (bits.x | bits.y) | (bits.z | bits.w);
}

// Stores four elements and gives their mask.
fn prune(quad: u32, last: Known, keep: u32) -> u32 {
    let four = x4[quad];
    let index = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    let stays = survivors(four, quad, last, keep) & (index < vec4<u32>(last.n));
    let kept = select(T4(), four, stays);
    if (index.x < last.n) { y[index.x] = kept.x; }
    if (index.y < last.n) { y[index.y] = kept.y; }
    if (index.z < last.n) { y[index.z] = kept.z; }
    if (index.w < last.n) { y[index.w] = kept.w; }
    return bits_of(stays);
}

// One invocation a word of the mask.
@compute @workgroup_size(WG)
fn write(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = (wid.x + wid.y * grid.x) * WG + lane;
    if (word >= (params.n + 31u) / 32u) { return; }
    let last = last_survivor();
    let keep = params.keep;
    let end = min(8u, quads() - 8u * word);
    var bits = 0u;
    for (var i = 0u; i < end; i++) { bits |= prune(8u * word + i, last, keep) << (4u * i); }
    mask[word] = bits;
}

// The same where n % 4 = 0.
@compute @workgroup_size(WG)
fn write_vectors(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let word = (wid.x + wid.y * grid.x) * WG + lane;
    if (word >= (params.n + 31u) / 32u) { return; }
    let last = last_survivor();
    let keep = params.keep;
    let end = min(8u, quads() - 8u * word);
    var bits = 0u;
    for (var i = 0u; i < end; i++) {
        let four = x4[8u * word + i];
        let stays = survivors(four, 8u * word + i, last, keep);
        y4[8u * word + i] = select(T4(), four, stays);
        bits |= bits_of(stays) << (4u * i);
    }
    mask[word] = bits;
}

// One invocation four elements: neighbours read neighbouring vectors.
@compute @workgroup_size(256)
fn write_shared(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let quad = (wid.x + wid.y * grid.x) * 256u + lane;
    var own = 0u;
    if (quad < quads()) { own = prune(quad, last_survivor(), params.keep); }
    sums[lane] = own;
    workgroupBarrier();
    if (lane % 8u == 0u && quad < quads()) {
        var bits = 0u;
        for (var i = 0u; i < 8u; i++) { bits |= sums[lane + i] << (4u * i); }
        mask[quad / 8u] = bits;
    }
}
