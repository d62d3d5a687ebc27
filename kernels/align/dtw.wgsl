// Dynamic time warping of a matrix of costs (Sakoe and Chiba, 1978):
// D[i, j] = x[i, j] + min(D[i - 1, j - 1], D[i - 1, j], D[i, j - 1])
// with x times a sign, so that similarities can be warped along too.
// x[batch, rows, columns] -> cost[batch] (f32), moves[batch * rows, words] of sixteen 2-bit codes,
// length[batch]: the cells on the path from the last cell back to the first.
//
// Ties follow openai/whisper's triton_ops.py: the diagonal if no other is smaller, else up (from
// row i - 1) if left is not smaller, else left. `serial` goes row by row in one invocation,
// `wavefront` gives every invocation ROWS rows and lets each follow the one above a column behind.

struct Params { batch: u32, rows: u32, columns: u32, words: u32, sign: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<T>;
@group(0) @binding(1) var<storage, read> x4: array<T4>;
@group(0) @binding(2) var<storage, read_write> cost: array<f32>;
@group(0) @binding(3) var<storage, read_write> moves: array<u32>;
@group(0) @binding(4) var<storage, read_write> length: array<u32>;
@group(0) @binding(5) var<storage, read_write> above: array<f32>;
@group(0) @binding(5) var<storage, read_write> above4: array<vec4<f32>>;

override WG: u32 = 256u;
override ROWS: u32 = 1u;
const MOST_ROWS: u32 = 8u;
override BEGIN: u32 = 0u;
override END: u32 = 0u;

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

// Where a row has got to: D in the row before and in this one, and the codes so far.
struct Cursor { diagonal: f32, left: f32, word: u32 }

fn advance(c: ptr<function, Cursor>, b: u32, i: u32, j: u32) {
    if (j >= params.columns) { return; }
    let at = j * params.batch + b;
    var up = 0.0;
    if (i > 0u) { up = above[at]; }
    let best = choose(i, j, (*c).diagonal, up, (*c).left);
    let sum = best.cost + params.sign * f32(x[(b * params.rows + i) * params.columns + j]);
    above[at] = sum;
    *c = Cursor(up, sum, (*c).word | (best.code << (2u * (j % 16u))));
}

fn advance4(c: ptr<function, Cursor>, b: u32, i: u32, j: u32) {
    advance(c, b, i, j);
    advance(c, b, i, j + 1u);
    advance(c, b, i, j + 2u);
    advance(c, b, i, j + 3u);
}

// One invocation a matrix, rows BEGIN to END - 1; `above`[columns, batch] holds the row before.
// A turn of the inner loop is a word of codes, and the rows of a dispatch are so many that all its
// turns stay below 65,535, where llvmpipe leaves loops.
@compute @workgroup_size(WG)
fn serial(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = (wid.x + wid.y * groups.x) * WG + lane;
    if (b >= params.batch) { return; }
    for (var i = BEGIN; i < END; i++) {
        let row = b * params.rows + i;
        var c = Cursor(0.0, 0.0, 0u);
        for (var w = 0u; w < params.words; w++) {
            c.word = 0u;
            advance4(&c, b, i, 16u * w);
            advance4(&c, b, i, 16u * w + 4u);
            advance4(&c, b, i, 16u * w + 8u);
            advance4(&c, b, i, 16u * w + 12u);
            moves[row * params.words + w] = c.word;
        }
        if (i + 1u == params.rows) { cost[b] = c.left; }
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
                up = best.cost + params.sign * f32(x[row * params.columns + j]);
                left[k] = up;
                word[k] |= best.code << (2u * (j % 16u));
                if (j % 16u == 15u || j + 1u == params.columns) {
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

// Eight rows at a time, one for each of the eight invocations of a subgroup, each four columns
// behind the one above it, from which it gets what it needs without going through memory.
// `above4`[batch, ceil(columns / 4)] holds the last row of the eight before.

// What a row knows of the columns before: its last four cells, and D above the last one.
var<private> cells: vec4<f32>;
var<private> corner: f32;
var<private> codes: u32;

// Cell (i, j), a step for every invocation at once, so without a branch.
fn step(i: u32, j: u32, diagonal: f32, up: f32, left: f32, own: f32) -> f32 {
    var code = select(select(LEFT, UP, up <= left), DIAGONAL, diagonal <= up && diagonal <= left);
    code = select(code, UP, j == 0u);
    code = select(code, select(LEFT, FIRST, j == 0u), i == 0u);
    let before = select(select(left, up, code == UP), diagonal, code == DIAGONAL);
    codes |= select(0u, code << (2u * (j % 16u)), j < params.columns);
    return select(before, 0.0, code == FIRST) + params.sign * own;
}

// Columns 4 * quad to 4 * quad + 3 of row i; those beyond the row change nothing that is kept.
fn advance_row(i: u32, quad: u32, up: vec4<f32>, own: vec4<f32>) {
    let j = 4u * quad;
    cells.x = step(i, j, corner, up.x, cells.w, own.x);
    cells.y = step(i, j + 1u, up.x, up.y, cells.x, own.y);
    cells.z = step(i, j + 2u, up.y, up.z, cells.y, own.z);
    cells.w = step(i, j + 3u, up.z, up.w, cells.z, own.w);
    corner = up.w;
}

// Stores what others read: codes where a word is full, the last row of eight, the least cost.
fn keep_row(b: u32, i: u32, quad: u32, lane: u32) {
    let quads = (params.columns + 3u) / 4u;
    if (quad % 4u == 3u || quad + 1u == quads) {
        moves[(b * params.rows + i) * params.words + quad / 4u] = codes;
        codes = 0u;
    }
    if (lane == 7u) { above4[b * quads + quad] = cells; }
    if (i + 1u == params.rows && quad + 1u == quads) {
        cost[b] = cells[(params.columns - 1u) % 4u];
    }
}

// What the invocation above had for the columns that are next here: four columns ago.
fn row_above(b: u32, i: u32, quad: u32, lane: u32) -> vec4<f32> {
    var up = subgroupShuffle(cells, max(lane, 1u) - 1u);
    let quads = (params.columns + 3u) / 4u;
    if (lane == 0u && i > 0u) { up = above4[b * quads + min(quad, quads - 1u)]; }
    return up;
}

@compute @workgroup_size(8)
fn subgroup_rows4(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = wid.x + wid.y * groups.x;
    if (b >= params.batch) { return; }
    let quads = params.columns / 4u;
    for (var first = BEGIN; first < END; first += 8u) {
        let i = first + lane;
        for (var turn = 0u; turn < quads + 7u; turn++) {
            let quad = turn - min(turn, lane);
            let up = row_above(b, i, quad, lane);
            if (turn >= lane && quad < quads && i < params.rows) {
                advance_row(i, quad, up, vec4<f32>(x4[(b * params.rows + i) * quads + quad]));
                keep_row(b, i, quad, lane);
            }
        }
        storageBarrier();
    }
}

@compute @workgroup_size(8)
fn subgroup_rows(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let b = wid.x + wid.y * groups.x;
    if (b >= params.batch) { return; }
    let quads = (params.columns + 3u) / 4u;
    for (var first = BEGIN; first < END; first += 8u) {
        let i = first + lane;
        for (var turn = 0u; turn < quads + 7u; turn++) {
            let quad = turn - min(turn, lane);
            let up = row_above(b, i, quad, lane);
            if (turn >= lane && quad < quads && i < params.rows) {
                let base = (b * params.rows + i) * params.columns;
                let at = base + min(4u * quad + vec4<u32>(0u, 1u, 2u, 3u),
                    vec4<u32>(params.columns - 1u));
                advance_row(i, quad, up,
                    vec4<f32>(f32(x[at.x]), f32(x[at.y]), f32(x[at.z]), f32(x[at.w])));
                keep_row(b, i, quad, lane);
            }
        }
        storageBarrier();
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
