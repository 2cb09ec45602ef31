//! A node's serial console in machine mode, over QEMU's unix socket:
//! `\x01ID COMMAND\r` is answered by `\x02ID`, the output's lines, and `\x03ID STATUS`.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// A connection to the serial line.
#[derive(Debug)]
pub struct Console {
    line: UnixStream,
    received: Vec<u8>,
    commands: u32,
}

impl Console {
    /// Connects, as soon as QEMU listens.
    pub fn open(path: &Path) -> Self {
        let line = crate::tools::wait_for("QEMU listens for the console", 10, || {
            UnixStream::connect(path).ok()
        });
        line.set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a socket takes a timeout");
        Self {
            line,
            received: Vec::new(),
            commands: 0,
        }
    }

    /// Sends bytes as they are, as a person's keys.
    pub fn type_keys(&mut self, keys: &[u8]) {
        self.line.write_all(keys).expect("the console takes keys");
    }

    /// Reads on for `time`; everything received since the last command.
    pub fn read_for(&mut self, time: Duration) -> String {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.receive();
        }
        crate::tools::text(&std::mem::take(&mut self.received))
    }

    fn receive(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.line.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                true
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => true,
            Err(_) => false,
        }
    }

    /// Reads up to and with `mark`; the bytes before it. `None` when time is up or the line ends.
    fn until(&mut self, mark: &[u8], end: Instant) -> Option<Vec<u8>> {
        loop {
            let found = self.received.windows(mark.len()).position(|w| w == mark);
            if let Some(place) = found {
                let rest = self.received.split_off(place + mark.len());
                let mut before = std::mem::replace(&mut self.received, rest);
                before.truncate(place);
                return Some(before);
            }
            if Instant::now() >= end || !self.receive() {
                return None;
            }
        }
    }

    /// Takes what has come, so that the node never waits for its reader: QEMU keeps no more than a few
    /// hundred bytes for one that does not read.
    pub fn drain(&mut self) {
        self.receive();
    }

    /// Waits for the banner of a console that is coming up. What is sent before the UART is set up
    /// is lost or torn.
    pub fn banner(&mut self, seconds: u64) {
        let end = Instant::now() + Duration::from_secs(seconds);
        let _ = self.until(b"Type help", end);
    }

    /// Waits until the node's console answers; `false` when it does not within `seconds`.
    pub fn answers(&mut self, seconds: u64) -> bool {
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            let id = self.send("version");
            let soon = Instant::now() + Duration::from_millis(100);
            if self
                .until(format!("\x02{id}\r\n").as_bytes(), soon)
                .is_some()
            {
                return self.until(format!("\x03{id} ").as_bytes(), end).is_some();
            }
        }
        false
    }

    fn send(&mut self, command: &str) -> String {
        self.commands += 1;
        let id = format!("t{}", self.commands);
        // A line that QEMU has closed is noticed by the read that follows.
        let _ = self
            .line
            .write_all(format!("\x01{id} {command}\r").as_bytes());
        id
    }

    /// Runs a command: its output, or with a status other than 0 as the error.
    ///
    /// # Errors
    /// The node's own refusal. No answer within `seconds` panics.
    pub fn exec(&mut self, command: &str, seconds: u64) -> Result<String, String> {
        let id = self.send(command);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut part = |mark: String| {
            let bytes = self.until(mark.as_bytes(), end);
            bytes.unwrap_or_else(|| panic!("no answer on the console to '{command}'"))
        };
        part(format!("\x02{id}\r\n"));
        let output = crate::tools::text(&part(format!("\x03{id} "))).replace("\r\n", "\n");
        match part("\r\n".into()).as_slice() {
            b"0" => Ok(output),
            _ => Err(output),
        }
    }
}
