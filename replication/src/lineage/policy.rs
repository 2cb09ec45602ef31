//! What the operator wants done about a split brain, said beforehand: `after-sb-0pri`, `after-sb-1pri`,
//! `after-sb-2pri`, `rr-conflict` and `always-asbp`, by DRBD's names.
//!
//! Both nodes tell each other their policies and go by [`Policies::agreed`]. There are no handler
//! programs in an appliance, so `call-pri-lost` acts as `disconnect` wherever a Primary would lose.

use super::{AfterSb, Rule, Settled, Side, Verdict};
use core::fmt;

/// Which of the two nodes, in the order of their names: the same on both of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The node whose name sorts first.
    First,
    /// The other one.
    Second,
}

/// The two nodes' names, sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'a> {
    first: &'a str,
    second: &'a str,
}

impl<'a> Names<'a> {
    /// Sorts the names of this node and of its peer.
    #[must_use]
    pub fn new(node: &'a str, peer: &'a str) -> Self {
        let (first, second) = if node <= peer {
            (node, peer)
        } else {
            (peer, node)
        };
        Self { first, second }
    }

    fn name(&self, order: Order) -> &'a str {
        match order {
            Order::First => self.first,
            Order::Second => self.second,
        }
    }
}

/// `after-sb-0pri`: a split brain, and neither node is Primary now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterSb0Pri {
    /// The operator decides.
    #[default]
    Disconnect,
    /// Keep the data of the node that was Primary when the connection was lost. If that was so for both
    /// or neither, as `discard-least-changes` does, but a node without changes loses in any case.
    DiscardYoungerPrimary,
    /// Keep the data of the node that became Primary later. Else as for `discard-younger-primary`.
    DiscardOlderPrimary,
    /// A node that has not changed anything takes the other's data; if both have, the operator decides.
    DiscardZeroChanges,
    /// The node that changed fewer blocks loses; if equal, the one whose name sorts last.
    DiscardLeastChanges,
    /// The named node loses: `discard-node-NAME`.
    DiscardNode(Order),
}

/// `after-sb-1pri`: a split brain, and one node is Primary now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterSb1Pri {
    /// The operator decides.
    #[default]
    Disconnect,
    /// If `after-sb-0pri` would discard the Secondary's changes, do; else the operator decides.
    Consensus,
    /// As `after-sb-0pri` says. If the Primary loses, `rr-conflict` must be `violently` too.
    Violently,
    /// The Secondary loses.
    DiscardSecondary,
    /// As `after-sb-0pri` says; where the Primary would lose, the operator decides.
    CallPriLost,
}

/// `after-sb-2pri`: a split brain, and both nodes are Primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AfterSb2Pri {
    /// The operator decides.
    #[default]
    Disconnect,
    /// As `after-sb-0pri` says, provided that `rr-conflict` is `violently` too.
    Violently,
    /// The operator decides: the loser is a Primary, and there is no handler.
    CallPriLost,
}

/// `rr-conflict`: a Primary is told to take the other node's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RrConflict {
    /// The operator decides.
    #[default]
    Disconnect,
    /// It drops its clients, becomes Secondary and then takes the data. (DRBD changes the data
    /// under the clients.)
    Violently,
    /// The operator decides: there is no handler.
    CallPriLost,
}

/// All of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policies {
    /// `after-sb-0pri`.
    pub after_sb_0pri: AfterSb0Pri,
    /// `after-sb-1pri`.
    pub after_sb_1pri: AfterSb1Pri,
    /// `after-sb-2pri`.
    pub after_sb_2pri: AfterSb2Pri,
    /// `rr-conflict`.
    pub rr_conflict: RrConflict,
    /// `always-asbp`: the policies apply also if only the histories meet, so that it is not certain
    /// what the nodes have in common.
    pub always_asbp: bool,
}

/// A policy's plain names: those of DRBD's configuration.
macro_rules! plain_names {
    ($policy:ident: $($variant:ident = $name:literal),+) => {
        impl $policy {
            /// Every name that [`Self::from_name`] takes.
            pub const NAMES: &'static [&'static str] = &[$($name),+];

            /// The policy of this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

plain_names!(AfterSb1Pri:
    Disconnect = "disconnect", Consensus = "consensus", Violently = "violently",
    DiscardSecondary = "discard-secondary", CallPriLost = "call-pri-lost");
plain_names!(AfterSb2Pri:
    Disconnect = "disconnect", Violently = "violently", CallPriLost = "call-pri-lost");
plain_names!(RrConflict:
    Disconnect = "disconnect", Violently = "violently", CallPriLost = "call-pri-lost");

const DISCARD_NODE: &str = "discard-node-";

impl AfterSb0Pri {
    /// Every name that [`Self::from_name`] takes; the last is to be followed by a node's name.
    pub const NAMES: &'static [&'static str] = &[
        "disconnect",
        "discard-younger-primary",
        "discard-older-primary",
        "discard-zero-changes",
        "discard-least-changes",
        DISCARD_NODE,
    ];

    /// The policy of this name; `discard-node-X` must name one of `nodes`.
    #[must_use]
    pub fn from_name(name: &str, nodes: Names<'_>) -> Option<Self> {
        Some(match name {
            "disconnect" => Self::Disconnect,
            "discard-younger-primary" => Self::DiscardYoungerPrimary,
            "discard-older-primary" => Self::DiscardOlderPrimary,
            "discard-zero-changes" => Self::DiscardZeroChanges,
            "discard-least-changes" => Self::DiscardLeastChanges,
            _ => {
                let node = name.strip_prefix(DISCARD_NODE)?;
                let order = [Order::First, Order::Second]
                    .into_iter()
                    .find(|order| nodes.name(*order) == node)?;
                Self::DiscardNode(order)
            }
        })
    }

    /// Its name where the nodes' names are not known; `first`: whether this node's sorts before the peer's.
    pub(super) fn plain_name(self, first: bool) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::DiscardYoungerPrimary => "discard-younger-primary",
            Self::DiscardOlderPrimary => "discard-older-primary",
            Self::DiscardZeroChanges => "discard-zero-changes",
            Self::DiscardLeastChanges => "discard-least-changes",
            Self::DiscardNode(order) if (order == Order::First) == first => {
                "discard-node-(this node)"
            }
            Self::DiscardNode(_) => "discard-node-(the peer)",
        }
    }

    /// Its name, for display.
    #[must_use]
    pub fn name(self, nodes: Names<'_>) -> impl fmt::Display {
        let (plain, node) = match self {
            Self::Disconnect => ("disconnect", ""),
            Self::DiscardYoungerPrimary => ("discard-younger-primary", ""),
            Self::DiscardOlderPrimary => ("discard-older-primary", ""),
            Self::DiscardZeroChanges => ("discard-zero-changes", ""),
            Self::DiscardLeastChanges => ("discard-least-changes", ""),
            Self::DiscardNode(order) => (DISCARD_NODE, nodes.name(order)),
        };
        fmt::from_fn(move |f| write!(f, "{plain}{node}"))
    }
}

impl Policies {
    /// What holds between two nodes: where they differ, the operator decides.
    #[must_use]
    pub fn agreed(&self, peer: &Self) -> Self {
        fn same<T: PartialEq + Default>(mine: T, peer: T) -> T {
            if mine == peer { mine } else { T::default() }
        }
        Self {
            after_sb_0pri: same(self.after_sb_0pri, peer.after_sb_0pri),
            after_sb_1pri: same(self.after_sb_1pri, peer.after_sb_1pri),
            after_sb_2pri: same(self.after_sb_2pri, peer.after_sb_2pri),
            rr_conflict: same(self.rr_conflict, peer.rr_conflict),
            always_asbp: self.always_asbp && peer.always_asbp,
        }
    }

    /// As the greeting tells them, a byte each in the order of the fields.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 5] {
        let zero = match self.after_sb_0pri {
            AfterSb0Pri::Disconnect => 0,
            AfterSb0Pri::DiscardYoungerPrimary => 1,
            AfterSb0Pri::DiscardOlderPrimary => 2,
            AfterSb0Pri::DiscardZeroChanges => 3,
            AfterSb0Pri::DiscardLeastChanges => 4,
            AfterSb0Pri::DiscardNode(Order::First) => 5,
            AfterSb0Pri::DiscardNode(Order::Second) => 6,
        };
        let one = match self.after_sb_1pri {
            AfterSb1Pri::Disconnect => 0,
            AfterSb1Pri::Consensus => 1,
            AfterSb1Pri::Violently => 2,
            AfterSb1Pri::DiscardSecondary => 3,
            AfterSb1Pri::CallPriLost => 4,
        };
        let two = match self.after_sb_2pri {
            AfterSb2Pri::Disconnect => 0,
            AfterSb2Pri::Violently => 1,
            AfterSb2Pri::CallPriLost => 2,
        };
        let conflict = match self.rr_conflict {
            RrConflict::Disconnect => 0,
            RrConflict::Violently => 1,
            RrConflict::CallPriLost => 2,
        };
        [zero, one, two, conflict, u8::from(self.always_asbp)]
    }

    /// The reverse of [`Self::to_bytes`]. A value that this version does not know counts as the default:
    /// then the nodes do not agree, and the operator decides.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 5]) -> Self {
        let [zero, one, two, conflict, always] = bytes;
        Self {
            after_sb_0pri: match zero {
                1 => AfterSb0Pri::DiscardYoungerPrimary,
                2 => AfterSb0Pri::DiscardOlderPrimary,
                3 => AfterSb0Pri::DiscardZeroChanges,
                4 => AfterSb0Pri::DiscardLeastChanges,
                5 => AfterSb0Pri::DiscardNode(Order::First),
                6 => AfterSb0Pri::DiscardNode(Order::Second),
                _ => AfterSb0Pri::Disconnect,
            },
            after_sb_1pri: match one {
                1 => AfterSb1Pri::Consensus,
                2 => AfterSb1Pri::Violently,
                3 => AfterSb1Pri::DiscardSecondary,
                4 => AfterSb1Pri::CallPriLost,
                _ => AfterSb1Pri::Disconnect,
            },
            after_sb_2pri: match two {
                1 => AfterSb2Pri::Violently,
                2 => AfterSb2Pri::CallPriLost,
                _ => AfterSb2Pri::Disconnect,
            },
            rr_conflict: match conflict {
                1 => RrConflict::Violently,
                2 => RrConflict::CallPriLost,
                _ => RrConflict::Disconnect,
            },
            always_asbp: always == 1,
        }
    }
}

/// What a policy advises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// The peer's changes are given up.
    KeepMine,
    /// This node's changes are given up.
    KeepPeer,
    /// What `after-sb-0pri` says.
    Zero,
    /// The operator must decide.
    Nothing,
}

impl Advice {
    fn keep(mine: Option<bool>) -> Self {
        match mine {
            Some(true) => Self::KeepMine,
            Some(false) => Self::KeepPeer,
            None => Self::Nothing,
        }
    }
}

/// A policy that was asked about a split brain, and what it said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// None is asked about data that have nothing in common.
    Unrelated,
    /// None is asked, because only older generations meet and `always-asbp` is not set.
    Older,
    /// `after-sb-2pri`.
    Two(Advice),
    /// `after-sb-1pri`.
    One(Advice),
    /// `after-sb-0pri`.
    None(Advice),
    /// `after-sb-1pri` does not want the Primary to lose, as it would by `after-sb-0pri`.
    PrimaryWouldLose,
}

/// What the policies said about a split brain, one after the other.
#[derive(Debug, Default)]
pub(super) struct Consultation {
    steps: heapless::Vec<Step, 3>,
    /// Whether this node's data goes on, and by which policy. `None`: the operator decides.
    outcome: Option<(bool, AfterSb)>,
}

impl Consultation {
    /// In the order of asking.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn add(&mut self, step: Step) {
        // There are three kinds of policies.
        let _ = self.steps.push(step);
    }
}

/// Settles a split brain, or unrelated data: by the operator's word, else by the policies. `None`: it
/// stays what it is.
pub(super) fn settle(
    mine: &Side,
    peer: &Side,
    rule: Rule,
    policies: &Policies,
) -> Option<(Verdict, Settled)> {
    // Only nodes that went on from one generation, or still have it, know all that differs.
    let full = !matches!(rule, Rule::CommonAncestor | Rule::EqualBothPrimary);
    let (mine_wins, settled) = if mine.discard != peer.discard {
        (peer.discard, Settled::ByDiscard)
    } else {
        let (mine_wins, policy) = consult(mine, peer, rule, policies).outcome?;
        (mine_wins, Settled::ByPolicy(policy))
    };
    let verdict = if mine_wins {
        Verdict::Source { full }
    } else {
        Verdict::Target { full }
    };
    Some((verdict, settled))
}

/// Asks the policies that are for the number of Primaries.
pub(super) fn consult(mine: &Side, peer: &Side, rule: Rule, policies: &Policies) -> Consultation {
    let mut asked = Consultation::default();
    match rule {
        Rule::NothingMatches => {
            asked.add(Step::Unrelated);
            return asked;
        }
        Rule::CommonHistory if !policies.always_asbp => {
            asked.add(Step::Older);
            return asked;
        }
        _ => {}
    }
    let zero = after_sb_0pri(mine, peer, policies.after_sb_0pri);
    let (wins, policy) = match (mine.primary, peer.primary) {
        (false, false) => {
            asked.add(Step::None(Advice::keep(zero)));
            (zero, AfterSb::NoPrimary)
        }
        (true, true) => match policies.after_sb_2pri {
            AfterSb2Pri::Disconnect | AfterSb2Pri::CallPriLost => {
                asked.add(Step::Two(Advice::Nothing));
                (None, AfterSb::TwoPrimaries)
            }
            AfterSb2Pri::Violently => {
                asked.add(Step::Two(Advice::Zero));
                asked.add(Step::None(Advice::keep(zero)));
                (zero, AfterSb::TwoPrimaries)
            }
        },
        (primary, _) => {
            let wins = match policies.after_sb_1pri {
                AfterSb1Pri::Disconnect => {
                    asked.add(Step::One(Advice::Nothing));
                    None
                }
                AfterSb1Pri::DiscardSecondary => {
                    asked.add(Step::One(Advice::keep(Some(primary))));
                    Some(primary)
                }
                AfterSb1Pri::Violently => {
                    asked.add(Step::One(Advice::Zero));
                    asked.add(Step::None(Advice::keep(zero)));
                    zero
                }
                AfterSb1Pri::Consensus | AfterSb1Pri::CallPriLost => {
                    asked.add(Step::One(Advice::Zero));
                    asked.add(Step::None(Advice::keep(zero)));
                    if zero.is_some_and(|mine_wins| mine_wins != primary) {
                        asked.add(Step::PrimaryWouldLose);
                    }
                    zero.filter(|mine_wins| *mine_wins == primary)
                }
            };
            (wins, AfterSb::OnePrimary)
        }
    };
    asked.outcome = wins.map(|wins| (wins, policy));
    asked
}

/// Whether this node's data goes on by `after-sb-0pri`.
fn after_sb_0pri(mine: &Side, peer: &Side, policy: AfterSb0Pri) -> Option<bool> {
    let first = || (mine.first != peer.first).then_some(mine.first);
    let zero_changes = || match (mine.dirty, peer.dirty) {
        (0, 0) => first(),
        (_, 0) => Some(true),
        (0, _) => Some(false),
        _ => None,
    };
    let least_changes = || {
        if mine.dirty == peer.dirty {
            first()
        } else {
            Some(mine.dirty > peer.dirty)
        }
    };
    let was_primary = (mine.was_primary != peer.was_primary).then_some(mine.was_primary);
    match policy {
        AfterSb0Pri::Disconnect => None,
        AfterSb0Pri::DiscardYoungerPrimary => was_primary.or_else(least_changes),
        AfterSb0Pri::DiscardOlderPrimary => was_primary.map(|was| !was).or_else(least_changes),
        AfterSb0Pri::DiscardZeroChanges => zero_changes(),
        AfterSb0Pri::DiscardLeastChanges => least_changes(),
        AfterSb0Pri::DiscardNode(loser) => first().map(|first| first == (loser == Order::Second)),
    }
}

/// Nobody who serves clients takes another's data while it does, and no two nodes serve.
pub(super) fn respect_roles(
    mine: &Side,
    peer: &Side,
    verdict: Verdict,
    policies: &Policies,
) -> Verdict {
    let demotes = policies.rr_conflict == RrConflict::Violently;
    match verdict {
        Verdict::Source { .. } if peer.left_behind => Verdict::PrimaryIsTarget,
        Verdict::Target { .. } if mine.left_behind => Verdict::PrimaryIsTarget,
        Verdict::Source { .. } if peer.primary => {
            if demotes {
                Verdict::SourceAfterDemotion
            } else {
                Verdict::PrimaryIsTarget
            }
        }
        Verdict::Target { .. } if mine.primary => {
            if demotes {
                Verdict::TargetAfterDemotion
            } else {
                Verdict::PrimaryIsTarget
            }
        }
        Verdict::NoDisk | Verdict::Undecided | Verdict::InSync if mine.primary && peer.primary => {
            Verdict::BothPrimary
        }
        other => other,
    }
}
