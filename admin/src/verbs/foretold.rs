//! What is said before something is done.

use super::*;
use crate::status::tests::{fencing, status};
use replication::api::{Command, ConnectionState, DiskState, Role, Status};
use std::string::String;

/// What a line would do, without line breaks.
fn said(line: &str, status: &Status) -> String {
    let Ok(Some(Verb::DryRun { act })) = parse(line, &[0]) else {
        panic!("{line} is no dry run");
    };
    let mut out = String::new();
    foretell(act, status, &mut out).unwrap();
    assert!(out.lines().all(|line| line.len() < 80), "{out}");
    assert!(out.starts_with("now: "), "{line}: {out}");
    out.split_whitespace()
        .collect::<std::vec::Vec<_>>()
        .join(" ")
}

#[test]
fn every_verb_that_gives_something_up_has_a_dry_run_that_does_nothing() {
    let lines = [
        "primary --force",
        "primary",
        "secondary --force",
        "secondary",
        "disconnect",
        "suspend-io",
        "resume-io",
        "unfence 7",
        "unfence 7 --yes",
        "outdate",
        "create-md vol0 --force",
        "create-md vol0",
        "detach vol0 --force",
        "resize vol0 --assume-clean",
        "invalidate vol0",
        "invalidate-remote vol0",
        "drop-snapshot vol0",
        "new-current-uuid --clear-bitmap",
        "verify vol0 --repair",
        "reboot --force",
        "poweroff --force",
    ];
    for line in lines {
        let dry = parse(&std::format!("{line} --dry-run"), &[0])
            .unwrap()
            .unwrap();
        assert!(
            dry.engine_command().is_none() && !dry.asks_first(),
            "{line}"
        );
        let wet = parse(line, &[0]).unwrap().unwrap();
        assert_eq!(
            dry,
            Verb::DryRun {
                act: wet.act().unwrap()
            },
            "{line}"
        );
        assert!(!said(&std::format!("{line} --dry-run"), &status()).is_empty());
    }
    // Whatever has a consequence has a dry run.
    for spec in VERBS {
        let loses = lines.iter().any(|line| {
            let verb = parse(line, &[0]).unwrap().unwrap();
            line.split(' ').next() == Some(spec.name) && verb.consequence().is_some()
        });
        assert!(!loses || spec.usage.contains("--dry-run"), "{}", spec.name);
    }
    // These have their own.
    let connect = parse("connect --discard-my-data --dry-run", &[0]);
    assert!(matches!(
        connect,
        Ok(Some(Verb::Connect { dry_run: true, .. }))
    ));
    let rollback = parse("rollback vol0 --dry-run", &[0]);
    assert!(matches!(
        rollback,
        Ok(Some(Verb::Rollback { yes: false, .. }))
    ));
}

#[test]
fn a_person_is_asked_before_data_is_given_up_or_clients_are_dropped() {
    let asks = |line| parse(line, &[0]).unwrap().unwrap().asks_first();
    for line in [
        "primary --force",
        "secondary --force",
        "invalidate vol0",
        "reboot --force",
        "connect --discard-my-data",
    ] {
        assert!(asks(line), "{line}");
    }
    for line in [
        "primary",
        "secondary",
        "status",
        "reboot",
        "connect",
        "rollback vol0 --yes",
        "unfence 7 --yes",
    ] {
        assert!(!asks(line), "{line}");
    }
}

#[test]
fn what_is_said_is_about_things_as_they_are() {
    let mut now = status();
    assert_eq!(
        said("secondary --force --dry-run", &now),
        "now: 1 client(s) with a volume open would be dropped; they reconnect when a node is Primary \
         now: b is connected and UpToDate, and can become Primary"
    );
    assert!(said("reboot --dry-run", &now).contains("it would be refused: 1 client(s)"));
    assert!(said("primary --dry-run", &now).contains("Primary already"));
    assert!(said("invalidate-remote vol0 --dry-run", &now).contains("1 GiB would be copied to b"));
    assert!(said("verify vol0 --repair --dry-run", &now).contains("overwritten on b"));
    assert!(said("detach vol0 --dry-run", &now).contains("would be served from it"));
    assert!(said("disconnect --dry-run", &now).contains("this node would go on alone"));
    assert!(said("resume-io --dry-run", &now).contains("nothing is held back"));

    (now.role, now.peer_role) = (Role::Secondary, Role::Primary);
    assert!(said("verify vol0 --repair --dry-run", &now).contains("overwritten on a"));
    assert!(said("disconnect --dry-run", &now).contains("b would go on alone"));

    now.role = Role::Primary;
    now.connection = ConnectionState::Connecting;
    now.volumes[0].peer_disk = DiskState::DUnknown;
    now.suspended.fencing = true;
    assert!(said("secondary --force --dry-run", &now).contains("nobody could serve"));
    assert!(said("detach vol0 --dry-run", &now).contains("no good disk would be left"));
    assert!(said("create-md vol0 --force --dry-run", &now).contains("no other good copy is known"));
    assert!(said("resume-io --dry-run", &now).contains("not surely off"));

    let mut fenced = fencing();
    assert!(said("unfence 7 --dry-run", &fenced).contains("b, which this node fences"));
    assert!(said("unfence 8 --dry-run", &fenced).contains("no fence of episode 8"));
    fenced.fencing.record.mark = Some(8);
    assert!(said("unfence 8 --dry-run", &fenced).contains("this node, which b fences"));
    fenced.role = Role::Secondary;
    assert!(said("primary --force --dry-run", &fenced).contains("may have newer data"));
    let missing = Act::Command(Command::Invalidate { volume: 9 });
    let mut out = String::new();
    foretell(missing, &fenced, &mut out).unwrap();
    assert_eq!(out, "now: there is no vol9\n");
}
