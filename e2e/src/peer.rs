//! The preamble and the first frames of the peer protocol (docs/PROTOCOL.md), built here byte by byte so that
//! a test can play a peer of another version, of another resource, or with other disks.

use std::io::{Read, Write};
use std::net::TcpStream;

/// What a peer says of itself.
#[derive(Debug, Clone)]
pub struct Hello {
    /// Oldest protocol version understood.
    pub version_min: u16,
    /// Newest protocol version understood.
    pub version_max: u16,
    /// Its own name.
    pub node: &'static str,
    /// The name of the peer it expects.
    pub peer: &'static str,
    /// The resource.
    pub resource: &'static str,
    /// Bytes of its only volume.
    pub size: u64,
}

impl Hello {
    /// The proper peer of the usual node.
    pub fn proper() -> Self {
        Self {
            version_min: 2,
            version_max: 2,
            node: "b",
            peer: "a",
            resource: "r0",
            size: 64 << 20,
        }
    }

    /// The frames of the handshake: Hello and one HelloVolume.
    pub fn frames(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(self.version_min.to_le_bytes());
        body.extend(self.version_max.to_le_bytes());
        body.extend(0u64.to_le_bytes()); // features
        body.extend(0x1234_5678_u64.to_le_bytes()); // nonce
        body.extend(256u16.to_le_bytes()); // window
        body.extend([1, 1]); // one volume, Secondary
        body.extend([0; 5]); // policies: the operator decides
        for name in [self.node, self.peer, self.resource] {
            body.push(u8::try_from(name.len()).expect("a short name"));
            body.extend(name.as_bytes());
        }
        let mut frames = frame(self.version_max, 1, body);
        let mut body = Vec::new();
        body.extend(self.size.to_le_bytes());
        body.extend(512u32.to_le_bytes());
        body.push(4); // DUnknown
        body.extend([0; 4 * 8]); // generations
        body.extend(0u64.to_le_bytes()); // dirty blocks
        body.extend(0x55aa_u64.to_le_bytes()); // instance
        frames.extend(frame(self.version_max, 2, body));
        frames
    }
}

/// The preamble of a peer without a secret, as the side that dials; `None` when the node does not accept it.
pub fn preamble(stream: &mut TcpStream) -> Option<()> {
    let mut offer = [0; 60];
    offer[..9].copy_from_slice(b"PLSP\x01\x01\x01\0\x01"); // version, offer, dials, no secret, CRC-32C
    offer[12..44].copy_from_slice(&crate::tools::pattern(77, 32)); // nonce
    let mut accept = [0; 60];
    accept[..7].copy_from_slice(b"PLSP\x01\x03\0");
    for (ours, kind) in [(offer, 1), (accept, 3)] {
        stream.write_all(&ours).ok()?;
        stream
            .write_all(&crc32c::crc32c(&ours).to_le_bytes())
            .ok()?;
        let mut theirs = [0; 64];
        stream.read_exact(&mut theirs).ok()?;
        if theirs[5] != kind || (kind == 3 && theirs[6] != 0) {
            return None;
        }
    }
    Some(())
}

/// A frame without payload.
fn frame(version: u16, kind: u8, mut body: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&body);
    body.extend(crc.to_le_bytes());
    let mut bytes = b"PLSD".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(0u16.to_le_bytes()); // volume
    bytes.extend(
        u16::try_from(body.len())
            .expect("a short body")
            .to_le_bytes(),
    );
    bytes.resize(48, 0); // payload length, request, offset, length, argument, payload's checksum
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(body);
    bytes
}
