//! What wakes the tasks: interrupts and each other.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_sync::blocking_mutex::raw::CriticalSectionRawMutex;
use embassy_sync::signal::Signal;

/// A reason to run again, without further meaning.
pub type Wake = Signal<CriticalSectionRawMutex, ()>;

/// There may be work on the data path.
pub static DATA_PATH: Wake = Wake::new();
/// The console has input, or something to print.
pub static CONSOLE: Wake = Wake::new();
/// An operator's command may have ended.
pub static COMMAND: Wake = Wake::new();

/// Somebody waits for the console who is not on its line.
static WEB_COMMAND: AtomicBool = AtomicBool::new(false);
static CONFIGURATION: AtomicBool = AtomicBool::new(false);
static LINES: AtomicBool = AtomicBool::new(false);

/// Handler of queue interrupts by message.
pub fn on_queue(_: usize) {
    DATA_PATH.signal(());
}

/// Handler of configuration-change interrupts by message.
pub fn on_configuration(_: usize) {
    CONFIGURATION.store(true, Ordering::Relaxed);
    DATA_PATH.signal(());
}

/// Handler of interrupt lines that several causes share.
pub fn on_line(_: usize) {
    LINES.store(true, Ordering::Relaxed);
    DATA_PATH.signal(());
}

/// Handler of the UART's interrupt.
pub fn on_uart(_: usize) {
    CONSOLE.signal(());
}

/// A command came in by the web server.
pub fn web_command() {
    WEB_COMMAND.store(true, Ordering::Relaxed);
    CONSOLE.signal(());
}

/// Whether one waits.
pub fn is_web_command() -> bool {
    WEB_COMMAND.load(Ordering::Relaxed)
}

/// Whether one waits; it is waited for no longer.
pub fn take_web_command() -> bool {
    WEB_COMMAND.swap(false, Ordering::Relaxed)
}

/// Whether some device's configuration changed since the last call.
pub fn take_configuration() -> bool {
    CONFIGURATION.swap(false, Ordering::Relaxed)
}

/// Whether some interrupt line was raised since the last call.
pub fn take_lines() -> bool {
    LINES.swap(false, Ordering::Relaxed)
}
