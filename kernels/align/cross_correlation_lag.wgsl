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

// 32 lags a subgroup of eight: invocation i has the steps i, i + 8 and so on of a, and the steps of
// b that they meet at the first lag. A CPU driver makes every load one invocation at a time, so
// what meets at the other lags comes from the neighbours. One feature after the other, because then
// of every eight further steps only eight of each stream are new.
var<private> sums_0: array<f32, 8>;
var<private> sums_1: array<f32, 8>;
var<private> sums_2: array<f32, 8>;
var<private> sums_3: array<f32, 8>;

struct Lags { sample: u32, first: u32 }

fn lags_of(group: u32) -> Lags {
    let across = (lags() + 31u) / 32u;
    return Lags(group / across, group % across * 32u);
}

// Step `step - reach` of a sample for stream b; those outside give zero.
fn is_step(step: u32) -> bool {
    return step >= params.reach && step < params.steps + params.reach;
}
fn row_of(sample: u32, step: u32) -> u32 {
    let inside = clamp(step, params.reach, params.steps + params.reach - 1u) - params.reach;
    return (sample * params.steps + inside) * params.d;
}

// What invocation lane + j holds, of two that follow each other.
fn from_neighbour(low: f32, high: f32, lane: u32, j: u32) -> f32 {
    return subgroupShuffle(select(low, high, lane < j), (lane + j) % 8u);
}

fn add_lags(
    sums: ptr<private, array<f32, 8>>, own: f32, low: f32, high: f32, lane: u32,
) {
    (*sums)[0] += own * low;
    (*sums)[1] += own * from_neighbour(low, high, lane, 1u);
    (*sums)[2] += own * from_neighbour(low, high, lane, 2u);
    (*sums)[3] += own * from_neighbour(low, high, lane, 3u);
    (*sums)[4] += own * from_neighbour(low, high, lane, 4u);
    (*sums)[5] += own * from_neighbour(low, high, lane, 5u);
    (*sums)[6] += own * from_neighbour(low, high, lane, 6u);
    (*sums)[7] += own * from_neighbour(low, high, lane, 7u);
}

fn store_lags(sums: ptr<private, array<f32, 8>>, at: Lags, first: u32, lane: u32) {
    var own = subgroupAdd((*sums)[0]);
    own = select(own, subgroupAdd((*sums)[1]), lane == 1u);
    own = select(own, subgroupAdd((*sums)[2]), lane == 2u);
    own = select(own, subgroupAdd((*sums)[3]), lane == 3u);
    own = select(own, subgroupAdd((*sums)[4]), lane == 4u);
    own = select(own, subgroupAdd((*sums)[5]), lane == 5u);
    own = select(own, subgroupAdd((*sums)[6]), lane == 6u);
    own = select(own, subgroupAdd((*sums)[7]), lane == 7u);
    let l = at.first + first + lane;
    if (l < lags()) { r[at.sample * lags() + l] = own; }
}

fn b_at(sample: u32, step: u32, feature: u32) -> f32 {
    return select(0.0, f32(b[row_of(sample, step) + feature]), is_step(step));
}

@compute @workgroup_size(8)
fn subgroup_lags(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let at = lags_of(wid.x + wid.y * groups.x);
    if (at.sample >= params.batch) { return; }
    for (var c = 0u; c < params.d; c++) {
        let first = at.first + lane;
        var b_0 = b_at(at.sample, first, c);
        var b_1 = b_at(at.sample, first + 8u, c);
        var b_2 = b_at(at.sample, first + 16u, c);
        var b_3 = b_at(at.sample, first + 24u, c);
        for (var start = 0u; start < params.steps; start += 8u) {
            let t = start + lane;
            let b_4 = b_at(at.sample, first + start + 32u, c);
            let row = (at.sample * params.steps + min(t, params.steps - 1u)) * params.d;
            let own = select(0.0, f32(a[row + c]), t < params.steps);
            add_lags(&sums_0, own, b_0, b_1, lane);
            add_lags(&sums_1, own, b_1, b_2, lane);
            add_lags(&sums_2, own, b_2, b_3, lane);
            add_lags(&sums_3, own, b_3, b_4, lane);
            b_0 = b_1;
            b_1 = b_2;
            b_2 = b_3;
            b_3 = b_4;
        }
    }
    store_lags(&sums_0, at, 0u, lane);
    store_lags(&sums_1, at, 8u, lane);
    store_lags(&sums_2, at, 16u, lane);
    store_lags(&sums_3, at, 24u, lane);
}
