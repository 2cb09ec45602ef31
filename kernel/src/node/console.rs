//! The console's task: bytes between COM1 and [`admin::console`], commands to [`super::answers`] or the engine.

use alloc::vec::Vec;
use core::cell::RefCell;
use core::fmt::Write;

use admin::console::{Console, EXIT_FAILED, EXIT_OK, Line, OPEN, Origin, Submitted};
use admin::events::Format;
use admin::verbs::{self, Verb, VerbCompleter};
use drivers::port::MachineIo;
use drivers::uart::{COM1, Uart};
use embassy_time::{Duration, Timer, with_timeout};
use replication::api::{Command, Event, Micros, Text};

use super::http::Http;
use super::{Appliance, answers, history, live, signals, yield_now};
use crate::irq;
use crate::{power, time};

/// COM1's interrupt line.
const COM1_LINE: u32 = 4;
/// Columns assumed of the terminal.
const COLUMNS: usize = 80;
/// A terminal that takes no byte for so long is taken for absent, and output for it is thrown away.
const PATIENCE: Duration = Duration::from_secs(5);
/// A disk that has not saved its metadata for so long will not.
const SAVE_PATIENCE: Duration = Duration::from_secs(2);
/// How often to look whether it has.
const SAVE_POLL: Duration = Duration::from_millis(5);
/// Time for the last words to a peer and to clients before the machine goes down.
const FAREWELL: Duration = Duration::from_millis(50);
/// The same for who asked for it by the web, which has a small share of the processor.
const WEB_FAREWELL: Duration = Duration::from_millis(300);
/// Bytes of either direction after which the data path gets a turn.
const CHUNK: usize = 16;
/// For so long as the console has worked the data path has the processor for itself, this many times: a quarter is left to a flood ...
const REST: Micros = 3;
/// ... but no longer at once: a command that waits for a disk has not worked all the time.
const REST_MAX: Duration = Duration::from_millis(20);

pub(super) struct Terminal {
    uart: Uart<MachineIo>,
    pub(super) console: Console,
    /// Indices of the volumes, for the parser and the completion.
    pub(super) volumes: Vec<u16>,
    /// What waits to be sent.
    pub(super) out: Vec<u8>,
    /// Log entries printed or passed over.
    pub(super) seen: u64,
    commands: u32,
    /// What the last command ended with.
    status: u8,
    /// The byte that ended a verb which goes on until a key is pressed, if it is not for that verb.
    unread: Option<u8>,
}

/// The task.
#[embassy_executor::task]
pub async fn run(appliance: &'static RefCell<Appliance>) {
    // SAFETY: the kernel has port privilege, and apart from last words nobody else uses COM1 from here on.
    let uart = match Uart::new(unsafe { MachineIo::new() }, COM1) {
        Ok(uart) => uart,
        Err(error) => {
            log::error!("no console: {error}");
            return;
        }
    };
    let mut terminal = Terminal {
        uart,
        console: Console::new(&answers::prompt(&appliance.borrow()), COLUMNS),
        volumes: answers::volumes(&appliance.borrow()),
        out: Vec::with_capacity(4096),
        seen: 0,
        commands: 0,
        status: EXIT_OK,
        unread: None,
    };
    match irq::allocate_vector(signals::on_uart, 0)
        .map(|vector| irq::route_ioapic(COM1_LINE, vector))
    {
        Some(Ok(())) => terminal.uart.enable_rx_interrupt(true),
        Some(Err(error)) => log::error!("COM1 has no interrupt: {error:?}"),
        None => log::error!("COM1 has no interrupt: all vectors are taken"),
    }
    answers::banner(&appliance.borrow(), &mut terminal.out);
    terminal.console.start(&mut terminal.out);
    loop {
        terminal.print_log();
        terminal.send().await;
        let (mut began, mut bytes) = (time::now_micros(), 0);
        while let Some(byte) = terminal.read() {
            let volumes = &terminal.volumes;
            let completer = VerbCompleter { volumes };
            let out = &mut terminal.out;
            bytes += 1;
            if let Some(command) = terminal.console.feed(byte, &completer, out) {
                terminal.execute(appliance, command).await;
                terminal.print_log();
                bytes = CHUNK;
            }
            terminal.send().await;
            terminal.serve_web(appliance).await;
            if bytes >= CHUNK {
                rest_after(began).await;
                (began, bytes) = (time::now_micros(), 0);
            }
        }
        terminal.serve_web(appliance).await;
        signals::CONSOLE.wait().await;
    }
}

impl Terminal {
    fn read(&mut self) -> Option<u8> {
        self.unread.take().or_else(|| self.uart.try_read())
    }

    /// Prints new log entries, unless they would fall into an answer.
    pub(super) fn print_log(&mut self) {
        while let Some(entry) = history::next(self.seen) {
            if !self.console.log(&entry, &mut self.out) {
                return;
            }
            self.seen = entry.sequence + 1;
        }
    }

    /// Sends everything, at the terminal's pace; unless it is not for the terminal: that is sent when it is whole.
    pub(super) async fn send(&mut self) {
        if self.console.is_elsewhere() {
            return;
        }
        let mut last_progress = time::now_micros();
        let mut sent = 0;
        while let Some(&byte) = self.out.get(sent) {
            if self.uart.try_write(byte) {
                sent += 1;
                last_progress = time::now_micros();
                if sent.is_multiple_of(CHUNK) {
                    // A line that is always ready takes 100 KiB in one go otherwise, and the data path waits.
                    yield_now().await;
                }
            } else if time::now_micros() - last_progress > PATIENCE.as_micros() {
                break;
            } else {
                Timer::after(Duration::from_millis(1)).await;
            }
        }
        self.out.clear();
    }

    async fn execute(&mut self, appliance: &'static RefCell<Appliance>, submitted: Submitted) {
        let verb = match verbs::parse(&submitted.line, &self.volumes) {
            Ok(Some(verb)) => verb,
            Ok(None) => return self.finish(EXIT_OK),
            Err(error) => return self.end(Err(error)),
        };
        // Writing to a reply cannot fail.
        let _ = verb.write_consequence(&mut self.console.reply(&mut self.out));
        if submitted.origin == Origin::Person && verb.asks_first() {
            self.foretell(appliance, verb.act());
            if !self.confirmed().await {
                let _ = writeln!(self.console.reply(&mut self.out), "nothing was done");
                return self.finish(EXIT_FAILED);
            }
        }
        let end: Result<Text, Text> = match verb {
            Verb::Clear => {
                self.console.clear_screen(&mut self.out);
                Ok(Text::new())
            }
            Verb::Reboot { force } | Verb::Poweroff { force } => {
                let allowed = answers::may_go_down(&appliance.borrow(), force);
                if allowed.is_ok() {
                    self.step_down(appliance, &submitted.origin).await;
                    self.go_down(appliance, matches!(verb, Verb::Reboot { .. }))
                        .await
                }
                allowed
            }
            Verb::Events { json, now, since } => {
                let once = now || submitted.origin != Origin::Person;
                let format = if json { Format::Json } else { Format::Text };
                self.events(appliance, since, format, once).await
            }
            Verb::DryRun { act } => {
                self.foretell(appliance, Some(act));
                Ok(Text::try_from("nothing was done").unwrap_or_default())
            }
            Verb::Set {
                key,
                at,
                bytes,
                dry_run,
            } => {
                let value = submitted.line.get(at..at + bytes).unwrap_or_default();
                let out = &mut self.console.reply(&mut self.out);
                live::set(&mut appliance.borrow_mut(), key, value, dry_run, out)
            }
            Verb::Adjust { dry_run } => {
                let out = &mut self.console.reply(&mut self.out);
                live::adjust(&mut appliance.borrow_mut(), dry_run, out)
            }
            Verb::Watch { at } => self.watch(appliance, &submitted, at).await,
            Verb::Inspect { volume: None } => self.inspect_all(appliance, &submitted.origin).await,
            _ => match verb.engine_command() {
                Some(command) => {
                    let ended = self
                        .engine_command(appliance, command, &submitted.origin)
                        .await;
                    let out = &mut self.console.reply(&mut self.out);
                    answers::findings(&appliance.borrow(), verb, out);
                    ended
                }
                None => {
                    let appliance = appliance.borrow();
                    answers::answer(&appliance, verb, &mut self.console.reply(&mut self.out))
                }
            },
        };
        match end {
            Ok(text) => {
                if !text.is_empty() {
                    // Writing to a reply cannot fail.
                    let _ = writeln!(self.console.reply(&mut self.out), "{text}");
                }
                self.finish(EXIT_OK);
            }
            Err(text) => self.end(Err(text)),
        }
    }

    /// Whether the one at the terminal has enough of a verb that goes on until then: `q`, Ctrl-C or Escape. What a script sends ends it, too,
    /// and is read afterwards, as does a command by the web: whoever was at the terminal has left it.
    pub(super) fn is_enough(&mut self) -> bool {
        if signals::is_web_command() {
            return true;
        }
        while let Some(byte) = self.read() {
            match byte {
                b'q' | 0x03 | 0x1b => return true,
                OPEN => {
                    self.unread = Some(byte);
                    return true;
                }
                _ => {}
            }
        }
        false
    }

    /// The answer to a question, if there is one: anything but `y` is no. What a script sends, or somebody by the web, is no, too, and is read afterwards.
    pub(super) fn answered(&mut self) -> Option<bool> {
        if signals::is_web_command() {
            return Some(false);
        }
        let byte = self.read()?;
        if byte == OPEN {
            self.unread = Some(byte);
        }
        Some(matches!(byte, b'y' | b'Y'))
    }

    fn end(&mut self, result: Result<(), impl core::fmt::Display>) {
        let Err(error) = result else { return };
        // Writing to a reply cannot fail.
        let _ = writeln!(self.console.reply(&mut self.out), "error: {error}");
        self.finish(EXIT_FAILED);
    }

    fn finish(&mut self, status: u8) {
        self.status = status;
        self.console.finish(status, &mut self.out);
    }

    /// Carries out the command that the web server has, if there is one.
    async fn serve_web(&mut self, appliance: &'static RefCell<Appliance>) {
        if !signals::take_web_command() {
            return;
        }
        let line = web(&mut appliance.borrow_mut()).and_then(Http::take_command);
        let Some(command) = line.and_then(|line: Line| self.console.begin_web(line)) else {
            return;
        };
        self.execute(appliance, command).await;
        self.answer_web(appliance);
        self.print_log();
        self.send().await;
    }

    /// Hands the output of a command that has ended to the web server.
    fn answer_web(&mut self, appliance: &RefCell<Appliance>) {
        if let Some(http) = web(&mut appliance.borrow_mut()) {
            http.finish(time::now_micros(), self.status == EXIT_OK, &self.out);
        }
        self.out.clear();
        signals::DATA_PATH.signal(());
    }

    /// Has the engine carry out a command, and waits until it has. The engine bounds the time.
    async fn engine_command(
        &mut self,
        appliance: &'static RefCell<Appliance>,
        command: Command,
        origin: &Origin,
    ) -> Result<Text, Text> {
        self.commands = self.commands.wrapping_add(1);
        let id = self.commands;
        {
            let mut appliance = appliance.borrow_mut();
            let Some(node) = appliance.node.as_mut() else {
                return Err(answers::not_running());
            };
            node.core.now = time::now_micros();
            node.core.event(Event::Command { id, command });
        }
        signals::DATA_PATH.signal(());
        // A script learns at once that its command is being carried out: some take longer than it would wait for a dead line.
        self.send().await;
        loop {
            if let Some(node) = appliance.borrow_mut().node.as_mut() {
                while let Some((ended, result)) = node.core.commands.pop_front() {
                    if ended == id {
                        return result;
                    }
                }
            }
            if *origin == Origin::Person {
                self.print_log();
                self.send().await;
            }
            // The log is worth a look now and then even if the command takes its time.
            let _ = with_timeout(Duration::from_millis(200), signals::COMMAND.wait()).await;
        }
    }

    /// `inspect` without a volume: all of them.
    async fn inspect_all(
        &mut self,
        appliance: &'static RefCell<Appliance>,
        origin: &Origin,
    ) -> Result<Text, Text> {
        let mut end = Ok(Text::new());
        for volume in self.volumes.clone() {
            let verb = Verb::Inspect {
                volume: Some(volume),
            };
            let ended = self
                .engine_command(appliance, Command::Inspect { volume }, origin)
                .await;
            let out = &mut self.console.reply(&mut self.out);
            answers::findings(&appliance.borrow(), verb, out);
            let (Ok(text) | Err(text)) = &ended;
            // Writing to a reply cannot fail.
            let _ = writeln!(out, "{text}");
            if ended.is_err() {
                end =
                    Err(Text::try_from("not every volume's metadata can be used")
                        .unwrap_or_default());
            }
        }
        end
    }

    /// A Primary that goes down says so to its disks, and to its peer, as long as these answer: then nothing has to be compared
    /// when it comes back.
    async fn step_down(&mut self, appliance: &'static RefCell<Appliance>, origin: &Origin) {
        // It goes down whatever the engine answers. The peer must not find it again before it is gone.
        for command in [Command::Secondary { force: true }, Command::Disconnect] {
            let _ = self.engine_command(appliance, command, origin).await;
        }
        if let Some(node) = appliance.borrow_mut().node.as_mut() {
            node.core.engine.save_everything();
            node.core.now = time::now_micros();
            node.core.event(Event::Tick);
        }
        signals::DATA_PATH.signal(());
        saved(appliance).await;
    }

    /// Says good-bye to everybody and does not come back.
    async fn go_down(&mut self, appliance: &'static RefCell<Appliance>, reboot: bool) {
        let word = if reboot { "rebooting" } else { "powering off" };
        if self.console.is_elsewhere() {
            // The answer needs its connection. Writing to a reply cannot fail.
            let _ = writeln!(self.console.reply(&mut self.out), "{word}");
            self.finish(EXIT_OK);
            self.answer_web(appliance);
            Timer::after(WEB_FAREWELL).await;
        }
        if let Some(node) = appliance.borrow_mut().node.as_mut() {
            node.hang_up();
        }
        // Writing to a reply cannot fail.
        let _ = writeln!(self.console.reply(&mut self.out), "{word}");
        self.finish(EXIT_OK);
        self.send().await;
        signals::DATA_PATH.signal(());
        Timer::after(FAREWELL).await;
        // That the connection ended may have been noted, too: not with one copy of a superblock only.
        saved(appliance).await;
        if reboot {
            power::reboot()
        } else {
            power::poweroff()
        }
    }
}

/// Leaves the processor to the data path after what has lasted since `began`, for as long that a flood of keys or commands gets a part of it only.
async fn rest_after(began: Micros) {
    let rest = (time::now_micros() - began) * REST;
    Timer::after(Duration::from_micros(rest).min(REST_MAX)).await;
}

/// The web server, if there is one.
fn web(appliance: &mut Appliance) -> Option<&mut Http> {
    appliance.node.as_mut()?.http.as_deref_mut()
}

/// Waits until everything that the node knows is on its disks, as long as these answer.
async fn saved(appliance: &'static RefCell<Appliance>) {
    let mut waited = Duration::from_ticks(0);
    while waited < SAVE_PATIENCE {
        let saved = match &appliance.borrow().node {
            Some(node) => node.core.engine.is_saved(),
            None => true,
        };
        if saved {
            return;
        }
        Timer::after(SAVE_POLL).await;
        waited += SAVE_POLL;
    }
}
