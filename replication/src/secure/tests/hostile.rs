//! What somebody between the nodes, or in the place of one, can do.

use super::*;
use proptest::prelude::*;

fn with_secret(mode: Integrity) -> [End; 2] {
    End::pair(demand(mode, Some(SECRET)), demand(mode, Some(SECRET)))
}

fn nobody_is_up(ends: &[End; 2]) {
    assert!(ends.iter().all(|end| end.session().is_none()));
}

#[test]
fn a_node_does_not_talk_to_itself() {
    for secret in [None, Some(SECRET)] {
        let security = demand(Integrity::Crc32c, secret);
        // Its own messages come back.
        let mut end = End::new(security.clone(), PreambleSide::Dials, 1);
        let own = end.take();
        end.feed(&own[0]);
        assert_eq!(end.refusal(), Some(LinkRefusal::Itself));
        // They come back with the side changed.
        let mut end = End::new(security.clone(), PreambleSide::Dials, 1);
        let mut own = end.take();
        own[0][6] = PreambleSide::Listens.code();
        reseal(&mut own[0]);
        end.feed(&own[0]);
        assert_eq!(end.refusal(), Some(LinkRefusal::Itself));
        // Two of its connections are joined: the side is the node's, not the connection's.
        let mut ends = [1, 2].map(|n| End::new(security.clone(), PreambleSide::Dials, n));
        undisturbed(&mut ends);
        nobody_is_up(&ends);
        assert!(
            ends.iter()
                .all(|e| e.refusal() == Some(LinkRefusal::Itself))
        );
    }
}

#[test]
fn a_reflected_proof_proves_nothing() {
    // An offer of the attacker's own, then the victim's proof back.
    let mut end = End::new(
        demand(Integrity::Crc32c, Some(SECRET)),
        PreambleSide::Dials,
        1,
    );
    let Ok(Message::Offer(own)) = Message::decode(&end.take()[0]) else {
        panic!("an offer comes first");
    };
    let offer = Offer {
        side: PreambleSide::Listens.code(),
        nonce: [9; 32],
        ..own
    };
    end.feed(&Message::Offer(offer).encode());
    let proof = end.take();
    end.feed(&proof[0]);
    assert_eq!(end.refusal(), Some(LinkRefusal::SecretDiffers));
}

#[test]
fn a_recorded_exchange_does_not_open_the_next() {
    for mode in MODES {
        let mut recorded = [const { Vec::new() }; 2];
        talk(&mut with_secret(mode), |from, _, message| {
            recorded[from].push(*message);
            true
        });
        for (victim, side) in [PreambleSide::Dials, PreambleSide::Listens]
            .into_iter()
            .enumerate()
        {
            let mut end = End::new(demand(mode, Some(SECRET)), side, 77);
            end.feed(&recorded[1 - victim].concat());
            assert_eq!(end.refusal(), Some(LinkRefusal::SecretDiffers));
        }
    }
}

#[test]
fn a_verdict_alone_opens_nothing() {
    for mode in MODES {
        let mut end = End::new(demand(mode, Some(SECRET)), PreambleSide::Dials, 1);
        let accepted = Message::Verdict(None).encode();
        end.feed(&accepted);
        assert_eq!(end.failed, Some(PreambleError::Order));
        // Neither after an offer, in the place of the proof.
        let mut ends = with_secret(mode);
        talk(&mut ends, |_, number, message| {
            if number == 1 {
                *message = accepted;
            }
            true
        });
        nobody_is_up(&ends);
    }
}

#[test]
fn nothing_can_be_talked_down() {
    let rewrite = |ends: &mut [End; 2], to: [u8; 2], has_secret: u8| {
        talk(ends, |from, number, message| {
            if number == 0 {
                message[7] = has_secret;
                message[8] = to[from];
                reseal(message);
            }
            true
        });
        nobody_is_up(ends);
        [ends[0].refusal(), ends[1].refusal()]
    };
    let crc = mode_code(Integrity::Crc32c);
    for mode in SEALING {
        let mut ends = with_secret(mode);
        assert_eq!(
            rewrite(&mut ends, [crc; 2], 1),
            [Some(LinkRefusal::IntegrityDiffers); 2]
        );
        let mut ends = with_secret(mode);
        assert_eq!(
            rewrite(&mut ends, [crc; 2], 0),
            [Some(LinkRefusal::PeerWithoutSecret); 2]
        );
        // Each is told what it wants to hear.
        let mut ends = End::pair(
            demand(mode, Some(SECRET)),
            demand(Integrity::Crc32c, Some(SECRET)),
        );
        assert_eq!(
            rewrite(&mut ends, [crc, mode_code(mode)], 1),
            [Some(LinkRefusal::SecretDiffers); 2]
        );
    }
}

#[test]
fn no_bit_of_offer_or_proof_can_be_changed() {
    for mode in [Integrity::Crc32c, Integrity::Aes256Gcm] {
        for from in 0..2 {
            for (number, bytes) in [(0, 4..60), (1, 12..44)] {
                for bit in bytes.start * 8..bytes.end * 8 {
                    let mut ends = with_secret(mode);
                    talk(&mut ends, |sender, place, message| {
                        if (sender, place) == (from, number) {
                            message[bit / 8] ^= 1 << (bit % 8);
                            reseal(message);
                        }
                        true
                    });
                    nobody_is_up(&ends);
                }
            }
        }
    }
}

#[test]
fn damage_is_noticed_without_a_secret_too() {
    for number in 0..2 {
        for bit in 0..MESSAGE_LEN * 8 {
            let mut ends = End::pair(Security::default(), Security::default());
            talk(&mut ends, |from, place, message| {
                if (from, place) == (0, number) {
                    message[bit / 8] ^= 1 << (bit % 8);
                }
                true
            });
            assert!(ends[1].session().is_none(), "message {number}, bit {bit}");
        }
    }
}

#[test]
fn what_is_cut_short_waits() {
    for mode in MODES {
        let mut said = Vec::new();
        talk(&mut with_secret(mode), |from, _, message| {
            if from == 1 {
                said.extend_from_slice(message);
            }
            true
        });
        for len in 0..said.len() {
            let mut end = End::new(demand(mode, Some(SECRET)), PreambleSide::Dials, 1);
            for piece in said[..len].chunks(17) {
                end.feed(piece);
                end.take();
            }
            assert_eq!(end.failed, None);
            assert!(end.session().is_none() && !end.preamble.input().is_empty());
        }
    }
}

/// Something that looks like a message: any type and content, a right checksum, now and then a wrong one.
fn message() -> impl Strategy<Value = Bytes> {
    let bytes = proptest::collection::vec(any::<u8>(), MESSAGE_LEN);
    (bytes, 0u8..5, 0u8..4, 0u8..4, any::<u8>()).prop_map(|(bytes, kind, side, mode, noise)| {
        let mut message = [0; MESSAGE_LEN];
        message.copy_from_slice(&bytes);
        message[..4].copy_from_slice(b"PLSP");
        message[4] = 1 + u8::from(noise > 250);
        (message[5], message[6], message[7], message[8]) = (kind, side, noise & 1, mode);
        if noise < 230 {
            reseal(&mut message);
        }
        message
    })
}

proptest! {
    #[test]
    fn arbitrary_messages_convince_nobody_who_has_a_secret(
        messages in proptest::collection::vec(message(), 1..5),
        mode in 0usize..3,
        dials in any::<bool>(),
    ) {
        let side = if dials { PreambleSide::Dials } else { PreambleSide::Listens };
        for secret in [None, Some(SECRET)] {
            let mode = if secret.is_some() { MODES[mode] } else { Integrity::Crc32c };
            let mut end = End::new(demand(mode, secret), side, 1);
            for message in &messages {
                end.take();
                end.feed(message);
            }
            end.take();
            prop_assert!(secret.is_none() || end.session().is_none());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        grain in 1usize..100,
    ) {
        let mut end = End::new(demand(Integrity::Aes256Gcm, Some(SECRET)), PreambleSide::Listens, 1);
        for piece in bytes.chunks(grain) {
            end.feed(piece);
            end.take();
        }
        prop_assert!(end.session().is_none());
        if bytes.len() >= 4 && !bytes.starts_with(b"PLS") {
            prop_assert_eq!(end.failed, Some(PreambleError::NotPalisade));
        }
    }
}
