//! Numbers for people: one formatter, four significant figures, decimal prefixes.
//!
//! Files hold SI base units at full precision; nothing here is ever parsed back.

use std::fmt;

/// What stands where no number can be told.
pub const NONE: &str = "–";

/// Below this the smallest unit has no readable digits left.
const SCIENTIFIC_BELOW: f64 = 1e-3;
/// From here on the largest unit reads as a row of digits.
const SCIENTIFIC_FROM: f64 = 1e6;

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $units:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
        pub struct $name(pub f64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&scaled(self.0, &$units))
            }
        }
    };
}

quantity!(
    /// A duration; never a variance.
    Seconds,
    [(1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms"), (1.0, "s")]
);
quantity!(
    /// A size in memory, with decimal prefixes.
    Bytes,
    [(1.0, "B"), (1e3, "kB"), (1e6, "MB"), (1e9, "GB")]
);
quantity!(
    /// Memory traffic; ends at GB/s, the unit data sheets and people compare.
    BytesPerSecond,
    [(1e3, "kB/s"), (1e6, "MB/s"), (1e9, "GB/s")]
);
quantity!(
    /// Arithmetic throughput.
    FlopsPerSecond,
    [(1e6, "MFLOP/s"), (1e9, "GFLOP/s"), (1e12, "TFLOP/s")]
);

quantity!(
    /// An amount of arithmetic.
    Flops,
    [(1.0, "FLOP"), (1e3, "kFLOP"), (1e6, "MFLOP"), (1e9, "GFLOP"), (1e12, "TFLOP")]
);

quantity!(
    /// Throughput of integer arithmetic.
    OpsPerSecond,
    [(1e6, "MOP/s"), (1e9, "GOP/s"), (1e12, "TOP/s")]
);

/// The value in the largest unit that leaves at least 1 before the point.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    if !value.is_finite() {
        return NONE.to_string();
    }
    // Rounding first: 999.95 ns is 1.000 µs, not 1000 ns.
    let size = rounded(value.abs());
    // A hair of tolerance, because 1e-9 × 1000 is not the double nearest to 1e-6.
    let fits = |scale: f64| size / scale >= 1.0 - 1e-12;
    let largest = units.iter().rev().find(|(scale, _)| fits(*scale));
    let base = || units.iter().find(|(scale, _)| value == 0.0 && *scale == 1.0);
    let (scale, unit) = largest.or_else(base).unwrap_or(&units[0]);
    format!("{} {unit}", significant(value / scale))
}

/// Four significant figures: `0`, `0.01234`, `12.34`, `1234`, `123456`, `1.235e7`.
pub fn significant(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_string();
    }
    if value == 0.0 {
        return "0".to_string();
    }
    let size = rounded(value.abs());
    if !(SCIENTIFIC_BELOW..SCIENTIFIC_FROM).contains(&size) {
        return format!("{value:.3e}");
    }
    let decimals = 3 - exponent(size);
    format!("{value:.*}", usize::try_from(decimals).unwrap_or(0))
}

/// To four significant figures, in decimal as it will be printed.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().expect("Rust reads what it prints")
}

fn exponent(value: f64) -> i32 {
    let text = format!("{value:.3e}");
    let (_, exponent) = text.split_once('e').expect("scientific notation has an exponent");
    exponent.parse().expect("Rust reads what it prints")
}

/// A share of a whole: `83 %`, `8.0 %`, `0.4 %`.
pub fn percent(fraction: f64) -> String {
    let value = 100.0 * fraction;
    match value.abs() {
        size if !size.is_finite() => NONE.to_string(),
        0.0 => "0 %".to_string(),
        size if size < 0.05 => "<0.1 %".to_string(),
        size if size < 9.95 => format!("{value:.1} %"),
        _ => format!("{value:.0} %"),
    }
}

/// A share of a measured ceiling; never clamped, and in words where it cannot be true.
pub fn fraction_of_peak(fraction: f64) -> String {
    match fraction {
        over if over > 1.0 && over < 1.005 => format!("{:.1} % over peak", 100.0 * over),
        over if over > 1.0 => format!("{} over peak", percent(over)),
        within => percent(within),
    }
}

/// Half the width of an interval as a share of the value inside it.
pub fn relative_half_interval(median: f64, low: f64, high: f64) -> f64 {
    (high - low) / 2.0 / median
}

/// `±0.8 %`, `±12 %`; the unequal halves of the interval are in the file.
pub fn plus_minus(relative: f64) -> String {
    if !relative.is_finite() {
        return NONE.to_string();
    }
    let value = 100.0 * relative.abs();
    let decimals = if value < 9.95 { 1 } else { 0 };
    format!("±{value:.decimals$} %")
}

/// A ratio that matters around 1: `0`, `<0.01`, `0.02`, `1.30`, `4210`.
pub fn ratio(value: f64) -> String {
    match value.abs() {
        size if !size.is_finite() => NONE.to_string(),
        0.0 => "0".to_string(),
        size if size < 0.005 => "<0.01".to_string(),
        size if size < 99.995 => format!("{value:.2}"),
        size if size < 99_999.5 => format!("{value:.0}"),
        size if size < 1e9 => format!("{value:.0e}"),
        // The gates record the largest double for an error that is not finite.
        _ => ">1e9".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a printed quantity back into its base unit.
    fn parse(text: &str) -> f64 {
        let (number, unit) = text.split_once(' ').expect("a number and a unit");
        let scale = match unit {
            "ns" => 1e-9,
            "µs" => 1e-6,
            "ms" => 1e-3,
            "s" | "B" => 1.0,
            "kB" | "kB/s" => 1e3,
            "MB" | "MB/s" | "MFLOP/s" | "MOP/s" => 1e6,
            "GB" | "GB/s" | "GFLOP/s" | "GOP/s" => 1e9,
            "TFLOP/s" | "TOP/s" => 1e12,
            _ => panic!("unknown unit in {text}"),
        };
        number.parse::<f64>().expect("a number") * scale
    }

    #[test]
    fn a_printed_quantity_is_within_half_a_figure_of_the_value() {
        for step in -300..320 {
            let value = 1.3_f64.powi(step) * 1.000_77;
            for text in [
                Seconds(value).to_string(),
                Bytes(value).to_string(),
                BytesPerSecond(value).to_string(),
                FlopsPerSecond(value).to_string(),
                OpsPerSecond(value).to_string(),
            ] {
                let error = (parse(&text) / value - 1.0).abs();
                assert!(error < 5.001e-4, "{value:e} printed as {text}");
            }
        }
    }

    #[test]
    fn awkward_values_read_well() {
        for (value, text) in [
            (0.0, "0 s"),
            (1e-12, "0.001000 ns"),
            (1e-15, "1.000e-6 ns"),
            (9.4e-10, "0.9400 ns"),
            (1e-9, "1.000 ns"),
            (999.94e-9, "999.9 ns"),
            (999.95e-9, "1.000 µs"),
            (1000.0e-9, "1.000 µs"),
            (1.234_56e-3, "1.235 ms"),
            (12_345.6, "12346 s"),
            (1e15, "1.000e15 s"),
            (-2.5e-6, "-2.500 µs"),
            (f64::NAN, "–"),
            (f64::NEG_INFINITY, "–"),
        ] {
            assert_eq!(Seconds(value).to_string(), text, "{value:e}");
        }
        assert_eq!(BytesPerSecond(3.907e12).to_string(), "3907 GB/s");
        assert_eq!(BytesPerSecond(0.0).to_string(), "0 kB/s");
        assert_eq!(FlopsPerSecond(5.413e13).to_string(), "54.13 TFLOP/s");
        assert_eq!(Bytes(134_217_728.0).to_string(), "134.2 MB");
        assert_eq!(format!("[{:>9}]", Seconds(1.0)), "[  1.000 s]");
    }

    #[test]
    fn shares_keep_two_figures_and_say_when_they_are_impossible() {
        for (fraction, text) in [
            (0.0, "0 %"),
            (1e-6, "<0.1 %"),
            (0.0042, "0.4 %"),
            (0.0798, "8.0 %"),
            (0.83, "83 %"),
            (1.0, "100 %"),
            (1.0004, "100.0 % over peak"),
            (1.042, "104 % over peak"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(fraction_of_peak(fraction), text, "{fraction}");
        }
    }

    #[test]
    fn an_interval_prints_as_its_relative_half() {
        assert_eq!(plus_minus(relative_half_interval(100.0, 99.2, 100.8)), "±0.8 %");
        assert_eq!(plus_minus(0.0), "±0.0 %");
        assert_eq!(plus_minus(0.124), "±12 %");
        assert_eq!(plus_minus(relative_half_interval(0.0, 0.0, 0.0)), "–");
    }

    #[test]
    fn a_ratio_never_rounds_to_nothing() {
        for (value, text) in [(0.0, "0"), (1e-9, "<0.01"), (0.0213, "0.02"), (4210.0, "4210")] {
            assert_eq!(ratio(value), text);
        }
        assert_eq!((ratio(4.26e6), ratio(f64::MAX)), ("4e6".to_string(), ">1e9".to_string()));
    }
}
