//! The promotion rule (ARCHITECTURE.md, "Fencing"): a connected Secondary peer or the
//! operator's word, and a disk that may be gone on with.

use core::fmt;

/// What happens when a Primary loses its peer, by DRBD's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Policy {
    /// The Primary goes on at once; nobody is fenced. Split brain is possible, is detected at
    /// the next handshake, and needs the operator.
    #[default]
    DontCare,
    /// A Primary goes on while the peer is being fenced; a node becomes Primary without its peer only
    /// with a fence. For a short time both may be written to: it keeps a node that restarts from becoming Primary with old data.
    ResourceOnly,
    /// As `ResourceOnly`, and a Primary answers no client from the loss of its peer until the fence is decided.
    ResourceAndStonith,
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DontCare => "dont-care",
            Self::ResourceOnly => "resource-only",
            Self::ResourceAndStonith => "resource-and-stonith",
        })
    }
}

/// How good the worst of a node's disks is, as far as promotion is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskGrade {
    /// Missing, failed, or the target of an unfinished resync: nobody can vouch for it.
    Unusable,
    /// Whole in itself, but it is not known whether it is the latest: the operator may vouch.
    Doubtful,
    /// Known best.
    Best,
}

/// What is known of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerView {
    /// Not connected: it may be dead, or Primary behind a broken link.
    Unreachable,
    /// Connected and Secondary (it will be asked before the promotion takes effect).
    Secondary,
    /// Connected and Primary.
    Primary,
}

/// Everything the rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The operator said `--force`.
    pub force: bool,
    /// The worst of this node's disks.
    pub disk: DiskGrade,
    /// The peer.
    pub peer: PeerView,
}

/// Why a promotion is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// The peer is Primary; two writers are never allowed, not even by force.
    PeerIsPrimary,
    /// The disk cannot be gone on with, not even by force.
    DiskUnusable,
    /// The disk may not be the latest; only the operator can vouch for it.
    DiskDoubtful,
    /// The peer cannot be asked; only the operator can vouch that it is not Primary.
    PeerUnreachable,
}

/// Whether the node may become Primary under `policy` without a fence: the rule is the same for all of them. What
/// the other policies add, a fence instead of the operator's word, is [`Fencer`](crate::Fencer)'s.
///
/// # Errors
/// The [`Denial`] that the operator must deal with first.
pub fn may_promote(_policy: Policy, facts: Facts) -> Result<(), Denial> {
    if facts.peer == PeerView::Primary {
        return Err(Denial::PeerIsPrimary);
    }
    match facts.disk {
        DiskGrade::Unusable => return Err(Denial::DiskUnusable),
        DiskGrade::Doubtful if !facts.force => return Err(Denial::DiskDoubtful),
        DiskGrade::Doubtful | DiskGrade::Best => {}
    }
    if facts.peer == PeerView::Unreachable && !facts.force {
        return Err(Denial::PeerUnreachable);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(force: bool, disk: DiskGrade, peer: PeerView) -> Result<(), Denial> {
        may_promote(Policy::DontCare, Facts { force, disk, peer })
    }

    #[test]
    fn force_vouches_for_doubt_but_never_for_a_second_writer_or_a_half_synced_disk() {
        use DiskGrade::{Best, Doubtful, Unusable};
        use PeerView::{Primary, Secondary, Unreachable};
        assert_eq!(ask(false, Best, Secondary), Ok(()));
        assert_eq!(ask(false, Best, Unreachable), Err(Denial::PeerUnreachable));
        assert_eq!(ask(true, Best, Unreachable), Ok(()));
        assert_eq!(ask(false, Doubtful, Secondary), Err(Denial::DiskDoubtful));
        assert_eq!(ask(true, Doubtful, Unreachable), Ok(()));
        for force in [false, true] {
            assert_eq!(ask(force, Unusable, Secondary), Err(Denial::DiskUnusable));
            for disk in [Unusable, Doubtful, Best] {
                assert_eq!(ask(force, disk, Primary), Err(Denial::PeerIsPrimary));
            }
        }
    }
}
