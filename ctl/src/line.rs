//! A node's serial console in machine mode (docs/CONSOLE.md): `SOH id SP command CR` is answered by `STX id`, the output's lines,
//! and `ETX id status`.

use crate::error::Error;
use crate::node::Socket;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The longest answer that is taken, in bytes: far more than any verb prints (`log 1000` has some 200 kB).
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How often a lock that is held is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(20);

/// What a node answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The output, lines ended by line feeds.
    pub output: String,
    /// Whether the command did what it was told.
    pub done: bool,
}

/// An open console, locked against others on this host as long as it is held.
#[derive(Debug)]
pub struct Line {
    socket: Socket,
    stream: UnixStream,
    received: Vec<u8>,
    commands: u32,
    /// Released when it is closed.
    _lock: File,
}

impl Line {
    /// Opens a node's console.
    ///
    /// # Errors
    /// [`Error::Away`], [`Error::Lock`], [`Error::InUse`]; [`Error::Busy`] after `patience`.
    pub fn open(socket: &Socket, patience: Duration) -> Result<Self, Error> {
        let away = |why| Error::Away {
            socket: socket.0.clone(),
            why,
        };
        // Before the lock file: none is to be left where there is no node.
        socket.0.symlink_metadata().map_err(away)?;
        let lock = lock(socket, patience)?;
        let stream = UnixStream::connect(&socket.0).map_err(away)?;
        Ok(Self {
            socket: socket.clone(),
            stream,
            received: Vec::new(),
            commands: 0,
            _lock: lock,
        })
    }

    /// Runs a command, which must be printable ASCII, and waits for its whole answer.
    ///
    /// # Errors
    /// [`Error::Silent`], [`Error::Broken`].
    pub fn run(&mut self, command: &str, patience: Duration) -> Result<Answer, Error> {
        let end = Instant::now() + patience;
        self.commands += 1;
        // Not that of a command whose answer still comes: somebody's who was before us on this line.
        let id = format!(
            "{:x}n{:x}",
            std::process::id() & 0xf_ffff,
            self.commands & 0xf
        );
        self.received.clear();
        self.stream
            .write_all(format!("\x01{id} {command}\r").as_bytes())
            .map_err(|why| self.broken(Some(why)))?;
        self.until(format!("\x02{id}\r\n").as_bytes(), end, false)?;
        let output = self.until(format!("\x03{id} ").as_bytes(), end, true)?;
        let status = self.until(b"\r\n", end, true)?;
        Ok(Answer {
            output: String::from_utf8_lossy(&output).replace("\r\n", "\n"),
            done: status == b"0",
        })
    }

    /// Reads up to and with `mark`: the bytes before it.
    fn until(&mut self, mark: &[u8], end: Instant, begun: bool) -> Result<Vec<u8>, Error> {
        let mut looked = 0;
        loop {
            let found = self.received[looked..]
                .windows(mark.len())
                .position(|window| window == mark);
            if let Some(place) = found {
                let rest = self.received.split_off(looked + place + mark.len());
                let mut before = std::mem::replace(&mut self.received, rest);
                before.truncate(looked + place);
                return Ok(before);
            }
            looked = self.received.len().saturating_sub(mark.len() - 1);
            if self.received.len() > ANSWER_BYTES_MAX {
                return Err(self.broken(None));
            }
            self.receive(end, begun)?;
        }
    }

    fn receive(&mut self, end: Instant, begun: bool) -> Result<(), Error> {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::Silent {
                socket: self.socket.0.clone(),
                begun,
            });
        }
        self.stream
            .set_read_timeout(Some(left))
            .map_err(|why| self.broken(Some(why)))?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(self.broken(None)),
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                Ok(())
            }
            // Time is up: the next round says so.
            Err(why)
                if matches!(
                    why.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) =>
            {
                Ok(())
            }
            Err(why) => Err(self.broken(Some(why))),
        }
    }

    fn broken(&self, why: Option<std::io::Error>) -> Error {
        Error::Broken {
            socket: self.socket.0.clone(),
            why,
        }
    }
}

/// Takes the lock that `run-qemu.sh exec` and `console` take, too: QEMU serves one client of the socket at a time, and a second
/// one would wait without a word.
fn lock(socket: &Socket, patience: Duration) -> Result<File, Error> {
    let path = socket.lock();
    let refused = |why| Error::Lock {
        path: path.clone(),
        why,
    };
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .map_err(refused)?;
    let end = Instant::now() + patience;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(why)) => return Err(refused(why)),
            // An interactive console writes its name into the file: waiting for it is of no use.
            Err(TryLockError::WouldBlock)
                if std::fs::read_to_string(&path)
                    .is_ok_and(|holder| holder.trim() == "console") =>
            {
                return Err(Error::InUse(socket.0.clone()));
            }
            Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                return Err(Error::Busy(socket.0.clone()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
        }
    }
}

#[cfg(test)]
mod tests;
