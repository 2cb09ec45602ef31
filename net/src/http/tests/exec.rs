//! Commands.

use super::*;

const TOKEN: &str = "sixteen-letters!";

fn world() -> World {
    let mut world = World::new();
    world.server.allow_commands(TOKEN.as_bytes());
    world
}

/// A command with these headers besides.
fn post(headers: &str, body: &str) -> String {
    alloc::format!(
        "POST /v1/exec HTTP/1.1\r\nHost: n\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn with_token(body: &str) -> String {
    post(&alloc::format!("Authorization: Bearer {TOKEN}\r\n"), body)
}

#[test]
fn the_output_comes_with_the_exit_status() {
    let mut world = world();
    let at = world.connect();
    // In pieces, with a line end, and with a request behind it.
    let sent = with_token("log 2 --level\twarn\r\n") + &get("/status");
    for piece in sent.as_bytes().chunks(7) {
        assert_eq!(world.send(at, piece), Verdict::Continue);
    }
    assert_eq!(
        world.node.commands,
        [(0, "log 2 --level\twarn".to_string())]
    );
    assert_eq!(world.answer(at), "");
    // It may take its time.
    world.now += 100 * ANSWER_LIMIT;
    assert_eq!(world.run(at), Verdict::Continue);
    world.server.finish(world.now, true, b"one\ntwo\n");
    assert_eq!(world.run(at), Verdict::Continue);
    let answers = world.answer(at);
    let (first, second) = answers.split_once("one\ntwo\n").expect(&answers);
    let (code, head, _) = parts(first);
    assert_eq!(code, 200);
    has(&head, "Palisade-Exit-Status: 0");
    has(&head, "Content-Length: 8");
    has(&head, "Connection: keep-alive");
    assert_eq!(parts(second).0, 200, "{second}");
    assert_eq!(world.node.commands.len(), 1);

    assert_eq!(world.send(at, with_token("frobnicate")), Verdict::Continue);
    world
        .server
        .finish(world.now, false, b"error: there is no verb\n");
    assert_eq!(world.run(at), Verdict::Continue);
    let (code, head, body) = parts(&world.answer(at));
    assert_eq!((code, &*body), (422, "error: there is no verb\n"));
    has(&head, "Palisade-Exit-Status: 1");
}

#[test]
fn nothing_is_carried_out_without_the_token() {
    let mut world = world();
    let wrong = alloc::format!("Authorization: Bearer {TOKEN}?\r\n");
    for (headers, challenge) in [
        ("", "WWW-Authenticate: Bearer realm=\"palisade\""),
        (
            &*wrong,
            "WWW-Authenticate: Bearer realm=\"palisade\", error=\"invalid_token\"",
        ),
    ] {
        let (code, head, body) = parts(&world.ask(&post(headers, "reboot --force")));
        assert_eq!(code, 401);
        has(&head, challenge);
        has(&head, "Connection: close");
        assert!(body.contains("Authorization: Bearer TOKEN"), "{body}");
        assert!(!body.contains(TOKEN), "{body}");
    }
    assert_eq!(world.server.wrong_tokens(), 1);

    let mut off = World::new();
    let (code, _, body) = parts(&off.ask(&with_token("reboot --force")));
    assert_eq!(code, 403);
    assert!(body.contains("commands are off"), "{body}");
    assert!(world.node.commands.is_empty() && off.node.commands.is_empty());
}

#[test]
fn what_is_no_command_is_refused_with_a_word() {
    let mut world = world();
    let token = alloc::format!("Authorization: Bearer {TOKEN}\r\n");
    let form = token.clone() + "Content-Type: application/x-www-form-urlencoded\r\n";
    let chunks = alloc::format!(
        "POST /v1/exec HTTP/1.1\r\nHost: n\r\n{token}Transfer-Encoding: chunked\r\n\r\n6\r\nreboot\r\n0\r\n\r\n"
    );
    let endless =
        alloc::format!("POST /v1/exec HTTP/1.1\r\nHost: n\r\n{token}\r\nreboot --force\r\n");
    for (request, code, word) in [
        (post(&form, "reboot"), 415, "text/plain"),
        (chunks, 411, "Content-Length"),
        (endless, 411, "Content-Length"),
        (
            with_token(&"x".repeat(BODY_BYTES_MAX + 1)),
            413,
            "258 bytes",
        ),
        (with_token(&"x".repeat(COMMAND_BYTES_MAX + 1)), 400, "256"),
        (with_token("status\nreboot"), 400, "one line"),
        (with_token("status\u{1b}[2J"), 400, "printable"),
        (with_token("st\u{e4}tus"), 400, "printable"),
        (with_token("").replace("POST", "GET"), 405, "Allow"),
        (with_token("").replace("POST", "PUT"), 405, "Allow"),
    ] {
        let (got, head, body) = parts(&world.ask(&request));
        assert_eq!(got, code, "{request}");
        assert!(body.contains(word), "{body}");
        if code == 405 {
            has(&head, "Allow: POST");
        }
    }
    // A body that does not come.
    let at = world.connect();
    let _ = world.send(
        at,
        with_token("status").strip_suffix("us").expect("its end"),
    );
    world.now += REQUEST_LIMIT;
    assert_eq!(world.run(at), Verdict::Close);
    assert_eq!(parts(&world.answer(at)).0, 408);
    assert!(world.node.commands.is_empty(), "{:?}", world.node.commands);
    // The longest there is.
    let at = world.connect();
    let longest = "x".repeat(COMMAND_BYTES_MAX);
    assert_eq!(
        world.send(at, with_token(&(longest.clone() + "\r\n"))),
        Verdict::Continue
    );
    assert_eq!(world.node.commands[0].1, longest);
}

#[test]
fn one_command_at_a_time_and_the_oldest_first() {
    let mut world = world();
    let at: Vec<usize> = (0..3).map(|_| world.connect()).collect();
    for (number, at) in at.iter().enumerate() {
        world.now += 1;
        let verb = alloc::format!("verb{number}");
        assert_eq!(world.send(*at, with_token(&verb)), Verdict::Continue);
    }
    assert_eq!(world.node.commands, [(0, "verb0".to_string())]);
    // Documents are made meanwhile.
    assert_eq!(parts(&world.ask(&get("/status"))).0, 200);
    world.server.finish(world.now, true, b"");
    for at in &at {
        assert_eq!(world.run(*at), Verdict::Continue);
    }
    assert_eq!(parts(&world.answer(at[0])).0, 200);
    assert_eq!(world.node.commands[1..], [(1, "verb1".to_string())]);
    // The second takes longer than the third waits.
    world.now += ANSWER_LIMIT;
    assert_eq!(world.run(at[1]), Verdict::Continue);
    assert_eq!(world.run(at[2]), Verdict::Close);
    let (code, _, body) = parts(&world.answer(at[2]));
    assert_eq!(code, 503);
    assert!(body.contains("no command can be begun now"), "{body}");
    world.server.finish(world.now, true, b"");
    assert_eq!(world.run(at[1]), Verdict::Continue);
    assert_eq!(world.node.commands.len(), 2);
    assert_eq!(parts(&world.answer(at[1])).0, 200);
    // One that nobody could begin.
    assert_eq!(world.send(at[0], with_token("verb3")), Verdict::Continue);
    world.server.withdraw(world.now);
    assert_eq!(world.run(at[0]), Verdict::Continue);
    assert_eq!(parts(&world.answer(at[0])).0, 503);
    world.server.finish(world.now, true, b"too late");
    assert_eq!(world.run(at[0]), Verdict::Continue);
    assert_eq!(world.answer(at[0]), "");
}

#[test]
fn who_is_gone_is_not_answered_and_leaves_nothing_behind() {
    let mut world = world();
    let at = world.connect();
    assert_eq!(world.send(at, with_token("verify vol0")), Verdict::Continue);
    world.server.hang_up(0);
    // The next in that place is not taken for the one before, nor begun before the end.
    let at = world.connect();
    assert_eq!(world.pipes[at].0, 0);
    assert_eq!(world.send(at, with_token("status")), Verdict::Continue);
    assert_eq!(world.node.commands.len(), 1);
    world.server.finish(world.now, true, b"of another");
    assert_eq!(world.run(at), Verdict::Continue);
    assert_eq!(world.answer(at), "");
    assert_eq!(world.node.commands.len(), 2);
    world.server.finish(world.now, true, b"its own\n");
    assert_eq!(world.run(at), Verdict::Continue);
    assert_eq!(parts(&world.answer(at)).2, "its own\n");
    // All documents are there.
    for _ in 0..3 {
        assert_eq!(parts(&world.ask(&get("/metrics"))).0, 200);
    }
}

#[test]
fn output_is_bounded() {
    let mut world = world();
    let at = world.connect();
    assert_eq!(world.send(at, with_token("log 1000")), Verdict::Continue);
    let output = "x".repeat(CONFIG.document_bytes + 1);
    world.server.finish(world.now, true, output.as_bytes());
    assert_eq!(world.run(at), Verdict::Continue);
    let (code, head, body) = parts(&world.answer(at));
    assert_eq!((code, &*body), (200, &output[1..]));
    has(&head, "Palisade-Output: cut");
}
