//! The console against a small model of a terminal.

use super::*;
use crate::verbs::VerbCompleter;
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

const COLUMNS: usize = 80;

/// What a person would see: rows of characters, and a cursor.
struct Screen {
    rows: Vec<Vec<char>>,
    row: usize,
    column: usize,
    bells: usize,
}

impl Screen {
    fn of(bytes: &[u8]) -> Self {
        let mut screen = Self {
            rows: vec![Vec::new()],
            row: 0,
            column: 0,
            bells: 0,
        };
        let mut bytes = bytes.iter().copied();
        while let Some(byte) = bytes.next() {
            match byte {
                0x1b => screen.escape(&mut bytes),
                b'\r' => screen.column = 0,
                b'\n' => {
                    screen.row += 1;
                    if screen.row == screen.rows.len() {
                        screen.rows.push(Vec::new());
                    }
                }
                0x07 => screen.bells += 1,
                ANSWER => screen.put('{'),
                CLOSE => screen.put('}'),
                0x20..=0x7e => screen.put(char::from(byte)),
                _ => panic!("byte {byte:#04x} on the terminal"),
            }
        }
        screen
    }

    fn escape(&mut self, bytes: &mut impl Iterator<Item = u8>) {
        assert_eq!(bytes.next(), Some(b'['));
        let mut number = 0;
        loop {
            match bytes.next().unwrap() {
                digit @ b'0'..=b'9' => number = number * 10 + usize::from(digit - b'0'),
                b'K' => break self.rows[self.row].truncate(self.column),
                b'D' => break self.column = self.column.checked_sub(number).unwrap(),
                b'H' => break (self.row, self.column) = (0, 0),
                b'J' if number == 0 => {
                    self.rows[self.row].truncate(self.column);
                    break self.rows.truncate(self.row + 1);
                }
                b'J' => break self.rows = vec![Vec::new()],
                other => panic!("escape sequence ending in {other:#04x}"),
            }
        }
    }

    fn put(&mut self, c: char) {
        let row = &mut self.rows[self.row];
        if row.len() <= self.column {
            row.resize(self.column + 1, ' ');
        }
        row[self.column] = c;
        self.column += 1;
        assert!(self.column < COLUMNS, "the last column is used: {row:?}");
    }

    fn text(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.iter().collect()).collect()
    }

    fn last(&self) -> String {
        self.rows[self.row].iter().collect()
    }
}

/// A console, its terminal, and the commands that came out; each is finished at once.
struct Bench {
    console: Console,
    out: Vec<u8>,
    commands: Vec<Submitted>,
}

impl Bench {
    fn new() -> Self {
        let mut console = Console::new("a> ", COLUMNS);
        let mut out = Vec::new();
        console.start(&mut out);
        Self {
            console,
            out,
            commands: Vec::new(),
        }
    }

    /// Feeds bytes and answers each command with `reply`.
    fn answering(&mut self, bytes: &[u8], reply: &str) -> &mut Self {
        for byte in bytes {
            if let Some(command) =
                self.console
                    .feed(*byte, &VerbCompleter::default(), &mut self.out)
            {
                fmt::Write::write_str(&mut self.console.reply(&mut self.out), reply).unwrap();
                self.console.finish(EXIT_OK, &mut self.out);
                self.commands.push(command);
            }
        }
        self
    }

    fn keys(&mut self, bytes: &[u8]) -> &mut Self {
        self.answering(bytes, "")
    }

    fn screen(&self) -> Screen {
        Screen::of(&self.out)
    }

    /// The lines of a person's commands.
    fn lines(&self) -> Vec<&str> {
        let person = |command: &&Submitted| command.origin == Origin::Person;
        self.commands
            .iter()
            .filter(person)
            .map(|c| c.line.as_str())
            .collect()
    }
}

/// The line that is entered after these keys.
fn entered(keys: &[u8]) -> String {
    let mut bench = Bench::new();
    bench.keys(keys).keys(b"\r");
    assert_eq!(bench.commands.len(), 1, "{:?}", bench.commands);
    bench.commands[0].line.to_string()
}

#[test]
fn editing_keys() {
    assert_eq!(entered(b"status"), "status");
    assert_eq!(entered(b"stauts\x1b[D\x1b[D\x1b[D\x7f\x1b[Ca"), "stuats");
    assert_eq!(entered(b"bc\x1b[Ha\x1b[Fd"), "abcd");
    assert_eq!(entered(b"abc\x01\x1b[3~\x05d"), "bcd");
    assert_eq!(entered(b"abc\x1b[D\x1b[D\x04"), "ac");
    assert_eq!(entered(b"abc\x1b[D\x1b[D\x0bx"), "ax");
    assert_eq!(entered(b"abc\x1b[D\x15x"), "xc");
    assert_eq!(entered(b"log 20 --level\x17warn"), "log 20 warn");
    assert_eq!(entered(b"log 20  \x17x"), "log x");
    assert_eq!(entered(b"one two\x1bb\x1bbx\x1bfy"), "xoney two");
    assert_eq!(entered(b"one\x1bfx"), "onex");
    assert_eq!(entered(b"junk\x03clean"), "clean");
    assert_eq!(
        entered("sta\u{e9}\u{1f600}tus\u{0}\u{1c}".as_bytes()),
        "status"
    );
}

#[test]
fn what_cannot_be_done_rings_the_bell() {
    for keys in [
        &b"\x7f"[..],
        b"\x04",
        b"\x1b[C",
        b"\x1b[A",
        b"\x1b[B",
        b"\x1b[3~",
        b"xyz\t",
        b"\x1b[5~",
    ] {
        let mut bench = Bench::new();
        assert_eq!(bench.keys(keys).screen().bells, 1, "{keys:?}");
        assert!(bench.commands.is_empty());
    }
}

#[test]
fn empty_lines_are_no_commands() {
    let mut bench = Bench::new();
    bench.keys(b"\r\n  \r\n\r");
    assert!(bench.commands.is_empty());
    assert_eq!(bench.screen().text(), ["a> ", "a>   ", "a> ", "a> "]);
}

#[test]
fn the_screen_shows_what_was_typed() {
    let mut bench = Bench::new();
    bench
        .answering(b"status\r", "one\ntwo\n")
        .keys(b"abc\x1b[D\x1b[DX");
    let screen = bench.screen();
    assert_eq!(screen.text(), ["a> status", "one", "two", "a> aXbc"]);
    assert_eq!(screen.column, 5);
    assert_eq!(screen.bells, 0);
}

#[test]
fn an_output_without_a_line_end_gets_one() {
    let mut bench = Bench::new();
    bench.answering(b"x\r", "half");
    assert_eq!(bench.screen().text(), ["a> x", "half", "a> "]);
}

#[test]
fn an_interrupt_drops_the_line() {
    let mut bench = Bench::new();
    bench.keys(b"primary --force\x1b[D\x1b[D\x03");
    assert_eq!(bench.screen().text(), ["a> primary --force^C", "a> "]);
    assert!(bench.commands.is_empty());
}

#[test]
fn history() {
    let mut bench = Bench::new();
    bench.keys(b"one\rtwo\rtwo\rhal\x1b[A\x1b[A\x1b[B\x1b[Bf\r");
    bench.keys(b"\x1b[A\x1b[A\x1b[A!\r\x1b[A\r");
    assert_eq!(bench.lines(), ["one", "two", "two", "half", "one!", "one!"]);
    assert_eq!(bench.screen().bells, 0);
}

#[test]
fn completion() {
    assert_eq!(entered(b"stat\t--j\t"), "status --json ");
    assert_eq!(entered(b"pri\t--f\t"), "primary --force ");
    assert_eq!(entered(b"prim\x1b[D\x1b[D\t"), "primary im");
    assert_eq!(entered(b"log --l\tw\t"), "log --level warn ");
    assert_eq!(entered(b"conf\ts\t"), "config show ");
    let mut bench = Bench::new();
    bench.keys(b"dis\tx\x7f\t");
    let text = bench.screen().text();
    assert_eq!(
        text,
        [
            "a> dis",
            "disks  disconnect",
            "a> dis",
            "disks  disconnect",
            "a> dis"
        ]
    );
    // Whatever is listed stays within the columns.
    let mut bench = Bench::new();
    bench.keys(b"\t");
    let listed = bench.screen().text().join(" ");
    assert!(
        crate::verbs::VERBS
            .iter()
            .all(|spec| listed.contains(spec.name))
    );
}

#[test]
fn an_over_long_line_is_refused_and_scrolls() {
    let mut bench = Bench::new();
    let long = vec![b'x'; LINE_BYTES_MAX];
    bench.keys(&long).keys(b"yy\t");
    assert_eq!(bench.screen().bells, 3);
    let screen = bench.screen();
    assert_eq!(screen.row, 0);
    assert!(screen.last().starts_with("a> xxx") && screen.last().len() < COLUMNS);
    bench.keys(b"\x01");
    assert_eq!(bench.screen().column, 3);
    bench.keys(b"\r");
    assert_eq!(bench.lines(), [core::str::from_utf8(&long).unwrap()]);
}

#[test]
fn a_long_line_shows_the_part_around_the_cursor() {
    let mut bench = Bench::new();
    let text: String = (0..25).map(|n| format!("{n:03} ")).collect();
    bench.keys(text.as_bytes());
    assert!(bench.screen().last().ends_with("022 023 024 "));
    for _ in 0..60 {
        bench.keys(b"\x1b[D");
    }
    let screen = bench.screen();
    let shown: String = screen.last().chars().skip(screen.column).collect();
    assert!(shown.starts_with("010 "), "{shown}");
    bench.keys(b"X\x1b[F");
    assert!(bench.screen().last().ends_with("024 "));
    bench.keys(b"\r");
    assert_eq!(bench.lines()[0].len(), 101);
}

#[test]
fn pasted_lines_are_commands_each() {
    let mut bench = Bench::new();
    bench.answering(b"one\r\ntwo\nthree\r", "ok\n");
    assert_eq!(bench.lines(), ["one", "two", "three"]);
    let text = bench.screen().text();
    assert_eq!(
        text,
        ["a> one", "ok", "a> two", "ok", "a> three", "ok", "a> "]
    );
}

#[test]
fn ctrl_l_keeps_the_line() {
    let mut bench = Bench::new();
    bench.answering(b"x\r", "old\n").keys(b"half\x0c");
    assert_eq!(bench.screen().text(), ["a> half"]);
}

#[test]
fn the_log_never_tears_the_prompt() {
    let mut bench = Bench::new();
    bench.keys(b"stat\x1b[D");
    assert!(bench.console.log(&"the peer is lost", &mut bench.out));
    let screen = bench.screen();
    assert_eq!(screen.text(), ["the peer is lost", "a> stat"]);
    assert_eq!(screen.column, 6);
    bench.keys(b"\x05us\r");
    assert_eq!(bench.lines(), ["status"]);
}

#[test]
fn the_log_before_the_first_prompt() {
    let mut console = Console::new("a> ", COLUMNS);
    let mut out = Vec::new();
    assert!(console.log(&"booting", &mut out));
    assert!(console.log(&"booted", &mut out));
    console.start(&mut out);
    assert_eq!(Screen::of(&out).text(), ["booting", "booted", "a> "]);
}

#[test]
fn the_log_while_a_command_runs() {
    let mut bench = Bench::new();
    for byte in b"primary\r" {
        let _ = bench
            .console
            .feed(*byte, &VerbCompleter::default(), &mut bench.out);
    }
    assert!(bench.console.log(&"line 1", &mut bench.out));
    fmt::Write::write_str(&mut bench.console.reply(&mut bench.out), "half").unwrap();
    assert!(!bench.console.log(&"never", &mut bench.out));
    bench.console.finish(EXIT_FAILED, &mut bench.out);
    assert_eq!(
        bench.screen().text(),
        ["a> primary", "line 1", "half", "a> "]
    );
}

#[test]
fn a_picture_is_drawn_over_the_one_before_and_fits_the_screen() {
    let mut console = Console::new("a> ", COLUMNS);
    let mut out = Vec::new();
    console.start(&mut out);
    console.picture("nobody asked", &mut out);
    for byte in b"watch status\r" {
        console.feed(*byte, &VerbCompleter::default(), &mut out);
    }
    console.clear_screen(&mut out);
    console.picture("long line\nsecond\nthird", &mut out);
    console.picture("short\n\x1b[31mred", &mut out);
    assert_eq!(Screen::of(&out).text(), ["short", "?[31mred", ""]);
    let tall = format!("{}\n", "x".repeat(100)).repeat(100);
    console.picture(&tall, &mut out);
    let screen = Screen::of(&out).text();
    assert_eq!(screen.len(), PICTURE_ROWS + 1, "{screen:?}");
    assert_eq!(screen[PICTURE_ROWS - 1], "(78 more)");
    console.finish(EXIT_OK, &mut out);
    assert_eq!(Screen::of(&out).last(), "a> ");
}

#[test]
fn machine_mode() {
    let mut bench = Bench::new();
    bench.answering(b"\x01x1 status --json\r", "{}\n");
    let id = MachineId::try_from("x1").unwrap();
    assert_eq!(bench.commands[0].origin, Origin::Machine(id));
    assert_eq!(bench.commands[0].line, "status --json");
    let start = bench.out.iter().position(|b| *b == ANSWER).unwrap();
    assert_eq!(
        &bench.out[start..start + 16],
        b"\x02x1\r\n{}\r\n\x03x1 0\r\n"
    );
    assert_eq!(bench.screen().last(), "a> ");
}

#[test]
fn machine_mode_keeps_a_half_typed_line() {
    let mut bench = Bench::new();
    bench.keys(b"primary\x1b[D\x1b[D");
    bench.answering(b"\x01x1 version\r\n", "v\n");
    let screen = bench.screen();
    assert_eq!(screen.text(), ["{x1", "v", "}x1 0", "a> primary"]);
    assert_eq!(screen.column, 8);
    bench.keys(b"\r");
    assert_eq!(bench.lines(), ["primary"]);
}

#[test]
fn machine_mode_holds_back_the_log() {
    let mut bench = Bench::new();
    for byte in b"\x01x1 primary\r" {
        let _ = bench
            .console
            .feed(*byte, &VerbCompleter::default(), &mut bench.out);
    }
    assert!(!bench.console.log(&"later", &mut bench.out));
    bench.console.clear_screen(&mut bench.out);
    bench.console.finish(EXIT_FAILED, &mut bench.out);
    assert!(bench.console.log(&"later", &mut bench.out));
    assert_eq!(bench.screen().text(), ["{x1", "}x1 1", "later", "a> "]);
}

#[test]
fn machine_mode_answers_an_over_long_command() {
    let mut bench = Bench::new();
    bench
        .keys(b"\x01x1 ")
        .keys(&[b'x'; LINE_BYTES_MAX + 1])
        .keys(b"\r");
    assert!(bench.commands.is_empty());
    let text = bench.screen().text();
    assert_eq!(
        text,
        [
            "{x1",
            "the command is longer than 256 characters",
            "}x1 1",
            "a> "
        ]
    );
    bench
        .keys(b"\x01x2 ")
        .keys(&[b'x'; LINE_BYTES_MAX])
        .keys(b"\r");
    assert_eq!(bench.commands[0].line.len(), LINE_BYTES_MAX);
}

#[test]
fn machine_mode_recovers_from_what_is_cut_short() {
    let mut bench = Bench::new();
    bench.keys(b"\x01x1 prim\x01x2 version\r");
    bench.keys(b"\x01x3\r").keys(b"\x01toolongid version\x03");
    bench
        .keys(b"\x01x4 ver\x1b")
        .keys(b"\x01x5 \xffstatus\x03\x01x6 disks\r");
    let machine: Vec<_> = bench.commands.iter().map(|c| c.line.as_str()).collect();
    assert_eq!(machine, ["version", "disks"]);
    assert!(bench.screen().bells >= 3);
}

#[test]
fn ctrl_a_is_home_for_a_person() {
    assert_eq!(entered(b"bc\x01\x1b[C\x01\x0bx"), "x");
    let mut bench = Bench::new();
    bench.keys(b"bc\x01");
    assert_eq!(bench.screen().column, 3);
    // A script takes it back: the cursor is where it was.
    bench.keys(b"x1 version\rd\r");
    assert_eq!(bench.lines(), ["bcd"]);
}

#[test]
fn output_cannot_break_the_framing() {
    let mut bench = Bench::new();
    bench.answering(b"\x01x1 log\r", "a\x03x1 0\r\nb\x1b[2J\u{e9}\t|\n");
    assert_eq!(
        bench.screen().text(),
        ["{x1", "a?x1 0?", "b?[2J? |", "}x1 0", "a> "]
    );
}

#[test]
fn a_command_by_another_way_leaves_the_terminal_alone() {
    let mut bench = Bench::new();
    bench.keys(b"half a li");
    let shown = bench.screen().text();
    let line = Line::try_from("net").unwrap();
    let command = bench.console.begin_web(line).unwrap();
    assert_eq!((command.origin, &*command.line), (Origin::Web, "net"));
    assert!(bench.console.is_elsewhere());
    assert!(bench.console.begin_web(Line::new()).is_none());
    // What is logged meanwhile waits, and is in no answer.
    let mut out = Vec::new();
    assert!(!bench.console.log(&"a line", &mut out));
    bench.console.clear_screen(&mut out);
    bench.console.picture("a picture", &mut out);
    let mut reply = bench.console.reply(&mut out);
    fmt::Write::write_str(&mut reply, "one\ntwo\u{1b}[2J\u{e9}").unwrap();
    bench.console.finish(EXIT_FAILED, &mut out);
    assert_eq!(out, b"one\ntwo?[2J?\n");
    assert_eq!(bench.screen().text(), shown);
    // The line goes on as if nothing had been.
    assert!(!bench.console.is_elsewhere());
    bench.keys(b"ne\r");
    assert_eq!(bench.lines(), ["half a line"]);
}

#[test]
fn a_narrow_terminal_still_works() {
    let mut console = Console::new(&"p".repeat(100), 1);
    let mut out = Vec::new();
    console.start(&mut out);
    for byte in b"some text \x1b[D\x1b[D\x01\x05" {
        assert!(
            console
                .feed(*byte, &VerbCompleter::default(), &mut out)
                .is_none()
        );
    }
}

proptest! {
    /// Whatever is typed, the terminal shows the line (or its part around the cursor), and the
    /// cursor stands where the next character goes.
    #[test]
    fn the_screen_is_the_line(
        keys in prop::collection::vec(prop_oneof![
            8 => (0x20u8..0x7e).prop_map(|b| vec![b]),
            1 => Just(b"longer words to scroll with".to_vec()),
            4 => prop::sample::select(vec![
                &b"\x1b[D"[..], b"\x1b[C", b"\x1b[A", b"\x1b[B", b"\x1b[H", b"\x1b[F", b"\x1b[3~",
                b"\x7f", b"\x0b", b"\x15", b"\x17", b"\x1bb", b"\x1bf", b"\x03", b"\r", b"\t",
            ]).prop_map(|k| k.to_vec()),
        ], 0..80)
    ) {
        let mut bench = Bench::new();
        for key in keys {
            bench.keys(&key);
        }
        let screen = bench.screen();
        let row = screen.last();
        prop_assert!(row.starts_with("a> ") && screen.column >= 3 && screen.column <= row.len());
        let (before, behind) = (&row[3..screen.column], &row[screen.column..]);
        // A mark where the cursor is, then see what the line was.
        bench.keys(b"~\r");
        let line = bench.lines().last().map_or(String::new(), |line| line.to_string());
        // Without the mark the line was full, and that is another test's.
        if let Some((left, right)) = line.split_once('~') {
            prop_assert!(left.ends_with(before), "{:?} {:?}", line, row);
            prop_assert!(right.starts_with(behind), "{:?} {:?}", line, row);
            if line.len() < COLUMNS / 2 {
                prop_assert_eq!((before, behind), (left, right));
            }
        }
    }

    /// Noise on the line neither panics nor stops the machine mode from working afterwards.
    #[test]
    fn noise_is_survived(noise in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bench = Bench::new();
        bench.keys(&noise);
        let before = bench.commands.len();
        bench.keys(b"\x01ok version\r");
        let last = bench.commands.last().unwrap();
        prop_assert_eq!(bench.commands.len(), before + 1);
        prop_assert_eq!(last.line.as_str(), "version");
    }
}
