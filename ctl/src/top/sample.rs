//! What is known of a node, and the rates that two looks at its counters give.

use crate::status::Status;
use std::collections::VecDeque;
use std::time::Instant;

/// Looks that the plots go back.
pub const HISTORY: usize = 240;

/// A node as the view has it.
#[derive(Debug)]
pub struct View {
    /// What the user calls it.
    pub name: String,
    /// The newest answer; it stays when the node does not answer any more.
    pub status: Option<Status>,
    /// When that came.
    pub at: Option<Instant>,
    /// Why there is no newer one.
    pub trouble: Option<String>,
    /// Bytes per second read by clients, the newest last.
    pub reads: VecDeque<u64>,
    /// Bytes per second written by clients, the newest last.
    pub writes: VecDeque<u64>,
}

impl View {
    /// Of a node that was not looked at yet.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            status: None,
            at: None,
            trouble: None,
            reads: VecDeque::new(),
            writes: VecDeque::new(),
        }
    }

    /// Takes what a look found.
    pub fn take(&mut self, now: Instant, look: Result<Status, String>) {
        let status = match look {
            Ok(status) => status,
            Err(why) => {
                self.trouble = Some(why);
                return;
            }
        };
        self.trouble = None;
        if let Some(before) = &self.status
            // After a restart the counters begin anew.
            && status.uptime_us > before.uptime_us
        {
            // By the node's own clock: how long the answer took to come does not count.
            let micros = status.uptime_us - before.uptime_us;
            let (read_before, written_before) = sums(before);
            let (read, written) = sums(&status);
            remember(&mut self.reads, rate(read_before, read, micros));
            remember(&mut self.writes, rate(written_before, written, micros));
        }
        self.status = Some(status);
        self.at = Some(now);
    }
}

fn sums(status: &Status) -> (u64, u64) {
    let read = status.volumes.iter().map(|volume| volume.read_bytes);
    let written = status.volumes.iter().map(|volume| volume.written_bytes);
    (read.sum(), written.sum())
}

fn rate(before: u64, after: u64, micros: u64) -> u64 {
    let bytes = u128::from(after.saturating_sub(before));
    u64::try_from(bytes * 1_000_000 / u128::from(micros)).unwrap_or(u64::MAX)
}

fn remember(rates: &mut VecDeque<u64>, rate: u64) {
    if rates.len() == HISTORY {
        rates.pop_front();
    }
    rates.push_back(rate);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn status(uptime: u64, read: u64, written: u64) -> Status {
        Status::read(&format!(
            "{{\"schema\":1,\"uptime_us\":{uptime},\"volumes\":[{{\"read_bytes\":{read},\"written_bytes\":{written}}}]}}"
        ))
        .unwrap()
    }

    #[test]
    fn rates_are_by_the_nodes_clock_and_begin_anew_after_a_restart() {
        let mut view = View::new("a");
        let now = Instant::now();
        view.take(now, Ok(status(1_000_000, 0, 500)));
        assert!(view.reads.is_empty());
        view.take(now, Ok(status(1_500_000, 4096, 500)));
        assert_eq!(
            (view.reads.back(), view.writes.back()),
            (Some(&8192), Some(&0))
        );
        view.take(now, Ok(status(10, 0, 0)));
        assert_eq!(view.reads.len(), 1);
        for second in 1..1000 {
            view.take(now, Ok(status(second * 1_000_000, 0, 0)));
        }
        assert_eq!(view.reads.len(), HISTORY);
    }

    #[test]
    fn a_node_that_is_away_keeps_what_was_known() {
        let mut view = View::new("a");
        view.take(Instant::now(), Ok(status(1, 0, 0)));
        view.take(Instant::now(), Err("gone".into()));
        assert!(view.status.is_some() && view.trouble.as_deref() == Some("gone"));
        view.take(Instant::now(), Ok(status(2, 0, 0)));
        assert_eq!(view.trouble, None);
    }
}
