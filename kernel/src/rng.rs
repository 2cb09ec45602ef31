//! Seeds: for TCP sequence numbers, port numbers, generation identifiers.

use core::arch::x86_64::{_rdrand64_step, _rdseed64_step};
use core::sync::atomic::{AtomicU64, Ordering};

use crate::arch::cpu;

/// State that every seed is mixed into, so that no two are equal even on hardware without a generator.
static POOL: AtomicU64 = AtomicU64::new(0);

/// Stirs in the timing of the boot.
pub fn init() {
    POOL.store(jitter(), Ordering::Relaxed);
}

/// 64 bits that an outsider cannot predict where the processor has RDSEED or RDRAND; elsewhere they rest on timing
/// alone and are merely unlikely to repeat.
pub fn seed64() -> u64 {
    let hardware = hardware().unwrap_or_else(jitter);
    let mixed = mix(POOL.load(Ordering::Relaxed) ^ hardware ^ cpu::tsc().rotate_left(32));
    POOL.store(mixed, Ordering::Relaxed);
    mix(mixed ^ hardware)
}

/// Tries the instructions may fail before they are taken for broken (Intel's guide suggests 10 for RDRAND).
const RETRIES: u32 = 10;

#[target_feature(enable = "rdseed")]
fn rdseed() -> Option<u64> {
    let mut value = 0;
    (0..RETRIES)
        .any(|_| _rdseed64_step(&mut value) == 1)
        .then_some(value)
}

#[target_feature(enable = "rdrand")]
fn rdrand() -> Option<u64> {
    let mut value = 0;
    (0..RETRIES)
        .any(|_| _rdrand64_step(&mut value) == 1)
        .then_some(value)
}

fn hardware() -> Option<u64> {
    let has_rdseed = cpu::cpuid(7).ebx & (1 << 18) != 0;
    if has_rdseed {
        // SAFETY: the processor has the instruction.
        let seed = unsafe { rdseed() };
        if seed.is_some() {
            return seed;
        }
    }
    let has_rdrand = cpu::cpuid(1).ecx & (1 << 30) != 0;
    if has_rdrand {
        // SAFETY: the processor has the instruction.
        return unsafe { rdrand() };
    }
    None
}

/// The finaliser of splitmix64: every input bit reaches every output bit.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Collects the low bits of how long a few serialising instructions take.
fn jitter() -> u64 {
    let mut pool = cpu::tsc();
    for _ in 0..64 {
        let before = cpu::tsc();
        let _ = cpu::cpuid(0);
        pool = mix(pool.rotate_left(7) ^ cpu::tsc().wrapping_sub(before));
    }
    pool
}
