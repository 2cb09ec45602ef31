//! x86 port I/O behind a trait, so that host tests can stand in for hardware.

use x86_64::instructions::port::Port;

/// Access to I/O ports.
pub trait Io {
    /// Reads a byte.
    fn in8(&mut self, port: u16) -> u8;
    /// Writes a byte.
    fn out8(&mut self, port: u16, value: u8);
    /// Reads a 32-bit word.
    fn in32(&mut self, port: u16) -> u32;
    /// Writes a 32-bit word.
    fn out32(&mut self, port: u16, value: u32);
}

/// The machine's own ports.
#[derive(Debug, Clone)]
pub struct MachineIo(());

impl MachineIo {
    /// Access to all ports.
    ///
    /// # Safety
    /// The code must run with port privilege, and whoever gets this value must own the devices at
    /// the ports it uses: a write can start DMA or reset the machine.
    #[must_use]
    pub const unsafe fn new() -> Self {
        Self(())
    }
}

impl Io for MachineIo {
    fn in8(&mut self, port: u16) -> u8 {
        // SAFETY: `new`'s caller vouched for privilege and for the use of the ports.
        unsafe { Port::new(port).read() }
    }
    fn out8(&mut self, port: u16, value: u8) {
        // SAFETY: as for `in8`.
        unsafe { Port::new(port).write(value) }
    }
    fn in32(&mut self, port: u16) -> u32 {
        // SAFETY: as for `in8`.
        unsafe { Port::new(port).read() }
    }
    fn out32(&mut self, port: u16, value: u32) {
        // SAFETY: as for `in8`.
        unsafe { Port::new(port).write(value) }
    }
}
