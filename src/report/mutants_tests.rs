use super::*;
use crate::record::fixture::gpu_run;
use crate::record::{FORMAT_VERSION, GateRecord};

fn mutant(fault: &str, outcome: Outcome, rule: &str) -> MutantRecord {
    let inputs = "normal".to_string();
    let killed_by = FailedBy { rule: rule.to_string(), worst: Some(7.25), inputs };
    let cell = "layer_norm/thread/f32/r7d31".to_string();
    MutantRecord {
        kernel: "layer_norm".to_string(),
        fault: fault.to_string(),
        equivalent: None,
        outcome,
        reason: None,
        cells: 3,
        killed_by: Some(killed_by).filter(|_| outcome == Outcome::Killed),
        cell: Some(cell).filter(|_| outcome == Outcome::Killed),
        alone: rule == "G2",
    }
}

fn run(mutants: Vec<MutantRecord>) -> MutantRun {
    let (kernel, family) = ("layer_norm".to_string(), "normalize".to_string());
    let gate = |gate: &str, worst| GateRecord { gate: gate.to_string(), passed: true, worst };
    let gates = vec![gate("G0", 0.0), gate("G1", 0.41), gate("G2", 0.25)];
    let clean = CleanRecord { kernel, family, passed: 9, unsupported: 2, gates, failure: None };
    let environment = gpu_run().environment;
    let (format_version, kernels) = (FORMAT_VERSION, vec![clean]);
    MutantRun { format_version, complete: true, environment, kernels, mutants }
}

fn some_of_each() -> MutantRun {
    let equivalent = MutantRecord {
        equivalent: Some("adding zero changes nothing".to_string()),
        ..mutant("a zero is added", Outcome::Survived, "")
    };
    let reason = Some("the shader does not compile".to_string());
    run(vec![
        mutant("last element dropped", Outcome::Killed, "G0"),
        mutant("rounded too early", Outcome::Killed, "G2"),
        mutant("nobody notices, \"really\"", Outcome::Survived, ""),
        equivalent,
        MutantRecord { reason, ..mutant("no WGSL", Outcome::Broken, "") },
    ])
}

#[test]
fn the_table_names_the_rule_and_shouts_at_survivors() {
    let text = table(&some_of_each(), false, 100);
    for words in [
        "layer_norm: passes on 9 cells without a fault, 2 unsupported",
        "last element dropped      G0                    7  normal  thread/f32/r7d31",
        "rounded too early         G2                 7.25  normal",
        "SURVIVED 3 cells",
        "adding zero changes nothing",
        "BROKEN",
        "5 mutants: 2 killed, 1 survived, 1 equivalent, 1 broken; the kernel passes",
        "killed by G0 1 (0 alone), G2 1 (1 alone)",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    for width in [40, 60, 80, 100] {
        let text = table(&some_of_each(), false, width);
        assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
    }
}

#[test]
fn only_what_is_not_as_declared_is_a_finding() {
    let declared = || Some("as it says".to_string());
    let killed = mutant("a", Outcome::Killed, "G1");
    let survived = mutant("b", Outcome::Survived, "");
    assert!(!run(vec![killed.clone()]).has_finding());
    assert!(run(vec![survived.clone()]).has_finding());
    assert!(run(vec![MutantRecord { equivalent: declared(), ..killed.clone() }]).has_finding());
    assert!(!run(vec![MutantRecord { equivalent: declared(), ..survived }]).has_finding());
    assert!(run(vec![mutant("c", Outcome::Broken, "")]).has_finding());
    let mut failing = run(vec![killed]);
    failing.kernels[0].failure = Some("layer_norm/thread/f32/r7d31: G1".to_string());
    assert!(failing.has_finding());
    assert!(table(&failing, false, 100).contains("FAILS without a fault: layer_norm/thread"));
}

#[test]
fn the_other_forms_hold_a_line_for_each_mutant() {
    let run = some_of_each();
    let text = csv(&run);
    assert_eq!(text.matches("\r\n").count(), 6, "{text}");
    assert!(text.contains("\"nobody notices, \"\"really\"\"\",survived,,,"), "{text}");
    assert!(
        text.contains("rounded too early,killed,G2,7.25,normal,layer_norm/thread/f32/r7d31,true")
    );
    let text = markdown(&run);
    assert_eq!(text.lines().filter(|line| line.starts_with('|')).count(), 7 + 3, "{text}");
    assert!(text.contains("| equivalent: adding zero changes nothing |"), "{text}");
}

#[test]
fn each_kernel_has_its_margin_and_its_nearest_mutant() {
    let run = some_of_each();
    let [_, _, line] = &evidence::table(&run)[..] else { panic!("a line for the kernel") };
    assert_eq!(line, "| `layer_norm` | 0.75 | 0.41 | 2/4 | rounded too early | G2 | 7.25 |");
    assert_eq!(
        evidence::equivalents(&run),
        ["- `layer_norm`, a zero is added: adding zero changes nothing"]
    );
    let mut exact = run.clone();
    exact.kernels[0].gates.truncate(1);
    exact.mutants.truncate(1);
    let line = &evidence::table(&exact)[2];
    assert_eq!(
        line,
        "| `layer_norm` | exact | exact | 1/1 | last element dropped | G0 | 7 elements |"
    );
    exact.kernels[0].passed = 0;
    let line = &evidence::table(&exact)[2];
    assert_eq!(line, "| `layer_norm` | – | – | untried | – | – | – |", "no cell runs here");
    exact.kernels[0].failure = Some("G1".to_string());
    assert!(evidence::table(&exact)[2].contains("FAILS"), "no margin without a verified kernel");
}
