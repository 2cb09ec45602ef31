//! The executor's loop: interrupts, timers, tasks; and the halt when there is nothing of either.

use core::sync::atomic::{AtomicBool, Ordering, compiler_fence};

use critical_section::RawRestoreState;
use embassy_executor::raw::Executor;
use spin::Once;
use x86_64::instructions::interrupts;

use crate::{irq, time};

/// Whether a task became ready since the last poll.
static READY: AtomicBool = AtomicBool::new(false);

/// Called by the executor when a task becomes ready.
#[unsafe(export_name = "__pender")]
fn pender(_context: *mut ()) {
    READY.store(true, Ordering::Relaxed);
}

struct Alone;
critical_section::set_impl!(Alone);

// SAFETY: a critical section must exclude everything else that may enter one. Here nothing else can: one processor
// runs, tasks are cooperative, and the code that interrupts them is the assembly of `arch::vectors`, which sets a bit
// and returns, or ends the machine. So there is nothing to do, and wakers and channels cost no `cli`.
unsafe impl critical_section::Impl for Alone {
    unsafe fn acquire() -> RawRestoreState {}

    unsafe fn release(_state: RawRestoreState) {}
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
    if irq::is_pending() || READY.load(Ordering::Relaxed) || deadline <= time::now_micros() {
        interrupts::enable();
        return;
    }
    if deadline != u64::MAX {
        time::arm(deadline);
    }
    interrupts::enable_and_hlt();
    // The instruction is declared not to change memory; the interrupt that ends it did.
    compiler_fence(Ordering::SeqCst);
}
