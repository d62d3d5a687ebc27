// The k largest elements of each row, largest first, with their columns; equal elements in the
// order of their columns. x[rows, n] -> values and indices[rows, k], 1 <= k <= n.
// Elements are smaller than 3.4e38 in magnitude.

struct Params { rows: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> values: array<T>;
@group(0) @binding(3) var<storage, read_write> indices: array<u32>;

override WG: u32 = 64u;

// Below every element.
const LOWEST: f32 = -3.4e38;

// One invocation a row keeps its list sorted in the output. Few elements get in: of random ones
// k ln(n / k), so that the row is read once and little is moved.
@compute @workgroup_size(WG)
fn insert(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let list = row * params.k;
    var smallest = LOWEST;
    for (var i = 0u; i < params.n; i++) {
        let v = f32(x[row * params.n + i]);
        let full = i >= params.k;
        if (full && v <= smallest) { continue; }
        var place = select(i, params.k - 1u, full);
        while (place > 0u) {
            let above = values[list + place - 1u];
            if (f32(above) >= v) { break; }
            values[list + place] = above;
            indices[list + place] = indices[list + place - 1u];
            place--;
        }
        values[list + place] = to_storage(v);
        indices[list + place] = i;
        if (i + 1u >= params.k) { smallest = f32(values[list + params.k - 1u]); }
    }
}

struct Found { value: f32, index: u32 }

// Whether a precedes b in the result.
fn precedes(a: Found, b: Found) -> bool {
    return a.value > b.value || (a.value == b.value && a.index < b.index);
}

// The best of every WG-th element of a row that comes after `last` in the result; index n if none.
fn best_after(row: u32, lane: u32, last: Found) -> Found {
    var best = Found(LOWEST, params.n);
    for (var i = lane; i < params.n; i += WG) {
        let candidate = Found(f32(x[row * params.n + i]), i);
        if (precedes(last, candidate) && precedes(candidate, best)) { best = candidate; }
    }
    return best;
}

var<workgroup> leaders: array<Found, WG>;

// One workgroup a row: each lane offers the best of its own elements, a tree picks the winner, and
// only the lane that won looks at its elements again.
@compute @workgroup_size(WG)
fn tournament(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.rows) { return; }
    var mine = best_after(row, lane, Found(-LOWEST, 0u));
    for (var place = 0u; place < params.k; place++) {
        leaders[lane] = mine;
        for (var half = WG / 2u; half > 0u; half /= 2u) {
            workgroupBarrier();
            if (lane < half && precedes(leaders[lane + half], leaders[lane])) {
                leaders[lane] = leaders[lane + half];
            }
        }
        workgroupBarrier();
        let winner = leaders[0];
        workgroupBarrier();
        if (winner.index == mine.index) {
            values[row * params.k + place] = to_storage(winner.value);
            indices[row * params.k + place] = winner.index;
            mine = best_after(row, lane, winner);
        }
    }
}
