//! Segment descriptors and the interrupt stack table.
//!
//! Every vector runs on a stack of its own (IST). That is a matter of correctness here, not of taste: `core` and
//! `alloc` come from the host target and use the red zone, the 128 bytes below the stack pointer, which an
//! interrupt on the same stack would overwrite. See docs/decisions/0001-host-target-freestanding.md.

use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::mem::layout;

/// The stack a vector runs on: an index into the interrupt stack table.
///
/// Those that can interrupt one another have stacks of their own. Faults share one, because the second fault in a
/// row is fatal without further ado.
#[derive(Clone, Copy)]
#[repr(u16)]
pub enum Ist {
    /// Double fault: the stack of the first fault may be the problem.
    DoubleFault = 0,
    /// Non-maskable interrupt: may hit anywhere, even in a fault handler.
    Nmi = 1,
    /// Machine check: likewise.
    MachineCheck = 2,
    /// All other exceptions.
    Fault = 3,
    /// Device interrupts. They run with interrupts disabled, so one stack is enough.
    Device = 4,
}

/// Entries of the interrupt stack table in use. The linker script lays out as many stacks.
pub const IST_STACKS: usize = 5;

static TSS: Once<TaskStateSegment> = Once::new();
static GDT: Once<(GlobalDescriptorTable, [SegmentSelector; 3])> = Once::new();

/// Loads the segment descriptors and the task state segment.
pub fn init() {
    let tss = TSS.call_once(|| {
        let mut tss = TaskStateSegment::new();
        // The structure is packed, so its field cannot be borrowed.
        let mut stacks = tss.interrupt_stack_table;
        for (index, slot) in stacks.iter_mut().take(IST_STACKS).enumerate() {
            *slot = VirtAddr::new(layout::ist_stack(index).end);
        }
        tss.interrupt_stack_table = stacks;
        tss
    });
    let (gdt, [code, data, task]) = GDT.call_once(|| {
        let mut gdt = GlobalDescriptorTable::new();
        let selectors = [
            gdt.append(Descriptor::kernel_code_segment()),
            gdt.append(Descriptor::kernel_data_segment()),
            gdt.append(Descriptor::tss_segment(tss)),
        ];
        (gdt, selectors)
    });
    gdt.load();
    // SAFETY: the selectors are those of the table just loaded: flat 64-bit code and data, and the task state
    // segment, which lives for ever.
    unsafe {
        CS::set_reg(*code);
        SS::set_reg(*data);
        DS::set_reg(*data);
        ES::set_reg(*data);
        load_tss(*task);
    }
}
