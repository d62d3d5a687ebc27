//! The ceilings of a device, measured with the probe kernels in the same run.

use super::cell::Cell;
use super::session::Session;
use crate::gpu::GpuError;
use crate::kernel::{Dtype, Preset, Shape};
use crate::kernels::ALL;
use crate::measure::{self, launch_overhead};
use crate::record;

/// Working sets of the bandwidth curve, log2 of the bytes read.
const CURVE_LOG2_BYTES: [u32; 5] = [14, 17, 20, 23, 26];
/// A probe repeats until two results agree this well…
const AGREEMENT: f64 = 0.05;
/// …or this well on a CPU driver, whose cores other programs share.
const AGREEMENT_EMULATED: f64 = 0.20;
/// …at most so many times.
const REPEATS: usize = 4;
/// Device time of one probe reading: long enough for a clock tick of a millisecond to vanish.
const SPAN_S: f64 = 0.020;
/// Dispatches in one pass for the launch-overhead line.
const LAUNCH_POINTS: [u32; 6] = [1, 4, 16, 64, 256, 1024];
/// Threads and trips of the arithmetic probe at the start of its calibration.
const FMA_THREADS: usize = 1 << 16;
const FMA_TRIPS: usize = 64;

/// Every ceiling the device can reach; a probe that does not settle is left out.
pub fn measure(session: &Session) -> Result<Vec<record::Peak>, GpuError> {
    let mut peaks = Vec::new();
    for probe in ["copy", "read"] {
        for log2 in CURVE_LOG2_BYTES {
            let shape = Shape::new(&[("n", 1 << log2)]);
            let Some(rate) = best(session, probe, Dtype::F32, &shape, |work| work.bytes)? else {
                continue;
            };
            let footprint = if probe == "copy" { 2 << log2 } else { 1_u64 << log2 };
            peaks.push(peak(probe, Dtype::F32, "bytes_per_s", rate, Some(footprint as f64)));
        }
    }
    let shape = Shape::new(&[("n", FMA_THREADS), ("t", FMA_TRIPS)]);
    for dtype in [Dtype::F32, Dtype::F16Acc] {
        if let Some(rate) = best(session, "fma", dtype, &shape, |work| work.flops)? {
            peaks.push(peak("fma", dtype, "flops_per_s", rate, None));
        }
    }
    if let Some(slope) = launch_slope(session)? {
        peaks.push(peak("launch_overhead", Dtype::F32, "s", slope, None));
    }
    Ok(peaks)
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
        let seconds = match settled_time(session, &cell) {
            Ok(seconds) => seconds,
            Err(GpuError::Unsupported(_)) => None,
            Err(error) => return Err(error),
        };
        let rate = seconds.map(|seconds| amount(&cell.work()) / seconds);
        best = best.into_iter().chain(rate).reduce(f64::max);
    }
    Ok(best)
}

/// Seconds per dispatch once two readings agree.
fn settled_time(session: &Session, cell: &Cell) -> Result<Option<f64>, GpuError> {
    if session.gpu().missing(cell.dtype, cell.variant.needs).is_some() {
        return Ok(None);
    }
    let prepared = session.prepare(cell)?;
    let emulated = session.gpu().report.emulated;
    let agreement = if emulated { AGREEMENT_EMULATED } else { AGREEMENT };
    let time = |batch| session.time(&prepared, batch);
    let once = time(1)?.min(time(1)?).max(1e-9);
    let batch = ((SPAN_S / once).ceil() as u32).clamp(1, 1000);
    let mut readings: Vec<f64> = Vec::new();
    for _ in 0..REPEATS {
        readings.push(time(batch)?.min(time(batch)?));
        readings.sort_by(f64::total_cmp);
        if readings.len() > 1 && readings[1] <= readings[0] * (1.0 + agreement) {
            return Ok(Some(readings[0]));
        }
    }
    Ok(None)
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
        let once = || Ok((n, session.time(&prepared, n)? * f64::from(n)));
        points.push(once()?);
        points.push(once()?);
    }
    let (slope, _) = launch_overhead(&points);
    Ok((slope > 0.0).then_some(slope))
}

/// The recorded peaks in the form rates are scored against.
pub fn ceilings(peaks: &[record::Peak]) -> measure::Peaks {
    let mut ceilings = measure::Peaks::default();
    for peak in peaks {
        match (peak.unit.as_str(), peak.bytes) {
            ("bytes_per_s", Some(bytes)) => ceilings.bandwidth.push((bytes, peak.value)),
            ("flops_per_s", _) => {
                ceilings.flops.extend(Dtype::parse(&peak.dtype).map(|dtype| (dtype, peak.value)));
            }
            ("s", _) => ceilings.launch_s = Some(peak.value),
            _ => {}
        }
    }
    ceilings
}
