// Peak of the packed 8-bit dot product with 32-bit accumulation: eight independent chains
// a = a + dot4(a, x) for each invocation, wrapping. x[threads, 8] -> y[threads, 8].
//
// Every sum is a factor of the next product, so no step can be left out or hoisted.

struct Params { threads: u32, trips: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;

override WG: u32 = 64u;

fn dots(a: vec4<u32>, x: vec4<u32>) -> vec4<u32> {
    return vec4<u32>(
        u32(dot4I8Packed(a.x, x.x)), u32(dot4I8Packed(a.y, x.y)),
        u32(dot4I8Packed(a.z, x.z)), u32(dot4I8Packed(a.w, x.w)));
}

fn step(a: vec4<u32>, x: vec4<u32>) -> vec4<u32> { return a + dots(a, x); }
fn step2(a: vec4<u32>, x: vec4<u32>) -> vec4<u32> { return step(step(a, x), x); }
fn step4(a: vec4<u32>, x: vec4<u32>) -> vec4<u32> { return step2(step2(a, x), x); }

// Four trips in a turn of the loop, whose own instructions then hardly count.
@compute @workgroup_size(WG)
fn unrolled(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (wid.x + wid.y * groups.x) * WG + lane;
    if (thread >= params.threads) { return; }
    let low_x = x[2u * thread];
    let high_x = x[2u * thread + 1u];
    var low = low_x;
    var high = high_x;
    for (var i = 0u; i < params.trips / 4u; i++) {
        low = step4(low, low_x);
        high = step4(high, high_x);
    }
    for (var i = 0u; i < params.trips % 4u; i++) {
        low = step(low, low_x);
        high = step(high, high_x);
    }
    y[2u * thread] = low;
    y[2u * thread + 1u] = high;
}

@compute @workgroup_size(WG)
fn chains(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (wid.x + wid.y * groups.x) * WG + lane;
    if (thread >= params.threads) { return; }
    let low_x = x[2u * thread];
    let high_x = x[2u * thread + 1u];
    var low = low_x;
    var high = high_x;
    for (var i = 0u; i < params.trips; i++) {
        low += dots(low, low_x);
        high += dots(high, high_x);
    }
    y[2u * thread] = low;
    y[2u * thread + 1u] = high;
}
