//! What was decided and why, for people: the rule, the evidence and what follows, in lines of at most
//! 80 columns. Used for `explain` (the last handshake) and for a dry run (what a connection would do).

use super::policy::{Advice, Step};
use super::{AfterSb0Pri, Decision, Policies, Side, Verdict, policy, table};
use crate::ondisk::Bytes;
use core::fmt::{self, Display, Formatter, Write};

/// Columns of a line.
const WIDTH: usize = 80;
/// Column in which the evidence begins.
const INDENT: usize = 13;

/// What comes before anything else, where a growth was interrupted: the smaller volume grows to the other one's size, with
/// what is new of it out of sync, and the nodes connect again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grows {
    /// This node's volume does, and not the peer's.
    pub here: bool,
    /// Its size in bytes.
    pub from: u64,
    /// Its size in bytes afterwards.
    pub to: u64,
}

/// Bytes of a block that is copied, or not, as a whole.
pub const BLOCK: u64 = 4096;

/// One volume's decision with everything that it rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// Index of the volume.
    pub volume: u16,
    /// Blocks of 4 KiB that it has, when it has grown.
    pub blocks: u64,
    /// Whether it grows first.
    pub grows: Option<Grows>,
    /// What was decided.
    pub decision: Decision,
    /// This node, as it described itself.
    pub mine: Side,
    /// The peer, as it described itself.
    pub peer: Side,
    /// What this node's operator wants done about a split brain.
    pub mine_wants: Policies,
    /// What the peer's operator wants done about it.
    pub peer_wants: Policies,
    /// Blocks that the peer had acknowledged and may have lost when it restarted, at most: they are copied, too, if this
    /// node is the source.
    pub forgotten: u64,
    /// The volume because of which the nodes do not connect at all; `None`: they do.
    pub hindered_by: Option<u16>,
    /// The volumes' policies name different losers, so that none of them counts.
    pub contradicted: bool,
    /// Whether this is a dry run: nothing has been done.
    pub tentative: bool,
}

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Decision { rule, .. } = self.decision;
        let volume = self.volume;
        writeln!(f, "vol{volume}: {}", rule.text())?;
        if !rule.number().is_empty() {
            writeln!(f, "  rule       {} in DRBD's table", rule.number())?;
        }
        self.side(f, "this node", &self.mine)?;
        self.side(f, "peer", &self.peer)?;
        self.settled(f)?;
        if let Some(grows) = self.grows {
            writeln!(f, "  {:<10} {grows}", "first")?;
        }
        let tense = if self.tentative { "would be" } else { "result" };
        write!(f, "  {tense:<10} ")?;
        let mut out = Wrap::default();
        self.result(&mut out)?;
        out.end(f)?;
        if let Some(other) = self.hindered_by.filter(|other| *other != volume) {
            let verb = if self.tentative {
                "would not"
            } else {
                "did not"
            };
            write!(f, "\n{:INDENT$}", "")?;
            write!(f, "but the nodes {verb} connect, because of vol{other}")?;
        }
        Ok(())
    }
}

impl Display for Grows {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let who = if self.here { "this node" } else { "the peer" };
        let (from, to) = (Bytes(self.from), Bytes(self.to));
        write!(f, "{who} grows from {from} to {to}")
    }
}

impl Explanation {
    /// The result and the rule in one line, for the log.
    pub fn summary(&self) -> impl Display {
        fmt::from_fn(|f| {
            write!(f, "vol{}: ", self.volume)?;
            self.result(f)?;
            write!(f, ": {}", self.decision.rule.text())?;
            if let Some(grows) = self.grows {
                write!(f, "; first {grows}")?;
            }
            match self.hindered_by.filter(|other| *other != self.volume) {
                Some(other) => write!(f, "; no connection because of vol{other}"),
                None => Ok(()),
            }
        })
    }

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
            (side.left_behind, "its clients saw newer data"),
        ];
        for (at, (_, text)) in flags.iter().filter(|(set, _)| *set).enumerate() {
            // Two of them fit a line.
            let separator = if at % 2 == 0 { "\n             " } else { ", " };
            write!(f, "{separator}{text}")?;
        }
        writeln!(f)
    }

    /// Who was asked because the generations alone did not say it, and what he said.
    fn settled(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let agreed = self.mine_wants.agreed(&self.peer_wants);
        let (found, rule) = table::compare(&self.mine, &self.peer);
        let split = matches!(found, Verdict::SplitBrain | Verdict::Unrelated);
        if split && self.mine.discard != self.peer.discard {
            let who = if self.mine.discard {
                "this node's"
            } else {
                "the peer's"
            };
            writeln!(f, "  settled by the operator, who gave {who} changes up")?;
        } else if split {
            if self.mine.discard {
                self.line(
                    f,
                    "operator",
                    "gave both nodes' changes up, which decides nothing",
                )?;
            }
            for step in policy::consult(&self.mine, &self.peer, rule, &agreed).steps() {
                self.step(f, *step)?;
            }
        }
        if self.contradicted {
            let said = "the volumes differ in who loses: the operator decides";
            return self.line(f, "policies", said);
        }
        if !matches!(
            self.decision.verdict,
            Verdict::PrimaryIsTarget | Verdict::SourceAfterDemotion | Verdict::TargetAfterDemotion
        ) {
            return Ok(());
        }
        if self.mine.left_behind || self.peer.left_behind {
            let said = "the Primary's clients saw newer data than what is left";
            return self.line(f, "clients", said);
        }
        self.says(
            f,
            "rr-conflict",
            self.mine_wants.rr_conflict.name(),
            self.peer_wants.rr_conflict.name(),
            match self.decision.verdict {
                Verdict::PrimaryIsTarget => "the operator decides",
                _ => "the Primary drops its clients and becomes Secondary",
            },
        )
    }

    fn step(&self, f: &mut Formatter<'_>, step: Step) -> fmt::Result {
        let (mine, peer) = (&self.mine_wants, &self.peer_wants);
        let outcome = |advice: Advice| match advice {
            Advice::KeepMine => "the peer's changes are given up",
            Advice::KeepPeer => "this node's changes are given up",
            Advice::Zero => "as after-sb-0pri says",
            Advice::Nothing => "the operator decides",
        };
        match step {
            Step::Unrelated => self.line(f, "policies", "none is for unrelated data"),
            Step::Older => self.says(
                f,
                "always-asbp",
                yes_no(mine.always_asbp),
                yes_no(peer.always_asbp),
                "no policy is asked, as only older generations meet",
            ),
            Step::Two(advice) => self.says(
                f,
                "after-sb-2pri",
                mine.after_sb_2pri.name(),
                peer.after_sb_2pri.name(),
                outcome(advice),
            ),
            Step::One(advice) => self.says(
                f,
                "after-sb-1pri",
                mine.after_sb_1pri.name(),
                peer.after_sb_1pri.name(),
                outcome(advice),
            ),
            Step::PrimaryWouldLose => self.line(
                f,
                "",
                "the Primary's changes would be given up: the operator decides",
            ),
            Step::None(advice) => self.says(
                f,
                "after-sb-0pri",
                self.zero(mine.after_sb_0pri),
                self.zero(peer.after_sb_0pri),
                outcome(advice),
            ),
        }
    }

    /// The names of nodes are not known here.
    fn zero(&self, policy: AfterSb0Pri) -> &'static str {
        policy.plain_name(self.mine.first)
    }

    /// A policy, its values, and what followed.
    fn says(
        &self,
        f: &mut Formatter<'_>,
        name: &str,
        mine: &str,
        peer: &str,
        outcome: &str,
    ) -> fmt::Result {
        write!(f, "  {:<10} ", "policy")?;
        let mut out = Wrap::default();
        if mine == peer {
            write!(out, "{name} {mine}: {outcome}")?;
        } else {
            write!(
                out,
                "{name} differs, {mine} here and {peer} on the peer: {outcome}"
            )?;
        }
        out.end(f)?;
        writeln!(f)
    }

    fn line(&self, f: &mut Formatter<'_>, what: &str, said: &str) -> fmt::Result {
        write!(f, "  {what:<10} ")?;
        writeln!(f, "{said}")
    }

    fn result(&self, f: &mut dyn Write) -> fmt::Result {
        let primary = if self.mine.primary {
            "this node"
        } else {
            "the peer"
        };
        match self.decision.verdict {
            Verdict::NoDisk => write!(f, "connected, nothing is mirrored"),
            Verdict::Undecided => write!(f, "connected, not mirrored: the operator must decide"),
            Verdict::InSync if self.forgotten > 0 => {
                self.amount(f, false)?;
                write!(
                    f,
                    " that the peer may have lost, from this node to the peer"
                )
            }
            Verdict::InSync if !self.mine.steady && self.peer.steady => write!(
                f,
                "in sync, nothing is copied but what this disk lost in a restart, if the peer knows of any"
            ),
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
                "the peer drops its clients, becomes Secondary and then takes this node's data"
            ),
            Verdict::TargetAfterDemotion => write!(
                f,
                "this node drops its clients, becomes Secondary and then takes the peer's data"
            ),
            Verdict::SplitBrain => {
                write!(f, "split brain: no connection, the operator must decide")
            }
            Verdict::Unrelated => {
                write!(f, "unrelated data: no connection, the operator must decide")
            }
            Verdict::PrimaryIsTarget => write!(
                f,
                "no connection: {primary} is Primary and would have to take the other's data"
            ),
            Verdict::BothPrimary => write!(f, "no connection: both nodes are Primary"),
        }
    }

    /// Blocks that are copied, at least and at most. The union of both nodes' dirty blocks is exchanged only
    /// afterwards; its bounds are known.
    #[must_use]
    pub fn bounds(&self, full: bool) -> (u64, u64) {
        if full {
            return (self.blocks, self.blocks);
        }
        let (mine, peer) = (self.mine.dirty, self.peer.dirty);
        let least = mine.max(peer);
        // The rest of what was the last block.
        let edge = self.grows.is_some_and(|grows| grows.from % BLOCK != 0);
        let more = self.forgotten.saturating_add(u64::from(edge));
        let most = mine.saturating_add(peer).saturating_add(more);
        (least, most.min(self.blocks.max(least)))
    }

    fn amount(&self, f: &mut dyn Write, full: bool) -> fmt::Result {
        let (least, most) = self.bounds(full);
        let bytes = |blocks: u64| Bytes(blocks.saturating_mul(BLOCK));
        match full {
            true => write!(f, "full resync of all {most} blocks ({})", bytes(most)),
            false if least == most => {
                write!(f, "resync by bitmap of {most} blocks ({})", bytes(most))
            }
            false => write!(
                f,
                "resync by bitmap of {least} to {most} blocks ({} to {})",
                bytes(least),
                bytes(most)
            ),
        }
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}
/// Text that is broken into lines between words; the first line begins at the indentation, and so do the
/// others. What does not fit (no explanation is that long) is cut off.
#[derive(Default)]
struct Wrap(heapless::String<384>);

impl Wrap {
    fn end(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut column = INDENT;
        for (at, word) in self.0.split(' ').enumerate() {
            if at > 0 && column + 1 + word.len() > WIDTH {
                write!(f, "\n{:INDENT$}", "")?;
                column = INDENT;
            } else if at > 0 {
                f.write_char(' ')?;
                column += 1;
            }
            f.write_str(word)?;
            column += word.len();
        }
        Ok(())
    }
}

impl Write for Wrap {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.capacity() - self.0.len();
        let fits = text.floor_char_boundary(room.min(text.len()));
        self.0.push_str(&text[..fits]).map_err(|_| fmt::Error)
    }
}
