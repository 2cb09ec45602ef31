//! Help for an emulator's own cache of address translations.

use boot::memory_map::PAGE_SIZE;

use super::paging::{self, Window};
use crate::arch::cpu;

/// Translations that QEMU's TCG has room for at first, one per page of 4 KiB whatever the page tables have: of 1 MiB.
const ENTRIES_FIRST: u64 = 256;
/// Not more are asked for: of 256 MiB. Each takes about 64 bytes of the host's memory.
const ENTRIES_MAX: u64 = 1 << 16;

/// Under QEMU's TCG, has it keep translations of about as many pages as there is memory; elsewhere does nothing.
///
/// Every access of the guest's goes through that table. Where it is too small, the first access to almost every page walks
/// the page tables in software, and a payload is accessed in half a dozen places on its way. TCG doubles the table only
/// when the guest flushes it with more than 70 % in use, and a kernel with one address space has no reason to; it
/// makes it smaller at a flush with little in use, such as those by QEMU when devices are mapped: call this after that.
pub fn enlarge_translation_cache() {
    if cpu::hypervisor_signature() != Some(*b"TCGTCGTCGTCG") {
        return;
    }
    let pages = super::stats().total_bytes / PAGE_SIZE;
    let Some(window) = Window::open() else { return };
    let mut entries = ENTRIES_FIRST;
    while entries < pages.min(ENTRIES_MAX) {
        window.read(entries);
        paging::flush();
        entries *= 2;
    }
}
