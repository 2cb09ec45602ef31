//! What no proper client or peer would send. After each the node is alive and its data is whole.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::machine::Plan;
use e2e::nbd::{self, Client};
use e2e::peer::{self, Hello};
use e2e::{Machine, tools};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SIZE: u64 = 64 << 20;

/// A serving node with a known first MiB.
fn node() -> Machine {
    let mut node = Machine::boot(Plan::new());
    node.serve();
    let mut client = open(&node);
    assert_eq!(
        client
            .write(0, &tools::pattern(9, 1 << 20))
            .expect("a reply"),
        0
    );
    node
}

fn open(node: &Machine) -> Client {
    Client::open(node.nbd_port, "vol0").expect("the node serves")
}

fn connect(node: &Machine) -> Client {
    Client::connect(node.nbd_port).expect("the node greets")
}

/// A proper client is served, what was written is there, and the console answers.
fn assert_well(node: &mut Machine) {
    let mut client = open(node);
    let read = client.read(0, 1 << 20).expect("a reply");
    assert!(read == Ok(tools::pattern(9, 1 << 20)), "data was damaged");
    node.assert_alive();
}

#[test]
fn options() {
    let mut node = node();
    // An unknown client flag.
    let mut client = Client::silent(node.nbd_port).expect("a connection");
    client.take::<18>().expect("a greeting");
    client
        .send(&0x8000_0003_u32.to_be_bytes())
        .expect("it listens");
    assert!(client.hangs_up(), "unknown client flag");

    // One connection, one nonsense after the other: it stays in sync.
    let mut client = connect(&node);
    for (option, data, wanted) in [
        (0x1234, vec![], nbd::REP_ERR_UNSUP),
        (0x1234, tools::pattern(1, 60_000), nbd::REP_ERR_UNSUP),
        (nbd::OPT_EXTENDED_HEADERS, vec![], nbd::REP_ERR_UNSUP),
        (nbd::OPT_LIST, vec![1], nbd::REP_ERR_INVALID),
        (nbd::OPT_STRUCTURED_REPLY, vec![0; 3], nbd::REP_ERR_INVALID),
        (
            nbd::OPT_INFO,
            nbd::info_request("nothing"),
            nbd::REP_ERR_UNKNOWN,
        ),
        (
            nbd::OPT_GO,
            nbd::info_request("nothing"),
            nbd::REP_ERR_UNKNOWN,
        ),
        (nbd::OPT_GO, vec![], nbd::REP_ERR_INVALID),
        // A name longer than the data; longer than allowed; with a NUL.
        (
            nbd::OPT_GO,
            vec![0, 0, 0, 9, b'v', 0, 0],
            nbd::REP_ERR_INVALID,
        ),
        (nbd::OPT_GO, vec![0xff; 8], nbd::REP_ERR_INVALID),
        (
            nbd::OPT_GO,
            nbd::info_request(&"n".repeat(4097)),
            nbd::REP_ERR_INVALID,
        ),
        (
            nbd::OPT_INFO,
            nbd::info_request("vo\0l0"),
            nbd::REP_ERR_INVALID,
        ),
        // Trailing bytes; a count of information requests that is not there.
        (
            nbd::OPT_GO,
            [nbd::info_request("vol0"), vec![0]].concat(),
            nbd::REP_ERR_INVALID,
        ),
        (
            nbd::OPT_INFO,
            [vec![0, 0, 0, 4], b"vol0".to_vec(), vec![0, 5, 0, 0]].concat(),
            nbd::REP_ERR_INVALID,
        ),
        // A metadata context before structured replies.
        (
            nbd::OPT_SET_META_CONTEXT,
            meta("vol0", &["base:allocation"]),
            nbd::REP_ERR_INVALID,
        ),
        (nbd::OPT_LIST, vec![], nbd::REP_ACK),
        (nbd::OPT_INFO, nbd::info_request("vol0"), nbd::REP_ACK),
        (nbd::OPT_STRUCTURED_REPLY, vec![], nbd::REP_ACK),
        (
            nbd::OPT_SET_META_CONTEXT,
            meta("vol0", &["nothing:known"]),
            nbd::REP_ACK,
        ),
        (
            nbd::OPT_SET_META_CONTEXT,
            [meta("vol0", &[]), vec![1]].concat(),
            nbd::REP_ERR_INVALID,
        ),
        (nbd::OPT_SET_META_CONTEXT, overrun(), nbd::REP_ERR_INVALID),
    ] {
        let shown = &data[..data.len().min(16)];
        let got = client
            .option(option, &data)
            .unwrap_or_else(|e| panic!("option {option} {shown:?}: {e}"));
        assert_eq!(got, wanted, "option {option}, data {shown:?}");
    }
    let tls = client.option(nbd::OPT_STARTTLS, &[]).expect("a reply");
    assert!(
        [nbd::REP_ERR_UNSUP, nbd::REP_ERR_POLICY].contains(&tls),
        "STARTTLS: {tls:#x}"
    );
    // After all that it can still be used.
    assert_eq!(client.go("vol0").expect("GO").size, SIZE);

    // ABORT with data is still acknowledged.
    let mut client = connect(&node);
    assert_eq!(
        client.option(nbd::OPT_ABORT, b"bye").expect("a reply"),
        nbd::REP_ACK
    );
    assert!(client.hangs_up(), "after ABORT");
    // EXPORT_NAME cannot be answered with an error.
    let mut client = connect(&node);
    client
        .send_option(nbd::OPT_EXPORT_NAME, b"nothing")
        .expect("it listens");
    assert!(client.hangs_up(), "EXPORT_NAME of nothing");
    // An absurd length: either drained for ever or hung up, but never stored.
    let mut client = connect(&node);
    let mut absurd = nbd::OPTION_MAGIC.to_vec();
    absurd.extend(nbd::OPT_GO.to_be_bytes());
    absurd.extend(0xffff_fff0_u32.to_be_bytes());
    client.send(&absurd).expect("it listens");
    // A wrong option magic.
    let mut client = connect(&node);
    client
        .send(b"IHAVENOT\0\0\0\x01\0\0\0\0")
        .expect("it listens");
    assert!(client.hangs_up(), "wrong option magic");
    assert_well(&mut node);
}

fn meta(export: &str, queries: &[&str]) -> Vec<u8> {
    let count = |n: usize| u32::try_from(n).expect("short").to_be_bytes();
    let mut data = count(export.len()).to_vec();
    data.extend(export.as_bytes());
    data.extend(count(queries.len()));
    for query in queries {
        data.extend(count(query.len()));
        data.extend(query.as_bytes());
    }
    data
}

/// A query that claims to be longer than the option.
fn overrun() -> Vec<u8> {
    let mut data = meta("vol0", &["base:"]);
    let at = data.len() - 6;
    data[at] = 200;
    data
}

#[test]
fn requests() {
    let mut node = node();
    let mut client = open(&node);
    let big = 1 << 20;
    for (kind, offset, len, wanted) in [
        (nbd::CMD_READ, SIZE, 512, nbd::EINVAL),
        (nbd::CMD_READ, SIZE - 512, 1024, nbd::EINVAL),
        (nbd::CMD_READ, u64::MAX - 511, 1024, nbd::EINVAL),
        (nbd::CMD_TRIM, SIZE - 512, 1024, nbd::EINVAL),
        (nbd::CMD_WRITE_ZEROES, SIZE - 512, 1024, nbd::ENOSPC),
        (nbd::CMD_WRITE_ZEROES, u64::MAX - 511, 1024, nbd::ENOSPC),
        (nbd::CMD_CACHE, u64::MAX, 1, nbd::EINVAL),
        (99, 0, 512, nbd::EINVAL),
        (nbd::CMD_FLUSH, 0, 0, 0),
    ] {
        let got = client.command(kind, offset, len).expect("it stays alive");
        assert_eq!(got, wanted, "command {kind} at {offset:#x}+{len:#x}");
    }
    // Unknown flags; FUA is welcome everywhere.
    client
        .request(0x4000, nbd::CMD_READ, 1, 0, 512)
        .expect("it listens");
    assert_eq!(client.reply().expect("a reply"), (nbd::EINVAL, 1));
    client
        .request(nbd::FLAG_FUA, nbd::CMD_TRIM, 2, 32 << 20, 4096)
        .expect("it listens");
    assert_eq!(client.reply().expect("a reply"), (0, 2));
    client
        .request(nbd::FLAG_FUA, nbd::CMD_READ, 3, 0, 512)
        .expect("it listens");
    assert_eq!(client.reply().expect("a reply"), (0, 3));
    client.take::<512>().expect("the data");
    // Writes out of range: the payload is drained, the next request understood.
    for offset in [SIZE, SIZE - 512, u64::MAX - 4095] {
        assert_eq!(
            client.write(offset, &vec![1; big]).expect("a reply"),
            nbd::ENOSPC,
            "{offset:#x}"
        );
    }
    assert_eq!(client.write(SIZE - 512, &[1; 512]).expect("a reply"), 0);
    // Nothing at all.
    for kind in [
        nbd::CMD_READ,
        nbd::CMD_WRITE,
        nbd::CMD_TRIM,
        nbd::CMD_WRITE_ZEROES,
    ] {
        client
            .command(kind, 4096, 0)
            .expect("no disconnect for zero length");
    }
    // As large as may be.
    assert_eq!(
        client
            .write(32 << 20, &tools::pattern(4, 32 << 20))
            .expect("a reply"),
        0
    );
    let read = client.read(32 << 20, 32 << 20).expect("a reply");
    assert!(
        read == Ok(tools::pattern(4, 32 << 20)),
        "32 MiB came back different"
    );
    // Discards and zeroes of any length up to the size, even 4 GiB - 1, do not disconnect.
    client
        .command(nbd::CMD_TRIM, 2 << 20, 0xffff_fe00)
        .expect("an answer");
    client
        .command(nbd::CMD_WRITE_ZEROES, 2 << 20, (60 << 20) as u32)
        .expect("an answer");
    assert_eq!(
        client.read(40 << 20, 4096).expect("a reply"),
        Ok(vec![0; 4096])
    );
    // A bad request magic ends it.
    client
        .send(&[0x25, 0x60, 0x95, 0x14])
        .and_then(|()| client.send(&[0; 24]))
        .expect("it listens");
    assert!(client.hangs_up(), "bad request magic");
    // A write beyond the maximum: an error or the end, but nothing is stored.
    let mut client = open(&node);
    client
        .request(0, nbd::CMD_WRITE, 5, 0, 0x7fff_ffff)
        .expect("it listens");
    let _ = client.send(&vec![0xee; big]);
    drop(client);
    assert_well(&mut node);
}

#[test]
fn disconnects() {
    let mut node = node();
    // DISC with a write in flight: the write is done, DISC is not answered.
    let mut client = open(&node);
    client
        .request(0, nbd::CMD_WRITE, 1, 48 << 20, 4096)
        .expect("it listens");
    client.send(&[0x6b; 4096]).expect("it listens");
    client
        .request(0, nbd::CMD_DISC, 2, 0, 0)
        .expect("it listens");
    assert_eq!(client.reply().expect("the write's reply"), (0, 1));
    assert!(client.hangs_up(), "DISC has no reply");
    assert_eq!(
        open(&node).read(48 << 20, 4096).expect("a reply"),
        Ok(vec![0x6b; 4096])
    );
    // Half a write is no write.
    let mut client = open(&node);
    client
        .request(0, nbd::CMD_WRITE, 1, 0, 1 << 20)
        .expect("it listens");
    client.send(&vec![0xff; 900_000]).expect("it listens");
    drop(client);
    std::thread::sleep(Duration::from_millis(300));
    // A client that asks for much and reads nothing, and then goes.
    let mut greedy = open(&node);
    for cookie in 0..200 {
        if greedy
            .request(0, nbd::CMD_READ, cookie, 0, 1 << 20)
            .is_err()
        {
            break;
        }
    }
    assert_well(&mut node);
    drop(greedy);
    assert_well(&mut node);
}

#[test]
fn crowds() {
    let mut node = node();
    // Half-open connections, more than there may be clients: a proper client gets through as soon as the
    // handshake limit has thrown them out, and the connections of those already served stay.
    let mut served = open(&node);
    let crowd: Vec<_> = (0..100)
        .filter_map(|_| Client::silent(node.nbd_port).ok())
        .collect();
    assert_eq!(
        served.read(0, 512).expect("a reply").map(|data| data.len()),
        Ok(512)
    );
    let begun = Instant::now();
    tools::wait_for("a proper client gets through the crowd", 30, || {
        Client::open(node.nbd_port, "vol0").ok()
    });
    println!("after {:?}", begun.elapsed());
    drop(crowd);
    // One byte every second is no handshake either.
    let mut slow = Client::silent(node.nbd_port).expect("a connection");
    slow.take::<18>().expect("a greeting");
    let begun = Instant::now();
    while slow.send(&[0]).is_ok() {
        assert!(
            begun.elapsed() < Duration::from_secs(40),
            "no handshake limit"
        );
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_well(&mut node);
}

#[test]
fn garbage_on_every_port() {
    let mut node = node();
    for seed in 0..8 {
        for port in [node.nbd_port, node.link_port] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            stream
                .set_write_timeout(Some(Duration::from_secs(5)))
                .expect("a socket");
            let _ = stream.write_all(&tools::pattern(seed, 200_000));
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nHost: palisade\r\n\r\n");
        }
    }
    node.console.type_keys(&tools::pattern(5, 3000));
    node.console.type_keys(b"\r\x03\r");
    assert_well(&mut node);
    node.must_exec("status");
}

#[test]
fn a_flood_on_the_console_does_not_hold_clients_up() {
    let mut node = node();
    let memory = |node: &mut Machine| {
        let status: Value =
            serde_json::from_str(&node.must_exec("status --json")).expect("a status");
        status["memory"]["used"].as_u64().expect("bytes")
    };
    let before = memory(&mut node);
    let port = node.nbd_port;
    // A line of a million characters, control characters, bytes that are no text, and two thousand commands, some of them cut short or nested into one
    // another.
    let floods: [(&str, Vec<u8>); 4] = [
        ("a line", vec![b'x'; 1 << 20]),
        (
            "control characters",
            (0..1u32 << 15).map(|n| (n % 32) as u8).collect(),
        ),
        ("no text", tools::pattern(77, 1 << 15)),
        (
            "commands",
            b"version\r\x01a1 vers\x01b2 frobnicate vol9 --now\r\x1b[Anet\r\x03attach vol0\rq\x15"
                .repeat(400),
        ),
    ];
    for (what, flood) in floods {
        let (over, begun) = (AtomicBool::new(false), Instant::now());
        let (requests, slowest) = std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let mut client = Client::open(port, "vol0").expect("the node serves");
                let (mut requests, mut slowest) = (0, Duration::ZERO);
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let data = tools::pattern(requests, 4096);
                    let place = (2 << 20) + (requests % 64) * 4096;
                    assert_eq!(client.write(place, &data).expect("a reply"), 0);
                    assert!(client.read(place, 4096).expect("a reply") == Ok(data));
                    slowest = slowest.max(begun.elapsed());
                    requests += 1;
                }
                (requests, slowest)
            });
            for part in flood.chunks(4096) {
                node.console.type_keys(part);
                node.console.read_for(Duration::from_millis(1));
            }
            // The host has kept some of it for the node. Its echo is not to be searched for an answer.
            while !node.console.read_for(Duration::from_millis(500)).is_empty() {}
            over.store(true, Ordering::Relaxed);
            client.join().expect("the client is served")
        });
        println!(
            "{what}: {requests} requests in {:?}, the slowest took {slowest:?}",
            begun.elapsed()
        );
        assert!(requests > 20, "{what}: {requests} requests");
        assert!(slowest < Duration::from_secs(5), "{what}: {slowest:?}");
        node.console.type_keys(b"\x03");
        node.console.exec("version", 60).expect("an answer");
        assert_well(&mut node);
    }
    let after = memory(&mut node);
    assert!(
        after < before + (1 << 20),
        "memory: {before} and then {after}"
    );
}

/// As [`as_peer`], after the preamble.
fn as_greeted_peer(frames: &[u8]) -> String {
    as_peer(|stream| {
        let said = [&peer::preamble()[..], frames].concat();
        stream.write_all(&said).expect("it listens");
    })
}

/// Dials the node as its peer, plays `speak`, and gives what the node then logs.
fn as_peer(speak: impl Fn(&mut TcpStream)) -> String {
    let mut node = Machine::boot(Plan::new());
    node.create_metadata();
    // Of the two the peer has the larger address, so it is the one that dials.
    let mut stream = TcpStream::connect(("127.0.0.1", node.link_port)).expect("QEMU listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(3)))
        .expect("a socket");
    speak(&mut stream);
    let mut sink = Vec::new();
    let _ = stream.take(1 << 20).read_to_end(&mut sink);
    std::thread::sleep(Duration::from_millis(300));
    node.assert_alive();
    let status = node.must_exec("status");
    assert!(!status.contains("Established"), "{status}");
    // What it is for goes on: the operator may use the node alone.
    node.serve();
    let mut client = open(&node);
    assert_eq!(client.write(0, &[1; 4096]).expect("a reply"), 0);
    format!("{}\n{status}", node.must_exec("log 100"))
}

#[test]
fn a_peer_that_is_not_palisade() {
    let said = as_peer(|stream| {
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n");
        let _ = stream.write_all(&[0; 4096]);
    });
    assert!(said.to_lowercase().contains("not"), "{said}");
}

#[test]
fn a_peer_that_demands_what_this_node_does_not() {
    let said = as_peer(|stream| {
        stream.write_all(&peer::offer(true, 1)).expect("it listens");
    });
    assert!(said.contains("set the same `secret`"), "{said}");
    let said = as_peer(|stream| {
        stream
            .write_all(&peer::offer(false, 2))
            .expect("it listens");
    });
    assert!(said.contains("set the same `integrity`"), "{said}");
    // A release that knows no preamble.
    let said = as_peer(|stream| {
        let frames = Hello::proper().frames();
        stream.write_all(&frames).expect("it listens");
    });
    assert!(said.contains("the same release"), "{said}");
}

#[test]
fn a_peer_of_another_version() {
    let hello = Hello {
        version_min: 7,
        version_max: 9,
        ..Hello::proper()
    };
    let said = as_greeted_peer(&hello.frames());
    assert!(said.contains("version"), "{said}");
}

#[test]
fn a_peer_with_another_resource_or_name() {
    let other = Hello {
        resource: "r1",
        ..Hello::proper()
    };
    let said = as_greeted_peer(&other.frames());
    assert!(said.contains("r1"), "{said}");
    let other = Hello {
        node: "c",
        ..Hello::proper()
    };
    let said = as_greeted_peer(&other.frames());
    assert!(said.contains("node 'c'"), "{said}");
}

#[test]
fn a_peer_with_a_disk_of_another_size() {
    let hello = Hello {
        size: 80 << 20,
        ..Hello::proper()
    };
    let said = as_greeted_peer(&hello.frames());
    assert!(said.contains("size"), "{said}");
}

#[test]
fn a_proper_handshake_and_then_silence() {
    // The tests above prove something only if a proper peer is taken in.
    let said = as_peer(|stream| {
        let said = [peer::preamble(), Hello::proper().frames()].concat();
        stream.write_all(&said).expect("it listens");
        std::thread::sleep(Duration::from_secs(1));
    });
    assert!(said.contains("connected to peer b"), "{said}");
}
