//! Liveness, asked of every state: if faults stop now, is everything well again, the fence given back included?

use crate::world::{Datagram, Rules, World};
use fencing::api::Timer;
use fencing::{Own, Party};

/// Rounds that everything together may take.
const ROUNDS: usize = 20;

/// Whether nothing is left to be done; without the arbiter only it is owed something.
fn well(rules: &Rules, world: &World, arbiter: bool) -> bool {
    let good = |at: usize| {
        let node = &world.nodes[at];
        node.up
            && node.linked
            && node.saving.is_none()
            && !node.frozen
            && (node.stored.own == Own::None && node.stored.mark.is_none() || !arbiter)
            && (0..rules.bounds.volumes).all(|v| node.has[v] == world.acked[v])
    };
    good(0) && good(1) && (world.arbiter.holder.is_none() || !arbiter)
}

fn concerns_arbiter(datagram: &Datagram) -> bool {
    match datagram {
        Datagram::Ask { to, .. } => *to == Party::Arbiter,
        Datagram::Tell { from, .. } => *from == Party::Arbiter,
    }
}

/// Lets everything happen that happens by itself when nothing fails, or nothing but that the arbiter is gone for good.
pub fn heals(rules: &Rules, world: &World, arbiter: bool) -> bool {
    if world.wrong != Default::default() {
        return true;
    }
    let mut world = world.clone();
    for _ in 0..ROUNDS {
        // Against a Primary that lives an operator's word makes two, and needs another one.
        let forced = world.forces > 0 && world.nodes.iter().all(|node| node.primary);
        if forced || world.split || well(rules, &world, arbiter) {
            return true;
        }
        for at in 0..2 {
            if !world.nodes[at].up {
                rules.restart(&mut world, at);
            }
            for v in 0..rules.bounds.volumes {
                rules.disk_back(&mut world, at, v);
            }
            // A node whose peer is not there finds out.
            if world.nodes[at].linked && !world.nodes[1 - at].linked {
                rules.lose(&mut world, at);
            }
        }
        for _ in 0..4 {
            for at in 0..2 {
                while rules.persisted(&mut world, at) {}
                rules.timer(&mut world, at, Timer::PeerWait);
            }
            for datagram in world.network.clone() {
                if !arbiter && concerns_arbiter(&datagram) {
                    continue;
                }
                rules.deliver(&mut world, &datagram);
                for at in 0..2 {
                    while rules.persisted(&mut world, at) {}
                }
            }
        }
        for at in 0..2 {
            rules.timer(&mut world, at, Timer::Bound);
            while rules.persisted(&mut world, at) {}
        }
        rules.connect(&mut world);
        for v in 0..rules.bounds.volumes {
            rules.target_done(&mut world, v);
            rules.source_learns(&mut world, v);
        }
    }
    well(rules, &world, arbiter)
}
