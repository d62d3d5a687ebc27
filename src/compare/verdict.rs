//! What a comparison of one cell comes to, and why.

/// The outcome for one cell, head against base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The head gives no right answer; outranks every timing verdict.
    Wrong,
    Slower,
    Unclear,
    Faster,
    /// Equivalence is shown: the whole interval lies within the floor.
    Same,
    /// Only the head has the cell.
    New,
    /// Only the base has the cell.
    Gone,
}

/// Why the verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// SLOWER, FASTER: the test rejects and the whole interval lies beyond the floor.
    Evidence,
    /// SLOWER: found again by an independent measurement.
    Confirmed,
    /// SAME: the whole interval lies within the floor.
    Equivalent,
    /// SAME: both sides run the same shader with the same constants.
    Identical,
    /// UNCLEAR: neither a difference beyond the floor nor equivalence within it is shown.
    Straddles,
    /// UNCLEAR: too few valid pairs for the first look.
    TooFew,
    /// UNCLEAR: another verdict once the change of the device's clock is taken out.
    Clock,
    /// UNCLEAR: the control arm, base against base, alarms too often; the run says nothing.
    Control,
    /// UNCLEAR: found slower before, and not again.
    Unconfirmed,
    /// UNCLEAR: the two sides were measured in unlike environments.
    Environment,
    /// UNCLEAR: the timer's steps are too coarse for the floor.
    TimerQuantised,
    /// UNCLEAR: the base gives no right answer, so there is no time to compare with.
    BaseWrong,
    /// UNCLEAR: the measurement was interrupted before its first look.
    Interrupted,
    /// WRONG: the head failed a gate, or did not compile or run.
    Failed,
    /// NEW, GONE: the other side has no such cell.
    OneSided,
}

impl Verdict {
    pub const ALL: [Verdict; 7] = [
        Verdict::Wrong,
        Verdict::Slower,
        Verdict::Unclear,
        Verdict::Faster,
        Verdict::Same,
        Verdict::New,
        Verdict::Gone,
    ];

    /// As tables and files have it.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Wrong => "WRONG",
            Verdict::Slower => "SLOWER",
            Verdict::Unclear => "UNCLEAR",
            Verdict::Faster => "FASTER",
            Verdict::Same => "SAME",
            Verdict::New => "NEW",
            Verdict::Gone => "GONE",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Verdict::ALL.into_iter().find(|verdict| verdict.name() == name)
    }
}

impl Reason {
    pub const ALL: [Reason; 15] = [
        Reason::Evidence,
        Reason::Confirmed,
        Reason::Equivalent,
        Reason::Identical,
        Reason::Straddles,
        Reason::TooFew,
        Reason::Clock,
        Reason::Control,
        Reason::Unconfirmed,
        Reason::Environment,
        Reason::TimerQuantised,
        Reason::BaseWrong,
        Reason::Interrupted,
        Reason::Failed,
        Reason::OneSided,
    ];

    /// As tables and files have it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Evidence => "evidence",
            Reason::Confirmed => "confirmed",
            Reason::Equivalent => "equivalent",
            Reason::Identical => "identical",
            Reason::Straddles => "straddles",
            Reason::TooFew => "too_few",
            Reason::Clock => "clock",
            Reason::Control => "control",
            Reason::Unconfirmed => "unconfirmed",
            Reason::Environment => "env",
            Reason::TimerQuantised => "timer_quantised",
            Reason::BaseWrong => "base_wrong",
            Reason::Interrupted => "interrupted",
            Reason::Failed => "failed",
            Reason::OneSided => "one_sided",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Reason::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_leads_back_to_what_it_names() {
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_name(verdict.name()), Some(verdict));
        }
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.name()), Some(reason));
        }
        assert_eq!((Verdict::from_name("slower"), Reason::from_name("")), (None, None));
    }

    #[test]
    fn verdicts_sort_worst_first() {
        assert!(Verdict::ALL.is_sorted());
    }
}
