//! Deliberate defects of the engine, to prove that the simulator's oracle notices each of them.
//!
//! They exist only with the cargo feature `mutations`, which nothing but `cargo run -p sim --features
//! mutations -- mutations` turns on; without it [`is`] is a constant `false` and leaves no trace in the
//! image. One is active in a process at a time.

#[cfg(feature = "mutations")]
use core::sync::atomic::{AtomicUsize, Ordering};

macro_rules! mutations {
    ($($mutation:ident = $name:literal: $meaning:literal,)*) => {
        /// A deliberate defect.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mutation {
            $(#[doc = $meaning] $mutation,)*
        }

        /// All of them.
        pub const ALL: &[Mutation] = &[$(Mutation::$mutation,)*];

        impl Mutation {
            /// Its name on the command line.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$mutation => $name,)* }
            }

            /// What is wrong with it.
            #[must_use]
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$mutation => $meaning,)* }
            }
        }
    };
}

mutations! {
    AckBeforePeer = "ack-before-peer": "a client's write is answered before the peer has it",
    AckBeforeDisk = "ack-before-disk": "the peer acknowledges a write that its disk has not done",
    AcceptStaleAck = "accept-stale-ack": "an old connection's requests are acknowledged on a new one, and whatever has that slot now counts as done",
    ForgetFuaFlush = "forget-fua-flush": "a FUA write is answered without a flush of the disk",
    ForgetPeerFlush = "forget-peer-flush": "a client's flush is not mirrored",
    FlushServesLatecomers = "flush-serves-latecomers": "a running flush answers also those who came after it was issued",
    InFlightNotMarked = "in-flight-not-marked": "what was in flight to the peer when the link was lost is not marked",
    AloneNotMarked = "alone-not-marked": "what is written without the peer is not marked",
    NoNewGeneration = "no-new-generation": "a Primary that loses its peer goes on in the generation they share",
    GenerationNotDurable = "generation-not-durable": "writes are answered before the new generation is durable",
    ServesBeforeDurable = "serves-before-durable": "clients are let in before the promotion is durable",
    ResyncBeforeInconsistent = "resync-before-inconsistent": "a target is overwritten before Inconsistent is durable",
    UpToDateBeforeFlush = "up-to-date-before-flush": "a target calls itself UpToDate without having flushed",
    EndNotHeld = "end-not-held": "the end of a resync is acknowledged before it is durable on the target",
    ClearBitEarly = "clear-bit-early": "a block is marked clean when it is sent, not when the peer has it",
    UnflushedForgotten = "unflushed-forgotten": "a peer that lost its power is believed to have all it acknowledged",
    PageWithoutUnflushed = "page-without-unflushed": "a bitmap page is saved without what the peer has not flushed",
    CooledWithoutFlush = "cooled-without-flush": "extents are cooled without a flush of both disks",
    CooledWithoutBitmap = "cooled-without-bitmap": "extents are cooled without saving the bitmap's pages",
    SkipActivityLog = "skip-activity-log": "a write starts before its extent is durably hot",
    OverwriteBeforeCopy = "overwrite-before-copy": "a resync's target is overwritten before its old content is in the reserve",
    HotNotMarked = "hot-not-marked": "a crashed Primary does not mark its hot extents",
    BadPageIsClean = "bad-page-is-clean": "a damaged bitmap page counts as in sync",
    BitmapNotRead = "bitmap-not-read": "the bitmap on the disk is not read at attach",
    NotSerialised = "not-serialised": "overlapping requests are in flight together",
    ResyncNotLocked = "resync-not-locked": "a resync run does not keep out overlapping writes",
    ReadsDoNotWait = "reads-do-not-wait": "a read does not wait for overlapping writes",
    BitsNotUnited = "bits-not-united": "the target's marks are not brought in sync",
    NoPrimaryFlag = "no-primary-flag": "a promotion is not noted on the disk",
    StaleSuperblock = "stale-superblock": "of two superblock copies the older one is taken",
    SecondCopyNotWritten = "second-copy-not-written": "the second superblock copy is never written again",
    SecondaryKnowsBest = "secondary-knows-best": "a Secondary that lost its peer goes on calling itself UpToDate",
    SteadyIgnored = "steady-ignored": "a crashed Primary overwrites a survivor that has everything",
    OrphansNotAwaited = "orphans-not-awaited": "the handshake does not wait for the old connection's disk operations",
    NoBarrier = "no-barrier": "under protocols A and B no epoch is ever ended",
    EpochsNotKept = "epochs-not-kept": "the peer starts an epoch before the earlier ones are done",
    FlushHereOnly = "flush-here-only": "under protocols A and B a flush or FUA write is answered without the peer",
    NotReceived = "not-received": "under protocol B a write is answered before the peer has it in its memory",
    ReceivedIsDropped = "received-is-dropped": "under protocols A and B a peer that loses its Primary drops what it had received",
    LaggingIsSteady = "lagging-is-steady": "under protocol A a peer that may lag behind a crashed Primary overwrites it",
    AheadUntold = "ahead-untold": "writes are not sent any more before the peer knows that it is behind",
    NewPartNotMarked = "new-part-not-marked": "what a volume grows by is not marked as out of sync",
    MovesUnfrozen = "moves-unfrozen": "the activity log goes on at its old place while the metadata moves",
    UnfencePerVolume = "fence-unfence-per-volume": "a fence is given back when the first volume is in sync",
    UnfenceOnConnect = "fence-unfence-on-connect": "a fence is given back when the nodes are connected",
    UnfenceOnTarget = "fence-unfence-on-target": "a fenced node lifts its mark by itself when it is in sync",
    EpisodeNotDurable = "fence-episode-not-durable": "what an episode says is done before it is durable",
    ThawBeforeGrant = "fence-thaw-before-grant": "clients go on before the fence is granted",
    DenialIgnored = "fence-denial-ignored": "a node becomes Primary though the fence was refused",
    NotVouched = "fence-not-vouched": "nobody remembers after which episode both nodes were in sync",
    LoneNotFenced = "fence-lone-not-fenced": "a Primary goes on without a fence when its connected peer's disk is gone",
    HeldNotConfirmed = "fence-held-not-confirmed": "a node that held a fence when it went down becomes Primary without asking whether it still does",
    SizeToldEarly = "size-told-early": "clients are told of a new size before this node has it durably",
    BufferLeak = "buffer-leak": "a mirrored write's buffer is not given back",
}

/// Whether this build has them.
pub const ENABLED: bool = cfg!(feature = "mutations");

#[cfg(feature = "mutations")]
static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Makes one active; `false` if there is none of that name, or none in this build.
pub fn select(name: &str) -> bool {
    #[cfg(feature = "mutations")]
    if let Some(at) = ALL.iter().position(|m| m.name() == name) {
        ACTIVE.store(at, Ordering::Relaxed);
        return true;
    }
    let _ = name;
    false
}

/// Whether `mutation` is the active one.
#[cfg(feature = "mutations")]
#[must_use]
pub fn is(mutation: Mutation) -> bool {
    ACTIVE.load(Ordering::Relaxed) == mutation as usize
}

/// Whether `mutation` is the active one: never, in this build.
#[cfg(not(feature = "mutations"))]
#[must_use]
pub const fn is(mutation: Mutation) -> bool {
    let _ = mutation;
    false
}
