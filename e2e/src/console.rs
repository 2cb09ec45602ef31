//! A node's serial console in machine mode, over QEMU's unix socket:
//! `\x01ID COMMAND\r` is answered by `\x02ID`, the output's lines, and `\x03ID STATUS`.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A connection to the serial line.
///
/// A thread takes what comes at once: QEMU keeps no more than some hundred bytes for a slow reader, and a byte that it has to
/// offer again stands twice in its log file.
#[derive(Debug)]
pub struct Console {
    line: UnixStream,
    coming: Receiver<Vec<u8>>,
    received: Vec<u8>,
    commands: u32,
}

impl Console {
    /// Connects, as soon as QEMU listens.
    pub fn open(path: &Path) -> Self {
        let line = crate::tools::wait_for("QEMU listens for the console", 10, || {
            UnixStream::connect(path).ok()
        });
        let mut reader = line.try_clone().expect("a second handle of the socket");
        let (arrived, coming) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if arrived.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            line,
            coming,
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
        match self.coming.recv_timeout(Duration::from_millis(20)) {
            Ok(bytes) => {
                self.received.extend_from_slice(&bytes);
                true
            }
            Err(RecvTimeoutError::Timeout) => true,
            Err(RecvTimeoutError::Disconnected) => false,
        }
    }

    /// Reads up to and with `mark`; the bytes before it. `None` when time is up or the line ends.
    fn until(&mut self, mark: &[u8], end: Instant) -> Option<Vec<u8>> {
        // Behind a flood there are millions of bytes: each is looked at once.
        let mut looked = 0;
        loop {
            let new = &self.received[looked..];
            let found = new.windows(mark.len()).position(|w| w == mark);
            if let Some(place) = found.map(|place| looked + place) {
                let rest = self.received.split_off(place + mark.len());
                let mut before = std::mem::replace(&mut self.received, rest);
                before.truncate(place);
                return Some(before);
            }
            looked = self.received.len().saturating_sub(mark.len() - 1);
            if Instant::now() >= end || !self.receive() {
                return None;
            }
        }
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
        let mut patience = Duration::from_millis(100);
        while Instant::now() < end {
            let id = self.send("version");
            let soon = Instant::now() + patience;
            // What is asked waits behind what was asked before, and must not become more and more.
            patience *= 2;
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

impl Drop for Console {
    fn drop(&mut self) {
        // Ends the thread, and lets somebody else have the line. It may be gone already.
        let _ = self.line.shutdown(Shutdown::Both);
    }
}
