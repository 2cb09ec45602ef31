//! virtio over MMIO (virtio 1.2 §4.2), legacy and modern, as microvm has it: the kernel command
//! line says where the devices are.

use core::fmt;
use virtio_drivers::{
    Hal, PhysAddr,
    transport::{
        Transport,
        mmio::{MmioError, MmioTransport, MmioVersion},
    },
};

use crate::transport::{DeviceTransport, InitError, MmioDoorbell, forward_transport, wrapped};

/// The command line's key for a device.
const KEY: &str = "virtio_mmio.device=";
/// `QueueNotify` in the register layout (§4.2.2).
const QUEUE_NOTIFY: usize = 0x50;
/// The registers before the device's configuration.
const REGISTERS_BYTES: u64 = 0x100;

/// A device as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MmioDevice {
    /// Physical address of its registers.
    pub base: PhysAddr,
    /// Bytes of registers and configuration.
    pub size: u64,
    /// Its interrupt line.
    pub irq: u32,
}

/// What is wrong with a device on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// No `@` between size and address.
    MissingAddress,
    /// No `:` between address and interrupt.
    MissingInterrupt,
    /// The size is not a number, with K, M or G behind it or not, or below 256.
    BadSize,
    /// The address is not a number, not a multiple of 4, zero, or the device would wrap.
    BadAddress,
    /// The interrupt is not a number.
    BadInterrupt,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MissingAddress => "expected `@` and an address after the size",
            Self::MissingInterrupt => "expected `:` and an interrupt after the address",
            Self::BadSize => "bad size",
            Self::BadAddress => "bad address",
            Self::BadInterrupt => "bad interrupt",
        })
    }
}

/// The devices on a kernel command line: words `virtio_mmio.device=<size>@<address>:<irq>`, with
/// an optional `:<id>` that is ignored. Numbers are decimal or, after `0x`, hexadecimal. Other
/// words are passed over.
pub fn devices(command_line: &str) -> impl Iterator<Item = Result<MmioDevice, ParseError>> + '_ {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(KEY))
        .map(parse)
}

fn parse(text: &str) -> Result<MmioDevice, ParseError> {
    let (size, rest) = text.split_once('@').ok_or(ParseError::MissingAddress)?;
    let (address, rest) = rest.split_once(':').ok_or(ParseError::MissingInterrupt)?;
    let irq = rest.split_once(':').map_or(rest, |(irq, _)| irq);
    let size = size_number(size)
        .filter(|&size| size >= REGISTERS_BYTES)
        .ok_or(ParseError::BadSize)?;
    let base = number(address)
        .filter(|base| *base != 0 && base % 4 == 0 && base.checked_add(size).is_some())
        .ok_or(ParseError::BadAddress)?;
    let irq = number(irq)
        .and_then(|irq| u32::try_from(irq).ok())
        .ok_or(ParseError::BadInterrupt)?;
    Ok(MmioDevice { base, size, irq })
}

fn size_number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    // `from_str_radix` would also take a sign.
    if digits.starts_with('+') {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// An open MMIO device. Dropping it resets the device.
#[derive(Debug)]
pub struct MmioVirtio {
    transport: MmioTransport<'static>,
    registers: core::ptr::NonNull<u8>,
    irq: u32,
}

// SAFETY: the registers are used through `&mut self` alone (reads through `&self` have no side
// effects), from wherever that is.
unsafe impl Send for MmioVirtio {}

impl MmioVirtio {
    /// Opens a device: maps its registers and looks at magic, version and type.
    ///
    /// # Errors
    /// virtio-drivers' [`MmioError`]; a slot without a device has type 0, an invalid one.
    ///
    /// # Safety
    /// `device` must be what the machine monitor said: registers of a virtio device that nobody
    /// else uses.
    pub unsafe fn open<H: Hal>(device: &MmioDevice) -> Result<Self, MmioError> {
        let size = device.size as usize;
        // SAFETY: the caller promised that these are the registers of a device.
        let registers = unsafe { H::mmio_phys_to_virt(device.base, size) };
        // SAFETY: mapped, aligned to 4 bytes (the parser checks), at least the register block
        // long, and never unmapped.
        let transport = unsafe { MmioTransport::new(registers.cast(), size) }?;
        Ok(Self {
            transport,
            registers,
            irq: device.irq,
        })
    }

    /// The interrupt line. Whoever handles it calls the driver's `ack_interrupt` until that reads
    /// nothing and only then looks at the queues: a level-triggered line would stay up, and an
    /// edge-triggered one would not rise again.
    #[must_use]
    pub fn irq(&self) -> u32 {
        self.irq
    }
}

impl DeviceTransport for MmioVirtio {
    type Bell = MmioDoorbell;

    fn doorbell(&mut self, queue: u16) -> Result<MmioDoorbell, InitError> {
        // SAFETY: inside the mapped register block and aligned to 4 bytes; the mapping stays.
        Ok(unsafe { MmioDoorbell::new(self.registers.add(QUEUE_NOTIFY), queue, true) })
    }

    fn set_queue_vector(&mut self, _queue: u16, _vector: u16) -> bool {
        false
    }

    fn set_config_vector(&mut self, _vector: u16) -> bool {
        false
    }
}

impl Transport for MmioVirtio {
    forward_transport!(wrapped);

    fn notify(&mut self, queue: u16) {
        self.transport.notify(queue);
    }
    fn read_config_generation(&self) -> u32 {
        // Legacy devices have no such register (§4.2.4).
        match self.transport.version() {
            MmioVersion::Legacy => 0,
            MmioVersion::Modern => self.transport.read_config_generation(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn devices_are_found_among_other_words() {
        let line = "console=ttyS0 virtio_mmio.device=512@0xfeb00e00:12  quiet \
                    virtio_mmio.device=4K@0xfeb00c00:11:3\n";
        let found: Vec<_> = devices(line).collect();
        assert_eq!(
            found,
            [
                Ok(MmioDevice {
                    base: 0xfeb0_0e00,
                    size: 512,
                    irq: 12
                }),
                Ok(MmioDevice {
                    base: 0xfeb0_0c00,
                    size: 4096,
                    irq: 11
                }),
            ]
        );
        assert_eq!(devices("").count(), 0);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, error) in [
            ("", ParseError::MissingAddress),
            ("512", ParseError::MissingAddress),
            ("512@0xfeb00e00", ParseError::MissingInterrupt),
            ("@0xfeb00e00:12", ParseError::BadSize),
            ("64@0xfeb00e00:12", ParseError::BadSize),
            ("-1@0xfeb00e00:12", ParseError::BadSize),
            ("99999999999999999999G@0x1000:1", ParseError::BadSize),
            ("17179869184G@0x1000:1", ParseError::BadSize),
            ("512@:12", ParseError::BadAddress),
            ("512@0:12", ParseError::BadAddress),
            ("512@0xfeb00e01:12", ParseError::BadAddress),
            ("512@0xfffffffffffffff0:12", ParseError::BadAddress),
            ("512@+4096:12", ParseError::BadAddress),
            ("512@0xfeb00e00:", ParseError::BadInterrupt),
            ("512@0xfeb00e00:x", ParseError::BadInterrupt),
            ("512@0xfeb00e00:4294967296", ParseError::BadInterrupt),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }
}
