//! What the device could have done at best, from peaks measured on it, and how near a cell came.

use crate::kernel::{Ceiling, Dtype, Work};

use super::stats;

/// A probe is repeated until two results agree within this, at most so often (cubecl PR #1601:
/// the f32 peak went from 45.53…46.51 to 46.015 ten times, at 1.86 times the cost).
pub const PROBE_AGREEMENT: f64 = 0.05;
pub const PROBE_REPEATS: usize = 4;

/// What doubled work may take, over the single: 1.9 to 2.1 on a quiet GPU (uVkCompute's N and 2N),
/// and room for a shared CPU. Work that was optimised away gives 1.
const DOUBLED: (f64, f64) = (1.6, 2.6);

/// Measured ceilings of one device and driver.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Peaks {
    /// (working set in bytes, bytes per second): the better of copy and read at that size.
    pub bandwidth: Vec<(f64, f64)>,
    /// Operations per second by arithmetic.
    pub flops: Vec<(Dtype, f64)>,
    /// Cost of one empty dispatch.
    pub launch_s: Option<f64>,
}

impl Peaks {
    /// The bandwidth curve from the two probes that bound it, ascending in size.
    pub fn curve(copy: &[(f64, f64)], read: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let mut all = [copy, read].concat();
        all.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        all.dedup_by_key(|(bytes, _)| *bytes);
        all
    }

    /// Bandwidth at a working set: linear in log2(bytes) between measured sizes, and that of the
    /// nearest size outside them.
    pub fn bandwidth_at(&self, footprint_bytes: f64) -> Option<f64> {
        let points = self.bandwidth.iter();
        let below = points.clone().filter(|p| p.0 <= footprint_bytes).max_by(by_size);
        let above = points.filter(|p| p.0 >= footprint_bytes).min_by(by_size);
        match (below, above) {
            (Some(a), Some(b)) if a.0 < b.0 => {
                let share = (footprint_bytes / a.0).log2() / (b.0 / a.0).log2();
                Some(a.1 + share * (b.1 - a.1))
            }
            (Some(end), _) | (None, Some(end)) => Some(end.1),
            (None, None) => None,
        }
    }

    /// Arithmetic peak of a precision.
    pub fn flops_at(&self, dtype: Dtype) -> Option<f64> {
        self.flops.iter().find(|(known, _)| *known == dtype).map(|(_, peak)| *peak)
    }

    /// The shortest time the ceilings allow, as far as they are known; for planning only.
    pub fn ideal_s(&self, work: &Work, footprint_bytes: f64) -> f64 {
        let memory_s = shortest_s(work.bytes, || self.bandwidth_at(footprint_bytes));
        let compute_s = shortest_s(work.flops, || self.flops_at(work.arithmetic));
        let known = [memory_s, compute_s, self.launch_s];
        known.into_iter().flatten().fold(0.0, f64::max)
    }

    /// Share of a run that empty dispatches would have taken. Not subtracted from anything: the
    /// user pays it.
    pub fn launch_share(&self, dispatches: u32, median_s: f64) -> Option<f64> {
        self.launch_s.map(|launch_s| f64::from(dispatches) * launch_s / median_s)
    }
}

fn by_size(a: &&(f64, f64), b: &&(f64, f64)) -> std::cmp::Ordering {
    a.0.total_cmp(&b.0)
}

/// The resource that bounds a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    Memory,
    Compute,
    Launch,
}

impl Bound {
    pub fn name(self) -> &'static str {
        match self {
            Bound::Memory => "memory",
            Bound::Compute => "compute",
            Bound::Launch => "launch",
        }
    }
}

/// Rates of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    pub flops_per_s: f64,
    pub bytes_per_s: f64,
}

/// What was done per second, whatever the peaks.
pub fn rates(work: &Work, median_s: f64) -> Rates {
    Rates { flops_per_s: work.flops / median_s, bytes_per_s: work.bytes / median_s }
}

/// A cell against the ceilings of its device.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    pub bound_by: Bound,
    /// Shortest possible time over the median. Not clamped: above 1 the byte model or a probe is
    /// wrong, and that must show.
    pub fraction: f64,
    pub launch_share: f64,
    pub flops_per_s: f64,
    pub bytes_per_s: f64,
}

/// One step of a run: a kernel has one, a pipeline several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    pub work: Work,
    pub dispatches: u32,
    pub footprint_bytes: f64,
}

/// Scores a run of all `parts` that took `median_s`: the sum of their shortest times over it, and
/// the bound that most of that sum is due to. `None` when a peak it needs is missing: the largest
/// of the remaining times would be a guess. Ask [`rates`] for the rates then.
pub fn score(peaks: &Peaks, parts: &[Part], median_s: f64) -> Option<Score> {
    let (mut due_s, mut dispatches) = ([0.0; 3], 0);
    let (mut flops, mut bytes) = (0.0, 0.0);
    for Part { work, dispatches: launched, footprint_bytes } in parts {
        if work.ceiling == Ceiling::None {
            return None;
        }
        let memory_s = shortest_s(work.bytes, || peaks.bandwidth_at(*footprint_bytes))?;
        let compute_s = shortest_s(work.flops, || peaks.flops_at(work.arithmetic))?;
        let launch_s = peaks.launch_share(*launched, 1.0)?;
        let limits_s = [memory_s, compute_s, launch_s];
        let bound = (0..3).fold(0, |best, i| if limits_s[i] > limits_s[best] { i } else { best });
        due_s[bound] += limits_s[bound];
        dispatches += launched;
        (flops, bytes) = (flops + work.flops, bytes + work.bytes);
    }
    let most = (0..3).fold(0, |best, i| if due_s[i] > due_s[best] { i } else { best });
    Some(Score {
        bound_by: [Bound::Memory, Bound::Compute, Bound::Launch][most],
        fraction: due_s.iter().sum::<f64>() / median_s,
        launch_share: peaks.launch_share(dispatches, median_s)?,
        flops_per_s: flops / median_s,
        bytes_per_s: bytes / median_s,
    })
}

/// Time at the peak rate; work that is not there needs no peak.
fn shortest_s(amount: f64, peak: impl Fn() -> Option<f64>) -> Option<f64> {
    if amount == 0.0 {
        return Some(0.0);
    }
    peak().filter(|peak| peak.is_finite() && *peak > 0.0).map(|peak| amount / peak)
}

/// Cost per dispatch and per pass, from passes of 1, 2, 4 … empty dispatches. `None` without two
/// different counts.
pub fn launch_overhead(points: &[(u32, f64)]) -> Option<(f64, f64)> {
    let points: Vec<(f64, f64)> = points.iter().map(|(n, s)| (f64::from(*n), *s)).collect();
    stats::theil_sen(&points)
}

/// The peak two repetitions of a probe agree on, which is the better of the two. `None` as long as
/// none agree; after [`PROBE_REPEATS`] the peak is unstable.
pub fn agreed(results: &[f64]) -> Option<f64> {
    let descending: Vec<f64> = stats::sorted(results).into_iter().rev().collect();
    let mut pairs = descending.windows(2);
    pairs.find(|pair| pair[0] - pair[1] <= PROBE_AGREEMENT * pair[0]).map(|pair| pair[0])
}

/// Whether a probe whose work was doubled took about twice as long, launch cost included. A loop
/// that a compiler folded away takes as long as before.
pub fn growth(once_s: f64, twice_s: f64) -> Result<(), String> {
    let growth = twice_s / once_s;
    if (DOUBLED.0..=DOUBLED.1).contains(&growth) {
        return Ok(());
    }
    Err(format!("twice the work took {growth:.2} times as long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 100 GB/s at 8 KiB, 400 at 64 KiB, 200 at 128 MiB; 1 TFLOP/s; 10 µs per dispatch.
    fn peaks() -> Peaks {
        let bandwidth = vec![(8_192.0, 100e9), (65_536.0, 400e9), (134_217_728.0, 200e9)];
        Peaks { bandwidth, flops: vec![(Dtype::F32, 1e12)], launch_s: Some(10e-6) }
    }

    fn part(work: Work, dispatches: u32) -> Part {
        Part { work, dispatches, footprint_bytes: 65_536.0 }
    }

    fn near(a: f64, b: f64) -> bool {
        (a / b - 1.0).abs() < 1e-12
    }

    #[test]
    fn bandwidth_is_linear_in_the_logarithm_and_flat_outside() {
        let at = |bytes| peaks().bandwidth_at(bytes).unwrap();
        assert_eq!((at(8_192.0), at(65_536.0)), (100e9, 400e9));
        // 16 KiB is one of the three doublings from 8 to 64 KiB.
        assert!(near(at(16_384.0), 200e9));
        assert_eq!((at(1.0), at(1e12)), (100e9, 200e9));
        assert_eq!(Peaks::default().bandwidth_at(1.0), None);
    }

    #[test]
    fn the_curve_keeps_the_better_probe_at_each_size() {
        let curve = Peaks::curve(&[(2.0, 5.0), (1.0, 9.0)], &[(1.0, 8.0), (2.0, 6.0), (4.0, 7.0)]);
        assert_eq!(curve, [(1.0, 9.0), (2.0, 6.0), (4.0, 7.0)]);
    }

    #[test]
    fn each_resource_can_bind() {
        let bound = |flops, bytes| {
            score(&peaks(), &[part(Work::new(flops, bytes), 1)], 1e-3).unwrap().bound_by
        };
        assert_eq!(bound(1_000, 200_000_000), Bound::Memory);
        assert_eq!(bound(900_000_000, 1_000), Bound::Compute);
        assert_eq!(bound(1_000, 1_000), Bound::Launch);
    }

    #[test]
    fn the_fraction_is_ideal_over_median_and_goes_over_one() {
        let work = Work::new(1_000_000, 200_000_000);
        let of = |median_s| score(&peaks(), &[part(work, 2)], median_s).unwrap();
        // 200 MB at 400 GB/s take 0.5 ms.
        let half = of(1e-3);
        assert!(near(half.fraction, 0.5) && near(half.launch_share, 0.02));
        assert!(near(half.bytes_per_s, 200e9) && near(half.flops_per_s, 1e9));
        assert!(near(of(0.25e-3).fraction, 2.0));
    }

    #[test]
    fn the_parts_of_a_pipeline_add_up_and_the_longest_names_the_bound() {
        // 0.5 ms of memory, then 2 ms of arithmetic.
        let parts = [part(Work::new(0, 200_000_000), 1), part(Work::new(2_000_000_000, 0), 3)];
        let of = score(&peaks(), &parts, 5e-3).unwrap();
        assert!(near(of.fraction, 0.5) && near(of.launch_share, 0.008));
        assert_eq!((of.bound_by, of.flops_per_s, of.bytes_per_s), (Bound::Compute, 4e11, 4e10));
    }

    #[test]
    fn a_missing_peak_gives_rates_but_no_fraction() {
        let work = Work::new(1_000, 1_000);
        let scored = |peaks: Peaks, work: &Work| score(&peaks, &[part(*work, 1)], 1e-3).is_some();
        assert!(scored(peaks(), &work));
        assert!(!scored(Peaks { bandwidth: vec![], ..peaks() }, &work));
        assert!(!scored(Peaks { flops: vec![], ..peaks() }, &work));
        assert!(!scored(Peaks { flops: vec![(Dtype::F32, 0.0)], ..peaks() }, &work));
        assert!(!scored(Peaks { launch_s: None, ..peaks() }, &work));
        assert!(!scored(peaks(), &Work { arithmetic: Dtype::F16Acc, ..work }));
        assert!(!scored(peaks(), &Work { ceiling: Ceiling::None, ..work }));
        // A copy does no arithmetic and needs no arithmetic peak.
        assert!(scored(Peaks { flops: vec![], ..peaks() }, &Work::new(0, 1_000)));
        assert_eq!(rates(&work, 1e-3), Rates { flops_per_s: 1e6, bytes_per_s: 1e6 });
    }

    #[test]
    fn launch_cost_is_the_slope_and_the_pass_the_intercept() {
        let seconds = |n: u32| 40e-6 + 20e-6 * f64::from(n);
        let mut points: Vec<(u32, f64)> = (0..=10).map(|k| (1 << k, seconds(1 << k))).collect();
        points[4].1 += 5e-3;
        let (slope, intercept) = launch_overhead(&points).unwrap();
        assert!((slope - 20e-6).abs() < 1e-9 && (intercept - 40e-6).abs() < 1e-9);
        assert_eq!(launch_overhead(&[(1, 1e-6)]), None);
    }

    #[test]
    fn work_that_was_folded_away_does_not_grow() {
        assert_eq!(growth(1.0, 2.0), Ok(()));
        assert!(growth(1.0, 1.02).is_err_and(|why| why.contains("1.02 times")));
        assert!(growth(1.0, 4.0).is_err() && growth(f64::NAN, 1.0).is_err());
    }

    #[test]
    fn probes_agree_within_five_percent() {
        assert_eq!(agreed(&[100.0]), None);
        assert_eq!(agreed(&[90.0, 100.0]), None);
        assert_eq!(agreed(&[90.0, 100.0, 96.0]), Some(100.0));
        // The lone best is not confirmed by anything.
        assert_eq!(agreed(&[200.0, 90.0, 91.0]), Some(91.0));
    }
}
