//! The ceilings of a device, measured with the probe kernels in the same run.

use super::cell::Cell;
use super::session::Session;
use crate::gpu::GpuError;
use crate::kernel::{Dtype, Preset, Shape};
use crate::kernels::ALL;
use crate::measure::{self, launch_overhead};
use crate::record;

/// Working sets of the bandwidth curve, log2 of the bytes; the largest leaves every GPU cache.
const CURVE_LOG2_BYTES: [u32; 6] = [14, 17, 20, 23, 26, 28];
/// A CPU driver is slow and its caches are small.
const CURVE_LOG2_BYTES_EMULATED: [u32; 4] = [14, 18, 21, 25];
/// On a CPU driver, whose cores other programs share, two readings agree when they are this close;
/// elsewhere [`measure::agreed`] decides.
const AGREEMENT_EMULATED: f64 = 0.20;
/// Device time of one probe reading, as the hot span of a cell.
const SPAN_S: f64 = 0.020;
const SPAN_S_EMULATED: f64 = 0.008;
/// A variant this much slower than another is not pursued.
const HOPELESS: f64 = 2.0;
/// Dispatches in one pass for the launch-overhead line.
const LAUNCH_POINTS: [u32; 6] = [1, 4, 16, 64, 256, 1024];
/// Threads of the arithmetic probe: enough to fill the largest GPUs.
const FMA_THREADS: usize = 1 << 18;
/// A CPU driver needs no more than its cores.
const FMA_THREADS_EMULATED: usize = 1 << 14;
/// Trips at the start of its calibration, and at most.
const FMA_TRIPS: (usize, usize) = (64, 1 << 14);
/// Length of one dispatch of it: launching must not count.
const FMA_DISPATCH_S: f64 = 5e-3;

/// Every ceiling the device can reach; a probe that does not settle is left out.
pub fn measure(session: &Session) -> Result<Vec<record::Peak>, GpuError> {
    let emulated = session.gpu().report.emulated;
    let curve: &[u32] = if emulated { &CURVE_LOG2_BYTES_EMULATED } else { &CURVE_LOG2_BYTES };
    let mut peaks = Vec::new();
    for probe in ["copy", "read"] {
        for &log2 in curve {
            let footprint = 1_usize << log2;
            // A copy keeps half of its working set on either side.
            let n = if probe == "copy" { footprint / 2 } else { footprint };
            let shape = Shape::new(&[("n", n)]);
            if let Some(rate) = best(session, probe, Dtype::F32, &shape, |work| work.bytes)? {
                peaks.push(peak(probe, Dtype::F32, "bytes_per_s", rate, Some(footprint as f64)));
            }
        }
    }
    for dtype in [Dtype::F32, Dtype::F16Acc] {
        let shape = arithmetic_shape(session, dtype)?;
        if let Some(rate) = best(session, "fma", dtype, &shape, |work| work.flops)? {
            peaks.push(peak("fma", dtype, "flops_per_s", rate, None));
        }
    }
    if let Some(slope) = launch_slope(session)? {
        peaks.push(peak("launch_overhead", Dtype::F32, "s", slope, None));
    }
    Ok(peaks)
}

/// Threads and trips that keep the arithmetic units busy for a while.
fn arithmetic_shape(session: &Session, dtype: Dtype) -> Result<Shape, GpuError> {
    let emulated = session.gpu().report.emulated;
    let threads = if emulated { FMA_THREADS_EMULATED } else { FMA_THREADS };
    let (least, most) = FMA_TRIPS;
    let of = |trips| Shape::new(&[("n", threads), ("t", trips)]);
    let Some(cell) = probe_cells("fma", dtype, &of(least)).into_iter().next() else {
        return Ok(of(least));
    };
    if !session.supports(&cell) {
        return Ok(of(least));
    }
    let prepared = session.prepare(&cell)?;
    session.time(&prepared, 1)?;
    let trips = FMA_DISPATCH_S / session.time(&prepared, 1)? * least as f64;
    Ok(of((trips as usize).clamp(least, most)))
}

fn peak(probe: &str, dtype: Dtype, unit: &str, value: f64, bytes: Option<f64>) -> record::Peak {
    record::Peak {
        probe: probe.to_owned(),
        dtype: dtype.name().to_owned(),
        unit: unit.to_owned(),
        value,
        bytes,
    }
}

/// The cells of a probe at one shape, one per variant.
pub fn probe_cells(name: &str, dtype: Dtype, shape: &Shape) -> Vec<Cell> {
    let entry = ALL.iter().find(|entry| entry.name == name);
    let cells = entry.into_iter().flat_map(|entry| {
        entry.kernel.spec().variants.iter().map(move |variant| Cell {
            entry,
            variant,
            dtype,
            shape: shape.clone(),
            preset: Preset::Sweep,
        })
    });
    cells.collect()
}

/// The best rate over the variants of a probe, `None` when none can run or settles.
fn best(
    session: &Session,
    name: &str,
    dtype: Dtype,
    shape: &Shape,
    amount: impl Fn(&crate::kernel::Work) -> f64,
) -> Result<Option<f64>, GpuError> {
    let mut best: Option<f64> = None;
    for cell in probe_cells(name, dtype, shape) {
        let enough = best.map_or(f64::INFINITY, |rate| HOPELESS * amount(&cell.work()) / rate);
        let seconds = match settled_time(session, &cell, enough) {
            Ok(seconds) => seconds,
            Err(GpuError::Unsupported(_)) => None,
            Err(error) => return Err(error),
        };
        let rate = seconds.map(|seconds| amount(&cell.work()) / seconds);
        best = best.into_iter().chain(rate).reduce(f64::max);
    }
    Ok(best)
}

/// Seconds per dispatch once two readings agree; `None` also when one takes over `enough`.
fn settled_time(session: &Session, cell: &Cell, enough: f64) -> Result<Option<f64>, GpuError> {
    if session.gpu().missing(cell.storage(), cell.variant.needs).is_some() {
        return Ok(None);
    }
    let prepared = session.prepare(cell)?;
    let time = |batch| session.time(&prepared, batch);
    let once = time(1)?.min(time(1)?).max(1e-9);
    if once > enough {
        return Ok(None);
    }
    let emulated = session.gpu().report.emulated;
    let span_s = if emulated { SPAN_S_EMULATED } else { SPAN_S };
    let batch = ((span_s / once).ceil() as u32).clamp(1, 1000);
    let mut rates: Vec<f64> = Vec::new();
    for _ in 0..measure::PROBE_REPEATS {
        rates.push(1.0 / time(batch)?.min(time(batch)?));
        if let Some(rate) = agreed(&rates, emulated) {
            return Ok(Some(1.0 / rate));
        }
    }
    Ok(None)
}

fn agreed(rates: &[f64], emulated: bool) -> Option<f64> {
    let close = || {
        let best = rates.iter().copied().fold(0.0, f64::max);
        let near = rates.iter().filter(|&&rate| rate >= best * (1.0 - AGREEMENT_EMULATED));
        (near.count() > 1).then_some(best)
    };
    if emulated { close() } else { measure::agreed(rates) }
}

/// Seconds per dispatch of an empty kernel inside one pass.
fn launch_slope(session: &Session) -> Result<Option<f64>, GpuError> {
    let shape = Shape::new(&[("n", 1)]);
    let Some(cell) = probe_cells("launch_overhead", Dtype::F32, &shape).into_iter().next() else {
        return Ok(None);
    };
    let prepared = session.prepare(&cell)?;
    let mut points = Vec::new();
    for n in LAUNCH_POINTS {
        for _ in 0..2 {
            points.push((n, session.time(&prepared, n)? * f64::from(n)));
        }
    }
    Ok(launch_overhead(&points).map(|(slope, _)| slope).filter(|&slope| slope > 0.0))
}

/// The recorded peaks in the form rates are scored against.
pub fn ceilings(peaks: &[record::Peak]) -> measure::Peaks {
    let mut ceilings = measure::Peaks::default();
    let (mut copy, mut read) = (Vec::new(), Vec::new());
    for peak in peaks {
        match (peak.unit.as_str(), peak.bytes) {
            ("bytes_per_s", Some(bytes)) if peak.probe == "copy" => copy.push((bytes, peak.value)),
            ("bytes_per_s", Some(bytes)) => read.push((bytes, peak.value)),
            ("flops_per_s", _) => {
                ceilings.flops.extend(Dtype::parse(&peak.dtype).map(|dtype| (dtype, peak.value)));
            }
            ("s", _) => ceilings.launch_s = Some(peak.value),
            _ => {}
        }
    }
    ceilings.bandwidth = measure::Peaks::curve(&copy, &read);
    ceilings
}
