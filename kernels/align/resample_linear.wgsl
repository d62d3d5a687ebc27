// Linear interpolation along time: y = x_i + w * (x_(i+1) - x_i), clamped at both ends.
// x[batch, steps, d], ticks[batch, steps], times[batch, targets] -> y[batch, targets, d].
//
// Regular sampling computes i and w from integers as torch and ONNX Resize define them: by centres
// ("half_pixel") or with both ends aligned ("align_corners"). Irregular sampling finds the ticks
// around each time by bisection, once for each target; of equal ticks the last one counts. A
// coordinate is an integer quotient and remainder, so that none is rounded to a neighbour; where
// the remainder is zero the step is copied. 2 * steps * targets and all ticks are below 2^32, the
// ticks between two steps below 2^24.

struct Params { batch: u32, steps: u32, targets: u32, d: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> ticks: array<u32>;
@group(0) @binding(3) var<storage, read> times: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;
@group(0) @binding(5) var<storage, read_write> lower: array<u32>;

override WG: u32 = 64u;
override ROWS: u32 = 1u; // output rows of one invocation of `strip`
override SAMPLING: u32 = 0u; // 0 centres, 1 aligned ends, 2 timestamps

// Step `index` and num/den of the way to the next.
struct Place { index: u32, num: u32, den: u32 }

fn regular(j: u32) -> Place {
    let last = params.steps - 1u;
    var num = j * last;
    var den = max(params.targets - 1u, 1u);
    if (SAMPLING == 0u) {
        let twice = (2u * j + 1u) * params.steps;
        num = twice - min(twice, params.targets);
        den = 2u * params.targets;
    }
    num = min(num, last * den);
    return Place(num / den, num % den, den);
}

// The time of a target, no earlier than the first tick and no later than the last.
fn clamped_time(row: u32) -> u32 {
    let first = row / params.targets * params.steps;
    return clamp(times[row], ticks[first], ticks[first + params.steps - 1u]);
}

fn place(row: u32) -> Place {
    if (SAMPLING != 2u) { return regular(row % params.targets); }
    let index = lower[row];
    let first = row / params.targets * params.steps;
    let start = ticks[first + index];
    let end = ticks[first + min(index + 1u, params.steps - 1u)];
    return Place(index, clamped_time(row) - start, end - start);
}

// The last step at or before each time: one invocation a target.
@compute @workgroup_size(WG)
fn locate(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.batch * params.targets) { return; }
    let first = row / params.targets * params.steps;
    let time = clamped_time(row);
    var low = 0u;
    var high = params.steps;
    while (high - low > 1u) {
        let middle = (low + high) / 2u;
        if (ticks[first + middle] <= time) { low = middle; } else { high = middle; }
    }
    lower[row] = low;
}

// One invocation an element.
@compute @workgroup_size(WG)
fn scalar(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    if (index >= params.batch * params.targets * params.d) { return; }
    let row = index / params.d;
    let p = place(row);
    let at = (row / params.targets * params.steps + p.index) * params.d + index % params.d;
    var value = f32(x[at]);
    if (p.num > 0u) { value += f32(p.num) / f32(p.den) * (f32(x[at + params.d]) - value); }
    y[index] = to_storage(value);
}

// One invocation four elements of one step: d % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = (wid.x + wid.y * groups.x) * WG + lane;
    let d = params.d / 4u;
    if (index >= params.batch * params.targets * d) { return; }
    let row = index / d;
    let p = place(row);
    let at = (row / params.targets * params.steps + p.index) * d + index % d;
    var value = vec4<f32>(x4[at]);
    if (p.num > 0u) { value += f32(p.num) / f32(p.den) * (vec4<f32>(x4[at + d]) - value); }
    y4[index] = to_storage4(value);
}

// Four elements from place n of eight on.
fn pick(a: vec4<f32>, b: vec4<f32>, n: u32) -> vec4<f32> {
    let v = select(a, vec4<f32>(a.yzw, b.x), n == 1u);
    return select(select(v, vec4<f32>(a.zw, b.xy), n == 2u), vec4<f32>(a.w, b.xyz), n == 3u);
}

// One invocation ROWS output rows, which are whole vectors together. It walks along both steps,
// loads each vector once wherever they begin, and carries what a row leaves of its last vector into
// the next one.
@compute @workgroup_size(WG)
fn strip(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let d = params.d;
    let steps = params.steps;
    let targets = params.targets;
    let last = (params.batch * steps * d - 1u) / 4u;
    let first = ((wid.x + wid.y * groups.x) * WG + lane) * ROWS;
    var to = first * d / 4u;
    var carried = vec4<f32>();
    // Elements of the next vector that are there already.
    var filled = 0u;
    for (var row = first; row < min(first + ROWS, params.batch * targets); row++) {
        let p = place(row);
        let weight = f32(p.num) / f32(max(p.den, 1u));
        let step = row / targets * steps + p.index;
        let other = step + select(0u, 1u, p.index + 1u < steps);
        // Behind the elements where the open vector would begin if all of it were this row, which
        // may lie before x.
        let low = step * d + 4u - filled;
        let high = other * d + 4u - filled;
        var low_before = vec4<f32>(x4[min(max(low / 4u, 1u) - 1u, last)]);
        var high_before = vec4<f32>(x4[min(max(high / 4u, 1u) - 1u, last)]);
        let full = (filled + d) / 4u;
        let open = (filled + d) % 4u;
        for (var i = 0u; i < full + select(0u, 1u, open > 0u); i++) {
            let low_after = vec4<f32>(x4[min(low / 4u + i, last)]);
            let high_after = vec4<f32>(x4[min(high / 4u + i, last)]);
            let v = pick(low_before, low_after, low % 4u);
            let above = pick(high_before, high_after, high % 4u) - v;
            let value = select(v + weight * above, v, p.num == 0u);
            let place = 4u * i + vec4<u32>(0u, 1u, 2u, 3u);
            carried = select(value, carried, place < vec4<u32>(filled));
            if (i < full) {
                y4[to] = to_storage4(carried);
                to++;
            }
            low_before = low_after;
            high_before = high_after;
        }
        filled = open;
    }
}
