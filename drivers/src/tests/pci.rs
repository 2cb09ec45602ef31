//! PCI functions made of heap memory and a table of configuration words.

use alloc::{boxed::Box, rc::Rc, vec::Vec};
use core::cell::RefCell;
use std::collections::BTreeMap;
use virtio_drivers::transport::{
    DeviceType, Transport,
    pci::bus::{ConfigurationAccess, DeviceFunction},
};

use crate::{
    fake::FakeHal,
    mmio::{MmioDevice, MmioVirtio},
    pci::{MsiMessage, Pci, PciError, PciVirtio, PortCam},
    port::Io,
    transport::{AnyTransport, DeviceTransport, Doorbell, InitError},
};

const NIC: DeviceFunction = DeviceFunction {
    bus: 0,
    device: 3,
    function: 0,
};
const BAR_BYTES: usize = 0x4000;

/// A BAR's memory, kept for the whole test run: mappings of BARs never end.
fn bar() -> *mut u8 {
    // A BAR is aligned to its size.
    #[repr(align(0x4000))]
    struct Page([u8; BAR_BYTES]);
    Box::leak(Box::new(Page([0; BAR_BYTES]))).0.as_mut_ptr()
}

fn peek<T: Copy>(bar: *mut u8, offset: usize) -> T {
    assert!(offset + size_of::<T>() <= BAR_BYTES);
    // SAFETY: inside the BAR and aligned, as the registers are.
    unsafe { bar.add(offset).cast::<T>().read_volatile() }
}

fn poke<T: Copy>(bar: *mut u8, offset: usize, value: T) {
    assert!(offset + size_of::<T>() <= BAR_BYTES);
    // SAFETY: as in `peek`.
    unsafe { bar.add(offset).cast::<T>().write_volatile(value) }
}

/// Configuration words by (bus, device, function, register); others read as absent.
#[derive(Debug, Clone, Default)]
struct Space(Rc<RefCell<Words>>);

type Words = BTreeMap<(u8, u8, u8, u8), u32>;

impl Space {
    fn set(&self, at: DeviceFunction, register: u8, value: u32) {
        let key = (at.bus, at.device, at.function, register);
        self.0.borrow_mut().insert(key, value);
    }

    fn get(&self, at: DeviceFunction, register: u8) -> u32 {
        let key = (at.bus, at.device, at.function, register);
        let absent = if register == 0 { u32::MAX } else { 0 };
        *self.0.borrow().get(&key).unwrap_or(&absent)
    }
}

impl ConfigurationAccess for Space {
    fn read_word(&self, at: DeviceFunction, register: u8) -> u32 {
        self.get(at, register)
    }

    fn write_word(&mut self, at: DeviceFunction, register: u8, data: u32) {
        // BAR 4 is 64 bits wide and `BAR_BYTES` long; its lower bits say so.
        // The status half of register 4 is not written by storing zeroes.
        let data = match register {
            0x04 => self.get(at, register) & 0xffff_0000 | data & 0xffff,
            0x20 => data & !(BAR_BYTES as u32 - 1) | 4,
            _ => data,
        };
        self.set(at, register, data);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        self.clone()
    }
}

/// A modern virtio NIC in `space`, as QEMU lays it out: BAR 4 holds common configuration, ISR,
/// device configuration, notification and, at 0x2000, the MSI-X table.
fn nic(space: &Space, bar: *mut u8) {
    let address = bar as u64;
    space.set(NIC, 0x00, 0x1041_1af4);
    space.set(NIC, 0x04, 0x0010_0000);
    space.set(NIC, 0x20, address as u32 | 4);
    space.set(NIC, 0x24, (address >> 32) as u32);
    space.set(NIC, 0x34, 0x40);
    for (at, next, kind, offset, length) in [
        (0x40u8, 0x54u32, 1u32, 0x0000u32, 0x40u32),
        (0x54, 0x68, 3, 0x1000, 0x10),
        (0x68, 0x7c, 4, 0x1100, 0x20),
        (0x7c, 0x94, 2, 0x3000, 0x20),
    ] {
        space.set(NIC, at, kind << 24 | 20 << 16 | next << 8 | 0x09);
        space.set(NIC, at + 4, 4);
        space.set(NIC, at + 8, offset);
        space.set(NIC, at + 12, length);
        space.set(NIC, at + 16, if kind == 2 { 4 } else { 0 });
    }
    // MSI-X with 3 entries.
    space.set(NIC, 0x94, 2 << 16 | 0x11);
    space.set(NIC, 0x98, 0x2000 | 4);
}

fn open(space: &Space) -> Result<PciVirtio, PciError> {
    PciVirtio::open::<FakeHal, _>(&mut Pci::new(space.clone()), NIC)
}

#[test]
fn a_function_is_found_opened_and_rung() {
    let space = Space::default();
    let bar = bar();
    nic(&space, bar);
    let pci = Pci::new(space.clone());
    assert_eq!(pci.virtio_functions(), [(NIC, DeviceType::Network)]);
    let mut device = open(&space).expect("opens");
    assert_eq!(device.address(), NIC);
    assert_eq!(device.device_type(), DeviceType::Network);
    // Memory and bus mastering on, INTx off since there is MSI-X.
    assert_eq!(space.get(NIC, 0x04) & 0xffff, 0x406);
    assert_eq!(space.get(NIC, 0x94) >> 30, 0b10, "MSI-X on, not masked");
    for entry in 0..3 {
        assert_eq!(
            peek::<u32>(bar, 0x2000 + 16 * entry + 12),
            1,
            "masked at first"
        );
    }

    // The device says that queue 1 rings at notify offset 3.
    poke::<u16>(bar, 30, 3);
    let bell = device.doorbell(1).expect("in the region");
    assert_eq!(peek::<u16>(bar, 22), 1, "queue selected");
    poke::<u16>(bar, 30, 0);
    poke::<u16>(bar, 0x3000 + 12, 0xffff);
    bell.ring();
    assert_eq!(peek::<u16>(bar, 0x3000 + 12), 1, "at the cached address");
    assert_eq!(peek::<u16>(bar, 0x3000), 0);
    poke::<u16>(bar, 30, 8);
    assert_eq!(
        device.doorbell(1).map(|_| ()),
        Err(InitError::BadDoorbell { queue: 1 })
    );
}

#[test]
fn msix_entries_are_programmed() {
    let space = Space::default();
    let bar = bar();
    nic(&space, bar);
    let mut device = open(&space).expect("opens");
    assert_eq!(device.msix_entries(), 3);
    let message = MsiMessage {
        address: 0x1_fee0_1000,
        data: 0x41,
    };
    assert!(device.set_msix(2, message));
    let entry: Vec<u32> = (0..4).map(|word| peek(bar, 0x2020 + 4 * word)).collect();
    assert_eq!(entry, [0xfee0_1000, 1, 0x41, 0]);
    assert!(!device.set_msix(3, message));

    assert!(device.set_queue_vector(1, 2));
    assert_eq!((peek::<u16>(bar, 22), peek::<u16>(bar, 26)), (1, 2));
    assert!(device.set_config_vector(0));
    assert_eq!(peek::<u16>(bar, 16), 0);
    assert!(!device.set_queue_vector(1, 3), "beyond the table");
}

#[test]
fn without_msix_the_line_stays_on() {
    let space = Space::default();
    nic(&space, bar());
    space.set(NIC, 0x7c, 2 << 24 | 20 << 16 | 0x09);
    let mut device = open(&space).expect("opens");
    assert_eq!(device.msix_entries(), 0);
    assert_eq!(space.get(NIC, 0x04) & 0xffff, 0x006);
    assert!(!device.set_queue_vector(0, 0));
}

#[test]
fn lying_functions_are_refused() {
    let broken = |change: &dyn Fn(&Space)| {
        let space = Space::default();
        nic(&space, bar());
        change(&space);
        open(&space).map(|_| ())
    };
    assert_eq!(broken(&|_| {}), Ok(()));
    let unassigned = broken(&|space| {
        space.set(NIC, 0x20, 4);
        space.set(NIC, 0x24, 0);
    });
    assert_eq!(unassigned, Err(PciError::BarUnassigned { bar: 4 }));
    assert_eq!(
        broken(&|space| space.set(NIC, 0x40 + 12, u32::MAX)),
        Err(PciError::BadRange {
            bar: 4,
            offset: 0,
            length: u32::MAX
        })
    );
    assert_eq!(
        broken(&|space| space.set(NIC, 0x7c + 8, u32::MAX - 3)),
        Err(PciError::BadRange {
            bar: 4,
            offset: u32::MAX - 3,
            length: 0x20
        })
    );
    assert_eq!(
        broken(&|space| space.set(NIC, 0x68 + 4, 200)),
        Err(PciError::BadRange {
            bar: 200,
            offset: 0x1100,
            length: 0x20
        })
    );
    assert_eq!(
        broken(&|space| space.set(NIC, 0x98, 0x3ff8 | 4)),
        Err(PciError::BadRange {
            bar: 4,
            offset: 0x3ff8,
            length: 48
        })
    );
    assert_eq!(
        broken(&|space| space.set(NIC, 0x34, 0x54)),
        Err(PciError::MissingCapability { kind: 1 })
    );
    // A list that bites its tail.
    assert_eq!(
        broken(&|space| space.set(NIC, 0x94, 0x40 << 8)),
        Err(PciError::EndlessCapabilities)
    );
}

#[test]
fn functions_behind_bridges_are_found() {
    let space = Space::default();
    let at = |bus, device| DeviceFunction {
        bus,
        device,
        function: 0,
    };
    let bridge = |bus, device, secondary: u32| {
        space.set(at(bus, device), 0, 0x000c_1b36);
        space.set(at(bus, device), 12, 1 << 16);
        space.set(at(bus, device), 0x18, secondary << 8 | u32::from(bus));
    };
    bridge(0, 2, 1);
    bridge(0, 4, 2);
    // One that claims the bus it stands on.
    bridge(1, 9, 0);
    space.set(at(1, 0), 0, 0x1042_1af4);
    space.set(at(2, 0), 0, 0x1001_1af4);
    space.set(at(2, 1), 0, 0x1000_8086);
    let pci = Pci::new(space.clone());
    assert_eq!(pci.functions().len(), 6);
    assert_eq!(
        pci.virtio_functions(),
        [(at(1, 0), DeviceType::Block), (at(2, 0), DeviceType::Block)]
    );
}

/// Ports of a machine whose only configuration register is one of 0:3.0.
#[derive(Debug, Clone, Default)]
struct Ports(Rc<RefCell<PortState>>);

#[derive(Debug, Default)]
struct PortState {
    address: u32,
    written: Vec<(u32, u32)>,
}

impl Io for Ports {
    fn in8(&mut self, _: u16) -> u8 {
        unreachable!("words only")
    }
    fn out8(&mut self, _: u16, _: u8) {
        unreachable!("words only")
    }
    fn in32(&mut self, port: u16) -> u32 {
        assert_eq!(port, 0xcfc);
        if self.0.borrow().address == 0x8000_1804 {
            0x0010_0007
        } else {
            u32::MAX
        }
    }
    fn out32(&mut self, port: u16, value: u32) {
        let mut state = self.0.borrow_mut();
        if port == 0xcf8 {
            state.address = value;
        } else {
            assert_eq!(port, 0xcfc);
            let address = state.address;
            state.written.push((address, value));
        }
    }
}

#[test]
fn configuration_goes_through_the_two_ports() {
    let ports = Ports::default();
    let mut cam = PortCam::new(ports.clone());
    assert_eq!(cam.read_word(NIC, 4), 0x0010_0007);
    let far = DeviceFunction {
        bus: 255,
        device: 31,
        function: 7,
    };
    cam.write_word(far, 0xfc, 9);
    assert_eq!(ports.0.borrow().written, [(0x80ff_fffc, 9)]);
    assert_eq!(Pci::new(PortCam::new(Ports::default())).functions(), []);
}

/// Registers of an MMIO device: magic, version, type.
fn mmio_registers(version: u32, kind: u32) -> *mut u8 {
    let registers = bar();
    for (at, value) in [(0, 0x7472_6976), (4, version), (8, kind)] {
        poke::<u32>(registers, at, value);
    }
    registers
}

#[test]
fn mmio_devices_are_opened_and_rung() {
    for version in [1, 2] {
        let registers = mmio_registers(version, 2);
        let device = MmioDevice {
            base: registers as u64,
            size: 512,
            irq: 12,
        };
        // SAFETY: the registers are memory of this test, which nobody else uses.
        let opened = unsafe { MmioVirtio::open::<FakeHal>(&device) }.expect("opens");
        assert_eq!(
            (opened.irq(), opened.requires_legacy_layout()),
            (12, version == 1)
        );
        let mut any = AnyTransport::Mmio(opened);
        assert_eq!(any.device_type(), DeviceType::Block);
        assert_eq!(any.requires_legacy_layout(), version == 1);
        poke::<u32>(registers, 0xfc, 77);
        assert_eq!(
            any.read_config_generation(),
            if version == 1 { 0 } else { 77 }
        );
        let bell = any.doorbell(1).expect("always there");
        bell.ring();
        assert_eq!(peek::<u32>(registers, 0x50), 1);
        poke::<u32>(registers, 0x60, 3);
        assert_eq!(any.ack_interrupt().bits(), 3);
        assert_eq!(peek::<u32>(registers, 0x64), 3);
        assert!(!any.set_queue_vector(0, 0) && !any.set_config_vector(0));
    }
    let empty = MmioDevice {
        base: mmio_registers(2, 0) as u64,
        size: 512,
        irq: 12,
    };
    // SAFETY: as above.
    assert!(unsafe { MmioVirtio::open::<FakeHal>(&empty) }.is_err());
}
