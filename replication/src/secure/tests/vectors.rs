//! Known answers, computed with Python's hashlib and hmac and, for the records, its `cryptography` package.

use super::*;
use alloc::string::String;
use core::fmt::Write;

fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

struct Answers {
    mode: Integrity,
    offers: [&'static str; 2],
    proofs: [&'static str; 2],
    /// The dialling side's first record, its second, and the first under its second key.
    records: [&'static str; 3],
}

const ANSWERS: [Answers; 2] = [
    Answers {
        mode: Integrity::Aes256Gcm,
        offers: [
            "504c53500101010102000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
             dd1579e4539c3609e193b32113ba04ae1c65e236",
            "504c53500101020102000000202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\
             dd1579e4539c3609e193b32113ba04ae82065421",
        ],
        proofs: [
            "504c535001020000000000007d5057093ca5f784c406172219c90783b72e181bb6e2a7d3d9bf3d39a7eb5ab8\
             000000000000000000000000000000006dcc3828",
            "504c535001020000000000006e472ef38bb0675e1166dc452fba3cc7029c0c6de7fd92559ab4bc47c5ba14ee\
             0000000000000000000000000000000023df7076",
        ],
        records: [
            "dbe916a117ee13db3cb7b2d11c04c703eefb05361b2d94f0",
            "52c4d3d4314bd5817b49c99d7b524de8f25010d2e9c205ea",
            "cc7c83cb60b32784e773b76914db0adc0672cec0894c1553",
        ],
    },
    Answers {
        mode: Integrity::ChaCha20Poly1305,
        offers: [
            "504c53500101010103000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\
             dd1579e4539c3609e193b32113ba04aeb6918c92",
            "504c53500101020103000000202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f\
             dd1579e4539c3609e193b32113ba04ae28f23a85",
        ],
        proofs: [
            "504c5350010200000000000046392571d3f2d7dc7af5f6c6659ff732196f7327fb74ca882c6278bfcd7292dd\
             00000000000000000000000000000000400f6a4e",
            "504c535001020000000000000b462524afa9b162479871efd1a6857b4297ce25bcf7c90022ce69bd3052a72a\
             0000000000000000000000000000000036b7e636",
        ],
        records: [
            "1a1a671760504a66328cf9cc9acd9fc1d740fc2c471cac24",
            "0bea42e86b25123accae7f9972471e4d4aeef21b50797b57",
            "6bab2b4029af59e4a258c485f9051bf535c50fd23c6683f2",
        ],
    },
];

const ACCEPTED: &str = "504c5350010300000000000000000000000000000000000000000000000000000000000000000000\
                        000000000000000000000000000000000000000018981267";
const SECRET_DIFFERS: &str = "504c5350010304000000000000000000000000000000000000000000000000000000000000000000\
                              0000000000000000000000000000000000000000bc42a44c";
const OFFER_WITHOUT_SECRET: &str = "504c53500101010001000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b\
                                    1c1d1e1f00000000000000000000000000000000c095060b";

fn nonce(first: u8) -> [u8; 32] {
    core::array::from_fn(|at| first + at as u8)
}

#[test]
fn every_byte_of_an_exchange_with_a_secret() {
    for answers in ANSWERS {
        let security = demand(answers.mode, Some(SECRET));
        let mut ends = [PreambleSide::Dials, PreambleSide::Listens].map(|side| {
            let mut end = End::new(security.clone(), side, 0);
            let first = if side == PreambleSide::Dials { 0 } else { 32 };
            end.preamble = Preamble::new(&security, side, nonce(first));
            end
        });
        let mut seen = [const { Vec::new() }; 2];
        talk(&mut ends, |from, _, message| {
            seen[from].push(hex(message));
            true
        });
        for (side, seen) in seen.into_iter().enumerate() {
            assert_eq!(seen, [answers.offers[side], answers.proofs[side], ACCEPTED]);
        }
        let Some(Session::Sealed(mut sealer, _)) = ends[0].session() else {
            panic!("not sealed");
        };
        let mut records = [[0; 24]; 3];
        sealer.seal(b"palisade", &mut records[0]);
        sealer.seal(b"palisade", &mut records[1]);
        sealer.skip_to(REKEY_AFTER);
        sealer.seal(b"palisade", &mut records[2]);
        assert_eq!(records.map(|record| hex(&record)), answers.records);
    }
}

#[test]
fn messages_without_a_secret_and_verdicts() {
    let security = Security::default();
    let preamble = Preamble::new(&security, PreambleSide::Dials, nonce(0));
    assert_eq!(hex(preamble.output()), OFFER_WITHOUT_SECRET);
    let verdict = Message::Verdict(Some(LinkRefusal::SecretDiffers)).encode();
    assert_eq!(hex(&verdict), SECRET_DIFFERS);
}

#[test]
fn nonces_come_from_the_seed_and_never_repeat() {
    let mut source = NonceSource::new([1, 2, 3, 4]);
    let nonces: Vec<_> = (0..100).map(|_| source.next_nonce()).collect();
    for (at, nonce) in nonces.iter().enumerate() {
        assert!(!nonces[..at].contains(nonce));
    }
    assert_eq!(NonceSource::new([1, 2, 3, 4]).next_nonce(), nonces[0]);
    assert!(!nonces.contains(&NonceSource::new([1, 2, 3, 5]).next_nonce()));
}
