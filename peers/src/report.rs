//! The outcome as Markdown.

use std::fmt::Write as _;

use fusebench::units::{NONE, Seconds, fraction_of_peak};

use crate::duel::Ratio;
use crate::outcome::{
    Entry, Figures, Outcome, PEERS, faults, like_for_like, mean, mean_alike, targets,
};

/// What the figures belong to.
pub struct About {
    /// Adapter and driver.
    pub device: String,
    pub emulated: bool,
    /// Everyone with a version, us first.
    pub versions: Vec<String>,
    pub started: String,
    pub rounds: u32,
    pub span_s: f64,
    /// Peers that were not there at all, and why.
    pub absent: Vec<(&'static str, String)>,
}

const READING: &str = "\
Everybody runs in one process on the same inputs, warm and tuned, and takes turns in a new random
order each round. A ratio is the peer's time over ours: the median over the rounds, with its 95 %
interval. Ours has wgpu's run-time checks, as in `fusebench run`; burn is compiled without them, so
that `burn, alike` is its time over ours without them, which takes its turns too. Times are
wall-clock medians of one operation. Of peak: the shortest time that the probes at the start of this
run allow on this adapter, over the time; above 100 % a library on the CPU is not held back by the
driver that the probes ran on, or the machine was busier then. Answers are held to the worst case of
the tracked reference; one further off has no ratio.";

/// The whole file.
pub fn markdown(about: &About, outcomes: &[Outcome]) -> String {
    let mut text = String::from("# Against what people use instead\n\n");
    let _ = writeln!(text, "{}; {}; {}.", about.device, about.versions.join(", "), about.started);
    if about.emulated {
        text.push_str("CPU-emulated: not comparable with GPUs.\n");
    }
    let (rounds, span) = (about.rounds, Seconds(about.span_s));
    let _ = writeln!(text, "Up to {rounds} rounds of samples of at least {span}.\n\n{READING}\n");
    let summary = summary(outcomes);
    let _ = writeln!(text, "<!-- summary -->\n{summary}<!-- end summary -->\n\n## Targets\n");
    for finding in targets(outcomes, about.emulated) {
        let met = if finding.met { "met" } else { "MISSED" };
        let _ = writeln!(text, "* {met}: {}", finding.text);
    }
    let _ = writeln!(text, "* {}", like_for_like(outcomes, about.emulated));
    let counted = [absences(about, outcomes.len()), faults(outcomes)].concat();
    if !counted.is_empty() {
        text.push_str("\n## Not compared\n\n");
        counted.iter().for_each(|line| text.push_str(&format!("* {line}\n")));
    }
    let _ = write!(text, "\n## Every figure\n\n{}", details(outcomes));
    text
}

/// How often each peer was missing, in a sentence.
pub fn absences(about: &About, cases: usize) -> Vec<String> {
    let of = |(peer, why): &(&str, String)| {
        format!("{peer} is absent from all {cases} operations: {why}")
    };
    about.absent.iter().map(of).collect()
}

/// Ratios alone, and their geometric means.
fn summary(outcomes: &[Outcome]) -> String {
    let [burn, ndarray, onnx] = PEERS;
    let mut text =
        format!("| operation | shape | ours | {burn} | {burn}, alike | {ndarray} | {onnx} |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for outcome in outcomes {
        let [burn, ndarray, onnx] = outcome.peers.each_ref().map(|entry| cell(outcome, entry));
        let alike = outcome.alike().as_ref().map_or(NONE.to_owned(), ratio);
        let Outcome { kernel, shape, strategy, ours, .. } = outcome;
        let time = Seconds(ours.seconds);
        let _ = writeln!(
            text,
            "| `{kernel}` | {shape} | {strategy}, {time} | {burn} | {alike} | {ndarray} | {onnx} |"
        );
    }
    let said = |found| match found {
        (Some(mean), count) => format!("**{mean:.2}** of {count}"),
        (None, _) => NONE.to_owned(),
    };
    let [burn, ndarray, onnx] = [0, 1, 2].map(|peer| said(mean(outcomes, peer)));
    let alike = said(mean_alike(outcomes));
    let _ = writeln!(text, "| geometric mean | | | {burn} | {alike} | {ndarray} | {onnx} |");
    text
}

fn cell(outcome: &Outcome, entry: &Entry) -> String {
    match entry {
        Entry::Ran(theirs, _) if theirs.fault.is_some() => "not verified".to_owned(),
        Entry::Ran(..) if outcome.ours.fault.is_some() => "ours is wrong".to_owned(),
        Entry::Ran(_, found) => ratio(found),
        Entry::Lacks => NONE.to_owned(),
        Entry::Failed(_) => "failed".to_owned(),
    }
}

/// `4.12 [3.90, 4.40]`
fn ratio(Ratio { value, low, high }: &Ratio) -> String {
    format!("{value:.2} [{low:.2}, {high:.2}]")
}

fn details(outcomes: &[Outcome]) -> String {
    let mut text = String::from("| operation | shape | by | time | of peak | ratio | verified |\n");
    text.push_str("|---|---|---|---|---|---|---|\n");
    for outcome in outcomes {
        let Outcome { kernel, shape, strategy, ours, unchecked, peers, .. } = outcome;
        let mut line = |by: &str, figures: &Figures, ratio: &str| {
            let time = Seconds(figures.seconds);
            let of_peak = figures.of_peak.map_or(NONE.to_owned(), fraction_of_peak);
            let verified = figures.fault.as_ref().map_or("yes".to_owned(), |why| {
                // A bar would end the column.
                format!("no: {}", why.replace('|', "/"))
            });
            let _ = writeln!(
                text,
                "| `{kernel}` | {shape} | {by} | {time} | {of_peak} | {ratio} | {verified} |"
            );
        };
        line(&format!("ours, {strategy}"), ours, "1");
        line(&format!("ours, {strategy}, without checks"), unchecked, NONE);
        for (peer, entry) in PEERS.iter().zip(peers) {
            if let Entry::Ran(theirs, found) = entry {
                line(peer, theirs, &ratio(found));
            }
        }
    }
    text
}

/// `results/peers-NAME.md`: the adapter's name before any brackets, in lower case.
pub fn file_name(adapter: &str) -> String {
    let name = adapter.split('(').next().unwrap_or(adapter).trim().to_lowercase();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("peers-{}.md", name.chars().map(plain).collect::<String>())
}

/// The version of a package in the text of a `Cargo.lock`: the newest of several, which is the one
/// that this crate asks for.
pub fn locked_version<'a>(lock: &'a str, package: &str) -> Option<&'a str> {
    let (_, rest) = lock.rsplit_once(&format!("name = \"{package}\"\nversion = \""))?;
    rest.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::tests::outcome;

    fn about() -> About {
        About {
            device: "llvmpipe (cpu)".to_owned(),
            emulated: true,
            versions: vec!["fusebench 0.1.0".to_owned()],
            started: "2026-01-01".to_owned(),
            rounds: 9,
            span_s: 0.05,
            absent: vec![("ONNX Runtime", "run scripts/oracles".to_owned())],
        }
    }

    #[test]
    fn the_file_says_what_was_met_missed_absent_and_wrong() {
        let outcomes =
            [outcome("r2n3", 1.25, None), outcome("r4n5", 8.0, Some("G1: |Δ| too large"))];
        let text = markdown(&about(), &outcomes);
        for part in [
            "CPU-emulated: not comparable with GPUs",
            "| thread, 1.000 ms | 1.25 [1.12, 1.38] | 1.56 [1.41, 1.72] | 2.00 [1.80, 2.20] | – |",
            "| geometric mean | | | **1.25** of 1 | **1.56** of 1 | **2.00** of 2 | – |",
            "* ours without wgpu's run-time checks too, as burn is compiled: 1 of 1 operations",
            "* MISSED: at least 1.5 times as fast as burn: 0 of 1 operations: softmax r2n3 (1.25)",
            "* ONNX Runtime is absent from all 2 operations: run scripts/oracles",
            "| thread, 1.000 ms | not verified | – |",
            "* softmax r4n5: burn is not verified: G1",
            "| `softmax` | r2n3 | ours, thread, without checks | 800.0 µs | 25 % | – | yes |",
            "| `softmax` | r4n5 | burn | 8.000 ms | 25 % | 8.00 [7.20, 8.80] | no: G1: /Δ/",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("| 8.00 [7.20, 8.80] | 2.00"), "a wrong answer has no ratio");
    }

    #[test]
    fn what_holds_has_no_list_of_exceptions() {
        let about = About { absent: Vec::new(), ..about() };
        let text = markdown(&about, &[outcome("r2n3", 8.0, None)]);
        assert!(!text.contains("Not compared") && !text.contains("MISSED"), "{text}");
    }

    #[test]
    fn files_are_named_after_the_adapter() {
        assert_eq!(file_name("llvmpipe (LLVM 15.0.6, 256 bits)"), "peers-llvmpipe.md");
        assert_eq!(file_name("NVIDIA H100 80GB HBM3"), "peers-nvidia-h100-80gb-hbm3.md");
    }

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = include_str!("../Cargo.lock");
        assert_eq!(locked_version(lock, "burn-tensor"), Some("0.22.1"));
        assert!(locked_version(lock, "ndarray").is_some_and(|version| version.starts_with("0.17")));
        assert_eq!(locked_version(lock, "no such package"), None);
    }
}
