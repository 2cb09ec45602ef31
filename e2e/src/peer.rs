//! The first frames of the peer protocol (docs/PROTOCOL.md), built here byte by byte so that a test can
//! play a peer of another version, of another resource, or with other disks.

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
            version_min: 1,
            version_max: 1,
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
        frames.extend(frame(self.version_max, 2, body));
        frames
    }
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
    bytes.resize(44, 0); // payload length, request, offset, length, argument
    let crc = crc32c::crc32c(&bytes);
    bytes.extend(crc.to_le_bytes());
    bytes.extend(body);
    bytes
}
