// Token embedding: y = table[id] for each token, with POSITIONS plus the row of its place.
// ids[batch * tokens], table[rows, d], positions[tokens, d] (one element where unused)
// -> y[batch * tokens, d], known[batch * tokens].
//
// An id beyond the table gives a row of zeros and known = 0. Without positions rows are copied as
// they are. A slice has a window into the table, the rows of ids first to end; the first slice also
// answers unknown ids. The grid is column blocks by rows, which spill from y into z: no division.

struct Params { tokens: u32, count: u32, rows: u32, d: u32, first: u32, end: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<T>;
@group(0) @binding(2) var<storage, read> table4: array<T4>;
@group(0) @binding(3) var<storage, read> positions: array<T>;
@group(0) @binding(3) var<storage, read> positions4: array<T4>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;
@group(0) @binding(5) var<storage, read_write> known: array<u32>;

override WG: u32 = 64u;
override POSITIONS: bool = false;

// Whether this slice answers for an id.
fn is_here(id: u32) -> bool {
    return select(params.first == 0u, id >= params.first && id < params.end, id < params.rows);
}

// One invocation an element.
@compute @workgroup_size(WG)
fn scalar(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = wid.y + wid.z * groups.y;
    let i = wid.x * WG + lane;
    if (token >= params.count || i >= params.d) { return; }
    let id = ids[token];
    if (!is_here(id)) { return; }
    let is_known = id < params.rows;
    if (i == 0u) { known[token] = select(0u, 1u, is_known); }
    let at = token * params.d + i;
    if (!is_known) {
        y[at] = to_storage(0.0);
    } else if (POSITIONS) {
        let place = positions[token % params.tokens * params.d + i];
        y[at] = to_storage(f32(table[(id - params.first) * params.d + i]) + f32(place));
    } else {
        y[at] = table[(id - params.first) * params.d + i];
    }
}

// One invocation four elements: d % 4 = 0.
@compute @workgroup_size(WG)
fn vector(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = wid.y + wid.z * groups.y;
    let i = wid.x * WG + lane;
    let width = params.d / 4u;
    if (token >= params.count || i >= width) { return; }
    let id = ids[token];
    if (!is_here(id)) { return; }
    let is_known = id < params.rows;
    if (i == 0u) { known[token] = select(0u, 1u, is_known); }
    let at = token * width + i;
    if (!is_known) {
        y4[at] = to_storage4(vec4<f32>());
    } else if (POSITIONS) {
        let place = positions4[token % params.tokens * width + i];
        y4[at] = to_storage4(vec4<f32>(table4[(id - params.first) * width + i]) + vec4<f32>(place));
    } else {
        y4[at] = table4[(id - params.first) * width + i];
    }
}

// One workgroup a row, whose id is looked up once: d % 4 = 0. The grid spills like any other.
@compute @workgroup_size(WG)
fn row(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let token = wid.x + wid.y * groups.x;
    if (token >= params.count) { return; }
    let id = ids[token];
    if (!is_here(id)) { return; }
    let is_known = id < params.rows;
    if (lane == 0u) { known[token] = select(0u, 1u, is_known); }
    let width = params.d / 4u;
    let to = token * width;
    if (!is_known) {
        for (var i = lane; i < width; i += WG) { y4[to + i] = to_storage4(vec4<f32>()); }
        return;
    }
    let origin = (id - params.first) * width;
    if (POSITIONS) {
        let place = token % params.tokens * width;
        for (var i = lane; i < width; i += WG) {
            let v = vec4<f32>(table4[origin + i]) + vec4<f32>(positions4[place + i]);
            y4[to + i] = to_storage4(v);
        }
    } else {
        for (var i = lane; i < width; i += WG) { y4[to + i] = table4[origin + i]; }
    }
}
