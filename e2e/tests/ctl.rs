//! `palisadectl` with a real pair.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{free_port, palisadectl, run, text};
use e2e::web::Web;
use e2e::{Node, Pair};
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

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

    let screen = top(&format!("--dir {}", pair.dir().display()));
    for words in ["Primary", "Secondary", "UpToDate", "vol0"] {
        assert!(screen.contains(words), "{words} is not in {screen:?}");
    }
}

/// What `top` with these options shows, until `q`.
fn top(options: &str) -> String {
    // A terminal of util-linux's `script`, which ends with its command; `q` comes when there was time for some looks.
    let command = format!(
        "stty cols 100 rows 40; exec {} {options} top --interval 0.2",
        palisadectl().display(),
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
    screen
}

#[test]
fn nodes_are_reached_by_the_web_as_well() {
    const TOKEN: &str = "sixteen-letters-and-more";
    let web = Web::boot(&["--http-token", TOKEN]);
    web.pair.wait_in_sync(60);
    let address = |node| format!("http://127.0.0.1:{}", web.port(node));
    let (a, b) = (address(Node::A), address(Node::B));
    let file = web.pair.dir().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("a file");
    let file = file.to_str().expect("UTF-8");
    let ctl = |arguments: &[&str]| {
        let program = palisadectl().to_str().expect("UTF-8");
        run(
            program,
            &[&["--token-file", file][..], arguments].concat(),
            60,
        )
    };

    // Output and exit status are those by the console.
    let version = ctl(&["-n", &a, "version"]);
    assert_eq!(version.status.code(), Some(0), "{}", text(&version.stderr));
    assert_eq!(
        text(&version.stdout),
        web.pair.must_exec(Node::A, "version")
    );
    let status = ctl(&["-n", &b, "status"]);
    assert!(text(&status.stdout).starts_with("b: Secondary/UpToDate"));
    let refused = ctl(&["-n", &b, "primary"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).starts_with("error:"),
        "{}",
        text(&refused.stderr)
    );
    assert_eq!(ctl(&["-n", &a, "verify", "vol0"]).status.code(), Some(0));
    let watched = ctl(&[
        "-n",
        &a,
        "watch",
        "--count",
        "2",
        "--interval",
        "0.1",
        "version",
    ]);
    assert_eq!(text(&watched.stdout).matches("peer protocol").count(), 2);

    // No token, a wrong one, nobody there, two nodes for one command.
    let program = palisadectl().to_str().expect("UTF-8");
    let denied = run(program, &["-n", &a, "suspend-io"], 60);
    assert_eq!(denied.status.code(), Some(1));
    assert!(
        text(&denied.stderr).contains("PALISADE_TOKEN"),
        "{}",
        text(&denied.stderr)
    );
    let wrong = run(
        "env",
        &["PALISADE_TOKEN=wrong", program, "-n", &a, "suspend-io"],
        60,
    );
    assert_eq!(wrong.status.code(), Some(1));
    assert!(
        text(&wrong.stderr).contains("refuses: commands need the token"),
        "{}",
        text(&wrong.stderr)
    );
    let right = run(
        "env",
        &[&format!("PALISADE_TOKEN={TOKEN}"), program, "-n", &a, "net"],
        60,
    );
    assert_eq!(right.status.code(), Some(0), "{}", text(&right.stderr));
    let nobody = format!("http://127.0.0.1:{}", free_port());
    assert_eq!(ctl(&["-n", &nobody, "status"]).status.code(), Some(2));
    assert_eq!(ctl(&["-n", &a, "-n", &b, "status"]).status.code(), Some(64));
    assert_eq!(
        ctl(&["-n", "https://127.0.0.1", "status"]).status.code(),
        Some(64)
    );

    // What is only looked at needs no token.
    let screen = top(&format!("-n {a} -n {b}"));
    for words in ["Primary", "Secondary", "UpToDate", "vol0"] {
        assert!(screen.contains(words), "{words} is not in {screen:?}");
    }
    // Events: the same lines as on the console, and on through a restart of the node.
    let mut follower = Command::new(program)
        .args(["-n", &a, "events"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("its output")).lines();
    let mut until = |what: &str| {
        let mut lines = lines.by_ref().map(|line| line.expect("text"));
        lines.find(|line| line.contains(what)).expect(what)
    };
    let resource = until(" exists resource ");
    let known = web.pair.must_exec(Node::A, "events --now");
    let (_, told) = resource.split_once(" exists ").expect("an event");
    assert!(known.contains(told), "{told} is not in {known}");
    until(" exists - boot:");
    web.pair.cut("replication");
    until(" change connection ");
    web.pair.restore("replication");
    web.pair.kill(Node::A);
    web.pair.start(Node::A);
    until(" exists - boot:");
    follower.kill().expect("it runs");
    let _ = follower.wait();
}
