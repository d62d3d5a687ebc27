// Prune by magnitude: of n weights the `keep` largest stay, of equal ones the first.
// x[n] -> y[n], survivors bit for bit among zeros, and mask[ceil(n/32)], bit i of word w for
// element 32 w + i.
//
// A radix select, eight bits at a time, finds the smallest magnitude that stays, then among the
// elements of that magnitude the last one that stays, whose key is n - 1 - index: 0 for the last.
// state: magnitude, how many elements of it stay, index key, whether all of them do.

struct Params { n: u32, keep: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(3) var<storage, read_write> mask: array<u32>;
@group(0) @binding(4) var<storage, read_write> state: array<u32>;
@group(0) @binding(5) var<storage, read_write> histogram: array<atomic<u32>>;

override WG: u32 = 8u;
override EACH: u32 = 32u; // vectors an invocation looks at
override PASS: u32 = 0u;
override PASSES: u32 = 5u;
override SHIFT: u32 = 24u; // lowest bit of the digit
override BY_INDEX: u32 = 0u;

const MAGNITUDE: u32 = 0x7fffffffu; // all bits but the sign

fn quads() -> u32 {
    return (params.n + 3u) / 4u;
}

// Magnitudes order as their bits do. A last vector that is not full ends in padding.
fn magnitudes(quad: u32) -> vec4<u32> {
    return bitcast<vec4<u32>>(vec4<f32>(x4[quad])) & vec4<u32>(MAGNITUDE);
}

// What is known about the last survivor: its magnitude, the key of its index. Loaded once for many
// elements, because a CPU driver takes as long for it as for two of them.
struct Last { magnitude: u32, key: u32, n: u32 }

fn last_survivor() -> Last { return Last(state[0], state[2], params.n); }

// The key of an element if it agrees with what is known about the last survivor.
struct Key { value: u32, counts: bool }

fn key_of(last: Last, magnitude: u32, index: u32) -> Key {
    let value = select(magnitude, last.n - 1u - index, BY_INDEX == 1u);
    let known = select(last.magnitude, last.key, BY_INDEX == 1u);
    // Two shifts, because one by 32 is none.
    let agrees = (value >> SHIFT) >> 8u == (known >> SHIFT) >> 8u;
    let among = BY_INDEX == 0u || magnitude == last.magnitude;
    return Key(value, agrees && among && index < last.n);
}

// Whether no index is needed, because all elements of the last magnitude stay.
fn idle() -> bool {
    return BY_INDEX == 1u && state[3] == 1u;
}

@compute @workgroup_size(WG)
fn reset(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    if (index < 256u * PASSES) { atomicStore(&histogram[index], 0u); }
    if (index == 0u) {
        state[0] = 0u;
        state[1] = params.keep;
        state[2] = 0u;
        state[3] = 0u;
    }
}

@compute @workgroup_size(WG)
fn count(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if (idle()) { return; }
    let last = last_survivor();
    let first = (wid.x + wid.y * grid.x) * WG * EACH + lane;
    let end = min(first + WG * EACH, quads());
    for (var quad = first; quad < end; quad += WG) {
        let m = magnitudes(quad);
        for (var i = 0u; i < 4u; i++) {
            let key = key_of(last, m[i], 4u * quad + i);
            let bin = 256u * PASS + ((key.value >> SHIFT) & 255u);
            if (key.counts) { atomicAdd(&histogram[bin], 1u); }
        }
    }
}

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> sums: array<u32, 256>;

// The same for workgroups of 256, which count for themselves first.
@compute @workgroup_size(256)
fn count_shared(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    atomicStore(&bins[lane], 0u);
    workgroupBarrier();
    let last = last_survivor();
    let first = (wid.x + wid.y * grid.x) * 256u * EACH + lane;
    let end = select(min(first + 256u * EACH, quads()), 0u, idle());
    for (var quad = first; quad < end; quad += 256u) {
        let m = magnitudes(quad);
        for (var i = 0u; i < 4u; i++) {
            let key = key_of(last, m[i], 4u * quad + i);
            if (key.counts) { atomicAdd(&bins[(key.value >> SHIFT) & 255u], 1u); }
        }
    }
    workgroupBarrier();
    let own = atomicLoad(&bins[lane]);
    if (own > 0u) { atomicAdd(&histogram[256u * PASS + lane], own); }
}

// The digit of the last survivor: `above` elements have a larger one, `own` have the same.
fn decide(bin: u32, above: u32, own: u32) {
    state[1] -= above;
    if (BY_INDEX == 1u) {
        state[2] |= bin << SHIFT;
    } else {
        state[0] |= bin << SHIFT;
        if (SHIFT == 0u && state[1] == own) { state[3] = 1u; }
    }
}

@compute @workgroup_size(1)
fn choose() {
    if (idle()) { return; }
    var above = 0u;
    for (var i = 0u; i < 256u; i++) {
        let own = atomicLoad(&histogram[256u * PASS + 255u - i]);
        if (above + own >= state[1]) {
            decide(255u - i, above, own);
            return;
        }
        above += own;
    }
}

// The same by a scan of the bins from the largest on.
@compute @workgroup_size(256)
fn choose_shared(@builtin(local_invocation_index) lane: u32) {
    let own = atomicLoad(&histogram[256u * PASS + 255u - lane]);
    let wanted = state[1];
    var sum = own;
    for (var reach = 1u; reach < 256u; reach *= 2u) {
        sums[lane] = sum;
        workgroupBarrier();
        if (lane >= reach) { sum += sums[lane - reach]; }
        workgroupBarrier();
    }
    let done = idle();
    storageBarrier();
    if (!done && sum >= wanted && sum - own < wanted) { decide(255u - lane, sum - own, own); }
}

// Stores four elements and gives their mask.
fn prune(quad: u32, last: Last, keep: u32) -> u32 {
    let four = x4[quad];
    let m = bitcast<vec4<u32>>(vec4<f32>(four)) & vec4<u32>(MAGNITUDE);
    let index = 4u * quad + vec4<u32>(0u, 1u, 2u, 3u);
    let among = (m == vec4<u32>(last.magnitude)) & (last.n - 1u - index >= vec4<u32>(last.key));
    let larger = (m > vec4<u32>(last.magnitude)) | among;
    let stays = select(larger, vec4<bool>(keep > 0u), keep == 0u || keep == last.n);
    let kept = select(T4(), four, stays);
    if (index.x < last.n) { y[index.x] = kept.x; }
    if (index.y < last.n) { y[index.y] = kept.y; }
    if (index.z < last.n) { y[index.z] = kept.z; }
    if (index.w < last.n) { y[index.w] = kept.w; }
    let counts = stays & (index < vec4<u32>(last.n));
    let bits = select(vec4<u32>(), vec4<u32>(1u, 2u, 4u, 8u), counts);
    return (bits.x | bits.y) | (bits.z | bits.w);
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
    var bits = 0u;
    for (var i = 0u; i < min(8u, quads() - 8u * word); i++) {
        bits |= prune(8u * word + i, last, params.keep) << (4u * i);
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
