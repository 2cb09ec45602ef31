//! Sealed records.

use super::*;
use alloc::vec;
use proptest::prelude::*;

fn seal(sealer: &mut Sealer, plain: &[u8]) -> Vec<u8> {
    let mut record = vec![0; plain.len() + TAG_LEN];
    sealer.seal(plain, &mut record);
    record
}

fn open(opener: &mut Opener, record: &[u8]) -> Result<Vec<u8>, Corrupt> {
    let (text, tag) = record.split_last_chunk().expect("a tag");
    let mut text = text.to_vec();
    opener.open(&mut text, tag).map(|()| text)
}

#[test]
fn records_open_in_order_on_the_other_side_only() {
    for mode in SEALING {
        let [mut a, mut b] = sealed(mode, [1, 2]);
        for round in 0..20u8 {
            let plain = vec![round; usize::from(round) * 50];
            let there = seal(&mut a.0, &plain);
            assert_eq!(open(&mut b.1, &there), Ok(plain.clone()));
            let back = seal(&mut b.0, &plain);
            assert_ne!(back, there, "each direction has its own keys");
            assert_eq!(open(&mut a.1, &back), Ok(plain));
        }
        // What one sends, it does not take itself.
        let [mut a, _] = sealed(mode, [1, 2]);
        let record = seal(&mut a.0, b"to the peer");
        assert_eq!(open(&mut a.1, &record), Err(Corrupt));
    }
}

#[test]
fn lost_repeated_and_exchanged_records_do_not_open() {
    for mode in SEALING {
        let [mut a, _] = sealed(mode, [1, 2]);
        let records: Vec<_> = (0..3u8).map(|n| seal(&mut a.0, &[n; 100])).collect();
        for order in [[1, 0], [0, 0], [0, 2]] {
            let [_, mut b] = sealed(mode, [1, 2]);
            let opened = order.map(|n: usize| open(&mut b.1, &records[n]));
            assert!(opened.contains(&Err(Corrupt)), "{order:?}");
        }
        // Nor do those of another connection.
        let [_, mut other] = sealed(mode, [1, 3]);
        assert_eq!(open(&mut other.1, &records[0]), Err(Corrupt));
    }
}

#[test]
fn any_flipped_bit_is_noticed() {
    for mode in SEALING {
        for len in [0, 1, 52, 200] {
            let [mut a, _] = sealed(mode, [1, 2]);
            let record = seal(&mut a.0, &vec![7; len]);
            for bit in 0..record.len() * 8 {
                let [_, mut b] = sealed_once(mode);
                let mut bent = record.clone();
                bent[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(open(&mut b.1, &bent), Err(Corrupt), "{mode} bit {bit}");
            }
        }
    }
}

/// The same connection again.
fn sealed_once(mode: Integrity) -> [(Sealer, Opener); 2] {
    sealed(mode, [1, 2])
}

#[test]
fn both_ends_take_the_next_key_together() {
    for mode in SEALING {
        let [mut a, mut b] = sealed(mode, [1, 2]);
        for _ in 0..3 {
            a.0.skip_to(REKEY_AFTER - 2);
            b.1.skip_to(REKEY_AFTER - 2);
            let mut seen: Vec<Vec<u8>> = Vec::new();
            for _ in 0..5 {
                let record = seal(&mut a.0, b"the same every time");
                assert_eq!(open(&mut b.1, &record).unwrap(), b"the same every time");
                assert!(!seen.contains(&record));
                seen.push(record);
            }
        }
    }
}

#[test]
fn nothing_is_allocated() {
    let security = demand(Integrity::Aes256Gcm, Some(SECRET));
    let preamble = allocation_counter::measure(|| {
        let mut source = NonceSource::new([1; 4]);
        let mut ends = [PreambleSide::Dials, PreambleSide::Listens]
            .map(|side| Preamble::new(&security, side, source.next_nonce()));
        for _ in 0..4 {
            let [a, b] = &mut ends;
            while let Some(message) = a.output().first_chunk::<MESSAGE_LEN>() {
                b.input().copy_from_slice(message);
                a.sent(MESSAGE_LEN);
                b.received(&security, MESSAGE_LEN).unwrap();
            }
            ends.reverse();
        }
        assert!(ends.iter().all(|end| end.session(&security).is_some()));
    });
    assert_eq!(preamble.count_total, 0);
    for mode in SEALING {
        let [mut a, mut b] = sealed(mode, [1, 2]);
        let plain = vec![1; 4096];
        let mut record = vec![0; plain.len() + TAG_LEN];
        let records = allocation_counter::measure(|| {
            a.0.skip_to(REKEY_AFTER - 1);
            b.1.skip_to(REKEY_AFTER - 1);
            for _ in 0..3 {
                a.0.seal(&plain, &mut record);
                let (text, tag) = record.split_last_chunk_mut().unwrap();
                b.1.open(text, tag).unwrap();
            }
        });
        assert_eq!(records.count_total, 0);
    }
}

proptest! {
    #[test]
    fn whatever_is_sealed_is_opened(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..700), 1..6),
    ) {
        for mode in SEALING {
            let [mut a, mut b] = sealed(mode, [1, 2]);
            for part in &parts {
                let record = seal(&mut a.0, part);
                prop_assert_eq!(open(&mut b.1, &record), Ok(part.clone()));
            }
        }
    }

    #[test]
    fn arbitrary_records_do_not_open(record in proptest::collection::vec(any::<u8>(), TAG_LEN..200)) {
        for mode in SEALING {
            let [_, mut b] = sealed(mode, [1, 2]);
            prop_assert_eq!(open(&mut b.1, &record), Err(Corrupt));
        }
    }
}
