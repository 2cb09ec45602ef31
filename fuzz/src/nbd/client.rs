//! An NBD client: what it sends, and a strict reader of what it gets.

use crate::input::Input;
use net::nbd::proto::{
    CHUNK_HEADER_LEN, Cursor, EXPORT_NAME_ZEROES, IHAVEOPT, NBDMAGIC, OPTION_REPLY_MAGIC, Request,
    SIMPLE_REPLY_LEN, SIMPLE_REPLY_MAGIC, STRUCTURED_REPLY_MAGIC, cflag, chunk, cmd, info, opt,
    rep,
};
use net::stream::ByteStream;
use std::collections::{BTreeMap, VecDeque};

/// Bytes of each volume.
pub const DISK: u64 = 8 << 20;
/// Longest payload that is really sent.
const PAYLOAD_MAX: u32 = 256 << 10;

/// What is on the disks: a byte that tells offsets apart.
pub fn content(at: u64) -> u8 {
    (at ^ at >> 9 ^ at >> 17) as u8
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Asked {
    command: u16,
    offset: u64,
    len: u32,
    /// Bytes of data that came.
    got: u32,
    /// Whether it must succeed; `None` where this client does not know.
    sound: Option<bool>,
}

/// Where the server's bytes stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Greeting,
    Options,
    Transmission,
}

/// A client and its connection.
#[derive(Debug)]
pub struct Client {
    inbound: VecDeque<u8>,
    /// Bytes of `inbound` that have arrived at the server.
    delivered: usize,
    /// Whether what is sent does not arrive by itself.
    held: bool,
    window: usize,
    pub closed: bool,
    /// Has sent nothing but whole options and requests.
    pub polite: bool,
    outbound: Vec<u8>,
    stage: Stage,
    /// Options that wait for their answer.
    options: VecDeque<u32>,
    /// Has said its flags; whether without zeroes.
    flags: Option<bool>,
    structured: bool,
    /// Has asked for an export by name.
    entered: Option<u64>,
    asked: BTreeMap<u64, Asked>,
    cookie: u64,
    /// An answer of the engine was an error, so any request may fail.
    pub faulty: bool,
}

impl ByteStream for Client {
    fn readable(&self) -> usize {
        self.delivered
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.delivered);
        for (to, from) in out.iter_mut().zip(self.inbound.drain(..n)) {
            *to = from;
        }
        self.delivered -= n;
        n
    }
    fn at_end(&self) -> bool {
        self.closed && self.inbound.is_empty()
    }
    fn writable(&self) -> usize {
        self.window
    }
    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.window);
        self.outbound.extend_from_slice(&data[..n]);
        if self.window != usize::MAX {
            self.window -= n;
        }
        n
    }
}

impl Client {
    pub fn new() -> Self {
        Self {
            inbound: VecDeque::new(),
            delivered: 0,
            held: false,
            window: usize::MAX,
            closed: false,
            polite: true,
            outbound: Vec::new(),
            stage: Stage::Greeting,
            options: VecDeque::new(),
            flags: None,
            structured: false,
            entered: None,
            asked: BTreeMap::new(),
            cookie: 0,
            faulty: false,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        self.inbound.extend(bytes);
        if !self.held {
            self.delivered = self.inbound.len();
        }
    }

    /// Lets so many more bytes arrive, and from now on only such.
    pub fn deliver(&mut self, bytes: usize) {
        self.held = true;
        self.delivered = (self.delivered + bytes).min(self.inbound.len());
    }

    /// Everything arrives in both directions.
    pub fn open_wide(&mut self) {
        self.held = false;
        self.delivered = self.inbound.len();
        self.window = usize::MAX;
    }

    pub fn set_window(&mut self, bytes: usize) {
        self.window = bytes;
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.polite = false;
        self.send(bytes);
    }

    fn say_flags(&mut self, no_zeroes: bool) {
        if self.flags.is_none() {
            self.flags = Some(no_zeroes);
            self.send(&[0, 0, 0, 1 | u8::from(no_zeroes) << 1]);
        }
    }

    /// Sends an option, well formed or nearly so.
    pub fn option(&mut self, input: &mut Input<'_>) {
        let option = input.one_of(&[
            opt::GO,
            opt::STRUCTURED_REPLY,
            opt::SET_META_CONTEXT,
            opt::EXPORT_NAME,
            opt::LIST,
            opt::INFO,
            opt::LIST_META_CONTEXT,
            opt::ABORT,
            opt::STARTTLS,
            99,
        ]);
        let name = input.one_of(&["", "vol0", "vol1", "vol2"]);
        let wanted = input.byte();
        self.say_flags(wanted & 128 == 0);
        if self.entered.is_some() {
            // The server takes the rest for requests.
            self.polite = false;
        }
        let mut data = Vec::new();
        let length = |bytes: &[u8]| (bytes.len() as u32).to_be_bytes();
        match option {
            opt::GO | opt::INFO => {
                data.extend(length(name.as_bytes()));
                data.extend(name.as_bytes());
                let kinds = [
                    info::EXPORT,
                    info::NAME,
                    info::DESCRIPTION,
                    info::BLOCK_SIZE,
                ];
                let kinds = kinds.iter().filter(|kind| wanted & 1 << **kind != 0);
                let kinds: Vec<u8> = kinds.flat_map(|kind| kind.to_be_bytes()).collect();
                data.extend((kinds.len() as u16 / 2).to_be_bytes());
                data.extend(kinds);
            }
            opt::SET_META_CONTEXT | opt::LIST_META_CONTEXT => {
                data.extend(length(name.as_bytes()));
                data.extend(name.as_bytes());
                let queries = ["base:allocation", "base:", "qemu:dirty-bitmap:x"];
                let queries = &queries[..usize::from(wanted % 4)];
                data.extend((queries.len() as u32).to_be_bytes());
                for query in queries {
                    data.extend(length(query.as_bytes()));
                    data.extend(query.as_bytes());
                }
            }
            opt::EXPORT_NAME => data.extend(name.as_bytes()),
            _ => data.extend(input.bytes(usize::from(wanted & 3))),
        }
        if wanted & 64 != 0 {
            data.resize(data.len() + 9000, 0);
        }
        let known = name != "vol2" && wanted & 64 == 0;
        let quiet = matches!(option, opt::ABORT) || option == opt::EXPORT_NAME && !known;
        if option == opt::STRUCTURED_REPLY && data.is_empty() {
            self.structured = true;
        }
        if matches!(option, opt::GO | opt::EXPORT_NAME) && known {
            self.entered = Some(if name == "vol1" { 4096 } else { 512 });
        }
        // After a goodbye the rest may be answered or not.
        self.polite &= !quiet;
        self.options.push_back(option);
        let mut out = IHAVEOPT.to_be_bytes().to_vec();
        out.extend(option.to_be_bytes());
        out.extend(length(&data));
        out.extend(data);
        self.send(&out);
    }

    /// Sends a request, sound or not. `write_max` is the server's limit.
    pub fn request(&mut self, input: &mut Input<'_>, write_max: u32) {
        let command = input.one_of(&[
            cmd::READ,
            cmd::WRITE,
            cmd::FLUSH,
            cmd::TRIM,
            cmd::WRITE_ZEROES,
            cmd::BLOCK_STATUS,
            cmd::CACHE,
            cmd::DISC,
            1000,
        ]);
        let flags = input.one_of(&[
            0,
            cflag::FUA,
            cflag::DF,
            cflag::NO_HOLE,
            cflag::REQ_ONE,
            cflag::FAST_ZERO,
            u16::MAX,
        ]);
        let unit = input.one_of(&[4096, 512, 131_072, 1]);
        let offset = match input.byte() {
            255 => u64::MAX,
            254 => DISK - unit,
            at => u64::from(at) * unit,
        };
        let lens = [
            4096,
            512,
            65_536,
            262_144,
            1 << 20,
            0,
            1,
            4097,
            1 << 31,
            40 << 20,
        ];
        let length = input.one_of(&lens);
        let Some(block) = self.entered else {
            // Only raw bytes are wrong here in more interesting ways.
            return;
        };
        self.cookie += 1;
        let cookie = self.cookie;
        let (offset, length) = match command {
            cmd::FLUSH if flags == 0 => (0, 0),
            _ => (offset, length),
        };
        let request = Request {
            flags,
            command,
            cookie,
            offset,
            length,
        };
        let inside = offset
            .checked_add(u64::from(length))
            .is_some_and(|end| end <= DISK);
        let aligned = (offset | u64::from(length)) & (block - 1) == 0;
        let sound = match (command, flags) {
            (cmd::FLUSH, 0) => Some(true),
            (cmd::READ | cmd::TRIM | cmd::WRITE_ZEROES, 0 | cflag::FUA) => Some(inside && aligned),
            (cmd::WRITE, 0 | cflag::FUA) => Some(inside && aligned && length <= write_max),
            (1000, _) => Some(false),
            _ => None,
        };
        let asked = Asked {
            command,
            offset,
            len: length,
            got: 0,
            sound,
        };
        if command == cmd::DISC {
            self.polite = false;
        } else {
            self.asked.insert(cookie, asked);
        }
        self.send(&request.encode());
        if command == cmd::WRITE {
            // The client dies in the middle of a payload that is too long to be made here.
            self.polite &= length <= PAYLOAD_MAX;
            let payload =
                (0..length.min(PAYLOAD_MAX)).map(|at| content(offset.wrapping_add(at.into())));
            let payload: Vec<u8> = payload.collect();
            self.send(&payload);
        }
    }

    /// Reads what the server said so far. Panics at the first byte that it must not have said.
    pub fn check(&mut self) {
        if !self.polite {
            self.outbound.clear();
            return;
        }
        let outbound = std::mem::take(&mut self.outbound);
        let mut rest = &outbound[..];
        while let Some(used) = self.item(rest) {
            rest = &rest[used..];
        }
        self.outbound = rest.to_vec();
    }

    /// Takes one whole item off the server's bytes, if there is one; returns its length.
    fn item(&mut self, bytes: &[u8]) -> Option<usize> {
        match self.stage {
            Stage::Greeting => {
                let mut at = Cursor::new(bytes);
                let (magic, option, flags) = (at.u64()?, at.u64()?, at.u16()?);
                assert_eq!(
                    (magic, option, flags),
                    (NBDMAGIC, IHAVEOPT, 3),
                    "the greeting"
                );
                self.stage = Stage::Options;
                Some(18)
            }
            Stage::Options => self.option_reply(bytes),
            Stage::Transmission => self.reply(bytes),
        }
    }

    fn option_reply(&mut self, bytes: &[u8]) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        let expected = *self.options.front().expect("an option was sent");
        let mut at = Cursor::new(bytes);
        if expected == opt::EXPORT_NAME {
            let zeroes = if self.flags == Some(true) {
                0
            } else {
                EXPORT_NAME_ZEROES
            };
            let len = 10 + zeroes;
            let _whole = bytes.get(..len)?;
            assert_eq!(at.u64(), Some(DISK), "the size");
            self.stage = Stage::Transmission;
            return Some(len);
        }
        let (magic, option, kind, len) = (at.u64()?, at.u32()?, at.u32()?, at.u32()?);
        let _data = at.take(len as usize)?;
        assert_eq!(
            (magic, option),
            (OPTION_REPLY_MAGIC, expected),
            "an option's reply"
        );
        let last = kind == rep::ACK || kind & 1 << 31 != 0;
        assert!(last || matches!(kind, rep::SERVER | rep::INFO | rep::META_CONTEXT));
        if last {
            self.options.pop_front();
            match (option, kind) {
                (opt::GO, rep::ACK) => self.stage = Stage::Transmission,
                // What follows was meant for an export that was not opened.
                (opt::GO, _) => self.polite = false,
                _ => {}
            }
        }
        Some(20 + len as usize)
    }

    fn reply(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = Cursor::new(bytes);
        match at.u32()? {
            SIMPLE_REPLY_MAGIC => {
                let (error, cookie) = (at.u32()?, at.u64()?);
                let asked = self.asked.get(&cookie).expect("a request waits for this");
                let read = asked.command == cmd::READ;
                assert!(
                    !(read && self.structured),
                    "a simple reply to a structured read"
                );
                let len = if read && error == 0 { asked.len } else { 0 };
                let data = at.take(len as usize)?;
                check_data(asked.offset, data);
                self.finish(cookie, error, len);
                Some(SIMPLE_REPLY_LEN + len as usize)
            }
            STRUCTURED_REPLY_MAGIC => {
                let (flags, kind, cookie, len) = (at.u16()?, at.u16()?, at.u64()?, at.u32()?);
                let mut body = Cursor::new(at.take(len as usize)?);
                assert!(
                    self.structured,
                    "a structured reply to a client that did not ask for them"
                );
                let asked = self
                    .asked
                    .get_mut(&cookie)
                    .expect("a request waits for this");
                let mut error = 0;
                match kind {
                    chunk::NONE => assert_eq!((len, flags), (0, chunk::FLAG_DONE)),
                    chunk::OFFSET_DATA => {
                        assert_eq!(asked.command, cmd::READ);
                        let offset = body.u64().expect("an offset");
                        let data = body.take(len as usize - 8).expect("data");
                        let from = offset.checked_sub(asked.offset).expect("inside");
                        let end = from + data.len() as u64;
                        assert!(
                            !data.is_empty() && end <= asked.len.into(),
                            "outside the read"
                        );
                        if !self.faulty {
                            check_data(offset, data);
                        }
                        asked.got += data.len() as u32;
                    }
                    chunk::BLOCK_STATUS => assert_eq!(asked.command, cmd::BLOCK_STATUS),
                    chunk::ERROR | chunk::ERROR_OFFSET => {
                        error = body.u32().expect("an error");
                        assert_ne!(error, 0);
                    }
                    _ => panic!("chunk type {kind:#x}"),
                }
                if flags & chunk::FLAG_DONE != 0 {
                    let got = asked.got;
                    self.finish(cookie, error, got);
                }
                Some(CHUNK_HEADER_LEN + len as usize)
            }
            magic => panic!("magic {magic:#x} instead of a reply's"),
        }
    }

    fn finish(&mut self, cookie: u64, error: u32, got: u32) {
        let asked = self.asked.remove(&cookie).expect("asked");
        match asked.sound {
            Some(true) => assert!(error == 0 || self.faulty, "{asked:?} failed with {error}"),
            Some(false) => assert_ne!(error, 0, "{asked:?} must be refused"),
            None => {}
        }
        if asked.command == cmd::READ && error == 0 {
            assert_eq!(got, asked.len, "{asked:?} is not whole");
        }
    }

    /// At the end, on a connection that stands: nothing is owed.
    pub fn check_end(&mut self) {
        self.check();
        if self.polite && !self.closed {
            assert!(self.outbound.is_empty(), "half a reply");
            assert!(self.asked.is_empty(), "not answered: {:?}", self.asked);
            let open = self.stage == Stage::Transmission;
            assert!(
                open || self.options.is_empty(),
                "not answered: {:?}",
                self.options
            );
        }
    }
}

fn check_data(offset: u64, data: &[u8]) {
    let right = |(at, byte): (usize, &u8)| *byte == content(offset + at as u64);
    let right = data.iter().enumerate().all(right);
    assert!(right, "wrong data of {} bytes at {offset}", data.len());
}

/// Conversations that get far: moves of [`super::world`].
pub fn seeds() -> Vec<Vec<u8>> {
    const CONNECT: u8 = 0;
    const OPTION: u8 = 1;
    const REQUEST: u8 = 2;
    const RAW: u8 = 3;
    const DELIVER: u8 = 4;
    const ANSWER: u8 = 5;
    let option = |kind: u8, name: u8, wanted: u8| vec![OPTION, 0, kind, name, wanted];
    let go = |name| option(0, name, 0b1111);
    let structured = option(1, 0, 0);
    let meta = option(2, 1, 1);
    let request =
        |command: u8, flags: u8, at: u8, len: u8| vec![REQUEST, 0, command, flags, 0, at, len];
    let answer = vec![ANSWER, 0, 0, 4];
    let commands: Vec<u8> = (0..9)
        .flat_map(|command| [request(command, 0, command, 0), answer.clone()].concat())
        .collect();
    let long = [
        request(0, 0, 3, 4),
        request(1, 1, 3, 3),
        request(0, 2, 9, 4),
    ]
    .concat();
    let answers = [
        answer.clone(),
        answer.clone(),
        answer.clone(),
        answer.clone(),
    ]
    .concat();
    let haggling: Vec<u8> = (1..10).flat_map(|kind| option(kind, 1, 0)).collect();
    let mut raw = vec![RAW, 0, 60];
    raw.extend([0, 0, 0, 3]);
    raw.extend(IHAVEOPT.to_be_bytes());
    raw.extend([0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0]);
    let flush = Request {
        flags: 0,
        command: cmd::FLUSH,
        cookie: 1,
        offset: 0,
        length: 0,
    };
    raw.extend(flush.encode());
    let join = |size: u8, parts: &[&[u8]]| [&[size, CONNECT][..], &parts.concat()[..]].concat();
    let pieces = [DELIVER, 0, 1, 200];
    vec![
        join(0, &[&go(1), &commands]),
        join(0, &[&structured, &meta, &go(1), &commands]),
        join(1, &[&structured, &go(0), &long, &answers]),
        join(2, &[&go(2), &long, &answers]),
        join(0, &[&haggling]),
        join(0, &[&option(3, 1, 0), &commands]),
        join(0, &[&raw, &answer]),
        join(
            3,
            &[
                &structured,
                &go(1),
                &pieces,
                &long,
                &pieces,
                &answers,
                &pieces,
            ],
        ),
    ]
}
