//! The client's side of the protocol, as far as tests need it.

use super::mock::World;
use crate::nbd::proto::{
    Cursor, IHAVEOPT, NBDMAGIC, OPTION_REPLY_MAGIC, Request, SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC, chunk, info, opt, rep,
};
use alloc::vec::Vec;

/// An option with its data.
pub fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut out = IHAVEOPT.to_be_bytes().to_vec();
    out.extend(number.to_be_bytes());
    out.extend((data.len() as u32).to_be_bytes());
    out.extend(data);
    out
}

/// The data of NBD_OPT_INFO and NBD_OPT_GO.
pub fn info_data(name: &[u8], wanted: &[u16]) -> Vec<u8> {
    let mut out = (name.len() as u32).to_be_bytes().to_vec();
    out.extend(name);
    out.extend((wanted.len() as u16).to_be_bytes());
    out.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
    out
}

/// The data of the metadata context options.
pub fn meta_data(name: &[u8], queries: &[&[u8]]) -> Vec<u8> {
    let mut out = (name.len() as u32).to_be_bytes().to_vec();
    out.extend(name);
    out.extend((queries.len() as u32).to_be_bytes());
    for query in queries {
        out.extend((query.len() as u32).to_be_bytes());
        out.extend(*query);
    }
    out
}

/// A request without payload.
pub fn request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let request = Request {
        flags,
        command,
        cookie,
        offset,
        length,
    };
    request.encode().to_vec()
}

/// A write with its payload.
pub fn write(flags: u16, cookie: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut out = request(1, flags, cookie, offset, data.len() as u32);
    out.extend(data);
    out
}

/// A reply to an option: option, type, data.
pub type OptionReply = (u32, u32, Vec<u8>);

/// All of `bytes` as replies to options.
pub fn option_replies(bytes: &[u8]) -> Vec<OptionReply> {
    let mut at = Cursor::new(bytes);
    let mut out = Vec::new();
    while !at.is_done() {
        assert_eq!(at.u64(), Some(OPTION_REPLY_MAGIC));
        let (option, kind) = (at.u32().expect("option"), at.u32().expect("type"));
        let len = at.u32().expect("length") as usize;
        out.push((option, kind, at.take(len).expect("data").to_vec()));
    }
    out
}

/// A reply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub cookie: u64,
    pub error: u32,
    /// Data of a read, in the order of offsets.
    pub data: Vec<u8>,
    /// Offset of the error, when it was told.
    pub error_at: Option<u64>,
    /// Extents of a block status.
    pub extents: Vec<(u32, u32)>,
    /// Content chunks; 0 for a simple reply.
    pub chunks: usize,
}

/// Data of a read and where it belongs.
type Piece = (u64, Vec<u8>);

/// All of `bytes` as replies; `reads` tells which cookies are reads of how many bytes (to find
/// the end of simple replies) and where they begin.
pub fn replies(bytes: &[u8], reads: &[(u64, u64, u32)]) -> Vec<Reply> {
    let mut at = Cursor::new(bytes);
    let mut done = Vec::new();
    let mut open: Vec<(Reply, Vec<Piece>)> = Vec::new();
    while !at.is_done() {
        match at.u32().expect("magic") {
            SIMPLE_REPLY_MAGIC => {
                let (error, cookie) = (at.u32().expect("error"), at.u64().expect("cookie"));
                let read = reads.iter().find(|r| r.0 == cookie && error == 0);
                let data = read.map_or(0, |r| r.2 as usize);
                done.push(Reply {
                    cookie,
                    error,
                    data: at.take(data).expect("data").to_vec(),
                    error_at: None,
                    extents: Vec::new(),
                    chunks: 0,
                });
            }
            STRUCTURED_REPLY_MAGIC => {
                let (flags, kind) = (at.u16().expect("flags"), at.u16().expect("type"));
                let cookie = at.u64().expect("cookie");
                let len = at.u32().expect("length") as usize;
                let mut body = Cursor::new(at.take(len).expect("payload"));
                let index = open.iter().position(|o| o.0.cookie == cookie);
                let index = index.unwrap_or_else(|| {
                    let reply = Reply {
                        cookie,
                        error: 0,
                        data: Vec::new(),
                        error_at: None,
                        extents: Vec::new(),
                        chunks: 0,
                    };
                    open.push((reply, Vec::new()));
                    open.len() - 1
                });
                let (reply, pieces) = &mut open[index];
                match kind {
                    chunk::NONE => assert_eq!((len, flags), (0, chunk::FLAG_DONE)),
                    chunk::OFFSET_DATA => {
                        reply.chunks += 1;
                        let offset = body.u64().expect("offset");
                        let data = body.take(len - 8).expect("data");
                        assert!(!data.is_empty());
                        pieces.push((offset, data.to_vec()));
                    }
                    chunk::BLOCK_STATUS => {
                        assert_eq!(body.u32(), Some(1), "context");
                        while !body.is_done() {
                            let extent = (body.u32().expect("length"), body.u32().expect("flags"));
                            reply.extents.push(extent);
                        }
                    }
                    chunk::ERROR | chunk::ERROR_OFFSET => {
                        reply.error = body.u32().expect("error");
                        assert_eq!(body.u16(), Some(0), "message length");
                        if kind == chunk::ERROR_OFFSET {
                            reply.error_at = body.u64();
                            assert!(reply.error_at.is_some());
                        }
                        assert!(body.is_done());
                    }
                    _ => panic!("chunk type {kind:#x}"),
                }
                if flags & chunk::FLAG_DONE != 0 {
                    let (mut reply, mut pieces) = open.remove(index);
                    pieces.sort();
                    let read = reads.iter().find(|r| r.0 == cookie);
                    let mut next = read.map(|r| r.1);
                    for (offset, data) in pieces {
                        if reply.error == 0 {
                            assert_eq!(Some(offset), next, "a gap or overlap");
                        }
                        next = Some(offset + data.len() as u64);
                        reply.data.extend(data);
                    }
                    done.push(reply);
                }
            }
            magic => panic!("magic {magic:#x} after {} replies", done.len()),
        }
    }
    assert!(open.is_empty(), "a reply without its end");
    done
}

/// Takes the greeting off and sends the client's flags.
pub fn begin(world: &mut World, slot: u16) {
    world.run();
    let mut greeting = NBDMAGIC.to_be_bytes().to_vec();
    greeting.extend(IHAVEOPT.to_be_bytes());
    greeting.extend([0, 3]);
    assert_eq!(world.received(slot), greeting);
    world.pipe(slot).send(&[0, 0, 0, 3]);
}

/// Negotiates and opens `name`.
pub fn open(world: &mut World, name: &[u8], structured: bool, allocation: bool) -> u16 {
    let slot = world.connect();
    begin(world, slot);
    if structured {
        world.pipe(slot).send(&option(opt::STRUCTURED_REPLY, &[]));
    }
    if allocation {
        let data = meta_data(name, &[b"base:allocation"]);
        world.pipe(slot).send(&option(opt::SET_META_CONTEXT, &data));
    }
    let data = info_data(name, &[info::BLOCK_SIZE]);
    world.pipe(slot).send(&option(opt::GO, &data));
    world.run();
    let bytes = world.received(slot);
    let last = option_replies(&bytes).pop().expect("an answer");
    assert_eq!((last.0, last.1), (opt::GO, rep::ACK));
    slot
}

/// A world with a connection that is about to negotiate.
pub fn negotiating() -> (World, u16) {
    let mut world = World::new();
    let slot = world.connect();
    begin(&mut world, slot);
    (world, slot)
}

/// A world with a connection that has the default export open.
pub fn opened(structured: bool, allocation: bool) -> (World, u16) {
    let mut world = World::new();
    let slot = open(&mut world, b"", structured, allocation);
    (world, slot)
}
