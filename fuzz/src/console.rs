//! The serial line: a person's keys, a script's commands and the log, in any mixture.
//!
//! Whatever comes, the terminal gets only what it understands, answers to scripts stay whole, and a script
//! that gives a command is understood.

use crate::Target;
use crate::input::Input;
use admin::console::{Console, EXIT_FAILED, EXIT_OK, Origin, Submitted};
use admin::verbs::{self, VERBS, Verb, VerbCompleter};
use std::fmt::Write;

/// Input: a byte for the width of the terminal, then what the line brings; `0xff` and a byte is a line
/// of the log.
pub const TARGET: Target = Target {
    name: "console",
    max_len: 4096,
    run,
    seeds,
};

const LOG: u8 = 0xff;
const PROMPT: &str = "a> ";
const VOLUMES: [u16; 3] = [0, 1, 12];
const COMPLETER: VerbCompleter<'_> = VerbCompleter { volumes: &VOLUMES };

/// The terminal: refuses bytes and places that a terminal does not have.
#[derive(Default)]
struct Terminal {
    columns: usize,
    column: usize,
    /// Inside a script's answer.
    answering: bool,
    answers: usize,
}

impl Terminal {
    fn show(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.iter().copied();
        while let Some(byte) = bytes.next() {
            match byte {
                0x1b => self.escape(&mut bytes),
                b'\r' => self.column = 0,
                b'\n' => assert_eq!(self.column, 0, "a line feed in the middle"),
                0x07 => assert!(!self.answering, "a bell in an answer"),
                0x02 => {
                    assert!(!self.answering, "an answer in an answer");
                    self.answering = true;
                }
                0x03 => {
                    assert!(self.answering, "an end without a beginning");
                    self.answering = false;
                    self.answers += 1;
                }
                0x20..=0x7e => self.column += 1,
                _ => panic!("byte {byte:#04x} on the terminal"),
            }
        }
    }

    /// The editor never leaves its one row.
    fn check_prompt(&self) {
        assert!(self.column < self.columns, "beyond the last column");
    }

    fn escape(&mut self, bytes: &mut impl Iterator<Item = u8>) {
        assert_eq!(bytes.next(), Some(b'['));
        let mut number = 0;
        loop {
            match bytes.next().expect("a whole sequence") {
                digit @ b'0'..=b'9' => number = number * 10 + usize::from(digit - b'0'),
                b'K' | b'J' => break,
                b'D' => {
                    let to = self.column.checked_sub(number);
                    break self.column = to.expect("left of the first column");
                }
                b'H' => break self.column = 0,
                other => panic!("an escape sequence that ends in {other:#04x}"),
            }
        }
    }
}

/// A console on its terminal.
struct Bench {
    console: Console,
    out: Vec<u8>,
    terminal: Terminal,
}

impl Bench {
    fn show(&mut self) {
        self.terminal.show(&self.out);
        self.out.clear();
    }

    fn feed(&mut self, byte: u8) -> Option<Submitted> {
        let submitted = self.console.feed(byte, &COMPLETER, &mut self.out);
        self.show();
        if let Some(submitted) = &submitted {
            self.execute(submitted);
        }
        self.terminal.check_prompt();
        submitted
    }

    /// What the node does with a command, as far as words go.
    fn execute(&mut self, submitted: &Submitted) {
        let is_script = matches!(submitted.origin, Origin::Machine(_));
        assert_eq!(self.terminal.answering, is_script, "whose answer it is");
        assert!(
            is_script || !submitted.line.trim().is_empty(),
            "a blank line"
        );
        let mut answer = String::new();
        let status = match verbs::parse(&submitted.line, &VOLUMES) {
            Ok(Some(Verb::Help { about })) => {
                verbs::help(about, &mut answer).expect("a string takes all");
                EXIT_OK
            }
            Ok(verb) => {
                // Verbs without output, and one that has all that a terminal must not get.
                if verb.is_some_and(|verb| verb.engine_command().is_none()) {
                    answer.push_str("\u{1b}[2J\u{2}\u{3}\u{1}\r\u{7}\u{e9}\nno end");
                }
                EXIT_OK
            }
            Err(error) => {
                write!(answer, "{error}").expect("a string takes all");
                assert!(!answer.is_empty(), "no word of explanation");
                EXIT_FAILED
            }
        };
        write!(self.console.reply(&mut self.out), "{answer}").expect("the line takes all");
        self.log(7);
        if !is_script {
            self.console.clear_screen(&mut self.out);
        }
        let answers = self.terminal.answers;
        self.console.finish(status, &mut self.out);
        self.show();
        assert!(!self.terminal.answering, "the answer has no end");
        assert_eq!(self.terminal.answers - answers, usize::from(is_script));
    }

    fn log(&mut self, number: u8) {
        let line = format!("line {number} of the log \u{1b}[1m\r\n\u{3}");
        self.console.log(&line, &mut self.out);
        self.show();
    }
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let columns = input.one_of(&[80, 50, 51, 132]);
    let mut bench = Bench {
        console: Console::new(PROMPT, columns),
        out: Vec::new(),
        terminal: Terminal {
            columns,
            ..Terminal::default()
        },
    };
    bench.console.start(&mut bench.out);
    bench.show();
    while !input.is_done() {
        match input.byte() {
            LOG => bench.log(input.byte()),
            byte => drop(bench.feed(byte)),
        }
    }
    // Whatever the line is in the middle of, a script gets through.
    let mut last = None;
    for byte in b"\x01zz log 7\r" {
        assert_eq!(last, None, "not the script's command");
        last = bench.feed(*byte);
    }
    let last = last.expect("a command");
    assert!(matches!(&last.origin, Origin::Machine(id) if id == "zz"));
    assert_eq!(last.line, "log 7");
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all: Vec<String> = VERBS
        .iter()
        .map(|spec| format!("{}\r", spec.usage))
        .collect();
    let usages: Vec<_> = VERBS.iter().map(|spec| spec.usage).collect();
    all.push(format!(
        "help\r\x01a1 {}\r\x01b2 help log\r\n",
        usages.join("\r\x01c3 ")
    ));
    let keys = [
        "sta\t --j\t\r\x1b[A\x1b[A\x1b[B\x1b[D\x1b[C\x1b[H\x1b[F\x1b[3~\x7f\x08\r",
        "primary --force\x01\x05\x0b\x15\x17\x0c\x03\x04\x14\x10\x0e\x02\x06\r",
        "log --level \t\twarn 7\r\x1bOH\x1bOF\x1b[1~\x1b[4~\x1b[5~\x1b[200~\r",
        "\x01id9 status --json\r\n\x01\x01x \r\x01toolongid status\r",
    ];
    all.extend(keys.map(String::from));
    let long = format!("{}\r\x01z {}\r", "x".repeat(300), "y".repeat(300));
    all.push(long);
    let seed = |(number, text): (usize, &String)| {
        let mut out = vec![number as u8];
        out.extend(text.as_bytes());
        out.extend([LOG, number as u8]);
        out.extend(b"rest");
        out
    };
    all.iter().enumerate().map(seed).collect()
}
