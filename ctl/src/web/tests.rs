#![allow(clippy::unwrap_used)]

use super::*;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);

/// A web server that gives one answer, and keeps what it was asked.
fn answering(answer: &str) -> (Web, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = answer.replace('\n', "\r\n");
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        let mut byte = [0];
        while !got.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            got.push(byte[0]);
        }
        let head = String::from_utf8(got).unwrap().to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap_or("0");
        let length = length.split('\r').next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        head + &String::from_utf8(body).unwrap()
    });
    let web = Web::with_token(&address, Some("sixteen-letters!\n")).unwrap();
    (web, thread)
}

#[test]
fn output_and_exit_status_are_those_of_the_answer() {
    let (web, thread) = answering(
        "HTTP/1.1 200 OK\nPalisade-Exit-Status: 0\nContent-Length: 8\nConnection: close\n\nab\ncd\n",
    );
    let answer = web.run("status --json", PATIENCE).unwrap();
    assert!(answer.done);
    assert_eq!(answer.output, "ab\r\ncd\r\n");
    let asked = thread.join().unwrap();
    assert!(asked.starts_with("post /v1/exec http/1.1\r\n"), "{asked}");
    for header in [
        "\r\nauthorization: bearer sixteen-letters!\r\n",
        "\r\ncontent-type: text/plain\r\n",
        "\r\ncontent-length: 13\r\n",
        "\r\nconnection: close\r\n",
    ] {
        assert!(asked.contains(header), "{asked}");
    }
    assert!(asked.ends_with("\r\n\r\nstatus --json"), "{asked}");

    let (web, thread) = answering(
        "HTTP/1.1 422 Unprocessable Content\nPalisade-Exit-Status: 1\nContent-Length: 9\n\nerror: no",
    );
    let answer = web.run("primary", PATIENCE).unwrap();
    assert_eq!((answer.done, &*answer.output), (false, "error: no"));
    drop(thread);
}

#[test]
fn what_is_no_answer_to_a_command_is_an_error() {
    let told = |answer: &str| {
        let (web, thread) = answering(answer);
        let error = web.run("version", PATIENCE).unwrap_err();
        thread.join().unwrap();
        (error.exit_status(), error.to_string())
    };
    let (status, told_off) = told("HTTP/1.1 403 Forbidden\nContent-Length: 3\n\noff");
    assert!(
        status == 1 && told_off.contains("refuses: off"),
        "{told_off}"
    );
    let (status, other) = told("HTTP/1.1 200 OK\nContent-Length: 5\n\nhello");
    assert!(
        status == 2 && other.contains("answers 200: hello"),
        "{other}"
    );
    // A token does not go where an answer sends it.
    let (status, moved) =
        told("HTTP/1.1 307 Moved\nLocation: http://127.0.0.1:1/\nContent-Length: 0\n\n");
    assert!(status == 2 && moved.contains("307"), "{moved}");
    let (status, garbage) = told("\u{1}nonsense\n\n");
    assert!(
        status == 2 && garbage.contains("no web server answers"),
        "{garbage}"
    );
    let (status, _) = told("");
    assert_eq!(status, 2);
    // Nobody there, and nobody who answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let web = Web::with_token(&address, Some("x")).unwrap();
    let silent = web.run("version", Duration::from_millis(200)).unwrap_err();
    assert!(matches!(silent, Error::WebSilent(_)), "{silent}");
    drop(listener);
    let away = web.run("version", PATIENCE).unwrap_err();
    assert!(
        matches!(away, Error::WebAway { .. }) && away.exit_status() == 2,
        "{away}"
    );
    let none = Web::with_token(&address, None).unwrap();
    assert!(matches!(
        none.run("version", PATIENCE),
        Err(Error::Denied(..))
    ));
}

#[test]
fn addresses_and_tokens_are_checked() {
    for good in [
        "http://10.0.0.1:7791",
        "http://node-a/",
        "http://[fd00::1]:80/",
    ] {
        let web = Web::with_token(good, Some("secret-token")).unwrap();
        assert_eq!(web.address(), good.trim_end_matches('/'));
        assert!(!format!("{web:?}").contains("secret"));
    }
    for bad in [
        "https://10.0.0.1",
        "ftp://x",
        "http://",
        "http://x/status",
        "http://x?y",
        "http://user@x",
        "http://a b",
    ] {
        let error = Web::with_token(bad, None).unwrap_err();
        assert_eq!(error.exit_status(), 64, "{bad}: {error}");
    }
    let error = Web::with_token("http://x", Some("two words")).unwrap_err();
    assert!(
        error.exit_status() == 64 && !error.to_string().contains("words"),
        "{error}"
    );
    assert!(Web::new("http://x", Some(Path::new("/nonexistent"))).is_err());
}

#[test]
fn events_come_with_their_marks() {
    let (web, thread) = answering(
        "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nConnection: close\n\nid: 7-a1\ndata: {\"seq\":7}\n\n:\n\nid: 8-a1\ndata: {\"seq\":8}\n\nid: 9-a1\ndata: {\"se",
    );
    let mut stream = web.events(Some(6), Some("6-a1")).unwrap();
    assert_eq!(stream.mark(), None);
    assert_eq!(stream.next().as_deref(), Some("{\"seq\":7}"));
    assert_eq!(stream.mark(), Some("7-a1"));
    assert_eq!(stream.next().as_deref(), Some("{\"seq\":8}"));
    // Half an event is none.
    assert_eq!(stream.next(), None);
    assert_eq!(stream.mark(), Some("8-a1"));
    let asked = thread.join().unwrap();
    assert!(asked.starts_with("get /events?since=6 "), "{asked}");
    assert!(asked.contains("\r\nlast-event-id: 6-a1\r\n"), "{asked}");
}
