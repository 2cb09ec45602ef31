//! Last words: panics and processor exceptions.
//!
//! Both print a report on COM1 by polling, without locks or allocation, leave it to the next start ([`crash`]), and then do
//! what the policy says. A second fault while reporting skips the rest of the report.

use core::fmt;
use core::panic::{Location, PanicInfo};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use admin::crash::{BACKTRACE_MAX, IN_A_ROW_MAX};
use boot::cmdline::CommandLine;
use x86_64::instructions::interrupts;
use x86_64::registers::control::Cr2;

use crate::arch::segments::IST_STACKS;
use crate::arch::serial;
use crate::arch::vectors::Frame;
use crate::mem::layout;
use crate::power::{self, ExitCode};
use crate::{crash, time};

/// What to do after the report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Policy {
    /// Restart the machine: the peer resynchronises this node when it is back. The default. Not after
    /// [`IN_A_ROW_MAX`] crashes in a row.
    Reboot = 0,
    /// Stay stopped, for a look at the machine.
    Halt = 1,
    /// Leave QEMU through its debug-exit device, with a status that tells panic from exception. For tests.
    Exit = 2,
}

impl Policy {
    /// The policy called `name` on the command line and in the configuration.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "reboot" => Some(Self::Reboot),
            "halt" => Some(Self::Halt),
            "exit" => Some(Self::Exit),
            _ => None,
        }
    }
}

static POLICY: AtomicU8 = AtomicU8::new(Policy::Reboot as u8);
static FROM_COMMAND_LINE: AtomicBool = AtomicBool::new(false);
static DYING: AtomicBool = AtomicBool::new(false);
/// Crashes in a row, each soon after a start.
static IN_A_ROW: AtomicU32 = AtomicU32::new(0);

/// Sets the policy, unless the command line has set it: that is the operator's word for this very boot.
pub fn set_policy(policy: Policy) {
    if !FROM_COMMAND_LINE.load(Ordering::Relaxed) {
        POLICY.store(policy as u8, Ordering::Relaxed);
    }
}

/// Takes the policy from `panic=reboot|halt|exit` on the command line, if it is there.
pub fn set_policy_from(cmdline: CommandLine<'_>) {
    let Some(name) = cmdline.value("panic") else {
        return;
    };
    match Policy::from_name(name) {
        Some(policy) => {
            POLICY.store(policy as u8, Ordering::Relaxed);
            FROM_COMMAND_LINE.store(true, Ordering::Relaxed);
        }
        None => {
            log::warn!("command line: panic={name} is not known; expected reboot, halt or exit")
        }
    }
}

/// Enters the last phase. Does not return to a caller that is in it already.
fn begin(code: ExitCode) {
    interrupts::disable();
    if DYING.swap(true, Ordering::Relaxed) {
        serial::print(format_args!(
            "\r\npalisade: fault while reporting a fault\r\n"
        ));
        end(code);
    }
}

fn end(code: ExitCode) -> ! {
    let policy = POLICY.load(Ordering::Relaxed);
    if policy == Policy::Exit as u8 {
        power::exit_qemu(code);
        serial::print(format_args!("palisade: no debug-exit device; halted\r\n"));
        power::halt()
    }
    if policy == Policy::Halt as u8 {
        serial::print(format_args!("palisade: halted\r\n"));
        power::halt()
    }
    let in_a_row = IN_A_ROW.load(Ordering::Relaxed);
    if in_a_row >= IN_A_ROW_MAX {
        serial::print(format_args!(
            "palisade: {in_a_row} crashes in a row, each within a minute of its start: halted; reset the machine to try \
             again\r\n"
        ));
        power::halt()
    }
    serial::print(format_args!("palisade: rebooting\r\n"));
    power::reboot()
}

/// What is said of a crash.
struct Report<'a> {
    message: fmt::Arguments<'a>,
    /// In the source, if that is known.
    location: Option<&'a Location<'a>>,
    details: fmt::Arguments<'a>,
    backtrace: Backtrace,
}

impl Report<'_> {
    /// Says it on the console, and leaves it to the next start.
    fn tell(&self) {
        serial::print(format_args!("\r\npalisade: {}\r\n", self.message));
        if let Some(location) = self.location {
            serial::print(format_args!("  at {location}\r\n"));
        }
        serial::print(format_args!("{}  backtrace:", self.details));
        for address in &self.backtrace {
            serial::print(format_args!(" {address:#x}"));
        }
        serial::print(format_args!("\r\n"));
        let in_a_row = crash::record(self.message, self.location, self.details, &self.backtrace);
        IN_A_ROW.store(in_a_row, Ordering::Relaxed);
    }
}

/// Reports a condition that the kernel cannot go on from, and ends. For failures of the machine, which have no place
/// in the source worth telling.
pub fn fatal(message: fmt::Arguments<'_>) -> ! {
    begin(ExitCode::Panic);
    Report {
        message: format_args!("fatal: {message}"),
        location: None,
        details: format_args!(""),
        backtrace: Backtrace::new(),
    }
    .tell();
    end(ExitCode::Panic)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    begin(ExitCode::Panic);
    let (rsp, rbp): (u64, u64);
    // SAFETY: copies two registers.
    unsafe {
        core::arch::asm!("mov {}, rsp", "mov {}, rbp", out(reg) rsp, out(reg) rbp, options(nomem, nostack))
    };
    Report {
        message: format_args!("panic: {}", info.message()),
        location: info.location(),
        details: format_args!(
            "  uptime {} us  rsp {rsp:#018x}  rbp {rbp:#018x}\r\n",
            time::now_micros()
        ),
        backtrace: backtrace(None, rbp),
    }
    .tell();
    end(ExitCode::Panic)
}

/// The unwinder's hook. `core` refers to it; nothing ever unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The end of a landing pad. The precompiled `alloc` has landing pads; nothing ever gets there.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("unwinding in an image that cannot unwind")
}

const EXCEPTIONS: [&str; 32] = [
    "divide error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range exceeded",
    "invalid opcode",
    "device not available",
    "double fault",
    "coprocessor segment overrun",
    "invalid TSS",
    "segment not present",
    "stack-segment fault",
    "general protection fault",
    "page fault",
    "reserved",
    "x87 floating point",
    "alignment check",
    "machine check",
    "SIMD floating point",
    "virtualization",
    "control protection",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "reserved",
    "hypervisor injection",
    "VMM communication",
    "security",
    "reserved",
];

/// Called by the stubs of all exceptions, on a stack of their own.
pub extern "C" fn exception(frame: &Frame) -> ! {
    begin(ExitCode::Exception);
    let name = EXCEPTIONS
        .get(frame.vector as usize)
        .copied()
        .unwrap_or("unknown");
    let address = Cr2::read_raw();
    let cause = match frame.vector {
        14 if layout::is_main_stack_guard(address) => ": kernel stack overflow",
        14 if address < 4096 => ": null pointer",
        _ => "",
    };
    Report {
        message: format_args!(
            "exception {}: {name}, error code {:#x}{cause}",
            frame.vector, frame.error
        ),
        location: None,
        details: format_args!("{}", Registers(frame, address)),
        backtrace: backtrace(Some(frame.rip), frame.rbp()),
    }
    .tell();
    end(ExitCode::Exception)
}

/// The registers of an exception, and the address that a page fault is about.
struct Registers<'a>(&'a Frame, u64);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(frame, address) = self;
        if frame.vector == 14 {
            let access = match frame.error & 0b1_0010 {
                0b1_0000 | 0b1_0010 => "executing",
                0b0_0010 => "writing",
                _ => "reading",
            };
            let cause = if frame.error & 1 == 0 {
                "not mapped"
            } else {
                "not permitted"
            };
            write!(f, "  {access} address {address:#018x}: {cause}\r\n")?;
        }
        write!(
            f,
            "  rip {:#018x}  rsp {:#018x}  rflags {:#x}  cs {:#x}  ss {:#x}  uptime {} us\r\n",
            frame.rip,
            frame.rsp,
            frame.rflags,
            frame.cs,
            frame.ss,
            time::now_micros(),
        )?;
        for (index, (name, value)) in Frame::NAMES.iter().zip(frame.general).enumerate() {
            let end = if index % 4 == 3 || index == Frame::NAMES.len() - 1 {
                "\r\n"
            } else {
                ""
            };
            write!(f, "  {name:<3} {value:#018x}{end}")?;
        }
        Ok(())
    }
}

/// Return addresses, innermost first.
type Backtrace = heapless::Vec<u64, BACKTRACE_MAX>;

/// The return addresses that frame pointers lead to, as far as they lie within one of the kernel's stacks, only go up,
/// and the addresses are code. Functions of the precompiled `core` have no frame pointer and may be missing.
///
/// `addr2line -f -e target/palisade.debug.elf ADDRESS...` turns the addresses into names.
fn backtrace(first: Option<u64>, mut rbp: u64) -> Backtrace {
    let mut addresses: Backtrace = first.into_iter().collect();
    let main = layout::main_stack();
    let mut stacks = (0..IST_STACKS)
        .map(layout::ist_stack)
        .chain(core::iter::once(main));
    let Some(stack) = stacks.find(|stack| stack.contains(&rbp)) else {
        return addresses;
    };
    while rbp.is_multiple_of(8) && rbp >= stack.start && rbp + 16 <= stack.end {
        // SAFETY: two words within a mapped stack, aligned; nothing else runs.
        let [next, address] = unsafe { *(rbp as *const [u64; 2]) };
        if !layout::text().contains(&address) || addresses.push(address).is_err() || next <= rbp {
            break;
        }
        rbp = next;
    }
    addresses
}
