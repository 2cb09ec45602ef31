//! What a run drew: a generator that is too tame finds nothing, so its draws are counted.

use crate::fault::Fault;
use replication::api::{ConnectionState, DiskState, ReplicationState, Role};
use std::collections::BTreeMap;

macro_rules! kinds {
    ($(required $needed:ident = $need:literal,)* $(counted $kind:ident = $name:literal,)*) => {
        /// Everything worth counting beside the faults.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the documentation")]
        #[repr(usize)]
        pub enum Kind { $($needed,)* $($kind,)* }

        const NAMES: &[&str] = &[$($need,)* $($name,)*];
        /// How many of them must each occur in a run of [`LONG_RUN`] seeds.
        const REQUIRED: usize = [$($need,)*].len();
    };
}

kinds! {
    required ClientReset = "client: connection reset with requests in flight",
    required RecklessForce = "operator: reckless force",
    required OpRead = "request: read",
    required OpWrite = "request: write",
    required OpWriteFua = "request: write with FUA",
    required OpFlush = "request: flush",
    required OpDiscard = "request: discard",
    required OpWriteZeroes = "request: write zeroes",
    required OpInvalid = "request: invalid",
    required OpRetry = "request: sent again after reconnecting",
    required CmdPrimary = "command: primary",
    required CmdPrimaryForce = "command: primary --force",
    required CmdSecondary = "command: secondary",
    required CmdSecondaryForce = "command: secondary --force",
    required CmdConnect = "command: connect",
    required CmdDiscardMyData = "command: connect --discard-my-data",
    required CmdDryRun = "command: connect --dry-run",
    required CmdInspect = "command: inspect",
    required CmdDisconnect = "command: disconnect",
    required CmdCreateMd = "command: create-md",
    required CmdNewCurrentUuid = "command: new-current-uuid",
    required CmdAttach = "command: attach",
    required CmdDetach = "command: detach",
    required CmdDetachForce = "command: detach --force",
    required CmdSuspendIo = "command: suspend-io",
    required CmdResumeIo = "command: resume-io",
    required Through = "answer that only the peer's disk holds",
    required CmdPauseSync = "command: pause-sync",
    required CmdResumeSync = "command: resume-sync",
    required CmdVerify = "command: verify",
    required CmdVerifyRepair = "command: verify --repair",
    required CmdVerifyAbort = "command: verify --abort",
    required CmdInvalidate = "command: invalidate",
    required CmdInvalidateRemote = "command: invalidate-remote",
    required CmdResize = "command: resize",
    required CmdOutdate = "command: outdate",
    required DryRuns = "dry run that was decided",
    required QuietDryRuns = "dry run while nothing was under way",
    required Foretold = "connection just as a dry run foretold",
    required ForetoldBytes = "resync of as many bytes as a dry run foretold",
    required SoundInspections = "inspect of a disk that never lied",
    required Verified = "verify that came to its end",
    required Repaired = "verify that repaired a block",
    required SyncData = "resync: blocks sent",
    required DigestsEqual = "resync: blocks spared by their digests",
    required DigestsDiffer = "resync: blocks found to differ by their digests",
    required LostUnflushed = "sector that lost an unflushed write",
    required LagChecks = "comparison of replicas while the peer lags",
    required PrefixChecks = "check that only a suffix is missing",
    required LostSuffix = "promotion without the last answered writes",
    required AnsweredAhead = "answer to a write that is not sent for congestion",
    counted Promote = "administrator: PROMOTE",
    counted Promoted = "= PROMOTEs by which a node became Primary",
    counted PromoteDenied = "= PROMOTEs denied",
    counted ClientsPromote = "= promotions since clients waited",
    counted Handlers = "= handlers run",
    counted CmdUnfence = "command: unfence",
    counted CmdRollback = "command: rollback",
    counted CmdDropSnapshot = "command: drop-snapshot",
    counted SnapshotsTaken = "snapshot taken before a resync",
    counted SnapshotsDropped = "snapshot dropped: its reserve was full",
    counted SnapshotsEnded = "snapshot dropped at the end of a resync",
    counted RolledBack = "rollback that came to its end",
    counted RollbacksAgain = "rollback done again after a crash",
    counted OldContent = "old content compared after a rollback",
    counted Replies = "= replies",
    counted Dropped = "= requests dropped with their connection",
    counted CommandRefused = "= commands refused",
    counted Promotions = "= promotions",
    counted InSyncChecks = "= full comparisons of both replicas",
    counted Resyncs = "= resyncs started",
    counted SplitBrains = "= histories that split",
    counted Amnesties = "= runs whose last good copy failed",
    counted Scrubbed = "= sectors that a lying disk spoiled",
    counted Frames = "= frames delivered",
    counted Steps = "= simulated events",
}

/// Seeds from which on a kind that was never drawn fails the run.
pub const LONG_RUN: u64 = 1000;

/// A state a node can be in, as the table of transitions names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Role(Role),
    Connection(ConnectionState),
    Disk(DiskState),
    Replication(ReplicationState),
}

impl State {
    fn text(self) -> String {
        match self {
            Self::Role(s) => format!("role {s:?}"),
            Self::Connection(s) => format!("connection {s:?}"),
            Self::Disk(s) => format!("disk {s:?}"),
            Self::Replication(s) => format!("replication {s:?}"),
        }
    }
}

/// Counters of one or many runs.
#[derive(Debug, Clone)]
pub struct Stats {
    kinds: Vec<u64>,
    faults: Vec<u64>,
    transitions: BTreeMap<String, u64>,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            kinds: vec![0; NAMES.len()],
            faults: vec![0; Fault::ALL.len()],
            transitions: BTreeMap::new(),
        }
    }
}

impl Stats {
    /// Counts one.
    pub fn count(&mut self, kind: Kind) {
        self.kinds[kind as usize] += 1;
    }

    /// A fault struck.
    pub fn fault(&mut self, fault: Fault) {
        self.faults[fault as usize] += 1;
    }

    /// A node went from one state into another.
    pub(crate) fn transition(&mut self, from: State, to: State) {
        let text = to.text();
        let to = text.split_once(' ').map_or("", |t| t.1);
        let name = format!("{} -> {to}", from.text());
        *self.transitions.entry(name).or_default() += 1;
    }

    /// How often `kind` occurred.
    #[must_use]
    pub fn get(&self, kind: Kind) -> u64 {
        self.kinds[kind as usize]
    }

    /// How often `fault` struck.
    #[must_use]
    pub fn struck(&self, fault: Fault) -> u64 {
        self.faults[fault as usize]
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.kinds.iter_mut().zip(&other.kinds) {
            *mine += theirs;
        }
        for (mine, theirs) in self.faults.iter_mut().zip(&other.faults) {
            *mine += theirs;
        }
        for (name, count) in &other.transitions {
            *self.transitions.entry(name.clone()).or_default() += count;
        }
    }

    /// Names of what must be drawn in a long run and never was.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let never = |kind: &usize| self.kinds[*kind] == 0;
        let kinds = (0..REQUIRED).filter(never).map(|kind| NAMES[kind]);
        let faults = Fault::ALL.iter().filter(|f| self.struck(**f) == 0);
        faults.map(|f| f.name()).chain(kinds).collect()
    }

    /// A table, one kind a line.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |count: u64, name: &str| text += &format!("{count:>12}  {name}\n");
        for fault in Fault::ALL {
            line(self.struck(*fault), fault.name());
        }
        for (name, count) in NAMES.iter().zip(&self.kinds) {
            line(*count, name);
        }
        for (name, count) in &self.transitions {
            line(*count, name);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_drawn_is_named() {
        let mut stats = Stats::default();
        let all = stats.missing().len();
        assert_eq!(all, REQUIRED + Fault::ALL.len());
        stats.fault(Fault::BitRot);
        stats.count(Kind::OpRead);
        let missing = stats.missing();
        assert_eq!(missing.len(), all - 2);
        assert!(!missing.contains(&Fault::BitRot.name()));
    }
}
