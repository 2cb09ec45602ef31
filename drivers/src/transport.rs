//! What the drivers need of a transport beyond virtio-drivers' [`Transport`]: cached doorbells,
//! interrupt vectors and a checked initialisation.

use core::{fmt, ptr::NonNull};
use virtio_drivers::{
    PAGE_SIZE,
    transport::{DeviceStatus, DeviceType, Transport},
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{mmio::MmioVirtio, pci::PciVirtio};

/// Reads of the status register before a reset that does not finish is given up.
const RESET_POLLS: u32 = 1_000_000;
/// Repetitions of a configuration read whose generation keeps changing.
const CONFIG_RETRIES: u32 = 64;

/// `VIRTIO_F_ANY_LAYOUT`: a legacy device that does not mind how a message is cut into buffers.
pub(crate) const F_ANY_LAYOUT: u64 = 1 << 27;
/// `VIRTIO_F_INDIRECT_DESC`: descriptor tables of their own for a request.
pub(crate) const F_INDIRECT_DESC: u64 = 1 << 28;
/// `VIRTIO_F_EVENT_IDX`: notifications by index.
pub(crate) const F_EVENT_IDX: u64 = 1 << 29;
/// `VIRTIO_F_VERSION_1`: not a legacy device.
pub(crate) const F_VERSION_1: u64 = 1 << 32;

/// Tells a device that a queue has new buffers.
pub trait Doorbell {
    /// Rings it once.
    fn ring(&self);
}

/// A transport as these drivers use it.
pub trait DeviceTransport: Transport {
    /// The doorbells it makes.
    type Bell: Doorbell;

    /// The doorbell of a queue that has been set up, its address computed once.
    fn doorbell(&mut self, queue: u16) -> Result<Self::Bell, InitError>;

    /// Has a queue's interrupts delivered through this MSI-X table entry. `false`: the device
    /// refused, or the transport has no MSI-X.
    fn set_queue_vector(&mut self, queue: u16, vector: u16) -> bool;

    /// Has configuration changes delivered through this MSI-X table entry; answers as
    /// [`DeviceTransport::set_queue_vector`].
    fn set_config_vector(&mut self, vector: u16) -> bool;
}

/// A doorbell register: 16 bits wide on PCI (virtio 1.2 §4.1.4.4), 32 on MMIO (§4.2.2).
#[derive(Debug)]
pub struct MmioDoorbell {
    register: NonNull<u8>,
    queue: u16,
    wide: bool,
}

// SAFETY: the register may be written from anywhere; a write carries its whole meaning.
unsafe impl Send for MmioDoorbell {}

impl MmioDoorbell {
    /// A doorbell for `queue` at `register`, 32 bits if `wide` and 16 if not.
    ///
    /// # Safety
    /// `register` must be a mapped notification register, aligned to its width, for as long as
    /// the doorbell lives.
    pub(crate) const unsafe fn new(register: NonNull<u8>, queue: u16, wide: bool) -> Self {
        Self {
            register,
            queue,
            wide,
        }
    }
}

impl Doorbell for MmioDoorbell {
    fn ring(&self) {
        if self.wide {
            // SAFETY: `new`'s caller promised a mapped, aligned 32-bit register.
            unsafe {
                self.register
                    .cast::<u32>()
                    .write_volatile(u32::from(self.queue));
            }
        } else {
            // SAFETY: `new`'s caller promised a mapped, aligned 16-bit register.
            unsafe { self.register.cast::<u16>().write_volatile(self.queue) }
        }
    }
}

/// Why a device could not be brought up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitError {
    /// The transport is for another kind of device.
    WrongDeviceType(DeviceType),
    /// The device did not finish its reset.
    ResetTimeout,
    /// The device did not accept the features chosen from its own offer.
    FeaturesRefused {
        /// The chosen feature bits.
        chosen: u64,
    },
    /// The device has no such queue.
    QueueMissing {
        /// The queue's index.
        queue: u16,
    },
    /// The queue is in use although the device was reset.
    QueueInUse {
        /// The queue's index.
        queue: u16,
    },
    /// The device took no MSI-X vector for a queue, or for configuration changes (no queue).
    VectorRefused {
        /// The queue's index.
        queue: Option<u16>,
    },
    /// The queue's notification address lies outside the notification region.
    BadDoorbell {
        /// The queue's index.
        queue: u16,
    },
    /// No DMA memory.
    OutOfMemory {
        /// Bytes that were asked for.
        bytes: usize,
    },
    /// The configuration space misses a field, or does not hold still.
    Config(ConfigError),
}

/// Why the device's configuration space could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigError {
    /// The field at this byte offset is not there.
    Missing {
        /// Offset in the device-specific configuration.
        offset: usize,
    },
    /// The configuration changed during every attempt to read it.
    Unstable,
    /// A field has a value that makes no sense.
    Invalid {
        /// Offset in the device-specific configuration.
        offset: usize,
        /// The value.
        value: u64,
    },
}

impl From<ConfigError> for InitError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { offset } => write!(f, "no configuration field at offset {offset}"),
            Self::Unstable => f.write_str("the configuration does not hold still"),
            Self::Invalid { offset, value } => {
                write!(f, "configuration field at offset {offset} is {value}")
            }
        }
    }
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongDeviceType(kind) => write!(f, "device is of another type: {kind:?}"),
            Self::ResetTimeout => f.write_str("device does not finish its reset"),
            Self::FeaturesRefused { chosen } => {
                write!(f, "device refuses features {chosen:#x} of its own offer")
            }
            Self::QueueMissing { queue } => write!(f, "device has no queue {queue}"),
            Self::QueueInUse { queue } => write!(f, "queue {queue} is in use after a reset"),
            Self::VectorRefused { queue: Some(queue) } => {
                write!(f, "no MSI-X vector accepted for queue {queue}")
            }
            Self::VectorRefused { queue: None } => {
                f.write_str("no MSI-X vector accepted for configuration changes")
            }
            Self::BadDoorbell { queue } => {
                write!(
                    f,
                    "doorbell of queue {queue} is outside the device's region"
                )
            }
            Self::OutOfMemory { bytes } => write!(f, "no {bytes} bytes of DMA memory"),
            Self::Config(error) => error.fmt(f),
        }
    }
}

/// Resets the device and agrees on features: those of `wanted` that it offers, after `choose`
/// had its say (virtio 1.2 §3.1.1, steps 1 to 6). Returns the agreed bits.
pub(crate) fn negotiate<T: Transport>(
    transport: &mut T,
    choose: impl FnOnce(&T, u64) -> Result<u64, InitError>,
) -> Result<u64, InitError> {
    reset(transport)?;
    let known = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
    transport.set_status(DeviceStatus::ACKNOWLEDGE);
    transport.set_status(known);
    let offered = transport.read_device_features();
    let chosen = choose(transport, offered)? & offered;
    transport.write_driver_features(chosen);
    transport.set_status(known | DeviceStatus::FEATURES_OK);
    // Legacy devices do not know the bit and need not keep it (§3.1.2).
    if chosen & F_VERSION_1 != 0 && !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
        transport.set_status(DeviceStatus::FAILED);
        return Err(InitError::FeaturesRefused { chosen });
    }
    transport.set_guest_page_size(PAGE_SIZE as u32);
    Ok(chosen)
}

/// Lets the device run (§3.1.1, step 8).
pub(crate) fn start<T: Transport>(transport: &mut T) {
    transport.finish_init();
}

/// Resets the device, and waits for it, within a bound.
pub(crate) fn reset<T: Transport>(transport: &mut T) -> Result<(), InitError> {
    transport.set_status(DeviceStatus::empty());
    for _ in 0..RESET_POLLS {
        if transport.get_status().is_empty() {
            return Ok(());
        }
        core::hint::spin_loop();
    }
    Err(InitError::ResetTimeout)
}

/// Whether the device says that only a reset helps (§2.1.2).
pub(crate) fn needs_reset<T: Transport>(transport: &T) -> bool {
    transport
        .get_status()
        .contains(DeviceStatus::DEVICE_NEEDS_RESET)
}

/// Reads several fields as one: again while the generation changes (§2.5.1), within a bound.
pub(crate) fn read_consistent<T: Transport, R>(
    transport: &T,
    read: impl Fn(&T) -> Result<R, ConfigError>,
) -> Result<R, ConfigError> {
    for _ in 0..CONFIG_RETRIES {
        let before = transport.read_config_generation();
        let value = read(transport)?;
        if transport.read_config_generation() == before {
            return Ok(value);
        }
    }
    Err(ConfigError::Unstable)
}

/// One field of the configuration space.
pub(crate) fn config<T: Transport, V: FromBytes + IntoBytes>(
    transport: &T,
    offset: usize,
) -> Result<V, ConfigError> {
    transport
        .read_config_space(offset)
        .map_err(|_| ConfigError::Missing { offset })
}

/// Either transport, so that the kernel has one type for its disks and one for its NICs.
#[derive(Debug)]
pub enum AnyTransport {
    /// virtio over PCI.
    Pci(PciVirtio),
    /// virtio over MMIO.
    Mmio(MmioVirtio),
}

/// The methods of [`Transport`] that a wrapper passes on: `$inner!(self, call)` is the call on
/// what it wraps. The two in which wrappers differ, `notify` and `read_config_generation`, are
/// left to them.
macro_rules! forward_transport {
    ($inner:ident) => {
        fn device_type(&self) -> virtio_drivers::transport::DeviceType {
            $inner!(self, device_type())
        }
        fn read_device_features(&mut self) -> u64 {
            $inner!(self, read_device_features())
        }
        fn write_driver_features(&mut self, driver_features: u64) {
            $inner!(self, write_driver_features(driver_features));
        }
        fn max_queue_size(&mut self, queue: u16) -> u32 {
            $inner!(self, max_queue_size(queue))
        }
        fn get_status(&self) -> virtio_drivers::transport::DeviceStatus {
            $inner!(self, get_status())
        }
        fn set_status(&mut self, status: virtio_drivers::transport::DeviceStatus) {
            $inner!(self, set_status(status));
        }
        fn set_guest_page_size(&mut self, guest_page_size: u32) {
            $inner!(self, set_guest_page_size(guest_page_size));
        }
        fn requires_legacy_layout(&self) -> bool {
            $inner!(self, requires_legacy_layout())
        }
        fn queue_set(
            &mut self,
            queue: u16,
            size: u32,
            descriptors: virtio_drivers::PhysAddr,
            driver_area: virtio_drivers::PhysAddr,
            device_area: virtio_drivers::PhysAddr,
        ) {
            $inner!(
                self,
                queue_set(queue, size, descriptors, driver_area, device_area)
            );
        }
        fn queue_unset(&mut self, queue: u16) {
            $inner!(self, queue_unset(queue));
        }
        fn queue_used(&mut self, queue: u16) -> bool {
            $inner!(self, queue_used(queue))
        }
        fn ack_interrupt(&mut self) -> virtio_drivers::transport::InterruptStatus {
            $inner!(self, ack_interrupt())
        }
        fn read_config_space<V: zerocopy::FromBytes + zerocopy::IntoBytes>(
            &self,
            offset: usize,
        ) -> Result<V, virtio_drivers::Error> {
            $inner!(self, read_config_space(offset))
        }
        fn write_config_space<V: zerocopy::IntoBytes + zerocopy::Immutable>(
            &mut self,
            offset: usize,
            value: V,
        ) -> Result<(), virtio_drivers::Error> {
            $inner!(self, write_config_space(offset, value))
        }
    };
}
/// [`forward_transport`]'s `$inner` for a struct with a field `transport`.
macro_rules! wrapped {
    ($self:ident, $($call:tt)*) => {
        $self.transport.$($call)*
    };
}
pub(crate) use {forward_transport, wrapped};

macro_rules! either {
    ($self:ident, $($call:tt)*) => {
        match $self {
            AnyTransport::Pci(inner) => inner.$($call)*,
            AnyTransport::Mmio(inner) => inner.$($call)*,
        }
    };
}

impl Transport for AnyTransport {
    forward_transport!(either);

    fn notify(&mut self, queue: u16) {
        either!(self, notify(queue));
    }
    fn read_config_generation(&self) -> u32 {
        either!(self, read_config_generation())
    }
}

impl DeviceTransport for AnyTransport {
    type Bell = MmioDoorbell;

    fn doorbell(&mut self, queue: u16) -> Result<MmioDoorbell, InitError> {
        either!(self, doorbell(queue))
    }
    fn set_queue_vector(&mut self, queue: u16, vector: u16) -> bool {
        either!(self, set_queue_vector(queue, vector))
    }
    fn set_config_vector(&mut self, vector: u16) -> bool {
        either!(self, set_config_vector(vector))
    }
}
