//! Small things that the tests share: commands with a time limit, ports, patterns, waiting.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies in the workspace")
        .to_path_buf()
}

/// The kernel image under test: `PALISADE_KERNEL`, or what `./run-qemu.sh build` left.
pub fn kernel() -> PathBuf {
    let path = std::env::var_os("PALISADE_KERNEL")
        .map_or_else(|| checkout().join("target/palisade.elf"), PathBuf::from);
    assert!(
        path.exists(),
        "{} is not there: ./run-qemu.sh build",
        path.display()
    );
    path
}

/// A directory for one test, removed with the value.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("palisade-e2e-")
        .tempdir()
        .expect("a temporary directory")
}

/// Runs a command to its end, at most `seconds`; its output whatever it was.
pub fn run(program: &str, arguments: &[&str], seconds: u64) -> Output {
    Command::new("timeout")
        .args(["-k", "5", &seconds.to_string(), program])
        .args(arguments)
        .output()
        .expect("coreutils' timeout")
}

/// Runs a command that must succeed; its standard output.
pub fn must(program: &str, arguments: &[&str], seconds: u64) -> String {
    let output = run(program, arguments, seconds);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A TCP port that is free on 127.0.0.1 right now, and another one with each call. Not one of those that Linux gives to
/// outgoing connections (32768 and above), or a client could have it by the time that somebody listens.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const PORTS: u32 = 12_000;
    static DRAWN: AtomicU32 = AtomicU32::new(0);
    // Tests that run at the same time begin at different places.
    let place = std::process::id().wrapping_mul(97);
    (0..PORTS)
        .map(|_| place.wrapping_add(DRAWN.fetch_add(1, Ordering::Relaxed)))
        .map(|drawn| (FIRST + drawn % PORTS) as u16)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Calls `attempt` every 20 ms until it gives a value; panics with `what` when `seconds` are over.
pub fn wait_for<T>(what: &str, seconds: u64, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "after {seconds} s still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes that look random and are the same for the same seed (xorshift64*).
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The first byte at which the first `bytes` of two images differ.
pub fn first_difference(one: &Path, other: &Path, bytes: u64) -> Option<u64> {
    const CHUNK: usize = 1 << 20;
    let open = |path| std::fs::File::open(path).expect("an image");
    let (one, other) = (open(one), open(other));
    let [mut here, mut there] = [vec![0; CHUNK], vec![0; CHUNK]];
    let mut at = 0;
    while at < bytes {
        let chunk = usize::try_from(bytes - at).map_or(CHUNK, |left| left.min(CHUNK));
        for (file, buffer) in [(&one, &mut here), (&other, &mut there)] {
            file.read_exact_at(&mut buffer[..chunk], at)
                .expect("the image is as long as its volume");
        }
        if here[..chunk] != there[..chunk] {
            let place = here.iter().zip(&there).position(|(a, b)| a != b);
            return place.map(|place| at + place as u64);
        }
        at += chunk as u64;
    }
    None
}

/// The host's tool for metadata (mdtool/), built when it is first asked for.
pub fn palisade_md() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("mdtool", "palisade-md"))
}

/// The arbiter, built on first use.
pub fn palisade_arbiter() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("palisade-arbiter", "palisade-arbiter"))
}

/// The command line for nodes (ctl/), built when it is first asked for.
pub fn palisadectl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("ctl", "palisadectl"))
}

fn built(package: &str, program: &str) -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "-p", package])
        .current_dir(checkout())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let test = std::env::current_exe().expect("this program has a path");
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps/NAME");
    target.join("debug").join(program)
}

/// Bytes of a disk that has room for a volume of so many and its metadata, by the rule of
/// `tools/pair.sh`.
pub const fn disk_bytes(volume: u64) -> u64 {
    volume + (1 << 20) + volume / 16384 / 4096 * 4096
}

/// Numbers that look random and are the same for the same seed (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % limit
    }
}

/// The last lines of a file, for a failing test's report.
pub fn tail(path: &Path, lines: usize) -> String {
    let Ok(bytes) = std::fs::read(path) else {
        return String::new();
    };
    let all = text(&bytes);
    let all: Vec<&str> = all.lines().collect();
    let mut shown = String::new();
    for line in &all[all.len().saturating_sub(lines)..] {
        let _ = writeln!(shown, "    {line}");
    }
    shown
}
