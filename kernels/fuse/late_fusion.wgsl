// Late fusion of the logits x_m of several modalities, for each sample over those present.
// average: y = sum of a_m * x_m / sum of a_m.
// experts: the log-linear opinion pool, y = log softmax(sum of a_m / sum(a) * log softmax(x_m)).
//   The normaliser of an expert shifts all classes alike and cancels; only its maximum is taken
//   off, so that terms stay small.
// vote: 1 for the class that is most often the largest, 0 for the others; between equals the
//   lowest class, as within one modality.
// x[modalities, batch, classes], a[modalities] >= 0, present[batch] (bit m) -> y[batch, classes].
// An absent modality is never read. Without any, or any weight, average and vote give zeros and
// experts -log(classes).

struct Params { modalities: u32, batch: u32, classes: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read> a: array<T>;
@group(0) @binding(3) var<storage, read> present: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<T>;

override WG: u32 = 64u;
override FORM: u32 = 0u; // 0 average, 1 experts, 2 vote
// A constant, so that loops over modalities unroll and their values stay in registers.
override MODALITIES: u32 = 8u;

// Below every logit.
const LOWEST: f32 = -3.0e38;

// What one invocation sees: the classes begin, begin + stride, … of the modalities in mask.
struct Part { row: u32, mask: u32, total: f32, begin: u32, stride: u32 }

// The largest logit of one modality and its lowest class.
struct Best { value: f32, place: u32 }

fn is_present(mask: u32, m: u32) -> bool {
    return ((mask >> m) & 1u) == 1u;
}

fn part_of(row: u32, begin: u32, stride: u32) -> Part {
    let mask = present[row];
    var total = 0.0;
    for (var m = 0u; m < MODALITIES; m++) { if (is_present(mask, m)) { total += f32(a[m]); } }
    // Modalities that weigh nothing together count as absent, except where they only vote.
    return Part(row, select(0u, mask, total > 0.0 || FORM == 2u), total, begin, stride);
}

fn logit(m: u32, row: u32, i: u32) -> f32 {
    return f32(x[(m * params.batch + row) * params.classes + i]);
}

fn best_of(p: Part, m: u32) -> Best {
    var best = Best(LOWEST, params.classes);
    for (var i = p.begin; i < params.classes; i += p.stride) {
        let v = logit(m, p.row, i);
        if (v > best.value) { best = Best(v, i); }
    }
    return best;
}

// The weighted mean of the modalities for one class, each less its value in `peaks`.
fn pooled(p: Part, peaks: array<f32, 8>, i: u32) -> f32 {
    var sum = 0.0;
    for (var m = 0u; m < MODALITIES; m++) {
        if (is_present(p.mask, m)) { sum += f32(a[m]) / p.total * (logit(m, p.row, i) - peaks[m]); }
    }
    return sum;
}

fn pooled_peak(p: Part, peaks: array<f32, 8>) -> f32 {
    var peak = LOWEST;
    for (var i = p.begin; i < params.classes; i += p.stride) {
        peak = max(peak, pooled(p, peaks, i));
    }
    return peak;
}

fn pooled_sum(p: Part, peaks: array<f32, 8>, peak: f32) -> f32 {
    var sum = 0.0;
    for (var i = p.begin; i < params.classes; i += p.stride) {
        sum += exp(pooled(p, peaks, i) - peak);
    }
    return sum;
}

fn write_pool(p: Part, peaks: array<f32, 8>, peak: f32, log_sum: f32) {
    for (var i = p.begin; i < params.classes; i += p.stride) {
        y[p.row * params.classes + i] = to_storage(pooled(p, peaks, i) - peak - log_sum);
    }
}

// The class with most votes; beyond the last class without any.
fn elect(winners: array<u32, 8>, mask: u32) -> u32 {
    var elected = params.classes;
    var most = 0u;
    for (var m = 0u; m < MODALITIES; m++) {
        var votes = 0u;
        for (var n = 0u; n < MODALITIES; n++) {
            let agree = is_present(mask, n) && winners[n] == winners[m];
            if (is_present(mask, m) && agree) { votes++; }
        }
        if (votes > most || (votes == most && votes > 0u && winners[m] < elected)) {
            most = votes;
            elected = winners[m];
        }
    }
    return elected;
}

fn write_vote(p: Part, elected: u32) {
    for (var i = p.begin; i < params.classes; i += p.stride) {
        y[p.row * params.classes + i] = to_storage(select(0.0, 1.0, i == elected));
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
    let p = part_of(row, 0u, 1u);
    var peaks: array<f32, 8>;
    var winners: array<u32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (FORM != 0u && is_present(p.mask, m)) {
            let best = best_of(p, m);
            peaks[m] = best.value;
            winners[m] = best.place;
        }
    }
    if (FORM == 0u) { write_pool(p, peaks, 0.0, 0.0); }
    if (FORM == 1u) {
        let peak = pooled_peak(p, peaks);
        write_pool(p, peaks, peak, log(pooled_sum(p, peaks, peak)));
    }
    if (FORM == 2u) { write_vote(p, elect(winners, p.mask)); }
}

var<workgroup> values: array<f32, WG>;
var<workgroup> places: array<u32, WG>;

// The largest value of the workgroup with its lowest place, the same bits in every invocation.
fn reduce_best(lane: u32, best: Best) -> Best {
    values[lane] = best.value;
    places[lane] = best.place;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) {
            let other = Best(values[lane + half], places[lane + half]);
            let lower = other.value == values[lane] && other.place < places[lane];
            if (other.value > values[lane] || lower) {
                values[lane] = other.value;
                places[lane] = other.place;
            }
        }
    }
    let winner = Best(workgroupUniformLoad(&values[0]), workgroupUniformLoad(&places[0]));
    workgroupBarrier();
    return winner;
}

// Sum over the workgroup, the same bits in every invocation.
fn reduce_sum(lane: u32, value: f32) -> f32 {
    values[lane] = value;
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if (lane < half) { values[lane] += values[lane + half]; }
    }
    return workgroupUniformLoad(&values[0]);
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
    let mask = part_of(row, 0u, 1u).mask;
    let p = part_of(row, lane, WG);
    var peaks: array<f32, 8>;
    var winners: array<u32, 8>;
    for (var m = 0u; m < MODALITIES; m++) {
        if (FORM != 0u && is_present(mask, m)) {
            let best = reduce_best(lane, best_of(p, m));
            peaks[m] = best.value;
            winners[m] = best.place;
        }
    }
    if (FORM == 0u) { write_pool(p, peaks, 0.0, 0.0); }
    if (FORM == 1u) {
        let peak = reduce_best(lane, Best(pooled_peak(p, peaks), 0u)).value;
        write_pool(p, peaks, peak, log(reduce_sum(lane, pooled_sum(p, peaks, peak))));
    }
    if (FORM == 2u) { write_vote(p, elect(winners, p.mask)); }
}
