//! Where the linker script put things.

use core::ops::Range;

use boot::memory_map::PAGE_SIZE;

use super::paging::Access;
use crate::arch::segments::IST_STACKS;

const IST_STACK_SIZE: u64 = 16 << 10;

unsafe extern "C" {
    static __image_start: u8;
    static __rodata_start: u8;
    static __data_start: u8;
    static __data_end: u8;
    static __stack_bottom: u8;
    static __stack_top: u8;
    static __ist_start: u8;
    static __image_end: u8;
    static __crash_start: u8;
    static __crash_end: u8;
}

/// Address of a linker symbol.
macro_rules! address {
    ($symbol:ident) => {
        &raw const $symbol as u64
    };
}

/// The image as the boot code wants to know it.
pub fn image() -> boot::Image {
    boot::Image {
        extent: address!(__image_start)..address!(__image_end),
        stack: main_stack(),
        crash: address!(__crash_start)..address!(__crash_end),
    }
}

/// Addresses of code.
pub fn text() -> Range<u64> {
    address!(__image_start)..address!(__rodata_start)
}

/// The stack of everything but interrupts and exceptions.
pub fn main_stack() -> Range<u64> {
    address!(__stack_bottom)..address!(__stack_top)
}

/// The stack of interrupt stack table entry `index`. The page below it is not mapped.
pub fn ist_stack(index: usize) -> Range<u64> {
    let bottom = address!(__ist_start) + index as u64 * (PAGE_SIZE + IST_STACK_SIZE) + PAGE_SIZE;
    bottom..bottom + IST_STACK_SIZE
}

/// The parts of the image and what may be done to them; guard pages are left out.
pub fn sections() -> impl Iterator<Item = (Range<u64>, Access)> {
    let fixed = [
        (text(), Access::Code),
        (
            address!(__rodata_start)..address!(__data_start),
            Access::ReadOnly,
        ),
        (address!(__data_start)..address!(__data_end), Access::Ram),
        (main_stack(), Access::Ram),
    ];
    fixed
        .into_iter()
        .chain((0..IST_STACKS).map(|index| (ist_stack(index), Access::Ram)))
}

/// Whether `address` lies in the guard page of the main stack.
pub fn is_main_stack_guard(address: u64) -> bool {
    let bottom = address!(__stack_bottom);
    (bottom - PAGE_SIZE..bottom).contains(&address)
}
