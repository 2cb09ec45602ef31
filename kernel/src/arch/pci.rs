//! PCI configuration space by ports 0xcf8 and 0xcfc (PCI 3.0, 3.2.2.3.2): pc and q35 have it, microvm does not.

use x86_64::instructions::port::Port;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;

fn select(bus: u8, device: u8, function: u8, register: u8) {
    let address = 1 << 31
        | u32::from(bus) << 16
        | u32::from(device & 31) << 11
        | u32::from(function & 7) << 8
        | u32::from(register & 0xfc);
    // SAFETY: selecting a register has no effect of its own. One processor and no interrupt handlers: the access to
    // the data port that follows cannot be separated from it.
    unsafe { Port::<u32>::new(ADDRESS).write(address) };
}

/// Reads the 32-bit register at byte offset `register` (rounded down to 4). All ones where there is no function.
pub fn config_read(bus: u8, device: u8, function: u8, register: u8) -> u32 {
    select(bus, device, function, register);
    // SAFETY: reads of configuration space are free of side effects for the registers that drivers here read.
    unsafe { Port::<u32>::new(DATA).read() }
}

/// Writes the 32-bit register at byte offset `register` (rounded down to 4).
///
/// # Safety
/// The write must not let the device reach or cover memory that is in use: base addresses, bus mastering.
pub unsafe fn config_write(bus: u8, device: u8, function: u8, register: u8, value: u32) {
    select(bus, device, function, register);
    // SAFETY: the caller answers for the effect on the device.
    unsafe { Port::<u32>::new(DATA).write(value) };
}
