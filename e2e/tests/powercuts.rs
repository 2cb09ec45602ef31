//! Power cuts with disks that forget what was not flushed, under a load that knows what must survive.
//!
//! A few by default; `PALISADE_CUTS=60` makes more of them, and `PALISADE_SEED` others.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::forgetful::{Disk, Loss};
use e2e::load::{Load, Running, Survives};
use e2e::tools::{Random, wait_for};
use e2e::{Node, Pair};
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 20;
const CONNECTIONS: usize = 8;
/// Cuts when nobody asks for more.
const FEW: u64 = 5;

/// Who loses power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Secondary,
    Primary,
    Both,
}

struct Rig {
    pair: Pair,
    disks: [Disk; 2],
    random: Random,
    cuts: u64,
    in_resync: u64,
    loss: Loss,
}

impl Rig {
    fn boot(seed: u64) -> Self {
        let mut pair = Pair::prepare();
        let disks = Disk::under(&mut pair, SIZE);
        pair.must_up(&[]);
        Self {
            pair,
            disks,
            random: Random::new(seed),
            cuts: 0,
            in_resync: 0,
            loss: Loss::default(),
        }
    }

    fn doze(&mut self, most_ms: u64) {
        let time = Duration::from_millis(self.random.below(most_ms));
        std::thread::sleep(time);
    }

    /// The power of these nodes fails.
    fn cut(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.pair.kill(*node);
        }
        for node in nodes {
            let loss = self.disks[*node as usize].cut(&mut self.random);
            println!("    {} loses power: {loss:?}", node.name());
            self.loss.kept += loss.kept;
            self.loss.torn += loss.torn;
            self.loss.lost += loss.lost;
        }
        self.cuts += 1;
    }

    /// Both nodes, one of them first.
    fn any_order(&mut self) -> [Node; 2] {
        match self.random.below(2) {
            0 => [Node::A, Node::B],
            _ => [Node::B, Node::A],
        }
    }

    fn start_load(&mut self, load: Load, primary: Node) -> Running {
        let running = load.start(self.pair.port(primary));
        wait_for("the load's first answers", 60, || {
            (running.done() > 40).then_some(())
        });
        running
    }

    /// Nobody serves, both nodes run: they find out by themselves who has the better data, and either may serve then.
    fn serve_again(&mut self, load: &mut Load) -> Node {
        self.pair.wait_in_sync(120);
        let [primary, _] = self.any_order();
        self.pair.must_exec(primary, "primary");
        load.verify(self.pair.port(primary), Survives::Flushed);
        primary
    }

    /// Waits until a resync runs from `source`, and a little longer; whether it still runs then.
    fn in_resync(&mut self, source: Node) -> bool {
        wait_for("a resync begins", 60, || {
            let status = self.pair.status(source);
            (status.replication(0) == "SyncSource" || status.in_sync()).then_some(())
        });
        self.doze(400);
        self.pair.status(source).replication(0) == "SyncSource"
    }

    /// One blow, recovery, and the judgement; who serves then.
    fn round(
        &mut self,
        mut primary: Node,
        blow: Blow,
        again: Option<Blow>,
        load: Load,
    ) -> (Node, Load) {
        let (other, begun) = (primary.other(), Instant::now());
        println!(
            "{}: {blow:?}, then {again:?}; Primary is {}",
            self.cuts,
            primary.name()
        );
        let running = self.start_load(load, primary);
        self.doze(1500);
        let running = match blow {
            Blow::Secondary => {
                self.cut(&[other]);
                self.doze(1500);
                running
            }
            Blow::Primary => {
                self.cut(&[primary]);
                let mut load = running.stop();
                primary = other;
                self.pair.must_exec(primary, "primary --force");
                load.verify(self.pair.port(primary), Survives::Answered);
                self.start_load(load, primary)
            }
            Blow::Both => {
                let order = self.any_order();
                self.cut(&order);
                let mut load = running.stop();
                for node in self.any_order() {
                    self.pair.start(node);
                }
                primary = self.serve_again(&mut load);
                return self.judge(primary, load, begun);
            }
        };
        self.pair.start(primary.other());
        if let Some(again) = again
            && self.in_resync(primary)
        {
            self.in_resync += 1;
            let nodes = match again {
                Blow::Secondary => vec![primary.other()],
                Blow::Primary => vec![primary],
                Blow::Both => self.any_order().to_vec(),
            };
            self.cut(&nodes);
            if nodes.contains(&primary) {
                // The source had the only good data: what it flushed is there when it is back.
                let mut load = running.stop();
                nodes.iter().for_each(|node| self.pair.start(*node));
                primary = self.serve_again(&mut load);
                return self.judge(primary, load, begun);
            }
            self.pair.start(primary.other());
        }
        self.pair.wait_in_sync(120);
        assert!(
            running.alive(),
            "the clients of a node that lived on had no trouble"
        );
        let mut load = running.stop();
        load.verify(self.pair.port(primary), Survives::Answered);
        self.judge(primary, load, begun)
    }

    /// Nothing is under way: the volumes of both nodes are the same.
    fn judge(&mut self, primary: Node, load: Load, begun: Instant) -> (Node, Load) {
        self.pair.wait_in_sync(60);
        let difference = self.disks[0].first_difference(&self.disks[1], SIZE);
        assert_eq!(difference, None, "the volumes differ at this byte");
        println!("    well after {:.1} s", begun.elapsed().as_secs_f32());
        (primary, load)
    }
}

#[test]
fn nothing_is_lost_by_power_cuts() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |value| value.parse().expect("a number"))
    };
    let (cuts, seed) = (number("PALISADE_CUTS", FEW), number("PALISADE_SEED", 3));
    let begun = Instant::now();
    let mut rig = Rig::boot(seed);
    let mut load = Load::new(0, SIZE, CONNECTIONS, seed);
    let (mut primary, mut round) = (Node::A, 0);
    while rig.cuts < cuts {
        // The first ones make sure that every kind is there, also in few rounds.
        let blows = [Blow::Secondary, Blow::Primary, Blow::Both];
        let blow = blows[round % 3];
        let again = match rig.random.below(4) {
            at @ 0..3 if round > 2 => Some(blows[at as usize]),
            _ => None,
        };
        (primary, load) = rig.round(primary, blow, again, load);
        round += 1;
    }
    println!(
        "{} power cuts ({} in a resync) in {:.0} s, seed {seed}: of the writes that were not flushed {:?}; no answered write was \
         lost by one, no flushed write by both, and the volumes were identical after each",
        rig.cuts,
        rig.in_resync,
        begun.elapsed().as_secs_f32(),
        rig.loss
    );
    // The metadata is sound, too.
    for (node, disk) in [Node::A, Node::B].into_iter().zip(&rig.disks) {
        if rig.pair.status(node).role() == "Primary" {
            rig.pair.must_exec(node, "secondary --force");
        }
        rig.pair.power_off(node);
        disk.save(&rig.pair.image(node, 0));
    }
    rig.pair.assert_identical(1);
}
