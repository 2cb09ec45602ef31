//! What operators are told when something needs them. Every command that is named works as written on the
//! node where the text is shown, or names the other node.

use super::attach::Attach;
use super::{Engine, text};
use crate::api::{ConnectionState, DiskState, Micros, ReplicationState, Role, Text};
use crate::lineage::{JUST_CREATED, Verdict};
use crate::wire::Refusal;
use fencing::Denial;
use fencing::api::Denied;
use resync::WaitReason;

/// A peer that has answered no request for so long is worth a word.
const SLOW_ANSWER: Micros = 2_000_000;

impl Engine {
    /// Why not all is well; empty when nothing is amiss.
    pub(super) fn reason(&self, now: Micros) -> Text {
        if !self.link.reason.is_empty() {
            return self.link.reason.clone();
        }
        self.missing_disk()
            .or_else(|| self.slow_peer(now))
            .or_else(|| self.congested())
            .or_else(|| self.waiting_resync(now))
            .unwrap_or_default()
    }

    fn missing_disk(&self) -> Option<Text> {
        let peer = &self.config.peer;
        let waits = (0..self.volumes.len()).find(|at| self.no_data(*at));
        if let Some(at) = waits {
            let (index, disk) = (self.volumes[at].config.index, self.volumes[at].disk);
            return Some(text!(
                "vol{index}: clients' requests wait for good data: the disk here is {disk:?}: bring peer {peer} back, or 'attach vol{index}'; 'secondary --force' gives the requests up"
            ));
        }
        if let Some(volume) = self.volumes.iter().find(|v| !v.usable()) {
            let (index, disk) = (volume.config.index, volume.disk);
            let left = volume.ops;
            return Some(match &volume.attach {
                Attach::Blank(why) => text!("vol{index}: {why}"),
                Attach::Due(_) | Attach::Reading { .. } => {
                    text!("vol{index}: the disk here is being attached: its metadata is being read")
                }
                _ if left > 0 => text!(
                    "vol{index}: the disk here is {disk:?} and has not answered {left} operations: nothing is mirrored; when it has, 'attach vol{index}', or restart this node"
                ),
                _ => text!(
                    "vol{index}: the disk here is {disk:?}: nothing is mirrored; when it is sound, 'attach vol{index}'"
                ),
            });
        }
        let volume =
            (self.volumes.iter()).find(|v| self.connected() && v.peer_disk <= DiskState::Failed)?;
        let (index, disk) = (volume.config.index, volume.peer_disk);
        Some(text!(
            "vol{index}: the disk of peer {peer} is {disk:?}: nothing is mirrored; when it is sound, 'attach vol{index}' there"
        ))
    }

    fn congested(&self) -> Option<Text> {
        let ahead = |v: &&super::volume::Volume| v.replication == ReplicationState::Ahead;
        let volume = self.volumes.iter().find(ahead)?;
        let (index, peer) = (volume.config.index, &self.config.peer);
        Some(text!(
            "vol{index}: the link is congested: writes are not sent (on-congestion), and peer {peer} is Outdated until a resync, which begins by itself"
        ))
    }

    fn slow_peer(&self, now: Micros) -> Option<Text> {
        let silence = now.saturating_sub(self.link.last_progress);
        let count = self.link.outstanding;
        (count > 0 && silence >= SLOW_ANSWER).then(|| {
            text!(
                "peer {} has answered none of {count} requests for {} s: its disk may hang",
                self.config.peer,
                silence / 1_000_000
            )
        })
    }

    /// What a resync or a verify waits for, if that is not in the nature of things.
    fn waiting_resync(&self, now: Micros) -> Option<Text> {
        (0..self.volumes.len()).find_map(|at| {
            let reason = self.waits(at, now)?;
            let amiss = matches!(
                reason,
                WaitReason::UnreadableHere { .. }
                    | WaitReason::FailedOnPeer { .. }
                    | WaitReason::NoMemory
                    | WaitReason::Flush
                    | WaitReason::DiskBusy { .. }
                    | WaitReason::PeerBusy { .. }
            );
            let index = self.volumes[at].config.index;
            amiss.then(|| text!("vol{index}: the resync or verify: {reason}"))
        })
    }

    /// What to do about the volumes whose lineage decides nothing, if there are any.
    pub(super) fn undecided(&self) -> Option<Text> {
        let mut undecided = self.volumes.iter().filter_map(|v| match v.verdict {
            Some((Verdict::Undecided, rule)) => Some((v.config.index, rule)),
            _ => None,
        });
        let (index, rule) = undecided.next()?;
        let more = undecided.count();
        let mut said = text!("vol{index}");
        if more > 0 {
            said = text!("{said} and {more} more");
        }
        // A disk without a generation has nothing that could be lost: the operator may vouch for it.
        let whole = |disk: DiskState, current: u64| {
            disk > DiskState::Inconsistent
                || (current == JUST_CREATED && disk > DiskState::Negotiating)
        };
        let here = (self.volumes.iter()).all(|v| whole(v.disk, v.gens.current));
        let there = (self.link.peer_volumes.iter()).all(|v| whole(v.disk, v.current));
        let rule = rule.text();
        let peer = &self.config.peer;
        // A fence keeps even the operator's word from its peer, as long as they are connected.
        let record = self.fence.status().record;
        let held = record.own.holding();
        if self.role == Role::Primary && here {
            return Some(text!(
                "{said}: refuses to guess: {rule}. To keep this node's data: 'secondary --force' and 'primary --force' here"
            ));
        }
        Some(match (here, there) {
            (true, _) if let Some(episode) = record.mark => text!(
                "{said}: refuses to guess: {rule}. To keep this node's data: 'unfence {episode} --yes' on peer {peer}, then 'primary --force' here"
            ),
            (true, true) => text!(
                "{said}: refuses to guess: {rule}. To keep this node's data: 'primary --force' here; if the disks are identical: 'new-current-uuid --clear-bitmap'"
            ),
            (true, false) => text!(
                "{said}: refuses to guess: {rule}. To keep this node's data: 'primary --force' here"
            ),
            (false, true) if let Some(episode) = held => text!(
                "{said}: refuses to guess: {rule}. To keep the data of peer {peer}: 'unfence {episode} --yes' here, then 'primary --force' there"
            ),
            (false, true) => text!(
                "{said}: refuses to guess: {rule}. To keep the data of peer {peer}: 'primary --force' there"
            ),
            (false, false) => text!(
                "{said}: {rule}. Restart the node whose data is to be kept, then 'primary --force' there"
            ),
        })
    }

    /// Why not even the operator's word makes this node Primary beside a connected peer that fences it.
    pub(super) fn fenced_by_connected(&self, denied: Denied) -> Text {
        let peer = &self.config.peer;
        match denied {
            Denied::Fenced(episode) => text!(
                "peer {peer} fences this node by episode {episode} until all volumes are in sync: promote that one, or, if this node's data is to be kept, 'unfence {episode} --yes' there first"
            ),
            other => text!("{other}"),
        }
    }

    /// Why a promotion is refused.
    fn sync_target(&self) -> Option<u16> {
        let mut volumes = self.volumes.iter();
        let found = volumes.find(|v| v.replication == ReplicationState::SyncTarget);
        found.map(|v| v.config.index)
    }

    pub(super) fn denial_text(&self, denial: Denial) -> Text {
        let peer = &self.config.peer;
        let Some(worst) = self.volumes.iter().min_by_key(|v| v.disk) else {
            return text!("no volume is configured");
        };
        let (index, disk) = (worst.config.index, worst.disk);
        let alone = self.link.state == ConnectionState::StandAlone;
        if denial == Denial::DiskUnusable
            && let Some(target) = self.sync_target()
        {
            return text!(
                "vol{target} is the target of a running resync: wait for its end, or promote peer {peer}"
            );
        }
        match denial {
            Denial::PeerIsPrimary => {
                text!("peer {peer} is Primary: run 'secondary' there first")
            }
            Denial::DiskUnusable if let Attach::Blank(why) = &worst.attach => {
                text!("vol{index}: {why}; or, if peer {peer} has the data, promote that")
            }
            Denial::DiskUnusable if disk != DiskState::Inconsistent => {
                text!("vol{index} has no usable disk ({disk:?}): promote peer {peer} instead")
            }
            Denial::DiskUnusable if self.connected() => self.undecided().unwrap_or_else(|| {
                text!("vol{index} is an unfinished copy: promote peer {peer} instead")
            }),
            Denial::DiskUnusable if alone => text!(
                "vol{index} is the target of an unfinished resync: 'connect' and wait for its end, or promote peer {peer}"
            ),
            Denial::DiskUnusable => text!(
                "vol{index} is the target of an unfinished resync: bring peer {peer} back and wait for its end"
            ),
            Denial::DiskDoubtful if self.connected() => text!(
                "vol{index} is {disk:?}, not known to be the latest: 'primary --force' if this node's data is the one to go on with"
            ),
            Denial::DiskDoubtful if alone => text!(
                "vol{index} is {disk:?}, not known to be the latest: 'connect' first, or, if this node's data is the one to go on with, 'primary --force'"
            ),
            Denial::DiskDoubtful => text!(
                "vol{index} is {disk:?}, not known to be the latest, and peer {peer} is not connected: make sure that it is not Primary, then 'primary --force'"
            ),
            Denial::PeerUnreachable => text!(
                "peer {peer} is not connected and may be Primary: make sure that it is not, then 'primary --force'"
            ),
        }
    }
}

/// What is wrong, from either side, and what to do about it.
pub(super) fn refusal_text(reason: Refusal, volume: u16) -> Text {
    match reason {
        Refusal::Version => {
            text!("no common protocol version: bring both nodes to the same release")
        }
        Refusal::Resource => {
            text!("the resources differ: make 'resource' the same in both configurations")
        }
        Refusal::DryRun => text!("it only made a dry run"),
        Refusal::SameName => text!("both nodes have the same name: give each its own"),
        Refusal::NotThePeer => {
            text!("this node is not the peer that it expects: correct 'peer' in its configuration")
        }
        Refusal::Volumes => {
            text!("the volumes differ: configure the same volumes on both nodes")
        }
        Refusal::Size => text!("vol{volume} has another size there: set the same on both nodes"),
        Refusal::BlockSize => {
            text!("vol{volume} has another block size there: set the same on both nodes")
        }
        Refusal::SplitBrain => text!(
            "vol{volume}: split brain: both nodes went on alone. Choose whose changes to give up: there 'secondary', then 'connect --discard-my-data'; on the other node 'connect'"
        ),
        Refusal::Unrelated => text!(
            "vol{volume}: unrelated data on the two nodes. Choose which to give up: there 'secondary', then 'connect --discard-my-data'; on the other node 'connect'"
        ),
        Refusal::Protocol => text!(
            "the nodes do not answer writes by the same protocol: set the same 'protocol' under [resource] in both configurations"
        ),
        Refusal::Snapshot => text!(
            "vol{volume}: the peer may not become the target of a resync without a snapshot, and has no room for one: see 'status' there"
        ),
        Refusal::Fencing => text!(
            "the nodes do not have the same fencing policy: set the same 'policy' under [fencing] in both configurations"
        ),
        Refusal::BothPrimary => text!(
            "vol{volume}: both nodes are Primary: run 'secondary' on one of them, then 'connect' on both"
        ),
        Refusal::PrimaryIsTarget => text!(
            "vol{volume}: the Primary's data is the older one: run 'secondary' on it, then 'connect' on both nodes"
        ),
    }
}
