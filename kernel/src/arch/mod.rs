//! The processor and the chips around it.

pub mod apic;
pub mod cpu;
pub mod ioapic;
pub mod segments;
pub mod serial;
pub mod vectors;

/// Replaces the trampoline's descriptor tables with the kernel's: from here on an exception is reported.
pub fn init() {
    segments::init();
    vectors::init();
}
