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
/// Readings of a probe and of twice its work.
const GROWTH_READINGS: usize = 8;
/// Dispatches in one pass for the launch-overhead line.
const LAUNCH_POINTS: [u32; 6] = [1, 4, 16, 64, 256, 1024];
/// Arithmetic probes, the unit of their rate, and the threads that one of their `n` stands for.
const ARITHMETIC: [(&str, Dtype, &str, usize); 5] = [
    ("fma", Dtype::F32, "flops_per_s", 1),
    ("fma", Dtype::F16Acc, "flops_per_s", 1),
    ("dot4", Dtype::I8, "ops_per_s", 1),
    (MATRICES, Dtype::F32, "flops_per_s", 512),
    (MATRICES, Dtype::F16, "flops_per_s", 512),
];
/// The probe of cooperative matrices. Its f16 rate bounds kernels that use them on f16 with f32
/// sums, whose arithmetic is that precision; all other f16 kernels compute in f32.
const MATRICES: &str = "cooperative_matrix";
/// Threads of the arithmetic probes: enough to fill the largest GPUs.
const FMA_THREADS: usize = 1 << 18;
/// A CPU driver needs no more than its cores.
const FMA_THREADS_EMULATED: usize = 1 << 14;
/// Trips at the start of its calibration, and at most.
const FMA_TRIPS: (usize, usize) = (64, 1 << 14);
/// Length of one dispatch of it: launching must not count.
const FMA_DISPATCH_S: f64 = 5e-3;

/// The ceilings of a device, and why some are missing.
#[derive(Default)]
pub struct Found {
    pub peaks: Vec<record::Peak>,
    pub omitted: Vec<record::OmittedPeak>,
}

impl Found {
    /// Keeps the best rate of a probe, or why it has none.
    fn take(&mut self, probe: &Probe, unit: &str, rate: Result<f64, String>) {
        let &Probe { name, dtype, bytes, .. } = probe;
        match rate {
            Ok(value) => self.peaks.push(peak(name, dtype, unit, value, bytes)),
            Err(reason) => self.omitted.push(record::OmittedPeak {
                probe: name.to_owned(),
                dtype: dtype.name().to_owned(),
                reason,
            }),
        }
    }
}

/// A probe at one size.
struct Probe {
    name: &'static str,
    dtype: Dtype,
    shape: Shape,
    /// Its working set, for a bandwidth.
    bytes: Option<f64>,
}

/// Every ceiling the device can reach. A probe is verified before it is timed; one that is wrong,
/// does not settle or takes no longer for more work is left out.
pub fn measure(session: &Session) -> Result<Found, GpuError> {
    let emulated = session.gpu().report.emulated;
    let curve: &[u32] = if emulated { &CURVE_LOG2_BYTES_EMULATED } else { &CURVE_LOG2_BYTES };
    let mut found = Found::default();
    for name in ["copy", "read"] {
        for &log2 in curve {
            let footprint = 1_usize << log2;
            // A copy keeps half of its working set on either side.
            let n = if name == "copy" { footprint / 2 } else { footprint };
            let (shape, bytes) = (Shape::new(&[("n", n)]), Some(footprint as f64));
            let probe = Probe { name, dtype: Dtype::F32, shape, bytes };
            let rate = best(session, &probe, |work| work.bytes)?;
            found.take(&probe, "bytes_per_s", rate);
        }
    }
    for (name, dtype, unit, threads) in ARITHMETIC {
        let Some(shape) = arithmetic_shape(session, name, dtype, threads)? else { continue };
        let probe = Probe { name, dtype, shape, bytes: None };
        let rate = best(session, &probe, |work| work.flops)?;
        let rate = rate.and_then(|rate| grows_with_its_work(session, &probe).map(|()| rate));
        found.take(&probe, unit, rate);
    }
    let shape = Shape::new(&[("n", 1)]);
    let probe = Probe { name: "launch_overhead", dtype: Dtype::F32, shape, bytes: None };
    let slope = launch_slope(session, &probe)?;
    found.take(&probe, "s", slope);
    Ok(found)
}

/// Threads and trips that keep the arithmetic units busy for a while; `None` where the device has
/// no such arithmetic.
fn arithmetic_shape(
    session: &Session,
    name: &str,
    dtype: Dtype,
    threads: usize,
) -> Result<Option<Shape>, GpuError> {
    let emulated = session.gpu().report.emulated;
    let n = if emulated { FMA_THREADS_EMULATED } else { FMA_THREADS } / threads;
    let (least, most) = FMA_TRIPS;
    let of = |trips| Shape::new(&[("n", n), ("t", trips)]);
    let cells = probe_cells(name, dtype, &of(least));
    let Some(cell) = cells.into_iter().find(|cell| session.supports(cell)) else {
        return Ok(None);
    };
    let prepared = session.prepare(&cell)?;
    session.time(&prepared, 1)?;
    let trips = FMA_DISPATCH_S / session.time(&prepared, 1)? * least as f64;
    Ok(Some(of((trips as usize).clamp(least, most))))
}

/// Twice the trips must take about twice as long; a loop that the compiler cut short does not.
fn grows_with_its_work(session: &Session, probe: &Probe) -> Result<(), String> {
    let shape = &probe.shape;
    let twice = Shape::new(&[("n", shape["n"]), ("t", 2 * shape["t"])]);
    let pair = [shape, &twice].map(|shape| {
        let mut cells = probe_cells(probe.name, probe.dtype, shape).into_iter();
        let cell = cells.find(|cell| session.supports(cell));
        session.prepare(&cell.expect("this probe was just timed"))
    });
    let [Ok(once), Ok(twice)] = pair else { return Err("twice the work does not run".to_owned()) };
    // Interleaved, and the fastest of each: other programs only ever make a reading longer.
    let (mut once_s, mut twice_s) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..GROWTH_READINGS {
        once_s = once_s.min(session.time(&once, 1).unwrap_or(f64::NAN));
        twice_s = twice_s.min(session.time(&twice, 1).unwrap_or(f64::NAN));
    }
    measure::growth(once_s, twice_s)
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
            given: None,
        })
    });
    cells.collect()
}

/// The best rate over the variants of a probe, or why there is none.
fn best(
    session: &Session,
    probe: &Probe,
    amount: impl Fn(&crate::kernel::Work) -> f64,
) -> Result<Result<f64, String>, GpuError> {
    let mut best: Option<f64> = None;
    let mut reason = "no variant of it runs here".to_owned();
    for cell in probe_cells(probe.name, probe.dtype, &probe.shape) {
        let enough = best.map_or(f64::INFINITY, |rate| HOPELESS * amount(&cell.work()) / rate);
        match settled_time(session, &cell, enough)? {
            Ok(seconds) => {
                let rate = amount(&cell.work()) / seconds;
                best = Some(best.map_or(rate, |known| known.max(rate)));
            }
            Err(why) => reason = why,
        }
    }
    Ok(best.ok_or(reason))
}

/// Seconds per dispatch of a verified probe once two readings agree; an inner error also when one
/// takes over `enough`.
fn settled_time(
    session: &Session,
    cell: &Cell,
    enough: f64,
) -> Result<Result<f64, String>, GpuError> {
    let prepared = match session.verified(cell) {
        Ok(prepared) => prepared,
        Err(error) if error.fatal => return Err(GpuError::Lost(error.reason)),
        Err(error) => return Ok(Err(error.reason)),
    };
    let time = |batch| session.time(&prepared, batch);
    let once = time(1)?.min(time(1)?).max(1e-9);
    if once > enough {
        return Ok(Err("slower than its other variants".to_owned()));
    }
    let emulated = session.gpu().report.emulated;
    let span_s = if emulated { SPAN_S_EMULATED } else { SPAN_S };
    let batch = ((span_s / once).ceil() as u32).clamp(1, 1000);
    let mut rates: Vec<f64> = Vec::new();
    for _ in 0..measure::PROBE_REPEATS {
        rates.push(1.0 / time(batch)?.min(time(batch)?));
        if let Some(rate) = agreed(&rates, emulated) {
            return Ok(Ok(1.0 / rate));
        }
    }
    Ok(Err(format!("unstable: no two of {} readings agree", rates.len())))
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
fn launch_slope(session: &Session, probe: &Probe) -> Result<Result<f64, String>, GpuError> {
    let cell = probe_cells(probe.name, probe.dtype, &probe.shape).into_iter().next();
    let prepared = match session.verified(&cell.expect("the registry has this probe")) {
        Ok(prepared) => prepared,
        Err(error) if error.fatal => return Err(GpuError::Lost(error.reason)),
        Err(error) => return Ok(Err(error.reason)),
    };
    let mut points = Vec::new();
    for n in LAUNCH_POINTS {
        for _ in 0..2 {
            points.push((n, session.time(&prepared, n)? * f64::from(n)));
        }
    }
    let slope = launch_overhead(&points).map(|(slope, _)| slope).filter(|&slope| slope > 0.0);
    Ok(slope.ok_or_else(|| "more dispatches took no longer".to_owned()))
}

/// The recorded peaks in the form rates are scored against.
pub fn ceilings(peaks: &[record::Peak]) -> measure::Peaks {
    let mut ceilings = measure::Peaks::default();
    let (mut copy, mut read) = (Vec::new(), Vec::new());
    for peak in peaks {
        match (peak.unit.as_str(), peak.bytes) {
            ("bytes_per_s", Some(bytes)) if peak.probe == "copy" => copy.push((bytes, peak.value)),
            ("bytes_per_s", Some(bytes)) => read.push((bytes, peak.value)),
            // The f32 peak is what any kernel can reach.
            (_, _) if peak.probe == MATRICES && peak.dtype == Dtype::F32.name() => {}
            ("flops_per_s" | "ops_per_s", _) => {
                ceilings.flops.extend(Dtype::parse(&peak.dtype).map(|dtype| (dtype, peak.value)));
            }
            ("s", _) => ceilings.launch_s = Some(peak.value),
            _ => {}
        }
    }
    ceilings.bandwidth = measure::Peaks::curve(&copy, &read);
    ceilings
}
