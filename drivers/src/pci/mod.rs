//! PCI: finding virtio functions and opening them.
//!
//! Configuration space is reached by ports 0xcf8 and 0xcfc, which pc and q35 both have (a machine
//! without PCI answers with all ones and has no functions). BARs must have been assigned, as
//! SeaBIOS does; they are mapped by [`Hal::mmio_phys_to_virt`].

mod msix;
mod virtio;

use alloc::vec::Vec;
use core::fmt;
use virtio_drivers::{
    Hal,
    transport::{
        DeviceType,
        pci::{
            VirtioPciError,
            bus::{
                Command, ConfigurationAccess, DeviceFunction, DeviceFunctionInfo, HeaderType,
                PciRoot,
            },
            virtio_device_type,
        },
    },
};

pub use msix::MsiMessage;
pub use virtio::PciVirtio;
pub use virtio_drivers::transport::pci::bus::DeviceFunction as PciAddress;

use crate::port::Io;

const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_ENABLE: u32 = 1 << 31;
/// Register of a bridge's bus numbers: primary, secondary, subordinate, latency.
const BRIDGE_BUSES: u8 = 0x18;
/// Base address registers of a function.
const BARS: u8 = 6;

/// Configuration access through the two ports of PCI's mechanism 1. A pair of accesses belongs
/// together, so it must not be used from interrupt handlers.
#[derive(Debug)]
pub struct PortCam<I: Io> {
    io: core::cell::RefCell<I>,
}

impl<I: Io> PortCam<I> {
    /// Configuration access through `io`.
    #[must_use]
    pub const fn new(io: I) -> Self {
        Self {
            io: core::cell::RefCell::new(io),
        }
    }

    fn address(at: DeviceFunction, register: u8) -> u32 {
        CONFIG_ENABLE
            | u32::from(at.bus) << 16
            | u32::from(at.device) << 11
            | u32::from(at.function) << 8
            | u32::from(register & 0xfc)
    }
}

impl<I: Io + Clone> Clone for PortCam<I> {
    fn clone(&self) -> Self {
        Self::new(self.io.borrow().clone())
    }
}

impl<I: Io + Clone> ConfigurationAccess for PortCam<I> {
    fn read_word(&self, at: DeviceFunction, register: u8) -> u32 {
        let mut io = self.io.borrow_mut();
        io.out32(CONFIG_ADDRESS, Self::address(at, register));
        io.in32(CONFIG_DATA)
    }

    fn write_word(&mut self, at: DeviceFunction, register: u8, data: u32) {
        let io = self.io.get_mut();
        io.out32(CONFIG_ADDRESS, Self::address(at, register));
        io.out32(CONFIG_DATA, data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        self.clone()
    }
}

/// The PCI buses of the machine.
#[derive(Debug)]
pub struct Pci<C: ConfigurationAccess + Clone> {
    root: PciRoot<C>,
    /// For registers that `PciRoot` gives no access to.
    config: C,
}

impl<C: ConfigurationAccess + Clone> Pci<C> {
    /// The buses behind `config`.
    #[must_use]
    pub fn new(config: C) -> Self {
        Self {
            root: PciRoot::new(config.clone()),
            config,
        }
    }

    /// All functions on bus 0 and on every bus behind a bridge, in bus order. Allocates.
    #[must_use]
    pub fn functions(&self) -> Vec<(DeviceFunction, DeviceFunctionInfo)> {
        let mut found = Vec::new();
        let mut seen = [false; 256];
        seen[0] = true;
        // Grows while it is walked: bridges add the buses behind them, each once.
        let mut buses = Vec::from([0u8]);
        let mut next = 0;
        while let Some(&bus) = buses.get(next) {
            next += 1;
            for (at, info) in self.root.enumerate_bus(bus) {
                if info.header_type == HeaderType::PciPciBridge {
                    let secondary = (self.config.read_word(at, BRIDGE_BUSES) >> 8) as u8;
                    if !seen[usize::from(secondary)] {
                        seen[usize::from(secondary)] = true;
                        buses.push(secondary);
                    }
                }
                found.push((at, info));
            }
        }
        found.sort_by_key(|(at, _)| *at);
        found
    }

    /// The virtio functions among [`Pci::functions`], with their types. Allocates.
    #[must_use]
    pub fn virtio_functions(&self) -> Vec<(DeviceFunction, DeviceType)> {
        self.functions()
            .into_iter()
            .filter_map(|(at, info)| Some((at, virtio_device_type(&info)?)))
            .collect()
    }

    /// Lets a function answer memory accesses and do DMA; `false` for `legacy_interrupt` turns
    /// its INTx line off.
    fn enable(&mut self, at: DeviceFunction, legacy_interrupt: bool) {
        let (_, mut command) = self.root.get_status_command(at);
        command |= Command::MEMORY_SPACE | Command::BUS_MASTER;
        command.set(Command::INTERRUPT_DISABLE, !legacy_interrupt);
        self.root.set_command(at, command);
    }

    /// Where `length` bytes at `offset` of a memory BAR are mapped, aligned to 4 bytes.
    fn map<H: Hal>(&mut self, at: DeviceFunction, place: BarRange) -> Result<Mapping, PciError> {
        let BarRange {
            bar,
            offset,
            length,
        } = place;
        let bad = PciError::BadRange {
            bar,
            offset,
            length,
        };
        if bar >= BARS {
            return Err(bad);
        }
        let info = self
            .root
            .bar_info(at, bar)
            .map_err(|error| PciError::Virtio(error.into()))?
            .ok_or(PciError::BarUnassigned { bar })?;
        let (base, size) = info
            .memory_address_size()
            .ok_or(PciError::BarIsPorts { bar })?;
        if base == 0 {
            return Err(PciError::BarUnassigned { bar });
        }
        if u64::from(offset) + u64::from(length) > size || offset % 4 != 0 || length == 0 {
            return Err(bad);
        }
        // SAFETY: the range lies within a BAR that the firmware assigned, so it is the device's.
        let start = unsafe { H::mmio_phys_to_virt(base + u64::from(offset), length as usize) };
        Ok(Mapping {
            start,
            bytes: length as usize,
        })
    }
}

/// A part of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BarRange {
    bar: u8,
    offset: u32,
    length: u32,
}

/// A mapped part of a BAR.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    start: core::ptr::NonNull<u8>,
    bytes: usize,
}

/// Why a PCI function could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PciError {
    /// The firmware gave a needed BAR no address.
    BarUnassigned {
        /// The BAR.
        bar: u8,
    },
    /// A needed BAR is in port space.
    BarIsPorts {
        /// The BAR.
        bar: u8,
    },
    /// A capability points outside its BAR, or to none.
    BadRange {
        /// The BAR.
        bar: u8,
        /// Offset in it.
        offset: u32,
        /// Bytes from there.
        length: u32,
    },
    /// The virtio capability for common configuration (1) or notification (2) is missing.
    MissingCapability {
        /// The capability's `cfg_type` (virtio 1.2 §4.1.4).
        kind: u8,
    },
    /// The list of capabilities runs in a loop.
    EndlessCapabilities,
    /// virtio-drivers' transport refused the function.
    Virtio(VirtioPciError),
}

impl fmt::Display for PciError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BarUnassigned { bar } => {
                write!(
                    f,
                    "BAR {bar} has no address: the firmware did not assign it"
                )
            }
            Self::BarIsPorts { bar } => write!(f, "BAR {bar} is in port space, not memory"),
            Self::BadRange {
                bar,
                offset,
                length,
            } => write!(
                f,
                "capability names {length} bytes at {offset:#x} of BAR {bar}"
            ),
            Self::MissingCapability { kind } => {
                write!(f, "virtio capability {kind} is missing: legacy device?")
            }
            Self::EndlessCapabilities => f.write_str("capability list runs in a loop"),
            Self::Virtio(error) => error.fmt(f),
        }
    }
}
