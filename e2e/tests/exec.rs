//! Commands by the web.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::Node;
use e2e::console::Console;
use e2e::tools::wait_for;
use e2e::web::{Web, code};
use std::time::Duration;

const TOKEN: &str = "sixteen-letters-and-more";

#[test]
fn verbs_are_those_of_the_console() {
    let web = Web::boot(&["--http-token", TOKEN, "--policy", "resource-only"]);
    let exec = |command| web.exec(Node::A, TOKEN, command);
    let (code, head, body) = exec("version");
    assert_eq!(code, 200, "{body}");
    assert!(head.contains("\r\nPalisade-Exit-Status: 0"), "{head}");
    assert_eq!(body, web.pair.must_exec(Node::A, "version"));
    assert!(exec("config show").2.contains("token = \"(set)\""));
    // Lines end with line feeds, and nothing of a prompt is in them.
    let (_, _, status) = exec("status");
    assert!(status.starts_with("a: Primary/UpToDate"), "{status}");
    assert!(
        status.ends_with('\n') && !status.contains(['\r', '\u{1b}', '>']),
        "{status:?}"
    );
    // What is known now, although events without --now go on for ever.
    let (code, _, events) = exec("events --json");
    assert!(
        code == 200 && events.contains("\"object\":\"-\""),
        "{events}"
    );

    // It acts, as seen by another way in.
    assert_eq!(exec("suspend-io").0, 200);
    let status = web.pair.must_exec(Node::A, "status --json");
    assert!(status.contains("\"user\":true"), "{status}");
    assert_eq!(exec("resume-io").0, 200);
    assert_eq!(exec("verify vol0").0, 200);

    // Refusals, in the console's words. Nobody is asked: what needs a word needs it in the command.
    for (command, word) in [
        ("pirmary", "did you mean 'primary'?"),
        ("unfence 7", "--yes"),
        ("invalidate vol0", "error:"),
        ("watch status", "watch is for a terminal"),
        ("reboot", "--force"),
    ] {
        let client = e2e::nbd::Client::open(web.pair.port(Node::A), "vol0").expect("it serves");
        let (code, head, body) = exec(command);
        assert_eq!(code, 422, "{command}: {body}");
        assert!(head.contains("\r\nPalisade-Exit-Status: 1"), "{head}");
        assert!(body.contains(word), "{command}: {body}");
        drop(client);
    }
}

#[test]
fn only_who_has_the_token_commands_and_the_log_says_who_it_was() {
    let web = Web::boot(&["--http-token", TOKEN]);
    for wrong in [
        "sixteen-letters-and-mora",
        "x",
        "sixteen-letters-and-more.",
        "",
    ] {
        let (code, head, _) = web.exec(Node::A, wrong, "suspend-io");
        assert_eq!(code, 401, "{wrong}");
        assert!(head.contains("\r\nWWW-Authenticate: Bearer"), "{head}");
    }
    let get = web.say(Node::A, b"GET /v1/exec HTTP/1.0\r\n\r\n");
    assert!(code(&get) == 405 && get.contains("Allow: POST"), "{get}");
    assert_eq!(web.exec(Node::A, TOKEN, "suspend-io").0, 200);
    assert_eq!(web.exec(Node::A, TOKEN, "resume-io").0, 200);
    let log = web.pair.must_exec(Node::A, "log 100");
    let about = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    // QEMU's user networking speaks for the host.
    assert_eq!(about("http: 10.99.0."), 3, "{log}");
    assert_eq!(about(": suspend-io"), 1, "{log}");
    assert_eq!(about("a wrong token"), 1, "{log}");
    assert!(!log.contains("letters"), "{log}");

    // Node b has it, too, and a node whose configuration has none does not take it.
    assert_eq!(web.exec(Node::B, TOKEN, "version").0, 200);
    let off = Web::boot(&[]);
    let (code, _, body) = off.exec(Node::A, TOKEN, "suspend-io");
    assert!(
        code == 403 && body.contains("commands are off"),
        "{code} {body}"
    );
}

#[test]
fn the_console_is_shared_and_a_node_that_goes_down_says_so() {
    let web = Web::boot(&["--http-token", TOKEN]);
    let exec = |command| web.exec(Node::B, TOKEN, command);
    let mut console = Console::open(&web.pair.dir().join("b.console"));
    assert!(console.answers(20));
    // A half-typed line stays, and shows nothing of another's output.
    console.type_keys(b"vers");
    assert_eq!(exec("net").0, 200);
    console.type_keys(b"ion\r");
    let seen = console.read_for(Duration::from_secs(2));
    assert!(seen.contains("peer protocol"), "{seen}");
    assert!(!seen.contains("link up"), "{seen}");
    // Who looks on at the terminal has left it when somebody has something to do, and a question is answered with no.
    for (begin, shown, after) in [
        (&b"events\r"[..], "exists", "b> "),
        (b"secondary --force\r", "go on? y/n", "nothing was done"),
    ] {
        console.type_keys(begin);
        let mut seen = String::new();
        wait_for("what the terminal shows", 20, || {
            seen += &console.read_for(Duration::from_millis(100));
            seen.contains(shown).then_some(())
        });
        assert_eq!(exec("version").0, 200);
        let mut seen = String::new();
        wait_for("the end of that", 20, || {
            seen += &console.read_for(Duration::from_millis(100));
            seen.contains(after).then_some(())
        });
    }
    drop(console);

    let (code, _, body) = exec("reboot");
    assert_eq!((code, &*body), (200, "rebooting\n"));
    wait_for("the node is back", 60, || {
        let uptime = web.pair.exec(Node::B, "status --json").ok()?;
        let status: serde_json::Value = serde_json::from_str(&uptime).ok()?;
        (status["uptime_us"].as_u64()? < 20_000_000).then_some(())
    });
    assert_eq!(exec("version").0, 200);
}
