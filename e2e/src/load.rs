//! A client's load that can tell after any crash whether what is on the disk may be there.
//!
//! Every sector that is written carries its place and a number that grows with every write. So of each sector it is
//! known which writes were issued, answered, and covered by a flush that was answered; a sector read after a crash must
//! show the last flushed (or, when a node lived on, the last answered) write or a later issued one, and from then on
//! exactly that.

use crate::nbd::{self, Client};
use crate::tools::Random;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const SECTOR: usize = 512;
/// The load's sectors lie in windows of this size, spread over the volume.
const WINDOW: usize = 256 << 10;
const WINDOW_SECTORS: usize = WINDOW / SECTOR;
/// Sectors of the largest write.
const LARGEST: u64 = 128;

/// Which writes must have survived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// Everything that was answered: some node that had it lived on.
    Answered,
    /// What was flushed: every node lost its power.
    Flushed,
}

/// Numbers of the writes that concern a sector.
#[derive(Debug, Clone, Copy, Default)]
struct Sector {
    issued: u32,
    answered: u32,
    flushed: u32,
    /// The last write of zeroes, if it may be what is there; they do not show their number.
    zeroed: u32,
}

impl Sector {
    /// It was read and shows this write, so it is the last one from now on.
    fn is(&mut self, shown: u32) {
        (self.issued, self.answered) = (shown, shown);
        if self.zeroed > shown {
            // These zeroes never reached the disk, and later numbers must not make them lawful again. Older ones stay
            // known: until a flush covers what was written over them, a crash may bring them back.
            self.zeroed = u32::MAX;
        }
    }
}

/// The part of the load that one connection has to itself.
#[derive(Debug)]
struct Region {
    export: String,
    /// Where its windows begin on the volume.
    windows: Vec<u64>,
    sectors: Vec<Sector>,
    last: u32,
    random: Random,
    failure: Option<String>,
}

/// A load that is not running.
#[derive(Debug)]
pub struct Load {
    regions: Vec<Region>,
}

/// A load that runs.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    /// Requests that were answered.
    done: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Region>>,
}

impl Load {
    /// A load of so many connections for a volume that is blank.
    pub fn new(volume: u32, bytes: u64, connections: usize, seed: u64) -> Self {
        let windows: Vec<u64> = (0..bytes / (8 * WINDOW as u64))
            .map(|window| window * 8 * WINDOW as u64)
            .collect();
        let region = |connection: usize| {
            let windows = windows.iter().copied().skip(connection);
            let windows: Vec<u64> = windows.step_by(connections).collect();
            Region {
                export: format!("vol{volume}"),
                sectors: vec![Sector::default(); windows.len() * WINDOW_SECTORS],
                windows,
                last: 0,
                random: Random::new(seed ^ (connection as u64) << 32),
                failure: None,
            }
        };
        Self {
            regions: (0..connections).map(region).collect(),
        }
    }

    /// Starts it on the export at a port of 127.0.0.1. It ends when it is stopped or its connections break.
    pub fn start(self, port: u16) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let threads = self.regions.into_iter().map(|mut region| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            // One after the other: QEMU's forwarded ports lose all but a few that come in the same instant.
            let client = region.client(port);
            let mut client = client.unwrap_or_else(|error| panic!("the load's client: {error}"));
            std::thread::spawn(move || {
                // A broken connection is the end that most of the tests want.
                if let Err(error) = region.run(&mut client, &stop, &done) {
                    println!("    a client's connection ended: {error}");
                }
                region
            })
        });
        Running {
            threads: threads.collect(),
            stop,
            done,
        }
    }

    /// Reads everything, judges it, and takes it as what is there from now on. The number of sectors that were ever
    /// written.
    pub fn verify(&mut self, port: u16, survives: Survives) -> usize {
        let regions = self.regions.iter_mut();
        regions
            .map(|region| {
                region
                    .verify(port, survives)
                    .unwrap_or_else(|error| panic!("the client that verifies: {error}"))
            })
            .sum()
    }
}

impl Running {
    /// Requests that were answered so far.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Whether it still runs: no connection broke.
    pub fn alive(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Ends it. Panics if a client saw something wrong.
    pub fn stop(self) -> Load {
        self.stop.store(true, Ordering::Relaxed);
        let regions = self.threads.into_iter().map(|thread| {
            let region = thread.join().expect("the load's thread");
            if let Some(failure) = &region.failure {
                panic!("{failure}");
            }
            region
        });
        Load {
            regions: regions.collect(),
        }
    }
}

impl Region {
    fn client(&self, port: u16) -> io::Result<Client> {
        let mut client = Client::open(port, &self.export)?;
        client.patience(Duration::from_secs(60));
        Ok(client)
    }

    fn run(&mut self, client: &mut Client, stop: &AtomicBool, done: &AtomicU64) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) && self.failure.is_none() {
            match self.random.below(100) {
                0..79 => self.write(client)?,
                79..87 => self.zero(client)?,
                87..97 => self.read_back(client)?,
                _ => self.flush(client)?,
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Some sectors of one window: the first one, how many, and where that is on the volume.
    fn draw(&mut self) -> (usize, usize, u64) {
        let window = self.random.below(self.windows.len() as u64) as usize;
        // Mostly blocks of a filesystem, sometimes anything.
        let (len, step) = match self.random.below(4) {
            0 => (1 + self.random.below(LARGEST), 1),
            _ => (8, 8),
        };
        let first = self.random.below((WINDOW_SECTORS as u64 - len) / step + 1) * step;
        let place = self.windows[window] + first * SECTOR as u64;
        (
            window * WINDOW_SECTORS + first as usize,
            len as usize,
            place,
        )
    }

    fn answered(&mut self, error: u32, what: &str, place: u64) -> bool {
        if error != 0 {
            self.failure = Some(format!("{what} at {place} was answered with error {error}"));
        }
        error == 0
    }

    fn write(&mut self, client: &mut Client) -> io::Result<()> {
        let (first, len, place) = self.draw();
        self.last += 1;
        let mut data = Vec::with_capacity(len * SECTOR);
        for at in 0..len {
            self.sectors[first + at].issued = self.last;
            data.extend(stamp(place / SECTOR as u64 + at as u64, self.last));
        }
        let error = client.write(place, &data)?;
        if self.answered(error, "a write", place) {
            for sector in &mut self.sectors[first..first + len] {
                sector.answered = self.last;
            }
        }
        Ok(())
    }

    fn zero(&mut self, client: &mut Client) -> io::Result<()> {
        let (first, len, place) = self.draw();
        self.last += 1;
        for sector in &mut self.sectors[first..first + len] {
            (sector.issued, sector.zeroed) = (self.last, self.last);
        }
        let bytes = (len * SECTOR) as u32;
        let error = client.command(nbd::CMD_WRITE_ZEROES, place, bytes)?;
        if self.answered(error, "a write of zeroes", place) {
            for sector in &mut self.sectors[first..first + len] {
                sector.answered = self.last;
            }
        }
        Ok(())
    }

    fn flush(&mut self, client: &mut Client) -> io::Result<()> {
        let error = client.command(nbd::CMD_FLUSH, 0, 0)?;
        if self.answered(error, "a flush", 0) {
            for sector in &mut self.sectors {
                sector.flushed = sector.answered;
            }
        }
        Ok(())
    }

    /// Nothing of this region is in flight, so a read shows exactly the last write.
    fn read_back(&mut self, client: &mut Client) -> io::Result<()> {
        let (first, len, place) = self.draw();
        match client.read(place, (len * SECTOR) as u32)? {
            Err(error) => {
                self.answered(error, "a read", place);
            }
            Ok(bytes) => self.judge(first, place, &bytes, Survives::Answered),
        }
        Ok(())
    }

    fn verify(&mut self, port: u16, survives: Survives) -> io::Result<usize> {
        let mut client = self.client(port)?;
        for window in 0..self.windows.len() {
            let place = self.windows[window];
            let bytes = client.read(place, WINDOW as u32)?;
            let bytes = bytes.map_err(|error| io::Error::other(format!("error {error}")))?;
            self.judge(window * WINDOW_SECTORS, place, &bytes, survives);
        }
        // What was read is what will be there from now on.
        self.flush(&mut client)?;
        if let Some(failure) = &self.failure {
            panic!("{failure}");
        }
        Ok(self.sectors.iter().filter(|s| s.issued > 0).count())
    }

    /// Holds what was read against what is known, and takes it as known.
    fn judge(&mut self, first: usize, place: u64, bytes: &[u8], survives: Survives) {
        for (at, bytes) in bytes.chunks(SECTOR).enumerate() {
            let sector = &mut self.sectors[first + at];
            let number = place / SECTOR as u64 + at as u64;
            let least = match survives {
                Survives::Answered => sector.answered,
                Survives::Flushed => sector.flushed,
            };
            let shown = match bytes.iter().all(|byte| *byte == 0) {
                true => Some(sector.zeroed),
                false => read_stamp(number, bytes),
            };
            match shown {
                Some(shown) if (least..=sector.issued).contains(&shown) => sector.is(shown),
                _ => {
                    self.failure.get_or_insert(format!(
                        "sector {number} of {} shows {shown:?} (none: nothing that was ever written there), which is not \
                         from {least} to the last write: {sector:?}; {survives:?} must survive; it begins with {:02x?}",
                        self.export,
                        &bytes[..24]
                    ));
                }
            }
        }
    }
}

/// A sector's bytes: its place, the number of the write, a checksum of both, and more of the same.
fn stamp(sector: u64, number: u32) -> [u8; SECTOR] {
    let mut bytes = [0; SECTOR];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..12].copy_from_slice(&number.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..12]).to_le_bytes();
    for (at, byte) in bytes.iter_mut().enumerate().skip(12) {
        *byte = crc[at % 4];
    }
    bytes
}

/// The number of the write that left these bytes; `None` when none did.
fn read_stamp(sector: u64, bytes: &[u8]) -> Option<u32> {
    let number = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
    (bytes == stamp(sector, number)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WROTE: u8 = 0xff;

    /// A region with one sector of which these writes are known.
    fn region(sector: Sector) -> Region {
        Region {
            export: "vol0".into(),
            windows: vec![0],
            sectors: vec![sector],
            last: sector.issued,
            random: Random::new(1),
            failure: None,
        }
    }

    /// Whether the sector may show this write, or zeroes for `None`.
    fn may_show(region: &mut Region, write: Option<u32>, survives: Survives) -> bool {
        let bytes = write.map_or([0; SECTOR], |number| stamp(0, number));
        region.failure = None;
        region.judge(0, 0, &bytes, survives);
        region.failure.is_none()
    }

    /// Zeroes that no flush covered, overwritten by data that none covered either: both, and what was flushed, may be there
    /// after a crash of both nodes, also when a client read the data in between.
    #[test]
    fn zeroes_beneath_an_unflushed_write_may_come_back() {
        let written = Sector {
            issued: 9,
            answered: 9,
            flushed: 5,
            zeroed: 7,
        };
        let mut read = region(written);
        assert!(may_show(&mut read, Some(9), Survives::Answered));
        assert!(may_show(&mut read, None, Survives::Flushed));
        assert_eq!((read.sectors[0].issued, read.sectors[0].zeroed), (7, 7));
    }

    #[test]
    fn zeroes_beneath_a_flushed_write_may_not_come_back() {
        let mut flushed = region(Sector {
            issued: 9,
            answered: 9,
            flushed: 9,
            zeroed: 7,
        });
        assert!(!may_show(&mut flushed, None, Survives::Flushed));
        assert!(!may_show(&mut flushed, Some(8), Survives::Flushed));
        assert!(may_show(&mut flushed, Some(9), Survives::Flushed));
    }

    /// The crash lost the zeroes; a later write must not make them look lawful.
    #[test]
    fn lost_zeroes_stay_lost() {
        let mut lost = region(Sector {
            issued: 7,
            answered: 7,
            flushed: 5,
            zeroed: 7,
        });
        assert!(may_show(&mut lost, Some(6), Survives::Flushed));
        lost.sectors[0].issued = 9;
        assert!(!may_show(&mut lost, None, Survives::Flushed));
    }

    #[test]
    fn what_nobody_wrote_is_a_failure() {
        let mut region = region(Sector::default());
        region.judge(0, 0, &[WROTE; SECTOR], Survives::Flushed);
        assert!(region.failure.is_some());
        assert!(
            may_show(&mut region, None, Survives::Answered),
            "a blank disk"
        );
    }
}
