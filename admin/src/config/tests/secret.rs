//! What must not be told.

use super::{LEAST, parse};
use std::format;
use std::string::ToString;

/// A secret must not be on a console or in a log, however the text around it is damaged.
#[test]
fn no_mistake_shows_a_secret() {
    let told = |text: &str| {
        let errors = parse(text).expect_err(text);
        let told = format!("{errors} {errors:?}");
        assert!(!told.contains("xyzzy"), "{told}");
        errors.to_string()
    };
    let peer = |line: &str| LEAST.replacen("[peer]", &format!("[peer]\n{line}"), 1);
    assert!(told(&peer("secret = \"xyzzy\"")).contains(
        "line 6, column 10: peer: secret: expected 16 to 128 printable ASCII characters in quotes; \
             it has 5\n  6 | secret = *******\n    |          ^^^^^^^"
    ));
    told(&peer("secret = [\"xyzzy-xyzzy-xyzzy\"]"));
    told(&peer("secret = \"xyzzy-xyzzy-xyzzy\u{e9}\""));
    // A slip of the pen in the key.
    told(&peer("sercet = \"xyzzy-xyzzy-xyzzy\""));
    told(&peer("Secret = \"xyzzy-xyzzy-xyzzy\""));
    // Other names for it, DRBD's among them.
    for key in [
        "shared-secret",
        "shared_secret",
        "password",
        "passphrase",
        "token",
        "bearer-token",
        "PSK",
    ] {
        told(&peer(&format!("{key} = \"xyzzy-xyzzy-xyzzy\"")));
    }
    // Not TOML.
    told(&peer("secret = \"xyzzy-xyzzy-xyzzy"));
    told(&peer("secret = xyzzy-xyzzy-xyzzy"));
    told(&peer("secret: xyzzy-xyzzy-xyzzy"));
    told(&peer(
        "secret = \"\"\"\nxyzzy-xyzzy-xyzzy\nxyzzy\\q\n\"\"\"",
    ));
    told(&peer("secret = '''\nxyzzy-xyzzy-xyzzy\nxyzzy\u{0}\n'''"));
    told(&peer("secret = \"\"\"\nxyzzy-xyzzy-xyzzy\nxyzzy\\q\n"));
    // A mistake elsewhere on its line.
    told(&LEAST.replacen(
        "[peer]\nname = \"b\"",
        "[peer]\nsecret = \"xyzzy-xyzzy-xyzzy\" name = \"b\"",
        1,
    ));
    told("peer = { name = 5, secret = \"xyzzy-xyzzy-xyzzy\", port = 1 }\n");
    // Nothing is hidden without need.
    let other = told(&LEAST.replacen("[node]", "[disk]\non-io-error = \"pass_on\"\n[node]", 1));
    assert!(
        other.contains("\n  2 | on-io-error = \"pass_on\"\n"),
        "{other}"
    );
}
