//! How much room the gates leave, kernel by kernel: the error without a fault, and the fault that
//! comes nearest to going unnoticed.

use super::markdown::{escape, line};
use crate::accuracy::RMS_LIMIT;
use crate::record::{CleanRecord, MutantRecord, MutantRun, Outcome};
use crate::units::{NONE, ratio};

/// Stands for the mutants of a kernel that this device cannot run.
const UNTRIED: &str = "untried";

/// What the columns of [`table`] are.
pub(super) const KEY: &str = "RMS: the RMS error over the predicted one, at most 3 (G2). \
    Bound: the largest error over its worst-case bound, at most 1 (G1). Both are the worst \
    over all shapes, variants, precisions and input distributions of the preset. Mutants: how \
    many of the faults put into the shader are caught. Nearest: of these faults the one whose \
    error exceeds what is allowed by the smallest ratio, on the first cell that catches it; \
    where only exact elements (G0) tell, the one with fewest wrong elements.";

/// A GitHub table with a line for each kernel.
pub(super) fn table(run: &MutantRun) -> Vec<String> {
    let titles = ["kernel", "RMS", "bound", "mutants", "nearest mutant", "caught by", "at"];
    let mut lines =
        vec![line(&titles), "| --- | ---: | ---: | ---: | --- | --- | ---: |".to_string()];
    lines.extend(run.kernels.iter().map(|kernel| kernel_line(kernel, run)));
    lines
}

/// Faults that no output can show, with the reason.
pub(super) fn equivalents(run: &MutantRun) -> Vec<String> {
    let equivalent = run.mutants.iter().filter_map(|m| Some((m, m.equivalent.as_ref()?)));
    equivalent
        .map(|(m, why)| format!("- `{}`, {}: {}", m.kernel, escape(&m.fault), escape(why)))
        .collect()
}

fn kernel_line(kernel: &CleanRecord, run: &MutantRun) -> String {
    let name = format!("`{}`", kernel.kernel);
    if kernel.failure.is_some() {
        return line(&[&name, "FAILS", "FAILS", "", "", "", ""]);
    }
    if kernel.passed == 0 {
        return line(&[&name, NONE, NONE, UNTRIED, NONE, NONE, NONE]);
    }
    let (rms, bound) = margins(kernel);
    // An equivalent one changes nothing that could be caught.
    let all = run.mutants.iter().filter(|m| m.kernel == kernel.kernel && m.equivalent.is_none());
    let killed: Vec<&MutantRecord> = all.clone().filter(|m| m.outcome == Outcome::Killed).collect();
    let caught = format!("{}/{}", killed.len(), all.count());
    let [fault, rule, at] = nearest(&killed).unwrap_or([NONE; 3].map(str::to_string));
    line(&[name, rms, bound, caught, escape(&fault), rule, at])
}

/// RMS error over the predicted one and largest error over its bound.
pub(super) fn margins(kernel: &CleanRecord) -> (String, String) {
    // A kernel that only moves values has no gate but G0.
    let none = || if kernel.worst("G0").is_some() { "exact" } else { NONE }.to_string();
    let bound = kernel.worst("G1").map_or_else(none, ratio);
    let unmeasured = || if kernel.worst("G1").is_some() { NONE.to_string() } else { none() };
    let rms = kernel.worst("G2").map(|worst| ratio(worst * RMS_LIMIT));
    (rms.unwrap_or_else(unmeasured), bound)
}

/// Fault, rule and ratio of the mutant that is nearest to passing.
fn nearest(killed: &[&MutantRecord]) -> Option<[String; 3]> {
    let with = |counted: bool| {
        let found = killed.iter().filter_map(|mutant| {
            let by = mutant.killed_by.as_ref()?;
            let worst = by.worst.filter(|_| (by.rule == "G0") == counted)?;
            Some((*mutant, by.rule.clone(), worst))
        });
        found.min_by(|a, b| a.2.total_cmp(&b.2))
    };
    if let Some((mutant, rule, worst)) = with(false) {
        return Some([mutant.fault.clone(), rule, ratio(worst)]);
    }
    if let Some((mutant, rule, worst)) = with(true) {
        let elements = if worst == 1.0 { "element" } else { "elements" };
        return Some([mutant.fault.clone(), rule, format!("{worst:.0} {elements}")]);
    }
    let mutant = killed.first()?;
    let rule = mutant.killed_by.as_ref().map_or(NONE, |by| &by.rule);
    Some([mutant.fault.clone(), rule.to_string(), NONE.to_string()])
}
