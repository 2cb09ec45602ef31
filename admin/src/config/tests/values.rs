//! Values that are out of their limits.

use super::mistakes;
use std::format;
use std::vec::Vec;

/// A wrong value at a place of `LEAST`, or in front of it, and what the first line says of it.
#[test]
fn values_out_of_their_limits() {
    let name = "a name in quotes: 1 to 32 letters, digits, '-', '_' or '.' (ASCII)";
    let cases: &[(&str, &str, &str)] = &[
        (
            "\"a\"",
            "\"a b\"",
            &format!("line 2, column 8: node: name: found \"a b\", expected {name}"),
        ),
        (
            "\"a\"",
            "5",
            &format!("line 2, column 8: node: name: found 5, expected {name}"),
        ),
        (
            "\"a\"",
            "\"\"",
            &format!("line 2, column 8: node: name: found \"\", expected {name}"),
        ),
        (
            "\"b\"",
            "\"b\u{e9}\"",
            &format!("line 6, column 8: peer: name: found \"b?\", expected {name}"),
        ),
        (
            "name = \"a\"",
            "panic = \"explode\"\nname = \"a\"",
            "line 2, column 9: node: panic: found \"explode\", expected \"reboot\", \"halt\" or \"exit\"",
        ),
        (
            "name = \"a\"",
            "log-level = \"loud\"\nname = \"a\"",
            "line 2, column 13: node: log-level: found \"loud\", expected \"error\", \"warn\", \"info\" or \"debug\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nprotocol = \"D\"",
            "line 5, column 12: resource: protocol: found \"D\", expected \"A\", \"B\" or \"C\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nfencing = \"stonith\"",
            "line 5, column 11: resource: fencing: found \"stonith\", expected \"dont-care\", \"resource-only\" \
             or \"resource-and-stonith\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nfence-timeout = \"900ms\"",
            "line 5, column 17: resource: fence-timeout: found \"900ms\", expected a duration in quotes from \
             \"1s\" to \"10min\" (units: ms, s, min, h)",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\non-fence-timeout = \"panic\"",
            "line 5, column 20: resource: on-fence-timeout: found \"panic\", expected \"keep-frozen\" or \
             \"step-down\"",
        ),
        (
            "[node]",
            "[export]\nfloating-address = \"10.0.2.15\"\n[node]",
            "line 2, column 20: export: floating-address: found 10.0.2.15, which is this node's own address, expected \
             one that neither node has by itself",
        ),
        (
            "[node]",
            "[export]\nfloating-address = \"10.99.0.2\"\n[node]",
            "line 2, column 20: export: floating-address: found 10.99.0.2, which is the peer's address, expected one \
             that neither node has by itself",
        ),
        (
            "[node]",
            "[export]\nfloating-address = \"10.99.0.9\"\n[node]",
            "line 2, column 20: export: floating-address: found 10.99.0.9, expected a host's address in the network of \
             a [[nic]] with the role export",
        ),
        (
            "[node]",
            "[export]\nfloating-address = \"10.0.2.255\"\n[node]",
            "line 2, column 20: export: floating-address: found 10.0.2.255, expected a host's address in the network \
             of a [[nic]] with the role export",
        ),
        (
            "\"10.99.0.2:7789\"",
            "\"peer.example:7789\"",
            "line 7, column 11: peer: address: found \"peer.example:7789\", expected a host's IPv4 address \
             and port in quotes, such as \"10.99.0.2:7789\"",
        ),
        (
            "\"10.99.0.1/24\"",
            "\"10.99.0.1\"",
            "line 11, column 11: nic 0: address: found \"10.99.0.1\", expected a host's IPv4 address and \
             prefix (8 to 30) in quotes, such as \"10.99.0.1/24\"",
        ),
        (
            "index = 1",
            "mac = \"53:54:00:00:00:01\"",
            "line 14, column 7: nic 1: mac: found \"53:54:00:00:00:01\", expected the MAC address of a card \
             in quotes, such as \"52:54:00:00:01:01\"",
        ),
        (
            "index = 1",
            "index = 32",
            "line 14, column 9: nic 1: index: found 32, expected the card's place in the order of \
             discovery, from 0 to 31, without quotes",
        ),
        (
            "[\"export\"]",
            "[\"exprot\"]",
            "line 13, column 9: nic 1: roles: found [\"exprot\"], expected an array of at least one of \
             \"replication\", \"export\" or \"management\", such as [\"replication\"]",
        ),
        (
            "[\"export\"]",
            "[]",
            "line 13, column 9: nic 1: roles: found [], expected an array",
        ),
        (
            "[\"export\"]",
            "\"export\"",
            "line 13, column 9: nic 1: roles: found \"export\", expected an array",
        ),
        (
            "[\"export\"]",
            "[\"export\", \"export\"]",
            "line 13, column 9: nic 1: roles: found [\"export\", \"export\"], expected each role once",
        ),
        (
            "index = 1",
            "index = 1\nmtu = 100",
            "line 15, column 7: nic 1: mtu: found 100, expected bytes from 576 to 65535, without quotes",
        ),
        (
            "index = 1",
            "index = 1\ngateway = \"224.0.0.1\"",
            "line 15, column 11: nic 1: gateway: found \"224.0.0.1\", expected a host's IPv4 address in \
             quotes, such as \"10.99.0.254\"",
        ),
        (
            "\"a-vol0\"",
            "\"a-serial-of-21-bytes.\"",
            "line 18, column 10: volume 0: serial: found \"a-serial-of-21-bytes.\", expected the serial \
             number of a disk in quotes: 1 to 20 printable ASCII characters",
        ),
        (
            "serial",
            "block-size = 1024\nserial",
            "line 18, column 14: volume 0: block-size: found 1024, expected 512 or 4096, without quotes",
        ),
        (
            "serial",
            "size = \"1GB\"\nserial",
            "line 18, column 8: volume 0: size: found \"1GB\", expected a size in quotes from \"64KiB\" to \
             \"64TiB\" (units: B, KiB, MiB, GiB, TiB)",
        ),
        (
            "serial",
            "size = 1073741824\nserial",
            "line 18, column 8: volume 0: size: found 1073741824, expected a size in quotes",
        ),
        (
            "serial",
            "description = 1\nserial",
            "line 18, column 15: volume 0: description: found 1, expected a description in quotes: 1 to 80",
        ),
        (
            "[[volume]]\nindex = 0",
            "[[volume]]\nindex = 256",
            "line 17, column 9: volume 0: index: found 256, expected the volume's number from 0 to 255",
        ),
        (
            "[node]",
            "[net]\ntimeout = 6\n[node]",
            "line 2, column 11: net: timeout: found 6, expected a duration in quotes from \"500ms\" to \
             \"10min\" (units: ms, s, min, h)",
        ),
        (
            "[node]",
            "[net]\ntimeout = \"499ms\"\n[node]",
            "line 2, column 11: net: timeout: found \"499ms\", expected a duration",
        ),
        (
            "[node]",
            "[net]\nconnect-interval = \"1h\"\n[node]",
            "line 2, column 20: net: connect-interval: found \"1h\", expected a duration in quotes from \
             \"100ms\" to \"2min\"",
        ),
        (
            "[node]",
            "[replication]\nport = 0\n[node]",
            "line 2, column 8: replication: port: found 0, expected a TCP port from 1 to 65535",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nafter-sb-0pri = \"discard-node\"",
            "line 5, column 17: resource: after-sb-0pri: found \"discard-node\", expected \"disconnect\", \
             \"discard-younger-primary\", \"discard-older-primary\", \"discard-zero-changes\", \
             \"discard-least-changes\" or \"discard-node-NAME\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nafter-sb-1pri = \"violent\"",
            "line 5, column 17: resource: after-sb-1pri: found \"violent\", expected \"disconnect\", \
             \"consensus\", \"violently\", \"discard-secondary\" or \"call-pri-lost\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nafter-sb-2pri = 0",
            "line 5, column 17: resource: after-sb-2pri: found 0, expected \"disconnect\", \
             \"violently\" or \"call-pri-lost\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nalways-asbp = \"yes\"",
            "line 5, column 15: resource: always-asbp: found \"yes\", expected true or false, without quotes",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\nrr-conflict = \"retry\"",
            "line 5, column 15: resource: rr-conflict: found \"retry\", expected \"disconnect\", \
             \"violently\" or \"call-pri-lost\"",
        ),
        (
            "name = \"r0\"",
            "name = \"r0\"\non-no-data = \"wait\"",
            "line 5, column 14: resource: on-no-data: found \"wait\", expected \"suspend-io\" or \"io-error\"",
        ),
        (
            "[peer]",
            "[peer]\nintegrity = \"aes\"",
            "line 6, column 13: peer: integrity: found \"aes\", expected \"crc32c\", \"aes-256-gcm\" or \
             \"chacha20-poly1305\"",
        ),
        (
            "[node]",
            "[replication]\non-congestion = \"wait\"\n[node]",
            "line 2, column 17: replication: on-congestion: found \"wait\", expected \"block\", \
             \"pull-ahead\" or \"disconnect\"",
        ),
        (
            "[node]",
            "[replication]\ncongestion-extents = 0\n[node]",
            "line 2, column 22: replication: congestion-extents: found 0, expected a number of extents from 1 to 65536",
        ),
        (
            "[node]",
            "[replication]\ncongestion-fill = \"1KiB\"\n[node]",
            "line 2, column 19: replication: congestion-fill: found \"1KiB\", expected a size in quotes from \
             \"64KiB\" to \"1GiB\"",
        ),
        (
            "[node]",
            "[resync]\nc-max-rate = \"1GB/s\"\n[node]",
            "line 2, column 14: resync: c-max-rate: found \"1GB/s\", expected bytes per second in quotes from \
             \"64KiB\" to \"1TiB\" (units: B, KiB, MiB, GiB)",
        ),
        (
            "[node]",
            "[resync]\nc-min-rate = 4096\n[node]",
            "line 2, column 14: resync: c-min-rate: found 4096, expected bytes per second in quotes from \
             \"0B\" to \"1TiB\"",
        ),
        (
            "[node]",
            "[resync]\nmax-parallel-resyncs = 0\n[node]",
            "line 2, column 24: resync: max-parallel-resyncs: found 0, expected a number of volumes from 1 to \
             16, without quotes",
        ),
        (
            "[node]",
            "[disk]\ndisk-timeout = \"10ms\"\n[node]",
            "line 2, column 16: disk: disk-timeout: found \"10ms\", expected a duration in quotes from \"1s\" \
             to \"10min\" (units: ms, s, min, h), or \"0s\" for none",
        ),
        (
            "[node]",
            "[disk]\non-io-error = \"panic\"\n[node]",
            "line 2, column 15: disk: on-io-error: found \"panic\", expected \"detach\" or \"pass-on\"",
        ),
        (
            "serial",
            "metadata = \"external\"\nserial",
            "line 18, column 12: volume 0: metadata: found \"external\", expected \"internal\", or { disk = \
             \"SERIAL\" } with the serial number of another disk",
        ),
        (
            "serial",
            "metadata = { disk = \"\" }\nserial",
            "line 18, column 12: volume 0: metadata: found { disk = \"\" }, expected \"internal\", or",
        ),
        (
            "serial",
            "metadata = { disk = \"m\", size = 1 }\nserial",
            "line 18, column 12: volume 0: metadata: found { disk = \"m\", size = 1 }, expected \"internal\", or",
        ),
        (
            "serial",
            "resync-after = 0\nserial",
            "line 18, column 16: volume 0: resync-after: found 0, expected the name of a volume in quotes, \
             such as \"vol0\"",
        ),
        (
            "serial",
            "snapshot = \"required\"\nserial",
            "line 18, column 12: volume 0: snapshot: found \"required\" without snapshot-reserve; expected how much",
        ),
        (
            "serial",
            "snapshot-reserve = \"4KiB\"\nserial",
            "line 18, column 20: volume 0: snapshot-reserve: found \"4KiB\", expected a size in quotes from \"1MiB\" to \"256GiB\"",
        ),
        (
            "[node]",
            "[export]\nport = \"10809\"\n[node]",
            "line 2, column 8: export: port: found \"10809\", expected a TCP port from 1 to 65535, without \
             quotes",
        ),
        (
            "[node]",
            "[export]\nmax-connections = 15\n[node]",
            "line 2, column 19: export: max-connections: found 15, expected a number of connections from 16 \
             to 128",
        ),
        (
            "[node]",
            "[export]\nstandby-hold = \"0s\"\n[node]",
            "line 2, column 16: export: standby-hold: found \"0s\", expected a duration in quotes from \"1s\" \
             to \"10min\"",
        ),
        (
            "[node]",
            "[export]\nhandshake-timeout = \"121s\"\n[node]",
            "line 2, column 21: export: handshake-timeout: found \"121s\", expected a duration in quotes from \
             \"1s\" to \"2min\"",
        ),
    ];
    for (from, to, expected) in cases {
        let all = mistakes(from, to);
        assert!(
            all[0].starts_with(expected),
            "{to}:\n{}\n{expected}",
            all[0]
        );
        // One caret or more below what was found.
        let lines: Vec<&str> = all[0].lines().collect();
        let caret = lines[2].find('^').unwrap();
        let column: usize = lines[0].split([' ', ':']).nth(3).unwrap().parse().unwrap();
        assert_eq!(
            caret,
            lines[1].find(" | ").unwrap() + 3 + column - 1,
            "{}",
            all[0]
        );
    }
}
