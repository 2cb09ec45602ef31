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
/// Length of a measurement in ticks of the PIT: 8 ms. One tick is then 0.01%.
const PIT_TICKS: u16 = 9545;
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
        let apic_hz = against_pit().map_or(VIRTUAL_APIC_HZ, |(_, apic_hz)| apic_hz);
        return Rates {
            tsc_hz,
            apic_hz,
            source,
        };
    }
    if let Some((tsc_hz, apic_hz)) = against_pit() {
        return Rates {
            tsc_hz,
            apic_hz,
            source: Source::Pit,
        };
    }
    Rates {
        tsc_hz: against_apic_timer(),
        apic_hz: VIRTUAL_APIC_HZ,
        source: Source::ApicTimer,
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
}

struct Pit {
    counter: Port<u8>,
    command: Port<u8>,
    gate: Port<u8>,
}

impl Pit {
    const CHANNEL_2_MODE_0: u8 = 0b1011_0000;
    const LATCH_CHANNEL_2: u8 = 0b1000_0000;

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

    /// The best of a few samples: the one taken in the shortest time, since the host may suspend us in the middle of
    /// one. `None` if the counter does not count.
    fn sample(&mut self) -> Sample {
        let mut best = self.sample_once();
        for _ in 0..4 {
            let next = self.sample_once();
            if next.1 < best.1 {
                best = next;
            }
        }
        best.0
    }

    /// A sample and how long it took.
    fn sample_once(&mut self) -> (Sample, u64) {
        let before = cpu::tsc();
        let apic = apic::timer_remaining();
        let pit = self.count();
        let took = cpu::tsc().wrapping_sub(before);
        (
            Sample {
                tsc: before.wrapping_add(took / 2),
                pit,
                apic,
            },
            took,
        )
    }
}

/// Rates of the time-stamp counter and of the APIC timer against the PIT; `None` where there is no PIT.
fn against_pit() -> Option<(u64, u64)> {
    /// Reads before the PIT is taken for absent: an absent one reads as all ones for ever.
    const STUCK_READS: u32 = 2000;
    let mut pit = Pit::start();
    apic::timer_count_down(u32::MAX);
    let first = pit.sample();
    let mut stuck = 0;
    loop {
        let count = pit.count();
        if first.pit.wrapping_sub(count) >= PIT_TICKS {
            break;
        }
        stuck = if count == first.pit { stuck + 1 } else { 0 };
        if stuck > STUCK_READS {
            apic::timer_count_down(0);
            return None;
        }
    }
    let last = pit.sample();
    apic::timer_count_down(0);
    let pit_ticks = u64::from(first.pit.wrapping_sub(last.pit));
    let per_second =
        |ticks: u64| (u128::from(ticks) * u128::from(PIT_HZ) / u128::from(pit_ticks)) as u64;
    let tsc_hz = per_second(last.tsc.wrapping_sub(first.tsc));
    let apic_hz = per_second(u64::from(first.apic.wrapping_sub(last.apic)));
    TSC_HZ.contains(&tsc_hz).then_some((tsc_hz, apic_hz))
}

/// Rate of the time-stamp counter against the APIC timer, taken to run at QEMU's 1 GHz.
fn against_apic_timer() -> u64 {
    const TICKS: u32 = 8_000_000;
    apic::timer_count_down(u32::MAX);
    let (first_tsc, first_apic) = (cpu::tsc(), apic::timer_remaining());
    let (last_tsc, last_apic) = loop {
        let (tsc, apic) = (cpu::tsc(), apic::timer_remaining());
        if first_apic.wrapping_sub(apic) >= TICKS {
            break (tsc, apic);
        }
    };
    apic::timer_count_down(0);
    let ticks = last_tsc.wrapping_sub(first_tsc);
    (u128::from(ticks) * u128::from(VIRTUAL_APIC_HZ)
        / u128::from(first_apic.wrapping_sub(last_apic))) as u64
}
