//! A comparison made by hand with a row of every verdict, for the tests of files and reports.

use super::comparison::*;
use super::fixture::gpu_run;
use super::schema::*;
use crate::compare::noise::floor;
use crate::compare::{Reason, Verdict};

/// A comparison with a row of every verdict.
pub(crate) fn comparison() -> Comparison {
    let side = |kind: &str, commit: Option<&str>| SideRecord {
        kind: kind.to_string(),
        commit: commit.map(str::to_string),
        kernels_hash: "5f1d9c0a5f1d9c0a".to_string(),
    };
    let alike = ControlRecord {
        n: 20,
        alarms: 1,
        rate: [0.009, 0.236],
        verdicts: 0,
        verdict_rate: [0.0, 0.161],
        valid: true,
    };
    Comparison {
        format_version: FORMAT_VERSION,
        kind: "ab".to_string(),
        complete: true,
        environment: gpu_run().environment,
        base: side("revision", Some("1f0e9d8c7b6a")),
        head: side("folder", None),
        protocol: ProtocolRecord {
            looks: vec![(40, 0.01), (70, 0.015), (100, 0.025)],
            sample_s: 0.02,
            floor: 0.01,
            confidence: 0.95,
            inject: Some(0.05),
            unlike: vec!["driver".to_string()],
        },
        control: Some(alike),
        confirms: Some(ConfirmRecord {
            started: "2026-11-23T00:00:00Z".to_string(),
            strength: "process".to_string(),
        }),
        rows: compared_rows(),
    }
}

fn compared_rows() -> Vec<ComparedRow> {
    let row = |id: &str, verdict, reason, ratio: Option<[f64; 3]>| ComparedRow {
        id: id.to_string(),
        family: "normalize".to_string(),
        checks: "safe".to_string(),
        status: Status::Ok,
        verdict: Some(verdict),
        reason: Some(reason),
        why: None,
        ratio: ratio.map(compared_ratio),
        base_median: ratio.map(|_| 1e-3),
        head_median: ratio.map(|[ratio, ..]| 1e-3 * ratio),
        noise: None,
        injected: ratio.map(|_| 0.05),
        accuracy_changed: Vec::new(),
        control: ratio.map(|_| compared_ratio([1.001, 0.995, 1.008])),
        batch: ratio.map(|_| 20),
        blocks: vec![BlockRecord { order: "ABBA".to_string(), seconds: [1e-3; 4] }],
    };
    let mut wrong = row("a/v/f32/n1", Verdict::Wrong, Reason::Failed, None);
    wrong.status = Status::Wrong;
    wrong.why = Some("G1: an error of 4.2 times its bound; element 17".to_string());
    let slower = Some([1.061, 1.048, 1.074]);
    let mut changed = row("b/v/f16/r257d1408", Verdict::Slower, Reason::Evidence, slower);
    let (base, head) = (8.1e-8, 9.4e-8);
    changed.accuracy_changed = vec![AccuracyChange { metric: "nmse".to_string(), base, head }];
    let mut idle = row("h/v/f16/n1", Verdict::Same, Reason::Identical, None);
    (idle.status, idle.verdict, idle.reason) = (Status::Unsupported, None, None);
    idle.why = Some("needs shader-f16".to_string());
    let mut noisy = row("c/v/f32/n1", Verdict::Unclear, Reason::Straddles, Some([1.004, 0.9, 1.1]));
    noisy.noise = Some(0.012);
    noisy.ratio.as_mut().expect("timed").floor = floor(0.012);
    vec![
        wrong,
        changed,
        noisy,
        row("d/v/f32/n1", Verdict::Faster, Reason::Evidence, Some([0.9, 0.88, 0.93])),
        row("e/v/f32/n1", Verdict::Same, Reason::Equivalent, Some([1.0, 0.996, 1.004])),
        row("f/v/f32/n1", Verdict::Same, Reason::Identical, None),
        row("g/v/f32/n1", Verdict::New, Reason::OneSided, None),
        row("g/w/f32/n1", Verdict::Gone, Reason::OneSided, None),
        idle,
    ]
}

fn compared_ratio([ratio, low, high]: [f64; 3]) -> RatioRecord {
    RatioRecord {
        ratio,
        low,
        high,
        p_slower: if ratio > 1.0 { 2e-5 } else { 0.7 },
        p_faster: if ratio < 1.0 { 2e-5 } else { 0.7 },
        pairs: 40,
        floor: 0.01,
        normalised: Some(ratio),
    }
}
