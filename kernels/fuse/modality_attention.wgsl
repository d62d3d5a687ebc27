// Attention over modalities: scores s_m = scale * query . x_m, weights softmax(s) over the present
// modalities of each sample, y = sum of weight_m * x_m.
// x[modalities, batch, d], query[d], present[batch] (bit m) -> y[batch, d].
// An absent modality is never read; a sample without any gives zeros.
//
// Where d % 4 = 0 `group4` reads and writes vectors through the views x4, query4 and y4.

struct Params { modalities: u32, batch: u32, d: u32, scale: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read> query: array<T>;
@group(0) @binding(2) var<storage, read> query4: array<T4>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;
@group(0) @binding(4) var<storage, read_write> y4: array<T4>;

override WG: u32 = 64u;
// A constant, so that loops over modalities unroll and their weights stay in registers.
override MODALITIES: u32 = 8u;

// Below every score.
const LOWEST: f32 = -3.0e38;

fn is_present(mask: u32, m: u32) -> bool {
    return ((mask >> m) & 1u) == 1u;
}

// Where an embedding starts in x.
fn start_of(m: u32, row: u32) -> u32 {
    return (m * params.batch + row) * params.d;
}

// Scores to weights that sum to 1 over the present modalities.
fn softmax(weights: ptr<function, array<f32, 8>>, mask: u32) {
    var peak = LOWEST;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) { peak = max(peak, (*weights)[m]); }
    }
    var total = 0.0;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            (*weights)[m] = exp((*weights)[m] - peak);
            total += (*weights)[m];
        }
    }
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) { (*weights)[m] /= total; }
    }
}

// One invocation a sample: no barrier, the choice for CPU adapters.
@compute @workgroup_size(WG)
fn thread(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = (wid.x + wid.y * groups.x) * WG + lane;
    if (row >= params.batch) { return; }
    let mask = present[row];
    var weights: array<f32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            let start = start_of(m, row);
            var sum = 0.0;
            for (var i = 0u; i < params.d; i++) { sum += f32(query[i]) * f32(x[start + i]); }
            weights[m] = sum * params.scale;
        }
    }
    softmax(&weights, mask);
    for (var i = 0u; i < params.d; i++) {
        var sum = 0.0;
        for (var m = 0u; m < MODALITIES; m++) {
            if (is_present(mask, m)) { sum += weights[m] * f32(x[start_of(m, row) + i]); }
        }
        y[row * params.d + i] = to_storage(sum);
    }
}

var<workgroup> partial: array<f32, WG>;

// Sum over the workgroup, the same bits in every invocation.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    partial[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { partial[lane] += partial[lane + half]; }
    }
    let sum = workgroupUniformLoad(&partial[0]);
    workgroupBarrier();
    return sum;
}

// One workgroup a sample, coalesced loads.
@compute @workgroup_size(WG)
fn group(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch) { return; }
    let mask = present[row];
    var weights: array<f32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            let start = start_of(m, row);
            var sum = 0.0;
            for (var i = lane; i < params.d; i += WG) { sum += f32(query[i]) * f32(x[start + i]); }
            weights[m] = reduce_sum(lane, sum) * params.scale;
        }
    }
    softmax(&weights, mask);
    for (var i = lane; i < params.d; i += WG) {
        var sum = 0.0;
        for (var m = 0u; m < MODALITIES; m++) {
            if (is_present(mask, m)) { sum += weights[m] * f32(x[start_of(m, row) + i]); }
        }
        y[row * params.d + i] = to_storage(sum);
    }
}

@compute @workgroup_size(WG)
fn group4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = wid.x + wid.y * groups.x;
    if (row >= params.batch) { return; }
    let mask = present[row];
    let quads = params.d / 4u;
    var weights: array<f32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(mask, m)) {
            let start = start_of(m, row) / 4u;
            var sum = 0.0;
            for (var q = lane; q < quads; q += WG) {
                sum += dot(vec4<f32>(query4[q]), vec4<f32>(x4[start + q]));
            }
            weights[m] = reduce_sum(lane, sum) * params.scale;
        }
    }
    softmax(&weights, mask);
    for (var q = lane; q < quads; q += WG) {
        var sum = vec4<f32>();
        for (var m = 0u; m < MODALITIES; m++) {
            if (is_present(mask, m)) {
                sum += weights[m] * vec4<f32>(x4[start_of(m, row) / 4u + q]);
            }
        }
        y4[row * quads + q] = to_storage4(sum);
    }
}
