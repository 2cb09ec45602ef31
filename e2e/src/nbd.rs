//! NBD byte by byte, so that a test can send what no proper client would. Constants are from the
//! protocol document (NetworkBlockDevice/nbd, doc/proto.md).

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

/// `NBDMAGIC`, the first bytes of a server.
pub const MAGIC: &[u8; 8] = b"NBDMAGIC";
/// `IHAVEOPT`.
pub const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
/// NBD_OPT_EXPORT_NAME.
pub const OPT_EXPORT_NAME: u32 = 1;
/// NBD_OPT_ABORT.
pub const OPT_ABORT: u32 = 2;
/// NBD_OPT_LIST.
pub const OPT_LIST: u32 = 3;
/// NBD_OPT_STARTTLS.
pub const OPT_STARTTLS: u32 = 5;
/// NBD_OPT_INFO.
pub const OPT_INFO: u32 = 6;
/// NBD_OPT_GO.
pub const OPT_GO: u32 = 7;
/// NBD_OPT_STRUCTURED_REPLY.
pub const OPT_STRUCTURED_REPLY: u32 = 8;
/// NBD_OPT_SET_META_CONTEXT.
pub const OPT_SET_META_CONTEXT: u32 = 10;
/// NBD_OPT_EXTENDED_HEADERS.
pub const OPT_EXTENDED_HEADERS: u32 = 11;
/// NBD_REP_ACK.
pub const REP_ACK: u32 = 1;
/// NBD_REP_SERVER.
pub const REP_SERVER: u32 = 2;
/// NBD_REP_INFO.
pub const REP_INFO: u32 = 3;
/// NBD_REP_ERR_UNSUP.
pub const REP_ERR_UNSUP: u32 = 0x8000_0001;
/// NBD_REP_ERR_POLICY.
pub const REP_ERR_POLICY: u32 = 0x8000_0002;
/// NBD_REP_ERR_INVALID.
pub const REP_ERR_INVALID: u32 = 0x8000_0003;
/// NBD_REP_ERR_UNKNOWN.
pub const REP_ERR_UNKNOWN: u32 = 0x8000_0006;
/// NBD_CMD_READ.
pub const CMD_READ: u16 = 0;
/// NBD_CMD_WRITE.
pub const CMD_WRITE: u16 = 1;
/// NBD_CMD_DISC.
pub const CMD_DISC: u16 = 2;
/// NBD_CMD_FLUSH.
pub const CMD_FLUSH: u16 = 3;
/// NBD_CMD_TRIM.
pub const CMD_TRIM: u16 = 4;
/// NBD_CMD_CACHE.
pub const CMD_CACHE: u16 = 5;
/// NBD_CMD_WRITE_ZEROES.
pub const CMD_WRITE_ZEROES: u16 = 6;
/// NBD_CMD_BLOCK_STATUS.
pub const CMD_BLOCK_STATUS: u16 = 7;
/// NBD_CMD_FLAG_FUA.
pub const FLAG_FUA: u16 = 1;
/// NBD_EINVAL.
pub const EINVAL: u32 = 22;
/// NBD_ENOSPC.
pub const ENOSPC: u32 = 28;

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

/// What GO or INFO told of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Bytes.
    pub size: u64,
    /// Transmission flags.
    pub flags: u16,
}

impl Client {
    /// Connects to a port of 127.0.0.1, takes the greeting and answers it.
    ///
    /// # Errors
    /// No connection, or no greeting within 2 s.
    pub fn connect(port: u16) -> io::Result<Self> {
        let mut client = Self::silent(port)?;
        client.patience(Duration::from_secs(2));
        let greeting = client.take::<18>()?;
        if &greeting[..8] != MAGIC || &greeting[8..16] != OPTION_MAGIC {
            return Err(io::Error::other("not an NBD greeting"));
        }
        client
            .stream
            .set_read_timeout(Some(Duration::from_secs(10)))?;
        // Fixed newstyle, no zeroes.
        client.send(&3u32.to_be_bytes())?;
        Ok(client)
    }

    /// Connects and says nothing.
    ///
    /// # Errors
    /// No connection.
    pub fn silent(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream })
    }

    /// Connects and opens an export.
    ///
    /// # Errors
    /// No connection, or a refusal.
    pub fn open(port: u16, export: &str) -> io::Result<Self> {
        let mut client = Self::connect(port)?;
        client.go(export)?;
        Ok(client)
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Receives exactly `N` bytes.
    ///
    /// # Errors
    /// The connection is gone or silent.
    pub fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Receives `len` bytes.
    ///
    /// # Errors
    /// The connection is gone or silent.
    pub fn take_vec(&mut self, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Changes how long a read may wait.
    pub fn patience(&mut self, time: Duration) {
        self.stream
            .set_read_timeout(Some(time))
            .expect("a socket takes a timeout");
    }

    /// Whether the server hangs up (within the patience) without sending anything more.
    pub fn hangs_up(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => false,
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Closes the sending direction.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends an option.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn send_option(&mut self, option: u32, data: &[u8]) -> io::Result<()> {
        let mut bytes = OPTION_MAGIC.to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        bytes.extend(data);
        self.send(&bytes)
    }

    /// Receives one reply to `option`: its type and data.
    ///
    /// # Errors
    /// The connection is gone, or that was no reply to it.
    pub fn option_reply(&mut self, option: u32) -> io::Result<(u32, Vec<u8>)> {
        let head = self.take::<20>()?;
        let field = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("4 bytes"));
        if head[..8] != 0x0003_e889_0455_65a9_u64.to_be_bytes() || field(8) != option {
            return Err(io::Error::other(format!(
                "no reply to option {option}: {head:?}"
            )));
        }
        let data = self.take_vec(field(16) as usize)?;
        Ok((field(12), data))
    }

    /// Sends an option; the last reply's type.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn option(&mut self, option: u32, data: &[u8]) -> io::Result<u32> {
        self.send_option(option, data)?;
        loop {
            match self.option_reply(option)? {
                (REP_SERVER | REP_INFO | 4, _) => {}
                (kind, _) => return Ok(kind),
            }
        }
    }

    /// NBD_OPT_GO.
    ///
    /// # Errors
    /// A refusal.
    pub fn go(&mut self, export: &str) -> io::Result<Export> {
        self.send_option(OPT_GO, &info_request(export))?;
        let mut found = None;
        loop {
            match self.option_reply(OPT_GO)? {
                (REP_INFO, data) if data.len() == 12 && data[..2] == [0, 0] => {
                    found = Some(Export {
                        size: u64::from_be_bytes(data[2..10].try_into().expect("8 bytes")),
                        flags: u16::from_be_bytes([data[10], data[11]]),
                    });
                }
                (REP_INFO, _) => {}
                (REP_ACK, _) => {
                    return found.ok_or_else(|| io::Error::other("GO without NBD_INFO_EXPORT"));
                }
                (kind, _) => return Err(io::Error::other(format!("GO refused: {kind:#x}"))),
            }
        }
    }

    /// Sends a request's header.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn request(
        &mut self,
        flags: u16,
        kind: u16,
        cookie: u64,
        offset: u64,
        len: u32,
    ) -> io::Result<()> {
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend(flags.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(cookie.to_be_bytes());
        bytes.extend(offset.to_be_bytes());
        bytes.extend(len.to_be_bytes());
        self.send(&bytes)
    }

    /// Receives a simple reply: error and cookie.
    ///
    /// # Errors
    /// The connection is gone, or that was no simple reply.
    pub fn reply(&mut self) -> io::Result<(u32, u64)> {
        let head = self.take::<16>()?;
        if head[..4] != 0x6744_6698_u32.to_be_bytes() {
            return Err(io::Error::other(format!("no simple reply: {head:?}")));
        }
        let error = u32::from_be_bytes(head[4..8].try_into().expect("4 bytes"));
        Ok((
            error,
            u64::from_be_bytes(head[8..].try_into().expect("8 bytes")),
        ))
    }

    /// Reads; the bytes, or the error number.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn read(&mut self, offset: u64, len: u32) -> io::Result<Result<Vec<u8>, u32>> {
        self.request(0, CMD_READ, 7, offset, len)?;
        match self.reply()? {
            (0, 7) => Ok(Ok(self.take_vec(len as usize)?)),
            (error, 7) => Ok(Err(error)),
            (_, cookie) => Err(io::Error::other(format!("cookie {cookie}"))),
        }
    }

    /// Writes; the error number, 0 for none.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<u32> {
        self.request(
            0,
            CMD_WRITE,
            8,
            offset,
            u32::try_from(data.len()).expect("short"),
        )?;
        self.send(data)?;
        Ok(self.reply()?.0)
    }

    /// A command without payload; the error number, 0 for none.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn command(&mut self, kind: u16, offset: u64, len: u32) -> io::Result<u32> {
        self.request(0, kind, 9, offset, len)?;
        Ok(self.reply()?.0)
    }
}

/// The data of GO and INFO for an export, asking for nothing in particular.
pub fn info_request(export: &str) -> Vec<u8> {
    let mut data = u32::try_from(export.len())
        .expect("short")
        .to_be_bytes()
        .to_vec();
    data.extend(export.as_bytes());
    data.extend(0u16.to_be_bytes());
    data
}
