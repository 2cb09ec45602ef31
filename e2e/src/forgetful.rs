//! A disk that forgets: an NBD server on a unix socket that QEMU uses as the disk of a node. What was written
//! since the last flush is in a volatile cache. A power cut keeps a random subset of it, torn at sectors, and
//! forgets the rest, as a real disk may.
//!
//! Beyond that it can have unreadable sectors, which writing mends, be slow, and hang.

use crate::nbd;
use crate::pair::{Node, Pair};
use crate::tools::{Random, disk_bytes, wait_for};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The smallest unit that is written whole or not at all.
const SECTOR: usize = 512;
/// NBD_EIO.
const EIO: u32 = 5;
/// NBD_FLAG_HAS_FLAGS, SEND_FLUSH, SEND_TRIM, SEND_WRITE_ZEROES: no FUA, so every flush is visible here.
const FLAGS: u16 = 1 | 4 | 32 | 64;

/// A disk in this process's memory, served as long as the value lives.
#[derive(Debug)]
pub struct Disk {
    state: Arc<Mutex<State>>,
}

/// What a power cut did to the writes that were not flushed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Loss {
    /// Kept whole.
    pub kept: u64,
    /// Kept in parts.
    pub torn: u64,
    /// Forgotten.
    pub lost: u64,
}

#[derive(Debug)]
struct State {
    /// What a reader sees.
    shown: Vec<u8>,
    /// What was flushed.
    durable: Vec<u8>,
    /// Writes since the last flush, in order.
    pending: Vec<Pending>,
    /// Sectors that cannot be read until they are written.
    unreadable: Vec<usize>,
    hangs: bool,
    /// What each request takes.
    delay: Duration,
    connections: u32,
}

#[derive(Debug)]
struct Pending {
    at: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Bytes(Vec<u8>),
    Zeroes(usize),
}

impl Pending {
    fn len(&self) -> usize {
        match &self.data {
            Data::Bytes(bytes) => bytes.len(),
            Data::Zeroes(len) => *len,
        }
    }

    /// Writes a part of it, in bytes from its beginning.
    fn apply(&self, disk: &mut [u8], from: usize, to: usize) {
        let place = &mut disk[self.at + from..self.at + to];
        match &self.data {
            Data::Bytes(bytes) => place.copy_from_slice(&bytes[from..to]),
            Data::Zeroes(_) => place.fill(0),
        }
    }
}

impl Disk {
    /// Puts a blank disk for a volume of `bytes` under each node of a pair that has not been started.
    pub fn under(pair: &mut Pair, bytes: u64) -> [Self; 2] {
        pair.set(
            "PALISADE_DISK",
            "driver=nbd,export=disk,discard=unmap,server.type=unix,server.path=NODE.disk",
        );
        [Node::A, Node::B].map(|node| {
            let socket = pair.dir().join(format!("{}.disk", node.name()));
            Self::serve(&socket, disk_bytes(bytes))
        })
    }

    /// A blank disk of `bytes`, served on a unix socket at `path`.
    fn serve(path: &Path, bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).expect("it fits into memory");
        let state = Arc::new(Mutex::new(State {
            shown: vec![0; bytes],
            durable: vec![0; bytes],
            pending: Vec::new(),
            unreadable: Vec::new(),
            hangs: false,
            delay: Duration::ZERO,
            connections: 0,
        }));
        let listener = UnixListener::bind(path).expect("a socket in our directory");
        let weak = Arc::downgrade(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(stream), Some(state)) = (stream, weak.upgrade()) else {
                    return;
                };
                lock(&state).connections += 1;
                std::thread::spawn(move || {
                    // A connection that ends, however, is a machine without power.
                    let _ = serve(stream, &state);
                    lock(&state).connections -= 1;
                });
            }
        });
        Self { state }
    }

    /// The power fails. QEMU must have been killed: what it had sent still arrives in the cache.
    pub fn cut(&self, random: &mut Random) -> Loss {
        wait_for("QEMU is gone from its disk", 10, || {
            (lock(&self.state).connections == 0).then_some(())
        });
        let state = &mut *lock(&self.state);
        let mut loss = Loss::default();
        // Disks differ: some have written almost everything already, some almost nothing.
        let keeps = random.below(101);
        for write in &state.pending {
            let len = write.len();
            if random.below(100) >= keeps {
                loss.lost += 1;
            } else if len > SECTOR && random.below(4) == 0 {
                loss.torn += 1;
                for sector in (0..len).step_by(SECTOR) {
                    if random.below(2) == 0 {
                        write.apply(&mut state.durable, sector, len.min(sector + SECTOR));
                    }
                }
            } else {
                loss.kept += 1;
                write.apply(&mut state.durable, 0, len);
            }
        }
        for write in state.pending.drain(..) {
            let range = write.at..write.at + write.len();
            state.shown[range.clone()].copy_from_slice(&state.durable[range]);
        }
        loss
    }

    /// Makes sectors unreadable, as a latent error of a disk does, until they are written.
    pub fn spoil(&self, at: u64, bytes: u64) {
        let sector = |at| usize::try_from(at).expect("in memory") / SECTOR;
        lock(&self.state).unreadable = (sector(at)..sector(at + bytes)).collect();
    }

    /// Sectors that cannot be read.
    pub fn unreadable(&self) -> usize {
        lock(&self.state).unreadable.len()
    }

    /// Whether requests get no answer from now on. When that ends, they are carried out.
    pub fn hang(&self, hangs: bool) {
        lock(&self.state).hangs = hangs;
    }

    /// How long each request takes from now on, one after the other.
    pub fn slow(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// The first byte at which the first `bytes` of two disks differ.
    pub fn first_difference(&self, other: &Self, bytes: u64) -> Option<usize> {
        let bytes = usize::try_from(bytes).expect("in memory");
        let (one, other) = (lock(&self.state), lock(&other.state));
        let (one, other) = (&one.shown[..bytes], &other.shown[..bytes]);
        (one != other).then(|| one.iter().zip(other).position(|(a, b)| a != b))?
    }

    /// Writes what a reader sees to a file.
    pub fn save(&self, path: &Path) {
        std::fs::write(path, &lock(&self.state).shown).expect("a writable directory");
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread dies while it holds this")
}

impl State {
    /// Carries a request out: what a read gives, or an error number.
    fn request(
        &mut self,
        kind: u16,
        at: u64,
        data: Option<Vec<u8>>,
        len: u32,
    ) -> Result<Vec<u8>, u32> {
        let at = usize::try_from(at).map_err(|_| nbd::EINVAL)?;
        let len = len as usize;
        let end = at.checked_add(len).filter(|end| *end <= self.shown.len());
        let end = end.ok_or(nbd::EINVAL)?;
        let sectors = at / SECTOR..end.div_ceil(SECTOR);
        match kind {
            nbd::CMD_READ if self.unreadable.iter().any(|bad| sectors.contains(bad)) => {
                return Err(EIO);
            }
            nbd::CMD_READ => return Ok(self.shown[at..end].to_vec()),
            nbd::CMD_FLUSH => {
                for write in self.pending.drain(..) {
                    write.apply(&mut self.durable, 0, write.len());
                }
            }
            nbd::CMD_WRITE | nbd::CMD_WRITE_ZEROES | nbd::CMD_TRIM => {
                let data = data.map_or(Data::Zeroes(len), Data::Bytes);
                let write = Pending { at, data };
                write.apply(&mut self.shown, 0, len);
                self.pending.push(write);
                self.unreadable.retain(|bad| !sectors.contains(bad));
            }
            _ => return Err(nbd::EINVAL),
        }
        Ok(Vec::new())
    }
}

/// One connection, from the greeting to its end.
fn serve(stream: UnixStream, state: &Mutex<State>) -> io::Result<()> {
    let mut input = BufReader::with_capacity(1 << 16, stream.try_clone()?);
    let mut output = stream;
    output.write_all(&[&nbd::MAGIC[..], nbd::OPTION_MAGIC, &[0, 3]].concat())?;
    take::<4>(&mut input)?;
    loop {
        take::<8>(&mut input)?;
        let option = take(&mut input)?;
        let len = u32::from_be_bytes(take(&mut input)?);
        io::copy(&mut (&mut input).take(len.into()), &mut io::sink())?;
        let mut reply = |kind: u32, data: &[u8]| {
            let len = u32::try_from(data.len()).expect("short").to_be_bytes();
            let head = 0x0003_e889_0455_65a9_u64.to_be_bytes();
            output.write_all(&[&head, &option[..], &kind.to_be_bytes(), &len, data].concat())
        };
        if u32::from_be_bytes(option) != nbd::OPT_GO {
            reply(nbd::REP_ERR_UNSUP, &[])?;
            continue;
        }
        let size = lock(state).shown.len() as u64;
        let info = [&[0, 0], &size.to_be_bytes()[..], &FLAGS.to_be_bytes()].concat();
        reply(nbd::REP_INFO, &info)?;
        reply(nbd::REP_ACK, &[])?;
        break;
    }
    loop {
        let head: [u8; 28] = take(&mut input)?;
        let kind = u16::from_be_bytes([head[6], head[7]]);
        let at = u64::from_be_bytes(head[16..24].try_into().expect("8 bytes"));
        let len = u32::from_be_bytes(head[24..].try_into().expect("4 bytes"));
        if kind == nbd::CMD_DISC {
            return Ok(());
        }
        let mut data = None;
        if kind == nbd::CMD_WRITE {
            let mut bytes = vec![0; len as usize];
            input.read_exact(&mut bytes)?;
            data = Some(bytes);
        }
        while lock(state).hangs {
            std::thread::sleep(Duration::from_millis(10));
        }
        let delay = lock(state).delay;
        std::thread::sleep(delay);
        let result = lock(state).request(kind, at, data, len);
        let mut reply = 0x6744_6698_u32.to_be_bytes().to_vec();
        reply.extend(result.as_ref().err().unwrap_or(&0).to_be_bytes());
        reply.extend(&head[8..16]);
        reply.extend(result.unwrap_or_default());
        output.write_all(&reply)?;
    }
}

fn take<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}
