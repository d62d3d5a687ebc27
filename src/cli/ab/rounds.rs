//! The run: both sides of every cell prepared, then rounds of blocks and looks at them.

use super::candidates::{Candidate, candidates, suited, taste};
use super::contest::{Contest, Settled};
use super::flags::PairFlags;
use super::lanes::Lanes;
use super::sides::Source;
use super::{confirm, outcome};
use crate::cli::args::Global;
use crate::cli::exit::Failure;
use crate::cli::progress::Progress;
use crate::cli::run::now;
use crate::cli::{interrupt, output};
use crate::compare::plan::{BLOCKS_PER_REBUILD, Injection, LOOKS, PAIRS_PER_BLOCK, batch, inject};
use crate::compare::{Block, Jury, Reason, Trial, Verdict, schedule};
use crate::record::{Comparison, Environment, Noise, PartialFile, Side};

/// What the comparison is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// Head against base, with a share of the cells as controls.
    Ab { control: f64 },
    /// Everything against itself, all pairs of all cells.
    Selftest,
}

/// A comparison with its sides resolved.
pub struct Job<'a> {
    pub flags: &'a PairFlags,
    pub global: &'a Global,
    pub base: Source,
    pub head: Source,
    pub purpose: Purpose,
    /// What is to be confirmed.
    pub previous: Option<Comparison>,
    pub allow_unlike: bool,
    /// Of earlier selftests.
    pub noise: Noise,
    pub arguments: Vec<String>,
}

/// A finished comparison.
pub struct Done {
    pub comparison: Comparison,
    /// The device took one worker after the other down.
    pub exhausted: bool,
}

/// What is measured next: a cell, and whether as a test or as a control.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Turn {
    contest: usize,
    side: Side,
}

impl Job<'_> {
    pub fn run(self) -> Result<Done, Failure> {
        let chosen = candidates(self.flags, &self.base, &self.head, self.previous.as_ref())?;
        let mut file = output::open_at(self.flags.output.as_deref(), None)?;
        let mut lanes = Lanes::open(self.flags, self.global, &self.base, &self.head)?;
        let unlike = self.unlike(&lanes.environments)?;
        let mut environment = lanes.environments[0].clone();
        environment.timer = lanes.timer.clone();
        environment.started = now();
        environment.arguments = self.arguments.clone();
        environment.preset = self.flags.selection.preset.clone();
        if let Some(previous) = &self.previous {
            confirm::same_machine(previous, &environment)?;
        }
        let device = &environment.device;
        let chosen = if self.is_taste() { taste(chosen, self.flags, device)? } else { chosen };
        let chosen = suited(chosen, self.flags, device.emulated);
        let contest = |candidate: Candidate| {
            let mut contest = Contest::new(candidate);
            let (checks, sample_s) = (self.flags.checks.name(), self.flags.sample_s());
            contest.noise = self.noise.of(&environment.fingerprint, &contest.id, checks, sample_s);
            contest
        };
        let mut contests: Vec<Contest> = chosen.into_iter().map(contest).collect();
        let mut comparison = outcome::begin(&self, environment, &lanes.environments, unlike);
        if let Some(file) = &mut file {
            file.comparison(&comparison).map_err(output::failure)?;
        }
        self.prepare(&mut lanes, &mut contests);
        self.choose_controls(&mut contests);
        let mut jury = self.jury(&lanes, &contests);
        self.measure(&mut lanes, &mut contests, &mut jury, file.as_mut())?;
        let exhausted = lanes.exhausted();
        drop(lanes);
        let stopped = interrupt::requested() || exhausted;
        outcome::finish(&self, &mut comparison, &contests, &jury, stopped);
        comparison.environment.finished = Some(now());
        if let Some(file) = file {
            file.finish_comparison(&comparison).map_err(output::failure)?;
        }
        Ok(Done { comparison, exhausted })
    }

    /// Whether `--quick` leaves a few cells: not where others are named, and of programs, whose
    /// rules are their own, it has taken the first ones already.
    fn is_taste(&self) -> bool {
        let are_named = !self.flags.selection.filters.is_empty() || self.previous.is_some();
        self.flags.quick && !are_named && !matches!(self.base, Source::Binary(_))
    }

    /// Smallest change of a cell that is worth a verdict, as a fraction.
    pub fn floor(&self, contest: &Contest) -> f64 {
        self.flags.floor(contest.noise)
    }

    /// What differs between the environments that two programs see.
    fn unlike(&self, environments: &[Environment]) -> Result<Vec<String>, Failure> {
        let (base, head) = (&environments[0], &environments[environments.len().min(2) - 1]);
        let unlike = outcome::differences(base, head);
        if unlike.is_empty() || self.allow_unlike {
            return Ok(unlike);
        }
        let fields = unlike.join(", ");
        let message = format!("base and head see unlike environments: {fields} differ");
        Err(Failure::usage(format!("{message}; --allow-unlike prints ratios without verdicts")))
    }

    /// Verifies both sides of every cell. What does not fit into memory with the others is
    /// prepared again when its turn comes.
    fn prepare(&self, lanes: &mut Lanes, contests: &mut [Contest]) {
        let progress = Progress::new(contests.len());
        let mut resident_bytes = 0;
        for contest in contests.iter_mut().filter(|contest| contest.is_open()) {
            if interrupt::requested() || lanes.exhausted() {
                break;
            }
            progress.at(&contest.id, "verifying");
            match lanes.prepare(&contest.id, Side::Base) {
                Err(reason) => contest.settled = Some(Settled::base(reason)),
                Ok(base) => match lanes.prepare(&contest.id, Side::Head) {
                    Err(reason) => {
                        let status = crate::record::Status::Error;
                        contest.settled = Some(Settled::head(status, reason));
                    }
                    Ok(head) => contest.weigh(base, head),
                },
            }
            self.plan(lanes, contest);
            resident_bytes += contest.bytes();
            if !contest.is_open() || resident_bytes > lanes.residency_bytes {
                lanes.release(&contest.id);
                resident_bytes -= contest.bytes();
            }
            progress.done();
        }
    }

    /// How many dispatches make a sample, and what is injected.
    fn plan(&self, lanes: &Lanes, contest: &mut Contest) {
        if !contest.is_open() {
            return;
        }
        let dispatch_s = contest.dispatch_s();
        let own = batch(dispatch_s, self.flags.sample_s(), lanes.timer.resolution_s);
        contest.plan = match self.flags.inject {
            Some(percent) => inject(percent / 100.0, own, dispatch_s, lanes.canary_s),
            None => Injection { batch: own, ..Injection::default() },
        };
        contest.within(self.flags.max_time, LOOKS[LOOKS.len() - 1].pairs);
        let same = contest.is_identical() && self.flags.inject.is_none();
        if contest.is_open() && same && self.purpose != Purpose::Selftest {
            let (status, verdict) = (crate::record::Status::Ok, Verdict::Same);
            contest.settled = Some(Settled::new(status, verdict, Reason::Identical, None));
        }
    }

    /// Draws the cells that also run base against base.
    fn choose_controls(&self, contests: &mut [Contest]) {
        let Purpose::Ab { control: share } = self.purpose else { return };
        let tested = contests.iter().filter(|contest| contest.is_open()).count();
        if tested == 0 || share == 0.0 {
            return;
        }
        let able = |c: &Contest| {
            let identical = c.settled.as_ref().and_then(|s| s.verdict).map(|(_, why)| why);
            c.is_open() || identical == Some(Reason::Identical)
        };
        let pool: Vec<usize> = (0..contests.len()).filter(|&i| able(&contests[i])).collect();
        let families: Vec<&str> = pool.iter().map(|&i| contests[i].family.as_str()).collect();
        let count = schedule::control_count(tested, pool.len(), share);
        for at in schedule::controls(&families, count, self.flags.seed) {
            contests[pool[at]].control = Some(Vec::new());
        }
    }

    fn jury(&self, lanes: &Lanes, contests: &[Contest]) -> Jury {
        let trial = |contest: &Contest| {
            let sample_s = contest.dispatch_s() * f64::from(contest.plan.batch);
            let timer_step = lanes.timer.resolution_s / sample_s.max(f64::MIN_POSITIVE);
            Trial { floor: self.floor(contest), timer_step }
        };
        // Only what is measured counts among the hypotheses.
        let mut jury = Jury::new(contests.iter().map(trial).collect(), self.flags.seed);
        for (at, contest) in contests.iter().enumerate() {
            if !contest.is_open() {
                jury.exclude(at);
            }
        }
        jury
    }

    /// The rounds of every look, each of which ends with a look.
    fn measure(
        &self,
        lanes: &mut Lanes,
        contests: &mut [Contest],
        jury: &mut Jury,
        mut file: Option<&mut PartialFile>,
    ) -> Result<(), Failure> {
        let mut first_block = 0;
        let mut written = vec![false; contests.len()];
        self.stream(contests, jury, &mut written, file.as_deref_mut())?;
        for (nth, look) in LOOKS.iter().enumerate() {
            let blocks = first_block..look.pairs / PAIRS_PER_BLOCK;
            first_block = blocks.end;
            let turns = self.turns(contests, jury, nth);
            if turns.is_empty() {
                break;
            }
            for wave in waves(&turns, contests, lanes.residency_bytes) {
                let alone = wave.len() < turns.len();
                self.rounds(lanes, contests, jury, &wave, blocks.clone());
                if alone {
                    wave.iter().for_each(|turn| lanes.release(&contests[turn.contest].id));
                }
            }
            if interrupt::requested() || lanes.exhausted() {
                break;
            }
            let all: Vec<Vec<Block>> = contests.iter().map(|c| c.blocks.clone()).collect();
            jury.look(look, &all);
            self.stream(contests, jury, &mut written, file.as_deref_mut())?;
        }
        Ok(())
    }

    /// What is measured before the next look: every undecided cell, its control with it. The
    /// control of a cell that needs no measuring takes part up to the first look.
    fn turns(&self, contests: &[Contest], jury: &Jury, nth: usize) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (at, contest) in contests.iter().enumerate() {
            let selftest = self.purpose == Purpose::Selftest;
            let open = contest.is_open() && (selftest || !jury.is_decided(at));
            if open {
                turns.push(Turn { contest: at, side: Side::Head });
            }
            let idle = !contest.is_open() && nth == 0;
            if contest.control.is_some() && (open || idle) {
                turns.push(Turn { contest: at, side: Side::Control });
            }
        }
        turns
    }

    /// Rounds of one block of every turn, each in an order of its own.
    fn rounds(
        &self,
        lanes: &mut Lanes,
        contests: &mut [Contest],
        jury: &mut Jury,
        turns: &[Turn],
        blocks: std::ops::Range<usize>,
    ) {
        let progress = Progress::new(blocks.len());
        for round in blocks {
            progress.at(&format!("of {} cells", turns.len()), "a round of pairs");
            for at in schedule::shuffled(turns.len(), round, self.flags.seed) {
                if interrupt::requested() || lanes.exhausted() {
                    return;
                }
                self.block(lanes, contests, jury, turns[at], round);
            }
            progress.done();
        }
    }

    fn block(
        &self,
        lanes: &mut Lanes,
        contests: &mut [Contest],
        jury: &mut Jury,
        turn: Turn,
        round: usize,
    ) {
        let contest = &mut contests[turn.contest];
        let control = turn.side == Side::Control;
        let lost = |settled: &Settled| !matches!(settled.verdict, Some((Verdict::Same, _)));
        if contest.settled.as_ref().is_some_and(lost) {
            return;
        }
        // The control of a cell draws coins of its own.
        let trial = 2 * turn.contest + usize::from(control);
        let order = schedule::order(trial, round, self.flags.seed);
        let alone = !contest.is_open();
        let due = round > 0 && round.is_multiple_of(BLOCKS_PER_REBUILD);
        let rebuild = due && (alone || !control);
        match lanes.block(&contest.id, turn.side, order, &contest.plan, rebuild) {
            Ok(block) if control => contest.control.get_or_insert_default().push(block),
            Ok(block) => contest.blocks.push(block),
            Err(settled) => {
                if let Some((verdict, reason)) = settled.verdict {
                    jury.dismiss(turn.contest, verdict, reason);
                }
                contest.settled = Some(settled);
            }
        }
    }

    /// Writes down what is decided and not yet written.
    fn stream(
        &self,
        contests: &[Contest],
        jury: &Jury,
        written: &mut [bool],
        file: Option<&mut PartialFile>,
    ) -> Result<(), Failure> {
        let Some(file) = file else { return Ok(()) };
        for (at, contest) in contests.iter().enumerate() {
            let judgement = jury.decision(at);
            if (contest.is_open() && judgement.is_none()) || written[at] {
                continue;
            }
            let row = outcome::row(self, contest, judgement.as_ref());
            file.compared(&row).map_err(output::failure)?;
            written[at] = true;
        }
        Ok(())
    }
}

/// Turns whose cells fit into memory together, the sides of a cell always in one.
fn waves(turns: &[Turn], contests: &[Contest], limit_bytes: u64) -> Vec<Vec<Turn>> {
    let mut waves: Vec<Vec<Turn>> = Vec::new();
    let mut taken_bytes = 0;
    for cell in turns.chunk_by(|a, b| a.contest == b.contest) {
        let bytes = contests[cell[0].contest].bytes();
        if waves.is_empty() || taken_bytes + bytes > limit_bytes {
            waves.push(Vec::new());
            taken_bytes = 0;
        }
        taken_bytes += bytes;
        waves.last_mut().expect("just pushed").extend_from_slice(cell);
    }
    waves
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_and_its_control_stay_in_one_wave() {
        let candidate =
            Candidate { id: "k".into(), family: "f".into(), on_base: true, on_head: true };
        let contests = vec![Contest::new(candidate); 3];
        let sides = [Side::Head, Side::Control];
        let turns: Vec<Turn> =
            (0..3).flat_map(|contest| sides.map(|side| Turn { contest, side })).collect();
        assert_eq!(waves(&turns, &contests, 1), std::slice::from_ref(&turns));
        let lengths = |waves: Vec<Vec<Turn>>| waves.iter().map(Vec::len).collect::<Vec<_>>();
        let mut large = contests;
        for contest in &mut large {
            let item = &crate::suite::items(crate::kernel::Preset::Smoke)[0];
            let mut row = item.row(crate::record::Status::Ok, None, "safe");
            row.device_bytes = Some(10);
            let ready = super::super::contest::Ready { row, dispatch_s: None, hash: String::new() };
            contest.base = Some(ready);
        }
        assert_eq!(lengths(waves(&turns, &large, 20)), [4, 2]);
        assert_eq!(lengths(waves(&turns, &large, 5)), [2, 2, 2]);
        assert_eq!(lengths(waves(&[], &large, 5)), [0; 0]);
    }
}
