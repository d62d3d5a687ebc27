// Exact Shapley values of modalities (Shapley 1953) from a model run on every coalition.
// v[2^players, c]: row S holds the outputs with exactly the modalities in the bits of S
// -> phi[players, c] = sum over S without i of |S|! (M - |S| - 1)! / M! * (v[S + i] - v[S]).
// An absent player has 0, its coalitions are never read, and M counts the others.
//
// The weights are integers over one divisor, lcm(1..M): integer games are summed exactly.
// weight[s] is the numerator for |S| = s. It and phi are f32, whatever v is stored as.

struct Params { players: u32, c: u32, present: u32, divisor: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> v: array<T>;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> phi: array<f32>;

override WG: u32 = 64u;

// What the coalition numbered s of those without player i contributes to its sum.
fn term(s: u32, i: u32, class_number: u32) -> f32 {
    let below = (1u << i) - 1u;
    let members = (s & below) | ((s & ~below) << 1u);
    if ((members & ~params.present) != 0u) { return 0.0; }
    let with_i = f32(v[(members | (1u << i)) * params.c + class_number]);
    let gain = with_i - f32(v[members * params.c + class_number]);
    return weight[countOneBits(members)] * gain;
}

fn is_present(i: u32) -> bool {
    return ((params.present >> i) & 1u) == 1u;
}

// One invocation a class, one row of workgroups a player: no barrier, coalesced over classes.
@compute @workgroup_size(WG)
fn thread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let class_number = wid.x * WG + lane;
    let i = wid.y;
    if (class_number >= params.c) { return; }
    let coalitions = 1u << (params.players - 1u);
    var sum = 0.0;
    if (is_present(i)) {
        for (var s = 0u; s < coalitions; s++) { sum += term(s, i, class_number); }
    }
    phi[i * params.c + class_number] = sum / params.divisor;
}

var<workgroup> partial: array<f32, WG>;

// One workgroup a class and player: coalitions side by side, for few classes.
@compute @workgroup_size(WG)
fn group(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let i = wid.y;
    let coalitions = 1u << (params.players - 1u);
    var sum = 0.0;
    if (is_present(i)) {
        for (var s = lane; s < coalitions; s += WG) { sum += term(s, i, wid.x); }
    }
    partial[lane] = sum;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    if (lane == 0u) { phi[i * params.c + wid.x] = partial[0] / params.divisor; }
}
