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
