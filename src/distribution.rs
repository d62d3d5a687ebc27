//! What input values look like.

/// What the input values look like. Each one exposes faults that the others hide. Those that only
/// some kernels know how to draw look like [`Distribution::Normal`] in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// Standard normal: the timed data, and the precision class.
    Normal,
    /// Small integers whose sums are exact in any order: indexing, tails, strides, races.
    Integers,
    /// Normal around 1000: cancellation, one-pass variance.
    Offset,
    /// Normal with standard deviation 1e-3: a wrong or missing epsilon.
    Small,
    /// Normal with standard deviation 30: a missing max-subtraction.
    Large,
    /// 1000.1 everywhere: a zero variance, range or distance that must not be divided by.
    Constant,
    /// Normal with some channels of the last axis 20 times as large: one scale for all of them.
    Outliers,
    /// Halves between -2 and 2: equal values, and codes half-way between two others.
    Ties,
    /// Nothing but -127 and 127: sums that only exact integer arithmetic gets right.
    Extreme,
    /// Normal, the first axis growing from 1 to 2^15 (2^10 in f16): modalities of unlike scale.
    Ratio,
    /// Subnormal numbers, which a device may flush to zero.
    Subnormal,
    /// One key answers each query: a dropped, doubled or shifted key.
    Needle,
    /// The kernel's own limits, such as norms of exactly the clipping bound.
    Edges,
    /// Tensors from files; those that none gives are standard normal.
    User,
}

impl Distribution {
    /// Those that can be drawn.
    pub const ALL: [Distribution; 13] = [
        Distribution::Normal,
        Distribution::Integers,
        Distribution::Offset,
        Distribution::Small,
        Distribution::Large,
        Distribution::Constant,
        Distribution::Outliers,
        Distribution::Ties,
        Distribution::Extreme,
        Distribution::Ratio,
        Distribution::Subnormal,
        Distribution::Needle,
        Distribution::Edges,
    ];

    /// What suits a kernel of real numbers without peculiarities.
    pub const COMMON: &[Distribution] = &[
        Distribution::Normal,
        Distribution::Integers,
        Distribution::Offset,
        Distribution::Small,
        Distribution::Large,
    ];

    /// Whether the values are so many different ones that roundings are independent. Around 1000
    /// f16 has steps of one half, and an integer is one of 31 values.
    pub fn is_continuous(self) -> bool {
        matches!(
            self,
            Distribution::Normal
                | Distribution::Small
                | Distribution::Large
                | Distribution::Outliers
                | Distribution::Ratio
        )
    }

    pub fn parse(name: &str) -> Option<Self> {
        Distribution::ALL.into_iter().find(|distribution| distribution.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Distribution::Normal => "normal",
            Distribution::Integers => "integers",
            Distribution::Offset => "offset",
            Distribution::Small => "small",
            Distribution::Large => "large",
            Distribution::Constant => "constant",
            Distribution::Outliers => "outliers",
            Distribution::Ties => "ties",
            Distribution::Extreme => "extreme",
            Distribution::Ratio => "ratio",
            Distribution::Subnormal => "subnormal",
            Distribution::Needle => "needle",
            Distribution::Edges => "edges",
            Distribution::User => "user",
        }
    }
}
