// The cost of a dispatch: one invocation writes one word. y[1].

struct Params { word: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(1)
fn main() {
    y[0] = params.word;
}
