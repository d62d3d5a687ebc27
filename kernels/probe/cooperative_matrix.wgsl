// Peak of cooperative matrices: each subgroup adds the product of two matrices that it holds to a
// third, `trips` times, in four independent chains. a[2, SIDE, SIDE], b[2, SIDE, SIDE],
// c[blocks, 4, SIDE, SIDE] -> y of the same shape, y = c + trips * a b: chain 2 i + j of a block
// multiplies matrix i of a with matrix j of b. A workgroup has BLOCKS blocks, which its subgroups
// share whatever their number.
//
// The prelude gives SIDE and the types Left, Right and Total of the device's configuration.

struct Params { groups: u32, trips: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<T>;
@group(0) @binding(2) var<storage, read> b: array<T>;
@group(0) @binding(3) var<storage, read> c: array<Sum>;
@group(0) @binding(4) var<storage, read_write> y: array<Sum>;

// A multiple of every subgroup size.
override WG: u32 = 128u;
const BLOCKS: u32 = 16u;
const AREA: u32 = SIDE * SIDE;

@compute @workgroup_size(WG)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let group = wid.x + wid.y * groups.x;
    if (group >= params.groups) { return; }
    let a0 = coopLoadT<Left>(&a[0], SIDE);
    let a1 = coopLoadT<Left>(&a[AREA], SIDE);
    let b0 = coopLoadT<Right>(&b[0], SIDE);
    let b1 = coopLoadT<Right>(&b[AREA], SIDE);
    for (var block = subgroup; block < BLOCKS; block += subgroups) {
        let at = (group * BLOCKS + block) * 4u * AREA;
        var c00 = coopLoadT<Total>(&c[at], SIDE);
        var c01 = coopLoadT<Total>(&c[at + AREA], SIDE);
        var c10 = coopLoadT<Total>(&c[at + 2u * AREA], SIDE);
        var c11 = coopLoadT<Total>(&c[at + 3u * AREA], SIDE);
        for (var i = 0u; i < params.trips; i++) {
            c00 = coopMultiplyAdd(a0, b0, c00);
            c01 = coopMultiplyAdd(a0, b1, c01);
            c10 = coopMultiplyAdd(a1, b0, c10);
            c11 = coopMultiplyAdd(a1, b1, c11);
        }
        coopStoreT(c00, &y[at], SIDE);
        coopStoreT(c01, &y[at + AREA], SIDE);
        coopStoreT(c10, &y[at + 2u * AREA], SIDE);
        coopStoreT(c11, &y[at + 3u * AREA], SIDE);
    }
}
