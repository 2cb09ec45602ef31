//! The readable record of one run.

use crate::world::Time;

/// Prints lines when switched on; costs nothing otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Trace {
    on: bool,
}

impl Trace {
    /// A trace that prints to standard output when `on`.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// Prints a line with its time; `text` is built only when needed.
    pub fn line(&self, now: Time, who: &str, text: impl FnOnce() -> String) {
        if self.on {
            println!(
                "{:>4}.{:06} {who:<5} {}",
                now / 1_000_000,
                now % 1_000_000,
                text()
            );
        }
    }
}

/// A node's letter, as the examples and run-qemu.sh have it.
#[must_use]
pub fn letter(node: usize) -> &'static str {
    if node == 0 { "a" } else { "b" }
}
