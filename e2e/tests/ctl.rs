//! `palisadectl` with a real pair.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{palisadectl, run, text};
use e2e::{Node, Pair};
use std::process::Output;

/// Runs `palisadectl` for the pair.
fn ctl(pair: &Pair, arguments: &[&str]) -> Output {
    let program = palisadectl().to_str().expect("UTF-8");
    let dir = pair.dir().to_str().expect("UTF-8");
    run(program, &[&["--dir", dir][..], arguments].concat(), 60)
}

#[test]
fn verbs_reach_the_named_node_and_the_exit_status_tells_how_it_went() {
    let pair = Pair::boot();
    pair.wait_in_sync(60);

    let status = ctl(&pair, &["-n", "a", "status", "--json"]);
    assert_eq!(status.status.code(), Some(0), "{}", text(&status.stderr));
    assert!(text(&status.stdout).contains("\"node\":\"a\""));
    let status = ctl(&pair, &["-n", "b", "status"]);
    assert!(text(&status.stdout).starts_with("b: Secondary/UpToDate"));

    // A node that refuses, words that nobody knows, no node, no word which.
    let refused = ctl(&pair, &["-n", "b", "primary"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("error:"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(
        ctl(&pair, &["-n", "b", "primary", "--farce"]).status.code(),
        Some(64)
    );
    assert_eq!(ctl(&pair, &["-n", "b", "pirmary"]).status.code(), Some(64));
    assert_eq!(ctl(&pair, &["-n", "c", "status"]).status.code(), Some(2));
    let which = ctl(&pair, &["status"]);
    assert_eq!(which.status.code(), Some(64));
    assert!(
        text(&which.stderr).contains("a, b"),
        "{}",
        text(&which.stderr)
    );

    // A verb that changes something, seen by another way in.
    let done = ctl(&pair, &["-n", "a", "suspend-io"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(
        pair.must_exec(Node::A, "status --json")
            .contains("\"user\":true")
    );
    assert!(ctl(&pair, &["-n", "a", "resume-io"]).status.success());

    let watched = ctl(
        &pair,
        &[
            "-n",
            "a",
            "watch",
            "--count",
            "3",
            "--interval",
            "0.1",
            "version",
        ],
    );
    assert!(watched.status.success());
    assert_eq!(text(&watched.stdout).matches("peer protocol").count(), 3);

    // A paused node does not answer, and the others' way to its console is free again.
    pair.pause(Node::B);
    let silent = ctl(&pair, &["--timeout", "1", "-n", "b", "status"]);
    assert_eq!(silent.status.code(), Some(2), "{}", text(&silent.stderr));
    assert!(
        text(&silent.stderr).contains("paused"),
        "{}",
        text(&silent.stderr)
    );
    pair.resume(Node::B);
    assert!(pair.must_exec(Node::B, "version").contains("Palisade"));
}

#[test]
fn top_shows_both_nodes_and_leaves_by_a_key() {
    let pair = Pair::boot();
    pair.wait_in_sync(60);
    assert_eq!(
        ctl(&pair, &["top"]).status.code(),
        Some(64),
        "without a terminal"
    );

    // A terminal of util-linux's `script`, which ends with its command; `q` comes when there was time for some looks.
    let command = format!(
        "stty cols 100 rows 40; exec {} --dir {} top --interval 0.2",
        palisadectl().display(),
        pair.dir().display()
    );
    let seen = run(
        "sh",
        &[
            "-c",
            "(sleep 4; printf q; sleep 2) | script -qec \"$1\" /dev/null",
            "-",
            &command,
        ],
        60,
    );
    let screen = text(&seen.stdout);
    assert_eq!(seen.status.code(), Some(0), "{screen}");
    // The terminal's own screen is given back.
    assert!(screen.contains("\x1b[?1049h") && screen.contains("\x1b[?1049l"));
    for words in ["Primary", "Secondary", "UpToDate", "vol0"] {
        assert!(screen.contains(words), "{words} is not in {screen:?}");
    }
}
