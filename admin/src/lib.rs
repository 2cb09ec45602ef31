#![no_std]
#![forbid(unsafe_code)]
//! Configuration, console line editor, verbs and status rendering.
//!
//! Everything a person touches, and nothing else: no I/O, no clock, no device. The kernel's
//! console task is a pump around it (bytes of the serial line in, bytes out), and so are the
//! tests of this crate.
//!
//! - [`config`]: the TOML boot module becomes a checked [`config::Config`], or a list of mistakes
//!   with line, column and what was expected; [`config::devices`] matches it against the disks and
//!   NICs that were found.
//! - [`console`]: the line editor, the machine mode behind `run-qemu.sh exec`, and how both share
//!   the line with the log.
//! - [`crash`]: what a crash leaves for the next start.
//! - [`verbs`]: the grammar of the commands and their help.
//! - [`status`]: what `status`, `disks` and `net` print, as text and as JSON.
//! - [`events`]: what has become of these states, line by line.
//! - [`log`]: the bounded log behind the `log` verb.
//! - [`metrics`]: what a monitoring system asks over HTTP.

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod config;
pub mod console;
pub mod crash;
pub mod events;
mod json;
pub mod log;
pub mod metrics;
mod nearest;
pub mod status;
mod text;
pub mod units;
pub mod verbs;
