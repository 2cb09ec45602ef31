//! The preamble and the first frames of the peer protocol (docs/PROTOCOL.md), built here byte by byte so that a
//! test can play a peer of another version, of another resource, with other disks or with other demands.

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
            version_min: 3,
            version_max: 3,
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
        body.extend([0; 3 * 8]); // nothing was seen of this node while it had no disk
        frames.extend(frame(self.version_max, 2, body));
        frames
    }
}

/// What a node without a secret says before its first frame, as far as it depends on nobody: its offer, and that it
/// accepts the other's.
pub fn preamble() -> Vec<u8> {
    let mut bytes = offer(false, 1);
    bytes.extend(message(3, &[0]));
    bytes
}

/// A preamble's first message, of the node with the larger address. `mode` is 1 for CRC-32C.
pub fn offer(has_secret: bool, mode: u8) -> Vec<u8> {
    let mut fields = vec![1, u8::from(has_secret), mode, 0, 0, 0];
    fields.extend([0x5a; 32]); // nonce
    message(1, &fields)
}

/// A message of the preamble.
fn message(kind: u8, fields: &[u8]) -> Vec<u8> {
    let mut bytes = b"PLSP\x01".to_vec();
    bytes.push(kind);
    bytes.extend(fields);
    bytes.resize(60, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes
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
