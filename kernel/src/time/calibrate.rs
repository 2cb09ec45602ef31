//! Finds the rates of the time-stamp counter and of the APIC timer.

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::Source;
use crate::arch::{apic, cpu};

/// The rates found.
pub struct Rates {
    pub tsc_hz: u64,
    pub apic_hz: u64,
    pub source: Source,
}

/// QEMU's and KVM's APIC timer counts nanoseconds.
const VIRTUAL_APIC_HZ: u64 = 1_000_000_000;
/// Input clock of the programmable interval timer.
const PIT_HZ: u64 = 1_193_182;
/// Length of a measurement in ticks of the PIT: 4 ms. One tick is then 0.02%, and the time a sample takes about 0.1%.
const PIT_TICKS: u16 = 4773;
/// Plausible rates of a time-stamp counter. Under `-icount` it is 1 GHz.
const TSC_HZ: core::ops::RangeInclusive<u64> = 100_000_000..=20_000_000_000;

/// Finds the rates; that of the APIC timer only if `need_apic`.
pub fn measure(need_apic: bool) -> Rates {
    let told = kvm_clock_hz()
        .map(|hz| (hz, Source::KvmClock))
        .or_else(|| cpuid_hz().map(|hz| (hz, Source::Cpuid)))
        .filter(|(hz, _)| TSC_HZ.contains(hz));
    if let Some((tsc_hz, source)) = told {
        // A hypervisor that tells the counter's rate has a virtual APIC; on bare metal it is measured.
        if !need_apic || cpu::has_hypervisor() {
            return Rates {
                tsc_hz,
                apic_hz: VIRTUAL_APIC_HZ,
                source,
            };
        }
        let apic_hz = against_pit().map_or(VIRTUAL_APIC_HZ, |measured| measured.apic_hz);
        return Rates {
            tsc_hz,
            apic_hz,
            source,
        };
    }
    let measured = against_pit().map(|measured| (measured, Source::Pit));
    match measured.or_else(|| against_apic_timer().map(|measured| (measured, Source::ApicTimer))) {
        Some((
            Measured {
                tsc_hz, apic_hz, ..
            },
            source,
        )) => Rates {
            tsc_hz,
            apic_hz,
            source,
        },
        None => crate::panic::fatal(format_args!("no clock: neither PIT nor APIC timer counts")),
    }
}

/// What KVM writes to the page registered with `MSR_KVM_SYSTEM_TIME_NEW` (Linux `Documentation/virt/kvm/x86/msr.rst`).
#[repr(C, align(64))]
struct KvmTimeInfo {
    version: u32,
    pad0: u32,
    tsc_timestamp: u64,
    system_time: u64,
    tsc_to_system_mul: u32,
    tsc_shift: i8,
    flags: u8,
    pad: [u8; 2],
}

fn kvm_clock_hz() -> Option<u64> {
    const FEATURE_CLOCK_NEW: u32 = 1 << 3;
    const MSR_KVM_SYSTEM_TIME_NEW: u32 = 0x4b56_4d01;
    if cpu::hypervisor_signature()? != *b"KVMKVMKVM\0\0\0" {
        return None;
    }
    if cpu::cpuid(0x4000_0001).eax & FEATURE_CLOCK_NEW == 0 {
        return None;
    }
    let mut info = KvmTimeInfo {
        version: 0,
        pad0: 0,
        tsc_timestamp: 0,
        system_time: 0,
        tsc_to_system_mul: 0,
        tsc_shift: 0,
        flags: 0,
        pad: [0; 2],
    };
    let page = &raw mut info;
    let mut register = Msr::new(MSR_KVM_SYSTEM_TIME_NEW);
    // SAFETY: the register exists (feature bit). While it holds the address, KVM may write the structure: that ends
    // with the second write, before the structure goes out of scope, and it is read volatile in between.
    let (scale, shift) = unsafe {
        register.write(page as u64 | 1);
        let found = (
            (&raw const (*page).tsc_to_system_mul).read_volatile(),
            (&raw const (*page).tsc_shift).read_volatile(),
        );
        register.write(0);
        found
    };
    if scale == 0 || !(-31..=31).contains(&shift) {
        return None;
    }
    // nanoseconds = (ticks << shift) * scale / 2^32
    let hz = (1_000_000_000_u128 << 32) / u128::from(scale);
    let hz = if shift < 0 { hz << -shift } else { hz >> shift };
    u64::try_from(hz).ok()
}

/// Intel SDM 2A, CPUID leaf 0x15: crystal rate times numerator over denominator.
fn cpuid_hz() -> Option<u64> {
    let leaf = cpu::cpuid(0x15);
    if leaf.eax == 0 || leaf.ebx == 0 || leaf.ecx == 0 {
        return None;
    }
    Some(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax))
}

/// Counts that belong to one moment, as nearly as can be had.
struct Sample {
    tsc: u64,
    pit: u16,
    apic: u32,
    /// Ticks of the time-stamp counter that taking the sample took.
    took: u64,
}

/// The best of a few samples: the one taken in the shortest time, since the host may suspend us in the middle of one.
fn sample(mut read_pit: impl FnMut() -> u16) -> Sample {
    let mut once = || {
        let before = cpu::tsc();
        let apic = apic::timer_remaining();
        let pit = read_pit();
        let took = cpu::tsc().wrapping_sub(before);
        Sample {
            tsc: before.wrapping_add(took / 2),
            pit,
            apic,
            took,
        }
    };
    let mut best = once();
    for _ in 0..4 {
        let next = once();
        if next.took < best.took {
            best = next;
        }
    }
    best
}

/// One measurement.
struct Measured {
    tsc_hz: u64,
    apic_hz: u64,
    /// How far off the rates may be, in parts per million.
    error_ppm: u64,
}

impl Measured {
    /// Good enough: no further attempt.
    const ERROR_PPM_WANTED: u64 = 2_000;

    /// What two samples say, between which the reference made `ticks` at `hz`.
    fn between(first: &Sample, last: &Sample, ticks: u64, hz: u64) -> Option<Self> {
        let tsc = last.tsc.wrapping_sub(first.tsc);
        let rate = |count: u64| (u128::from(count) * u128::from(hz)).checked_div(u128::from(ticks));
        let error_ppm = u128::from(first.took + last.took) * 500_000 / u128::from(tsc.max(1));
        let tsc_hz = u64::try_from(rate(tsc)?)
            .ok()
            .filter(|hz| TSC_HZ.contains(hz))?;
        let apic_hz = u64::try_from(rate(u64::from(first.apic.wrapping_sub(last.apic)))?).ok()?;
        Some(Self {
            tsc_hz,
            apic_hz,
            error_ppm: u64::try_from(error_ppm).unwrap_or(u64::MAX),
        })
    }

    /// Attempts until one is good enough; the best of them if none is.
    fn best_of(attempt: impl Fn() -> Option<Self>) -> Option<Self> {
        const ATTEMPTS: u32 = 5;
        let mut best: Option<Self> = None;
        for _ in 0..ATTEMPTS {
            let Some(next) = attempt() else { continue };
            if next.error_ppm <= Self::ERROR_PPM_WANTED {
                return Some(next);
            }
            if best
                .as_ref()
                .is_none_or(|best| next.error_ppm < best.error_ppm)
            {
                best = Some(next);
            }
        }
        best
    }
}

struct Pit {
    counter: Port<u8>,
    command: Port<u8>,
    gate: Port<u8>,
}

impl Pit {
    const CHANNEL_2_MODE_0: u8 = 0b1011_0000;
    const LATCH_CHANNEL_2: u8 = 0b1000_0000;
    const READ_STATUS_OF_CHANNEL_2: u8 = 0b1110_1000;
    /// Status bit of a channel's output: in mode 0, high once it has counted through zero.
    const OUTPUT: u8 = 1 << 7;

    /// Starts channel 2 counting down from 0xffff, gate on, speaker off.
    fn start() -> Self {
        let mut pit = Self {
            counter: Port::new(0x42),
            command: Port::new(0x43),
            gate: Port::new(0x61),
        };
        // SAFETY: channel 2 drives nothing but the speaker, which stays off.
        unsafe {
            let gate = pit.gate.read();
            pit.gate.write(gate & !2 | 1);
            pit.command.write(Self::CHANNEL_2_MODE_0);
            pit.counter.write(0xff);
            pit.counter.write(0xff);
        }
        pit
    }

    fn count(&mut self) -> u16 {
        // SAFETY: latching and reading the count of channel 2.
        unsafe {
            self.command.write(Self::LATCH_CHANNEL_2);
            let low = self.counter.read();
            u16::from_le_bytes([low, self.counter.read()])
        }
    }

    /// Whether the counter has passed zero, after 55 ms: the count has wrapped and says nothing any more.
    fn has_wrapped(&mut self) -> bool {
        // SAFETY: latches and reads the status of channel 2. Port 0x61 shows the output too, but microvm has none.
        unsafe {
            self.command.write(Self::READ_STATUS_OF_CHANNEL_2);
            self.counter.read() & Self::OUTPUT != 0
        }
    }
}

/// Rates of the time-stamp counter and of the APIC timer against the PIT; `None` where there is no PIT.
fn against_pit() -> Option<Measured> {
    let measured = Measured::best_of(|| {
        /// Equal counts in a row before the PIT is taken for absent: an absent one reads as all ones for ever.
        const STUCK_READS: u32 = 500;
        let mut pit = Pit::start();
        apic::timer_count_down(u32::MAX);
        let first = sample(|| pit.count());
        let mut stuck = 0;
        loop {
            let count = pit.count();
            if first.pit.wrapping_sub(count) >= PIT_TICKS {
                break;
            }
            stuck = if count == first.pit { stuck + 1 } else { 0 };
            if stuck > STUCK_READS {
                return None;
            }
        }
        let last = sample(|| pit.count());
        if pit.has_wrapped() {
            return None;
        }
        Measured::between(
            &first,
            &last,
            u64::from(first.pit.wrapping_sub(last.pit)),
            PIT_HZ,
        )
    });
    apic::timer_count_down(0);
    measured
}

/// Rate of the time-stamp counter against the APIC timer, taken to run at QEMU's 1 GHz.
fn against_apic_timer() -> Option<Measured> {
    const TICKS: u32 = 4_000_000;
    let measured = Measured::best_of(|| {
        apic::timer_count_down(u32::MAX);
        let first = sample(|| 0);
        while apic::timer_remaining() != 0
            && first.apic.wrapping_sub(apic::timer_remaining()) < TICKS
        {}
        let last = sample(|| 0);
        Measured::between(
            &first,
            &last,
            u64::from(first.apic.wrapping_sub(last.apic)),
            VIRTUAL_APIC_HZ,
        )
    });
    apic::timer_count_down(0);
    measured
}
