//! Interrupt vectors for drivers.
//!
//! An interrupt sets one bit (see [`crate::arch::vectors`]); [`dispatch`], called by the executor's loop between
//! polls and before the processor halts, runs the handlers of the bits set. Handlers therefore run on the main
//! stack, with interrupts on, never inside other code: they may do anything a task may, but should only wake one.

use core::sync::atomic::Ordering;

use boot::acpi::Acpi;
use spin::Mutex;

use crate::arch::vectors::PENDING;
use crate::arch::{apic, ioapic};

/// A handler gets the word it was registered with.
pub type Handler = fn(usize);

/// Below are the exceptions and the vectors that the masked legacy controllers were moved to.
const FIRST: u8 = 0x30;
/// The timer's own vector, above all others.
pub const TIMER: u8 = 0xf0;

struct Vectors {
    handlers: [Option<(Handler, usize)>; 256],
    next: u8,
}

static VECTORS: Mutex<Vectors> = Mutex::new(Vectors {
    handlers: [None; 256],
    next: FIRST,
});

/// Enables the interrupt controllers. Interrupts stay disabled until the executor runs.
pub fn init(acpi: &Acpi) {
    apic::init();
    ioapic::init(
        acpi.ioapics
            .iter()
            .map(|ioapic| (ioapic.address, ioapic.first_gsi)),
    );
}

/// Reserves a vector for edge-triggered interrupts and messages (MSI, MSI-X). `None` when all are taken.
pub fn allocate_vector(handler: Handler, data: usize) -> Option<u8> {
    let mut vectors = VECTORS.lock();
    let vector = vectors.next;
    if vector >= TIMER {
        return None;
    }
    vectors.next += 1;
    vectors.handlers[usize::from(vector)] = Some((handler, data));
    Some(vector)
}

/// The address and data that a device writes to raise `vector` on this processor (Intel SDM 3A, 11.11).
pub fn msi_message(vector: u8) -> (u64, u32) {
    (
        0xfee0_0000 | u64::from(apic::id() & 0xff) << 12,
        u32::from(vector),
    )
}

/// No IO-APIC has the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NoSuchInput(pub u32);

/// Connects the interrupt line `gsi` to `vector` and unmasks it, edge-triggered and active high: so are ISA
/// interrupts (COM1 is 4) and virtio-mmio on microvm. Level-triggered lines (PCI INTx) are not supported, since the
/// stub acknowledges before the device has been asked to withdraw its interrupt.
///
/// A device that holds its line until it is served, as virtio-mmio does, must be served until its interrupt status
/// reads zero: only then does the next event make an edge.
///
/// # Errors
/// [`NoSuchInput`].
pub fn route_ioapic(gsi: u32, vector: u8) -> Result<(), NoSuchInput> {
    if ioapic::route(gsi, vector, apic::id()) {
        Ok(())
    } else {
        Err(NoSuchInput(gsi))
    }
}

/// Registers the handler of the timer's vector.
pub fn claim_timer(handler: Handler) {
    VECTORS.lock().handlers[usize::from(TIMER)] = Some((handler, 0));
}

/// Whether [`dispatch`] has anything to do.
pub fn is_pending() -> bool {
    PENDING.iter().any(|word| word.load(Ordering::Relaxed) != 0)
}

/// Runs the handlers of all interrupts since the last call.
pub fn dispatch() {
    for (index, word) in PENDING.iter().enumerate() {
        if word.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let mut bits = word.swap(0, Ordering::Acquire);
        while bits != 0 {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            let handler = VECTORS.lock().handlers[index * 64 + bit as usize];
            if let Some((handler, data)) = handler {
                handler(data);
            }
        }
    }
}
