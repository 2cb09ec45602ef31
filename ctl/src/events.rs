//! `palisadectl events`: follows a node. On a console each look takes what has happened since the one before by its number, so nothing is missed in
//! between, and the console is free for others. By the web the node sends it.

use crate::error::Error;
use crate::node::{Node, Way};
use crate::web::Web;
use clap::ArgMatches;
use std::time::Duration;

/// How long a node may take for an answer that it has given before.
const PATIENCE: Duration = Duration::from_secs(5);

/// The time between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// Prints what becomes of a node's states until Ctrl-C.
///
/// # Errors
/// Those of the way to the node at the first look; [`Error::Refused`]; [`Error::Events`] for an answer that is not understood.
pub fn follow(node: &Node, matches: &ArgMatches, timeout: Duration) -> Result<(), Error> {
    let json = matches.get_flag("json");
    let since = matches.get_one::<String>("since").cloned();
    if let Way::Web(web) = &node.way {
        return follow_stream(web, since.as_deref(), json);
    }
    let mut place = Place {
        whole: since.is_none(),
        ..Place::default()
    };
    let mut command = command(json, since.as_deref());
    let mut away = false;
    loop {
        // Once it has answered, a node that does not is one that is being started again.
        let patience = if place.begun {
            timeout.min(PATIENCE)
        } else {
            timeout
        };
        let answer = node.run(&command, patience);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if place.begun => {
                if !std::mem::replace(&mut away, true) {
                    eprintln!("palisadectl: {error}; trying on");
                }
                std::thread::sleep(INTERVAL);
                continue;
            }
            Err(error) => return Err(error),
        };
        away = false;
        if !answer.done {
            return crate::deliver(&answer);
        }
        match place.take(&answer.output, json)? {
            Took::News(lines) => crate::print(lines.as_bytes())?,
            Took::Restarted => {
                // All of its state, at once.
                (place.boot, place.whole) = (String::new(), true);
                command = self::command(json, None);
                continue;
            }
        }
        command = self::command(json, Some(&place.sequence.to_string()));
        std::thread::sleep(INTERVAL);
    }
}

/// Prints what a node's stream of events brings.
fn follow_stream(web: &Web, since: Option<&str>, json: bool) -> Result<(), Error> {
    let since = since.map(|since| since.parse().map_err(|_| Error::Events(since.into())));
    let since = since.transpose()?;
    let mut stream = web.events(since, None)?;
    let mut away = false;
    loop {
        while let Some(event) = stream.next() {
            away = false;
            let line = if json {
                Some(event.clone())
            } else {
                text_of(&event)
            };
            let line = line.ok_or(Error::Events(event))?;
            crate::print(format!("{line}\n").as_bytes())?;
        }
        // It is being started again, or has had enough of this connection.
        std::thread::sleep(INTERVAL);
        let mark = stream.mark().map(str::to_owned);
        match web.events(since.filter(|_| mark.is_none()), mark.as_deref()) {
            Ok(again) => stream = again.after(mark),
            Err(error) if !std::mem::replace(&mut away, true) => {
                eprintln!("palisadectl: {error}; trying on");
            }
            Err(_) => {}
        }
    }
}

/// An event's line of JSON as the console prints it without `--json`.
fn text_of(event: &str) -> Option<String> {
    let event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(event).ok()?;
    let number = |key: &str| event.get(key)?.as_u64();
    let word = |key: &str| event.get(key)?.as_str();
    let (time, sequence) = (number("time_us")?, number("seq")?);
    let (seconds, micros) = (time / 1_000_000, time % 1_000_000);
    let (kind, object) = (word("event")?, word("object")?);
    let mut line = format!("{seconds}.{micros:06} {sequence} {kind} {object}");
    for (key, value) in event.iter().skip(4) {
        let value = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::Bool(true) => "yes".into(),
            serde_json::Value::Bool(false) => "no".into(),
            serde_json::Value::String(word) => word.clone(),
            other => other.to_string(),
        };
        line += &format!(" {}:{value}", key.replace('_', "-"));
    }
    Some(line)
}

fn command(json: bool, since: Option<&str>) -> String {
    let json = if json { " --json" } else { "" };
    let since = since.map_or(String::new(), |since| format!(" --since {since}"));
    format!("events --now{json}{since}")
}

/// How far the node was followed.
#[derive(Debug, Default)]
struct Place {
    /// The number of the last event.
    sequence: u64,
    /// Which boot of the node it is.
    boot: String,
    /// It has answered.
    begun: bool,
    /// It is asked for all of its state.
    whole: bool,
}

#[derive(Debug, PartialEq)]
enum Took {
    /// What is new.
    News(String),
    /// The node has booted meanwhile, and its numbers begin anew.
    Restarted,
}

impl Place {
    /// Takes an answer, whose last line says how far it goes.
    fn take(&mut self, answer: &str, json: bool) -> Result<Took, Error> {
        let not_understood = || Error::Events(answer.lines().last().unwrap_or("").into());
        let body = answer.trim_end_matches('\n');
        let (events, end) = body.rsplit_once('\n').unwrap_or(("", body));
        let (sequence, boot) = end_of(end, json).ok_or_else(not_understood)?;
        // Its numbers begin anew, and one may happen to be the same.
        if !self.boot.is_empty() && self.boot != boot {
            return Ok(Took::Restarted);
        }
        (self.sequence, self.boot) = (sequence, boot);
        // The end of the state is worth a line; that nothing has happened since is not.
        self.begun = true;
        let whole = std::mem::take(&mut self.whole);
        Ok(Took::News(match (whole, events.is_empty()) {
            (true, _) => format!("{body}\n"),
            (false, true) => String::new(),
            (false, false) => format!("{events}\n"),
        }))
    }
}

/// The number in the line that ends an answer, and of which boot it is.
fn end_of(line: &str, json: bool) -> Option<(u64, String)> {
    if json {
        let end: serde_json::Value = serde_json::from_str(line).ok()?;
        let word = |key: &str| end.get(key)?.as_str();
        return (word("object")? == "-")
            .then_some((end.get("seq")?.as_u64()?, word("boot")?.into()));
    }
    let words: Vec<&str> = line.split(' ').collect();
    let [_, sequence, "exists", "-", boot] = words[..] else {
        return None;
    };
    Some((sequence.parse().ok()?, boot.strip_prefix("boot:")?.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn news(place: &mut Place, answer: &str) -> String {
        match place.take(answer, false).unwrap() {
            Took::News(lines) => lines,
            Took::Restarted => panic!("{answer}"),
        }
    }

    #[test]
    fn the_state_once_and_then_only_what_is_new() {
        let mut place = Place {
            whole: true,
            ..Place::default()
        };
        let state =
            "1.500000 7 exists resource name:r0 role:Secondary\n1.500000 7 exists - boot:a1\n";
        assert_eq!(news(&mut place, state), state);
        assert_eq!((place.sequence, place.boot.as_str()), (7, "a1"));
        assert_eq!(news(&mut place, "2.000000 7 exists - boot:a1\n"), "");
        let event = "2.250000 8 change resource name:r0 role:Primary\n";
        assert_eq!(
            news(&mut place, &format!("{event}2.500000 8 exists - boot:a1\n")),
            event
        );
        assert_eq!(command(false, Some("8")), "events --now --since 8");
        // The node was switched off and on.
        let other = "9.100000 8 exists - boot:b2\n";
        assert_eq!(place.take(other, false).unwrap(), Took::Restarted);
    }

    #[test]
    fn json_becomes_the_consoles_text() {
        let line = "{\"seq\":8,\"time_us\":2250000,\"event\":\"change\",\"object\":\"peer-device\",\"name\":\"r0\",\"conn_name\":\"b\",\
                    \"volume\":0,\"replication\":\"SyncSource\",\"resync_suspended\":false,\"done\":12.0,\"out_of_sync\":4096,\"none\":null}";
        assert_eq!(
            text_of(line).unwrap(),
            "2.250000 8 change peer-device name:r0 conn-name:b volume:0 replication:SyncSource resync-suspended:no done:12.0 out-of-sync:4096"
        );
        let end = "{\"seq\":3,\"time_us\":5,\"event\":\"exists\",\"object\":\"-\",\"boot\":\"a1\"}";
        assert_eq!(text_of(end).unwrap(), "0.000005 3 exists - boot:a1");
        for bad in [
            "",
            "[]",
            "{}",
            "{\"seq\":3,\"time_us\":5,\"object\":\"fence\"}",
        ] {
            assert_eq!(text_of(bad), None, "{bad}");
        }
    }

    #[test]
    fn json_is_followed_as_well_and_anything_else_is_an_error() {
        let mut place = Place {
            whole: true,
            ..Place::default()
        };
        let end =
            "{\"seq\":3,\"time_us\":5,\"event\":\"exists\",\"object\":\"-\",\"boot\":\"a1\"}\n";
        assert_eq!(place.take(end, true).unwrap(), Took::News(end.into()));
        assert_eq!((place.sequence, place.boot.as_str()), (3, "a1"));
        for bad in [
            "",
            "\n",
            "{}\n",
            "{\"seq\":3,\"time_us\":5,\"object\":\"fence\"}\n",
        ] {
            assert!(
                matches!(place.take(bad, true), Err(Error::Events(_))),
                "{bad}"
            );
        }
        for bad in [
            "",
            "1.0 2 exists - a1",
            "1.0 2 exists -",
            "1.0 x exists - boot:a1",
        ] {
            assert!(
                matches!(place.take(bad, false), Err(Error::Events(_))),
                "{bad}"
            );
        }
    }
}
