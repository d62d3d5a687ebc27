//! Linear layers of a batch with their own weights: modality experts, ranks, heads.

use ndarray::{Array2, Ix1};

use crate::accuracy::{Scalar, Tracked};
use crate::inputs::{Distribution, Generator, Inputs, Params, Tensor};
use crate::kernel::{
    Buffer, Dtype, Kernel, Launch, Mutant, Need, Operand, Operands, Preset, Problem, Shape, Spec,
    Suits, Variant, Work,
};
use crate::reference::{Rows, by_rows};

pub const KERNEL: &dyn Kernel = &LinearBatched;

struct LinearBatched;

const VARIANTS: &[Variant] = &[
    // No barrier. Eight invocations fill one vector unit of a CPU adapter.
    Variant::new("register", &[("WG", 8.0)]),
    Variant {
        suits: Suits::Gpu,
        refuses: |shape| {
            (!has_vectors(shape, 4)).then(|| format!("k is {}, not a multiple of 4", shape["k"]))
        },
        ..Variant::new("tiled", &[])
    },
    Variant {
        needs: &[Need::Subgroup, Need::SubgroupOf8],
        refuses: |shape| {
            let few = shape["m"] < MIN_BROADCAST_ROWS;
            few.then(|| format!("{} rows, made for {MIN_BROADCAST_ROWS} and more", shape["m"]))
        },
        ..Variant::new("broadcast", &[])
    },
];

/// As in `linear`.
const MIN_BROADCAST_ROWS: usize = 4;

const MUTANTS: &[Mutant] = &[
    Mutant::new("lower half of eight repeated", "add_rows(lower, lower_row[1], high)", {
        "add_rows(lower, lower_row[0], high)"
    }),
    Mutant::new("weights of the first batch", "i * params.w_stride", "0u * params.w_stride"),
    Mutant::new(
        "weights of the first batch, as vectors",
        "i * (params.w_stride / 4u)",
        "0u * (params.w_stride / 4u)",
    ),
    Mutant::new("padding of x not skipped", "i * params.x_stride", "i * params.m * params.k"),
    Mutant::new("bias shared", "b[i * params.b_stride + col]", "b[col]"),
    Mutant::new("last column dropped", "col < params.n)", "col + 1u < params.n)"),
    Mutant::new(
        "last vector along k dropped",
        "q < params.k / 4u; q++",
        "q + 1u < params.k / 4u; q++",
    ),
    Mutant::new("rest of k dropped", "q < (params.k + 3u) / 4u", "q < params.k / 4u"),
    Mutant::new("tile rows overlap", "lane / 16u * 5u + i", "lane / 16u * 4u + i"),
    Mutant::new("a row of another invocation", "Broadcast(row, 5u)", "Broadcast(row, 4u)"),
    Mutant::new("lower rows like the upper", "row4(i, row + 8u + lane", "row4(i, row + lane"),
];

const OPERANDS: &[Operand] =
    &[Operand::new("x", "b m k"), Operand::new("w", "b n k"), Operand::new("b", "b n")];

impl Kernel for LinearBatched {
    fn spec(&self) -> Spec {
        Spec {
            summary: "project every member of a batch by its own weight matrix and bias",
            difficulties: &[1, 5],
            dtypes: &[Dtype::F32, Dtype::F16],
            variants: VARIANTS,
            inputs: &[Distribution::Normal, Distribution::Integers, Distribution::Offset],
            operands: Operands::of(OPERANDS).without(&["broadcast", "shared", "padded"]),
            mutants: MUTANTS,
        }
    }

    fn shapes(&self, preset: Preset) -> Vec<Shape> {
        match preset {
            Preset::Smoke => smoke(),
            Preset::Models => vec![
                of(2, 197, 3072, 768).from("BEiT-3-base multiway experts"),
                of(12, 32, 257, 64).from("BLIP-2 Q-Former scores by head"),
                of(32, 128, 128, 33).tag("broadcast").from("MultiBench LRTF, 32 ranks"),
                of(3, 1200, 30, 30).from("MulT MOSEI, three aligned modalities"),
            ],
            Preset::Sweep => (0..=7).map(|log2| of(1 << log2, 64, 512, 512)).collect(),
        }
    }

    fn inputs(&self, shape: &Shape, generator: &Generator) -> Inputs {
        let (m, n, k, b) = (shape["m"], shape["n"], shape["k"], shape["b"]);
        let [x_stride, w_stride, b_stride] = strides(shape);
        let params = Params::new().size("m", m).size("n", n).size("k", k);
        let params = params.size("x_stride", x_stride).size("w_stride", w_stride);
        // Keeps the outputs of the size of the inputs, as trained weights do.
        let scale = (k.max(1) as f32).sqrt().recip();
        let flat = |own: usize, stride: usize| [if stride == 0 { own } else { b * stride }];
        let padded = |tensor: Tensor, own: usize, stride: usize| {
            tensor.with_garbage(|index| stride > 0 && index % stride >= own)
        };
        let x = generator.data("x", &flat(m * k, x_stride));
        let w = generator.weight("w", &flat(n * k, w_stride), scale);
        let bias = generator.weight("b", &flat(n, b_stride), 1.0);
        Inputs::new(
            params.size("b_stride", b_stride).size("y_stride", m * n),
            vec![padded(x, m * k, x_stride), padded(w, n * k, w_stride), padded(bias, n, b_stride)],
        )
    }

    fn launch(&self, shape: &Shape, dtype: Dtype, variant: &Variant) -> Launch {
        let (b, m, n) = (shape["b"], shape["m"], shape["n"]);
        let (entry, rows, cols) = match (variant.name, has_vectors(shape, 4)) {
            // In f32 the sums of a tile would leave registers, as in `linear`.
            ("broadcast", true) if dtype == Dtype::F16 && has_vectors(shape, 8) => {
                ("broadcast8", 16, 64)
            }
            ("register", true) => ("registers", 8, 8 * variant.constant("WG")),
            ("register", false) => ("registers_any", 4, 4 * variant.constant("WG")),
            ("broadcast", true) => ("broadcast", 16, 64),
            ("broadcast", false) => ("broadcast_any", 16, 32),
            _ => ("tiled", 64, 64),
        };
        let grid = [n.div_ceil(cols) as u32, m.div_ceil(rows) as u32, b as u32];
        let mut launch = Launch::single(Buffer::new("y", dtype.storage(), b * m, n), grid);
        launch.dispatches[0].entry = entry;
        launch
    }

    fn work(&self, shape: &Shape, dtype: Dtype, _variant: &Variant) -> Work {
        let (b, m, n, k) = (shape["b"], shape["m"], shape["n"], shape["k"]);
        let [x_stride, w_stride, b_stride] = strides(shape);
        let read = |own: usize, stride: usize| if stride == 0 { own } else { b * own };
        let inputs = read(m * k, x_stride) + read(n * k, w_stride) + read(n, b_stride);
        Work::new(b * m * n * (2 * k + 1), dtype.bytes() * (inputs + b * m * n))
    }

    fn reference(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<f64>> {
        linear_batched(problem, rows)
    }

    fn tracked(&self, problem: &Problem, rows: &Rows) -> Vec<Array2<Tracked>> {
        linear_batched(problem, rows)
    }
}

fn of(b: usize, m: usize, n: usize, k: usize) -> Shape {
    Shape::new(&[("b", b), ("m", m), ("n", n), ("k", k)])
}

fn smoke() -> Vec<Shape> {
    vec![
        of(1, 1, 1, 1),
        of(3, 7, 30, 74),
        of(2, 17, 31, 33).tag("padded"),
        of(3, 9, 65, 64).tag("padded"),
        of(2, 33, 65, 132),
        of(3, 19, 70, 72),
        of(3, 5, 33, 20).tag("shared"),
        of(2, 9, 33, 24).tag("shared"),
        of(4, 5, 33, 35).tag("broadcast"),
        of(2, 3, 5, 0),
        of(2, 0, 5, 8),
        of(0, 3, 5, 8),
    ]
}

/// Elements between the matrices of x, w and b. `broadcast` projects one x by all weights, `shared`
/// all x by one weight matrix, and `padded` leaves unused elements between matrices.
fn strides(shape: &Shape) -> [usize; 3] {
    let (m, n, k) = (shape["m"], shape["n"], shape["k"]);
    match shape.option() {
        Some("broadcast") => [0, n * k, n],
        Some("shared") => [m * k, 0, 0],
        Some("padded") => [m * k + 4, n * k + 8, n + 3],
        _ => [m * k, n * k, n],
    }
}

/// Whether all rows and matrices begin at a multiple of so many elements.
fn has_vectors(shape: &Shape, unit: usize) -> bool {
    let [x_stride, w_stride, _] = strides(shape);
    [shape["k"], x_stride, w_stride].iter().all(|size| size.is_multiple_of(unit))
}

fn linear_batched<S: Scalar>(problem: &Problem, rows: &Rows) -> Vec<Array2<S>> {
    let shape = problem.shape;
    let (b, m, n, k) = (shape["b"], shape["m"], shape["n"], shape["k"]);
    let [x_stride, w_stride, b_stride] = strides(shape);
    let x = problem.inputs.float::<Ix1>("x");
    let w = problem.inputs.float::<Ix1>("w");
    let bias = problem.inputs.float::<Ix1>("b");
    vec![by_rows(rows, b * m, n, |index, mut y| {
        let (member, row) = (index / m, index % m);
        for col in 0..n {
            let from_x = member * x_stride + row * k;
            let from_w = member * w_stride + col * k;
            // One invocation adds all k products, in whatever order its compiler likes.
            let dot = S::dot((0..k).map(|i| (x[from_x + i], w[from_w + i])), k);
            let out = dot + S::exact(f64::from(bias[member * b_stride + col]));
            y[col] = out.store(problem.storage());
        }
    })]
}
