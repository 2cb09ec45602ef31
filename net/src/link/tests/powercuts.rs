//! A node loses its power at any moment and comes back: they meet again, whatever the other one still has of the old
//! connection.

use super::*;
use crate::stack::testnet::Faults;
use replication::buf::BufView;

/// The engine's: a silent connection is given up after so long.
const TIMEOUT: Micros = 6 * SECOND;
/// Writes that the sender has unanswered at most.
const WINDOW: u64 = 8;

/// An end with what an engine does on a link: heartbeats, a time limit for the peer's, and, on host 1, writes.
struct Engine {
    end: End,
    writes: bool,
    buf: BufView,
    sent: u64,
    acked: u64,
    heard: Micros,
    beat: Micros,
}

impl Engine {
    fn new(mut end: End, host: u8) -> Self {
        let buf = end.pool.alloc(4 << 10).expect("a free buffer").view();
        end.greeting = Some(Frame::Ping);
        Self {
            end,
            writes: host == 1,
            buf,
            sent: 0,
            acked: 0,
            heard: 0,
            beat: 0,
        }
    }

    fn boot(world: &mut World, host: u8) -> Self {
        let mut end = End::new(world.node(host, &[group()]), host, 3 - host);
        end.link.open(world.now);
        Self::new(end, host)
    }

    /// The same machine, with nothing left in its memory.
    fn reboot(self, world: &mut World, host: u8) -> Self {
        let End { node, .. } = self.end;
        let node = world.boot(node.port, host, node.addr, 24, &[group()]);
        world.cut(&node, false);
        let mut end = End::new(node, host, 3 - host);
        end.link.open(world.now);
        Self::new(end, host)
    }

    fn turn(&mut self, now: Micros) {
        self.end.pump(now);
        let ups = self.end.ups.last().copied().unwrap_or(0);
        if ups > self.heard {
            (self.heard, self.beat, self.sent, self.acked) = (now, now, 0, 0);
        }
        for (frame, buf) in self.end.frames.split_off(0) {
            self.heard = now;
            if let Frame::Write { request, .. } = frame {
                self.end.link.send(Frame::Ack { request }, None);
            }
            self.acked += u64::from(matches!(frame, Frame::Ack { .. }));
            if let Some(buf) = buf {
                self.end.pool.free(buf);
            }
        }
        if !self.end.up {
            return;
        }
        if now >= self.heard + TIMEOUT {
            self.end.close(now);
            self.end.link.open(now);
            self.end.pump(now);
            return;
        }
        if now >= self.beat {
            self.beat = now + SECOND;
            self.end.link.send(Frame::Ping, None);
        }
        while self.writes && self.sent < self.acked + WINDOW {
            self.sent += 1;
            self.end.link.send(write_frame(self.sent), Some(self.buf));
        }
        self.end
            .link
            .flush(&mut self.end.node.stack, &self.end.memory);
    }
}

/// Runs the engines until `done`; whether it was done within `limit`.
fn run_engines(
    world: &mut World,
    engines: &mut [&mut Engine],
    limit: Micros,
    mut done: impl FnMut(&[&mut Engine]) -> bool,
) -> bool {
    let end = world.now + limit;
    while world.now < end {
        for Engine { end: e, .. } in engines.iter_mut().map(|e| &mut **e) {
            e.node
                .stack
                .ingress(world.now, &mut e.node.port.device(), 1000);
        }
        let mut next = end;
        for engine in engines.iter_mut() {
            engine.turn(world.now);
            let e = &mut engine.end;
            let _ = e.node.stack.egress(world.now, &mut e.node.port.device());
            let timers = [e.node.stack.poll_at(world.now), e.link.poll_at()];
            let beat = if e.up { engine.beat } else { u64::MAX };
            next = timers
                .into_iter()
                .flatten()
                .chain([beat])
                .fold(next, u64::min);
        }
        if done(engines) {
            return true;
        }
        let step = if world.busy() {
            20
        } else {
            next.saturating_sub(world.now).max(20)
        };
        world.advance(step);
    }
    false
}

/// One story: both run for `before`, `cycled` loses its power for `off` and comes back. How long it took until writes were
/// answered over a new connection.
fn story(cycled: u8, before: Micros, off: Micros, same_seed: bool, faults: Faults) -> Micros {
    let mut world = World::new(before ^ off << 8 | 1);
    // The same seed: the same ports and sequence numbers as before the power cut.
    world.seed = same_seed.then_some(77);
    let mut engines = [1, 2].map(|host| Engine::boot(&mut world, host));
    world.segment.borrow_mut().faults = faults;
    let [a, b] = &mut engines;
    run_engines(&mut world, &mut [a, b], before, |_| false);
    let [a, b] = engines;
    let (mut stays, goes) = if cycled == 1 { (b, a) } else { (a, b) };
    world.power_off(&goes.end.node);
    run_engines(&mut world, &mut [&mut stays], off, |_| false);
    let ups = stays.end.ups.len();
    let mut back = goes.reboot(&mut world, cycled);
    let begun = world.now;
    let met = run_engines(
        &mut world,
        &mut [&mut stays, &mut back],
        60 * SECOND,
        |both| {
            let new = both[0].end.ups.len() > ups && both[0].end.up && both[1].end.up;
            new && both.iter().all(|e| !e.writes || e.acked > 2 * WINDOW)
        },
    );
    assert!(
        met,
        "{cycled} ran for {before} us, was off for {off} us, same seed {same_seed}, {faults:?}: {:?} and {:?}; {:?}, {:?}",
        stays.end.link.search(world.now),
        back.end.link.search(world.now),
        stays.end.notes,
        back.end.notes,
    );
    world.now - begun
}

const LOSSY: Faults = Faults {
    loss: 100,
    duplicate: 50,
    jitter: 300,
};

/// Moments of a power cut: those of the handshake, and some under load.
fn moments() -> impl Iterator<Item = Micros> {
    (0..15).map(|step| step * 40).chain([1_500, 4_980, 25_000])
}

#[test]
fn a_node_that_was_off_meets_its_peer_again_whenever_that_was() {
    for cycled in [1, 2] {
        for (at, before) in moments().enumerate() {
            for (nth, off) in [0, 300_000, 8 * SECOND].into_iter().enumerate() {
                let same_seed = (at + nth) % 2 == 0;
                let took = story(cycled, before, off, same_seed, Faults::default());
                // The listener takes the newcomer at once. The node that dials learns by its heartbeat, a second apart,
                // that the other one knows nothing of their connection.
                assert!(
                    took < 2 * SECOND + SECOND / 2,
                    "{cycled} after {before} us, off for {off} us, same seed {same_seed}: {took} us"
                );
            }
        }
    }
}

#[test]
fn so_it_does_where_frames_are_lost_doubled_and_late() {
    let mut worst = 0;
    for (at, before) in moments().enumerate() {
        let off = [0, 300_000, 8 * SECOND][at % 3];
        for cycled in [1, 2] {
            for same_seed in [false, true] {
                worst = worst.max(story(cycled, before, off, same_seed, LOSSY));
            }
        }
    }
    assert!(worst < 30 * SECOND, "{worst} us");
}
