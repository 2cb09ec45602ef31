//! The grammar, the help and the completion.

use super::*;
use crate::console::Completer;
use crate::text::is_printable;
use proptest::prelude::*;
use std::string::String;
use std::string::ToString;
use std::vec::Vec;

fn ok(line: &str) -> Verb {
    parse(line, &[0, 1, 12]).unwrap().unwrap()
}

fn err(line: &str) -> String {
    parse(line, &[0, 1, 12]).unwrap_err().to_string()
}

#[test]
fn every_verb_of_the_table_parses() {
    for spec in VERBS {
        let operand = match spec.operand.written() {
            "VOL" => " vol0",
            "show|check" | "show|clear" => " show",
            "EPISODE" => " 7",
            "VERB" => " status",
            _ => "",
        };
        let option = match spec.name {
            "new-current-uuid" => " --clear-bitmap",
            _ => "",
        };
        let line = std::format!("{}{operand}{option}", spec.name);
        assert!(
            parse(&line, &[0]).is_ok_and(|verb| verb.is_some()),
            "{line}"
        );
        assert!(spec.options.len() <= arguments::OPTIONS_MAX);
        for option in spec.options {
            assert!(spec.usage.contains(option.name), "{}", spec.usage);
        }
        let about = Some(spec);
        assert_eq!(
            ok(&std::format!("help {}", spec.name)),
            Verb::Help { about }
        );
        assert_eq!(
            ok(&std::format!("{} --help", spec.name)),
            Verb::Help { about }
        );
    }
}

#[test]
fn verbs_and_options() {
    assert_eq!(parse("", &[]), Ok(None));
    assert_eq!(parse(" \t ", &[]), Ok(None));
    assert_eq!(ok("help"), Verb::Help { about: None });
    assert_eq!(
        ok("help config show"),
        Verb::Help {
            about: spec("config")
        }
    );
    assert_eq!(ok(" status\t--json "), Verb::Status { json: true });
    assert_eq!(ok("status"), Verb::Status { json: false });
    assert_eq!(ok("primary --force"), Verb::Primary { force: true });
    assert_eq!(ok("secondary"), Verb::Secondary { force: false });
    assert_eq!(
        ok("connect --discard-my-data"),
        Verb::Connect {
            discard_my_data: true,
            dry_run: false
        }
    );
    assert_eq!(ok("disconnect"), Verb::Disconnect);
    let (episode, yes) = (7, true);
    assert_eq!(ok("unfence 7 --yes"), Verb::Unfence { episode, yes });
    assert!(err("unfence").contains("the number of an episode; 'fence' shows it"));
    assert!(err("unfence 0").contains("the number of an episode"));
    assert!(err("unfence 99999999999999999999").contains("the number of an episode"));
    assert!(err("unfence a").contains("does not know 'a'"));
    // Without the word that it is meant, the engine hears nothing.
    assert_eq!(ok("unfence 7").engine_command(), None);
    assert!(ok("unfence 7").consequence().is_some());
    assert_eq!(ok("new-current-uuid --clear-bitmap"), Verb::NewCurrentUuid);
    assert_eq!(ok("disks"), Verb::Disks);
    assert_eq!(ok("net"), Verb::Net);
    assert_eq!(
        ok("log"),
        Verb::Log {
            lines: 20,
            level: Level::Debug
        }
    );
    assert_eq!(
        ok("log 7 --level warn"),
        Verb::Log {
            lines: 7,
            level: Level::Warn
        }
    );
    assert_eq!(
        ok("log --level error 1000"),
        Verb::Log {
            lines: 1000,
            level: Level::Error
        }
    );
    assert_eq!(ok("config show"), Verb::ConfigShow);
    assert_eq!(ok("config check"), Verb::ConfigCheck);
    assert_eq!(ok("set"), Verb::SetShow);
    assert_eq!(ok("set --dry-run"), Verb::SetShow);
    for (line, value, dry_run) in [
        ("  set net.timeout=3s", "3s", false),
        ("set net.timeout \t3s --dry-run", "3s", true),
        ("set --dry-run net.timeout=", "", true),
        ("set net.timeout=a=b", "a=b", false),
    ] {
        let Verb::Set {
            key: "net.timeout",
            at,
            bytes,
            dry_run: dry,
        } = ok(line)
        else {
            panic!("{line}")
        };
        assert_eq!((&line[at..at + bytes], dry), (value, dry_run), "{line}");
    }
    assert_eq!(ok("adjust"), Verb::Adjust { dry_run: false });
    assert!(ok("set").only_looks() && !ok("set net.timeout=3s").only_looks());
    assert_eq!(ok("crash show"), Verb::CrashShow { json: false });
    assert_eq!(ok("crash show --json"), Verb::CrashShow { json: true });
    assert_eq!(ok("crash clear"), Verb::CrashClear);
    assert!(ok("crash show").only_looks() && !ok("crash clear").only_looks());
    assert_eq!(ok("version"), Verb::Version);
    assert_eq!(ok("reboot --force"), Verb::Reboot { force: true });
    assert_eq!(ok("poweroff"), Verb::Poweroff { force: false });
    assert_eq!(ok("clear"), Verb::Clear);
}

#[test]
fn engine_commands() {
    let command = |line| ok(line).engine_command();
    assert_eq!(
        command("primary --force"),
        Some(Command::Primary { force: true })
    );
    assert_eq!(
        command("secondary"),
        Some(Command::Secondary { force: false })
    );
    assert_eq!(command("disconnect"), Some(Command::Disconnect));
    assert_eq!(
        command("new-current-uuid --clear-bitmap"),
        Some(Command::NewCurrentUuid)
    );
    let discard_my_data = true;
    assert_eq!(
        command("connect --discard-my-data"),
        Some(Command::Connect { discard_my_data })
    );
    assert_eq!(
        command("verify vol1 --start 4096 --repair"),
        Some(Command::Verify {
            volume: 1,
            start: Some(4096),
            stop: None,
            repair: true
        })
    );
    let volume = 1;
    assert_eq!(
        command("verify vol1 --abort"),
        Some(Command::VerifyAbort { volume })
    );
    assert_eq!(
        command("pause-sync"),
        Some(Command::PauseSync { volume: None })
    );
    assert_eq!(
        command("resume-sync vol1"),
        Some(Command::ResumeSync { volume: Some(1) })
    );
    assert_eq!(
        command("invalidate vol1"),
        Some(Command::Invalidate { volume })
    );
    assert_eq!(
        command("invalidate-remote vol1"),
        Some(Command::InvalidateRemote { volume })
    );
    assert_eq!(command("outdate"), Some(Command::Outdate));
    let (volume, force) = (0, true);
    assert_eq!(command("attach vol0"), Some(Command::Attach { volume }));
    assert_eq!(
        command("detach vol0 --force"),
        Some(Command::Detach { volume, force })
    );
    assert_eq!(command("suspend-io"), Some(Command::SuspendIo));
    assert_eq!(command("resume-io"), Some(Command::ResumeIo));
    assert_eq!(command("status"), None);
    for discard_my_data in [false, true] {
        let line = ["connect --dry-run", "connect --tentative --discard-my-data"];
        assert_eq!(
            command(line[usize::from(discard_my_data)]),
            Some(Command::DryRun { discard_my_data })
        );
    }
    assert_eq!(
        command("inspect vol1"),
        Some(Command::Inspect { volume: 1 })
    );
    assert_eq!(command("inspect"), None);
}

#[test]
fn verbs_of_a_volume() {
    let force = true;
    let volume = 12;
    assert_eq!(
        ok("create-md vol12 --force"),
        Verb::CreateMd { volume, force }
    );
    assert_eq!(ok("create-md --force 12"), Verb::CreateMd { volume, force });
    assert_eq!(ok("attach vol12"), Verb::Attach { volume });
    assert_eq!(ok("detach 12 --force"), Verb::Detach { volume, force });
    assert_eq!(
        ok("inspect vol12"),
        Verb::Inspect {
            volume: Some(volume)
        }
    );
    assert_eq!(ok("inspect"), Verb::Inspect { volume: None });
    assert_eq!(
        ok("resize vol12 --assume-clean"),
        Verb::Resize {
            volume,
            size: None,
            assume_clean: true
        }
    );
    let size = Some(20 << 30);
    let resize = Verb::Resize {
        volume,
        size,
        assume_clean: false,
    };
    assert_eq!(ok("resize vol12 --size=20GiB"), resize);
    assert_eq!(ok("resize 12 --size 20GiB"), resize);
    let (volume, assume_clean) = (12, false);
    let command = Command::Resize {
        volume,
        size,
        assume_clean,
    };
    assert_eq!(resize.engine_command(), Some(command));
    assert_eq!(ok("invalidate vol12"), Verb::Invalidate { volume });
    assert_eq!(
        ok("invalidate-remote vol12"),
        Verb::InvalidateRemote { volume }
    );
    assert_eq!(ok("pause-sync"), Verb::PauseSync { volume: None });
    assert_eq!(ok("pause-sync vol1"), Verb::PauseSync { volume: Some(1) });
    assert_eq!(ok("resume-sync 0"), Verb::ResumeSync { volume: Some(0) });
}

#[test]
fn verbs_of_the_resource() {
    for option in ["--dry-run", "--tentative"] {
        let line = std::format!("connect --discard-my-data {option}");
        let (discard_my_data, dry_run) = (true, true);
        assert_eq!(
            ok(&line),
            Verb::Connect {
                discard_my_data,
                dry_run
            }
        );
    }
    assert_eq!(ok("outdate"), Verb::Outdate);
    for (line, yes) in [
        ("rollback vol12", false),
        ("rollback vol12 --dry-run", false),
        ("rollback vol12 --yes", true),
    ] {
        assert_eq!(ok(line), Verb::Rollback { volume: 12, yes });
    }
    assert!(err("rollback vol12 --yes --dry-run").contains("--dry-run"));
    assert_eq!(ok("drop-snapshot vol12"), Verb::DropSnapshot { volume: 12 });
    assert_eq!(ok("suspend-io"), Verb::SuspendIo);
    assert_eq!(ok("resume-io"), Verb::ResumeIo);
    assert_eq!(ok("explain"), Verb::Explain);
}

#[test]
fn followers() {
    let all = Verb::Events {
        json: true,
        now: true,
        since: Some(41),
    };
    assert_eq!(ok("events --json --now --since 41"), all);
    assert_eq!(ok("events --since=41 --now --json"), all);
    for bad in ["events --since", "events --since -1", "events --since x"] {
        assert!(err(bad).contains("number of an event"), "{bad}");
    }
    for (line, rest) in [
        ("watch status", " status"),
        ("  watch   log 15 --level warn", "   log 15 --level warn"),
        ("watch config show", " config show"),
    ] {
        let Verb::Watch { at } = ok(line) else {
            panic!("{line}");
        };
        assert_eq!(&line[at..], rest);
    }
    // What changes something is not done again and again, and what goes on for ever not at all.
    for bad in [
        "",
        " watch status",
        " events",
        " primary --force",
        " reboot",
        " clear",
        " inspect",
    ] {
        assert!(
            err(&std::format!("watch{bad}")).contains("a verb that only looks"),
            "{bad}"
        );
    }
    assert!(err("watch stauts").contains("did you mean 'status'"));
}

#[test]
fn ranges_to_verify() {
    let verify = |start, stop, repair| Verb::Verify {
        volume: 0,
        start,
        stop,
        repair,
    };
    assert_eq!(ok("verify vol0"), verify(None, None, false));
    assert_eq!(
        ok("verify --start 4096 vol0 --stop=1GiB --repair"),
        verify(Some(4096), Some(1 << 30), true)
    );
    assert_eq!(ok("verify vol0 --start 0"), verify(Some(0), None, false));
    assert_eq!(ok("verify vol0 --abort"), Verb::VerifyAbort { volume: 0 });
    let usage = spec("verify").unwrap().usage;
    assert_eq!(
        err("verify vol0 --repair --abort"),
        std::format!("verify: --abort and --repair do not go together\nusage: {usage}")
    );
    for line in ["verify 0 --start 2GiB --stop 1GiB", "verify 0 --stop 0"] {
        assert!(
            err(line).starts_with("verify: expected a place after --stop that lies above"),
            "{line}"
        );
    }
    assert!(err("verify 0 --start").starts_with("verify: expected a place after --start, such"));
    assert!(err("verify 0 --stop 1GB").starts_with("verify: expected a place after --stop, such"));
    assert!(err("verify 0 --start=").starts_with("verify: expected a place after --start, such"));
    assert!(err("verify 0 --repair=yes").starts_with("verify does not know '--repair=yes'"));
    assert!(err("verify 0 --start 1 --start 2").starts_with("'--start' is given twice"));
}

#[test]
fn volumes_that_are_not_there() {
    assert_eq!(
        err("attach"),
        "attach: expected a volume, such as vol0\nusage: attach VOL"
    );
    for word in ["vol2", "2", "vol", "vol00", "Vol0", "vol65536", "r0", "+1"] {
        assert_eq!(
            err(&std::format!("attach {word}")),
            std::format!(
                "attach: there is no volume '{word}'; there is vol0, vol1, vol12\nusage: attach VOL"
            )
        );
    }
    assert!(err("attach vol0 vol1").starts_with("'vol1' is given twice\n"));
    // A node without a configuration does not know its volumes.
    assert_eq!(
        parse("attach vol7", &[]),
        Ok(Some(Verb::Attach { volume: 7 }))
    );
    assert!(
        (parse("attach volx", &[]).unwrap_err().to_string())
            .starts_with("attach: there is no volume 'volx'; expected a name such as vol0\n")
    );
    assert!(err("primary vol0").starts_with(
        "primary does not know 'vol0'; it takes no volume: it is for all of them at once\n"
    ));
}

#[test]
fn words_of_drbd_lead_to_ours() {
    assert_eq!(
        err("down"),
        "there is no verb 'down' here; 'secondary', 'disconnect' and 'detach VOL' do it"
    );
    assert_eq!(
        err("help cstate"),
        "there is no verb 'cstate' here; 'status' shows the connection"
    );
    for (other, instead) in table::OTHER_NAMES {
        assert_eq!(spec(other), None);
        // What it names is there.
        let quoted = instead.split('\'').skip(1).step_by(2);
        for line in quoted {
            let line = line.replace("VOL", "vol0");
            assert!(parse(&line, &[0]).is_ok(), "{line}");
        }
    }
}

#[test]
fn what_destroys_says_so() {
    for line in [
        "create-md vol0 --force",
        "detach vol0 --force",
        "primary --force",
        "connect --discard-my-data",
        "invalidate vol0",
        "invalidate-remote vol0",
        "new-current-uuid --clear-bitmap",
        "resize vol0 --assume-clean",
        "verify vol0 --repair",
    ] {
        let mut told = String::new();
        ok(line).write_consequence(&mut told).unwrap();
        assert!(told.starts_with("note: ") && told.ends_with('\n'), "{line}");
        assert!(told.lines().all(|line| line.len() < 80), "{told}");
    }
    for line in [
        "create-md vol0",
        "detach vol0",
        "primary",
        "connect --discard-my-data --dry-run",
        "verify vol0",
        "status",
    ] {
        assert_eq!(ok(line).consequence(), None, "{line}");
        let mut told = String::new();
        ok(line).write_consequence(&mut told).unwrap();
        assert_eq!(told, "");
    }
}

#[test]
fn mistakes_are_explained() {
    assert_eq!(
        err("statsu"),
        "there is no verb 'statsu'; did you mean 'status'?"
    );
    assert_eq!(
        err("frobnicate"),
        "there is no verb 'frobnicate'; 'help' lists them"
    );
    assert_eq!(
        err("help primry"),
        "there is no verb 'primry'; did you mean 'primary'?"
    );
    assert_eq!(
        err("primary --froce"),
        "primary does not know '--froce'; did you mean '--force'?\nusage: primary [--force] [--dry-run]"
    );
    assert_eq!(err("disks all"), "disks does not know 'all'\nusage: disks");
    assert_eq!(
        err("reboot --force --force"),
        "'--force' is given twice\nusage: reboot [--force] [--dry-run]"
    );
    assert_eq!(
        err("config"),
        "config: expected 'show' or 'check'\nusage: config show | config check"
    );
    assert!(err("set net.timeout").starts_with("set: expected a value behind the key"));
    assert!(err("set net.timeout=1s 2s").starts_with("set does not know '2s'"));
    assert!(
        err("set net.timeout 1s --dry-run --dry-run").starts_with("'--dry-run' is given twice")
    );
    assert!(
        err("set --drt-run")
            .starts_with("set does not know '--drt-run'; did you mean '--dry-run'?")
    );
    assert!(err("set c-max-rate=1MiB").starts_with(
        "set: 'c-max-rate' is no key that can be changed while the node runs; did you mean 'resync.c-max-rate'?"
    ));
    assert!(err("set peer.address=10.0.0.1").starts_with(
        "set: 'peer.address' is no key that can be changed while the node runs; 'set' lists these"
    ));
    assert!(err("crash").starts_with("crash: expected 'show' or 'clear'\n"));
    assert!(err("crash shwo").starts_with("crash does not know 'shwo'; did you mean 'show'?"));
    assert!(err("crash show clear").starts_with("'clear' is given twice"));
    assert!(err("crash clear --json").starts_with("crash does not know '--json'"));
    assert!(err("new-current-uuid").starts_with("new-current-uuid: expected --clear-bitmap"));
    assert!(err("log 0").starts_with("log: expected a number of lines from 1 to 1000"));
    assert!(err("log 1001").starts_with("log: expected a number of lines"));
    assert!(err("log 1 2").starts_with("'2' is given twice"));
    assert!(err("log --level loud").starts_with("log: expected error, warn, info or debug"));
    assert!(err("log --level").starts_with("log: expected error, warn, info or debug"));
    assert!(err("help help loud").starts_with("help does not know 'loud'"));
    assert_eq!(
        err("status\u{1b}[2J"),
        "the command has characters other than ASCII text"
    );
}

#[test]
fn help_fits_the_screen() {
    let mut all = String::new();
    help(None, &mut all).unwrap();
    for spec in VERBS {
        let listed = std::format!("\n  {} ", spec.name);
        assert!(all.contains(&listed) && all.contains(spec.summary));
        let mut one = String::new();
        help(Some(spec), &mut one).unwrap();
        // Long ones are broken.
        let flat = one.replace("\n  ", " ");
        let usage = std::format!("usage: {}\n", spec.usage);
        assert!(flat.starts_with(&usage), "{one}");
        all.push_str(&one);
    }
    for line in all.lines() {
        assert!(line.len() < 80, "{} {line}", line.len());
    }
}

#[test]
fn every_verb_is_in_the_manual() {
    let manual = include_str!("../../../docs/CONSOLE.md");
    let headings: String = manual.lines().filter(|l| l.starts_with("### ")).collect();
    for spec in VERBS.iter().filter(|spec| spec.name != "help") {
        assert!(
            headings.contains(spec.usage),
            "{} is not in docs/CONSOLE.md",
            spec.usage
        );
    }
}

#[test]
fn completion_offers_what_fits_the_place() {
    let offered = |before: &str| {
        let mut words = Vec::new();
        let volumes = &[0, 12];
        VerbCompleter { volumes }.candidates(before, &mut |word| words.push(word.to_string()));
        words
    };
    assert_eq!(offered("").len(), VERBS.len());
    assert_eq!(offered("st").len(), VERBS.len());
    assert_eq!(offered("status "), ["--json"]);
    assert_eq!(offered("status --json "), Vec::<&str>::new());
    assert_eq!(offered("log --level "), ["error", "warn", "info", "debug"]);
    assert_eq!(offered("log --level w"), ["error", "warn", "info", "debug"]);
    assert_eq!(offered("help pri").len(), VERBS.len());
    assert_eq!(offered("nonsense "), Vec::<&str>::new());
    assert_eq!(offered("config "), ["show", "check"]);
    assert_eq!(offered("set ")[..2], ["node.panic", "node.log-level"]);
    assert_eq!(offered("set net.timeout=3s "), ["--dry-run"]);
    assert_eq!(offered("crash "), ["show", "clear", "--json"]);
    let watched = offered("watch ");
    assert!(watched.contains(&"status".into()) && watched.contains(&"config".into()));
    assert!(!watched.contains(&"primary".into()) && !watched.contains(&"watch".into()));
    assert_eq!(offered("watch st"), watched);
    assert_eq!(
        offered("watch log --level "),
        ["error", "warn", "info", "debug"]
    );
    assert_eq!(offered("events --now "), ["--json", "--since"]);
    assert_eq!(offered("config show "), Vec::<&str>::new());
    assert_eq!(offered("help pause-sync "), Vec::<&str>::new());
    assert_eq!(offered("attach "), ["vol0", "vol12"]);
    assert_eq!(offered("attach v"), ["vol0", "vol12"]);
    assert_eq!(offered("attach vol0 "), Vec::<&str>::new());
    let range = ["--start", "--stop", "--repair", "--abort", "--dry-run"];
    assert_eq!(offered("verify vol0 "), range);
    assert_eq!(offered("verify vol0 --st"), range);
    assert_eq!(offered("verify vol0 --start "), Vec::<&str>::new());
    assert_eq!(offered("verify vol0 --start 4"), Vec::<&str>::new());
    assert_eq!(offered("verify vol0 --start 4 --stop=9 "), range[2..]);
    assert_eq!(offered("connect --tentative "), ["--discard-my-data"]);
}

proptest! {
    #[test]
    fn any_text_is_answered(line in "\\PC{0,80}") {
        if let Err(error) = parse(&line, &[0]) {
            prop_assert!(error.to_string().bytes().all(|b| is_printable(b) || b == b'\n'));
        }
    }
}
