//! The memory functions that compiled Rust calls: memcpy, memmove, memset, memcmp and bcmp.
//!
//! They are written in assembly for two reasons: a Rust loop that copies may be recognised by the compiler and
//! turned into a call to the very function it implements; and `rep movsb`, the short way, is slow under emulation.
//! All use unaligned accesses and the overlapping-ends technique, so no length has a byte-wise tail.
//!
//! Long copies go through general registers, eight bytes at a time. QEMU's TCG takes half the time for them that it takes
//! for 16-byte SSE accesses, of which it makes several smaller ones through memory; a processor is as fast either way
//! once the data are not in its first cache. Figures in docs/PERFORMANCE.md.

/// Defines the five functions under the given names, unmangled.
///
/// The kernel gives them their C names; tests give them others, so as not to replace the host's. `$copy` serves as
/// memcpy as well as memmove: the price is one compare for lengths above 64.
#[macro_export]
macro_rules! mem_functions {
    ($copy:ident, $move:ident, $set:ident, $cmp:ident, $bcmp:ident) => {
        /// `memcpy` of the C library; overlapping ranges are fine.
        ///
        /// # Safety
        /// `source` must be readable and `target` writable for `len` bytes.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $copy(target: *mut u8, source: *const u8, len: usize) -> *mut u8 {
            ::core::arch::naked_asm!(
                "mov rax, rdi",
                "cmp rdx, 16",
                "jb 20f",
                "cmp rdx, 32",
                "ja 10f",
                // 16 to 32: both ends, loaded before either is stored.
                "movdqu xmm0, [rsi]",
                "movdqu xmm1, [rsi + rdx - 16]",
                "movdqu [rdi], xmm0",
                "movdqu [rdi + rdx - 16], xmm1",
                "ret",
                "10:",
                "cmp rdx, 64",
                "ja 11f",
                "movdqu xmm0, [rsi]",
                "movdqu xmm1, [rsi + 16]",
                "movdqu xmm2, [rsi + rdx - 32]",
                "movdqu xmm3, [rsi + rdx - 16]",
                "movdqu [rdi], xmm0",
                "movdqu [rdi + 16], xmm1",
                "movdqu [rdi + rdx - 32], xmm2",
                "movdqu [rdi + rdx - 16], xmm3",
                "ret",
                // Above 64. Backwards when the target begins inside the source.
                "11:",
                "mov rcx, rdi",
                "sub rcx, rsi",
                "cmp rcx, rdx",
                "jb 15f",
                // Forwards: the first 16 and the last 64 bytes are loaded first and stored last, the loop in
                // between stores to aligned addresses. Each load comes before the stores to higher addresses, so a target
                // that begins before the source may overlap it.
                "movdqu xmm8, [rsi]",
                "movdqu xmm4, [rsi + rdx - 64]",
                "movdqu xmm5, [rsi + rdx - 48]",
                "movdqu xmm6, [rsi + rdx - 32]",
                "movdqu xmm7, [rsi + rdx - 16]",
                "lea r9, [rdi + rdx - 64]", // the loop ends here: the tail covers the rest
                "mov rcx, rdi",
                "neg rcx",
                "and rcx, 7", // bytes to the next aligned address
                "add rsi, rcx",
                "add rcx, rdi",
                "cmp rcx, r9",
                "jae 13f",
                ".p2align 4",
                "12:",
                "mov r8, [rsi]",
                "mov [rcx], r8",
                "mov r8, [rsi + 8]",
                "mov [rcx + 8], r8",
                "mov r8, [rsi + 16]",
                "mov [rcx + 16], r8",
                "mov r8, [rsi + 24]",
                "mov [rcx + 24], r8",
                "mov r8, [rsi + 32]",
                "mov [rcx + 32], r8",
                "mov r8, [rsi + 40]",
                "mov [rcx + 40], r8",
                "mov r8, [rsi + 48]",
                "mov [rcx + 48], r8",
                "mov r8, [rsi + 56]",
                "mov [rcx + 56], r8",
                "add rsi, 64",
                "add rcx, 64",
                "cmp rcx, r9",
                "jb 12b",
                "13:",
                "movdqu [rdi], xmm8",
                "movdqu [r9], xmm4",
                "movdqu [r9 + 16], xmm5",
                "movdqu [r9 + 32], xmm6",
                "movdqu [r9 + 48], xmm7",
                "ret",
                // Backwards: the first 64 bytes are loaded first and stored last.
                "15:",
                "movdqu xmm4, [rsi]",
                "movdqu xmm5, [rsi + 16]",
                "movdqu xmm6, [rsi + 32]",
                "movdqu xmm7, [rsi + 48]",
                ".p2align 4",
                "16:",
                "mov r8, [rsi + rdx - 8]",
                "mov [rdi + rdx - 8], r8",
                "mov r8, [rsi + rdx - 16]",
                "mov [rdi + rdx - 16], r8",
                "mov r8, [rsi + rdx - 24]",
                "mov [rdi + rdx - 24], r8",
                "mov r8, [rsi + rdx - 32]",
                "mov [rdi + rdx - 32], r8",
                "mov r8, [rsi + rdx - 40]",
                "mov [rdi + rdx - 40], r8",
                "mov r8, [rsi + rdx - 48]",
                "mov [rdi + rdx - 48], r8",
                "mov r8, [rsi + rdx - 56]",
                "mov [rdi + rdx - 56], r8",
                "mov r8, [rsi + rdx - 64]",
                "mov [rdi + rdx - 64], r8",
                "sub rdx, 64",
                "cmp rdx, 64",
                "ja 16b",
                "movdqu [rdi], xmm4",
                "movdqu [rdi + 16], xmm5",
                "movdqu [rdi + 32], xmm6",
                "movdqu [rdi + 48], xmm7",
                "ret",
                // Below 16.
                "20:",
                "cmp rdx, 8",
                "jb 21f",
                "mov rcx, [rsi]",
                "mov r8, [rsi + rdx - 8]",
                "mov [rdi], rcx",
                "mov [rdi + rdx - 8], r8",
                "ret",
                "21:",
                "cmp rdx, 4",
                "jb 22f",
                "mov ecx, [rsi]",
                "mov r8d, [rsi + rdx - 4]",
                "mov [rdi], ecx",
                "mov [rdi + rdx - 4], r8d",
                "ret",
                "22:",
                "test rdx, rdx",
                "je 23f",
                // 1 to 3: first, middle and last byte, which may coincide.
                "movzx ecx, byte ptr [rsi]",
                "movzx r8d, byte ptr [rsi + rdx - 1]",
                "mov r9, rdx",
                "shr r9",
                "movzx r10d, byte ptr [rsi + r9]",
                "mov [rdi], cl",
                "mov [rdi + r9], r10b",
                "mov [rdi + rdx - 1], r8b",
                "23:",
                "ret",
            )
        }

        /// `memmove` of the C library.
        ///
        /// # Safety
        /// `source` must be readable and `target` writable for `len` bytes.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $move(target: *mut u8, source: *const u8, len: usize) -> *mut u8 {
            ::core::arch::naked_asm!("jmp {copy}", copy = sym $copy)
        }

        /// `memset` of the C library.
        ///
        /// # Safety
        /// `target` must be writable for `len` bytes.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $set(target: *mut u8, value: i32, len: usize) -> *mut u8 {
            ::core::arch::naked_asm!(
                "mov rax, rdi",
                "movzx ecx, sil",
                "mov r8, 0x0101010101010101",
                "imul rcx, r8",
                "cmp rdx, 16",
                "jb 20f",
                "movq xmm0, rcx",
                "punpcklqdq xmm0, xmm0",
                "movdqu [rdi], xmm0",
                "movdqu [rdi + rdx - 16], xmm0",
                "cmp rdx, 32",
                "jbe 12f",
                "movdqu [rdi + 16], xmm0",
                "movdqu [rdi + rdx - 32], xmm0",
                "cmp rdx, 64",
                "jbe 12f",
                "lea r9, [rdi + rdx - 64]",
                "lea rcx, [rdi + 16]",
                "and rcx, -16",
                "cmp rcx, r9",
                "jae 13f",
                ".p2align 4",
                "11:",
                "movdqa [rcx], xmm0",
                "movdqa [rcx + 16], xmm0",
                "movdqa [rcx + 32], xmm0",
                "movdqa [rcx + 48], xmm0",
                "add rcx, 64",
                "cmp rcx, r9",
                "jb 11b",
                "13:",
                "movdqu [r9], xmm0",
                "movdqu [r9 + 16], xmm0",
                "12:",
                "ret",
                "20:",
                "cmp rdx, 8",
                "jb 21f",
                "mov [rdi], rcx",
                "mov [rdi + rdx - 8], rcx",
                "ret",
                "21:",
                "cmp rdx, 4",
                "jb 22f",
                "mov [rdi], ecx",
                "mov [rdi + rdx - 4], ecx",
                "ret",
                "22:",
                "test rdx, rdx",
                "je 23f",
                "mov r9, rdx",
                "shr r9",
                "mov [rdi], cl",
                "mov [rdi + r9], cl",
                "mov [rdi + rdx - 1], cl",
                "23:",
                "ret",
            )
        }

        /// `memcmp` of the C library.
        ///
        /// # Safety
        /// `left` and `right` must be readable for `len` bytes.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $cmp(left: *const u8, right: *const u8, len: usize) -> i32 {
            ::core::arch::naked_asm!(
                "xor ecx, ecx", // offset
                "cmp rdx, 16",
                "jb 20f",
                "lea r8, [rdx - 16]", // offset of the last whole block
                "10:",
                "movdqu xmm0, [rdi + rcx]",
                "movdqu xmm1, [rsi + rcx]",
                "pcmpeqb xmm0, xmm1",
                "pmovmskb eax, xmm0",
                "xor eax, 0xffff",
                "jnz 11f",
                "cmp rcx, r8",
                "je 12f",
                "add rcx, 16",
                "cmp rcx, r8",
                "jbe 10b",
                // The last block overlaps the one before; what they share is known to be equal.
                "mov rcx, r8",
                "jmp 10b",
                "11:",
                "bsf eax, eax",
                "add rcx, rax",
                "movzx eax, byte ptr [rdi + rcx]",
                "movzx edx, byte ptr [rsi + rcx]",
                "sub eax, edx",
                "ret",
                "12:",
                "xor eax, eax",
                "ret",
                "20:",
                "xor eax, eax",
                "21:",
                "cmp rcx, rdx",
                "je 22f",
                "movzx eax, byte ptr [rdi + rcx]",
                "movzx r8d, byte ptr [rsi + rcx]",
                "inc rcx",
                "sub eax, r8d",
                "je 21b",
                "22:",
                "ret",
            )
        }

        /// `bcmp` of the C library: zero exactly when the ranges are equal.
        ///
        /// # Safety
        /// `left` and `right` must be readable for `len` bytes.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
            ::core::arch::naked_asm!("jmp {cmp}", cmp = sym $cmp)
        }
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::vec::Vec;

    mem_functions!(
        palisade_memcpy,
        palisade_memmove,
        palisade_memset,
        palisade_memcmp,
        palisade_bcmp
    );

    const LEN: usize = 700;

    fn pattern() -> Vec<u8> {
        (0..LEN).map(|i| (i * 7 + i / 251) as u8).collect()
    }

    /// Every length up to well past the unrolled loop, at every distance that changes the path taken.
    #[test]
    fn moves_like_the_standard_library() {
        for len in 0..260 {
            for (from, to) in [
                (100, 100),
                (100, 101),
                (101, 100),
                (100, 115),
                (115, 100),
                (100, 163),
                (163, 100),
                (3, 400),
            ] {
                let mut expected = pattern();
                expected.copy_within(from..from + len, to);
                let mut actual = pattern();
                let base = actual.as_mut_ptr();
                // SAFETY: both ranges lie within the vector.
                let returned = unsafe { palisade_memmove(base.add(to), base.add(from), len) };
                assert_eq!(returned, base.wrapping_add(to));
                assert!(expected == actual, "len {len} from {from} to {to}");
            }
        }
    }

    #[test]
    fn sets_exactly_its_range() {
        for len in 0..260 {
            for at in 64..81 {
                let mut expected = pattern();
                expected[at..at + len].fill(0xa5);
                let mut actual = pattern();
                // SAFETY: the range lies within the vector. The value's upper bits are to be ignored.
                unsafe { palisade_memset(actual.as_mut_ptr().add(at), 0x1a5, len) };
                assert!(expected == actual, "len {len} at {at}");
            }
        }
    }

    #[test]
    fn compares_every_length_and_position() {
        for len in 0..100 {
            let left = pattern();
            // SAFETY: the ranges lie within the vectors.
            let cmp = |right: &[u8]| unsafe {
                palisade_memcmp(left.as_ptr().add(5), right.as_ptr().add(5), len)
            };
            assert_eq!(cmp(&left), 0);
            for at in 0..len {
                let mut right = left.clone();
                right[5 + at] ^= 0x80;
                // A later difference must not matter.
                right[5 + len - 1] = right[5 + len - 1].wrapping_add(u8::from(at != len - 1));
                let expected = left[5 + at].cmp(&right[5 + at]) as i32;
                assert_eq!(cmp(&right).signum(), expected, "len {len} at {at}");
                // SAFETY: as above.
                let differ =
                    unsafe { palisade_bcmp(left.as_ptr().add(5), right.as_ptr().add(5), len) };
                assert_ne!(differ, 0);
            }
        }
    }

    proptest! {
        #[test]
        fn copies_any_range(from in 0_usize..350, to in 0_usize..350, len in 0_usize..350) {
            let mut expected = pattern();
            expected.copy_within(from..from + len, to);
            let mut actual = pattern();
            let base = actual.as_mut_ptr();
            // SAFETY: both ranges lie within the vector.
            unsafe { palisade_memcpy(base.add(to), base.add(from), len) };
            prop_assert!(expected == actual);
        }
    }
}
