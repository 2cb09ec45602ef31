//! Liveness, asked of every state: if faults stop now, is everything well again, the fence given back included?

use crate::world::{Rules, World};
use fencing::Own;
use fencing::api::Timer;

/// Rounds that everything together may take.
const ROUNDS: usize = 20;

/// Whether nothing is left to be done.
fn well(rules: &Rules, world: &World) -> bool {
    let good = |at: usize| {
        let node = &world.nodes[at];
        node.up
            && node.linked
            && node.saving.is_none()
            && !node.frozen
            && node.stored.own == Own::None
            && node.stored.mark.is_none()
            && (0..rules.bounds.volumes).all(|v| node.has[v] == world.acked[v])
    };
    good(0) && good(1) && world.arbiter.holder.is_none()
}

/// Lets everything happen that happens by itself when nothing fails.
pub fn heals(rules: &Rules, world: &World) -> bool {
    if world.wrong != Default::default() {
        return true;
    }
    let mut world = world.clone();
    for _ in 0..ROUNDS {
        if well(rules, &world) {
            return true;
        }
        for at in 0..2 {
            if !world.nodes[at].up {
                rules.restart(&mut world, at);
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
    well(rules, &world)
}
