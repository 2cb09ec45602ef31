//! `palisade-arbiter promote` with a real pair: a person or a cluster manager has a node become Primary.

use e2e::tools::text;
use e2e::{Node, Pair};
use serde_json::Value;

/// Exit status and what was said, as JSON.
fn promote(pair: &Pair, node: &str) -> (i32, Value) {
    let words = [
        "arbiter",
        "promote",
        "r0",
        node,
        "--timeout",
        "60",
        "--json",
    ];
    let output = pair.script(&words);
    let said = text(&output.stdout);
    let object = serde_json::from_str(&said)
        .unwrap_or_else(|error| panic!("{error}: {said} {}", text(&output.stderr)));
    (output.status.code().unwrap_or(-1), object)
}

#[test]
fn the_arbiter_has_a_standby_promoted_when_its_primary_is_dead_and_not_while_it_lives() {
    let pair = Pair::boot_fenced("resource-and-stonith", &[]);
    pair.qemu_io(&pair.node_uri(Node::A, 0), &["write -P 0x11 0 64k"], 30);
    let (code, said) = promote(&pair, "b");
    assert_eq!(code, 1, "{said}");
    assert_eq!(said["outcome"], "denied", "{said}");
    assert_eq!(said["reason"], "peer-is-primary", "{said}");
    assert_eq!(pair.status(Node::A).role(), "Primary");
    // For a person, the reason is on standard error.
    let output = pair.script(&["arbiter", "promote", "r0", "b"]);
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("b does not become Primary: its peer is Primary"),
        "{said}"
    );
    let (code, said) = promote(&pair, "a");
    assert_eq!((code, &said["outcome"]), (0, &"already-primary".into()));
    let log = pair.must_exec(Node::B, "log 50");
    assert!(
        log.contains("not promoted, as the arbiter's administrator wanted"),
        "{log}"
    );

    // Dead: by a fence.
    pair.kill(Node::A);
    let (code, said) = promote(&pair, "b");
    assert_eq!((code, &said["outcome"]), (0, &"primary".into()), "{said}");
    assert_eq!(pair.status(Node::B).role(), "Primary");
    let Some((episode, "held")) = pair.status(Node::B).fence() else {
        panic!("{:?}", pair.status(Node::B));
    };
    assert_eq!(pair.journal(), [format!("FENCE b {episode}")]);
    pair.qemu_io(
        &pair.node_uri(Node::B, 0),
        &["read -P 0x11 0 64k", "write -P 0x12 0 64k"],
        30,
    );
    // Nobody answers for the dead one.
    let words = ["arbiter", "promote", "r0", "a", "--timeout", "2", "--json"];
    let output = pair.script(&words);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("\"outcome\": \"no-answer\""));

    // Back in sync, roles are changed in order, without a fence.
    pair.start(Node::A);
    pair.wait_in_sync(60);
    pair.wait_status(Node::B, "without a fence", 30, |status| {
        status.fence().is_none()
    });
    pair.must_exec(Node::B, "secondary");
    let (code, said) = promote(&pair, "a");
    assert_eq!((code, &said["outcome"]), (0, &"primary".into()), "{said}");
    assert_eq!(pair.status(Node::A).role(), "Primary");
    pair.qemu_io(&pair.node_uri(Node::A, 0), &["read -P 0x12 0 64k"], 30);
    assert_eq!(
        pair.journal(),
        [format!("FENCE b {episode}"), format!("UNFENCE b {episode}")]
    );
    pair.assert_identical_after_clean_stop(1);
}
