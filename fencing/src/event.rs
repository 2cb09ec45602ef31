//! What happens at a node that somebody may want to act on: the occasions of DRBD's handlers, by their names.

use core::fmt;

/// An occasion. `fence-peer` and `unfence-peer` are not here: FENCE and UNFENCE are theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// On the target, before the volume turns Inconsistent. The node waits for the outcome; anything but exit code 0 ends
    /// the connection instead.
    BeforeResyncTarget,
    /// On the target, when the volume's resync has ended, also an aborted one.
    AfterResyncTarget,
    /// On the source, before the volume's resync. The node waits, as for [`Event::BeforeResyncTarget`].
    BeforeResyncSource,
    /// A split brain was found, before any policy was asked.
    InitialSplitBrain,
    /// A split brain that no policy resolves: the operator is needed.
    SplitBrain,
    /// A Primary is told to become the target of a resync.
    PriLost,
    /// A Primary lost by a policy for split brain and cannot become Secondary.
    PriLostAfterSb,
    /// A Primary has no good data of its own, and its peer none either.
    PriOnInconDegr,
    /// The local disk failed a request.
    LocalIoError,
    /// A verify found blocks that differ.
    OutOfSync,
    /// The connection is gone.
    Disconnected,
}

impl Event {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 11] = [
        Self::BeforeResyncTarget,
        Self::AfterResyncTarget,
        Self::BeforeResyncSource,
        Self::InitialSplitBrain,
        Self::SplitBrain,
        Self::PriLost,
        Self::PriLostAfterSb,
        Self::PriOnInconDegr,
        Self::LocalIoError,
        Self::OutOfSync,
        Self::Disconnected,
    ];

    /// The name of the handler.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeResyncTarget => "before-resync-target",
            Self::AfterResyncTarget => "after-resync-target",
            Self::BeforeResyncSource => "before-resync-source",
            Self::InitialSplitBrain => "initial-split-brain",
            Self::SplitBrain => "split-brain",
            Self::PriLost => "pri-lost",
            Self::PriLostAfterSb => "pri-lost-after-sb",
            Self::PriOnInconDegr => "pri-on-incon-degr",
            Self::LocalIoError => "local-io-error",
            Self::OutOfSync => "out-of-sync",
            Self::Disconnected => "disconnected",
        }
    }

    /// Whether the node waits for the outcome before it goes on.
    #[must_use]
    pub const fn awaited(self) -> bool {
        matches!(self, Self::BeforeResyncTarget | Self::BeforeResyncSource)
    }

    /// The number by which a datagram names it, from 1.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::BeforeResyncTarget => 1,
            Self::AfterResyncTarget => 2,
            Self::BeforeResyncSource => 3,
            Self::InitialSplitBrain => 4,
            Self::SplitBrain => 5,
            Self::PriLost => 6,
            Self::PriLostAfterSb => 7,
            Self::PriOnInconDegr => 8,
            Self::LocalIoError => 9,
            Self::OutOfSync => 10,
            Self::Disconnected => 11,
        }
    }

    /// The event with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.code() == code)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
