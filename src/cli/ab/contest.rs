//! One cell on both sides: what is known of it and what was measured.

use super::candidates::Candidate;
use crate::compare::plan::Injection;
use crate::compare::{Block, Reason, Verdict};
use crate::record::{Row, Status};

/// One side of a cell as its worker prepared it.
#[derive(Clone, Debug)]
pub struct Ready {
    pub row: Row,
    pub dispatch_s: Option<f64>,
    /// Of the shader and its constants.
    pub hash: String,
}

/// A cell, head against base.
#[derive(Clone, Debug)]
pub struct Contest {
    pub id: String,
    pub family: String,
    pub base: Option<Ready>,
    pub head: Option<Ready>,
    /// Dispatches of a sample, and what is injected into the head's.
    pub plan: Injection,
    pub blocks: Vec<Block>,
    /// How far an earlier selftest found it from itself.
    pub noise: Option<f64>,
    /// Base against base, where this cell is a control.
    pub control: Option<Vec<Block>>,
    /// What needs no measuring, or ended it.
    pub settled: Option<Settled>,
}

/// A verdict that no samples gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Settled {
    pub status: Status,
    /// `None` where neither side can run.
    pub verdict: Option<(Verdict, Reason)>,
    pub why: Option<String>,
}

impl Settled {
    pub fn new(status: Status, verdict: Verdict, reason: Reason, why: Option<String>) -> Self {
        Settled { status, verdict: Some((verdict, reason)), why }
    }

    /// The base is at fault: there is no time to compare with.
    pub fn base(why: String) -> Self {
        let why = Some(format!("base: {why}"));
        Settled::new(Status::Error, Verdict::Unclear, Reason::BaseWrong, why)
    }

    /// The head is at fault.
    pub fn head(status: Status, why: String) -> Self {
        Settled::new(status, Verdict::Wrong, Reason::Failed, Some(why))
    }

    fn skipped(why: String) -> Self {
        Settled { status: Status::Skipped, verdict: None, why: Some(why) }
    }
}

impl Contest {
    pub fn new(candidate: Candidate) -> Self {
        let Candidate { id, family, on_base, on_head } = candidate;
        let one_sided = |verdict| Settled::new(Status::Ok, verdict, Reason::OneSided, None);
        let settled = match (on_base, on_head) {
            (false, _) => Some(one_sided(Verdict::New)),
            (_, false) => Some(one_sided(Verdict::Gone)),
            _ => None,
        };
        Contest {
            id,
            family,
            base: None,
            head: None,
            plan: Injection { batch: 1, ..Injection::default() },
            blocks: Vec::new(),
            noise: None,
            control: None,
            settled,
        }
    }

    /// What the two prepared sides say before anything is timed.
    pub fn weigh(&mut self, base: Ready, head: Ready) {
        let bad = |ready: &Ready| matches!(ready.row.status, Status::Wrong | Status::Error);
        let why = |ready: &Ready| ready.row.reason.clone().unwrap_or_default();
        self.settled = if bad(&head) {
            Some(Settled::head(head.row.status, why(&head)))
        } else if bad(&base) {
            Some(Settled::base(why(&base)))
        } else {
            let unable = [&base, &head].into_iter().find(|ready| ready.row.status != Status::Ok);
            unable.map(|ready| {
                let why = ready.row.reason.clone();
                Settled { status: ready.row.status, verdict: None, why }
            })
        };
        (self.base, self.head) = (Some(base), Some(head));
    }

    /// Whether both sides run the same program.
    pub fn is_identical(&self) -> bool {
        let hash = |ready: &Option<Ready>| ready.as_ref().map(|ready| ready.hash.clone());
        self.base.is_some() && hash(&self.base) == hash(&self.head)
    }

    /// Device memory of one set of its buffers.
    pub fn bytes(&self) -> u64 {
        self.base.as_ref().and_then(|ready| ready.row.device_bytes).unwrap_or(0)
    }

    /// Seconds of one dispatch of the slower side.
    pub fn dispatch_s(&self) -> f64 {
        let of = |ready: &Option<Ready>| ready.as_ref().and_then(|ready| ready.dispatch_s);
        of(&self.base).unwrap_or(0.0).max(of(&self.head).unwrap_or(0.0))
    }

    /// Skips a cell whose pairs would take more than `limit_s`.
    pub fn within(&mut self, limit_s: f64, pairs: usize) {
        let needs_s = 2.0 * pairs as f64 * self.dispatch_s() * f64::from(self.plan.batch);
        if needs_s > limit_s {
            let why = format!("needs about {needs_s:.0} s, --max-time is {limit_s:.0} s");
            self.settled = Some(Settled::skipped(why));
        }
    }

    pub fn is_open(&self) -> bool {
        self.settled.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::items;

    fn ready(status: Status, hash: &str) -> Ready {
        let item = &items(crate::kernel::Preset::Smoke)[0];
        let reason = (status != Status::Ok).then(|| "because".to_owned());
        let row = item.row(status, reason, "safe");
        Ready { row, dispatch_s: Some(0.01), hash: hash.to_owned() }
    }

    fn contest(base: Status, head: Status) -> Contest {
        let candidate = Candidate {
            id: "k/v/f32/n1".to_owned(),
            family: "f".to_owned(),
            on_base: true,
            on_head: true,
        };
        let mut contest = Contest::new(candidate);
        contest.weigh(ready(base, "a"), ready(head, "b"));
        contest
    }

    #[track_caller]
    fn settled(contest: &Contest, status: Status, verdict: Option<(Verdict, Reason)>) {
        let found = contest.settled.as_ref().expect("settled");
        assert_eq!((found.status, found.verdict), (status, verdict));
        assert!(contest.blocks.is_empty());
    }

    #[test]
    fn a_wrong_head_outranks_everything_and_is_never_timed() {
        for base in [Status::Ok, Status::Wrong, Status::Error, Status::Unsupported] {
            for head in [Status::Wrong, Status::Error] {
                let found = contest(base, head);
                settled(&found, head, Some((Verdict::Wrong, Reason::Failed)));
            }
        }
    }

    #[test]
    fn a_wrong_base_leaves_nothing_to_compare_with() {
        for base in [Status::Wrong, Status::Error] {
            let found = contest(base, Status::Ok);
            settled(&found, Status::Error, Some((Verdict::Unclear, Reason::BaseWrong)));
        }
    }

    #[test]
    fn what_neither_side_can_run_has_no_verdict() {
        let found = contest(Status::Unsupported, Status::Unsupported);
        settled(&found, Status::Unsupported, None);
        assert!(contest(Status::Ok, Status::Ok).is_open());
    }

    #[test]
    fn a_cell_on_one_side_is_new_or_gone() {
        for (on_base, verdict) in [(false, Verdict::New), (true, Verdict::Gone)] {
            let candidate =
                Candidate { id: String::new(), family: String::new(), on_base, on_head: !on_base };
            let found = Contest::new(candidate);
            settled(&found, Status::Ok, Some((verdict, Reason::OneSided)));
        }
    }

    #[test]
    fn only_equal_hashes_are_identical() {
        let mut found = contest(Status::Ok, Status::Ok);
        assert!(!found.is_identical());
        found.weigh(ready(Status::Ok, "a"), ready(Status::Ok, "a"));
        assert!(found.is_identical());
    }

    #[test]
    fn a_cell_beyond_its_time_is_skipped_and_says_what_it_needs() {
        let mut found = contest(Status::Ok, Status::Ok);
        found.within(2.0, 100);
        assert!(found.is_open());
        found.within(1.9, 100);
        settled(&found, Status::Skipped, None);
        let why = found.settled.and_then(|settled| settled.why).unwrap();
        assert!(why.contains("2 s") && why.contains("--max-time"), "{why}");
    }
}
