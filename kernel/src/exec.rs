//! The executor's loop: interrupts, timers, tasks; and the halt when there is nothing of either.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use critical_section::RawRestoreState;
use embassy_executor::raw::Executor;
use spin::Once;
use x86_64::instructions::interrupts;

use crate::{irq, time};

/// Whether a task became ready since the last poll.
static READY: AtomicBool = AtomicBool::new(false);
/// Times the processor halted, and for how long in all, in microseconds.
static HALTS: AtomicU64 = AtomicU64::new(0);
static HALTED_MICROS: AtomicU64 = AtomicU64::new(0);

/// Called by the executor when a task becomes ready.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    READY.store(true, Ordering::Relaxed);
}

struct InterruptsOff;
critical_section::set_impl!(InterruptsOff);

// SAFETY: with one processor, code with interrupts disabled is not interrupted. The state restored is whether they
// were enabled before, so sections nest.
unsafe impl critical_section::Impl for InterruptsOff {
    unsafe fn acquire() -> RawRestoreState {
        let enabled = interrupts::are_enabled();
        interrupts::disable();
        enabled
    }

    unsafe fn release(was_enabled: RawRestoreState) {
        if was_enabled {
            interrupts::enable();
        }
    }
}

/// An executor is not `Sync`; this one is only used by the one processor, outside of interrupts.
struct Main(Executor);

// SAFETY: see `Main`.
unsafe impl Sync for Main {}
// SAFETY: see `Main`.
unsafe impl Send for Main {}

/// The one executor.
pub fn init() -> &'static Executor {
    static EXECUTOR: Once<Main> = Once::new();
    &EXECUTOR
        .call_once(|| Main(Executor::new(core::ptr::null_mut())))
        .0
}

/// How idle the machine is.
#[derive(Clone, Copy, Debug)]
pub struct IdleStats {
    /// Times the processor halted.
    pub halts: u64,
    /// Time spent halted, in microseconds.
    pub halted_micros: u64,
}

/// How idle the machine has been since boot.
pub fn idle_stats() -> IdleStats {
    IdleStats {
        halts: HALTS.load(Ordering::Relaxed),
        halted_micros: HALTED_MICROS.load(Ordering::Relaxed),
    }
}

/// Runs the tasks for ever.
pub fn run(executor: &'static Executor) -> ! {
    interrupts::enable();
    loop {
        irq::dispatch();
        time::run_expired();
        if READY.swap(false, Ordering::Relaxed) {
            // SAFETY: this is the only caller, and no task calls `run`, so polls do not nest.
            unsafe { executor.poll() };
        } else {
            halt_until_interrupt();
        }
    }
}

/// Halts unless there is something to do.
fn halt_until_interrupt() {
    // With interrupts off, nothing can become pending between the last look and the halt: `sti` takes effect only
    // after the instruction that follows it.
    interrupts::disable();
    let deadline = time::next_deadline();
    let before = time::now_micros();
    if irq::is_pending() || READY.load(Ordering::Relaxed) || deadline <= before {
        interrupts::enable();
        return;
    }
    if deadline != u64::MAX {
        time::arm(deadline);
    }
    interrupts::enable_and_hlt();
    HALTS.fetch_add(1, Ordering::Relaxed);
    HALTED_MICROS.fetch_add(time::now_micros() - before, Ordering::Relaxed);
}
