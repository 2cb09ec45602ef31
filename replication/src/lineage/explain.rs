//! What was decided and why, for people: the rule, the evidence and what follows, in lines of at most
//! 80 columns. Used for `explain` (the last handshake) and for a dry run (what a connection would do).

use super::{AfterSb, Decision, Settled, Side, Verdict};
use core::fmt::{self, Display, Formatter};

/// One volume's decision with everything that it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// Index of the volume.
    pub volume: u16,
    /// Blocks of 4 KiB that it has.
    pub blocks: u64,
    /// What was decided.
    pub decision: Decision,
    /// This node, as it described itself.
    pub mine: Side,
    /// The peer, as it described itself.
    pub peer: Side,
    /// Whether this is a dry run: nothing has been done.
    pub tentative: bool,
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Decision { rule, settled, .. } = self.decision;
        let volume = self.volume;
        writeln!(f, "vol{volume}: {}", rule.text())?;
        if !rule.number().is_empty() {
            writeln!(f, "  rule       {} in DRBD's table", rule.number())?;
        }
        self.side(f, "this node", &self.mine)?;
        self.side(f, "peer", &self.peer)?;
        match settled {
            Settled::ByRule => {}
            Settled::ByDiscard => {
                let who = if self.mine.discard {
                    "this node's"
                } else {
                    "the peer's"
                };
                writeln!(f, "  settled by the operator, who gave {who} changes up")?;
            }
            Settled::ByPolicy(policy) => {
                let name = match policy {
                    AfterSb::NoPrimary => "after-sb-0pri",
                    AfterSb::OnePrimary => "after-sb-1pri",
                    AfterSb::TwoPrimaries => "after-sb-2pri",
                };
                writeln!(f, "  settled by the policy {name}")?;
            }
        }
        let tense = if self.tentative { "would be" } else { "result" };
        write!(f, "  {tense:<10} ")?;
        self.result(f)
    }
}

impl Explanation {
    fn side(&self, f: &mut Formatter<'_>, who: &str, side: &Side) -> fmt::Result {
        let [newer, older] = side.history;
        writeln!(
            f,
            "  {who:<10} current {:016x}  bitmap {:016x}",
            side.current, side.bitmap
        )?;
        writeln!(f, "  {:<10} history {newer:016x}  {older:016x}", "")?;
        let role = if side.primary { "Primary" } else { "Secondary" };
        write!(f, "  {:<10} {:?}, {role}, ", "", side.disk)?;
        write!(f, "{} blocks dirty", side.dirty)?;
        let flags = [
            (side.is_created(), "just created"),
            (side.crashed, "crashed as Primary"),
            (side.was_primary, "Primary when the peer was lost"),
            (side.discard, "changes given up"),
            (side.steady, "in use without a break"),
        ];
        for (at, (_, text)) in flags.iter().filter(|(set, _)| *set).enumerate() {
            // Two of them fit a line.
            let separator = if at % 2 == 0 { "\n             " } else { ", " };
            write!(f, "{separator}{text}")?;
        }
        writeln!(f)
    }

    fn result(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let primary = if self.mine.primary {
            "this node"
        } else {
            "the peer"
        };
        match self.decision.verdict {
            Verdict::NoDisk => write!(f, "connected, nothing is mirrored"),
            Verdict::Undecided => write!(f, "connected, not mirrored: the operator must decide"),
            Verdict::InSync => write!(f, "in sync, nothing is copied"),
            Verdict::Source { full } => {
                self.amount(f, full)?;
                write!(f, " from this node to the peer")
            }
            Verdict::Target { full } => {
                self.amount(f, full)?;
                write!(f, " from the peer to this node")
            }
            Verdict::SourceAfterDemotion => write!(
                f,
                "the peer drops its clients, becomes Secondary\n             and then takes this node's data"
            ),
            Verdict::TargetAfterDemotion => write!(
                f,
                "this node drops its clients, becomes Secondary\n             and then takes the peer's data"
            ),
            Verdict::SplitBrain => {
                write!(f, "split brain: no connection, the operator must decide")
            }
            Verdict::Unrelated => {
                write!(f, "unrelated data: no connection, the operator must decide")
            }
            Verdict::PrimaryIsTarget => write!(
                f,
                "no connection: {primary} is Primary and would have to\n             take the other's data"
            ),
            Verdict::BothPrimary => write!(f, "no connection: both nodes are Primary"),
        }
    }

    /// The union of both nodes' dirty blocks is exchanged only afterwards; its bounds are known.
    fn amount(&self, f: &mut Formatter<'_>, full: bool) -> fmt::Result {
        if full {
            return write!(f, "all {} blocks go", self.blocks);
        }
        let (mine, peer) = (self.mine.dirty, self.peer.dirty);
        let least = mine.max(peer);
        let most = mine.saturating_add(peer).min(self.blocks.max(least));
        if least == most {
            write!(f, "{least} blocks go")
        } else {
            write!(f, "{least} to {most} blocks go")
        }
    }
}
