//! What a host does with a frame that its guest hands over with offloads: independent of
//! `driver.rs`, so that a mistake there shows as broken frames.

use super::Segment;
use super::driver::{TxOffload, prepare_tx};
use alloc::vec::Vec;
use smoltcp::phy::PacketMeta;

pub(super) fn transmit(segment: &mut Segment, from: usize, mut frame: Vec<u8>, meta: PacketMeta) {
    let port = &segment.ports[from];
    if !port.features.tx_checksum {
        assert!(meta.segmentation_offload_size.is_none());
        segment.inject(from, &frame, false);
        return;
    }
    let plan = prepare_tx(&mut frame, meta);
    let peers_vouch = segment.ports.iter().all(|port| port.features.rx_checksum);
    let cut = plan.segmentation.is_some() && !segment.ports[from].big_frames;
    if !cut && peers_vouch {
        segment.inject(from, &frame, plan.checksum.is_some());
        return;
    }
    for mut piece in if cut {
        split(&frame, plan)
    } else {
        [frame].into()
    } {
        if let Some(place) = plan.checksum {
            complete(
                &mut piece,
                usize::from(place.start),
                usize::from(place.offset),
            );
        }
        segment.inject(from, &piece, false);
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

/// virtio 1.2, 5.1.6.2.1: the field holds the pseudo-header's sum.
fn complete(frame: &mut [u8], start: usize, offset: usize) {
    let total = !(sum(&frame[start..]) as u16);
    frame[start + offset..start + offset + 2].copy_from_slice(&total.to_be_bytes());
}

fn split(frame: &[u8], plan: TxOffload) -> Vec<Vec<u8>> {
    let how = plan.segmentation.expect("called for it");
    let start = usize::from(plan.checksum.expect("always with it").start);
    let header = usize::from(how.header_len);
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let sequence = u32::from_be_bytes([
        frame[start + 4],
        frame[start + 5],
        frame[start + 6],
        frame[start + 7],
    ]);
    let chunks: Vec<_> = frame[header..].chunks(usize::from(how.size)).collect();
    let last = chunks.len() - 1;
    let mut pieces = Vec::new();
    let mut done = 0u32;
    for (index, chunk) in chunks.iter().enumerate() {
        let mut piece = frame[..header].to_vec();
        piece.extend_from_slice(chunk);
        let ip_len = (piece.len() - 14) as u16;
        piece[16..18].copy_from_slice(&ip_len.to_be_bytes());
        piece[24..26].fill(0);
        let ip_sum = !(sum(&piece[14..34]) as u16);
        piece[24..26].copy_from_slice(&ip_sum.to_be_bytes());
        piece[start + 4..start + 8].copy_from_slice(&sequence.wrapping_add(done).to_be_bytes());
        if index != last {
            // PSH and FIN belong to the last segment.
            piece[start + 13] &= !0x09;
        }
        // The pseudo-header's sum was that of the whole; its length shrinks.
        let shrink = word(16) - ip_len;
        let old = u32::from(word(start + 16));
        let folded = old + u32::from(!shrink);
        let folded = (folded & 0xffff) + (folded >> 16);
        piece[start + 16..start + 18].copy_from_slice(&(folded as u16).to_be_bytes());
        done += chunk.len() as u32;
        pieces.push(piece);
    }
    pieces
}
