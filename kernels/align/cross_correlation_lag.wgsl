// Cross-correlation of two streams for every lag from -reach to reach, and the lag of its maximum:
// r[l] = sum over steps t and features of a[t] * b[t + l], lag = argmax r.
// a and b[batch, steps, d] -> r[batch, 2 * reach + 1] (f32), lag[batch].
//
// Only steps that both streams have are summed; a lag without any gives zero. Of equal maxima the
// first counts. The overlap of both streams is contiguous, so each correlation is one dot product.
// Where d % 4 = 0 the entry points that end in 4 read it as vec4.

struct Params { batch: u32, steps: u32, d: u32, reach: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(1) var<storage, read> a4: array<T4>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(2) var<storage, read> b4: array<T4>;
@group(0) @binding(3) var<storage, read_write> r: array<f32>;
@group(0) @binding(4) var<storage, read_write> lag: array<i32>;

override WG: u32 = 64u;

fn lags() -> u32 {
    return 2u * params.reach + 1u;
}

// Where the overlap of one correlation starts in a and b, and its length, in vectors of `each`.
struct Overlap { a: u32, b: u32, count: u32 }

fn overlap(index: u32, each: u32) -> Overlap {
    let sample = index / lags() * params.steps;
    let l = index % lags();
    let early = params.reach - min(l, params.reach);
    let late = l - min(l, params.reach);
    let steps = params.steps - min(params.steps, max(early, late));
    let d = params.d / each;
    return Overlap((sample + early) * d, (sample + late) * d, steps * d);
}

// The share of one of `lanes` invocations in one correlation.
fn share(index: u32, lane: u32, lanes: u32) -> f32 {
    let o = overlap(index, 1u);
    var sum = 0.0;
    for (var i = lane; i < o.count; i += lanes) { sum += f32(a[o.a + i]) * f32(b[o.b + i]); }
    return sum;
}

fn share4(index: u32, lane: u32, lanes: u32) -> f32 {
    let o = overlap(index, 4u);
    var sum = 0.0;
    for (var i = lane; i < o.count; i += lanes) {
        sum += dot(vec4<f32>(a4[o.a + i]), vec4<f32>(b4[o.b + i]));
    }
    return sum;
}

// One invocation a lag: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index < params.batch * lags()) { r[index] = share(index, 0u, 1u); }
}

@compute @workgroup_size(WG)
fn thread4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index < params.batch * lags()) { r[index] = share4(index, 0u, 1u); }
}

// One invocation a sample.
@compute @workgroup_size(WG)
fn thread_peak(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sample = (wid.x + wid.y * groups.x) * WG + lane;
    if (sample >= params.batch) { return; }
    let base = sample * lags();
    var best = 0u;
    for (var l = 1u; l < lags(); l++) {
        if (r[base + l] > r[base + best]) { best = l; }
    }
    lag[sample] = i32(best) - i32(params.reach);
}

var<workgroup> partial: array<f32, WG>;
var<workgroup> place: array<u32, WG>;

// Adds the shares of a workgroup.
fn reduce(index: u32, lane: u32, value: f32) {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    if (lane == 0u) { r[index] = partial[0]; }
}

// One workgroup a lag, coalesced loads, tree reduction in workgroup memory.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wid.x + wid.y * groups.x;
    if (index >= params.batch * lags()) { return; }
    reduce(index, lane, share(index, lane, WG));
}

@compute @workgroup_size(WG)
fn group4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wid.x + wid.y * groups.x;
    if (index >= params.batch * lags()) { return; }
    reduce(index, lane, share4(index, lane, WG));
}

// One workgroup a sample.
@compute @workgroup_size(WG)
fn group_peak(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let sample = wid.x + wid.y * groups.x;
    if (sample >= params.batch) { return; }
    let base = sample * lags();
    var best = min(lane, lags() - 1u);
    for (var l = lane + WG; l < lags(); l += WG) {
        if (r[base + l] > r[base + best]) { best = l; }
    }
    partial[lane] = r[base + best];
    place[lane] = best;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = partial[lane + half];
            let earlier = other == partial[lane] && place[lane + half] < place[lane];
            if (other > partial[lane] || earlier) {
                partial[lane] = other;
                place[lane] = place[lane + half];
            }
        }
    }
    if (lane == 0u) { lag[sample] = i32(place[0]) - i32(params.reach); }
}

// OCTETS times eight lags a subgroup of eight: invocation i has the steps i, i + 8 and so on of a,
// and of b those that they meet at the first lag of each octet. The other lags meet them where a is
// shifted by up to seven steps, which comes from the neighbours, since a CPU driver makes every
// load one invocation at a time. One feature after the other, because then of every eight further
// steps only eight of each stream are new.
const MOST: u32 = 13u;
override OCTETS: u32 = 13u;
var<private> sums: array<mat2x4<f32>, MOST>;
var<private> held: array<f32, MOST + 1u>;

struct Lags { sample: u32, first: u32 }

fn lags_of(group: u32) -> Lags {
    let each = 8u * OCTETS;
    let across = (lags() + each - 1u) / each;
    return Lags(group / across, group % across * each);
}

// Element of a step of a sample, zero outside.
fn a_at(sample: u32, step: u32, feature: u32) -> f32 {
    let row = sample * params.steps + min(step, params.steps - 1u);
    return select(0.0, f32(a[row * params.d + feature]), step < params.steps);
}

// The same of step - reach.
fn b_at(sample: u32, step: u32, feature: u32) -> f32 {
    let end = params.steps + params.reach;
    let row = sample * params.steps + clamp(step, params.reach, end - 1u) - params.reach;
    let is_inside = step >= params.reach && step < end;
    return select(0.0, f32(b[row * params.d + feature]), is_inside);
}

// What invocation lane - j holds, of eight steps and the eight before them.
fn shifted(before: f32, own: f32, lane: u32, j: u32) -> f32 {
    return subgroupShuffle(select(before, own, lane + j < 8u), (lane + 8u - j) % 8u);
}

fn shifts(before: f32, own: f32, lane: u32) -> mat2x4<f32> {
    return mat2x4<f32>(
        own, shifted(before, own, lane, 1u),
        shifted(before, own, lane, 2u), shifted(before, own, lane, 3u),
        shifted(before, own, lane, 4u), shifted(before, own, lane, 5u),
        shifted(before, own, lane, 6u), shifted(before, own, lane, 7u));
}

fn fetch(at: Lags, lane: u32, k: u32, feature: u32) {
    if (k < OCTETS) { held[k] = b_at(at.sample, at.first + lane + 8u * k, feature); }
}

// Adds to an octet, and passes on what the next eight steps meet there.
fn add_octet(k: u32, a8: mat2x4<f32>, next: f32) {
    if (k >= OCTETS) { return; }
    sums[k] += a8 * held[k];
    held[k] = select(held[k + 1u], next, k + 1u == OCTETS);
}

fn store_octet(at: Lags, k: u32, lane: u32) {
    if (k >= OCTETS) { return; }
    var own = subgroupAdd(sums[k][0].x);
    own = select(own, subgroupAdd(sums[k][0].y), lane == 1u);
    own = select(own, subgroupAdd(sums[k][0].z), lane == 2u);
    own = select(own, subgroupAdd(sums[k][0].w), lane == 3u);
    own = select(own, subgroupAdd(sums[k][1].x), lane == 4u);
    own = select(own, subgroupAdd(sums[k][1].y), lane == 5u);
    own = select(own, subgroupAdd(sums[k][1].z), lane == 6u);
    own = select(own, subgroupAdd(sums[k][1].w), lane == 7u);
    let l = at.first + 8u * k + lane;
    if (l < lags()) { r[at.sample * lags() + l] = own; }
}

fn correlate(at: Lags, lane: u32, feature: u32) {
    fetch(at, lane, 0u, feature); fetch(at, lane, 1u, feature); fetch(at, lane, 2u, feature);
    fetch(at, lane, 3u, feature); fetch(at, lane, 4u, feature); fetch(at, lane, 5u, feature);
    fetch(at, lane, 6u, feature); fetch(at, lane, 7u, feature); fetch(at, lane, 8u, feature);
    fetch(at, lane, 9u, feature); fetch(at, lane, 10u, feature); fetch(at, lane, 11u, feature);
    fetch(at, lane, 12u, feature);
    var before = 0.0;
    for (var start = 0u; start < params.steps + 7u; start += 8u) {
        let own = a_at(at.sample, start + lane, feature);
        let next = b_at(at.sample, at.first + start + 8u * OCTETS + lane, feature);
        let a8 = shifts(before, own, lane);
        add_octet(0u, a8, next); add_octet(1u, a8, next); add_octet(2u, a8, next);
        add_octet(3u, a8, next); add_octet(4u, a8, next); add_octet(5u, a8, next);
        add_octet(6u, a8, next); add_octet(7u, a8, next); add_octet(8u, a8, next);
        add_octet(9u, a8, next); add_octet(10u, a8, next); add_octet(11u, a8, next);
        add_octet(12u, a8, next);
        before = own;
    }
}

@compute @workgroup_size(8)
fn subgroup_octets(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = lags_of(wid.x + wid.y * groups.x);
    if (at.sample >= params.batch) { return; }
    for (var feature = 0u; feature < params.d; feature++) { correlate(at, lane, feature); }
    store_octet(at, 0u, lane); store_octet(at, 1u, lane); store_octet(at, 2u, lane);
    store_octet(at, 3u, lane); store_octet(at, 4u, lane); store_octet(at, 5u, lane);
    store_octet(at, 6u, lane); store_octet(at, 7u, lane); store_octet(at, 8u, lane);
    store_octet(at, 9u, lane); store_octet(at, 10u, lane); store_octet(at, 11u, lane);
    store_octet(at, 12u, lane);
}
