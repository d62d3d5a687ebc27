// The k largest elements of each row, largest first, with their columns; equal elements in the
// order of their columns. x[rows, n] -> values and indices[rows, k], 1 <= k <= n.
// Elements are smaller than 3.4e38 in magnitude.

struct Params { rows: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x8: array<T8>;
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

// For k up to 8. One invocation a row keeps eight candidates in registers, largest first, and
// passes over those that are no candidates: eight at a time where n % 8 = 0.
var<private> best_low: vec4<f32>;
var<private> best_high: vec4<f32>;
var<private> place_low: vec4<u32>;
var<private> place_high: vec4<u32>;

// Puts an element in its place: behind those that are as large, before smaller ones, which move one
// place on. Without a branch, because eight invocations seldom have one for the same element.
fn offer(v: f32, i: u32) {
    let low = vec4<f32>(v) > best_low;
    let high = vec4<f32>(v) > best_high;
    let moved_low = vec4<f32>(v, best_low.xyz);
    let moved_high = vec4<f32>(best_low.w, best_high.xyz);
    let after_low = vec4<u32>(i, place_low.xyz);
    let after_high = vec4<u32>(place_low.w, place_high.xyz);
    // Where the one before is passed as well, that one comes here, else the new one does.
    let shift_low = vec4<bool>(false, low.xyz);
    let shift_high = vec4<bool>(low.w, high.xyz);
    best_low = select(best_low, select(vec4<f32>(v), moved_low, shift_low), low);
    best_high = select(best_high, select(vec4<f32>(v), moved_high, shift_high), high);
    place_low = select(place_low, select(vec4<u32>(i), after_low, shift_low), low);
    place_high = select(place_high, select(vec4<u32>(i), after_high, shift_high), high);
}

// The smallest candidate that counts.
fn least() -> f32 {
    let k = params.k - 1u;
    if (k < 4u) { return best_low[k]; }
    return best_high[k - 4u];
}

fn store_best(row: u32) {
    for (var i = 0u; i < params.k; i++) {
        let at = row * params.k + i;
        if (i < 4u) {
            values[at] = to_storage(best_low[i]);
            indices[at] = place_low[i];
        } else {
            values[at] = to_storage(best_high[i - 4u]);
            indices[at] = place_high[i - 4u];
        }
    }
}

fn start_best() {
    best_low = vec4<f32>(LOWEST);
    best_high = vec4<f32>(LOWEST);
}

@compute @workgroup_size(WG)
fn registers(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    start_best();
    var smallest = LOWEST;
    for (var i = 0u; i < params.n; i++) {
        let v = f32(x[row * params.n + i]);
        if (v > smallest) {
            offer(v, i);
            smallest = least();
        }
    }
    store_best(row);
}

fn offer4(v: vec4<f32>, i: u32, smallest: f32) {
    if (v.x > smallest) { offer(v.x, i); }
    if (v.y > smallest) { offer(v.y, i + 1u); }
    if (v.z > smallest) { offer(v.z, i + 2u); }
    if (v.w > smallest) { offer(v.w, i + 3u); }
}

// The same where n % 8 = 0.
@compute @workgroup_size(WG)
fn registers8(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.rows) { return; }
    let eighths = params.n / 8u;
    let base = row * eighths;
    start_best();
    var smallest = LOWEST;
    for (var i = 0u; i < eighths; i++) {
        let v = from_storage8(x8[base + i]);
        let larger = max(v[0], v[1]);
        if (max(max(larger.x, larger.y), max(larger.z, larger.w)) > smallest) {
            offer4(v[0], 8u * i, smallest);
            offer4(v[1], 8u * i + 4u, smallest);
            smallest = least();
        }
    }
    store_best(row);
}
