//! Every documented mistake, with its place and text.

mod fencing;
mod http;
mod live;
mod secret;
mod together;
mod values;

use super::*;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// Everything that must be given, nothing else.
const LEAST: &str = r#"[node]
name = "a"
[resource]
name = "r0"
[peer]
name = "b"
address = "10.99.0.2:7789"
[[nic]]
roles = ["replication"]
index = 0
address = "10.99.0.1/24"
[[nic]]
roles = ["export"]
index = 1
address = "10.0.2.15/24"
[[volume]]
index = 0
serial = "a-vol0"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text.as_bytes())
}

/// The mistakes of `LEAST` with `from` (which must occur) replaced by `to`.
fn mistakes(from: &str, to: &str) -> Vec<String> {
    assert!(LEAST.contains(from), "{from}");
    let text = LEAST.replacen(from, to, 1);
    let errors = parse(&text).expect_err(&text);
    errors.problems().iter().map(Problem::to_string).collect()
}

/// The one mistake of `LEAST` with `from` replaced by `to`.
#[track_caller]
fn mistake(from: &str, to: &str) -> String {
    let mut all = mistakes(from, to);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// `LEAST` with `extra` in front: it begins at line 1.
#[track_caller]
fn with(extra: &str) -> String {
    mistake("[node]", &format!("{extra}[node]"))
}

#[test]
fn the_least_has_the_documented_defaults() {
    let config = parse(LEAST).unwrap();
    assert_eq!(config.node.panic, OnPanic::Reboot);
    assert_eq!(config.node.log_level, Level::Info);
    assert_eq!(config.resource.protocol, Protocol::C);
    assert_eq!(config.resource.fencing, Fencing::DontCare);
    assert_eq!(config.resource.fence_timeout, 30_000_000);
    assert_eq!(config.resource.on_fence_timeout, OnFenceTimeout::KeepFrozen);
    assert_eq!(config.management, None);
    assert_eq!(
        config.resource.split_brain,
        SplitBrain {
            after_sb_0pri: AfterSb0Pri::Disconnect,
            after_sb_1pri: AfterSb1Pri::Disconnect,
            after_sb_2pri: AfterSb2Pri::Disconnect,
            always_asbp: false,
            rr_conflict: RrConflict::Disconnect,
        }
    );
    assert_eq!(config.resource.on_no_data, OnNoData::SuspendIo);
    assert_eq!(config.peer.secret, None);
    assert_eq!(config.peer.integrity, Integrity::Crc32c);
    assert_eq!(
        config.replication,
        Replication {
            port: 7789,
            on_congestion: OnCongestion::Block,
            congestion_fill: 2 << 20,
            congestion_extents: None,
        }
    );
    assert_eq!(
        config.resync,
        ResyncPolicy {
            c_min_rate: 4 << 20,
            c_max_rate: None,
            csums: false,
            rs_discard: true,
            max_parallel: 4,
        }
    );
    assert_eq!(
        config.disk,
        DiskPolicy {
            timeout: Some(30_000_000),
            on_io_error: OnIoError::Detach,
        }
    );
    let timers = config.timers();
    assert_eq!(timers.timeout, 6_000_000);
    assert_eq!(timers.ping_interval, 2_000_000);
    assert_eq!(timers.connect_interval, 1_000_000);
    assert_eq!(config.replication_listen().to_string(), "10.99.0.1:7789");
    assert_eq!(config.export.port, 10809);
    assert_eq!(config.export.snapshot_port, 10810);
    assert_eq!(config.export.max_connections, 32);
    assert_eq!(config.export.standby_hold, 30_000_000);
    assert_eq!(config.export.handshake_timeout, 10_000_000);
    assert_eq!(config.export.floating_address, None);
    assert_eq!(config.volumes[0].block_size, 512);
    assert_eq!(config.volumes[0].size, None);
    assert_eq!(config.volumes[0].export_name(), "vol0");
    assert_eq!(config.volumes[0].metadata, Metadata::Internal);
    assert_eq!(config.volumes[0].resync_after, None);
    assert!(config.is_default("net.timeout"));
    assert!(config.is_default("volume 0.block-size"));
    assert!(!config.is_default("node.name"));
}

#[test]
fn everything_can_be_said() {
    let text = r#"
        volume = [
            { index = 7, serial = "b \"7\\", size = "1GiB", block-size = 4096, description = "d" },
            { index = 2, serial = "b2", metadata = { disk = "b2-md" }, resync-after = "vol7" },
        ]
        [node]
        name = "b.example-1_2"
        panic = "exit"
        log-level = "debug"
        [resource]
        name = "r1"
        protocol = "A"
        fencing = "resource-and-stonith"
        fence-timeout = "1s"
        on-fence-timeout = "step-down"
        after-sb-0pri = "discard-node-a"
        after-sb-1pri = "discard-secondary"
        after-sb-2pri = "call-pri-lost"
        always-asbp = true
        rr-conflict = "violently"
        on-no-data = "io-error"
        [peer]
        name = "a"
        address = "192.0.2.9"
        secret = "sixteen letters!"
        integrity = "chacha20-poly1305"
        [net]
        timeout = "500ms"
        ping-interval = "250ms"
        connect-interval = "2min"
        [[nic]]
        roles = ["management", "replication", "export"]
        mac = "52:54:00:AB:cd:01"
        address = "10.0.0.1/8"
        gateway = "10.0.0.254"
        mtu = 65535
        [management]
        port = 7
        peer = "10.0.0.2"
        arbiter = "192.0.2.7:8"
        secret = "another secret..."
        [http]
        port = 9
        [replication]
        port = 1
        on-congestion = "pull-ahead"
        congestion-fill = "1GiB"
        congestion-extents = 65536
        [resync]
        c-min-rate = "0B"
        c-max-rate = "100MiB/s"
        csums = true
        rs-discard = false
        max-parallel-resyncs = 16
        [disk]
        disk-timeout = "0s"
        on-io-error = "pass-on"
        [export]
        port = 65535
        snapshot-port = 65534
        max-connections = 0x80
        standby-hold = "1s"
        handshake-timeout = "2min"
        floating-address = "10.98.0.9"
    "#;
    let config = parse(text).unwrap();
    let indices: Vec<u16> = config.volumes.iter().map(|volume| volume.index).collect();
    assert_eq!(indices, [2, 7]);
    assert_eq!(config.volumes[1].serial, "b \"7\\");
    assert_eq!(config.volumes[1].size, Some(1 << 30));
    assert_eq!(config.volumes[1].block_size, 4096);
    assert_eq!(config.node.panic, OnPanic::Exit);
    assert_eq!(config.node.log_level, Level::Debug);
    assert_eq!(config.peer.address.to_string(), "192.0.2.9:7789");
    assert_eq!(config.timers().ping_interval, 250_000);
    assert_eq!(config.export.max_connections, 128);
    assert_eq!(config.export.snapshot_port, 65534);
    assert_eq!(config.export.floating_address, Some([10, 98, 0, 9].into()));
    let nic = &config.nics[0];
    assert!(nic.roles.management && nic.roles.replication && nic.roles.export);
    assert_eq!(
        nic.selector,
        NicSelector::Mac(Mac([0x52, 0x54, 0, 0xab, 0xcd, 1]))
    );
    assert_eq!(nic.mtu, Some(65535));
    assert_eq!(config.replication_listen().to_string(), "10.0.0.1:1");
    assert_eq!(config.resource.protocol, Protocol::A);
    let node_a = Name::try_from("a").unwrap();
    assert_eq!(
        config.resource.split_brain,
        SplitBrain {
            after_sb_0pri: AfterSb0Pri::DiscardNode(node_a),
            after_sb_1pri: AfterSb1Pri::DiscardSecondary,
            after_sb_2pri: AfterSb2Pri::CallPriLost,
            always_asbp: true,
            rr_conflict: RrConflict::Violently,
        }
    );
    assert_eq!(config.resource.on_no_data, OnNoData::IoError);
    let secret = config.peer.secret.as_ref().unwrap();
    assert_eq!(secret.as_bytes(), b"sixteen letters!");
    assert_eq!(config.peer.integrity, Integrity::ChaCha20Poly1305);
    assert_eq!(config.resource.fencing, Fencing::ResourceAndStonith);
    assert_eq!(config.resource.fence_timeout, 1_000_000);
    assert_eq!(config.resource.on_fence_timeout, OnFenceTimeout::StepDown);
    let management = config.management.as_ref().unwrap();
    assert_eq!(management.port, 7);
    assert_eq!(management.peer.unwrap().to_string(), "10.0.0.2:7790");
    assert_eq!(management.arbiter.unwrap().to_string(), "192.0.2.7:8");
    let http = config.http.as_ref().unwrap();
    assert_eq!(http.port, 9);
    assert_eq!(management.secret.as_bytes(), b"another secret...");
    assert_eq!(config.replication.on_congestion, OnCongestion::PullAhead);
    assert_eq!(config.replication.congestion_fill, 1 << 30);
    assert_eq!(config.replication.congestion_extents, Some(65_536));
    assert_eq!(config.resync.c_min_rate, 0);
    assert_eq!(config.resync.c_max_rate, Some(100 << 20));
    assert!(config.resync.csums && !config.resync.rs_discard);
    assert_eq!(config.resync.max_parallel, 16);
    assert_eq!(config.disk.timeout, None);
    assert_eq!(config.disk.on_io_error, OnIoError::PassOn);
    assert!(matches!(&config.volumes[0].metadata, Metadata::External(s) if s == "b2-md"));
    assert_eq!(config.volumes[0].resync_after, Some(7));
    // All of that but the secret is shown, and reads back.
    let mut rendered = String::new();
    config.render(&mut rendered).unwrap();
    assert!(rendered.contains("\nsecret = \"(set)\"\n"), "{rendered}");
    assert!(!rendered.contains("sixteen") && !format!("{config:?}").contains("sixteen"));
    assert!(rendered.lines().all(|line| line.len() < 80), "{rendered}");
    let secrets = rendered.replacen("(set)", "sixteen letters!", 1);
    let mut again = parse(&secrets.replace("(set)", "another secret...")).unwrap();
    again.defaulted.clone_from(&config.defaulted);
    assert_eq!(again, config, "{rendered}");
    let refused = parse(&rendered).unwrap_err().to_string();
    assert!(
        refused.contains("peer: secret: expected 16 to 128"),
        "{refused}"
    );
}

#[test]
fn every_word_of_a_policy_is_known() {
    fn all<T: policy::Words + PartialEq + core::fmt::Debug + Clone>() {
        for (word, policy) in T::WORDS {
            assert_eq!(policy::word(policy), *word);
            let value = toml::de::DeValue::String((*word).into());
            assert_eq!(value::policy::<T>(&value).as_ref(), Ok(policy));
        }
    }
    all::<Protocol>();
    all::<Fencing>();
    all::<OnFenceTimeout>();
    all::<AfterSb0Pri>();
    all::<AfterSb1Pri>();
    all::<AfterSb2Pri>();
    all::<RrConflict>();
    all::<OnNoData>();
    all::<OnIoError>();
    all::<OnCongestion>();
    all::<SnapshotPolicy>();
    all::<Integrity>();
    assert_eq!(AfterSb1Pri::DiscardSecondary.name(), "discard-secondary");
    assert_eq!(
        AfterSb0Pri::DiscardZeroChanges.to_string(),
        "discard-zero-changes"
    );
}

#[test]
fn every_key_is_in_the_manual() {
    let manual = include_str!("../../../../docs/CONFIG.md");
    let refused = mistakes_of_unknown_keys();
    let keys: Vec<&str> = refused.iter().flat_map(|list| list.split(", ")).collect();
    assert_eq!(keys.len(), 62, "{keys:?}");
    for key in keys {
        assert!(
            manual.contains(&format!("\n| `{key}` |")),
            "{key} is not in docs/CONFIG.md"
        );
    }
}

/// The keys that each section knows, as the refusal of an unknown one lists them.
fn mistakes_of_unknown_keys() -> Vec<String> {
    let headers = [
        "[node]",
        "[resource]",
        "[peer]",
        "[net]",
        // Without a role it would be one mistake more than are listed, and so for what the role is for.
        "[[nic]]\nroles = [\"management\"]",
        // Else its absence would be one mistake more than are listed.
        "[management]\nsecret = \"sixteen letters!\"",
        "[http]",
        "[replication]",
        "[resync]",
        "[disk]",
        "[export]",
        "[[volume]]",
    ];
    let text: String = headers
        .iter()
        .map(|header| format!("{header}\nzzzzzzzz = 1\n"))
        .collect();
    let errors = parse(&text).unwrap_err();
    let lists = errors
        .problems()
        .iter()
        .filter_map(|p| p.message.split_once("known here: "));
    lists.map(|(_, list)| list.to_string()).collect()
}

#[test]
fn the_examples_are_sound_and_belong_together() {
    let a = Config::parse(include_bytes!("../../../../examples/a.toml")).unwrap();
    let b = Config::parse(include_bytes!("../../../../examples/b.toml")).unwrap();
    assert_eq!((&a.node.name, &a.peer.name), (&b.peer.name, &b.node.name));
    assert_eq!(a.resource, b.resource);
    assert_eq!(a.peer.address, b.replication_listen());
    assert_eq!(b.peer.address, a.replication_listen());
    assert_eq!(a.volumes[0].index, b.volumes[0].index);
}

#[test]
fn the_rendered_form_reads_back() {
    for text in [LEAST, include_str!("../../../../examples/a.toml")] {
        let config = parse(text).unwrap();
        let mut rendered = String::new();
        config.render(&mut rendered).unwrap();
        let mut again = parse(&rendered).unwrap();
        again.defaulted.clone_from(&config.defaulted);
        assert_eq!(again, config, "{rendered}");
        assert!(rendered.lines().all(|line| line.len() < 80), "{rendered}");
    }
    let mut rendered = String::new();
    parse(LEAST).unwrap().render(&mut rendered).unwrap();
    assert!(rendered.contains("\ntimeout = \"6s\"                       # default\n"));
    assert!(
        rendered.contains("\nname = \"a\"\n") || rendered.starts_with("[node]\nname = \"a\"\n")
    );
}

#[test]
fn what_is_not_toml_text_at_all() {
    let error = |text: &[u8]| Config::parse(text).unwrap_err().to_string();
    let head = "the configuration has 1 mistake:\n";
    assert_eq!(
        error(b""),
        format!(
            "{head}line 1, column 1: the configuration is empty; expected a TOML text with \
             [node], [resource], [peer], [[nic]] and [[volume]]"
        )
    );
    assert!(error(b" \n\n").contains("is empty"));
    assert!(error(b"[node]\nname = \"\xff\"").contains(
        "line 2, column 9: found bytes that are not UTF-8, expected a TOML text; \
             is the boot module (-initrd) the right file?"
    ));
    let huge = "#".repeat(TEXT_BYTES_MAX + 1);
    assert!(
        error(huge.as_bytes()).contains("has 65537 bytes, expected at most 65536; is the boot")
    );
    assert!(Config::parse("#".repeat(TEXT_BYTES_MAX).as_bytes()).is_err());
}

#[test]
fn every_mistake_of_syntax_at_once() {
    let text = "[node\nname = \"a\"\n[peer]\nname = \nname = \"b\"\n";
    let errors = parse(text).unwrap_err();
    let all = errors.to_string();
    assert!(errors.count() >= 2, "{all}");
    assert!(all.contains("line 1, column 6: not TOML: "), "{all}");
    assert!(all.contains("\n  1 | [node\n    |      ^"), "{all}");
    assert!(all.contains("line 4, column "), "{all}");
    let twice = mistake("name = \"r0\"", "name = \"r0\"\nname = \"r1\"");
    assert!(
        twice.starts_with("line 5, column 1: not TOML: duplicate key\n"),
        "{twice}"
    );
}

#[test]
fn a_long_text_has_its_first_mistake_of_syntax_reported() {
    let comment = "# a comment line\n".repeat(ALL_SYNTAX_BYTES_MAX / 16);
    let errors = parse(&format!("{comment}[node\nname = \n")).unwrap_err();
    assert_eq!(errors.count(), 1, "{errors}");
    assert!(
        errors.to_string().contains("column 6: not TOML: "),
        "{errors}"
    );
}

#[test]
fn every_mistake_of_meaning_at_once() {
    let text = LEAST
        .replace("\"r0\"", "\"r 0\"")
        .replace("index = 1", "index = -1")
        .replace("[peer]", "[pear]");
    let errors = parse(&text).unwrap_err();
    let places: Vec<_> = errors
        .problems()
        .iter()
        .map(|p| (p.line, p.column))
        .collect();
    assert_eq!(places, [(4, 8), (5, 2), (14, 9), (18, 18)], "{errors}");
    assert!(
        errors
            .to_string()
            .starts_with("the configuration has 4 mistakes:\nline 4, ")
    );
}

#[test]
fn no_more_mistakes_than_can_be_read() {
    let text: String = (0..50).map(|n| format!("unknown{n} = 1\n")).collect();
    let errors = parse(&text).unwrap_err();
    assert_eq!(errors.problems().len(), PROBLEMS_MAX);
    assert!(errors.count() > 50);
    let more = format!("\nand {} more", errors.count() - PROBLEMS_MAX);
    assert!(errors.to_string().ends_with(&more));
}

#[test]
fn unknown_words_get_the_nearest() {
    assert_eq!(
        with("[nett]\ntimeout = \"6s\"\n"),
        "line 1, column 2: unknown section \"nett\"; did you mean \"net\"?\n\
         \x20 1 | [nett]\n\
         \x20   |  ^^^^"
    );
    assert_eq!(
        with("[net]\ntime-out = \"6s\"\n"),
        "line 2, column 1: net: unknown key \"time-out\"; did you mean \"timeout\"?\n\
         \x20 2 | time-out = \"6s\"\n\
         \x20   | ^^^^^^^^"
    );
    assert_eq!(
        with("[net]\ncolour = \"red\"\n"),
        "line 2, column 1: net: unknown key \"colour\"; known here: timeout, ping-interval, \
         connect-interval\n  2 | colour = \"red\"\n    | ^^^^^^"
    );
    assert!(mistake("serial =", "serail = \"x\"\nserial =").contains("did you mean \"serial\"?"));
    let all = mistakes("roles = [\"export\"]", "role = \"export\"");
    assert!(
        all[0].contains("nic 1: the key \"roles\" is missing"),
        "{all:#?}"
    );
    assert!(
        all[1].contains("unknown key \"role\"; did you mean \"roles\"?"),
        "{all:#?}"
    );
}

#[test]
fn tables_of_the_wrong_kind() {
    assert!(
        with("net = 5\n")
            .starts_with("line 1, column 7: net: expected a table, written [net] and given once\n")
    );
    assert!(with("[[net]]\n").contains("net: expected a table, written [net] and given once"));
    let all = mistakes("[[volume]]", "[volume]");
    assert!(
        all[0].contains(
            "line 16, column 1: volume: expected a table written [[volume]], with double"
        ),
        "{all:#?}"
    );
}

#[test]
fn missing_parts_are_named() {
    assert_eq!(
        mistake("name = \"r0\"\n", ""),
        "line 3, column 1: resource: the key \"name\" is missing\n\
         \x20 3 | [resource]\n\
         \x20   | ^^^^^^^^^^"
    );
    assert_eq!(
        mistake("[resource]\nname = \"r0\"\n", ""),
        "line 16, column 18: the section [resource] is missing\n\
         \x20 16 | serial = \"a-vol0\"\n\
         \x20    |                  ^"
    );
    assert!(
        mistake("serial = \"a-vol0\"\n", "")
            .starts_with("line 16, column 1: volume 0: the key \"serial\" is missing\n")
    );
    assert!(
        mistake("[[volume]]\nindex = 0\nserial = \"a-vol0\"\n", "")
            .contains("no [[volume]] is given, expected at least one")
    );
    assert!(
        mistake("index = 1\n", "").starts_with(
            "line 12, column 1: which card? Expected mac = \"52:54:...\" or index = 0\n"
        )
    );
    assert!(
        mistake("index = 1\n", "index = 1\nmac = \"52:54:00:00:00:01\"\n").starts_with(
            "line 14, column 9: both \"mac\" and \"index\" are given, expected one of them\n"
        )
    );
    let nics = LEAST
        .split_inclusive("[[nic]]")
        .next()
        .unwrap()
        .replace("[[nic]]", "");
    let all = parse(&nics).unwrap_err().to_string();
    assert!(
        all.contains("no [[nic]] is given, expected at least one"),
        "{all}"
    );
}

#[test]
fn a_peer_behind_a_router_is_fine() {
    let text = LEAST.replace("10.99.0.2:7789", "192.0.2.1:7789");
    let text = text.replace(
        "index = 0\naddress",
        "index = 0\ngateway = \"10.99.0.254\"\naddress",
    );
    assert!(parse(&text).is_ok());
}

#[test]
fn long_and_odd_lines_are_shown_around_the_mistake() {
    let blanks = " ".repeat(200);
    let text = mistake("name = \"r0\"", &format!("name ={blanks}\"r\u{1f600}0\"\r"));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("line 4, column 207: resource: name: found \"r?0\", expected"));
    assert!(
        lines[1].len() < 80 && lines[1].ends_with("\"r?0\""),
        "{text}"
    );
    assert_eq!(lines[1].find('"'), lines[2].find('^'), "{text}");
    assert!(text.ends_with("^^^^^"), "{text}");
}

#[test]
fn windows_line_ends_are_fine() {
    assert!(parse(&LEAST.replace('\n', "\r\n")).is_ok());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Err(errors) = Config::parse(&bytes) {
            prop_assert!(errors.to_string().bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\n'));
        }
    }

    /// Sound configurations with a few bytes damaged reach far deeper than noise.
    #[test]
    fn damaged_configurations_never_panic(
        edits in prop::collection::vec((0..LEAST.len(), any::<u8>(), 0usize..4), 1..6)
    ) {
        let mut text = LEAST.as_bytes().to_vec();
        for (place, byte, cut) in edits {
            let place = place.min(text.len());
            let end = (place + cut).min(text.len());
            text.splice(place..end, [byte]);
        }
        if let Err(errors) = Config::parse(&text) {
            prop_assert!(errors.count() > 0);
            prop_assert!(errors.to_string().bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\n'));
            for problem in errors.problems() {
                prop_assert!(problem.line >= 1 && problem.column >= 1);
            }
        }
    }
}
