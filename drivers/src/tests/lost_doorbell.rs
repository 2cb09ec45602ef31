//! Two threads that sleep whenever they can: a lost doorbell or interrupt hangs them.

use alloc::sync::Arc;
use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
    vec,
};

use super::virtq::OPTIONS;
use crate::{
    DeviceType, Transport,
    fake::{DeviceQueue, DmaBuf, FakeHal, FakeTransport, Shared},
    transport::{F_EVENT_IDX, F_VERSION_1},
    virtq::{QueueOptions, Segment, Virtq},
};

/// Longer than any scheduling delay; a sleep that long means that nobody is going to wake us.
const HANG: Duration = Duration::from_secs(20);

/// The interrupt line.
#[derive(Default)]
struct Line {
    pending: Mutex<bool>,
    raised: Condvar,
}

impl Line {
    fn raise(&self) {
        *self.pending.lock().unwrap() = true;
        self.raised.notify_all();
    }

    fn wait(&self) -> bool {
        let end = Instant::now() + HANG;
        let mut pending = self.pending.lock().unwrap();
        while !*pending {
            let Some(left) = end.checked_duration_since(Instant::now()) else {
                return false;
            };
            pending = self.raised.wait_timeout(pending, left).unwrap().0;
        }
        *pending = false;
        true
    }
}

/// A device that looks at the ring only when kicked, and after asking to be.
fn device(shared: &Arc<Shared>, line: &Line, stop: &AtomicBool) {
    let mut queue = DeviceQueue::attach(shared, 0);
    let mut seen = 0;
    loop {
        while let Some(chain) = queue.pop() {
            queue.push(u32::from(chain.id), 0);
            if queue.should_interrupt() {
                line.raise();
            }
        }
        if queue.want_kick() {
            continue;
        }
        match shared.wait_kick(0, seen, HANG) {
            Some(count) => seen = count,
            None => return,
        }
        if stop.load(SeqCst) {
            return;
        }
    }
}

/// What the driver does when it has nothing to do.
#[derive(Clone, Copy, PartialEq)]
enum Idle {
    /// Arms and sleeps, as the kernel does: races the device's decision to interrupt.
    Sleep,
    /// Looks again at once, and adds as soon as a request is back: races the device's decision to
    /// sleep.
    Spin,
}

fn run(event_idx: bool, depth: u16, requests: u32, idle: Idle) {
    let event = if event_idx { F_EVENT_IDX } else { 0 };
    let shared = Shared::new(DeviceType::Block, event | F_VERSION_1, vec![]);
    shared.accepted.store(shared.offered, SeqCst);
    let mut transport = FakeTransport(shared.clone());
    let options = QueueOptions {
        event_idx,
        ..OPTIONS
    };
    let mut queue = Virtq::<FakeHal, _>::new(&mut transport, 0, options).expect("sets up");
    transport.finish_init();
    let buf = DmaBuf::new(4096);
    let line = Line::default();
    let stop = AtomicBool::new(false);
    let mut added = 0;
    let mut reaped = 0;
    let mut hung = false;
    let mut spins = 0u32;
    let mut seed = 1u32;
    let mut last_progress = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| device(&shared, &line, &stop));
        while reaped < requests && !hung {
            if idle == Idle::Spin {
                // Meets the device at another point of its way to sleep each time.
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                for _ in 0..seed >> 23 {
                    core::hint::black_box(());
                }
            }
            while added < requests && queue.outstanding() < depth {
                let segment = Segment {
                    paddr: buf.paddr(),
                    len: 16,
                    writable: false,
                };
                // SAFETY: the buffer outlives the device thread, and only the device uses it.
                unsafe { queue.add(&[segment], added) }.expect("room");
                added += 1;
            }
            queue.kick();
            let before = reaped;
            while queue.pop_used().expect("an honest device").is_some() {
                reaped += 1;
            }
            if reaped > before {
                last_progress = Instant::now();
            } else if idle == Idle::Spin {
                spins = spins.wrapping_add(1);
                if spins.is_multiple_of(4096) {
                    thread::yield_now();
                    hung = last_progress.elapsed() > HANG;
                }
            } else if !queue.arm() {
                hung = !line.wait();
                queue.disarm();
            }
        }
        stop.store(true, SeqCst);
        crate::transport::Doorbell::ring(
            &crate::transport::DeviceTransport::doorbell(&mut transport, 0).expect("has one"),
        );
    });
    assert!(!hung, "asleep with {} of {requests} finished", reaped);
}

#[test]
fn no_request_hangs_at_depth_one() {
    run(true, 1, 60_000, Idle::Sleep);
    run(true, 1, 500_000, Idle::Spin);
}

#[test]
fn no_request_hangs_in_batches() {
    run(true, 7, 300_000, Idle::Sleep);
    run(true, 7, 300_000, Idle::Spin);
    run(true, 200, 300_000, Idle::Sleep);
}

#[test]
fn no_request_hangs_without_event_indices() {
    run(false, 1, 60_000, Idle::Sleep);
    run(false, 1, 300_000, Idle::Spin);
    run(false, 7, 200_000, Idle::Sleep);
}
