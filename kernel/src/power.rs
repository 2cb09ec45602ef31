//! The ways to end: power off, reboot, halt, leave QEMU.

use boot::acpi::{Acpi, PowerOff, Register};
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;
use x86_64::{VirtAddr, instructions};

use crate::arch::serial;
use crate::{mem, platform, time};

/// What QEMU's isa-debug-exit device (`-device isa-debug-exit,iobase=0xf4,iosize=4`) is told. QEMU then exits with
/// status `2 * code + 1`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum ExitCode {
    /// A self-test passed, or an orderly power-off where no other way is known. Exit status 33.
    Success = 16,
    /// A panic. Exit status 65.
    Panic = 32,
    /// A processor exception. Exit status 67.
    Exception = 33,
    /// The loader's tables are unusable. Exit status 71. (69 is the trampoline's: the processor is too old.)
    BootFailed = 35,
}

/// How long a request to the hardware may take before the next way is tried, in microseconds.
const PATIENCE: u64 = 100_000;

/// Leaves QEMU with `code` if it has the debug-exit device; returns if not.
pub fn exit_qemu(code: ExitCode) {
    serial::drain();
    // SAFETY: the port belongs to the debug-exit device or to nothing.
    unsafe { Port::<u32>::new(0xf4).write(code as u32) };
}

/// Stops for good, interrupts off.
pub fn halt() -> ! {
    interrupts::disable();
    loop {
        hlt();
    }
}

/// Maps the registers that ACPI names for power-off and reset, and forgets those that cannot be mapped. Later there
/// may be no time for it: last words are spoken with whatever locks held.
pub fn prepare(acpi: &mut Acpi) {
    let usable = |register| match register {
        Register::Port(_) => true,
        Register::Memory(address) => mem::map_mmio(address, 1).is_some(),
    };
    if let Some(PowerOff::SleepControl { register, .. }) = acpi.power_off
        && !usable(register)
    {
        acpi.power_off = None;
    }
    acpi.reset = acpi.reset.filter(|(register, _)| usable(*register));
}

fn write_register(register: Register, value: u8) {
    match register {
        // SAFETY: the firmware's tables name the port for this very purpose.
        Register::Port(port) => unsafe { Port::<u8>::new(port).write(value) },
        // SAFETY: the firmware's tables name the register for this very purpose, and `prepare` mapped it.
        Register::Memory(address) => unsafe { (address as *mut u8).write_volatile(value) },
    }
}

/// Powers the machine off: as ACPI says, else by the port of QEMU's pc and q35, else by leaving QEMU through its
/// debug-exit device with status 33. Where there is none of these (microvm without ACPI) it says so and halts.
pub fn poweroff() -> ! {
    interrupts::disable();
    serial::drain();
    match platform::get().and_then(|platform| platform.acpi.power_off) {
        // SAFETY: the firmware's tables name the port for this very purpose.
        Some(PowerOff::Pm1a { port, value }) => unsafe { Port::<u16>::new(port).write(value) },
        Some(PowerOff::SleepControl { register, value }) => write_register(register, value),
        // SAFETY: where QEMU's pc and q35 have the PM1a control register; elsewhere nothing listens.
        None => unsafe { Port::<u16>::new(0x604).write(0x2000) },
    }
    time::spin(PATIENCE);
    exit_qemu(ExitCode::Success);
    serial::print(format_args!(
        "palisade: this machine has no known way to power off; halted\r\n"
    ));
    halt()
}

/// Reboots: as ACPI says, by the chipset's reset port, by the keyboard controller, and at last by a triple fault,
/// which no machine ignores.
pub fn reboot() -> ! {
    interrupts::disable();
    serial::drain();
    if let Some((register, value)) = platform::get().and_then(|platform| platform.acpi.reset) {
        write_register(register, value);
        time::spin(PATIENCE);
    }
    // SAFETY: the reset ports of the PC: chipset (hard reset) and keyboard controller (pulse reset line).
    unsafe {
        Port::<u8>::new(0xcf9).write(0x06);
        time::spin(PATIENCE / 10);
        Port::<u8>::new(0x64).write(0xfe);
        time::spin(PATIENCE / 10);
        // Without descriptors no exception can be delivered, nor the double fault that follows.
        lidt(&DescriptorTablePointer {
            limit: 0,
            base: VirtAddr::zero(),
        });
        instructions::interrupts::int3();
    }
    halt()
}
