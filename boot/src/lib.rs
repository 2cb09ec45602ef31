#![no_std]
//! From the loader's jump to `kernel_main`.
//!
//! Two ways lead in. QEMU (`-kernel`), Firecracker and Cloud Hypervisor start the image through its PVH note; GRUB,
//! under BIOS and under UEFI, through its Multiboot2 header. [`entry!`] emits both. Either way the processor is in
//! 32-bit protected mode with paging off and a register holds the address of the loader's tables. The trampoline
//! reaches long mode with the low 4 GiB identity mapped, and [`start`] then turns what the loader left into one
//! [`bootloader_api::BootInfo`]:
//!
//! ```text
//! hvm_start_info --[start_info::parse]---+
//!                                        +--> Handover --[memory_map::build]--> MemoryRegions --> BootInfo
//! information ----[multiboot2::parse]----+
//! ```
//!
//! Everything that reads the loader's tables goes through [`loader::PhysicalMemory`], so host tests feed it
//! truncated and hostile tables. The kernel's memory functions live here too ([`mem_functions!`]), for the same
//! reason: they can be tested on the host.

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod cmdline;
mod entry;
mod info;
pub mod loader;
pub mod memops;
pub mod memory_map;
pub mod multiboot2;
pub mod start_info;

pub use bootloader_api::{
    BootInfo,
    info::{MemoryRegion, MemoryRegionKind},
};
pub use info::{BootError, Booted, Image, start};
