//! Values that do not go together.

use super::*;

#[test]
fn values_that_do_not_go_together() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "\"b\"",
            "\"a\"",
            "line 6, column 8: peer: name: found \"a\", which is this node's own name (node.name); \
             expected the other node's",
        ),
        (
            "10.99.0.2:7789",
            "10.99.0.1:7789",
            "line 7, column 11: peer: address: found 10.99.0.1, which is this node's own address",
        ),
        (
            "10.99.0.2:7789",
            "10.98.0.2:7789",
            "line 7, column 11: peer: address: found 10.98.0.2, expected an address in 10.99.0.1/24, the \
             network of the [[nic]] with the role replication (or give that a gateway)",
        ),
        (
            "10.99.0.2:7789",
            "10.99.0.255",
            "line 7, column 11: peer: address: found 10.99.0.255, expected a host in 10.99.0.1/24",
        ),
        (
            "[node]",
            "[net]\nping-interval = \"3500ms\"\n[node]",
            "line 2, column 17: net: ping-interval: found 3500ms, expected at most half of the timeout \
             (6s / 2), or one lost heartbeat would lose the peer",
        ),
        (
            "[peer]",
            "[peer]\nintegrity = \"aes-256-gcm\"",
            "line 6, column 13: peer: integrity: found \"aes-256-gcm\", which needs keys; expected a secret, \
             too: secret = \"...\", 16 to 128 characters, the same on both nodes",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nafter-sb-0pri = \"discard-node-c\"",
            "line 5, column 17: resource: after-sb-0pri: found \"c\" as a node's name, expected \"a\" or \"b\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nafter-sb-2pri = \"violently\"",
            "line 5, column 17: resource: after-sb-2pri: found \"violently\", which has no effect unless \
             rr-conflict = \"violently\", too: a Primary loses; expected both or neither",
        ),
        (
            "[node]",
            "[replication]\non-congestion = \"pull-ahead\"\n[node]",
            "line 2, column 17: replication: on-congestion: found \"pull-ahead\", which breaks the promise of \
             protocols B and C to answer when the peer has a write; expected \"block\", \"disconnect\", or \
             resource.protocol = \"A\"",
        ),
        (
            "[node]",
            "[resync]\nc-min-rate = \"8MiB\"\nc-max-rate = \"7MiB\"\n[node]",
            "line 2, column 14: resync: c-min-rate is 8MiB, expected at most c-max-rate (7MiB)",
        ),
        (
            "[node]",
            "[resync]\nc-max-rate = \"1MiB\"\n[node]",
            "line 2, column 14: resync: c-min-rate is 4MiB, expected at most c-max-rate (1MiB)",
        ),
        (
            "serial",
            "metadata = { disk = \"a-vol0\" }\nserial",
            "line 18, column 12: metadata: found the serial \"a-vol0\", which is the disk of a volume; \
             expected a disk of its own",
        ),
        (
            "serial",
            "resync-after = \"vol0\"\nserial",
            "line 18, column 16: resync-after: found \"vol0\", which waits for vol0 itself; expected an order \
             without a circle",
        ),
        (
            "serial",
            "resync-after = \"vol1\"\nserial",
            "line 18, column 16: resync-after: found \"vol1\", and there is no [[volume]] with index = 1",
        ),
        (
            "index = 1",
            "index = 0",
            "line 14, column 9: a second [[nic]] has the index 0; expected each card once (it may have \
             several roles)",
        ),
        (
            "[\"export\"]",
            "[\"export\", \"replication\"]",
            "line 13, column 9: a second [[nic]] has the role \"replication\", expected only one",
        ),
        (
            "[\"export\"]",
            "[\"management\"]",
            "line 18, column 18: no [[nic]] has the role \"export\", expected one",
        ),
        (
            "10.0.2.15/24",
            "10.99.0.77/16",
            "line 15, column 11: the network of 10.99.0.77/16 overlaps that of 10.99.0.1/24 on another \
             [[nic]]; expected a network of its own for each card",
        ),
        (
            "index = 1",
            "index = 1\ngateway = \"10.0.3.2\"",
            "line 15, column 11: gateway: found 10.0.3.2, expected a host in 10.0.2.15/24",
        ),
        (
            "index = 1",
            "index = 1\ngateway = \"10.0.2.15\"",
            "line 15, column 11: gateway: found this card's own address 10.0.2.15, expected the router's",
        ),
        (
            "serial",
            "block-size = 4096\nsize = \"1000000B\"\nserial",
            "line 19, column 8: size: found 1000000 bytes, expected a multiple of the block-size 4096; the \
             nearest below is \"976KiB\"",
        ),
    ];
    for (from, to, expected) in cases {
        let text = mistake(from, to);
        assert!(
            text.starts_with(&format!("{expected}\n")),
            "{text}\n{expected}"
        );
        assert!(text.ends_with('^'), "{text}");
    }
}

#[test]
fn repeated_volumes_and_cards() {
    let second = |index: u32, serial: &str| {
        mistakes(
            "[[volume]]",
            &format!("[[volume]]\nindex = {index}\nserial = \"{serial}\"\n[[volume]]"),
        )
    };
    assert_eq!(
        second(0, "x"),
        [
            "line 20, column 9: a second [[volume]] has the index 0; expected each once\n\
          \x20 20 | index = 0\n\
          \x20    |         ^"
        ]
    );
    assert_eq!(
        second(1, "a-vol0"),
        [
            "line 21, column 10: a second [[volume]] has the serial \"a-vol0\"; expected a disk of its own \
          for each\n  21 | serial = \"a-vol0\"\n     |          ^^^^^^^^"
        ]
    );
    let macs = LEAST.replace("index = 0\naddress", "mac = \"52:54:00:00:00:01\"\naddress");
    let macs = macs.replace("index = 1", "mac = \"52:54:00:00:00:01\"");
    let text = parse(&macs).unwrap_err().to_string();
    assert!(
        text.contains("a second [[nic]] has the mac 52:54:00:00:00:01; expected"),
        "{text}"
    );
}

#[test]
fn orders_of_resync_and_disks_of_metadata() {
    let volumes = |lines: [&str; 3]| {
        let sections: String = (1..)
            .zip(lines)
            .map(|(n, line)| format!("[[volume]]\nindex = {n}\nserial = \"s{n}\"\n{line}\n"))
            .collect();
        parse(&format!("{LEAST}{sections}"))
    };
    let after = |indices: [u16; 3]| {
        let lines = indices.map(|index| format!("resync-after = \"vol{index}\""));
        volumes([&lines[0], &lines[1], &lines[2]])
    };
    assert!(after([0, 1, 2]).is_ok());
    assert!(after([2, 3, 0]).is_ok());
    // Every volume of a circle is told, and only those.
    let circle = after([2, 1, 1]).unwrap_err();
    let lines: Vec<usize> = circle.problems().iter().map(|p| p.line).collect();
    assert_eq!(lines, [22, 26], "{circle}");
    let shared = volumes(["metadata = { disk = \"m\" }", "", "metadata.disk = \"m\""]);
    let shared = shared.unwrap_err().to_string();
    assert!(
        shared.contains(
            "metadata: found the serial \"m\", which is where another volume's metadata is; expected a"
        ),
        "{shared}"
    );
}

#[test]
fn ports_on_a_shared_card() {
    let shared = "[[nic]]\nroles = [\"export\"]\nindex = 1\naddress = \"10.0.2.15/24\"\n";
    let text = LEAST
        .replace(shared, "")
        .replace("[\"replication\"]", "[\"replication\", \"export\"]");
    assert!(parse(&text).is_ok());
    let clash = |extra: &str| parse(&format!("{extra}{text}")).unwrap_err().to_string();
    assert!(clash("[export]\nport = 7789\n").contains(
        "line 2, column 8: export: port: found 7789, which is the replication's on the same card; \
             expected another (the default is 10809)\n  2 | port = 7789\n    |        ^^^^"
    ));
    assert!(
        clash("[replication]\nport = 10809\n").contains("line 2, column 8: export: port: found")
    );
    // On cards of their own the same port is no trouble.
    assert!(parse(&format!("[export]\nport = 7789\n{LEAST}")).is_ok());
}

#[test]
fn the_snapshots_port_where_there_are_snapshots() {
    let guarded = LEAST.replace(
        "[[volume]]\n",
        "[[volume]]\nsnapshot = \"required\"\nsnapshot-reserve = \"1MiB\"\n",
    );
    assert!(parse(&guarded).is_ok());
    // Where there are none it is not used.
    assert!(parse(&format!("[export]\nport = 10810\n{LEAST}")).is_ok());
    let clash = |text: String| parse(&text).unwrap_err().to_string();
    let same = clash(format!("[export]\nport = 10810\n{guarded}"));
    assert!(
        same.contains(
            "line 2, column 8: export: snapshot-port: found 10810, which is the export's port; \
             expected another (the default is 10810)"
        ),
        "{same}"
    );
    let shared = "[[nic]]\nroles = [\"export\"]\nindex = 1\naddress = \"10.0.2.15/24\"\n";
    let guarded = guarded
        .replace(shared, "")
        .replace("[\"replication\"]", "[\"replication\", \"export\"]");
    assert!(parse(&guarded).is_ok());
    let same = clash(format!("[export]\nsnapshot-port = 7789\n{guarded}"));
    assert!(
        same.contains(
            "line 2, column 17: export: snapshot-port: found 7789, which is the replication's on the \
             same card"
        ),
        "{same}"
    );
}

#[test]
fn too_many_of_a_kind() {
    let nics: String = (0..NICS_MAX)
        .map(|n| {
            format!(
                "[[nic]]\nroles = [\"export\"]\nindex = {}\naddress = \"10.1.{n}.1/24\"\n",
                n + 2
            )
        })
        .collect();
    let all = mistakes("[[volume]]", &format!("{nics}[[volume]]"));
    assert!(
        all[0].contains("too many [[nic]], expected at most 8"),
        "{all:#?}"
    );
    let volumes: String = (1..=replication::api::MAX_VOLUMES)
        .map(|n| format!("[[volume]]\nindex = {n}\nserial = \"s{n}\"\n"))
        .collect();
    let all = mistakes("[[volume]]", &format!("{volumes}[[volume]]"));
    assert!(
        all[0].contains("too many [[volume]], expected at most 16"),
        "{all:#?}"
    );
}
