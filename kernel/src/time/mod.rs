//! The clock: the time-stamp counter, scaled; and the timer that ends a halt.
//!
//! Time is microseconds since the image was entered. It never runs backwards. Nothing goes by a wall clock ([`rtc`]).

mod calibrate;
mod driver;
pub mod rtc;

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use spin::Once;

use crate::arch::{apic, cpu};
use crate::irq;

pub use driver::{next_deadline, run_expired};

/// How the rate of the time-stamp counter became known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// KVM's paravirtual clock tells it.
    KvmClock,
    /// CPUID leaf 0x15 tells it.
    Cpuid,
    /// Measured against channel 2 of the programmable interval timer.
    Pit,
    /// Measured against the local APIC's timer, whose rate under QEMU is 1 GHz.
    ApicTimer,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KvmClock => "kvmclock",
            Self::Cpuid => "CPUID",
            Self::Pit => "PIT",
            Self::ApicTimer => "APIC timer",
        })
    }
}

struct Clock {
    base: u64,
    tsc_hz: u64,
    /// Microseconds per tick, as a fraction of 2^64.
    micros_per_tick: u64,
    /// Ticks of the APIC timer per second; zero when deadlines are given to it as TSC values.
    apic_hz: u64,
    source: Source,
}

static CLOCK: Once<Clock> = Once::new();
/// The last time told. Processors of a host need not agree about their counters.
static LAST: AtomicU64 = AtomicU64::new(0);
/// Counter value at [`mark_entry`].
static ENTRY: AtomicU64 = AtomicU64::new(0);
/// What the timer is set to, in microseconds; `u64::MAX` when it is not.
static ARMED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Longest sleep, in microseconds. The APIC's counter has 32 bits and may run at several GHz.
const SLEEP_MAX: u64 = 1_000_000;

/// Notes the moment the image was entered.
pub fn mark_entry() {
    ENTRY.store(cpu::tsc(), Ordering::Relaxed);
}

/// Calibrates the clock and prepares the timer. Takes 4 ms against the PIT, 8 ms without one.
pub fn init() {
    irq::claim_timer(|_| ARMED.store(u64::MAX, Ordering::Relaxed));
    let deadline_mode = apic::timer_has_deadline_mode();
    // Calibration may need the counting mode, so deadline mode comes after it.
    apic::timer_init(irq::TIMER, false);
    let rates = calibrate::measure(!deadline_mode);
    apic::timer_init(irq::TIMER, deadline_mode);
    CLOCK.call_once(|| Clock {
        base: ENTRY.load(Ordering::Relaxed),
        tsc_hz: rates.tsc_hz,
        micros_per_tick: ((1_000_000_u128 << 64) / u128::from(rates.tsc_hz)) as u64,
        apic_hz: if deadline_mode { 0 } else { rates.apic_hz },
        source: rates.source,
    });
}

/// Microseconds since the image was entered; zero before [`init`].
pub fn now_micros() -> u64 {
    let Some(clock) = CLOCK.get() else { return 0 };
    let ticks = cpu::tsc().saturating_sub(clock.base);
    let now = ((u128::from(ticks) * u128::from(clock.micros_per_tick)) >> 64) as u64;
    let last = LAST.load(Ordering::Relaxed);
    if now < last {
        return last;
    }
    LAST.store(now, Ordering::Relaxed);
    now
}

/// Rate of the time-stamp counter.
pub fn frequency_hz() -> u64 {
    CLOCK.get().map_or(0, |clock| clock.tsc_hz)
}

/// How the rate became known.
pub fn source() -> Source {
    CLOCK.get().map_or(Source::Pit, |clock| clock.source)
}

/// Makes sure that an interrupt comes at `deadline` (microseconds) or earlier. Cheap when one is due already: the
/// timer is only touched to bring it forward.
pub fn arm(deadline: u64) {
    let Some(clock) = CLOCK.get() else { return };
    if ARMED.load(Ordering::Relaxed) <= deadline {
        return;
    }
    let now = now_micros();
    let sleep = deadline.saturating_sub(now).clamp(1, SLEEP_MAX);
    ARMED.store(now + sleep, Ordering::Relaxed);
    if clock.apic_hz == 0 {
        let ticks = u128::from(now + sleep) * u128::from(clock.tsc_hz) / 1_000_000;
        apic::timer_deadline(clock.base.wrapping_add(ticks as u64).max(1));
    } else {
        let count = u128::from(sleep) * u128::from(clock.apic_hz) / 1_000_000;
        apic::timer_count_down(u32::try_from(count).unwrap_or(u32::MAX).max(1));
    }
}

/// Busy-waits for `micros` microseconds. For chips that want to be left alone for a moment, and for last words.
pub fn spin(micros: u64) {
    let end = now_micros().saturating_add(micros);
    while CLOCK.is_completed() && now_micros() < end {
        core::hint::spin_loop();
    }
}
