// Copy y = x of u32 words, so that every bit pattern survives: the memory bandwidth others are
// measured against.

struct Params { words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(1) var<storage, read> x4: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
@group(0) @binding(2) var<storage, read_write> y4: array<vec4<u32>>;

override WG: u32 = 64u;
// Vectors an invocation of vec4_stride moves.
override EACH: u32 = 16u;

// One word an invocation.
@compute @workgroup_size(WG)
fn word(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index < params.words) { y[index] = x[index]; }
}

// Four words an invocation.
@compute @workgroup_size(WG)
fn vec4_each(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index < params.words / 4u) { y4[index] = x4[index]; }
}

// EACH vectors an invocation; a workgroup moves one contiguous span.
@compute @workgroup_size(WG)
fn vec4_stride(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = (wid.x + wid.y * groups.x) * WG * EACH + lane;
    for (var i = 0u; i < EACH; i++) {
        let index = first + i * WG;
        if (index < params.words / 4u) { y4[index] = x4[index]; }
    }
}

// A workgroup's contiguous span of EACH vectors an invocation, in a loop to its end.
@compute @workgroup_size(WG)
fn vec4_span(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let start = (wid.x + wid.y * groups.x) * WG * EACH;
    let end = min(start + WG * EACH, params.words / 4u);
    for (var index = start + lane; index < end; index += WG) { y4[index] = x4[index]; }
}
