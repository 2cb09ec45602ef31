//! What a run drew: a generator that is too tame finds nothing, so its draws are counted.

/// Everything worth counting; the first group must all occur in a long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation, see NAMES")]
#[repr(usize)]
pub enum Kind {
    LinkCut,
    LinkOneWay,
    LinkHalfOpen,
    LinkReset,
    LinkSlow,
    LinkGarbage,
    ReaderStall,
    PowerCut,
    SitePowerCut,
    Kill,
    CrashAtAction,
    Pause,
    PauseClockRuns,
    DiskSlow,
    DiskError,
    BlankDisk,
    ClientReset,
    RecklessForce,
    OpRead,
    OpWrite,
    OpWriteFua,
    OpFlush,
    OpDiscard,
    OpWriteZeroes,
    OpInvalid,
    OpRetry,
    CmdPrimary,
    CmdPrimaryForce,
    CmdSecondary,
    CmdSecondaryForce,
    CmdConnect,
    CmdDiscardMyData,
    CmdDisconnect,
    CmdNewCurrentUuid,
    LostUnflushed,
    // From here on: consequences, reported but not required.
    Replies,
    Dropped,
    CommandRefused,
    Promotions,
    InSyncChecks,
    Resyncs,
    SplitBrains,
    Frames,
    Steps,
    LastKind,
}

/// Kinds that must each occur in a run of [`LONG_RUN`] seeds.
const REQUIRED: usize = Kind::Replies as usize;
/// Seeds from which on a kind that was never drawn fails the run.
pub const LONG_RUN: u64 = 1000;

const NAMES: [&str; Kind::LastKind as usize] = [
    "link: cut both ways",
    "link: cut one way",
    "link: half-open",
    "link: reset",
    "link: slow",
    "link: garbage instead of a frame",
    "link: reader stops",
    "node: power cut, unflushed writes lost in part",
    "node: power cut of both",
    "node: killed, disk cache kept",
    "node: crash between two actions of one step",
    "node: paused, its clock too",
    "node: paused, its clock goes on",
    "disk: slow",
    "disk: input/output error",
    "disk: replaced by a blank one",
    "client: connection reset with requests in flight",
    "operator: reckless force",
    "request: read",
    "request: write",
    "request: write with FUA",
    "request: flush",
    "request: discard",
    "request: write zeroes",
    "request: invalid",
    "request: sent again after reconnecting",
    "command: primary",
    "command: primary --force",
    "command: secondary",
    "command: secondary --force",
    "command: connect",
    "command: connect --discard-my-data",
    "command: disconnect",
    "command: new-current-uuid",
    "sector that lost an unflushed write",
    "= replies",
    "= requests dropped with their connection",
    "= commands refused",
    "= promotions",
    "= full comparisons of both replicas",
    "= resyncs started",
    "= histories that split",
    "= frames delivered",
    "= simulated events",
];

/// Counters of one or many runs.
#[derive(Debug, Clone)]
pub struct Stats([u64; Kind::LastKind as usize]);

impl Default for Stats {
    fn default() -> Self {
        Self([0; Kind::LastKind as usize])
    }
}

impl Stats {
    /// Counts one.
    pub fn count(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }

    /// How often `kind` occurred.
    #[must_use]
    pub fn get(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// Adds another run's counters.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Names of the required kinds that never occurred.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        (0..REQUIRED)
            .filter(|&i| self.0[i] == 0)
            .map(|i| NAMES[i])
            .collect()
    }

    /// A table, one kind a line.
    #[must_use]
    pub fn table(&self) -> String {
        let line = |(name, count): (&&str, &u64)| format!("{count:>12}  {name}\n");
        NAMES.iter().zip(&self.0).map(line).collect()
    }
}
