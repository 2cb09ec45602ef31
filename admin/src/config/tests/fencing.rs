//! The policies of fencing and who is asked.

use super::*;

/// [`LEAST`] with another policy of fencing, and with this section `[management]`.
fn fenced(management: &str) -> String {
    let text = LEAST
        .replacen("\"r0\"", "\"r0\"\nfencing = \"resource-only\"", 1)
        .replacen("[\"replication\"]", "[\"replication\", \"management\"]", 1);
    format!("{management}{text}")
}

const SOUND: &str =
    "[management]\npeer = \"10.99.0.2\"\narbiter = \"10.99.0.3\"\nsecret = \"sixteen letters!\"\n";

#[track_caller]
fn mistake_in(text: &str) -> String {
    let errors = parse(text).expect_err(text);
    assert_eq!(errors.count(), 1, "{errors}");
    errors.problems()[0].to_string()
}

#[test]
fn sound_ones() {
    let config = parse(&fenced(SOUND)).unwrap();
    assert_eq!(config.resource.fencing, Fencing::ResourceOnly);
    let management = config.management.clone().unwrap();
    assert_eq!(management.port, MANAGEMENT_PORT);
    assert!(config.is_default("management.port"));
    let mut rendered = String::new();
    config.render(&mut rendered).unwrap();
    let mut again = parse(&rendered.replace("(set)", "sixteen letters!")).unwrap();
    again.defaulted.clone_from(&config.defaulted);
    assert_eq!(again, config, "{rendered}");

    assert_eq!(
        (management.notify, management.notify_timeout),
        (false, 150_000_000)
    );
    let told = SOUND.replace("secret", "notify = true\nnotify-timeout = \"1min\"\nsecret");
    let told = parse(&fenced(&told)).unwrap().management.unwrap();
    assert_eq!((told.notify, told.notify_timeout), (true, 60_000_000));

    // One who is asked is enough, and the secret of the link will do.
    for somebody in ["peer = \"10.99.0.2\"", "arbiter = \"10.99.0.3:1\""] {
        let text = fenced(&format!("[management]\n{somebody}\n"));
        let text = text.replacen("[peer]", "[peer]\nsecret = \"letters, sixteen\"", 1);
        let management = parse(&text).unwrap().management.unwrap();
        assert_eq!(management.secret.as_bytes(), b"letters, sixteen");
        let mut rendered = String::new();
        parse(&text).unwrap().render(&mut rendered).unwrap();
        assert!(
            rendered.contains("# secret: that of [peer]\n"),
            "{rendered}"
        );
        assert!(rendered.lines().all(|line| line.len() < 80), "{rendered}");
    }
}

#[test]
fn handlers_need_an_arbiter() {
    let text = fenced(
        "[management]\npeer = \"10.99.0.2\"\nnotify = true\nsecret = \"sixteen letters!\"\n",
    );
    let said = "line 3, column 10: management: notify: found true, and there is no arbiter that could run handlers; \
                expected its address (arbiter = \"...\")";
    assert!(mistake_in(&text).starts_with(said), "{}", mistake_in(&text));
}

#[test]
fn what_is_missing_is_said() {
    let cases = [
        (
            fenced(""),
            "line 5, column 11: resource: fencing: found \"resource-only\", and there is nobody to ask for a \
             fence; expected a section [management] with the peer's address (peer = \"...\"), the arbiter's \
             (arbiter = \"...\"), or both, and a [[nic]] with the role \"management\"",
        ),
        (
            fenced("[management]\nsecret = \"sixteen letters!\"\n"),
            "line 1, column 1: management: there is nobody to ask for a fence, which resource.fencing = \
             \"resource-only\" needs; expected the peer's address (peer = \"...\"), the arbiter's \
             (arbiter = \"...\"), or both",
        ),
        (
            fenced("[management]\npeer = \"10.99.0.2\"\n"),
            "line 1, column 1: management: there is no secret; expected secret = \"...\", 16 to 128 \
             characters, the same on both nodes and the arbiter, here or in [peer]",
        ),
        (
            format!("{SOUND}{LEAST}"),
            "line 1, column 1: management: no [[nic]] has the role \"management\", expected one; it may \
             have other roles, too",
        ),
        (
            fenced(&SOUND.replace("10.99.0.3", "10.98.0.3")),
            "line 3, column 11: management: arbiter: found 10.98.0.3, expected an address in 10.99.0.1/24, \
             the network of the [[nic]] with the role management (or give that a gateway)",
        ),
        (
            fenced(&SOUND.replace("10.99.0.2", "10.0.2.15")),
            "line 2, column 8: management: peer: found 10.0.2.15, which is this node's own address",
        ),
        (
            fenced(&SOUND.replace("10.99.0.3", "10.99.0.2:7790")),
            "line 3, column 11: management: arbiter: found 10.99.0.2:7790, which is the peer's; expected an \
             arbiter on a third machine",
        ),
        (
            fenced(SOUND).replacen("name = \"b\"", "name = \"arbiter\"", 1),
            "line 11, column 8: peer: name: found \"arbiter\", which is what the arbiter is called on the \
             management network; expected another",
        ),
        (
            fenced(&SOUND.replace("peer", "pear")),
            "line 2, column 1: management: unknown key \"pear\"; did you mean \"peer\"?",
        ),
        (
            fenced(&SOUND.replace("10.99.0.2", "b.example")),
            "line 2, column 8: management: peer: found \"b.example\", expected a host's IPv4 address and \
             port in quotes, such as \"10.99.0.2:7790\"",
        ),
    ];
    for (text, expected) in cases {
        let told = mistake_in(&text);
        assert!(
            told.starts_with(&format!("{expected}\n")),
            "{told}\n{expected}"
        );
    }
}
