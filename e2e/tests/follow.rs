//! Following a node: `events` and `watch`.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::console::Console;
use e2e::tools::{palisadectl, wait_for};
use e2e::{Node, Pair};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

fn json(output: &str) -> Vec<Value> {
    let lines = output.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("JSON lines")
}

#[test]
fn events_tell_a_script_what_happened_since_it_last_asked() {
    let pair = Pair::boot();
    pair.wait_in_sync(60);
    let state = json(&pair.must_exec(Node::A, "events --json"));
    let end = state.last().expect("a last line");
    assert_eq!(end["object"], "-");
    let seen = end["seq"].as_u64().expect("a number");
    assert!(state.iter().all(|line| line["event"] == "exists"));
    for object in ["resource", "connection", "path", "device", "peer-device"] {
        assert!(
            state.iter().any(|l| l["object"] == object),
            "{object}: {state:?}"
        );
    }
    // To be in sync took some steps, each of which was told once.
    let all = json(&pair.must_exec(Node::A, "events --json --since 0"));
    let numbers: Vec<u64> = all.iter().filter_map(|l| l["seq"].as_u64()).collect();
    let wanted: Vec<u64> = (1..=seen).chain([seen]).collect();
    assert_eq!(numbers, wanted, "{all:?}");
    let went: Vec<&str> = all
        .iter()
        .filter_map(|l| l["connection"].as_str())
        .collect();
    assert_eq!(went.last(), Some(&"Connected"), "{all:?}");

    pair.must_exec(Node::B, "disconnect");
    pair.wait_status(Node::A, "alone", 30, |s| s.connection() != "Connected");
    let news = pair.must_exec(Node::A, &format!("events --since {seen}"));
    let first = news.lines().next().expect("a line");
    assert!(first.contains(&format!(" {} change ", seen + 1)), "{news}");
    assert!(news.contains("peer-disk:"), "{news}");
    let end = news.lines().last().expect("a line");
    assert!(end.contains(" exists - boot:"), "{news}");
    assert!(!news.contains("exists resource"), "{news}");
    // A number that was never given: the state again.
    let again = pair.must_exec(Node::A, "events --since 999999");
    assert!(again.contains("exists resource"), "{again}");
}

/// A process that ends with the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }
}

#[test]
fn palisadectl_follows_and_misses_nothing_across_a_restart() {
    let pair = Pair::boot();
    pair.wait_in_sync(60);
    let child = Command::new(palisadectl())
        .arg("--dir")
        .arg(pair.dir())
        .args(["-n", "b", "events"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("palisadectl");
    let mut child = Ended(child);
    let out = BufReader::new(child.0.stdout.take().expect("a pipe"));
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut seen = Vec::new();
    let mut until = |words: &[&str]| {
        seen.clear();
        wait_for("an event", 60, || {
            seen.extend(lines.try_iter());
            let found = |line: &String| words.iter().all(|word| line.contains(word));
            seen.iter().any(found).then(|| seen.clone())
        })
    };
    until(&["exists -"]);
    pair.must_exec(Node::A, "disconnect");
    until(&["change connection"]);
    pair.must_exec(Node::A, "connect");
    let back = until(&["change peer-device", "replication:Established"]);
    assert!(!back.iter().any(|line| line.contains("exists")), "{back:?}");
    // The node starts again, and its numbers with it.
    pair.must_exec(Node::B, "reboot");
    let again = until(&["exists -"]);
    assert!(
        again.iter().any(|line| line.contains("exists resource")),
        "{again:?}"
    );
    // The console is free for others in between.
    assert!(pair.must_exec(Node::B, "version").contains("Palisade"));
}

#[test]
fn a_person_follows_until_q_and_a_script_ends_what_was_left_running() {
    let pair = Pair::boot();
    pair.wait_in_sync(60);
    let console = pair.dir().join("a.console");
    let mut person = Console::open(&console);
    let mut shown = String::new();
    let mut until = |person: &mut Console, words: &str| {
        shown.clear();
        wait_for(words, 30, || {
            shown += &person.read_for(Duration::from_millis(100));
            shown.contains(words).then(|| shown.clone())
        })
    };
    person.type_keys(b"events\r");
    until(&mut person, "exists -");
    pair.must_exec(Node::B, "disconnect");
    until(&mut person, "change connection");
    person.type_keys(b"xq");
    until(&mut person, "a> ");

    person.type_keys(b"watch status\r");
    until(&mut person, "a: Primary");
    pair.must_exec(Node::B, "connect");
    until(&mut person, "connection: Connected");
    person.type_keys(b"\x03");
    until(&mut person, "a> ");
    person.type_keys(b"watch primary\r");
    until(&mut person, "a verb that only looks");

    // What drops clients is asked about first; a script that comes in between is no yes.
    let primary = || pair.status(Node::B).peer_role() == "Primary";
    person.type_keys(b"secondary --force\r");
    let asked = until(&mut person, "go on? y/n");
    let said = "now: b is connected and UpToDate, and can become Primary";
    assert!(asked.contains(said), "{asked}");
    person.type_keys(b"n");
    until(&mut person, "nothing was done");
    person.type_keys(b"secondary --force --dry-run\r");
    until(&mut person, "nothing was done");
    person.type_keys(b"secondary --force\r");
    until(&mut person, "go on? y/n");
    person.type_keys(b"\x01x1 version\r");
    let answered = until(&mut person, "peer protocol");
    assert!(answered.contains("nothing was done"), "{answered}");
    assert!(primary(), "nobody said yes");
    person.type_keys(b"secondary --force\r");
    until(&mut person, "go on? y/n");
    person.type_keys(b"y");
    wait_for("the end of the role", 30, || (!primary()).then_some(()));

    // The one who watches goes away without a word; a script's command works at once.
    person.type_keys(b"watch status\r");
    until(&mut person, "a: Secondary");
    drop(person);
    assert!(pair.must_exec(Node::A, "version").contains("Palisade"));
    let refused = pair.exec(Node::A, "watch status").expect_err("no terminal");
    assert!(refused.contains("for a terminal"), "{refused}");
}
