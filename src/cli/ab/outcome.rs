//! From contests to the record of a comparison, and from that to the exit code.

use super::confirm;
use super::contest::{Contest, Ready};
use super::rounds::{Job, Purpose};
use super::sides::Source;
use crate::cli::exit::Exit;
use crate::cli::fail_on::FailOn;
use crate::compare::plan::{CONFIDENCE, LOOKS, PAIRS_PER_BLOCK};
use crate::compare::{Block, Estimate, Judgement, Jury, Reason, Trial, Verdict, control, judge};
use crate::measure::stats;
use crate::record::{
    Accuracy, AccuracyChange, BlockRecord, ComparedRow, Comparison, ControlRecord, Environment,
    FORMAT_VERSION, ProtocolRecord, RatioRecord, SideRecord, Status, Unlike,
};

/// The record before anything is measured.
pub fn begin(
    job: &Job,
    environment: Environment,
    seen: &[Environment],
    unlike: Vec<String>,
) -> Comparison {
    let side = |source: &Source, environment: &Environment| match source {
        Source::Shaders { record, .. } => record.clone(),
        Source::Binary(_) => SideRecord {
            kind: "binary".to_owned(),
            commit: Some(environment.fusebench.commit.clone()),
            kernels_hash: environment.fusebench.kernels_hash.clone(),
        },
    };
    let (base, head) = (side(&job.base, &seen[0]), side(&job.head, &seen[seen.len().min(2) - 1]));
    let kind = if job.purpose == Purpose::Selftest { "selftest" } else { "ab" };
    Comparison {
        format_version: FORMAT_VERSION,
        kind: kind.to_owned(),
        complete: false,
        environment,
        base,
        head,
        protocol: ProtocolRecord {
            looks: LOOKS.iter().map(|look| (look.pairs as u32, look.q)).collect(),
            sample_s: job.flags.sample_s(),
            floor: job.flags.floor(None),
            confidence: CONFIDENCE,
            inject: job.flags.inject.map(|percent| percent / 100.0),
            unlike,
        },
        control: None,
        confirms: job.previous.as_ref().map(confirm::record),
        rows: Vec::new(),
    }
}

/// Every row, worst first, and what the control arm says of them.
pub fn finish(
    job: &Job,
    comparison: &mut Comparison,
    contests: &[Contest],
    jury: &Jury,
    stopped: bool,
) {
    let blocks: Vec<Vec<Block>> = contests.iter().map(|contest| contest.blocks.clone()).collect();
    let judgements = jury.close(&blocks, stopped);
    let measured = |at: usize| contests[at].is_open().then_some(&judgements[at]);
    let mut rows: Vec<ComparedRow> =
        contests.iter().enumerate().map(|(at, contest)| row(job, contest, measured(at))).collect();
    let arm = |contest: &Contest| {
        let blocks = match job.purpose {
            Purpose::Ab { .. } => contest.control.clone()?,
            // Everything is a control there.
            Purpose::Selftest => contest.blocks.clone(),
        };
        Some((Trial { floor: job.floor(contest), timer_step: 0.0 }, blocks))
    };
    let control = control_arm(job, contests.iter().filter_map(arm).collect());
    if job.purpose != Purpose::Selftest && control.as_ref().is_some_and(|arm| !arm.valid) {
        distrust(&mut rows, Reason::Control);
    }
    if !comparison.protocol.unlike.is_empty() {
        distrust(&mut rows, Reason::Environment);
    }
    if job.previous.is_some() {
        confirm::apply(&mut rows);
    }
    // A cell without a verdict says least.
    let badness = |row: &ComparedRow| row.ratio.as_ref().map_or(0.0, |ratio| -ratio.ratio);
    rows.sort_by(|a, b| {
        let verdict = |row: &ComparedRow| (row.verdict.is_none(), row.verdict);
        verdict(a).cmp(&verdict(b)).then(badness(a).total_cmp(&badness(b)))
    });
    comparison.complete = !stopped;
    comparison.control = control;
    comparison.rows = rows;
}

/// One cell as it is recorded; `judgement` where samples decide.
pub fn row(job: &Job, contest: &Contest, judgement: Option<&Judgement>) -> ComparedRow {
    let settled = contest.settled.as_ref();
    let floor = job.floor(contest);
    let judged = judgement.filter(|_| settled.is_none());
    let verdict = match settled {
        Some(settled) => settled.verdict,
        None => judged.map(|judgement| (judgement.verdict, judgement.reason)),
    };
    let median = |head: bool| {
        let times: Vec<f64> = contest.blocks.iter().flat_map(|block| block.side(head)).collect();
        let times: Vec<f64> = times.into_iter().filter(|s| s.is_finite() && *s > 0.0).collect();
        (!times.is_empty()).then(|| stats::median(&times))
    };
    let accuracy = |ready: &Option<Ready>| ready.as_ref().and_then(|r| r.row.accuracy.clone());
    let (base, head) = (accuracy(&contest.base), accuracy(&contest.head));
    let timed = !contest.blocks.is_empty();
    ComparedRow {
        id: contest.id.clone(),
        family: contest.family.clone(),
        checks: job.flags.checks.name().to_owned(),
        status: settled.map_or(Status::Ok, |settled| settled.status),
        verdict: verdict.map(|(verdict, _)| verdict),
        reason: verdict.map(|(_, reason)| reason),
        why: settled.and_then(|settled| settled.why.clone()),
        ratio: judged.and_then(|j| j.estimate).map(|estimate| ratio(&estimate, floor)),
        base_median: median(false),
        head_median: median(true),
        injected: job.flags.inject.filter(|_| timed).map(|_| contest.plan.share),
        accuracy_changed: base.zip(head).map_or(Vec::new(), |(a, b)| changes(&a, &b)),
        noise: noise(job, contest),
        control: contest.control.as_deref().and_then(|blocks| alone(job, floor, blocks)),
        batch: timed.then_some(contest.plan.batch),
        blocks: contest.blocks.iter().map(block).collect(),
    }
}

/// How far the cell is from itself: what a selftest finds, and what `ab` knows from one.
fn noise(job: &Job, contest: &Contest) -> Option<f64> {
    match (job.purpose, job.flags.inject) {
        (Purpose::Selftest, None) => crate::compare::noise::noise(&contest.blocks, job.flags.seed),
        _ => contest.noise,
    }
}

fn ratio(estimate: &Estimate, floor: f64) -> RatioRecord {
    RatioRecord {
        ratio: estimate.ratio,
        low: estimate.low,
        high: estimate.high,
        p_slower: estimate.p.slower,
        p_faster: estimate.p.faster,
        pairs: estimate.pairs as u32,
        floor,
        normalised: estimate.normalised,
    }
}

fn block(block: &Block) -> BlockRecord {
    let possible = |s: f64| if s.is_finite() { s } else { 0.0 };
    BlockRecord { order: block.order.name().to_owned(), seconds: block.seconds.map(possible) }
}

/// A control by itself, one hypothesis.
fn alone(job: &Job, floor: f64, blocks: &[Block]) -> Option<RatioRecord> {
    let found = crate::compare::estimate(blocks, 1, control::ALARM_BELOW, job.flags.seed)?;
    Some(ratio(&found, floor))
}

/// Alarms and verdicts of things measured against themselves, each by all of its pairs.
fn control_arm(job: &Job, mut arms: Vec<(Trial, Vec<Block>)>) -> Option<ControlRecord> {
    arms.retain(|(_, blocks)| blocks.len() >= LOOKS[0].pairs / PAIRS_PER_BLOCK);
    let (trials, arms): (Vec<Trial>, Vec<Vec<Block>>) = arms.into_iter().unzip();
    let judged = judge(trials, &arms, job.flags.seed);
    let alarms = arms.iter().filter(|blocks| {
        let found = crate::compare::estimate(blocks, 1, control::ALARM_BELOW, job.flags.seed);
        found.is_some_and(|estimate| control::alarms(&estimate.p))
    });
    let verdicts = judged.iter().filter(|judgement| is_difference(judgement.verdict)).count();
    record(control::Summary { n: arms.len(), alarms: alarms.count(), verdicts })
}

fn is_difference(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Slower | Verdict::Faster)
}

fn record(found: control::Summary) -> Option<ControlRecord> {
    let pair = |(low, high): (f64, f64)| [low, high];
    (found.n > 0).then(|| ControlRecord {
        n: found.n as u32,
        alarms: found.alarms as u32,
        rate: pair(found.alarm_interval()),
        verdicts: found.verdicts as u32,
        verdict_rate: pair(control::wilson(found.verdicts, found.n)),
        valid: found.is_valid(),
    })
}

/// Takes every verdict back that samples gave.
fn distrust(rows: &mut [ComparedRow], reason: Reason) {
    for row in rows {
        let timed = matches!(row.reason, Some(Reason::Evidence | Reason::Equivalent));
        if timed {
            (row.verdict, row.reason) = (Some(Verdict::Unclear), Some(reason));
        }
    }
}

/// Error figures that differ in any bit: accuracy repeats exactly or something changed.
fn changes(base: &Accuracy, head: &Accuracy) -> Vec<AccuracyChange> {
    let figures = [
        ("max_abs", base.max_abs, head.max_abs),
        ("rmse", base.rmse, head.rmse),
        ("nmse", base.nmse, head.nmse),
        ("sqnr_db", base.sqnr_db, head.sqnr_db),
        ("cosine", base.cosine, head.cosine),
    ];
    let changed = figures.into_iter().filter(|(_, a, b)| a.to_bits() != b.to_bits());
    changed
        .map(|(metric, base, head)| AccuracyChange { metric: metric.to_owned(), base, head })
        .collect()
}

/// Fields in which two environments differ so that their times may not be compared.
pub fn differences(base: &Environment, head: &Environment) -> Vec<String> {
    let unlike = Unlike::between(base, head);
    let fields = unlike.device.iter().chain(&unlike.env);
    fields.map(|difference| difference.field.to_owned()).collect()
}

/// The exit code: the gravest of what applies.
pub fn exit(found: &Comparison, fail_on: &[FailOn], interrupted: bool, exhausted: bool) -> Exit {
    let asked = |what: FailOn| FailOn::asks(fail_on, what);
    let invalid = found.control.as_ref().is_some_and(|control| !control.valid);
    let changed = found.rows.iter().any(|row| !row.accuracy_changed.is_empty());
    let nothing = found.rows.iter().all(|row| row.verdict.is_none());
    let applies = [
        (interrupted, Exit::Interrupted),
        (found.count(Verdict::Wrong) > 0 && asked(FailOn::Wrong), Exit::Finding),
        (found.count(Verdict::Slower) > 0 && asked(FailOn::Slower), Exit::Finding),
        (changed && asked(FailOn::AccuracyChange), Exit::Finding),
        (exhausted, Exit::Environment),
        (nothing, Exit::Nothing),
        (found.count(Verdict::Unclear) > 0 && asked(FailOn::Unclear), Exit::Inconclusive),
        (invalid && asked(FailOn::Unclear), Exit::Inconclusive),
    ];
    Exit::gravest(applies.into_iter().filter(|(applies, _)| *applies).map(|(_, exit)| exit))
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
