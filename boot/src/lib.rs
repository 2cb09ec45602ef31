#![no_std]
//! PVH and Multiboot2 entry, BootInfo construction.
