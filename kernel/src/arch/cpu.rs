//! Processor identification and counters.

use core::arch::x86_64::{__cpuid, __cpuid_count, _rdtsc, CpuidResult};

/// CPUID leaf `leaf`, or zeros where the processor has no such leaf.
pub fn cpuid(leaf: u32) -> CpuidResult {
    const ZERO: CpuidResult = CpuidResult {
        eax: 0,
        ebx: 0,
        ecx: 0,
        edx: 0,
    };
    // The highest leaf of the block is reported by the block's first leaf. Hypervisors that have no block at
    // 0x4000_0000 answer with something that does not reach the leaf.
    let block = leaf & 0xffff_0000;
    let highest = __cpuid(block).eax;
    let present = if block == 0 {
        leaf <= highest
    } else {
        (block..=highest).contains(&leaf)
    };
    if present {
        __cpuid_count(leaf, 0)
    } else {
        ZERO
    }
}

/// Whether the processor says that it runs under a hypervisor.
pub fn has_hypervisor() -> bool {
    cpuid(1).ecx & (1 << 31) != 0
}

/// The hypervisor's signature (CPUID leaf 0x4000_0000), for example `KVMKVMKVM` or `TCGTCGTCGTCG`.
pub fn hypervisor_signature() -> Option<[u8; 12]> {
    if !has_hypervisor() {
        return None;
    }
    let leaf = __cpuid(0x4000_0000);
    let mut signature = [0; 12];
    for (bytes, word) in signature
        .chunks_exact_mut(4)
        .zip([leaf.ebx, leaf.ecx, leaf.edx])
    {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Some(signature)
}

/// Whether the processor has 1 GiB pages.
pub fn has_gigabyte_pages() -> bool {
    cpuid(0x8000_0001).edx & (1 << 26) != 0
}

/// Whether pages can be marked non-executable.
pub fn has_no_execute() -> bool {
    cpuid(0x8000_0001).edx & (1 << 20) != 0
}

/// The time-stamp counter.
pub fn tsc() -> u64 {
    // SAFETY: every x86-64 processor has the counter and nothing here disables it.
    unsafe { _rdtsc() }
}
