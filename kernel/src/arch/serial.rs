//! COM1 by polling: for the time before the console task, and for last words.
//!
//! Takes no lock and keeps no state, so it works from any exception handler.

use core::fmt::{self, Write};

use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;
/// Line status: transmit holding register empty, transmitter empty.
const LSR_THRE: u8 = 1 << 5;
const LSR_TEMT: u8 = 1 << 6;
/// Polls of the line status before a byte is sent regardless, so that a machine without a working UART still boots.
const POLLS_MAX: u32 = 100_000;

struct Com1;

impl Com1 {
    fn wait(mask: u8) {
        let mut status = Port::<u8>::new(COM1 + 5);
        for _ in 0..POLLS_MAX {
            // SAFETY: reading the line status of COM1 has no side effect that matters here: it clears error bits
            // that nobody looks at.
            if unsafe { status.read() } & mask != 0 {
                return;
            }
            core::hint::spin_loop();
        }
    }

    fn send(byte: u8) {
        Self::wait(LSR_THRE);
        // SAFETY: writing the transmit register sends a byte; the firmware left the divisor latch closed.
        unsafe { Port::<u8>::new(COM1).write(byte) };
    }
}

impl Write for Com1 {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(Self::send);
        Ok(())
    }
}

/// Prints and returns when the UART has taken the last byte. Lines end in `\r\n`.
pub fn print(arguments: fmt::Arguments<'_>) {
    // `Com1` never fails.
    let _ = Com1.write_fmt(arguments);
}

/// Waits until everything written has left the UART.
pub fn drain() {
    Com1::wait(LSR_TEMT);
}
