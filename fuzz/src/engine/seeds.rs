//! Lives that lead far.

use super::moves::Move;
use crate::frames::{Fields, encoded, samples};
use replication::wire::{Frame, HEADER_LEN};

/// The place of the generation that was mentioned last in the list that a move chooses from, when
/// nothing was before: behind two for each volume and 0, 1, 2.
const NEWEST: u8 = 7;

/// The move that says the sampled frame of this kind: to the first volume, at its beginning, with the generation
/// that the list has at this place; an answer goes to the oldest request.
fn say(is_kind: fn(&Frame) -> bool, uuid: u8) -> Vec<u8> {
    let samples = samples();
    let sample = samples.iter().find(|(frame, _)| is_kind(frame));
    let (frame, payload) = sample.expect("every kind has a sample");
    let bytes = encoded(frame, *payload);
    let header: &[u8; HEADER_LEN] = bytes.first_chunk().expect("a header");
    let Fields { kind, flags, .. } = Fields::of(header);
    let oldest = 4;
    vec![
        Move::Frame as u8,
        kind,
        flags,
        0,
        1,
        oldest,
        0,
        0,
        0,
        uuid,
        0,
        0,
    ]
}

/// Lives that lead far: each a row of moves.
pub fn seeds() -> Vec<Vec<u8>> {
    let up = [Move::Meet as u8, 0, 0, 6, 3];
    let fresh = [Move::Command as u8, 0, 4];
    let primary = [Move::Command as u8, 1, 0];
    let promote = [Move::Command as u8, 0, 0];
    let write = |at: u8| [Move::Client as u8, 0, 1, 0, 1, at, 0];
    let all = [Move::CompleteAll as u8];
    let acks = [Move::Acknowledge as u8, 2, 0];
    let down = [Move::LinkDown as u8, 0];
    let reboot = [Move::Reboot as u8];
    let accepted = say(
        |frame| matches!(frame, Frame::NewGenerationReply { .. }),
        NEWEST,
    );
    let pong = say(|frame| matches!(frame, Frame::Pong), 0);
    let granted = say(|frame| matches!(frame, Frame::PromoteReply { .. }), 0);
    let behind = [Move::Meet as u8, 0, 0, 2, 1];
    let ahead = [Move::Meet as u8, 0, 0, 1, 0];
    let same = [Move::Meet as u8, 0, 0, 0, 1];
    let mut united = say(|frame| matches!(frame, Frame::Bitmap { .. }), 0);
    // Its text, instead of none: block 0 on, four clean, nine dirty.
    united.truncate(united.len() - 2);
    united.extend([6, 3, 0, 8, 9]);
    let alone = [&primary[..], &write(1), &all, &write(9), &all].concat();
    let mirrored = [
        &up[..],
        &fresh,
        &accepted,
        &all,
        &promote,
        &pong,
        &granted,
        &all,
        &write(1),
        &all,
        &acks,
    ]
    .concat();
    let target = [
        &ahead[..],
        &say(|frame| matches!(frame, Frame::SyncStart { .. }), 5),
        &all,
        &say(|frame| matches!(frame, Frame::SyncData { .. }), 0),
        &all,
        &say(|frame| matches!(frame, Frame::SyncZeroes { .. }), 0),
        &all,
        &say(|frame| matches!(frame, Frame::SyncEnd { .. }), 5),
        &all,
    ]
    .concat();
    let source = [
        &behind[..],
        &all,
        &united,
        &all,
        &acks,
        &all,
        &acks,
        &all,
        &acks,
    ]
    .concat();
    let verify = [Move::Command as u8, 1, 17, 0, 0, 0];
    let compared = say(|frame| matches!(frame, Frame::Compared { .. }), 0);
    let damaged = [Move::Damage as u8, 1, 0, 32, 4, 1, 2, 3, 4];
    let unsaved = [Move::HoldMetadata as u8, 1];
    // Both nodes' disks are larger; this node leads, and then follows.
    let larger = [Move::DiskChanged as u8, 1, 2, Move::DiskChanged as u8, 0, 4];
    let resize = [Move::Command as u8, 0, 12, 1];
    let grows = [Move::Follow as u8, 0, 0];
    let told = |step: u8, size: u8| [Move::Lead as u8, 0, 0, step, 0, 0, 0, 0, size];
    let grown = [
        &mirrored[..],
        &acks,
        &larger,
        &resize,
        &grows,
        &all,
        &grows,
        &all,
        &acks,
        &all,
    ]
    .concat();
    let led = [
        &mirrored[..],
        &acks,
        &larger,
        &told(0, 1),
        &all,
        &told(1, 1),
        &all,
        &told(2, 1),
        &all,
        &acks,
    ]
    .concat();
    // Without FUA: answered early.
    let early = |at: u8| [Move::Client as u8, 0, 0, 0, 1, at, 0];
    let receive = [Move::Receive as u8, 2];
    let behind_us = [
        &mirrored[..],
        &receive,
        &early(20),
        &early(30),
        &early(40),
        &early(50),
        &early(60),
        &all,
        &receive,
        &all,
        &acks,
        &early(70),
        &all,
        &acks,
    ]
    .concat();
    let received = [
        &target[..],
        &say(|frame| matches!(frame, Frame::Write { .. }), 0),
        &down,
        &all,
    ]
    .concat();
    let lives = vec![
        up.to_vec(),
        alone.clone(),
        mirrored.clone(),
        [&mirrored[..], &down, &alone, &source].concat(),
        [&mirrored[..], &down, &alone, &same, &all, &acks].concat(),
        [&mirrored[..], &down, &target].concat(),
        [&alone[..], &down, &source].concat(),
        [&mirrored[..], &reboot, &same, &all, &acks, &all].concat(),
        [&mirrored[..], &down, &alone, &reboot, &source].concat(),
        [&mirrored[..], &reboot, &target, &reboot, &target].concat(),
        [&mirrored[..], &damaged, &reboot, &same, &all].concat(),
        [
            &mirrored[..],
            &unsaved,
            &write(200),
            &all,
            &down,
            &write(3),
            &all,
            &reboot,
            &same,
        ]
        .concat(),
        [&mirrored[..], &verify, &all, &compared, &all, &acks].concat(),
        target,
        grown,
        led,
        behind_us,
        received,
    ];
    // Protocol C, A that pulls ahead, and B.
    let protocols = [0, 129, 2];
    let all = lives
        .iter()
        .flat_map(|life| protocols.map(|protocol| [&[protocol], &life[..]].concat()));
    all.collect()
}

#[cfg(test)]
mod tests {
    use super::super::disks::SIZE;
    use super::super::moves;
    use super::super::victim::{Victim, mirroring};
    use crate::input::Input;
    use std::collections::BTreeSet;

    /// The engine changes; seeds that begin where it does not go any more are worth nothing.
    #[test]
    fn the_seeds_get_everywhere() {
        let mut seen = BTreeSet::new();
        for seed in super::seeds() {
            let mut input = Input::new(&seed);
            let mut victim = Victim::new(mirroring(input.byte()));
            while !input.is_done() {
                moves::one(&mut victim, &mut input);
                let status = victim.status();
                for volume in &status.volumes {
                    seen.insert(format!("{:?} {:?}", status.role, volume.replication));
                    seen.insert(format!("disk {:?}", volume.disk));
                    if volume.size > SIZE {
                        seen.insert(format!("grown, {:?}", status.role));
                    }
                    if volume.lag_bytes > 0 {
                        seen.insert(format!("lag by {:?}", status.protocol));
                    }
                }
            }
            victim.end();
        }
        for state in [
            "Primary Off",
            "Primary Established",
            "Primary SyncSource",
            "Primary VerifyS",
            "Primary Ahead",
            "lag by A",
            "lag by B",
            "grown, Primary",
            "Secondary Established",
            "Secondary SyncTarget",
            "disk Inconsistent",
            "disk Consistent",
            "disk UpToDate",
        ] {
            assert!(seen.contains(state), "never {state}: {seen:#?}");
        }
    }
}
