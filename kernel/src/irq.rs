//! Interrupt vectors for drivers.
//!
//! An interrupt sets one bit (see [`crate::arch::vectors`]); [`dispatch`], called by the executor's loop between
//! polls and before the processor halts, runs the handlers of the bits set. Handlers therefore run on the main
//! stack, with interrupts on, never inside other code: they may do anything a task may, but should only wake one.

use core::sync::atomic::Ordering;

use boot::acpi::Acpi;
use spin::Mutex;

use crate::arch::vectors::{LEVEL, PENDING};
use crate::arch::{apic, ioapic};

pub use crate::arch::ioapic::Line;

/// A handler gets the word it was registered with.
pub type Handler = fn(usize);

/// Level-triggered vectors stay in service until their handlers ran, which holds back vectors of equal or lower
/// priority (the upper four bits). So they have the lowest class to themselves.
const LEVEL_FIRST: u8 = 0x30;
const EDGE_FIRST: u8 = 0x40;
/// The timer's own vector, above all others.
pub const TIMER: u8 = 0xf0;

struct Vectors {
    handlers: [Option<(Handler, usize)>; 256],
    next_level: u8,
    next_edge: u8,
}

static VECTORS: Mutex<Vectors> = Mutex::new(Vectors {
    handlers: [None; 256],
    next_level: LEVEL_FIRST,
    next_edge: EDGE_FIRST,
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
    let vector = vectors.next_edge;
    if vector >= TIMER {
        return None;
    }
    vectors.next_edge += 1;
    vectors.handlers[usize::from(vector)] = Some((handler, data));
    Some(vector)
}

/// Reserves a vector for a level-triggered line. The handler must make the device withdraw its interrupt.
/// `None` when all are taken.
pub fn allocate_level_vector(handler: Handler, data: usize) -> Option<u8> {
    let mut vectors = VECTORS.lock();
    let vector = vectors.next_level;
    if vector >= EDGE_FIRST {
        return None;
    }
    vectors.next_level += 1;
    vectors.handlers[usize::from(vector)] = Some((handler, data));
    LEVEL[usize::from(vector / 64)].fetch_or(1 << (vector % 64), Ordering::Relaxed);
    Some(vector)
}

/// The address and data that a device writes to raise `vector` on this processor (Intel SDM 3A, 11.11).
pub fn msi_message(vector: u8) -> (u64, u32) {
    (
        0xfee0_0000 | u64::from(apic::id() & 0xff) << 12,
        u32::from(vector),
    )
}

/// Why a line cannot be routed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RouteError {
    /// No IO-APIC has this input.
    NoSuchInput(u32),
    /// A level-triggered line on a vector of [`allocate_vector`], or the reverse.
    WrongTrigger,
}

/// Connects the interrupt line `gsi` to `vector` and unmasks it. ISA interrupts (COM1 is 4) and virtio-mmio on
/// microvm are edge-triggered and active high.
///
/// # Errors
/// See [`RouteError`].
pub fn route_ioapic(gsi: u32, vector: u8, line: Line) -> Result<(), RouteError> {
    let is_level =
        LEVEL[usize::from(vector / 64)].load(Ordering::Relaxed) >> (vector % 64) & 1 == 1;
    if is_level != line.level {
        return Err(RouteError::WrongTrigger);
    }
    if ioapic::route(gsi, vector, line, apic::id()) {
        Ok(())
    } else {
        Err(RouteError::NoSuchInput(gsi))
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
        let level = LEVEL[index].load(Ordering::Relaxed);
        while bits != 0 {
            let bit = bits.trailing_zeros();
            bits &= bits - 1;
            let handler = VECTORS.lock().handlers[index * 64 + bit as usize];
            if let Some((handler, data)) = handler {
                handler(data);
            }
            if level >> bit & 1 == 1 {
                apic::end_of_interrupt();
            }
        }
    }
}
