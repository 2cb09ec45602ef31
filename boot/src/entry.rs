//! The 32-bit trampoline, and what makes loaders find it.

/// Emits the PVH note, the Multiboot2 header and the entry trampoline, and calls `$start(tables, magic)` in long mode.
///
/// `$start` is an `extern "C" fn(u64, u32) -> !`. It gets the address of the loader's tables and 0 for a PVH loader, or
/// what a Multiboot2 loader left in EAX. When it runs: interrupts are off, SSE is on, the first 4 GiB are identity
/// mapped (2 MiB pages, writable, executable), the stack is the linker script's.
///
/// The linker script must
/// - provide `__stack_top` and place `.boot.text` below 4 GiB;
/// - keep `.note.pvh` in a `PT_NOTE` segment;
/// - keep `.multiboot2` at the start of the image and provide `__image_start`, `__load_end` (the end of what the file
///   holds) and `__image_end` (the end of everything, stacks included). A Multiboot2 loader goes by these and not by
///   the ELF headers, which say nothing of the stacks: so it puts none of its tables or modules where the stacks will
///   be. For that the file must hold the image from `__image_start` to `__load_end` as it lies in memory.
///
/// The trampoline refuses, with a message on COM1 and QEMU exit code 69 (isa-debug-exit at 0xf4), a processor without
/// long mode or x86-64-v2: the Rust code it would call is compiled for that level.
#[macro_export]
macro_rules! entry {
    ($start:ident) => {
        ::core::arch::global_asm!(
            // ELF note: owner "Xen", type 18 (XEN_ELFNOTE_PHYS32_ENTRY), descriptor: the entry's physical address.
            ".pushsection .note.pvh, \"a\", @note",
            ".balign 4",
            ".long 4",
            ".long 8",
            ".long 18",
            ".asciz \"Xen\"",
            ".quad pvh_start32",
            ".popsection",
            // Multiboot2 Specification 2.0, section 3.1: magic, architecture i386, length, checksum, tags.
            ".pushsection .multiboot2, \"a\", @progbits",
            ".balign 8",
            "multiboot2_header:",
            ".long 0xe85250d6",
            ".long 0",
            ".long multiboot2_header_end - multiboot2_header",
            ".long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))",
            // Wanted: memory map; if there are any: command line, modules, both ACPI root pointers.
            ".balign 8",
            ".short 1, 0",
            ".long 12",
            ".long 6",
            ".balign 8",
            ".short 1, 1",
            ".long 24",
            ".long 1, 3, 14, 15",
            // Addresses: header, start, end of what is loaded, end of what is cleared.
            ".balign 8",
            ".short 2, 0",
            ".long 24",
            ".long multiboot2_header",
            ".long __image_start",
            ".long __load_end",
            ".long __image_end",
            // The entry.
            ".balign 8",
            ".short 3, 0",
            ".long 12",
            ".long multiboot2_start32",
            // Modules on page boundaries: a page is mapped read-only or not at all.
            ".balign 8",
            ".short 6, 0",
            ".long 8",
            ".balign 8",
            ".short 0, 0",
            ".long 8",
            "multiboot2_header_end:",
            ".popsection",
            ".pushsection .boot.text, \"ax\", @progbits",
            ".code32",
            ".global multiboot2_start32",
            "multiboot2_start32:",
            "mov esi, eax",
            "jmp boot_start32",
            ".global pvh_start32",
            "pvh_start32:",
            "xor esi, esi",
            "boot_start32:",
            "cli",
            "cld",
            "mov esp, offset __stack_top",
            "mov ebp, ebx", // cpuid clobbers ebx
            // Long mode present?
            "mov eax, 0x80000000",
            "cpuid",
            "cmp eax, 0x80000001",
            "jb 8f",
            "mov eax, 0x80000001",
            "cpuid",
            "test edx, 1 << 29",
            "jz 8f",
            // x86-64-v2: SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT.
            "mov eax, 1",
            "cpuid",
            "and ecx, 0x00982201",
            "cmp ecx, 0x00982201",
            "jne 8f",
            // Page tables: one PML4 entry, four PDPT entries, 2048 pages of 2 MiB.
            "mov edi, offset boot_pml4",
            "mov eax, offset boot_pdpt",
            "or eax, 3",
            "mov [edi], eax",
            "mov edi, offset boot_pdpt",
            "mov eax, offset boot_pd",
            "or eax, 3",
            "mov ecx, 4",
            "2:",
            "mov [edi], eax",
            "add edi, 8",
            "add eax, 4096",
            "loop 2b",
            "mov edi, offset boot_pd",
            "mov eax, 0x83", // present, writable, 2 MiB
            "mov ecx, 2048",
            "3:",
            "mov [edi], eax",
            "add edi, 8",
            "add eax, 0x200000",
            "loop 3b",
            // CR4: PAE, OSFXSR, OSXMMEXCPT.
            "mov eax, cr4",
            "or eax, (1 << 5) | (1 << 9) | (1 << 10)",
            "mov cr4, eax",
            "mov eax, offset boot_pml4",
            "mov cr3, eax",
            // EFER: LME. (NXE follows once the processor is known to have it.)
            "mov ecx, 0xc0000080",
            "rdmsr",
            "or eax, 1 << 8",
            "wrmsr",
            // CR0: PG, WP, NE, MP on; EM, TS off.
            "mov eax, cr0",
            "and eax, ~((1 << 2) | (1 << 3))",
            "or eax, (1 << 31) | (1 << 16) | (1 << 5) | (1 << 1) | 1",
            "mov cr0, eax",
            "lgdt [boot_gdt_pointer]",
            // Far return into the 64-bit code segment.
            "push 8",
            "mov eax, offset boot_start64",
            "push eax",
            "retf",
            // An unusable processor: say so on COM1, leave QEMU if it listens, else stop.
            "8:",
            "mov esi, offset boot_bad_cpu",
            "mov dx, 0x3f8",
            "9:",
            "lodsb",
            "test al, al",
            "jz 10f",
            "out dx, al",
            "jmp 9b",
            "10:",
            "mov dx, 0xf4",
            "mov eax, 34",
            "out dx, eax",
            "11:",
            "hlt",
            "jmp 11b",
            ".code64",
            "boot_start64:",
            "mov ax, 16",
            "mov ds, ax",
            "mov es, ax",
            "mov ss, ax",
            "xor eax, eax",
            "mov fs, ax",
            "mov gs, ax",
            "mov edi, ebp", // the upper halves of both become zero
            "mov esi, esi",
            "mov rsp, offset __stack_top",
            "xor ebp, ebp", // ends the chain of frame pointers
            "call {start}",
            "ud2",
            ".popsection",
            ".pushsection .boot.rodata, \"a\", @progbits",
            "boot_bad_cpu:",
            ".asciz \"palisade: this CPU lacks x86-64-v2 (SSE4.2, POPCNT); use -cpu max or -cpu host\\r\\n\"",
            ".balign 8",
            "boot_gdt:",
            ".quad 0",
            ".quad 0x00af9a000000ffff", // 64-bit code
            ".quad 0x00cf92000000ffff", // data
            "boot_gdt_pointer:",
            ".word 23",
            ".long boot_gdt",
            ".popsection",
            ".pushsection .boot.bss, \"aw\", @nobits",
            ".balign 4096",
            "boot_pml4: .skip 4096",
            "boot_pdpt: .skip 4096",
            "boot_pd: .skip 16384",
            ".popsection",
            start = sym $start,
        );
    };
}
