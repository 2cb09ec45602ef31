#![allow(clippy::unwrap_used)]

use super::*;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(30);

fn node_in(dir: &Path) -> Socket {
    Socket(dir.join("a.console"))
}

/// A node that reads one command and answers with `answer`, where `ID` stands for the command's; gives what it read.
fn answering(dir: &Path, answer: &'static str) -> (Socket, JoinHandle<String>) {
    let node = node_in(dir);
    let listener = UnixListener::bind(&node.0).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        let mut byte = [0];
        while stream.read(&mut byte).unwrap() == 1 && byte != [b'\r'] {
            got.push(byte[0]);
        }
        let got = String::from_utf8(got).unwrap();
        let id = got[1..].split(' ').next().unwrap().to_owned();
        // In two pieces, cut in the middle of something.
        let answer = answer.replace("ID", &id).into_bytes();
        let (first, second) = answer.split_at(answer.len() / 2);
        stream.write_all(first).unwrap();
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(second).unwrap();
        got
    });
    (node, thread)
}

#[test]
fn the_answer_is_what_stands_between_the_marks() {
    let dir = tempfile::tempdir().unwrap();
    let (node, thread) = answering(
        dir.path(),
        "old \x02x1\r\nnot this\r\n\x03x1 0\r\n\r\x1b[Ka> \x02ID\r\nline 1\r\nline 2\r\n\x03ID 0\r\na> ",
    );
    let answer = Line::open(&node, PATIENCE).unwrap().run("status", PATIENCE);
    assert_eq!(
        answer.unwrap(),
        Answer {
            output: "line 1\nline 2\n".into(),
            done: true
        }
    );
    let sent = thread.join().unwrap();
    assert!(
        sent.starts_with('\x01') && sent.ends_with(" status"),
        "{sent:?}"
    );
    let id = &sent[1..sent.len() - " status".len()];
    assert!(
        id.len() <= 8 && id.bytes().all(|b| b.is_ascii_alphanumeric()),
        "{id}"
    );
}

#[test]
fn a_refusal_is_told_from_a_success() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _thread) = answering(dir.path(), "\x02ID\r\nerror: no\r\n\x03ID 1\r\n");
    let answer = Line::open(&node, PATIENCE)
        .unwrap()
        .run("primary", PATIENCE);
    assert_eq!(
        answer.unwrap(),
        Answer {
            output: "error: no\n".into(),
            done: false
        }
    );
}

#[test]
fn a_line_that_breaks_off_leaves_it_open_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _thread) = answering(dir.path(), "\x02ID\r\nhalf of");
    let error = Line::open(&node, PATIENCE).unwrap().run("status", PATIENCE);
    assert!(
        matches!(error, Err(Error::Broken { why: None, .. })),
        "{error:?}"
    );
}

#[test]
fn a_node_that_says_nothing_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_in(dir.path());
    let _listener = UnixListener::bind(&node.0).unwrap();
    let error = Line::open(&node, PATIENCE).unwrap().run("status", SOON);
    assert!(
        matches!(error, Err(Error::Silent { begun: false, .. })),
        "{error:?}"
    );
}

#[test]
fn where_no_node_is_nothing_is_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_in(dir.path());
    assert!(matches!(
        Line::open(&node, PATIENCE),
        Err(Error::Away { .. })
    ));
    assert!(!node.lock().exists());
}

#[test]
fn the_lock_is_respected_and_released() {
    let dir = tempfile::tempdir().unwrap();
    let node = node_in(dir.path());
    let _listener = UnixListener::bind(&node.0).unwrap();
    let held = Line::open(&node, PATIENCE).unwrap();
    assert!(matches!(Line::open(&node, SOON), Err(Error::Busy(_))));
    std::fs::write(node.lock(), "console\n").unwrap();
    assert!(matches!(Line::open(&node, PATIENCE), Err(Error::InUse(_))));
    drop(held);
    Line::open(&node, PATIENCE).unwrap();
}
