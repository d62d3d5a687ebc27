// Bilinear resize of an image: x[height, width, c] -> y[rows, columns, c].
//
// Plain: four neighbours, by pixel centres or with aligned corners, as in ONNX Resize. Antialiased:
// the triangle filter of Pillow and of torch's `antialias=True`, as wide as the image shrinks,
// first along rows into `wide` (f32), then along columns. Every coordinate and every weight is an
// integer (2 * size_in * size_out < 2^31), divided once at the end; where a remainder is zero the
// neighbour is copied.

struct Params { height: u32, width: u32, c: u32, rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> y: array<T>;
@group(0) @binding(2) var<storage, read_write> y4: array<T4>;
@group(0) @binding(3) var<storage, read_write> wide: array<f32>;
@group(0) @binding(3) var<storage, read_write> wide4: array<vec4<f32>>;

override WG: u32 = 64u;
override CORNERS: u32 = 0u;
// Output columns of one invocation of `strip`.
override COLUMNS: u32 = 32u;

// Element `index` and num/den of the way to the next.
struct Place { index: u32, num: u32, den: u32 }

// Parts in which output j of u is placed from one of t elements to the next.
fn parts(u: u32) -> u32 {
    return select(2u * u, max(u - 1u, 1u), CORNERS == 1u);
}

// How many of them output j lies behind the first element.
fn distance(j: u32, t: u32, u: u32) -> u32 {
    var num = j * (t - 1u);
    if (CORNERS == 0u) {
        let twice = (2u * j + 1u) * t;
        num = twice - min(twice, u);
    }
    return min(num, (t - 1u) * parts(u));
}

// Where output j of u lies among t elements.
fn place(j: u32, t: u32, u: u32) -> Place {
    let num = distance(j, t, u);
    let den = parts(u);
    return Place(num / den, num % den, den);
}

fn weight(p: Place) -> f32 {
    return f32(p.num) / f32(p.den);
}

// Between two neighbouring pixels of a row.
fn across(at: u32, p: Place) -> f32 {
    let low = f32(x[at]);
    if (p.num == 0u) { return low; }
    return low + weight(p) * (f32(x[at + params.c]) - low);
}

fn across4(at: u32, p: Place) -> vec4<f32> {
    let low = vec4<f32>(x4[at]);
    if (p.num == 0u) { return low; }
    return low + weight(p) * (vec4<f32>(x4[at + params.c / 4u]) - low);
}

// One invocation an element, a row of workgroups each output row.
@compute @workgroup_size(WG)
fn scalar(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    if (index >= params.columns * params.c) { return; }
    let down = place(wid.y, params.height, params.rows);
    let right = place(index / params.c, params.width, params.columns);
    let at = (down.index * params.width + right.index) * params.c + index % params.c;
    var value = across(at, right);
    if (down.num > 0u) {
        value += weight(down) * (across(at + params.width * params.c, right) - value);
    }
    y[wid.y * params.columns * params.c + index] = to_storage(value);
}

// One invocation four channels of a pixel: c % 4 = 0.
@compute @workgroup_size(WG)
fn vector(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    let c = params.c / 4u;
    if (index >= params.columns * c) { return; }
    let down = place(wid.y, params.height, params.rows);
    let right = place(index / c, params.width, params.columns);
    let at = (down.index * params.width + right.index) * c + index % c;
    var value = across4(at, right);
    if (down.num > 0u) {
        value += weight(down) * (across4(at + params.width * c, right) - value);
    }
    y4[wid.y * params.columns * c + index] = to_storage4(value);
}

// The first output of u >= t that lies at element i of t or behind it.
fn first_from(i: u32, t: u32, u: u32) -> u32 {
    if (i == 0u || i >= t) { return select(0u, u, i > 0u); }
    if (CORNERS == 1u) { return (i * (u - 1u) + t - 2u) / (t - 1u); }
    let centre = (2u * i + 1u) * u;
    return (centre - min(centre, t) + 2u * t - 1u) / (2u * t);
}

fn between(low: vec4<f32>, high: vec4<f32>, num: u32, den: u32) -> vec4<f32> {
    return select(low + f32(num) / f32(den) * (high - low), low, num == 0u);
}

// One invocation four channels of all output rows between two rows of x, COLUMNS columns of them:
// it walks along both rows and loads each pixel once. Enlargements only, c % 4 = 0.
@compute @workgroup_size(WG)
fn strip(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let p = params;
    let c = p.c / 4u;
    let index = wid.x * WG + lane;
    if (index >= p.height * c) { return; }
    let upper = index / c;
    let channel = index - upper * c;
    let above = upper * p.width * c + channel;
    let below = min(upper + 1u, p.height - 1u) * p.width * c + channel;
    let first_row = first_from(upper, p.height, p.rows);
    let end_row = first_from(upper + 1u, p.height, p.rows);
    let first = wid.y * COLUMNS;
    let across = parts(p.columns);
    let down = parts(p.rows);
    var left = place(first, p.width, p.columns).index;
    let right = min(left + 1u, p.width - 1u);
    var above_left = vec4<f32>(x4[above + left * c]);
    var below_left = vec4<f32>(x4[below + left * c]);
    var above_right = vec4<f32>(x4[above + right * c]);
    var below_right = vec4<f32>(x4[below + right * c]);
    for (var column = first; column < min(first + COLUMNS, p.columns); column++) {
        let num = distance(column, p.width, p.columns);
        while (num >= (left + 1u) * across) {
            left++;
            let next = min(left + 1u, p.width - 1u) * c;
            above_left = above_right;
            below_left = below_right;
            above_right = vec4<f32>(x4[above + next]);
            below_right = vec4<f32>(x4[below + next]);
        }
        let upper_edge = between(above_left, above_right, num - left * across, across);
        let lower_edge = between(below_left, below_right, num - left * across, across);
        for (var row = first_row; row < end_row; row++) {
            let deep = distance(row, p.height, p.rows) - upper * down;
            let value = between(upper_edge, lower_edge, deep, down);
            y4[(row * p.columns + column) * c + channel] = to_storage4(value);
        }
    }
}

// Elements first to end - 1 of t under the triangle around output j of u. Distances are in 1/(2u)
// of an element: element i is at (2i + 1) * u, the centre at (2j + 1) * t, the weight is `reach`
// less the distance.
struct Span { first: u32, end: u32, centre: u32, reach: u32, step: u32 }

fn span(j: u32, t: u32, u: u32) -> Span {
    let centre = (2u * j + 1u) * t;
    let reach = 2u * max(t, u);
    let begin = centre - min(centre, reach + u);
    let first = select(begin / (2u * u) + 1u, 0u, centre < reach + u);
    return Span(first, min((centre + reach + u - 1u) / (2u * u), t), centre, reach, u);
}

fn share(s: Span, i: u32) -> u32 {
    let at = (2u * i + 1u) * s.step;
    return s.reach - (max(at, s.centre) - min(at, s.centre));
}

// Along rows: one invocation an element of `wide`[height, columns, c].
@compute @workgroup_size(WG)
fn shrink_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    if (index >= params.columns * params.c) { return; }
    let s = span(index / params.c, params.width, params.columns);
    var sum = 0.0;
    var total = 0u;
    for (var i = s.first; i < s.end; i++) {
        let at = (wid.y * params.width + i) * params.c + index % params.c;
        sum += f32(share(s, i)) * f32(x[at]);
        total += share(s, i);
    }
    wide[wid.y * params.columns * params.c + index] = sum / f32(total);
}

@compute @workgroup_size(WG)
fn shrink_rows4(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let index = wid.x * WG + lane;
    let c = params.c / 4u;
    if (index >= params.columns * c) { return; }
    let s = span(index / c, params.width, params.columns);
    var sum = vec4<f32>();
    var total = 0u;
    for (var i = s.first; i < s.end; i++) {
        sum += f32(share(s, i)) * vec4<f32>(x4[(wid.y * params.width + i) * c + index % c]);
        total += share(s, i);
    }
    wide4[wid.y * params.columns * c + index] = sum / f32(total);
}

// Along columns, from `wide` to y.
@compute @workgroup_size(WG)
fn shrink_columns(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wid.x * WG + lane;
    let row = params.columns * params.c;
    if (index >= row) { return; }
    let s = span(wid.y, params.height, params.rows);
    var sum = 0.0;
    var total = 0u;
    for (var i = s.first; i < s.end; i++) {
        sum += f32(share(s, i)) * wide[i * row + index];
        total += share(s, i);
    }
    y[wid.y * row + index] = to_storage(sum / f32(total));
}

@compute @workgroup_size(WG)
fn shrink_columns4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let index = wid.x * WG + lane;
    let row = params.columns * (params.c / 4u);
    if (index >= row) { return; }
    let s = span(wid.y, params.height, params.rows);
    var sum = vec4<f32>();
    var total = 0u;
    for (var i = s.first; i < s.end; i++) {
        sum += f32(share(s, i)) * wide4[i * row + index];
        total += share(s, i);
    }
    y4[wid.y * row + index] = to_storage4(sum / f32(total));
}
