//! A daemon with its configuration, nodes that ask it, and its log.

use fencing::datagram::{Channel, DATAGRAM_MAX, Ends, Key, Received};
use fencing::{Answer, Name, Request};
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const SECRET: &str = "a secret for the tests";
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_palisade-arbiter");

pub fn name(text: &str) -> Name {
    Name::try_from(text).expect("a name")
}

/// A directory with a configuration; removed at the end.
pub struct Place(pub PathBuf);

impl Place {
    pub fn new(test: &str) -> Self {
        Self::with(test, "")
    }

    /// With more in the table of the resource.
    pub fn with(test: &str, more: &str) -> Self {
        let place = Self::empty(test);
        let store = place.0.join("store.redb");
        place.configure(&format!("store = {store:?}"), more);
        place
    }

    /// A directory alone.
    pub fn empty(test: &str) -> Self {
        let dir =
            std::env::temp_dir().join(format!("palisade-arbiter-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).expect("a directory");
        Self(dir)
    }

    /// Writes the configuration.
    pub fn configure(&self, top: &str, more: &str) {
        // What is in front of the first table belongs to the top.
        let (keys, tables) = top
            .split_once("\n[")
            .map_or((top, String::new()), |(keys, tables)| {
                (keys, format!("[{tables}\n"))
            });
        let text = format!(
            "listen = \"127.0.0.1:0\"\n{keys}\n{tables}[[resource]]\nname = \"r0\"\nnodes = [\"a\", \"b\"]\nsecret = \"{SECRET}\"\n{more}\n"
        );
        std::fs::write(self.0.join("arbiter.toml"), text).expect("a configuration");
    }

    /// A script in it, that can be run.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        path
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.0.join(file)).unwrap_or_default()
    }

    pub fn command(&self, words: &[&str]) -> (bool, String) {
        let mut command = Command::new(PROGRAM);
        let output = command
            .arg(self.0.join("arbiter.toml"))
            .args(words)
            .output()
            .expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8(text).expect("text"),
        )
    }

    /// The journal without its times.
    pub fn journal(&self) -> Vec<String> {
        let (good, text) = self.command(&["journal"]);
        assert!(good, "{text}");
        let lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.map(|(_, line)| line.to_owned()).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub struct Daemon {
    pub child: Child,
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub fn start(place: &Place) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg(place.0.join("arbiter.toml"));
        Self::run(command)
    }

    pub fn run(mut command: Command) -> Self {
        command.stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let address = loop {
            let line = lines
                .next()
                .expect("it says where it serves")
                .expect("a line");
            let address = line.split_once("resources on ");
            if let Some(address) = address.map(|(_, address)| address.parse()) {
                break address.expect("an address");
            }
            log.lock().expect("the log").push(line);
        };
        let kept = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().expect("the log").push(line);
            }
        });
        Self {
            child,
            address,
            log,
        }
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("the log").clone()
    }

    /// Waits for a line with that in it.
    pub fn logged(&self, text: &str) -> String {
        let begun = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "no {text:?} in {log:#?}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // SIGKILL.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node.
pub struct Node {
    pub socket: UdpSocket,
    pub channel: Channel,
}

impl Node {
    pub fn new(node: &str, session: u64, identity: u64) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let wait = Some(Duration::from_millis(200));
        socket.set_read_timeout(wait).expect("a time");
        let ends = Ends {
            resource: name("r0"),
            identity,
            here: name(node),
            there: name("arbiter"),
        };
        let key = Key::new(SECRET.as_bytes(), &name("r0"));
        Self {
            socket,
            channel: Channel::new(ends, key, session),
        }
    }

    /// Asks until there is an answer, for so long. As a node does, it takes no answer to an earlier question for one.
    pub fn ask(&mut self, to: SocketAddr, request: Request, patience: Duration) -> Option<Answer> {
        let begun = Instant::now();
        let (mut out, mut bytes) = ([0; DATAGRAM_MAX], [0; DATAGRAM_MAX]);
        self.socket.set_nonblocking(true).expect("a socket");
        while self.socket.recv_from(&mut bytes).is_ok() {}
        self.socket.set_nonblocking(false).expect("a socket");
        while begun.elapsed() < patience {
            let len = self.channel.ask(request, &mut out);
            self.socket.send_to(&out[..len], to).expect("sent");
            while let Ok((len, _)) = self.socket.recv_from(&mut bytes) {
                match self.channel.receive(&bytes[..len]) {
                    Ok(Received::Answer(answer)) if meant(request, &answer) => return Some(answer),
                    Ok(Received::AskAgain) => break,
                    _ => {}
                }
            }
        }
        None
    }

    pub fn told(&mut self, to: SocketAddr, request: Request) -> Answer {
        self.ask(to, request, Duration::from_secs(20))
            .expect("an answer")
    }
}

/// Whether the answer is to that question.
fn meant(request: Request, answer: &Answer) -> bool {
    match (request, answer) {
        (
            Request::Fence { episode, .. },
            Answer::Granted { episode: to } | Answer::Refused { episode: to, .. },
        )
        | (Request::Unfence { episode, .. }, Answer::Released { episode: to }) => episode == *to,
        (Request::Query, Answer::State(_)) => true,
        (Request::Notify { number, .. }, Answer::Handled { number: to, .. }) => number == *to,
        _ => false,
    }
}

pub fn fence(episode: u64) -> Request {
    Request::Fence {
        vouched: 0,
        episode,
        released: 0,
        up_to_date: true,
        force: false,
    }
}

pub fn holder(node: &mut Node, to: SocketAddr) -> Option<(Name, u64)> {
    match node.told(to, Request::Query) {
        Answer::State(standing) => standing.holder,
        other => panic!("{other:?}"),
    }
}
