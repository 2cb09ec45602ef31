//! The console's verbs that go on until somebody has enough of them: `events` and `watch`.

use alloc::string::String;
use core::cell::RefCell;
use core::fmt::Write;

use admin::console::{Origin, Submitted};
use admin::events::{Follower, Format, Line};
use admin::verbs::{self, Act};
use embassy_time::{Duration, with_timeout};
use replication::api::Text;

use super::console::Terminal;
use super::{Appliance, answers, signals};
use crate::time;

/// As much output is gathered before it is sent, at least.
const CHUNK: usize = 2048;
/// How long somebody may think about a question.
const THINKING: Duration = Duration::from_secs(60);
/// How often `watch` looks.
const INTERVAL: Duration = Duration::from_secs(1);

impl Terminal {
    /// `events`; `once`: only what is known now, and how far that is.
    pub(super) async fn events(
        &mut self,
        appliance: &'static RefCell<Appliance>,
        since: Option<u64>,
        format: Format,
        once: bool,
    ) -> Result<Text, Text> {
        let mut follower = since.map_or_else(Follower::default, Follower::after);
        let mut ended = false;
        loop {
            let more = {
                let appliance = appliance.borrow();
                let Some(node) = &appliance.node else {
                    return Err(answers::not_running());
                };
                let (journal, now) = (&node.core.journal, time::now_micros());
                let line = follower.next(journal, now).or_else(|| {
                    let sequence = follower.seen();
                    let end = Line::End { sequence, at: now };
                    (once && !ended).then_some(end)
                });
                if let Some(line) = &line {
                    ended = matches!(line, Line::End { .. });
                    // Writing to a reply cannot fail.
                    let _ = journal.write(line, format, &mut self.console.reply(&mut self.out));
                }
                line.is_some()
            };
            if more {
                if self.out.len() > CHUNK {
                    self.send().await;
                }
                continue;
            }
            if once {
                return Ok(Text::new());
            }
            self.print_log();
            self.send().await;
            if self.is_enough() {
                return Ok(Text::new());
            }
            signals::CONSOLE.wait().await;
        }
    }

    /// `watch`: the verb that begins at `at` in the line, each second and whenever a state is different.
    pub(super) async fn watch(
        &mut self,
        appliance: &'static RefCell<Appliance>,
        submitted: &Submitted,
        at: usize,
    ) -> Result<Text, Text> {
        if submitted.origin != Origin::Person {
            let refused = "watch is for a terminal; a script gives the verb again and again";
            return Err(Text::try_from(refused).unwrap_or_default());
        }
        let line = &submitted.line[at..];
        let Ok(Some(verb)) = verbs::parse(line, &self.volumes) else {
            // The parser has let it through a moment ago.
            return Ok(Text::new());
        };
        self.console.clear_screen(&mut self.out);
        let mut text = String::new();
        loop {
            text.clear();
            answers::answer(&appliance.borrow(), verb, &mut text)?;
            // What was logged meanwhile stands in the log, and would move the picture.
            self.console.picture(&text, &mut self.out);
            self.send().await;
            let changed = async {
                let before = events_so_far(appliance);
                loop {
                    signals::CONSOLE.wait().await;
                    if self.is_enough() {
                        return true;
                    }
                    if events_so_far(appliance) != before {
                        return false;
                    }
                }
            };
            if with_timeout(INTERVAL, changed).await == Ok(true) {
                return Ok(Text::new());
            }
        }
    }
}

fn events_so_far(appliance: &RefCell<Appliance>) -> u64 {
    let appliance = appliance.borrow();
    appliance
        .node
        .as_ref()
        .map_or(0, |node| node.core.journal.last())
}

impl Terminal {
    /// Says what something would do as things are.
    pub(super) fn foretell(&mut self, appliance: &RefCell<Appliance>, act: Option<Act>) {
        let appliance = appliance.borrow();
        if let (Some(node), Some(act)) = (&appliance.node, act) {
            let status = node.core.engine.status(time::now_micros());
            // Writing to a reply cannot fail.
            let _ = verbs::foretell(act, &status, &mut self.console.reply(&mut self.out));
        }
    }

    /// Asks the one at the terminal whether it is meant. No answer is no.
    pub(super) async fn confirmed(&mut self) -> bool {
        // Writing to a reply cannot fail.
        let _ = writeln!(self.console.reply(&mut self.out), "go on? y/n");
        self.send().await;
        let answered = async {
            loop {
                if let Some(yes) = self.answered() {
                    return yes;
                }
                self.print_log();
                self.send().await;
                signals::CONSOLE.wait().await;
            }
        };
        with_timeout(THINKING, answered).await == Ok(true)
    }
}
