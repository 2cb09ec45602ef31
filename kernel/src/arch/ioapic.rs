//! IO-APICs: the way from interrupt lines (UART, virtio-mmio) to vectors.

use heapless::Vec;
use spin::Mutex;

use crate::mem;

/// Where the first IO-APIC is on every PC when no firmware table says otherwise.
const DEFAULT_ADDRESS: u64 = 0xfec0_0000;
/// IO-APICs that are remembered; QEMU has at most two.
pub const IOAPICS_MAX: usize = 4;

const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const VERSION: u32 = 1;
const REDIRECTION: u32 = 0x10;
const MASKED: u32 = 1 << 16;

#[derive(Clone, Copy)]
struct IoApic {
    base: u64,
    first_gsi: u32,
    inputs: u32,
}

static IOAPICS: Mutex<Vec<IoApic, IOAPICS_MAX>> = Mutex::new(Vec::new());

impl IoApic {
    fn read(&self, register: u32) -> u32 {
        // SAFETY: `init` mapped the registers; the select-then-window sequence is not interrupted by another, since
        // only one processor runs and interrupt stubs leave IO-APICs alone.
        unsafe {
            ((self.base + SELECT) as *mut u32).write_volatile(register);
            ((self.base + WINDOW) as *const u32).read_volatile()
        }
    }

    fn write(&self, register: u32, value: u32) {
        // SAFETY: as in `read`.
        unsafe {
            ((self.base + SELECT) as *mut u32).write_volatile(register);
            ((self.base + WINDOW) as *mut u32).write_volatile(value);
        }
    }
}

/// Finds the IO-APICs and masks all their inputs. `listed` holds (address, first GSI) from the firmware tables.
pub fn init(listed: impl Iterator<Item = (u64, u32)>) {
    let mut found = IOAPICS.lock();
    let mut add = |base, first_gsi| {
        if mem::map_mmio(base, 4096).is_none() {
            log::warn!("IO-APIC at {base:#x} cannot be mapped");
            return;
        }
        let mut ioapic = IoApic {
            base,
            first_gsi,
            inputs: 0,
        };
        let version = ioapic.read(VERSION);
        if version == u32::MAX || version == 0 {
            log::warn!("no IO-APIC answers at {base:#x}");
            return;
        }
        ioapic.inputs = ((version >> 16) & 0xff) + 1;
        for input in 0..ioapic.inputs {
            ioapic.write(REDIRECTION + 2 * input, MASKED);
        }
        if found.push(ioapic).is_err() {
            log::warn!("more than {IOAPICS_MAX} IO-APICs; the one at {base:#x} is not used");
        }
    };
    let mut any = false;
    for (base, first_gsi) in listed {
        any = true;
        add(base, first_gsi);
    }
    if !any {
        add(DEFAULT_ADDRESS, 0);
    }
}

/// Routes global system interrupt `gsi` to `vector` on the processor with APIC identifier `apic_id`, edge-triggered,
/// active high, unmasked.
///
/// Returns `false` if no IO-APIC has that input.
pub fn route(gsi: u32, vector: u8, apic_id: u32) -> bool {
    let found = IOAPICS.lock();
    let owner = found.iter().find(|ioapic| {
        (ioapic.first_gsi..ioapic.first_gsi.saturating_add(ioapic.inputs)).contains(&gsi)
    });
    let Some(ioapic) = owner else { return false };
    let input = gsi - ioapic.first_gsi;
    ioapic.write(REDIRECTION + 2 * input, MASKED);
    ioapic.write(REDIRECTION + 2 * input + 1, (apic_id & 0xff) << 24);
    ioapic.write(REDIRECTION + 2 * input, u32::from(vector));
    true
}
