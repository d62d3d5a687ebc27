//! What differential privacy rests on, looked at on the device: no clipped sample is longer than
//! the bound, and the random words are those of the published generator.

mod common;

use common::{ran, session, skipped};
use fusebench::gpu::{Checks, Step};
use fusebench::inputs::Distribution;
use fusebench::kernel::Preset;
use fusebench::shader;
use fusebench::suite::{Cell, Session, Sources, cells};

/// The clipping bound of the kernels.
const C: f64 = 1.0;

fn smoke(kernel: &str) -> Vec<Cell> {
    let mut all = cells(Preset::Smoke);
    all.retain(|cell| cell.entry.name == kernel && (cell.variant.refuses)(&cell.shape).is_none());
    all
}

/// Runs a cell with another WGSL text and decodes every output.
fn outputs(session: &Session, cell: &Cell, wgsl: &str, data: Distribution) -> Vec<Vec<f64>> {
    let (gpu, launch) = (session.gpu(), cell.launch());
    let inputs = cell.inputs(data, common::SEED);
    let source = shader::source(wgsl, &cell.dialect());
    let program = gpu
        .compile(&source, &launch, cell.variant, inputs.tensors.len(), Checks::Safe)
        .expect("the shader compiles");
    let set = gpu.allocate(&program, &inputs, &launch, &[]).expect("small buffers");
    let steps = [Step { program, set }];
    gpu.run(&steps).expect("it runs");
    let read = gpu.read(&steps[0].set).expect("it can be read");
    let decode = |(output, buffer): (&fusebench::gpu::Output, &fusebench::kernel::Buffer)| {
        buffer.elem.decode(&output.bytes, buffer.len())
    };
    read.iter().zip(&launch.outputs).map(decode).collect()
}

/// Samples that are longer than C, of all samples of all awkward shapes.
fn too_long(session: &Session, change: impl Fn(&str) -> String) -> (usize, usize) {
    let distributions =
        [Distribution::Normal, Distribution::Edges, Distribution::Large, Distribution::Ratio];
    let (mut over, mut total) = (0, 0);
    for cell in smoke("clip_per_sample").iter().filter(|cell| session.supports(cell)) {
        for data in distributions {
            let y = outputs(session, cell, &change(cell.entry.wgsl), data).swap_remove(0);
            for row in y.chunks(cell.shape["p"].max(1)) {
                let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
                total += 1;
                // A NaN is too long as well.
                over += usize::from(!matches!(norm.partial_cmp(&C), Some(order) if order.is_le()));
            }
        }
    }
    (over, total)
}

#[test]
fn no_clipped_sample_is_longer_than_the_bound() {
    let test = "no_clipped_sample_is_longer_than_the_bound";
    let Some(session) = session(test, Sources::default(), Checks::Safe) else { return };
    let (over, total) = too_long(&session, str::to_owned);
    assert!(total > 300, "only {total} samples");
    assert_eq!(over, 0, "of {total} samples");
    ran(test);
}

#[test]
fn without_the_margin_some_samples_are_too_long() {
    let test = "without_the_margin_some_samples_are_too_long";
    let Some(session) = session(test, Sources::default(), Checks::Safe) else { return };
    let (over, total) = too_long(&session, |wgsl| {
        let plain = wgsl.replace("{ scale = LIMIT *", "{ scale = 1.0 *");
        assert_ne!(plain, wgsl, "nothing to change");
        plain
    });
    assert!(over > total / 20, "{over} of {total} samples");
    ran(test);
}

#[test]
fn the_device_draws_the_known_words_of_random123() {
    let test = "the_device_draws_the_known_words_of_random123";
    // The three lines `philox4x32 10` of kat_vectors in Random123 1.14.0: counters and keys of
    // zeros, of ones, and of digits of pi.
    let known: [(&str, [u32; 4]); 3] = [
        ("zeros", [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ("ones", [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        ("pi", [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]),
    ];
    let Some(session) = session(test, Sources::default(), Checks::Safe) else { return };
    let mut seen = 0;
    for cell in smoke("gaussian_noise") {
        let Some((_, words)) = known.iter().find(|(tag, _)| cell.shape.option() == Some(tag))
        else {
            continue;
        };
        let got = outputs(&session, &cell, cell.entry.wgsl, Distribution::Normal).swap_remove(1);
        assert_eq!(got, words.map(f64::from), "{}", cell.id());
        seen += 1;
    }
    if seen < 6 {
        skipped(test, "not every vector is a shape");
    }
    assert_eq!(seen, 6, "three vectors, two strategies");
    ran(test);
}
