// Dynamic time warping of a matrix of costs (Sakoe and Chiba, 1978):
// D[i, j] = x[i, j] + min(D[i - 1, j - 1], D[i - 1, j], D[i, j - 1]).
// x[batch, rows, columns] -> cost[batch] (f32), moves[batch * rows, words] of sixteen 2-bit codes,
// length[batch]: the cells on the path from the last cell back to the first.
//
// Ties follow openai/whisper's triton_ops.py: the diagonal if no other is smaller, else up (from
// row i - 1) if left is not smaller, else left. `serial` goes row by row in one invocation,
// `wavefront` gives every invocation ROWS rows and lets each follow the one above a column behind.

struct Params { batch: u32, rows: u32, columns: u32, words: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(2) var<storage, read_write> cost: array<f32>;
@group(0) @binding(3) var<storage, read_write> moves: array<u32>;
@group(0) @binding(4) var<storage, read_write> length: array<u32>;
@group(0) @binding(5) var<storage, read_write> above: array<f32>;

override WG: u32 = 256u;
override ROWS: u32 = 1u;
const MOST_ROWS: u32 = 8u;

const DIAGONAL: u32 = 0u;
const UP: u32 = 1u;
const LEFT: u32 = 2u;
const FIRST: u32 = 3u; // the first cell, which no other precedes

struct Choice { cost: f32, code: u32 }

// The predecessor of cell (i, j); the arguments outside the matrix are not looked at.
fn choose(i: u32, j: u32, diagonal: f32, up: f32, left: f32) -> Choice {
    if (i == 0u && j == 0u) { return Choice(0.0, FIRST); }
    if (i == 0u) { return Choice(left, LEFT); }
    if (j == 0u) { return Choice(up, UP); }
    if (diagonal <= up && diagonal <= left) { return Choice(diagonal, DIAGONAL); }
    if (up <= left) { return Choice(up, UP); }
    return Choice(left, LEFT);
}

// Column j completes a word of codes.
fn ends_word(j: u32) -> bool {
    return j % 16u == 15u || j + 1u == params.columns;
}

// One invocation a matrix; `above`[columns, batch] holds the row before.
@compute @workgroup_size(WG)
fn serial(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = (wid.x + wid.y * groups.x) * WG + lane;
    if (b >= params.batch) { return; }
    for (var i = 0u; i < params.rows; i++) {
        let row = b * params.rows + i;
        var diagonal = 0.0;
        var left = 0.0;
        var word = 0u;
        for (var j = 0u; j < params.columns; j++) {
            var up = 0.0;
            if (i > 0u) { up = above[j * params.batch + b]; }
            let best = choose(i, j, diagonal, up, left);
            left = best.cost + f32(x[row * params.columns + j]);
            diagonal = up;
            above[j * params.batch + b] = left;
            word |= best.code << (2u * (j % 16u));
            if (ends_word(j)) {
                moves[row * params.words + j / 16u] = word;
                word = 0u;
            }
        }
        if (i + 1u == params.rows) { cost[b] = left; }
    }
}

// The lowest row of every invocation, of this step and of the one before.
var<workgroup> edge: array<f32, 2u * WG>;

// One workgroup a matrix, one barrier a step.
@compute @workgroup_size(WG)
fn wavefront(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = wid.x + wid.y * groups.x;
    if (b >= params.batch) { return; }
    let lanes = (params.rows + ROWS - 1u) / ROWS;
    var left: array<f32, MOST_ROWS>;
    var word: array<u32, MOST_ROWS>;
    var corner = 0.0;
    for (var step = 0u; step < lanes + params.columns - 1u; step++) {
        let j = step - min(step, lane);
        if (lane < lanes && step >= lane && j < params.columns) {
            // Written in the step before, when the invocation above was at this column.
            let over = edge[(step % 2u) * WG + max(lane, 1u) - 1u];
            var diagonal = corner;
            var up = over;
            for (var k = 0u; k < ROWS; k++) {
                let i = lane * ROWS + k;
                if (i >= params.rows) { break; }
                let row = b * params.rows + i;
                let best = choose(i, j, diagonal, up, left[k]);
                diagonal = left[k];
                up = best.cost + f32(x[row * params.columns + j]);
                left[k] = up;
                word[k] |= best.code << (2u * (j % 16u));
                if (ends_word(j)) {
                    moves[row * params.words + j / 16u] = word[k];
                    word[k] = 0u;
                }
                if (i + 1u == params.rows && j + 1u == params.columns) { cost[b] = up; }
            }
            corner = over;
            edge[((step + 1u) % 2u) * WG + lane] = up;
        }
        workgroupBarrier();
    }
}

// Follows the moves back from the last cell: one invocation a matrix.
@compute @workgroup_size(WG)
fn trace(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = (wid.x + wid.y * groups.x) * WG + lane;
    if (b >= params.batch) { return; }
    var i = params.rows - 1u;
    var j = params.columns - 1u;
    var count = 1u;
    while (i + j > 0u && count < params.rows + params.columns) {
        let word = moves[(b * params.rows + i) * params.words + j / 16u];
        let code = (word >> (2u * (j % 16u))) & 3u;
        if (code != LEFT) { i = max(i, 1u) - 1u; }
        if (code != UP) { j = max(j, 1u) - 1u; }
        count++;
    }
    length[b] = count;
}
