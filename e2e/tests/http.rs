//! The web server on the management network.
#![allow(clippy::expect_used, reason = "a failed expectation is a failed test")]

use e2e::Node;
use e2e::load::{Load, Survives};
use e2e::tools::{free_port, text, wait_for};
use e2e::web::{Web, code, rest};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The value of a sample.
fn sample(metrics: &str, name: &str) -> f64 {
    let of = metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    of.and_then(|value| value.parse().ok()).expect(name)
}

#[test]
fn documents_agree_with_the_console_and_prometheus_reads_them() {
    let web = Web::boot(&["--volumes", "2"]);
    web.pair
        .qemu_io(&web.pair.uri(0), &["write -P 7 0 1M", "flush"], 60);
    for node in [Node::A, Node::B] {
        let (code, body) = web.get(node, "/healthz");
        assert_eq!((code, &*body), (200, "ok\n"));
        let (code, body) = web.get(node, "/status");
        assert_eq!(code, 200);
        let status: serde_json::Value = serde_json::from_str(&body).expect(&body);
        let console = web.pair.must_exec(node, "status --json");
        let mut console: serde_json::Value = serde_json::from_str(&console).expect(&console);
        for changes in [
            "uptime_us",
            "memory",
            "buffers",
            "allocations",
            "clients",
            "open_clients",
        ] {
            console[changes] = status[changes].clone();
        }
        assert_eq!(status, console);

        let (code, metrics) = web.get(node, "/metrics");
        assert_eq!(code, 200);
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool, of Debian's package prometheus");
        let mut input = promtool.stdin.take().expect("its input");
        input.write_all(metrics.as_bytes()).expect("it reads");
        drop(input);
        let output = promtool.wait_with_output().expect("it ends");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
        assert!(
            metrics.contains("palisade_volume_disk_state{volume=\"vol1\",state=\"UpToDate\"} 1\n")
        );
    }
    let (_, metrics) = web.get(Node::A, "/metrics");
    assert!(
        sample(
            &metrics,
            "palisade_volume_written_bytes_total{volume=\"vol0\"}"
        ) >= 1048576.0
    );
    for phase in [
        "client_request",
        "disk_request",
        "disk_flush",
        "peer_request",
    ] {
        let name = format!("palisade_{phase}_duration_seconds");
        let count = sample(&metrics, &format!("{name}_count{{volume=\"vol0\"}}"));
        let sum = sample(&metrics, &format!("{name}_sum{{volume=\"vol0\"}}"));
        assert!(count >= 1.0 && sum > 0.0, "{name}: {count} in {sum} s");
    }
    // A node whose peer is gone is well; one that is told not to look for it is not.
    web.pair.kill(Node::B);
    wait_for("the loss of the peer", 30, || {
        (web.get(Node::A, "/healthz") == (200, "ok, without the peer\n".into())).then_some(())
    });
    web.pair.must_exec(Node::A, "disconnect");
    let (code, body) = web.get(Node::A, "/healthz");
    assert!(code == 503 && body.contains("StandAlone"), "{code} {body}");
}

#[test]
fn bad_requests_and_two_hundred_connections_do_not_disturb_storage() {
    let web = Web::boot(&[]);
    let memory = |web: &Web| {
        let (_, body) = web.get(Node::A, "/status");
        let status: serde_json::Value = serde_json::from_str(&body).expect(&body);
        status["memory"]["used"].as_u64().expect("a number")
    };
    let load = Load::new(0, 64 << 20, 2, 5).start(web.pair.port(Node::A));
    wait_for("requests", 20, || (load.done() > 50).then_some(()));
    let before = memory(&web);

    let long = format!(
        "GET / HTTP/1.1\r\nHost: n\r\nX: {}\r\n\r\n",
        "y".repeat(60_000)
    );
    let many = format!(
        "GET / HTTP/1.1\r\nHost: n\r\n{}\r\n",
        "X: y\r\n".repeat(100)
    );
    for (words, expected, word) in [
        (&*long, 431, "4096 bytes"),
        (&*many, 431, "32 header lines"),
        (
            "PUT /status HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n",
            405,
            "Allow: GET, HEAD\r\n",
        ),
        (
            "DELETE /metrics HTTP/1.0\r\n\r\n",
            405,
            "Allow: GET, HEAD\r\n",
        ),
        (
            "GET /../etc/passwd HTTP/1.0\r\n\r\n",
            404,
            "there is no such page",
        ),
        (
            "POST /status HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000\r\n\r\n",
            413,
            "258 bytes",
        ),
        ("NBDMAGIC\0\0\0\0\r\n\r\n", 400, "not an HTTP/1.1 request"),
        ("GET / HTTP/2.0\r\n\r\n", 505, "HTTP/1.1"),
    ] {
        let answer = web.say(Node::A, words.as_bytes());
        assert_eq!(code(&answer), expected, "{answer}");
        assert!(answer.contains(word), "{answer}");
    }

    // Bytes that trickle in.
    let mut slow = web.connect(Node::A);
    let begun = Instant::now();
    let answer = loop {
        if slow.write_all(b"G").is_err() || begun.elapsed() > Duration::from_secs(60) {
            break rest(&mut slow);
        }
        slow.set_read_timeout(Some(Duration::from_millis(500)))
            .expect("a time");
        let mut byte = [0; 1];
        if slow.read(&mut byte).is_ok_and(|n| n == 1) {
            slow.set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a time");
            break text(&byte) + &rest(&mut slow);
        }
    };
    assert_eq!(code(&answer), 408, "{answer}");
    assert!(
        begun.elapsed() >= Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );

    // Two hundred at once, which begin a request and do not end it, and who asks meanwhile.
    let done = load.done();
    let crowd: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = web.connect(Node::A);
            let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\n");
            stream
        })
        .collect();
    wait_for("an answer in the crowd", 40, || {
        let answer = web.say(Node::A, b"GET /healthz HTTP/1.0\r\n\r\n");
        (code(&answer) == 200).then_some(())
    });
    assert!(load.alive());
    wait_for("requests in the crowd", 20, || {
        (load.done() > done + 50).then_some(())
    });
    drop(crowd);
    wait_for("an answer after the crowd", 40, || {
        (code(&web.say(Node::A, b"GET /healthz HTTP/1.0\r\n\r\n")) == 200).then_some(())
    });
    // What lies in the console's answers is not the web's doing.
    let after = memory(&web);
    assert!(
        after <= before + (256 << 10),
        "{before} bytes before, {after} after"
    );
    let mut load = load.stop();
    assert!(load.verify(web.pair.port(Node::A), Survives::Answered) > 0);
}

#[test]
fn whoever_comes_too_many_is_told_so() {
    let web = Web::boot(&[]);
    // Readers of events stay; there are connections for as many others.
    let readers: Vec<TcpStream> = (0..6)
        .map(|_| {
            let mut stream = web.connect(Node::A);
            let ask = b"GET /events HTTP/1.1\r\nHost: n\r\n\r\n";
            stream.write_all(ask).expect("a connection");
            stream.read_exact(&mut [0; 15]).expect("an answer");
            stream
        })
        .collect();
    // Forty who have begun to ask, one after the other: QEMU's user networking takes few calls at once.
    let mut asking: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = web.connect(Node::A);
            let _ = stream.write_all(b"GET /healthz HTTP/1.0\r\n");
            std::thread::sleep(Duration::from_millis(15));
            stream
        })
        .collect();
    let ask = |stream: &mut TcpStream| {
        let _ = stream.write_all(b"\r\n");
        rest(stream)
    };
    let answers: Vec<String> = asking.iter_mut().map(ask).collect();
    let of = |wanted| {
        let answers = answers.iter();
        answers.filter(|answer| code(answer) == wanted).count()
    };
    println!(
        "{} served, {} told to come again, {} had to make room",
        of(200),
        of(503),
        of(0)
    );
    for answer in &answers {
        match code(answer) {
            200 => assert!(answer.contains("\r\n\r\nok\n"), "{answer}"),
            503 => assert!(answer.contains("\r\nRetry-After: 1\r\n"), "{answer}"),
            _ => assert_eq!(answer, ""),
        }
    }
    // Only who has a connection, and has been asking for a second, has to make room.
    assert!(of(503) >= 6 && of(0) <= 24, "{answers:?}");
    drop(asking);
    // Those who hold what they have, and neither ask nor go, keep nobody out.
    let crowd: Vec<TcpStream> = (0..100).map(|_| web.connect(Node::A)).collect();
    wait_for("an answer beside them", 60, || {
        let answer = web.say(Node::A, b"GET /healthz HTTP/1.0\r\n\r\n");
        (code(&answer) == 200).then_some(())
    });
    drop((crowd, readers));
}

#[test]
fn events_are_a_stream_that_goes_on_where_it_broke_off() {
    let web = Web::boot(&[]);
    let mut reader = web.connect(Node::A);
    let ask = b"GET /events HTTP/1.1\r\nHost: n\r\nAccept: text/event-stream\r\n\r\n";
    reader.write_all(ask).expect("a connection");
    let mut lines = BufReader::new(reader).lines();
    // The identifier and the event of the next message.
    let mut next = move || {
        let mut id = String::new();
        loop {
            let line = lines.next().expect("a line").expect("text");
            if let Some(of) = line.strip_prefix("id: ") {
                id = of.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let event: serde_json::Value = serde_json::from_str(data).expect(data);
                return (id, event);
            }
        }
    };
    let state: Vec<_> = std::iter::repeat_with(&mut next)
        .take_while(|(_, event)| event["object"] != "-")
        .collect();
    assert!(state.iter().all(|(_, event)| event["event"] == "exists"));
    assert!(state.iter().any(|(_, event)| event["object"] == "resource"));
    web.pair.cut("replication");
    let (id, event) = next();
    assert_eq!(event["event"], "change", "{event}");
    let known = event["seq"].as_u64().expect("a number");
    wait_for("more events", 30, || {
        let (_, metrics) = web.get(Node::A, "/metrics");
        metrics
            .contains("palisade_volume_peer_disk_state{volume=\"vol0\",state=\"DUnknown\"} 1\n")
            .then_some(())
    });
    // Who comes back hears what happened after that one.
    let mut back = web.connect(Node::A);
    let ask = format!("GET /events HTTP/1.1\r\nHost: n\r\nLast-Event-ID: {id}\r\n\r\n");
    back.write_all(ask.as_bytes()).expect("a connection");
    let mut lines = BufReader::new(back).lines().map(|line| line.expect("text"));
    let data = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned));
    let data = data.expect("an event");
    let event: serde_json::Value = serde_json::from_str(&data).expect(&data);
    assert_eq!(event["seq"], known + 1, "{event}");
}

/// A headless Chromium, driven by its driver as the WebDriver standard says.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Browser {
    fn open(address: &str) -> Self {
        let port = free_port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver, of Debian's package chromium-driver");
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
        };
        wait_for("chromedriver", 30, || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ];
        let session = browser.command(
            "",
            &serde_json::json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": {"args": arguments}}}}),
        );
        browser.session = format!("/{}", session["sessionId"].as_str().expect("a session"));
        browser.command("/url", &serde_json::json!({ "url": address }));
        browser
    }

    fn command(&self, path: &str, body: &serde_json::Value) -> serde_json::Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver");
        let time = Some(Duration::from_secs(120));
        stream.set_read_timeout(time).expect("a time");
        let (session, length) = (&self.session, body.len());
        let head = format!(
            "POST /session{session}{path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream
            .write_all((head + &body).as_bytes())
            .expect("it reads");
        // The driver keeps its connections open, whatever it is asked.
        let mut lines = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).expect("a header");
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(bytes) = line.strip_prefix("content-length:") {
                length = bytes.trim().parse().expect("a length");
            } else if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        lines.read_exact(&mut body).expect("a body");
        let body = &*text(&body);
        let answer: serde_json::Value = serde_json::from_str(body).expect(body);
        assert!(answer["value"]["error"].is_null(), "{answer}");
        answer["value"].clone()
    }

    /// What an expression in the page is.
    fn value(&self, expression: &str) -> serde_json::Value {
        let script = format!("return {expression};");
        self.command(
            "/execute/sync",
            &serde_json::json!({"script": script, "args": []}),
        )
    }

    fn text(&self, id: &str) -> String {
        let text = self.value(&format!("document.getElementById('{id}').textContent"));
        text.as_str().expect("text").to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its session's end ends the browser.
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let head = format!(
                "DELETE /session{} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
                self.session
            );
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.read(&mut [0; 1]);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_page_shows_both_nodes_and_follows_them() {
    let web = Web::boot(&[]);
    let browser = Browser::open(&format!("http://127.0.0.1:{}/", web.ports[0]));
    let shown = |ids: &[&str]| ids.iter().map(|id| browser.text(id)).collect::<Vec<_>>();
    wait_for("the state of the pair", 60, || {
        (browser.text("connection") == "Connected").then_some(())
    });
    assert_eq!(
        shown(&["node", "role", "disk"]),
        ["a", "Primary", "UpToDate"]
    );
    assert_eq!(
        shown(&["peer", "peer-role", "peer-disk"]),
        ["b", "Secondary", "UpToDate"]
    );
    assert!(
        browser.text("volumes").contains("vol0"),
        "{}",
        browser.text("volumes")
    );
    assert_eq!(
        browser.value("getComputedStyle(document.body).maxWidth"),
        "960px",
        "its style is used"
    );
    // Throughput: of a client that writes.
    web.pair
        .qemu_io(&web.pair.uri(0), &["write -P 7 0 8M", "flush"], 60);
    wait_for("a plot of it", 30, || {
        (browser.value("points.some(point => point.written > 0)") == true).then_some(())
    });
    let painted = "new Uint32Array(document.getElementById('plot').getContext('2d').getImageData(0, 0, 300, 80).data.buffer).some(pixel => pixel)";
    assert_eq!(browser.value(painted), true);
    web.pair.cut("replication");
    wait_for("the cut on the page", 60, || {
        (browser.text("connection") != "Connected" && browser.text("peer-role") == "Unknown")
            .then_some(())
    });
    assert_eq!(browser.text("peer-disk"), "DUnknown");
    wait_for("the cut in the history", 30, || {
        browser
            .text("events")
            .contains("change connection")
            .then_some(())
    });
    web.pair.restore("replication");
    wait_for("both again", 60, || {
        (shown(&["connection", "peer-disk"]) == ["Connected", "UpToDate"]).then_some(())
    });
    assert_eq!(
        browser.value("document.getElementById('gone').hidden"),
        true
    );
    web.pair.kill(Node::A);
    wait_for("a word that the node is gone", 60, || {
        (browser.value("document.getElementById('gone').hidden") == false).then_some(())
    });
}
