//! Faults on request, so that system tests can see what an operator would: `test=WORD` on the command line.

use boot::cmdline::CommandLine;

use crate::power::{self, ExitCode};

/// Does what `test=` asks for, after everything has been brought up.
pub fn run(cmdline: CommandLine<'_>) {
    let Some(what) = cmdline.value("test") else {
        return;
    };
    log::info!("self-test: {what}");
    match what {
        "boot" => power::exit_qemu(ExitCode::Success),
        "panic" => panic!("self-test"),
        "pagefault" => read_unmapped(),
        "divide" => divide_by_zero(),
        "stackoverflow" => log::info!("self-test: {}", recurse(1)),
        "poweroff" => power::poweroff(),
        "reboot" => power::reboot(),
        _ => log::warn!(
            "command line: test={what} is not known; expected boot, panic, pagefault, divide, stackoverflow, poweroff \
             or reboot"
        ),
    }
}

fn read_unmapped() {
    /// In the identity mapping's range, beyond any RAM.
    const NOWHERE: u64 = 0x7000_dead_b000;
    let value: u8;
    // SAFETY: the address is not mapped, so the processor faults before anything is read; that is the point.
    unsafe { core::arch::asm!("mov {}, byte ptr [{}]", out(reg_byte) value, in(reg) NOWHERE) };
    log::info!("self-test: read {value}");
}

fn divide_by_zero() {
    // SAFETY: raises the exception that is asked for; the registers are declared.
    unsafe { core::arch::asm!("div ecx", in("ecx") 0, inout("eax") 1 => _, inout("edx") 0 => _) };
}

/// Recurses without end, each time with a frame that must really exist.
#[allow(
    unconditional_recursion,
    reason = "to overflow the stack is what it is for"
)]
#[inline(never)]
fn recurse(depth: u64) -> u64 {
    let frame = core::hint::black_box([depth; 64]);
    recurse(depth + 1) + frame[(depth % 64) as usize]
}
