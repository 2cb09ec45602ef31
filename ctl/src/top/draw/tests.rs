#![allow(clippy::unwrap_used)]

use super::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// What `views` look like on a terminal of that size, a string a line.
fn drawn(views: &[View], columns: u16, lines: u16, now: Instant) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| draw(frame, views, now)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect();
    (0..lines).map(line).collect()
}

const STATUS: &str = r#"{"schema":1,"version":"0.1.0","uptime_us":187000000,"node":"a","peer":"b","resource":"r0","role":"Primary",
"peer_role":"Secondary","connection":"Connected","protocol":"C","reason":"","serving":true,
"suspended":{"user":false,"no_data":false,"fencing":true},"fencing":{"policy":"resource-and-stonith","episode":7,"state":"held","fenced_by":null},
"open_clients":2,"volumes":[{"index":0,"size":1073741824,"disk":"UpToDate","peer_disk":"Inconsistent","replication":"SyncSource",
"out_of_sync":549453824,"resync":{"done":1,"total":2,"percent":48.8,"rate":13107200,"eta_s":42,"stalled":false},"verify":null,"waits":"",
"read_bytes":0,"written_bytes":0,"received_bytes":0}],"memory":{"used":13107200,"total":67108864},"buffers":{"used":0,"total":16777216}}"#;

fn view() -> (View, Instant) {
    let mut view = View::new("a");
    let now = Instant::now();
    view.take(now, Ok(Status::read(STATUS).unwrap()));
    (view, now)
}

#[test]
fn a_resync_is_seen_at_a_glance() {
    let (view, now) = view();
    let lines = drawn(&[view], 80, 14, now);
    let all = lines.join("\n");
    for words in [
        "a: Primary  resource r0  up 3:07",
        "Connected (b: Secondary)  protocol C  clients 2 (serving)",
        "clients' requests wait: the fence is not decided yet",
        "fences b by episode 7 (held)",
        "SyncSource",
        "[==========..........] 48.8% 12.5 MiB/s, 42s left",
        "clients wrote 0 B/s",
    ] {
        assert!(all.contains(words), "{words} is not in\n{all}");
    }
}

#[test]
fn what_is_old_is_said_to_be_old() {
    let (mut view, now) = view();
    view.take(now, Err("no node listens".into()));
    let all = drawn(&[view], 110, 14, now + Duration::from_secs(30)).join("\n");
    assert!(all.contains("! no node listens"), "{all}");
    assert!(all.contains("what follows is 30 s old"), "{all}");
}

#[test]
fn no_terminal_is_too_small_and_no_status_too_strange() {
    let strange = STATUS
        .replace("48.8", "1e300")
        .replace("549453824", "18446744073709551615");
    for (columns, lines) in [(1, 1), (2, 2), (20, 5), (80, 24), (300, 100)] {
        let mut odd = View::new("b");
        let now = Instant::now();
        odd.take(now, Ok(Status::read(&strange).unwrap()));
        let (good, _) = view();
        drawn(&[good, odd, View::new("c")], columns, lines, now);
    }
}
