//! The fence worker's record in the superblocks (docs/ONDISK.md, "Fencing state"), and the resource's identity in it.

use super::super::{Engine, text};
use crate::api::{DiskState, Level, Role, Text};
use crate::buf::Mem;
use crate::mutation::{self, Mutation};
use crate::wire::Hello;
use fencing::api::Input;
use fencing::{EPISODE_MAX, RECORD_LEN, Record};

impl super::Fence {
    /// Of the record that the superblocks are to have; 0: they keep what they have.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// That record.
    pub fn bytes(&self) -> &[u8; RECORD_LEN] {
        &self.bytes
    }
}

/// Why a disk with such a record must not be used.
pub(in crate::engine) fn unreadable(reserve: &[u8; RECORD_LEN]) -> Option<Text> {
    let error = Record::decode(reserve).err()?;
    Some(text!(
        "{error}: boot that release, or run 'create-md' with --force if its content may go"
    ))
}

impl Engine {
    /// Every superblock is to have this record from the next save on. With a new mark the disks are Outdated in the
    /// same save.
    pub(super) fn store_record(&mut self, record: &Record) {
        let new_mark = record.mark > self.fence.fencer.stored().mark;
        match record.encode(self.fence.revision + 1) {
            Ok(bytes) => {
                self.fence.bytes = bytes;
                self.fence.revision += 1;
                self.fence.saving = true;
            }
            // It is never called durable, so nothing is said or done because of it.
            Err(error) => self.log(
                Level::Error,
                text!("the fencing state cannot be stored: {error}"),
            ),
        }
        if new_mark {
            self.outdate_disks();
        }
    }

    /// Whether the record is on every disk that is in use, and on one at least.
    pub(super) fn record_is_durable(&self) -> bool {
        if mutation::is(Mutation::EpisodeNotDurable) {
            return true;
        }
        let disks = self.volumes.iter().filter(|volume| volume.usable());
        let mut revisions = disks.filter_map(|v| v.meta.as_ref()).peekable();
        let wanted = self.fence.revision;
        revisions.peek().is_some() && revisions.all(|meta| meta.fence_stored() == Some(wanted))
    }

    /// A disk was attached. The newest record of all disks counts.
    pub(in crate::engine) fn record_found(
        &mut self,
        at: usize,
        reserve: &[u8; RECORD_LEN],
        mem: &mut Mem<'_>,
    ) {
        let Ok((record, revision)) = Record::decode(reserve) else {
            return;
        };
        self.volumes[at].vouched = record.vouched;
        if revision > self.fence.revision {
            self.fence.revision = revision;
            self.fence.bytes = *reserve;
            if self.attaching() && !self.fence.begun {
                self.fence.found = Some(record);
            } else {
                self.take_over(record, mem);
            }
        }
        self.outdate_older();
    }

    /// The worker goes on from what a disk knows more.
    pub(super) fn take_over(&mut self, record: Record, mem: &mut Mem<'_>) {
        // What was being stored has an older number now: it is stored anew.
        let saving = self.fence.saving;
        self.fence_input(Input::Found(record), mem);
        if saving && self.fence.saving {
            let record = self.fence.status().record;
            self.store_record(&record);
        }
    }

    /// A disk that knows of fewer episodes after which everything was on it than another disk of this node does is one of an
    /// earlier time. A Primary's is judged by its clients' generation, and one in sync by the peer.
    fn outdate_older(&mut self) {
        let known = self.fence.status().record.vouched;
        let vouched = known.max(self.fence.found.map_or(0, |record| record.vouched));
        if self.role == Role::Primary {
            return;
        }
        for at in 0..self.volumes.len() {
            let volume = &mut self.volumes[at];
            let whole = matches!(volume.disk, DiskState::Consistent | DiskState::UpToDate);
            if !whole || volume.mirrored || volume.vouched >= vouched {
                continue;
            }
            volume.disk = DiskState::Outdated;
            let (index, known) = (volume.config.index, volume.vouched);
            self.log(
                Level::Error,
                text!(
                    "vol{index}: its disk is from an earlier time than another one of this node (in sync after episode {known}, and {vouched}): it is Outdated"
                ),
            );
        }
    }

    /// The number that the handshake tells the peer.
    pub(in crate::engine) fn tell_episode(&mut self) -> u64 {
        self.fence.agreed = self.fence.status().record.seen;
        self.fence.agreed
    }

    /// When both nodes are in sync from now on, their disks have everything up to this.
    pub(in crate::engine) fn agree_on_episode(&mut self, peer: &Hello) {
        if peer.episode < EPISODE_MAX {
            self.fence.agreed = self.fence.agreed.max(peer.episode);
        }
    }

    /// The identity that the handshake tells the peer.
    pub(in crate::engine) fn tell_identity(&mut self) -> u64 {
        self.fence.told_identity = self.fence.status().record.identity;
        self.fence.told_identity
    }

    /// Both nodes come to the same number from what they told each other.
    pub(in crate::engine) fn agree_on_identity(&mut self, peer: &Hello, mem: &mut Mem<'_>) {
        if !self.fences() {
            return;
        }
        let agreed = match (self.fence.told_identity, peer.identity) {
            (0, 0) => {
                let mut nonces = [self.link.nonce, peer.nonce];
                nonces.sort_unstable();
                (nonces[0] ^ nonces[1].rotate_left(29)).max(1)
            }
            (0, theirs) => theirs,
            (ours, 0) => ours,
            (ours, theirs) if ours == theirs => ours,
            (ours, theirs) => {
                let agreed = match (self.role, peer.role) {
                    (Role::Primary, _) => ours,
                    (_, Role::Primary) => theirs,
                    _ => ours.min(theirs),
                };
                self.log(
                    Level::Warn,
                    text!("the nodes had different identities of the resource; it is {agreed:016x} from now on"),
                );
                agreed
            }
        };
        if self.fence.status().record.identity != agreed {
            self.fence_input(Input::Identity(agreed), mem);
        }
    }
}
