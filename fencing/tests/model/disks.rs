//! Disks that are lost and come back, and the operator's word.

use crate::world::{Mutation, Node, Rules, VOLUMES, World};
use fencing::api::{Disk, Input};
use fencing::{Own, Record};

impl Rules {
    /// A Primary whose changes only its own disk gets although the peer is connected.
    pub fn lone(&self, node: &Node) -> bool {
        let lone = |v: usize| node.peer_gone[v] && node.disk[v] == Disk::UpToDate;
        node.primary
            && node.linked
            && (0..self.bounds.volumes).any(lone)
            && !self.is(Mutation::LoneNotFenced)
    }

    /// A Primary whose clients saw last what only the peer has.
    pub fn elsewhere(&self, node: &Node) -> bool {
        let elsewhere = |v: usize| node.gone[v].is_some() || node.has[v] < node.seen[v];
        node.primary && (0..self.bounds.volumes).any(elsewhere)
    }

    /// A disk fails, or is detached. A connected peer is told.
    pub fn disk_gone(&self, world: &mut World, at: usize, v: usize) -> bool {
        let node = &mut world.nodes[at];
        if node.gone[v].is_some() {
            return false;
        }
        node.gone[v] = Some(node.disk[v]);
        node.disk[v] = Disk::Unusable;
        node.peer_good[v] = false;
        let primary = node.primary;
        let told = node.linked && world.nodes[1 - at].linked;
        if told {
            let peer = &mut world.nodes[1 - at];
            peer.peer_good[v] = false;
            peer.peer_gone[v] = true;
        }
        for at in [at, 1 - at] {
            self.refresh(world, at);
        }
        if told && primary {
            self.stand_in(world, 1 - at, v);
        }
        true
    }

    /// A node's disk stands in for the Primary's.
    fn stand_in(&self, world: &mut World, at: usize, v: usize) {
        if world.nodes[at].disk[v] != Disk::UpToDate || self.is(Mutation::StandInUntold) {
            return;
        }
        self.feed(world, at, Input::StandIn { here: true });
        // Nobody is answered before that is stored.
        while self.persisted(world, at) {}
        self.feed(world, 1 - at, Input::StandIn { here: false });
    }

    /// A disk that was lost is attached again, with what it had.
    pub fn disk_back(&self, world: &mut World, at: usize, v: usize) -> bool {
        let node = &world.nodes[at];
        let Some(worth) = node.gone[v] else {
            return false;
        };
        let linked = node.linked;
        if linked && !(world.nodes[1 - at].up && world.nodes[1 - at].linked) {
            // The peer does not answer.
            return false;
        }
        // A Secondary has nothing to tell a Primary that it does not know.
        if linked && !node.primary && node.has[v] > world.nodes[1 - at].has[v] {
            return false;
        }
        let node = &mut world.nodes[at];
        node.gone[v] = None;
        node.disk[v] = match worth.min(Disk::Consistent) {
            // What its clients saw last is on it.
            Disk::Consistent if node.primary && node.has[v] == node.seen[v] => Disk::UpToDate,
            Disk::Consistent if node.fencer.status().record.mark.is_some() => Disk::Outdated,
            worth => worth,
        };
        if linked {
            self.settle(world, v);
        }
        for at in [at, 1 - at] {
            self.refresh(world, at);
        }
        true
    }

    /// Whether a connection would leave some disk of the volume with all that a Primary's clients saw.
    pub fn serves_both(&self, world: &World, v: usize) -> bool {
        let without = |at: usize| world.nodes[at].gone[v].is_some();
        match (without(0), without(1)) {
            (true, true) => false,
            (false, false) => true,
            (first, _) => {
                let (without, with) = if first { (0, 1) } else { (1, 0) };
                let (without, with) = (&world.nodes[without], &world.nodes[with]);
                with.disk[v] > Disk::Unusable
                    && !(without.primary && with.has[v] < without.seen[v])
                    && !with.primary | (with.disk[v] == Disk::UpToDate)
            }
        }
    }

    /// A volume of connected nodes: who has what the other lacks is the source.
    pub fn settle(&self, world: &mut World, v: usize) {
        let without = (0..2).find(|&at| world.nodes[at].gone[v].is_some());
        if let Some(without) = without {
            let primary = world.nodes[without].primary;
            let with = &mut world.nodes[1 - without];
            with.peer_gone[v] = true;
            with.peer_good[v] = false;
            if primary {
                // It is what clients saw last.
                with.disk[v] = Disk::UpToDate;
            }
            world.nodes[without].peer_good[v] = primary;
            if primary {
                self.stand_in(world, 1 - without, v);
            }
            return;
        }
        let (x, y) = (world.nodes[0].has[v], world.nodes[1].has[v]);
        // Where nothing differs an interrupted resync is complete.
        let source = (x != y).then_some(usize::from(x < y));
        for (at, node) in world.nodes.iter_mut().enumerate() {
            node.peer_gone[v] = false;
            let target = source == Some(1 - at);
            node.disk[v] = if target {
                Disk::Unusable
            } else {
                Disk::UpToDate
            };
            node.peer_good[v] = source != Some(at);
        }
    }

    /// The operator's word makes a node Primary.
    pub fn force(&self, world: &mut World, at: usize) -> bool {
        let node = &world.nodes[at];
        let usable = (0..self.bounds.volumes).all(|v| node.disk[v] > Disk::Unusable);
        if node.linked || !usable {
            return false;
        }
        world.forces += 1;
        self.feed(world, at, Input::Promote { force: true });
        true
    }

    /// Everything ends well; then a node's disk is replaced by a copy of it from the very beginning.
    pub fn put_old_disk_in(&self, world: &mut World, at: usize) {
        for v in 0..self.bounds.volumes {
            assert!(self.target_done(world, v), "a resync");
            assert!(self.source_learns(world, v), "its end");
        }
        while world.nodes.iter().any(|node| node.stored.own != Own::None) {
            for at in 0..2 {
                while self.persisted(world, at) {}
            }
            for datagram in world.network.clone() {
                self.deliver(world, &datagram);
                for at in 0..2 {
                    while self.persisted(world, at) {}
                }
            }
        }
        world.network.clear();
        self.crash(world, at);
        let node = &mut world.nodes[at];
        node.stored = Record::default();
        node.has = [0; VOLUMES];
        node.disk = [Disk::Consistent; VOLUMES];
    }
}
