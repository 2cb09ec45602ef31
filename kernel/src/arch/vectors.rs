//! The interrupt descriptor table and the assembly behind it.
//!
//! Device interrupts are handled in assembly altogether: set the vector's bit in [`PENDING`], acknowledge, return.
//! The handlers proper run later, from the executor's loop ([`crate::irq::dispatch`]). Nothing is lost by that,
//! since tasks are cooperative and would not see the effect any sooner, and much is gained: no SSE state to save, no
//! handler that interrupts the allocator, nothing to lock.
//!
//! Exceptions end in [`crate::panic::exception`], which does not return.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64};

use spin::Once;
use x86_64::VirtAddr;
use x86_64::structures::idt::InterruptDescriptorTable;

use super::segments::Ist;

/// First vector that is not an exception.
pub const FIRST_INTERRUPT: u8 = 32;

/// Vector of spurious interrupts of the local APIC; never acknowledged (Intel SDM 3A, 11.9).
pub const SPURIOUS: u8 = 255;

/// One bit per vector, set on interrupt, cleared by [`crate::irq::dispatch`].
pub static PENDING: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// Address of the local APIC's registers.
pub static APIC_BASE: AtomicU64 = AtomicU64::new(0);

/// Whether the local APIC is in x2APIC mode.
pub static X2APIC: AtomicBool = AtomicBool::new(false);

/// The registers as the exception stubs push them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    /// General registers, in the order of [`Frame::NAMES`].
    pub general: [u64; 15],
    /// Exception vector.
    pub vector: u64,
    /// Error code, zero for exceptions that have none.
    pub error: u64,
    /// Address of the instruction that failed.
    pub rip: u64,
    /// Code segment.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack segment.
    pub ss: u64,
}

impl Frame {
    /// Names of [`Frame::general`].
    pub const NAMES: [&'static str; 15] = [
        "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15",
    ];

    /// The frame pointer.
    pub fn rbp(&self) -> u64 {
        self.general[6]
    }
}

// 256 stubs of 16 bytes each. `push imm32` is spelled in bytes: an assembler variable as operand would be taken for
// a memory reference.
global_asm!(
    ".pushsection .text.vectors, \"ax\", @progbits",
    ".balign 16",
    "vector_stubs:",
    ".set vector, 0",
    ".rept 256",
    ".balign 16",
    // Exceptions with an error code: 8, 10-14, 17, 21, 29, 30. The others push a zero in its place; so do
    // interrupts, whose common part drops it again.
    ".if ((0x60227d00 >> vector) & 1) == 0 || vector >= 32",
    ".byte 0x6a, 0",
    ".endif",
    ".byte 0x68",
    ".long vector",
    ".if vector < 32",
    "jmp exception_common",
    ".elseif vector == 255",
    "jmp spurious_common",
    ".else",
    "jmp interrupt_common",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    //
    "interrupt_common:",
    "push rax",
    "push rcx",
    "push rdx",
    "mov eax, [rsp + 24]",
    "bts [rip + {pending}], rax",
    "cmp byte ptr [rip + {x2apic}], 0",
    "jne 2f",
    "mov rcx, [rip + {apic_base}]",
    "mov dword ptr [rcx + 0xb0], 0",
    "jmp 3f",
    "2:",
    "mov ecx, 0x80b",
    "xor eax, eax",
    "xor edx, edx",
    "wrmsr",
    "3:",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "spurious_common:",
    "add rsp, 16",
    "iretq",
    //
    "exception_common:",
    "push r15",
    "push r14",
    "push r13",
    "push r12",
    "push r11",
    "push r10",
    "push r9",
    "push r8",
    "push rbp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push rbx",
    "push rax",
    "cld",
    "mov rdi, rsp",
    "call {exception}",
    "ud2",
    ".popsection",
    pending = sym PENDING,
    x2apic = sym X2APIC,
    apic_base = sym APIC_BASE,
    exception = sym crate::panic::exception,
);

unsafe extern "C" {
    static vector_stubs: [[u8; 16]; 256];
}

static IDT: Once<InterruptDescriptorTable> = Once::new();

fn stub(vector: u8) -> VirtAddr {
    VirtAddr::new(&raw const vector_stubs as u64 + 16 * u64::from(vector))
}

/// Loads the interrupt descriptor table. Interrupts stay disabled.
pub fn init() {
    let idt = IDT.call_once(|| {
        let mut idt = InterruptDescriptorTable::new();
        macro_rules! set {
            ($entry:expr, $vector:expr, $ist:expr) => {
                // SAFETY: the stub is written for this vector and saves what it changes; the stack is the one that
                // `Ist` reserves for it, and interrupt gates keep interrupts disabled on it.
                unsafe { $entry.set_handler_addr(stub($vector)).set_stack_index($ist as u16) };
            };
        }
        set!(idt.divide_error, 0, Ist::Fault);
        set!(idt.debug, 1, Ist::Fault);
        set!(idt.non_maskable_interrupt, 2, Ist::Nmi);
        set!(idt.breakpoint, 3, Ist::Fault);
        set!(idt.overflow, 4, Ist::Fault);
        set!(idt.bound_range_exceeded, 5, Ist::Fault);
        set!(idt.invalid_opcode, 6, Ist::Fault);
        set!(idt.device_not_available, 7, Ist::Fault);
        set!(idt.double_fault, 8, Ist::DoubleFault);
        set!(idt.invalid_tss, 10, Ist::Fault);
        set!(idt.segment_not_present, 11, Ist::Fault);
        set!(idt.stack_segment_fault, 12, Ist::Fault);
        set!(idt.general_protection_fault, 13, Ist::Fault);
        set!(idt.page_fault, 14, Ist::Fault);
        set!(idt.x87_floating_point, 16, Ist::Fault);
        set!(idt.alignment_check, 17, Ist::Fault);
        set!(idt.machine_check, 18, Ist::MachineCheck);
        set!(idt.simd_floating_point, 19, Ist::Fault);
        set!(idt.virtualization, 20, Ist::Fault);
        set!(idt.cp_protection_exception, 21, Ist::Fault);
        set!(idt.hv_injection_exception, 28, Ist::Fault);
        set!(idt.vmm_communication_exception, 29, Ist::Fault);
        set!(idt.security_exception, 30, Ist::Fault);
        for vector in FIRST_INTERRUPT..=SPURIOUS {
            set!(idt[vector], vector, Ist::Device);
        }
        idt
    });
    idt.load();
}
