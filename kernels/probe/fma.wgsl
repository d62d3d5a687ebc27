// Arithmetic peak: eight independent chains x = x * x + c for each invocation, in the arithmetic
// of the storage type. x[threads, 8] -> y[threads, 8].
//
// For |x| <= 1 and c = -1/2 every chain runs into the fixed point (1 - sqrt(3)) / 2, which pulls
// rounding errors in. Trips and c are parameters, so nothing can be folded.

struct Params { threads: u32, trips: u32, c: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T4>;
@group(0) @binding(2) var<storage, read_write> y: array<T4>;

override WG: u32 = 64u;

fn step(x: T4, c: T4) -> T4 { return fma(x, x, c); }
fn step2(x: T4, c: T4) -> T4 { return step(step(x, c), c); }
fn step4(x: T4, c: T4) -> T4 { return step2(step2(x, c), c); }
fn step8(x: T4, c: T4) -> T4 { return step4(step4(x, c), c); }

// Eight trips in a turn of the loop, whose own instructions then hardly count.
@compute @workgroup_size(WG)
fn unrolled(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (wid.x + wid.y * groups.x) * WG + lane;
    if (thread >= params.threads) { return; }
    let c = T4(T(params.c));
    var low = x[2u * thread];
    var high = x[2u * thread + 1u];
    for (var i = 0u; i < params.trips / 8u; i++) {
        low = step8(low, c);
        high = step8(high, c);
    }
    for (var i = 0u; i < params.trips % 8u; i++) {
        low = step(low, c);
        high = step(high, c);
    }
    y[2u * thread] = to_storage4(vec4<f32>(low));
    y[2u * thread + 1u] = to_storage4(vec4<f32>(high));
}

@compute @workgroup_size(WG)
fn chains(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let thread = (wid.x + wid.y * groups.x) * WG + lane;
    if (thread >= params.threads) { return; }
    let c = T4(T(params.c));
    var low = x[2u * thread];
    var high = x[2u * thread + 1u];
    for (var i = 0u; i < params.trips; i++) {
        low = fma(low, low, c);
        high = fma(high, high, c);
    }
    y[2u * thread] = to_storage4(vec4<f32>(low));
    y[2u * thread + 1u] = to_storage4(vec4<f32>(high));
}
