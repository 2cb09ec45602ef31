//! What two honest nodes come to.

use super::*;
use alloc::format;
use alloc::string::ToString;

/// What the two sides refuse each other for.
fn refusals(a: Security, b: Security) -> [Option<LinkRefusal>; 2] {
    let mut ends = End::pair(a, b);
    undisturbed(&mut ends);
    for end in &ends {
        assert!(end.session().is_none());
        assert!(end.failed.is_none() || end.refusal().is_some());
    }
    ends.map(|end| end.refusal())
}

#[test]
fn equal_demands_are_met_in_every_mode() {
    for mode in MODES {
        for secret in [None, Some(SECRET)] {
            if secret.is_none() && mode.seals() {
                continue;
            }
            let mut ends = End::pair(demand(mode, secret), demand(mode, secret));
            undisturbed(&mut ends);
            for end in &mut ends {
                assert_eq!(end.failed, None);
                let session = end.session().expect("finished");
                assert_eq!(matches!(session, Session::Sealed(..)), mode.seals());
                assert!(end.preamble.input().is_empty(), "frames follow");
            }
        }
    }
}

#[test]
fn bytes_may_come_one_by_one_and_frames_right_behind() {
    let security = demand(Integrity::Aes256Gcm, Some(SECRET));
    let mut ends = End::pair(security.clone(), security);
    for _ in 0..6 {
        for from in 0..2 {
            for message in ends[from].take() {
                for byte in message {
                    ends[1 - from].feed(&[byte]);
                }
            }
        }
    }
    assert!(ends.iter().all(|end| end.session().is_some()));
    // What follows is not the preamble's to take.
    ends[0].feed(&[0xff; 100]);
    assert_eq!(ends[0].failed, None);
}

#[test]
fn there_is_no_session_before_the_own_verdict_is_sent() {
    let mut ends = End::pair(Security::default(), Security::default());
    let offer = ends[0].take();
    ends[1].feed(&offer[0]);
    let said = ends[1].take();
    ends[0].feed(&said.concat());
    assert!(ends[0].session().is_none(), "the verdict waits to be sent");
    assert_eq!(ends[0].take().len(), 1);
    assert!(ends[0].session().is_some());
}

#[test]
fn both_are_told_what_differs() {
    let secret = |secret| demand(Integrity::Crc32c, secret);
    use LinkRefusal::*;
    let other: &[u8] = b"correct horse battery stapler";
    assert_eq!(
        refusals(secret(Some(SECRET)), secret(Some(other))),
        [Some(SecretDiffers); 2]
    );
    assert_eq!(
        refusals(secret(Some(SECRET)), secret(None)),
        [Some(PeerWithoutSecret), Some(SecretMissing)]
    );
    assert_eq!(
        refusals(
            secret(None),
            demand(Integrity::ChaCha20Poly1305, Some(SECRET))
        ),
        [Some(SecretMissing), Some(PeerWithoutSecret)]
    );
    for (at, a) in MODES.into_iter().enumerate() {
        for b in &MODES[at + 1..] {
            let modes = [a, *b].map(|mode| demand(mode, Some(SECRET)));
            let [a, b] = modes;
            assert_eq!(refusals(a, b), [Some(IntegrityDiffers); 2]);
        }
    }
    let elsewhere = Security::new(Integrity::Crc32c, Some(SECRET), "r1").unwrap();
    assert_eq!(
        refusals(secret(Some(SECRET)), elsewhere),
        [Some(Resource); 2]
    );
}

#[test]
fn the_refused_side_learns_why_from_the_other_alone() {
    // The wrong secret is noticed by whoever gets the other's proof first; the other may never get one.
    let mut ends = End::pair(
        demand(Integrity::Crc32c, Some(SECRET)),
        demand(Integrity::Crc32c, Some(b"another secret of the kind")),
    );
    talk(&mut ends, |from, number, _| (from, number) != (1, 1));
    assert_eq!(ends[0].refusal(), Some(LinkRefusal::SecretDiffers));
    assert_eq!(ends[1].refusal(), Some(LinkRefusal::SecretDiffers));
}

#[test]
fn a_later_preamble_and_a_release_without_one_are_a_matter_of_versions() {
    for secret in [None, Some(SECRET)] {
        let mut later = Message::Verdict(None).encode();
        (later[4], later[5]) = (2, 1);
        reseal(&mut later);
        let mut old = [0; MESSAGE_LEN];
        old[..4].copy_from_slice(b"PLSD");
        for first in [later, old] {
            let mut end = End::new(demand(Integrity::Crc32c, secret), PreambleSide::Listens, 1);
            end.take();
            end.feed(&first);
            assert_eq!(end.refusal(), Some(LinkRefusal::Version));
            let said = end.take();
            assert_eq!(
                Message::decode(&said[0]),
                Ok(Message::Verdict(Some(LinkRefusal::Version)))
            );
        }
    }
}

#[test]
fn what_cannot_be_demanded() {
    let new = |integrity, secret| Security::new(integrity, secret, "r0").map(|_| ());
    let long = [b'x'; SECRET_MAX + 1];
    for mode in SEALING {
        assert_eq!(new(mode, None), Err(SecurityError::SecretNeeded(mode)));
    }
    assert_eq!(
        new(Integrity::Crc32c, Some(&long)),
        Err(SecurityError::SecretLength(SECRET_MAX + 1))
    );
    assert_eq!(
        new(Integrity::Crc32c, Some(&long[..SECRET_MIN - 1])),
        Err(SecurityError::SecretLength(SECRET_MIN - 1))
    );
    assert_eq!(
        new(Integrity::Crc32c, Some(b"a secret with\na line")),
        Err(SecurityError::SecretByte)
    );
    for len in [SECRET_MIN, SECRET_MAX] {
        assert_eq!(new(Integrity::Aes256Gcm, Some(&long[..len])), Ok(()));
    }
}

#[test]
fn names_are_those_of_the_configuration() {
    for mode in MODES {
        assert_eq!(Integrity::from_name(mode.name()), Some(mode));
    }
    assert_eq!(Integrity::from_name("md5"), None);
}

#[test]
fn no_key_is_ever_shown() {
    let security = demand(Integrity::Aes256Gcm, Some(SECRET));
    let [(sealer, opener), _] = sealed(Integrity::Aes256Gcm, [1, 2]);
    for shown in [format!("{security:?}"), format!("{sealer:?} {opener:?}")] {
        assert!(!shown.contains("correct"), "{shown}");
        assert!(!shown.contains('['), "an array of bytes: {shown}");
    }
    let text = LinkRefusal::SecretDiffers.to_string();
    assert_eq!(
        text,
        "the peer's shared secret differs: set the same `secret` on both nodes"
    );
}

#[test]
fn every_refusal_survives_the_wire() {
    use LinkRefusal::*;
    for refusal in [
        Version,
        SecretMissing,
        PeerWithoutSecret,
        SecretDiffers,
        Resource,
        IntegrityDiffers,
        Itself,
    ] {
        let message = Message::Verdict(Some(refusal));
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}
