//! `struct virtio_net_hdr` (virtio 1.2 §5.1.6), before every frame in both directions.

/// Bytes with the buffer count, as with `VERSION_1` or `MRG_RXBUF`.
pub(super) const HEADER_BYTES: usize = 12;
/// Bytes of the legacy form without the buffer count.
pub(super) const LEGACY_HEADER_BYTES: usize = 10;

/// The checksum is to be completed from `csum_start` on, into `csum_offset`.
pub(super) const NEEDS_CSUM: u8 = 1;
/// The device has verified the checksum.
pub(super) const DATA_VALID: u8 = 2;
/// TCP over IPv4, to be cut into segments.
pub(super) const GSO_TCPV4: u8 = 1;
/// TCP over IPv6, to be cut into segments.
pub(super) const GSO_TCPV6: u8 = 4;

/// The header's fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub flags: u8,
    pub gso_type: u8,
    pub header_len: u16,
    pub gso_size: u16,
    pub csum_start: u16,
    pub csum_offset: u16,
    pub buffers: u16,
}

impl Header {
    /// The wire form; a legacy header is its first ten bytes. Little-endian, which on x86 is
    /// also what a legacy device means by native order.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        for (at, field) in [
            (2, self.header_len),
            (4, self.gso_size),
            (6, self.csum_start),
            (8, self.csum_offset),
            (10, self.buffers),
        ] {
            bytes[at..at + 2].copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`Header::to_bytes`].
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Self {
        let field = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            gso_type: bytes[1],
            header_len: field(2),
            gso_size: field(4),
            csum_start: field(6),
            csum_offset: field(8),
            buffers: field(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_standard_puts_them() {
        let header = Header {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV6,
            header_len: 0x0302,
            gso_size: 0x0504,
            csum_start: 0x0706,
            csum_offset: 0x0908,
            buffers: 0x0b0a,
        };
        let bytes = header.to_bytes();
        assert_eq!(bytes, [1, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
        assert_eq!(Header::from_bytes(&bytes), header);
    }
}
