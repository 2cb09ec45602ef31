//! How a volume's generation identifiers change.
//!
//! ```text
//! current, bitmap, [history]
//!
//! (C, 0, [])  --peer_lost-->  (D, C, [])  --begin_source ... end_announced-->  (D, 0, [C])
//! in sync                     alone         a resync to the peer               in sync again
//! ```
//!
//! One fact holds throughout and needs no memory of its own: **without a `bitmap` generation the peer
//! has, or may have, this node's `current`; with one it has not.** So a Primary that loses its peer
//! takes a new generation exactly if it has no `bitmap`.
//!
//! Every change is durable before what it stands for happens: see each method.

/// A volume's generation identifiers: random 64-bit numbers, 0 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generations {
    /// Names the data that this node has; [`super::JUST_CREATED`] on new metadata.
    pub current: u64,
    /// Names the data that the dirty bitmap counts from; 0: it counts from `current`.
    pub bitmap: u64,
    /// Earlier values of `bitmap`, and generations that were overruled, newest first.
    pub history: [u64; 2],
}

impl Generations {
    /// Whether the peer has, or may have, the current generation and could go on from it.
    #[must_use]
    pub fn peer_may_have_current(&self) -> bool {
        self.bitmap == 0
    }

    /// The Primary has lost its peer, or the peer's disk, and is about to go on without it. `fresh` is a
    /// random number. Durable before the first answer to a client that the peer has no part in (also
    /// to a flush: what that covers may be lost on the peer). Returns whether anything changed.
    ///
    /// Likewise for any source of which an operator says that all of it is to replace the peer's copy, before the peer
    /// is told: a copy that is given up and does not know it yet must not pass for the same.
    pub fn peer_lost(&mut self, fresh: u64) -> bool {
        let rotates = self.peer_may_have_current();
        if rotates {
            self.promoted_alone(fresh);
        }
        rotates
    }

    /// This node becomes Primary without a peer that mirrors its writes: what it has from now on is
    /// not what anybody was told of, so it always bears a new generation. Durable before clients are served.
    ///
    /// If the peer has not the old one either, that is forgotten, and the bitmap goes on counting from
    /// where it does: however often a lone node restarts, its peer finds itself in the lineage.
    pub fn promoted_alone(&mut self, fresh: u64) {
        if self.peer_may_have_current() {
            self.bitmap = self.current;
        }
        self.current = fresh;
    }

    /// A resync from this node to a peer whose current generation is `peer` begins. Returns the generation
    /// that the unfinished copy bears. Durable, together with the united bitmap (or all blocks marked if
    /// `full`), before the peer is told. `fresh` is a random number for a full resync.
    ///
    /// A peer whose data was given up leaves its generation in the history: should the word that the
    /// resync begins be lost, the decision is not.
    pub fn begin_source(&mut self, peer: u64, full: bool, fresh: u64) -> u64 {
        if full {
            self.remember(self.bitmap);
            self.bitmap = fresh;
        }
        if peer != self.current && peer != self.bitmap && !self.history.contains(&peer) {
            self.remember(peer);
        }
        if self.bitmap == 0 {
            self.current
        } else {
            self.bitmap
        }
    }

    /// A resync to this node begins: its unfinished copy bears `unfinished`, as the source said. Durable
    /// together with the disk state Inconsistent before the first block is overwritten; the dirty bits stay.
    pub fn begin_target(&mut self, unfinished: u64) {
        *self = Self {
            current: unfinished,
            ..Self::default()
        };
    }

    /// The source's part of the end of a resync: all blocks are on both disks. Durable *before* the peer
    /// is told, since from that moment on the peer may have the current generation.
    pub fn end_announced(&mut self) {
        self.remember(self.bitmap);
        self.bitmap = 0;
    }

    /// The target's part: the copy is whole and bears the source's generation. Durable, together with the
    /// disk state UpToDate, after a flush and before the source is answered.
    pub fn end_target(&mut self, source: u64) {
        *self = Self {
            current: source,
            ..Self::default()
        };
    }

    /// The handshake found both nodes in sync: a resync whose end this node missed has ended.
    pub fn found_in_sync(&mut self) {
        self.end_announced();
    }

    /// The operator states that both nodes' disks are identical: both bear `fresh` from now on. What they bore before stays
    /// in the history: should the word or its answer be lost, the node that missed it is found there. Not as the newest:
    /// an unfinished copy that bears that one is resumed, and this one would be of an earlier time.
    pub fn declared_identical(&mut self, fresh: u64) {
        *self = Self {
            current: fresh,
            bitmap: 0,
            history: [0, self.current],
        };
    }

    fn remember(&mut self, generation: u64) {
        if generation != 0 {
            self.history = [generation, self.history[0]];
        }
    }
}
