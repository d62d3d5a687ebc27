// Rate of subgroup reductions: each invocation replaces its word by the sum over its subgroup and
// its own lane's share, `trips` times, wrapping. x[invocations] -> y[invocations], and in group
// the number of the subgroup inside its workgroup, which the device chooses.

struct Params { invocations: u32, trips: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> group: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

override WG: u32 = 64u;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    @builtin(subgroup_id) subgroup: u32,
) {
    let invocation = (wid.x + wid.y * groups.x) * WG + lane;
    let live = invocation < params.invocations;
    // Invocations beyond the end take part with zeros, so that every subgroup is whole.
    var share = 0u;
    if (live) { share = x[invocation]; }
    var word = share;
    for (var i = 0u; i < params.trips; i++) {
        let sum = subgroupAdd(word);
        word = select(0u, sum + share, live);
    }
    if (live) {
        group[invocation] = subgroup;
        y[invocation] = word;
    }
}
