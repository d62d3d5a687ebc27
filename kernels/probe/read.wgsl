// Read bandwidth: each invocation folds EACH words, or EACH vectors of four words, WG apart into
// one word by exclusive or. x[words] -> y[invocations].

struct Params { words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

override WG: u32 = 64u;
override EACH: u32 = 16u;

@compute @workgroup_size(WG)
fn word(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wid.x + wid.y * groups.x;
    if (group * WG * EACH >= params.words) { return; }
    var folded = 0u;
    for (var i = 0u; i < EACH; i++) {
        let index = (group * EACH + i) * WG + lane;
        if (index < params.words) { folded ^= x[index]; }
    }
    y[group * WG + lane] = folded;
}

@compute @workgroup_size(WG)
fn vec4_each(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wid.x + wid.y * groups.x;
    if (group * WG * EACH >= params.words / 4u) { return; }
    var folded = vec4<u32>();
    for (var i = 0u; i < EACH; i++) {
        let index = (group * EACH + i) * WG + lane;
        if (index < params.words / 4u) { folded ^= x4[index]; }
    }
    y[group * WG + lane] = folded.x ^ folded.y ^ folded.z ^ folded.w;
}

// A workgroup's contiguous span of EACH vectors an invocation, in a loop to its end.
@compute @workgroup_size(WG)
fn vec4_span(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let group = wid.x + wid.y * groups.x;
    let start = group * WG * EACH;
    if (start >= params.words / 4u) { return; }
    let end = min(start + WG * EACH, params.words / 4u);
    var folded = vec4<u32>();
    for (var index = start + lane; index < end; index += WG) { folded ^= x4[index]; }
    y[group * WG + lane] = folded.x ^ folded.y ^ folded.z ^ folded.w;
}
