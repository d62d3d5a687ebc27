// Bandwidth of workgroup memory: each invocation folds `trips` words of a 16 KiB tile into one by
// exclusive or, `STRIDE` words from lane to lane. x[4096] -> y[invocations].
//
// A stride of 1 reads every bank once, a stride of 32 the same bank of 32 from every lane.

struct Params { invocations: u32, trips: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

override WG: u32 = 64u;
override STRIDE: u32 = 1u;

var<workgroup> tile: array<u32, 4096>;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    for (var i = lane; i < 4096u; i += WG) { tile[i] = x[i]; }
    workgroupBarrier();
    let invocation = (wid.x + wid.y * groups.x) * WG + lane;
    // Where the next load is depends on the last, but its bank only on the lane and the trip.
    var at = (lane * STRIDE) % 4096u;
    var folded = 0u;
    for (var i = 0u; i < params.trips; i++) {
        folded ^= tile[at];
        at = (at + 65u * STRIDE + (folded & 2048u)) % 4096u;
    }
    if (invocation < params.invocations) { y[invocation] = folded; }
}
