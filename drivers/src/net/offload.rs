//! Checksums that driver and device share: what to ask of the device for a frame being sent, and
//! the check of a received frame that the device did not vouch for.
//!
//! Only TCP and UDP directly over IPv4 and IPv6 in untagged Ethernet frames take part; that is
//! all that the stack above leaves to the device. Other frames pass as they are.

use core::num::NonZeroU16;

use super::header::{GSO_TCPV4, GSO_TCPV6, Header, NEEDS_CSUM};

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where the transport packet of a frame lies, and what its checksum covers besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Located {
    /// Of the IP addresses, in the frame: start and bytes of both.
    addresses: (usize, usize),
    v6: bool,
    protocol: u8,
    /// First byte of the TCP or UDP header.
    start: usize,
    /// One past the last byte of the packet; frames may be padded behind it.
    end: usize,
}

impl Located {
    fn checksum_at(&self) -> usize {
        self.start + self.checksum_offset()
    }

    fn checksum_offset(&self) -> usize {
        if self.protocol == TCP { 16 } else { 6 }
    }

    fn pseudo_sum(&self, frame: &[u8]) -> u64 {
        let (at, bytes) = self.addresses;
        sum(&frame[at..at + bytes]) + u64::from(self.protocol) + (self.end - self.start) as u64
    }
}

/// Finds the transport packet. `None`: nothing here that takes part, fragments included.
fn locate(frame: &[u8]) -> Option<Located> {
    let ethertype = frame.get(12..14)?;
    let ip = frame.get(ETHERNET_BYTES..)?;
    let (v6, addresses, header, total, protocol) = match ethertype {
        [0x08, 0x00] => {
            let fixed = ip.get(..20)?;
            let header = usize::from(fixed[0] & 0x0f) * 4;
            let fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff;
            if fixed[0] >> 4 != 4 || header < 20 || fragment != 0 {
                return None;
            }
            let total = match u16::from_be_bytes([fixed[2], fixed[3]]) {
                // Too long for the field: to be segmented, and the frame says how long.
                0 => ip.len(),
                total => usize::from(total),
            };
            (false, (ETHERNET_BYTES + 12, 8), header, total, fixed[9])
        }
        [0x86, 0xdd] => {
            let fixed = ip.get(..IPV6_BYTES)?;
            if fixed[0] >> 4 != 6 {
                return None;
            }
            let total = match u16::from_be_bytes([fixed[4], fixed[5]]) {
                0 => ip.len(),
                payload => IPV6_BYTES + usize::from(payload),
            };
            (true, (ETHERNET_BYTES + 8, 32), IPV6_BYTES, total, fixed[6])
        }
        _ => return None,
    };
    let least = match protocol {
        TCP => 20,
        UDP => 8,
        _ => return None,
    };
    if total > ip.len() || total < header + least {
        return None;
    }
    Some(Located {
        addresses,
        v6,
        protocol,
        start: ETHERNET_BYTES + header,
        end: ETHERNET_BYTES + total,
    })
}

/// What was agreed on for frames being sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct TxOffloads {
    /// The device completes TCP and UDP checksums.
    pub checksum: bool,
    /// It segments TCP over IPv4.
    pub tso4: bool,
    /// It segments TCP over IPv6.
    pub tso6: bool,
}

/// Prepares a frame for a device that completes checksums, and cuts segments of `segment` payload
/// bytes if given: puts the pseudo-header's sum into the frame (§5.1.6.2) and returns the header
/// that asks for the rest. What `agreed` lacks is not asked for.
pub(super) fn prepare(frame: &mut [u8], segment: Option<NonZeroU16>, agreed: TxOffloads) -> Header {
    let Some(packet) = locate(frame).filter(|_| agreed.checksum) else {
        return Header::default();
    };
    let partial = fold(packet.pseudo_sum(frame));
    let at = packet.checksum_at();
    frame[at..at + 2].copy_from_slice(&partial.to_be_bytes());
    let mut header = Header {
        flags: NEEDS_CSUM,
        // Within a frame, which is shorter than 64 KiB up to here.
        csum_start: packet.start as u16,
        csum_offset: packet.checksum_offset() as u16,
        ..Header::default()
    };
    if let Some(segment) = segment
        && packet.protocol == TCP
        && if packet.v6 { agreed.tso6 } else { agreed.tso4 }
    {
        let tcp_bytes = usize::from(frame[packet.start + 12] >> 4) * 4;
        let headers = packet.start + tcp_bytes;
        // A frame that needs no cutting is not announced as one.
        if packet.end > headers + usize::from(segment.get()) {
            header.gso_type = if packet.v6 { GSO_TCPV6 } else { GSO_TCPV4 };
            header.header_len = headers as u16;
            header.gso_size = segment.get();
        }
    }
    header
}

/// Whether the frame's TCP or UDP checksum is right, or there is none to check.
pub(super) fn checksum_ok(frame: &[u8]) -> bool {
    let Some(packet) = locate(frame) else {
        return true;
    };
    let at = packet.checksum_at();
    // UDP over IPv4 may go without (RFC 768).
    if packet.protocol == UDP && !packet.v6 && frame[at..at + 2] == [0, 0] {
        return true;
    }
    fold(packet.pseudo_sum(frame) + sum(&frame[packet.start..packet.end])) == 0xffff
}

/// The sum of a range as big-endian 16-bit words, an odd last byte being the high one.
fn sum(bytes: &[u8]) -> u64 {
    // Carries collect in the upper half: 2^32 words of 32 bits fit. A sum of 32-bit words folds to
    // that of their halves, and one of byte-swapped words to the swapped sum (RFC 1071).
    let mut chunks = bytes.chunks_exact(4);
    let mut total = 0u64;
    for chunk in &mut chunks {
        let mut word = [0; 4];
        word.copy_from_slice(chunk);
        total += u64::from(u32::from_ne_bytes(word));
    }
    let mut tail = [0; 4];
    let rest = chunks.remainder();
    tail[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_ne_bytes(tail));
    u64::from(u16::from_be(fold(total)))
}

/// Adds the carries back in until 16 bits are left.
fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    const ALL: TxOffloads = TxOffloads {
        checksum: true,
        tso4: true,
        tso6: true,
    };

    fn slow_sum(bytes: &[u8]) -> u64 {
        bytes
            .chunks(2)
            .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
            .sum()
    }

    /// A frame with a zero checksum field; `pad` bytes follow the packet.
    pub(crate) fn frame(v6: bool, protocol: u8, payload: &[u8], pad: usize) -> Vec<u8> {
        let header = if protocol == TCP { 20 } else { 8 };
        let length = header + payload.len();
        let mut out = vec![2; 12];
        if v6 {
            out.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            out.extend((length as u16).to_be_bytes());
            out.extend([protocol, 64]);
            out.extend((0..32).map(|i| i * 7 + 1));
        } else {
            out.extend([0x08, 0x00, 0x45, 0]);
            out.extend((length as u16 + 20).to_be_bytes());
            out.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        let mut transport = vec![0; header];
        transport[..4].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        if protocol == TCP {
            transport[12] = 5 << 4;
        }
        out.extend(transport);
        out.extend(payload);
        out.extend(vec![0xee; pad]);
        out
    }

    /// What a device does with `NEEDS_CSUM`.
    fn complete(frame: &mut [u8], header: &Header, end: usize) {
        let start = usize::from(header.csum_start);
        let value = !fold(slow_sum(&frame[start..end]));
        let at = start + usize::from(header.csum_offset);
        frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }

    proptest! {
        #[test]
        fn sum_is_the_plain_sum(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(fold(sum(&bytes)), fold(slow_sum(&bytes)));
        }

        #[test]
        fn what_a_device_completes_verifies(
            v6: bool,
            tcp: bool,
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            pad in 0usize..20,
            flip in 0usize..200,
        ) {
            let mut frame = frame(v6, if tcp { TCP } else { UDP }, &payload, pad);
            let header = prepare(&mut frame, None, ALL);
            prop_assert_eq!(header.flags, NEEDS_CSUM);
            let end = frame.len() - pad;
            complete(&mut frame, &header, end);
            prop_assert!(checksum_ok(&frame));
            if let Some(byte) = payload.len().checked_sub(1).map(|last| flip.min(last)) {
                let at = end - payload.len() + byte;
                frame[at] ^= 0x10;
                prop_assert!(!checksum_ok(&frame));
            }
        }

        #[test]
        fn garbage_is_survived(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), v6: bool) {
            if bytes.len() >= 15 {
                let (kind, version) = if v6 { ([0x86, 0xdd], 0x60) } else { ([8, 0], 0x45) };
                bytes[12..14].copy_from_slice(&kind);
                bytes[14] = version;
            }
            checksum_ok(&bytes);
            prepare(&mut bytes, NonZeroU16::new(1448), ALL);
        }
    }

    #[test]
    fn long_tcp_is_segmented_and_short_is_not() {
        let mss = NonZeroU16::new(1448);
        let mut long = frame(false, TCP, &[1; 4000], 0);
        let header = prepare(&mut long, mss, ALL);
        assert_eq!(
            (header.gso_type, header.gso_size, header.header_len),
            (GSO_TCPV4, 1448, 54)
        );
        assert_eq!((header.csum_start, header.csum_offset), (34, 16));
        let mut long = frame(true, TCP, &[1; 4000], 0);
        let header = prepare(&mut long, mss, ALL);
        assert_eq!((header.gso_type, header.header_len), (GSO_TCPV6, 74));
        let mut short = frame(false, TCP, &[1; 1448], 0);
        assert_eq!(prepare(&mut short, mss, ALL).gso_type, 0);
    }

    #[test]
    fn only_what_was_agreed_is_asked_for() {
        let mss = NonZeroU16::new(1448);
        for v6 in [false, true] {
            let long = frame(v6, TCP, &[1; 4000], 0);
            let one = TxOffloads {
                tso4: v6,
                tso6: !v6,
                ..ALL
            };
            let header = prepare(&mut long.clone(), mss, one);
            assert_eq!((header.flags, header.gso_type), (NEEDS_CSUM, 0));
            let none = TxOffloads {
                checksum: false,
                ..ALL
            };
            let mut same = long.clone();
            assert_eq!(prepare(&mut same, mss, none), Header::default());
            assert_eq!(same, long);
        }
    }

    #[test]
    fn others_are_left_alone() {
        let mut arp = vec![0xff; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let before = arp.clone();
        assert_eq!(prepare(&mut arp, None, ALL), Header::default());
        assert_eq!(arp, before);
        let mut fragment = frame(false, UDP, &[1, 2, 3], 0);
        fragment[20] |= 0x20;
        assert_eq!(prepare(&mut fragment, None, ALL), Header::default());
        assert!(checksum_ok(&fragment));
        let no_checksum = frame(false, UDP, &[1, 2, 3], 0);
        assert!(checksum_ok(&no_checksum));
    }
}
