//! The handshake: who are you, do we fit, and whose data is newer?
//!
//! Each side sends its [`Hello`] and a frame per volume once its disk has finished everything that
//! the previous connection brought, and concludes when it has sent its own and has the other's. Both
//! evaluate the same pure rules on the same two descriptions, so no further agreement is needed. What
//! was told is kept: a Primary goes on writing meanwhile.

use super::advice::refusal_text;
use super::link::Next;
use super::through::left_behind;
use super::volume::side;
use super::{Engine, Queued, RESYNC_SLOTS, text};
use crate::api::{ConnectionState, DiskState, Level, ReplicationState, Role, Text};
use crate::buf::Mem;
use crate::lineage::{BLOCK, Decision, Explanation, JUST_CREATED, Settled, Side, Verdict, decide};
use crate::mutation::{self, Mutation};
use crate::wire::{FEATURES, Frame, Hello, HelloVolume, Refusal, VERSION, VERSION_MIN};
use alloc::vec::Vec;

/// How long a refusal may take to reach the peer before this side hangs up.
pub(super) const REFUSE_GRACE: u64 = 1_000_000;

/// A Primary that becomes Secondary in order to lose gives its changes in all volumes up. So it does not if a policy lets
/// it win in one of them: then the operator decides.
fn contradict(all: &mut [Explanation]) {
    let any = |verdict: fn(&Explanation) -> bool| all.iter().any(verdict);
    let settled = |one: &Explanation| one.decision.settled != Settled::ByRule;
    let (loses, yields) = (
        any(|one| one.decision.verdict == Verdict::TargetAfterDemotion),
        any(|one| one.decision.verdict == Verdict::SourceAfterDemotion),
    );
    let (wins, taken) = (
        all.iter()
            .any(|one| settled(one) && matches!(one.decision.verdict, Verdict::Source { .. })),
        all.iter()
            .any(|one| settled(one) && matches!(one.decision.verdict, Verdict::Target { .. })),
    );
    if (loses && (yields || wins)) || (yields && taken) {
        for one in all {
            if settled(one) {
                one.decision.verdict = Verdict::SplitBrain;
                one.contradicted = true;
            }
        }
    }
}

/// What the verdicts about the volumes mean for each other, and for the connection, which is for all of them. `both`: both
/// nodes are Primary. Answers whether the nodes part because of them.
fn settle_together(all: &mut [Explanation], both: bool) -> bool {
    let refused = |found: &Explanation| refusal(found.decision.verdict).is_some();
    let demotes = |found: &Explanation| {
        let verdict = found.decision.verdict;
        matches!(
            verdict,
            Verdict::SourceAfterDemotion | Verdict::TargetAfterDemotion
        )
    };
    contradict(all);
    if both && !all.iter().any(|found| refused(found) || demotes(found)) {
        // Their data may not keep them apart: a disk is missing, or is not what they serve from.
        for found in all.iter_mut() {
            found.decision.verdict = Verdict::BothPrimary;
        }
    }
    let parts = all.iter().find(|found| refused(found));
    let hindered = parts.or_else(|| all.iter().find(|found| demotes(found)));
    let (parts, hindered) = (parts.is_some(), hindered.map(|found| found.volume));
    for found in all.iter_mut() {
        found.hindered_by = hindered;
    }
    parts
}

/// Why nodes with this verdict about a volume do not connect.
fn refusal(verdict: Verdict) -> Option<Refusal> {
    match verdict {
        Verdict::SplitBrain => Some(Refusal::SplitBrain),
        Verdict::Unrelated => Some(Refusal::Unrelated),
        Verdict::PrimaryIsTarget => Some(Refusal::PrimaryIsTarget),
        Verdict::BothPrimary => Some(Refusal::BothPrimary),
        Verdict::NoDisk
        | Verdict::Undecided
        | Verdict::InSync
        | Verdict::Source { .. }
        | Verdict::Target { .. }
        | Verdict::SourceAfterDemotion
        | Verdict::TargetAfterDemotion => None,
    }
}

impl Engine {
    /// Sends this side's part as soon as nothing of an old connection is on the way to the disk,
    /// and concludes when both parts are known.
    pub(super) fn try_handshake(&mut self, mem: &mut Mem<'_>) {
        if !self.link.in_handshake() || self.link.closing || self.link.refused_until.is_some() {
            return;
        }
        if !self.link.hello_sent {
            if self.attaching() || self.growing() || self.rolling_back() {
                return;
            }
            let awaited = !mutation::is(Mutation::OrphansNotAwaited)
                && !mutation::is(Mutation::AcceptStaleAck);
            if self.orphans > 0 && awaited {
                let waiting = text!(
                    "handshake waits for the disk to finish requests of the previous connection"
                );
                self.complain(Level::Info, waiting);
                return;
            }
            if self.awaits_word() {
                if !self.peer_told_all() {
                    return;
                }
                self.withdraw_offers(mem);
            }
            self.send_hello();
        }
        if self.peer_told_all() {
            self.conclude(mem);
        }
    }

    fn peer_told_all(&self) -> bool {
        let volumes = self.link.peer_volumes.len();
        (self.link.peer_hello.as_ref()).is_some_and(|peer| volumes == usize::from(peer.volumes))
    }

    fn send_hello(&mut self) {
        self.link.hello_sent = true;
        self.link.handshake_until = self.now + self.config.timers.timeout;
        self.link.nonce = self.random();
        let dry_run = self.link.dry_run;
        let discard = dry_run.map_or(self.link.discard_my_data, |dry| dry.discard);
        let discard_my_data = discard && self.role == Role::Secondary;
        self.link.told_dry = dry_run.is_some();
        self.link.told = (self.role, discard_my_data);
        let identity = self.tell_identity();
        let hello = Hello {
            version_min: VERSION_MIN,
            version_max: VERSION,
            features: FEATURES,
            nonce: self.link.nonce,
            window: self.config.max_requests + RESYNC_SLOTS,
            volumes: self.volumes.len() as u8,
            role: self.role,
            discard_my_data,
            dry_run: dry_run.is_some(),
            policies: self.config.policies,
            node: self.config.node.clone(),
            peer: self.config.peer.clone(),
            resource: self.config.resource.clone(),
            protocol: self.config.mirroring.protocol,
            fencing: self.config.fencing.policy,
            identity,
            episode: self.tell_episode(),
        };
        self.send(Frame::Hello(hello));
        for at in 0..self.volumes.len() {
            let paused = self.order.is_paused_here(self.volumes[at].config.index);
            let mut told = self.volumes[at].hello(paused);
            told.handler_due = self.handler_due(at);
            self.volumes[at].told = Some(told);
            self.queue.push(Queued::HelloVolume(at));
        }
    }

    pub(super) fn hello(&mut self, hello: Hello) {
        if !self.link.in_handshake() || self.link.peer_hello.is_some() {
            return self.protocol_error("an unexpected greeting");
        }
        let misfit = self.misfit(&hello);
        self.link.peer_hello = Some(hello);
        if let Some((refusal, reason)) = misfit {
            self.refuse(refusal, 0, Next::RetrySlowly, reason);
        }
    }

    pub(super) fn hello_volume(&mut self, volume: HelloVolume) {
        let expected = self
            .link
            .peer_hello
            .as_ref()
            .map(|h| usize::from(h.volumes));
        if !self.link.in_handshake() || expected.is_none_or(|n| self.link.peer_volumes.len() >= n) {
            return self.protocol_error("an unexpected volume in the greeting");
        }
        // Bounded by the check above and by the codec's limit.
        let _ = self.link.peer_volumes.push(volume);
    }

    /// Why the greeting is not that of the configured peer.
    fn misfit(&self, hello: &Hello) -> Option<(Refusal, Text)> {
        let config = &self.config;
        let (theirs, ours) = (&hello.node, &config.node);
        if hello.version_min > VERSION || hello.version_max < VERSION_MIN {
            let reason = text!(
                "peer speaks protocol versions {} to {}, this node {VERSION_MIN} to {VERSION}: bring both nodes to the same release",
                hello.version_min,
                hello.version_max
            );
            return Some((Refusal::Version, reason));
        }
        if hello.resource != config.resource {
            let reason = text!(
                "peer has resource '{}', this node '{}': make 'resource' the same in both configurations, or correct the peer's address",
                hello.resource,
                config.resource
            );
            return Some((Refusal::Resource, reason));
        }
        if theirs == ours || (hello.nonce == self.link.nonce && self.link.hello_sent) {
            let reason = text!(
                "peer is called '{theirs}' as this node is: give every node its own name, and check that the peer's address is not this node's"
            );
            return Some((Refusal::SameName, reason));
        }
        if *theirs != config.peer {
            let reason = text!(
                "node '{theirs}' answers where peer '{}' is expected: correct the peer's name or address in the configuration",
                config.peer
            );
            return Some((Refusal::NotThePeer, reason));
        }
        if hello.peer != *ours {
            let reason = text!(
                "peer {theirs} expects a peer called '{}', this node is '{ours}': correct one of the two configurations",
                hello.peer
            );
            return Some((Refusal::NotThePeer, reason));
        }
        let (theirs, ours) = (hello.protocol, config.mirroring.protocol);
        if theirs != ours {
            let reason = text!(
                "peer has protocol {}, this node {}: set the same 'protocol' under [resource] on both nodes",
                theirs.letter(),
                ours.letter()
            );
            return Some((Refusal::Protocol, reason));
        }
        let (theirs, ours) = (hello.fencing, config.fencing.policy);
        if theirs != ours {
            let reason = text!(
                "peer has the fencing policy {theirs}, this node {ours}: set the same 'policy' under [fencing] on both nodes"
            );
            return Some((Refusal::Fencing, reason));
        }
        None
    }

    /// Why the peer's volumes are not this node's.
    fn volume_misfit(&self) -> Option<(Refusal, u16, Text)> {
        let theirs = &self.link.peer_volumes;
        let same = theirs.len() == self.volumes.len()
            && (theirs.iter().zip(&self.volumes)).all(|(t, v)| t.volume == v.config.index);
        if !same {
            let reason = text!(
                "peer has {} volumes, this node {}, or their numbers differ: configure the same volumes on both nodes",
                theirs.len(),
                self.volumes.len()
            );
            return Some((Refusal::Volumes, 0, reason));
        }
        // Without metadata a node does not know; then it has nothing to be mirrored either.
        if let Some(at) = self.sizes_differ() {
            let (index, ours) = (self.volumes[at].config.index, self.volumes[at].size);
            let reason = text!(
                "vol{index} has {} bytes on the peer and {ours} here: set the same 'size' for it on both nodes, not above the smaller disk",
                theirs[at].size,
            );
            return Some((Refusal::Size, index, reason));
        }
        for (their, volume) in theirs.iter().zip(&self.volumes) {
            let ours = &volume.config;
            let index = ours.index;
            if their.block_size != ours.block_size {
                let reason = text!(
                    "vol{index} has blocks of {} bytes on the peer and {} here: set the same 'block_size' on both nodes",
                    their.block_size,
                    ours.block_size
                );
                return Some((Refusal::BlockSize, index, reason));
            }
        }
        None
    }

    /// Tells the peer and the operator why this will not work; the peer hangs up, or this side
    /// after a moment.
    fn refuse(&mut self, reason: Refusal, volume: u16, next: Next, text: Text) {
        self.complain(Level::Error, text.clone());
        self.send(Frame::Refuse { reason, volume });
        self.link.next = self.fail_dry_run(text).unwrap_or(next);
        self.part();
    }

    /// Nothing is left to be said: the peer hangs up, or this side after a moment.
    pub(super) fn part(&mut self) {
        self.link.refused_until = Some(self.now + REFUSE_GRACE);
    }

    /// The peer refused.
    pub(super) fn refused(&mut self, reason: Refusal, volume: u16) {
        let conflict = matches!(
            reason,
            Refusal::SplitBrain
                | Refusal::Unrelated
                | Refusal::PrimaryIsTarget
                | Refusal::BothPrimary
        );
        let next = if reason == Refusal::PrimaryIsTarget {
            self.after_an_older_primary(self.role)
        } else if conflict {
            Next::StandAlone
        } else {
            Next::RetrySlowly
        };
        // This side's own finding says more than the peer's.
        if self.link.refused_until.is_none() {
            let peer = self.config.peer.clone();
            let reason = text!("peer {peer} refused: {}", refusal_text(reason, volume));
            self.complain(Level::Error, reason.clone());
            let next = self.fail_dry_run(reason).unwrap_or(next);
            self.close_link(next);
        } else {
            let own = self.link.next;
            self.close_link(own);
        }
    }

    /// What follows when the data of one Primary is the older one. Of two Primaries one that was paused, or cut off, has a
    /// successor that fences it, and yields when it hears of that: the holder looks for it until then. Anything else is
    /// up to the operator.
    fn after_an_older_primary(&mut self, peer: Role) -> Next {
        let both = self.role == Role::Primary && peer == Role::Primary && self.fences();
        if both && self.holds_fence() {
            return Next::RetrySlowly;
        }
        self.link.yields = both;
        Next::StandAlone
    }

    fn conclude(&mut self, mem: &mut Mem<'_>) {
        if let Some((refusal, volume, reason)) = self.volume_misfit() {
            return self.refuse(refusal, volume, Next::RetrySlowly, reason);
        }
        let Some(peer) = self.link.peer_hello.take() else {
            return;
        };
        let tentative = self.tentative(peer.dry_run);
        let mut found = self.take_explained(tentative);
        self.weigh(&peer, tentative, &mut found);
        self.put_explained(tentative, found);
        if tentative {
            return self.foretold(peer.dry_run);
        }
        self.notify_verdicts();
        let mut demotion = None;
        for at in 0..self.volumes.len() {
            let Some(found) = self.explained_of(at) else {
                return;
            };
            let Decision { verdict, rule, .. } = found.decision;
            let index = found.volume;
            let refusal = match verdict {
                Verdict::SourceAfterDemotion | Verdict::TargetAfterDemotion => {
                    demotion = Some((index, verdict));
                    continue;
                }
                _ => match refusal(verdict) {
                    Some(refusal) => refusal,
                    None => {
                        self.volumes[at].verdict = Some((verdict, rule));
                        continue;
                    }
                },
            };
            let (mine, theirs) = (found.mine.current, found.peer.current);
            self.log(
                Level::Error,
                text!(
                    "vol{index}: {} (here generation {mine:016x}, peer {theirs:016x})",
                    rule.text()
                ),
            );
            let reason = text!("{}", refusal_text(refusal, index));
            let next = if refusal == Refusal::PrimaryIsTarget {
                self.after_an_older_primary(peer.role)
            } else {
                Next::StandAlone
            };
            return self.refuse(refusal, index, next, reason);
        }
        if let Some((index, reason)) = self.target_obstacle() {
            return self.refuse(Refusal::Snapshot, index, Next::RetrySlowly, reason);
        }
        if self.settle_sizes(mem) {
            return;
        }
        if let Some((index, verdict)) = demotion {
            return self.demote_first(index, verdict);
        }
        if self.await_handlers() {
            return;
        }
        self.handlers_not_needed();
        self.link.window = usize::from(peer.window);
        self.link.outstanding = 0;
        self.link.state = ConnectionState::Connected;
        self.link.reason.clear();
        self.link.discard_my_data = false;
        self.peer_role = peer.role;
        self.auto.peer_seen(self.peer_role);
        self.agree_on_episode(&peer);
        self.agree_on_identity(&peer, mem);
        self.log(Level::Info, text!("connected to peer {}", peer.node));
        for at in 0..self.volumes.len() {
            self.offer(at);
            self.apply(at, mem);
        }
        if let Some(reason) = self.undecided() {
            self.complain(Level::Warn, reason);
        }
        self.tell_state();
    }

    /// What the rules say of each volume, on what both nodes were told.
    fn weigh(&self, peer: &Hello, tentative: bool, all: &mut Vec<Explanation>) {
        let policies = self.config.policies.agreed(&peer.policies);
        let first = self.config.node < self.config.peer;
        let (role, discard) = self.link.told;
        for (volume, theirs) in self.volumes.iter().zip(&self.link.peer_volumes) {
            let Some(told) = &volume.told else {
                unreachable!("the handshake told the peer of every volume")
            };
            let mine = Side {
                left_behind: left_behind(told, theirs),
                ..side(told, role, discard, first)
            };
            let peer_side = Side {
                left_behind: left_behind(theirs, told),
                ..side(theirs, peer.role, peer.discard_my_data, !first)
            };
            all.push(Explanation {
                volume: volume.config.index,
                blocks: volume.dirty.blocks(),
                grows: None,
                decision: decide(&mine, &peer_side, &policies),
                mine,
                peer: peer_side,
                mine_wants: self.config.policies,
                peer_wants: peer.policies,
                forgotten: volume.forgotten(theirs.instance),
                hindered_by: None,
                contradicted: false,
                tentative,
            });
        }
        let both = role == Role::Primary && peer.role == Role::Primary;
        let part = settle_together(all, both);
        if self.note_growth(all, tentative && !part) {
            for found in all.iter_mut().filter(|found| found.grows.is_some()) {
                found.decision = decide(&found.mine, &found.peer, &policies);
            }
            settle_together(all, both);
        }
    }

    /// Says of each volume whether it grows before the nodes connect. Of what is only asked about, the growth is carried out in
    /// thought; answers whether there is any.
    fn note_growth(&self, all: &mut [Explanation], ahead: bool) -> bool {
        let mut any = false;
        for (at, (found, theirs)) in all.iter_mut().zip(&self.link.peer_volumes).enumerate() {
            found.grows = self.grows(at, theirs);
            if ahead && let Some(grows) = found.grows {
                any = true;
                found.blocks = grows.to.div_ceil(BLOCK);
                let side = match grows.here {
                    true => &mut found.mine,
                    false => &mut found.peer,
                };
                let new = found.blocks - grows.from.div_ceil(BLOCK);
                side.dirty = side.dirty.saturating_add(new);
            }
        }
        any
    }

    /// The loser of a split brain is Primary: by policy it drops its clients, becomes Secondary and connects again,
    /// ready to give its changes up. The other one waits for that.
    fn demote_first(&mut self, index: u16, verdict: Verdict) {
        if verdict == Verdict::TargetAfterDemotion {
            self.complain(
                Level::Error,
                text!(
                    "vol{index}: split brain, and by policy this node gives its changes up: its clients are dropped"
                ),
            );
            self.demote_by_policy();
            self.link.discard_my_data = true;
            self.close_link(Next::Retry);
        } else {
            self.complain(
                Level::Warn,
                text!("vol{index}: split brain: by policy the peer becomes Secondary and gives its changes up"),
            );
            // It hangs up when it has heard all of this node's greeting: before that it knows nothing of it.
            self.link.next = Next::Retry;
            self.part();
        }
    }

    /// Puts a volume's verdict into effect.
    fn apply(&mut self, at: usize, mem: &mut Mem<'_>) {
        let theirs = self.link.peer_volumes[at].clone();
        let fresh = self.random();
        self.set_peer_paused(at, theirs.paused);
        let volume = &mut self.volumes[at];
        let Some((mut verdict, rule)) = volume.verdict else {
            return;
        };
        let known = core::mem::replace(&mut volume.peer_instance, theirs.instance);
        if known != 0 && known != theirs.instance {
            volume.peer_forgot();
        }
        if verdict == Verdict::InSync && volume.dirty.count() > 0 {
            // What the peer lost with its power; it learns so from the beginning of the resync.
            verdict = Verdict::Source { full: false };
        }
        volume.replication = ReplicationState::Established;
        volume.mirrored = false;
        volume.peer_disk = theirs.disk;
        volume.peer_created =
            theirs.current == JUST_CREATED && theirs.disk > DiskState::Negotiating;
        volume.peer_can_discard = theirs.can_discard;
        // What one of them may have forgotten the other one marks only now.
        let from_table = volume.verdict.map(|(verdict, _)| verdict);
        let source = matches!(from_table, Some(Verdict::Source { .. }));
        let target = matches!(from_table, Some(Verdict::Target { .. }));
        let unite = !mutation::is(Mutation::BitsNotUnited);
        volume.peer_marks = unite && (theirs.dirty > 0 || source && theirs.unflushed);
        volume.owes_marks = unite && target && volume.told.as_ref().is_some_and(|t| t.unflushed);
        let index = volume.config.index;
        let size = volume.dirty.dirty_bytes();
        match verdict {
            Verdict::InSync => {
                volume.gens.found_in_sync();
                volume.in_sync();
                volume.through.doomed = false;
                self.log(Level::Info, text!("vol{index}: in sync: {}", rule.text()));
            }
            Verdict::Source { full } => {
                if full {
                    volume.mark_all_dirty();
                }
                let uuid = volume.gens.begin_source(theirs.current, full, fresh);
                let bytes = volume.dirty.dirty_bytes();
                let unite = volume.peer_marks;
                self.begin_source(at, uuid, unite);
                self.log(
                    Level::Info,
                    text!(
                        "vol{index}: resync of {bytes} bytes to the peer: {}",
                        rule.text()
                    ),
                );
            }
            Verdict::Target { .. } => {
                volume.replication = ReplicationState::SyncTarget;
                volume.peer_disk = DiskState::UpToDate;
                self.log(
                    Level::Info,
                    text!("vol{index}: resync from the peer: {}", rule.text()),
                );
                self.go_through(at, &theirs);
            }
            // All of these are complained about at once.
            Verdict::Undecided => {}
            _ => {
                self.log(
                    Level::Warn,
                    text!(
                        "vol{index}: not mirrored ({size} bytes out of sync): {}",
                        rule.text()
                    ),
                );
            }
        }
        if verdict == Verdict::NoDisk {
            self.go_through(at, &theirs);
        }
        self.ensure_generation(at, mem);
        self.save(at, mem);
        self.send_sync_start(at);
    }

    /// Tells the peer that the resync begins, once that is durable. What is mirrored from then on comes behind.
    pub(super) fn send_sync_start(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        if volume.saving() {
            return;
        }
        if let Some((uuid, bytes)) = volume.start_pending.take() {
            let volume = volume.config.index;
            self.send(Frame::SyncStart {
                volume,
                uuid,
                bytes,
            });
        }
    }
}

impl Engine {
    /// Whether a handshake runs that commands must wait for: the peer was told of a role that
    /// must not change before it ends.
    pub(super) fn negotiating(&self) -> bool {
        (self.link.in_handshake() && self.link.hello_sent) || (self.link.up && self.link.closing)
    }

    /// The peer's new role and disk states.
    pub(super) fn peer_state(&mut self, state: &crate::wire::State, mem: &mut Mem<'_>) {
        if state.volumes.len() != self.volumes.len() {
            return self.protocol_error("a state of other volumes");
        }
        if self.role == Role::Primary && state.role == Role::Primary {
            return self.protocol_error("both nodes are Primary");
        }
        self.peer_role = state.role;
        self.auto.peer_seen(self.peer_role);
        self.granted = false;
        for (at, told) in state.volumes.iter().enumerate() {
            let volume = &mut self.volumes[at];
            volume.through.for_peer &= state.role == Role::Primary;
            (volume.peer_waits, volume.peer_verifies) = (told.waits, told.verifies);
            // Of a disk that this Primary serves from the peer says so when it has heard of that.
            let behind = volume.through.on && told.disk == DiskState::Consistent;
            // Nor is a disk that clients are served from any use if it says that it is not whole.
            let useless = volume.through.on && told.disk < DiskState::Consistent;
            if told.disk <= DiskState::Failed || useless {
                self.peer_disk_failed(at, mem);
            } else if volume.source.is_none() && !behind {
                volume.peer_disk = told.disk;
            }
            self.set_peer_paused(at, told.paused);
        }
    }
}
