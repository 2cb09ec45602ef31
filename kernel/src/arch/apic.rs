//! The local APIC: enabling it, acknowledging, and its one-shot timer.

use core::sync::atomic::Ordering;

use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::cpu;
use super::vectors::{APIC_BASE, SPURIOUS, X2APIC};
use crate::mem;

const IA32_APIC_BASE: Msr = Msr::new(0x1b);
const IA32_TSC_DEADLINE: u32 = 0x6e0;
const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;

/// Register offsets of the memory-mapped form; the x2APIC register is `0x800 + offset / 16` (Intel SDM 3A, 11.12).
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const SPURIOUS_VECTOR: u32 = 0xf0;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const TIMER_INITIAL: u32 = 0x380;
const TIMER_CURRENT: u32 = 0x390;
const TIMER_DIVIDE: u32 = 0x3e0;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_NMI: u32 = 4 << 8;
const TIMER_DEADLINE_MODE: u32 = 2 << 17;
/// Divide configuration value for "by 1".
const DIVIDE_BY_1: u32 = 0b1011;

fn x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

fn read(register: u32) -> u32 {
    if x2apic() {
        // SAFETY: x2APIC mode is on, and the register exists in it.
        unsafe { Msr::new(0x800 + register / 16).read() as u32 }
    } else {
        let base = APIC_BASE.load(Ordering::Relaxed);
        // SAFETY: `init` mapped the register page at this address; all registers used here lie within it.
        unsafe { ((base + u64::from(register)) as *const u32).read_volatile() }
    }
}

fn write(register: u32, value: u32) {
    if x2apic() {
        // SAFETY: x2APIC mode is on, the register exists in it, and no reserved bits are set by the callers.
        unsafe { Msr::new(0x800 + register / 16).write(u64::from(value)) }
    } else {
        let base = APIC_BASE.load(Ordering::Relaxed);
        // SAFETY: as in `read`.
        unsafe { ((base + u64::from(register)) as *mut u32).write_volatile(value) }
    }
}

/// Enables the local APIC, in x2APIC mode where there is one (an MSR access leaves KVM sooner than an MMIO one), and
/// silences the legacy controllers.
pub fn init() {
    silence_legacy_pic();
    // SAFETY: every x86-64 processor has this register.
    let mut base = unsafe { IA32_APIC_BASE.read() } | BASE_ENABLE;
    let has_x2apic = cpu::cpuid(1).ecx & (1 << 21) != 0;
    if has_x2apic {
        base |= BASE_X2APIC;
    }
    let address = base & 0x000f_ffff_ffff_f000;
    if !has_x2apic && mem::map_mmio(address, 4096).is_none() {
        crate::panic::fatal(format_args!("local APIC at {address:#x} cannot be mapped"));
    }
    // SAFETY: enabling is allowed from the disabled and from either enabled state; x2APIC mode only where CPUID has it.
    unsafe {
        let mut register = IA32_APIC_BASE;
        register.write(base);
    }
    APIC_BASE.store(address, Ordering::Relaxed);
    X2APIC.store(base & BASE_X2APIC != 0, Ordering::Relaxed);
    write(TASK_PRIORITY, 0);
    write(LVT_TIMER, LVT_MASKED);
    // LINT0 carries the legacy controller, which is masked; LINT1 carries NMIs, wanted for `inject-nmi`.
    write(LVT_LINT0, LVT_MASKED);
    write(LVT_LINT1, LVT_NMI);
    write(LVT_ERROR, LVT_MASKED);
    write(SPURIOUS_VECTOR, SOFTWARE_ENABLE | u32::from(SPURIOUS));
}

/// Masks both 8259s after moving their vectors off the exceptions: even masked they can raise spurious interrupts.
/// Where there are none (microvm with `pic=off`) the writes go nowhere.
fn silence_legacy_pic() {
    let sequence: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, 0x20),
        (0xa1, 0x28),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in sequence {
        // SAFETY: the documented initialisation sequence of the 8259; interrupts are disabled.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

/// Identifier of this processor's APIC, as interrupt messages address it.
pub fn id() -> u32 {
    if x2apic() { read(ID) } else { read(ID) >> 24 }
}

/// Starts the one-shot timer on `vector` (still masked at zero count) or sets it to deadline mode.
pub fn timer_init(vector: u8, deadline_mode: bool) {
    write(TIMER_DIVIDE, DIVIDE_BY_1);
    write(
        LVT_TIMER,
        u32::from(vector)
            | if deadline_mode {
                TIMER_DEADLINE_MODE
            } else {
                0
            },
    );
}

/// Whether the timer can be given a TSC value as deadline.
pub fn timer_has_deadline_mode() -> bool {
    cpu::cpuid(1).ecx & (1 << 24) != 0
}

/// One-shot mode: interrupt after `count` ticks of the APIC's clock; 0 stops the timer.
pub fn timer_count_down(count: u32) {
    write(TIMER_INITIAL, count);
}

/// Ticks left of the current count.
pub fn timer_remaining() -> u32 {
    read(TIMER_CURRENT)
}

/// Deadline mode: interrupt when the TSC passes `tsc`.
pub fn timer_deadline(tsc: u64) {
    // SAFETY: the register exists where `timer_has_deadline_mode`, which the caller checked before choosing the mode.
    // Zero would disarm; a deadline is never zero.
    unsafe { Msr::new(IA32_TSC_DEADLINE).write(tsc) };
}
