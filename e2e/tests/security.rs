//! The link between the nodes with a secret: encrypted in each way, and refused when the secrets differ.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::tools::{must, pattern, scratch};
use e2e::{Node, Pair};

#[test]
fn encrypted_links_mirror_and_resync() {
    let dir = scratch();
    let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
    let (there, back) = (path("there"), path("back"));
    std::fs::write(&there, pattern(8, 64 << 20)).expect("a writable directory");
    for mode in ["aes-256-gcm", "chacha20-poly1305"] {
        let pair = Pair::boot_with(&["--integrity", mode]);
        let shown = pair.must_exec(Node::A, "config show");
        assert!(shown.contains(mode), "{shown}");
        let uri = pair.uri(0);
        must("nbdcopy", &["--flush", &there, &uri], 120);
        must("nbdcopy", &[&uri, &back], 120);
        assert!(
            std::fs::read(&there).expect("ours") == std::fs::read(&back).expect("a copy"),
            "what came back differs"
        );
        pair.kill(Node::B);
        pair.qemu_io(&uri, &["write -P 0x44 8M 8M", "flush"], 60);
        pair.start(Node::B);
        pair.wait_in_sync(60);
        pair.assert_identical_after_clean_stop(1);
    }
}

#[test]
fn another_secret_is_refused_with_a_clear_word_on_both_consoles() {
    let pair = Pair::boot_with(&["--integrity", "aes-256-gcm"]);
    let config = pair.dir().join("b.toml");
    let good = std::fs::read_to_string(&config).expect("its configuration");
    let secret = good
        .lines()
        .find_map(|line| line.strip_prefix("secret = "))
        .expect("a secret");
    // The console does not give it away.
    let shown = pair.must_exec(Node::B, "config show");
    assert!(!shown.contains(secret.trim_matches('"')), "{shown}");
    let cases = [
        (
            good.replace(secret, "\"an entirely different secret\""),
            "secret",
        ),
        (
            good.replace("aes-256-gcm", "chacha20-poly1305"),
            "integrity",
        ),
        (
            good.replace("integrity = \"aes-256-gcm\"\n", "")
                .replace(&format!("secret = {secret}\n"), ""),
            "secret",
        ),
    ];
    for (bad, word) in cases {
        pair.kill(Node::B);
        std::fs::write(&config, bad).expect("writable");
        pair.start(Node::B);
        for node in [Node::A, Node::B] {
            let status = pair.wait_status(node, "told what is wrong", 30, |s| {
                s.0["reason"]
                    .as_str()
                    .is_some_and(|reason| reason.contains(word))
            });
            assert_ne!(status.connection(), "Connected");
            let status = pair.must_exec(node, "status");
            assert!(status.contains(word), "{status}");
        }
        // The clients are served meanwhile.
        pair.qemu_io(&pair.uri(0), &["write -P 0x45 0 64k", "flush"], 30);
    }
    pair.kill(Node::B);
    std::fs::write(&config, good).expect("writable");
    pair.start(Node::B);
    pair.wait_in_sync(60);
    pair.assert_identical_after_clean_stop(1);
}
