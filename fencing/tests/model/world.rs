//! The world that is explored: two nodes with the real [`Fencer`], the real arbiter, and a replication of which only
//! that is kept which fencing depends on: who is connected, whose disk is good for what, which writes it has.

use fencing::api::{Action, Config, Disk, Input, OnTimeout, Thaw, Timer, View};
use fencing::arbiter::Arbiter;
use fencing::{Answer, Fencer, Name, Own, Party, Policy, Record, Request};
use std::collections::BTreeSet;

/// Where nobody is answered before it is decided who goes on.
pub const STRICT: Policy = Policy::ResourceAndStonith;

/// Volumes at most.
pub const VOLUMES: usize = 2;

/// How far the exploration goes: how often each thing may happen in one history.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub volumes: usize,
    /// Writes answered.
    pub writes: u8,
    /// A node finds its peer gone: a cut, or the peer's silence. It may be the only one to think so.
    pub losses: u8,
    /// Power cuts.
    pub crashes: u8,
    /// Promotions asked for, but for the first node's at the beginning.
    pub promotions: u8,
    /// Demotions.
    pub demotions: u8,
    /// Disks that are lost while their node runs.
    pub disk_losses: u8,
    /// Promotions by an operator's word.
    pub forces: u8,
    /// Saving takes time even where no power cut can come into it any more.
    pub slow_saves: bool,
}

/// Deliberate defects, each of which must be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// The unfence is a side effect of the end of a resync, on its target, as it was in DRBD before unfence-peer.
    UnfenceOnTarget,
    /// The first volume in sync is enough for an unfence.
    UnfencePerVolume,
    /// The record is not stored.
    RecordNotDurable,
    /// An UNFENCE counts for whatever the arbiter holds.
    StaleUnfence,
    /// Clients are answered before the fence is granted.
    ThawBeforeGrant,
    /// The connection's return gives the fence back, resynchronised or not.
    UnfenceOnConnect,
    /// Nobody remembers after which episode both nodes had everything.
    NotVouched,
    /// Nobody takes note that a Primary lost its disk and the peer's stands in.
    StandInUntold,
    /// A Primary goes on alone although its connected peer's disk is gone, without a fence.
    LoneNotFenced,
    /// Who finds on its disk that it holds a fence asks nobody whether that is still so.
    HeldNotConfirmed,
}

/// A datagram. One that was sent stays: it may arrive at any time, any number of times, in any order, or never.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Datagram {
    Ask {
        from: usize,
        /// Who asked in an earlier life does not believe the answer (`fencing::datagram::channel`).
        life: u32,
        to: Party,
        request: Request,
    },
    Tell {
        to: usize,
        from: Party,
        answer: Answer,
    },
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    Write(usize, usize),
    Lose(usize),
    Crash(usize),
    Restart(usize),
    Persisted(usize),
    Promote(usize),
    Demote(usize),
    Force(usize),
    DiskGone(usize, usize),
    DiskBack(usize, usize),
    Connect,
    TargetDone(usize),
    SourceLearns(usize),
    Timer(usize, Timer),
    Deliver(Datagram),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    pub up: bool,
    /// Counts its power cuts.
    pub life: u32,
    pub fencer: Fencer,
    /// On its disk.
    pub stored: Record,
    pub saving: Option<Record>,
    pub primary: bool,
    pub frozen: bool,
    /// It takes its peer for connected.
    pub linked: bool,
    pub connection: u64,
    /// The highest number that either had seen when they connected.
    pub agreed: u64,
    /// Whether the peer may be above Outdated for all it knows.
    pub peer_may_be_current: bool,
    pub disk: [Disk; VOLUMES],
    /// Whether it knows the peer's disk to be UpToDate.
    pub peer_good: [bool; VOLUMES],
    /// The writes that its disk has, in order.
    pub has: [u8; VOLUMES],
    /// Its disk is gone; what it was worth then.
    pub gone: [Option<Disk>; VOLUMES],
    /// It knows that its connected peer's disk is gone.
    pub peer_gone: [bool; VOLUMES],
    /// The last write that its clients saw while it was Primary.
    pub seen: [u8; VOLUMES],
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Wrong {
    /// A write was answered by a node that lacked one answered before: two histories.
    pub diverged: bool,
    /// Two nodes answer clients, each without the other.
    pub two_writers: bool,
    /// An unfence began while a volume was behind.
    pub early_unfence: bool,
    /// An UNFENCE took away a newer fence.
    pub newer_undone: bool,
    /// A node became Primary while the other held a fence against it.
    pub fenced_promoted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub nodes: [Node; 2],
    pub arbiter: Arbiter,
    pub network: BTreeSet<Datagram>,
    /// Writes answered.
    pub acked: [u8; VOLUMES],
    pub losses: u8,
    pub crashes: u8,
    pub promotions: u8,
    pub demotions: u8,
    pub disk_losses: u8,
    pub forces: u8,
    /// By the operator's word, or by resource-only, histories have parted.
    pub split: bool,
    pub wrong: Wrong,
}

pub fn name(node: usize) -> Name {
    Name::try_from(["a", "b"][node]).expect("a name")
}

impl World {
    /// Both nodes in sync and connected, the first one Primary.
    pub fn new(rules: &Rules) -> Self {
        let node = |at: usize| Node {
            up: true,
            life: 0,
            fencer: rules.fencer(at, Record::default(), 0),
            stored: Record::default(),
            saving: None,
            primary: at == 0,
            frozen: false,
            linked: true,
            connection: 0,
            agreed: 0,
            peer_may_be_current: true,
            disk: [Disk::UpToDate; VOLUMES],
            peer_good: [true; VOLUMES],
            has: [0; VOLUMES],
            gone: [None; VOLUMES],
            peer_gone: [false; VOLUMES],
            seen: [0; VOLUMES],
        };
        Self {
            nodes: [node(0), node(1)],
            arbiter: Arbiter::default(),
            network: BTreeSet::new(),
            acked: [0; VOLUMES],
            losses: 0,
            crashes: 0,
            promotions: 0,
            demotions: 0,
            disk_losses: 0,
            forces: 0,
            split: false,
            wrong: Wrong::default(),
        }
    }
}

/// Where histories begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Both nodes in sync and connected, the first one Primary.
    InSync,
    /// Later: the second one was lost and outdated itself, the first wrote alone, and they are connected again; the
    /// resync has yet to end.
    Resync,
    /// Later still: the resync has ended, the fence is given back, and then the second one's disk was replaced by a copy of
    /// it from the very beginning.
    OldDisk,
}

/// One history after another: the bounds and the defect.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub start: Start,
    pub bounds: Bounds,
    pub policy: Policy,
    /// Whether each state is asked if all would be well again. It takes most of the time.
    pub heal: bool,
    pub mutation: Mutation,
}

impl Rules {
    pub fn is(&self, mutation: Mutation) -> bool {
        self.mutation == mutation
    }

    fn fencer(&self, node: usize, record: Record, connection: u64) -> Fencer {
        let config = Config {
            node: name(node),
            peer: name(1 - node),
            policy: self.policy,
            peer_endpoint: true,
            arbiter: true,
            on_timeout: OnTimeout::KeepFrozen,
            doublings: 0,
        };
        Fencer::new(config, record, connection)
    }

    /// Whether more than the policy and the protocol decide who may go on: then histories may part.
    pub fn may_split(&self, world: &World) -> bool {
        world.forces > 0 || self.policy == Policy::ResourceOnly
    }

    /// The first state.
    pub fn begin(&self) -> World {
        let mut world = World::new(self);
        for at in 0..2 {
            self.refresh(&mut world, at);
        }
        if self.start != Start::InSync {
            self.lose(&mut world, 0);
            while self.persisted(&mut world, 0) {}
            for _ in 0..2 {
                for datagram in world.network.clone() {
                    let arbiter = matches!(
                        datagram,
                        Datagram::Ask {
                            to: Party::Arbiter,
                            ..
                        }
                    );
                    if !arbiter {
                        self.deliver(&mut world, &datagram);
                    }
                    for at in 0..2 {
                        while self.persisted(&mut world, at) {}
                    }
                }
            }
            assert!(self.write(&mut world, 0, 0), "the first node goes on alone");
            assert!(self.connect(&mut world), "they meet again");
        }
        if self.start == Start::OldDisk {
            self.put_old_disk_in(&mut world, 1);
        }
        world
    }

    fn in_sync(&self, node: &Node) -> bool {
        let mut good =
            (0..self.bounds.volumes).map(|v| node.disk[v] == Disk::UpToDate && node.peer_good[v]);
        node.linked
            && match self.mutation {
                Mutation::UnfenceOnTarget => false,
                Mutation::UnfenceOnConnect => true,
                Mutation::UnfencePerVolume => good.any(|good| good),
                _ => good.all(|good| good),
            }
    }

    /// Hands an input to a node's fencer and does what it says, until nothing changes any more.
    pub fn feed(&self, world: &mut World, at: usize, input: Input) {
        world.nodes[at].fencer.handle(input);
        self.drain(world, at);
        self.refresh(world, at);
    }

    /// The engine's view, if it changed.
    pub fn refresh(&self, world: &mut World, at: usize) {
        loop {
            let node = &world.nodes[at];
            let view = View {
                primary: node.primary,
                connected: node.linked,
                connection: node.connection,
                peer_may_be_current: node.peer_may_be_current,
                in_sync: self.in_sync(node),
                lone: self.lone(node),
                elsewhere: self.elsewhere(node),
                agreed: if node.linked && !self.is(Mutation::NotVouched) {
                    node.agreed
                } else {
                    0
                },
                disk: (0..self.bounds.volumes)
                    .map(|v| node.disk[v])
                    .min()
                    .unwrap_or(Disk::Unusable),
            };
            let before = node.clone();
            world.nodes[at].fencer.handle(Input::View(view));
            self.drain(world, at);
            if world.nodes[at] == before {
                return;
            }
        }
    }

    fn drain(&self, world: &mut World, at: usize) {
        while let Some(action) = world.nodes[at].fencer.poll_action() {
            self.perform(world, at, action);
        }
    }

    fn perform(&self, world: &mut World, at: usize, action: Action) {
        match action {
            Action::Persist(record) => {
                self.judge_release(world, at, &record);
                assert_eq!(world.nodes[at].saving, None, "one save at a time");
                world.nodes[at].saving = Some(record);
            }
            Action::Send(to, request) => {
                // What is said is stored.
                assert_eq!(world.nodes[at].fencer.stored(), &world.nodes[at].stored);
                let life = world.nodes[at].life;
                world.network.insert(Datagram::Ask {
                    from: at,
                    life,
                    to,
                    request,
                });
            }
            Action::Reply(from, life, answer) => {
                assert_eq!(from, Party::Peer);
                self.tell(world, 1 - at, life, from, answer);
            }
            Action::Freeze => world.nodes[at].frozen = true,
            Action::Thaw(why) => {
                let node = &mut world.nodes[at];
                node.frozen = false;
                if why == Thaw::Fenced {
                    assert!(
                        matches!(node.stored.own, Own::Held(..)),
                        "thawed before the grant was stored"
                    );
                }
            }
            Action::PeerFenced(_) => {
                assert!(matches!(world.nodes[at].stored.own, Own::Held(..)));
                world.nodes[at].peer_may_be_current = false;
            }
            Action::OutdateSelf(_) => {
                let node = &mut world.nodes[at];
                node.primary = false;
                outdate(node);
                if node.linked {
                    unlink(node);
                }
            }
            Action::StepDown => world.nodes[at].primary = false,
            Action::Promotion(Ok(())) => self.promoted(world, at),
            Action::Promotion(Err(_)) | Action::SetTimer(..) | Action::Notice(_) => {}
        }
    }

    /// The node became Primary.
    pub fn promoted(&self, world: &mut World, at: usize) {
        // By the operator's word it may, and who is forced takes the place of the holder.
        if matches!(world.nodes[1 - at].stored.own, Own::Held(..)) && world.forces == 0 {
            world.wrong.fenced_promoted = true;
        }
        let behind = (0..self.bounds.volumes).any(|v| world.nodes[at].has[v] < world.acked[v]);
        world.split |= behind && self.may_split(world);
        let forces = world.forces;
        let node = &mut world.nodes[at];
        node.primary = true;
        for v in 0..self.bounds.volumes {
            assert!(node.disk[v] >= Disk::Consistent || forces > 0);
            node.disk[v] = Disk::UpToDate;
            node.seen[v] = node.has[v];
        }
    }

    /// An unfence may begin only when the peer is as good as this node.
    fn judge_release(&self, world: &mut World, at: usize, record: &Record) {
        // One that was only asked for was not used; but who does not store its record forgets that it was.
        let stored = world.nodes[at].stored.own;
        let held = matches!(stored, Own::Held(..)) || self.is(Mutation::RecordNotDurable);
        let begins = matches!(record.own, Own::Releasing(_)) && record.own != stored && held;
        let behind = (0..self.bounds.volumes).any(|v| world.nodes[1 - at].has[v] < world.acked[v]);
        let target_done = self.is(Mutation::UnfenceOnTarget);
        if begins && behind && !target_done {
            world.wrong.early_unfence = true;
        }
    }

    /// A client's write to a volume, if it can be answered now.
    pub fn write(&self, world: &mut World, at: usize, v: usize) -> bool {
        let node = &world.nodes[at];
        let frozen = node.frozen && !self.is(Mutation::ThawBeforeGrant);
        let own = node.disk[v] == Disk::UpToDate;
        if !node.up || !node.primary || frozen {
            return false;
        }
        let peer = &world.nodes[1 - at];
        if node.linked && !(peer.up && peer.linked) {
            // Waits for an acknowledgement that does not come.
            return false;
        }
        let peers = node.linked && peer.disk[v] == Disk::UpToDate;
        // Its own disk is gone, or the target of a resync; the peer's stands in when the arbiter knows.
        let stands_in = peers && !(self.policy == STRICT && peer.fencer.is_untold());
        if !own && !stands_in {
            return false;
        }
        let has = if own { node.has[v] } else { peer.has[v] };
        if has < world.acked[v] {
            if self.may_split(world) {
                world.split = true;
            } else {
                world.wrong.diverged = true;
            }
        }
        let other = &world.nodes[1 - at];
        let alone = !world.nodes[at].linked && other.up && other.primary && !other.linked;
        world.split |= alone && self.may_split(world);
        world.acked[v] += 1;
        world.nodes[at].seen[v] = world.acked[v];
        if own {
            world.nodes[at].has[v] = world.acked[v];
        }
        if peers {
            world.nodes[1 - at].has[v] = world.acked[v];
        }
        true
    }

    /// The handshake: who has what the other lacks is the source. Refused between two that are Primary, and if the
    /// Primary would have to give something up.
    pub fn connect(&self, world: &mut World) -> bool {
        let [a, b] = &world.nodes;
        let both = a.up && b.up && !a.linked && !b.linked && !(a.primary && b.primary);
        if !both || world.split || a.saving.is_some() || b.saving.is_some() {
            // Split brain: the operator decides, and there is no more to be explored.
            return false;
        }
        if !(0..self.bounds.volumes).all(|v| self.serves_both(world, v)) {
            return false;
        }
        for v in 0..self.bounds.volumes {
            if world.nodes.iter().any(|node| node.gone[v].is_some()) {
                continue;
            }
            let behind = usize::from(a.has[v] >= b.has[v]);
            let behind = &world.nodes[behind];
            if a.has[v] != b.has[v] && behind.primary && !self.elsewhere(behind) {
                return false;
            }
        }
        for v in 0..self.bounds.volumes {
            self.settle(world, v);
        }
        let seen = |at: usize| world.nodes[at].fencer.status().record.seen;
        let agreed = seen(0).max(seen(1));
        for at in 0..2 {
            world.nodes[at].agreed = agreed;
            world.nodes[at].linked = true;
            world.nodes[at].peer_may_be_current = true;
        }
        for at in 0..2 {
            self.refresh(world, at);
        }
        true
    }

    /// The target of a resync has it all, and knows.
    pub fn target_done(&self, world: &mut World, v: usize) -> bool {
        let Some(target) = (0..2).find(|&at| world.nodes[at].disk[v] == Disk::Unusable) else {
            return false;
        };
        let whole = |node: &Node| node.up && node.linked && node.gone[v].is_none();
        if !world.nodes.iter().all(whole) {
            return false;
        }
        let source = 1 - target;
        world.nodes[target].has[v] = world.nodes[source].has[v];
        world.nodes[target].disk[v] = Disk::UpToDate;
        if self.is(Mutation::UnfenceOnTarget)
            && let Own::Held(episode, _) = world.nodes[source].stored.own
        {
            let request = Request::Unfence {
                episode,
                vouched: 0,
            };
            let life = world.nodes[source].life;
            for to in [Party::Arbiter, Party::Peer] {
                world.network.insert(Datagram::Ask {
                    from: source,
                    life,
                    to,
                    request,
                });
            }
        }
        self.refresh(world, target);
        true
    }

    /// The source of a resync hears that the target has it all.
    pub fn source_learns(&self, world: &mut World, v: usize) -> bool {
        let learns = |at: usize| {
            let (node, peer) = (&world.nodes[at], &world.nodes[1 - at]);
            node.up
                && node.linked
                && !node.peer_good[v]
                && peer.up
                && peer.linked
                && peer.disk[v] == Disk::UpToDate
        };
        let Some(source) = (0..2).find(|&at| learns(at)) else {
            return false;
        };
        world.nodes[source].peer_good[v] = true;
        self.refresh(world, source);
        true
    }

    /// A node finds its peer gone.
    pub fn lose(&self, world: &mut World, at: usize) {
        unlink(&mut world.nodes[at]);
        self.refresh(world, at);
    }

    pub fn crash(&self, world: &mut World, at: usize) {
        let node = &mut world.nodes[at];
        node.up = false;
        node.primary = false;
        node.frozen = false;
        node.linked = false;
        node.saving = None;
        node.life += 1;
        if self.is(Mutation::RecordNotDurable) {
            node.stored = Record::default();
        }
        node.peer_good = [false; VOLUMES];
        node.peer_gone = [false; VOLUMES];
        node.seen = [0; VOLUMES];
        node.peer_may_be_current = true;
        // Nothing volatile is left to tell two crashes apart.
        node.fencer = self.fencer(at, node.stored, node.connection);
        for disk in &mut node.disk {
            *disk = (*disk).min(Disk::Consistent);
        }
        let void = |datagram: &Datagram| matches!(datagram, Datagram::Tell { to, .. } if *to == at);
        world.network.retain(|datagram| !void(datagram));
    }

    /// An answer is under way, if who asked has not restarted since.
    fn tell(&self, world: &mut World, to: usize, life: u32, from: Party, answer: Answer) {
        if world.nodes[to].life == life {
            world.network.insert(Datagram::Tell { to, from, answer });
        }
    }

    pub fn restart(&self, world: &mut World, at: usize) {
        let node = &mut world.nodes[at];
        node.up = true;
        node.connection += 1;
        let (record, connection) = (node.stored, node.connection);
        world.nodes[at].fencer = self.fencer(at, record, connection);
        for v in 0..self.bounds.volumes {
            self.disk_back(world, at, v);
        }
        self.feed(world, at, Input::Reconcile);
    }

    pub fn persisted(&self, world: &mut World, at: usize) -> bool {
        let node = &mut world.nodes[at];
        if (0..self.bounds.volumes).all(|v| node.gone[v].is_some()) {
            // There is nothing to store it on.
            return false;
        }
        let Some(record) = node.saving.take() else {
            return false;
        };
        if record.mark.is_some() && record.mark != node.stored.mark {
            outdate(node);
        }
        node.stored = record;
        self.refresh(world, at);
        self.feed(world, at, Input::Persisted);
        true
    }

    pub fn ask_promotion(&self, world: &mut World, at: usize) {
        let [node, peer] = [&world.nodes[at], &world.nodes[1 - at]];
        if node.linked {
            // The engine asks the peer over the link.
            let good = (0..self.bounds.volumes).all(|v| node.disk[v] == Disk::UpToDate);
            if good
                && peer.up
                && peer.linked
                && !peer.primary
                && peer.fencer.consent().is_ok()
                && node.fencer.may_promote_connected().is_ok()
            {
                self.promoted(world, at);
                self.refresh(world, at);
            }
        } else {
            self.feed(world, at, Input::Promote { force: false });
            let own = world.nodes[at].fencer.status().record.own;
            if let Own::Held(episode, _) = own
                && self.is(Mutation::HeldNotConfirmed)
            {
                let answer = Answer::Granted { episode };
                let from = Party::Arbiter;
                self.feed(world, at, Input::Answer { from, answer });
            }
        }
    }

    pub fn demote(&self, world: &mut World, at: usize) {
        world.nodes[at].primary = false;
        self.refresh(world, at);
    }

    pub fn timer(&self, world: &mut World, at: usize, timer: Timer) {
        self.feed(world, at, Input::Timer(timer));
    }

    pub fn deliver(&self, world: &mut World, datagram: &Datagram) {
        match datagram.clone() {
            Datagram::Tell { to, from, answer } => {
                if world.nodes[to].up {
                    self.feed(world, to, Input::Answer { from, answer });
                }
            }
            Datagram::Ask {
                from,
                life,
                to: Party::Peer,
                request,
            } => {
                let to = 1 - from;
                if !world.nodes[to].up {
                    return;
                }
                let input = Input::Request {
                    from: Party::Peer,
                    token: life,
                    request,
                };
                self.feed(world, to, input);
            }
            Datagram::Ask {
                from,
                life,
                to: Party::Arbiter,
                request,
            } => {
                let mut request = request;
                let held = world.arbiter.holder.clone();
                if let (Request::Unfence { episode, .. }, Some((_, now))) = (&mut request, &held)
                    && self.is(Mutation::StaleUnfence)
                {
                    *episode = *now;
                }
                let Some(verdict) = world.arbiter.ask(&name(from), request) else {
                    return;
                };
                world.arbiter = verdict.next;
                if let Datagram::Ask {
                    request: Request::Unfence { episode, .. },
                    ..
                } = datagram
                    && let Some((holder, now)) = &held
                    && now > episode
                    && world.arbiter.holder.as_ref() != Some(&(holder.clone(), *now))
                {
                    world.wrong.newer_undone = true;
                }
                self.tell(world, from, life, Party::Arbiter, verdict.answer);
            }
        }
    }

    /// Forgets datagrams that cannot have an effect any more, whenever they come: of a number that its sender has
    /// left behind, and that whoever would receive it has seen. What remains is explored as before.
    pub fn forget(&self, world: &mut World) {
        if self.mutation != Mutation::None {
            return;
        }
        let World {
            network,
            nodes,
            arbiter,
            ..
        } = world;
        network.retain(|datagram| match datagram {
            Datagram::Tell { to, answer, .. } => match answer {
                Answer::Granted { episode }
                | Answer::Refused { episode, .. }
                | Answer::Released { episode } => nodes[*to].stored.own.episode() == Some(*episode),
                Answer::State(_) | Answer::Promoting { .. } | Answer::Handled { .. } => true,
            },
            Datagram::Ask {
                from, to, request, ..
            } => {
                let current = |episode| nodes[*from].stored.own.episode() == Some(episode);
                let receiver = &nodes[1 - from].stored;
                match (request, to) {
                    (Request::Outdate { episode, .. }, _) => {
                        current(*episode) || *episode > receiver.seen
                    }
                    (Request::Fence { episode, .. }, _) => {
                        current(*episode) || *episode > arbiter.last
                    }
                    (Request::Unfence { episode, .. }, Party::Peer) => {
                        current(*episode)
                            || receiver.released < *episode
                            || receiver.mark.is_some_and(|mark| mark <= *episode)
                    }
                    (Request::Unfence { episode, .. }, Party::Arbiter) => {
                        let from = name(*from);
                        let mut over = arbiter.over.iter();
                        current(*episode)
                            || !over.any(|(node, over)| *node == from && over >= episode)
                            || arbiter
                                .holder
                                .as_ref()
                                .is_some_and(|(node, now)| *node == from && now <= episode)
                    }
                    (Request::Query | Request::Promote { .. } | Request::Notify { .. }, _) => true,
                }
            }
        });
    }

    /// What must hold in every state.
    pub fn judge(&self, world: &mut World) {
        let answers_alone = |node: &Node| {
            let frozen = node.frozen && !self.is(Mutation::ThawBeforeGrant);
            let disks = (0..self.bounds.volumes).all(|v| node.disk[v] == Disk::UpToDate);
            node.up && node.primary && !node.linked && !frozen && disks
        };
        let two = world.nodes.iter().all(answers_alone);
        world.wrong.two_writers |= two && !self.may_split(world);
        for node in &world.nodes {
            assert!(!node.up || node.frozen == node.fencer.frozen());
        }
    }
}

fn unlink(node: &mut Node) {
    node.linked = false;
    node.connection += 1;
    node.peer_good = [false; VOLUMES];
    node.peer_gone = [false; VOLUMES];
    node.peer_may_be_current = true;
}

fn outdate(node: &mut Node) {
    for disk in &mut node.disk {
        if *disk > Disk::Outdated {
            *disk = Disk::Outdated;
        }
    }
}
