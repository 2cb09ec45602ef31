//! embassy-time's view of the clock.
//!
//! Scheduling a wake-up does not touch the hardware. The executor's loop looks at [`next_deadline`] on each round,
//! which costs a counter read, and sets the timer only when it is about to halt.

use core::cell::RefCell;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;

use critical_section::Mutex;
use embassy_time_driver::{Driver, time_driver_impl};
use embassy_time_queue_utils::Queue;

struct TscDriver {
    queue: Mutex<RefCell<Queue>>,
    /// Earliest deadline in microseconds; `u64::MAX` when there is none.
    next: AtomicU64,
}

impl Driver for TscDriver {
    fn now(&self) -> u64 {
        super::now_micros()
    }

    fn schedule_wake(&self, at: u64, waker: &Waker) {
        critical_section::with(|cs| {
            if self.queue.borrow(cs).borrow_mut().schedule_wake(at, waker) {
                self.next.fetch_min(at, Ordering::Relaxed);
            }
        });
    }
}

time_driver_impl!(static DRIVER: TscDriver = TscDriver {
    queue: Mutex::new(RefCell::new(Queue::new())),
    next: AtomicU64::new(u64::MAX),
});

/// The earliest deadline of any task, in microseconds; `u64::MAX` when there is none.
pub fn next_deadline() -> u64 {
    DRIVER.next.load(Ordering::Relaxed)
}

/// Wakes the tasks whose deadlines have passed.
pub fn run_expired() {
    if next_deadline() == u64::MAX {
        return;
    }
    let now = super::now_micros();
    if now >= next_deadline() {
        critical_section::with(|cs| {
            let next = DRIVER.queue.borrow(cs).borrow_mut().next_expiration(now);
            DRIVER.next.store(next, Ordering::Relaxed);
        });
    }
}
