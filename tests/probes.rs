//! Whether the ceilings can be trusted: a probe that computes something else, or nothing, gives
//! none.

mod common;

use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{ran, session};
use fusebench::gpu::Checks;
use fusebench::kernels::ALL;
use fusebench::suite::{Found, Sources};

/// Tests that look at times take turns.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The ceilings measured with one passage of a probe's shader replaced; `None` without a device.
fn ceilings(test: &str, path: &str, text: &str, instead: &str) -> Option<Found> {
    let entry = ALL.iter().find(|entry| entry.path() == path).expect("a registered probe");
    assert!(entry.wgsl.contains(text), "{path} has no `{text}`");
    let mut sources = Sources::default();
    sources.replace(path, entry.wgsl.replace(text, instead));
    let mut session = session(test, sources, Checks::Safe)?;
    Some(session.measure_peaks().expect("a device that works"))
}

fn reasons<'a>(found: &'a Found, probe: &str) -> Vec<&'a str> {
    let omitted = found.omitted.iter().filter(|peak| peak.probe == probe);
    omitted.map(|peak| peak.reason.as_str()).collect()
}

#[test]
fn every_probe_of_the_device_gives_a_ceiling_that_grows_with_its_work() {
    let _turn = turn();
    let test = "every_probe_of_the_device_gives_a_ceiling_that_grows_with_its_work";
    // The measurement itself doubles the work of the arithmetic probes and compares the times.
    let Some(mut session) = session(test, Sources::default(), Checks::Safe) else { return };
    let mut missing = Vec::new();
    // Other programs may take the cores in the middle of one measurement, hardly of three.
    for _ in 0..3 {
        let found = session.measure_peaks().expect("a device that works");
        let gives = |probe: &&str| {
            let unstable = reasons(&found, probe).iter().all(|why| why.starts_with("unstable"));
            let mut peaks = found.peaks.iter();
            unstable && peaks.any(|peak| peak.probe == *probe && peak.value > 0.0)
        };
        let probes = ["copy", "read", "fma", "launch_overhead"];
        missing = probes.into_iter().filter(|probe| !gives(probe)).collect();
        if missing.is_empty() {
            return ran(test);
        }
        eprintln!("{missing:?}: {:?}", found.omitted);
    }
    panic!("no ceiling from {missing:?}");
}

#[test]
fn a_wrong_probe_gives_no_ceiling() {
    let _turn = turn();
    let test = "a_wrong_probe_gives_no_ceiling";
    // In every strategy: one that is right would give the ceiling.
    let (path, text) = ("probe/fma", "T4(T(params.c))");
    let Some(found) = ceilings(test, path, text, "T4(T(2.0 * params.c))") else { return };
    assert!(!found.peaks.iter().any(|peak| peak.probe == "fma"));
    assert!(reasons(&found, "fma").iter().all(|why| why.starts_with('G')), "{:?}", found.omitted);
    assert!(found.peaks.iter().any(|peak| peak.probe == "copy"), "the others are kept");
    ran(test);
}

#[test]
fn a_copy_that_leaves_words_out_gives_no_bandwidth() {
    let _turn = turn();
    let test = "a_copy_that_leaves_words_out_gives_no_bandwidth";
    // The faulty strategies are left out; the one that works still gives the ceiling.
    let Some(found) = ceilings(test, "probe/copy", "params.words / 4u", "params.words / 8u") else {
        return;
    };
    let best = |found: &Found| {
        let copies = found.peaks.iter().filter(|peak| peak.probe == "copy");
        copies.map(|peak| peak.value).fold(0.0, f64::max)
    };
    assert!(best(&found) > 0.0);
    let (first, second) = ("(wid.x + wid.y * groups.x)", "(wid.x + wid.y * groups.x + 1u)");
    let Some(none) = ceilings(test, "probe/copy", first, second) else { return };
    assert_eq!(best(&none), 0.0);
    ran(test);
}

#[test]
fn a_loop_cut_short_gives_no_ceiling_although_its_result_is_right() {
    let _turn = turn();
    let test = "a_loop_cut_short_gives_no_ceiling_although_its_result_is_right";
    // After enough trips a chain has arrived at its fixed point: more trips change no bit.
    let (text, instead) = ("i < params.trips", "i < min(params.trips, 80u)");
    let Some(found) = ceilings(test, "probe/fma", text, instead) else { return };
    let reasons = reasons(&found, "fma");
    assert!(!found.peaks.iter().any(|peak| peak.probe == "fma"), "{:?}", found.peaks);
    assert!(reasons.iter().any(|why| why.starts_with("twice the work took")), "{reasons:?}");
    ran(test);
}
