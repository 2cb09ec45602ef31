#![no_std]
//! From the loader's jump to `kernel_main`.
//!
//! QEMU, Firecracker and Cloud Hypervisor start the image through the PVH note that [`pvh_entry!`] emits: 32-bit
//! protected mode, paging off, the address of an `hvm_start_info` in EBX. The trampoline reaches long mode with
//! the low 4 GiB identity mapped, and [`start`] then turns what the loader left into one
//! [`bootloader_api::BootInfo`]:
//!
//! ```text
//! hvm_start_info --[start_info::parse]--> StartInfo --[memory_map::build]--> MemoryRegions --> BootInfo
//! ```
//!
//! Everything that reads the loader's tables goes through [`start_info::PhysicalMemory`], so host tests feed it
//! truncated and hostile tables. The kernel's memory functions live here too ([`mem_functions!`]), for the same
//! reason: they can be tested on the host.

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod cmdline;
mod entry;
mod info;
pub mod memops;
pub mod memory_map;
pub mod start_info;

pub use bootloader_api::{
    BootInfo,
    info::{MemoryRegion, MemoryRegionKind},
};
pub use info::{BootError, Booted, Image, start};
