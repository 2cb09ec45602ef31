//! One handler: a command for the shell that is run to its end, or to the end of its time.
//!
//! It is the leader of a process group of its own, which is killed when the time is up and when the leader has ended, so that
//! nothing of it is left. Its standard input is an empty file that is locked as long as any process of it lives: an
//! arbiter that was killed and started again runs no second handler beside one that is left from before. That one ends
//! all the same, for `timeout` watches it, too.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// From SIGTERM to SIGKILL.
const TERM_GRACE: Duration = Duration::from_secs(2);
/// From SIGKILL to giving up on a process that the kernel does not let go.
const KILL_GRACE: Duration = Duration::from_secs(3);
/// How long the output of a handler that has ended may take to arrive, from its children.
const OUTPUT_GRACE: Duration = Duration::from_millis(500);
/// Of the output, in bytes and lines: what is kept for the log. All of it is read.
const OUTPUT_MAX: usize = 4096;
const LINES_MAX: usize = 20;

/// What is run.
pub struct Handler<'a> {
    /// For `sh -c`.
    pub command: &'a str,
    pub environment: Vec<(String, String)>,
    pub limit: Duration,
    /// One handler at a time has it.
    pub lock: &'a Path,
}

/// What came of it.
pub enum Ended {
    Exit(u8),
    Signal(i32),
    /// It was killed when its time was up.
    TimedOut,
}

pub struct Run {
    pub ended: Ended,
    pub took: Duration,
    /// The beginning of what it printed, in lines fit for a log.
    pub said: Vec<String>,
    /// How much it printed, in bytes.
    pub printed: u64,
}

impl Run {
    /// Whether the log does not have all of what it printed.
    pub fn cut(&self) -> bool {
        self.printed > OUTPUT_MAX as u64 || self.said.len() >= LINES_MAX
    }
}

impl Handler<'_> {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// Why it was not run, in words.
    pub fn run(&self) -> Result<Run, String> {
        let lock = self.lock()?;
        let begun = Instant::now();
        let (output, child) = self.spawn(&lock)?;
        let mut running = Running {
            pid: Pid::from_child(&child),
            child,
            output: Some(output),
            kept: Vec::new(),
            printed: 0,
        };
        // Which process has the lock, for whoever finds it locked. The command reads from behind that: an empty file.
        let _ = lock
            .set_len(0)
            .and_then(|()| writeln!(&lock, "{}", running.pid.as_raw_nonzero()));
        let ended = running.wait(begun + self.limit)?;
        Ok(Run {
            ended,
            took: begun.elapsed(),
            said: lines(&running.kept),
            printed: running.printed,
        })
    }

    fn lock(&self) -> Result<File, String> {
        let path = self.lock.display();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).mode(0o600);
        let mut file = options
            .open(self.lock)
            .map_err(|error| format!("{path}: {error}"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                Err(format!(
                    "a handler of an earlier life of this arbiter still runs, process group {}; wait for it or kill it (it holds {path})",
                    pid.trim()
                ))
            }
            Err(TryLockError::Error(error)) => Err(format!("{path}: {error}")),
        }
    }

    fn spawn(&self, lock: &File) -> Result<(std::io::PipeReader, Child), String> {
        let spawn = || {
            let (reader, writer) = std::io::pipe()?;
            // Its own limit is the arbiter's in case there is no arbiter any more.
            let limit = self.limit.as_secs() + 1;
            let child = Command::new("timeout")
                .args(["--kill-after=2", &limit.to_string(), "sh", "-c"])
                .arg(self.command)
                .current_dir("/")
                .env_clear()
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::from(lock.try_clone()?))
                .stdout(Stdio::from(writer.try_clone()?))
                .stderr(Stdio::from(writer))
                .process_group(0)
                .spawn()?;
            Ok((reader, child))
        };
        spawn().map_err(|error: std::io::Error| {
            format!("it cannot be started (by timeout, of coreutils): {error}")
        })
    }
}

struct Running {
    pid: Pid,
    child: Child,
    /// None when its end was read.
    output: Option<std::io::PipeReader>,
    kept: Vec<u8>,
    printed: u64,
}

impl Running {
    fn wait(&mut self, deadline: Instant) -> Result<Ended, String> {
        let ended = self.watch(deadline);
        // What is left of it. The leader was not waited for yet, so its number is nobody else's.
        let _ = kill_process_group(self.pid, Signal::KILL);
        let late = ended?;
        let status = self
            .child
            .wait()
            .map_err(|error| format!("it cannot be waited for: {error}"))?;
        if late {
            return Ok(Ended::TimedOut);
        }
        use std::os::unix::process::ExitStatusExt;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exit(u8::try_from(code).unwrap_or(u8::MAX)),
            (None, signal) => Ended::Signal(signal.unwrap_or(0)),
        })
    }

    /// Until the leader has ended: whether that was after its time.
    fn watch(&mut self, deadline: Instant) -> Result<bool, String> {
        let leader = pidfd_open(self.pid, PidfdFlags::empty())
            .map_err(|error| format!("it cannot be watched: {error}"))?;
        let (mut next, mut signal) = (deadline, Some(Signal::TERM));
        let mut late = false;
        let mut ended = false;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if left.is_zero() {
                if ended {
                    return Ok(late);
                }
                late = true;
                let Some(now) = signal else {
                    return Err(
                        "it does not end, not even killed: a process of it hangs in the kernel"
                            .into(),
                    );
                };
                let _ = kill_process_group(self.pid, now);
                (next, signal) = match now {
                    Signal::TERM => (Instant::now() + TERM_GRACE, Some(Signal::KILL)),
                    _ => (Instant::now() + KILL_GRACE, None),
                };
                continue;
            }
            let wait = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let (readable, gone) = {
                let mut watched = Vec::with_capacity(2);
                if let Some(output) = &self.output {
                    watched.push(PollFd::new(output, PollFlags::IN));
                }
                if !ended {
                    watched.push(PollFd::new(&leader, PollFlags::IN));
                }
                if watched.is_empty() {
                    return Ok(late);
                }
                match poll(&mut watched, Some(&wait)) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(format!("it cannot be watched: {error}")),
                }
                let stirred = |fd: &PollFd<'_>| !fd.revents().is_empty();
                let readable = self.output.is_some() && watched.first().is_some_and(stirred);
                (readable, !ended && watched.last().is_some_and(stirred))
            };
            if readable {
                self.read();
            }
            if gone {
                ended = true;
                next = Instant::now() + OUTPUT_GRACE;
            }
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        let Some(output) = &mut self.output else {
            return;
        };
        match output.read(&mut bytes) {
            Ok(0) | Err(_) => self.output = None,
            Ok(len) => {
                self.printed += len as u64;
                let room = OUTPUT_MAX.saturating_sub(self.kept.len()).min(len);
                self.kept.extend(&bytes[..room]);
            }
        }
    }
}

/// What a terminal or a journal can show without harm.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let plain = |line: &str| {
        let safe = |c: char| if c.is_control() { ' ' } else { c };
        line.chars().map(safe).collect::<String>().trim().to_owned()
    };
    text.lines()
        .map(plain)
        .filter(|line| !line.is_empty())
        .take(LINES_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(name: &str, command: &str, limit: u64) -> Result<Run, String> {
        let lock = std::env::temp_dir().join(format!("palisade-{name}-{}", std::process::id()));
        let handler = Handler {
            command,
            environment: vec![
                ("PATH".into(), "/usr/bin:/bin".into()),
                ("X".into(), "y z".into()),
            ],
            limit: Duration::from_millis(limit),
            lock: &lock,
        };
        let run = handler.run();
        let _ = std::fs::remove_file(&lock);
        run
    }

    #[test]
    fn its_exit_code_and_output_are_told() {
        let done = run("exit", "echo \"$X\"; echo oops >&2; cat; exit 7", 10_000).unwrap();
        assert!(matches!(done.ended, Ended::Exit(7)));
        assert_eq!(done.said, ["y z", "oops"]);
        assert!(!done.cut());
        let done = run("missing", "/no/such/handler", 10_000).unwrap();
        assert!(matches!(done.ended, Ended::Exit(127)));
        let done = run("signal", "kill -SEGV $$", 10_000).unwrap();
        assert!(matches!(done.ended, Ended::Signal(11)));
    }

    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_started() {
        let begun = Instant::now();
        // Neither heeds SIGTERM, and the child holds the output open.
        let done = run(
            "hang",
            "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000",
            300,
        )
        .unwrap();
        assert!(matches!(done.ended, Ended::TimedOut));
        assert!(begun.elapsed() < Duration::from_secs(30));
        let child: u32 = done.said[0].parse().unwrap();
        let state = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // Gone, or dead and not waited for yet by whoever inherited it.
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
    }

    #[test]
    fn exit_0_at_sigterm_is_no_exit_0() {
        let done = run(
            "trap",
            "trap 'exit 0' TERM; while :; do sleep 0.01; done",
            200,
        )
        .unwrap();
        assert!(matches!(done.ended, Ended::TimedOut));
    }

    #[test]
    fn megabytes_are_read_and_not_kept() {
        let command = "dd if=/dev/zero bs=1M count=8 2>/dev/null | tr '\\0' 'x'; exit 4";
        let done = run("babble", command, 60_000).unwrap();
        assert!(matches!(done.ended, Ended::Exit(4)));
        assert_eq!(done.printed, 8 << 20);
        assert!(done.cut() && done.said[0].len() == OUTPUT_MAX);
    }

    #[test]
    fn what_it_leaves_behind_is_killed() {
        let done = run("left", "sleep 1000 & echo $!; exit 3", 60_000).unwrap();
        assert!(matches!(done.ended, Ended::Exit(3)));
        let child: u32 = done.said[0].parse().unwrap();
        // The signal was sent; on a busy machine the process takes a moment to end by it.
        let state = || std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let ended = |state: &str| state.is_empty() || state.contains(") Z ");
        let begun = Instant::now();
        while !ended(&state()) && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(ended(&state()), "{}", state());
    }

    #[test]
    fn a_second_one_is_not_run_beside_the_first() {
        let lock = std::env::temp_dir().join(format!("palisade-lock-{}", std::process::id()));
        // As a handler does whose arbiter was killed.
        let mut orphan = {
            let file = File::create(&lock).unwrap();
            file.lock().unwrap();
            Command::new("sleep")
                .arg("1000")
                .stdin(Stdio::from(file))
                .spawn()
                .unwrap()
        };
        let handler = || Handler {
            command: "exit 4",
            environment: Vec::new(),
            limit: Duration::from_secs(10),
            lock: &lock,
        };
        let why = handler().run().err().unwrap();
        assert!(why.contains("earlier life"), "{why}");
        orphan.kill().unwrap();
        orphan.wait().unwrap();
        assert!(matches!(handler().run().unwrap().ended, Ended::Exit(4)));
        std::fs::remove_file(&lock).unwrap();
    }
}
