//! Criterion over the registry, on the best adapter and with the device's own clock where it has
//! one. Never edited for a new kernel.
//!
//! `cargo bench -- layer_norm` measures what matches; the tool itself (`fusebench run`) is the
//! better judge, since criterion knows neither ceilings nor accuracy.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use fusebench::gpu::{Checks, Selector};
use fusebench::kernel::{Preset, Suits};
use fusebench::suite::{Session, Sources, cells};

/// Seed of the input data.
const SEED: u32 = 1;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10)
        .configure_from_args();
    // `cargo test --benches` only asks whether the benchmarks start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let session =
        Session::open(&Selector::Best, Sources::default(), SEED, Checks::Safe, Arc::default())
            .unwrap_or_else(|error| panic!("{error}"));
    let emulated = session.gpu().report.emulated;
    for cell in cells(Preset::Models) {
        if (emulated && cell.variant.suits == Suits::Gpu) || !session.supports(&cell) {
            continue;
        }
        let mut group = criterion.benchmark_group(cell.entry.family);
        group.throughput(Throughput::Bytes(cell.work().bytes as u64));
        // Prepared on the first iteration, so that a filter skips what it does not name.
        let mut prepared = None;
        group.bench_function(cell.id(), |bencher| {
            let ready = prepared.get_or_insert_with(|| {
                session.prepare(&cell).unwrap_or_else(|error| panic!("{}: {error}", cell.id()))
            });
            bencher.iter_custom(|iterations| {
                let batch = iterations.clamp(1, 1000) as u32;
                let seconds = session.time(ready, batch).unwrap_or_else(|error| panic!("{error}"));
                // One pass holds at most a thousand dispatches; longer requests are scaled.
                Duration::from_secs_f64(seconds * iterations as f64)
            });
        });
        group.finish();
    }
    criterion.final_summary();
}
