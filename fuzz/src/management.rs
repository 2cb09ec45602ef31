//! Management datagrams: what is opened is sealed again to the same, and a channel obeys nobody without the key.

use crate::Target;
use crate::input::Input;
use fencing::datagram::{Body, Channel, DATAGRAM_MAX, Datagram, Ends, Key, Received, resource_of};
use fencing::{Answer, Event, Name, Promoting, Refusal, Request, Standing, Withheld};

/// Input: a byte that says whether the HMAC is mended, a datagram without it.
pub const TARGET: Target = Target {
    name: "management",
    max_len: 1 + DATAGRAM_MAX,
    run,
    seeds,
};

/// Where the name of the resource lies, and what stands in front of and behind a body.
const RESOURCE: core::ops::Range<usize> = 48..80;
const HMAC: usize = 32;

fn name(text: &str) -> Name {
    Name::try_from(text).expect("a name")
}

fn key() -> Key {
    Key::new(b"the secret of this target", &name("r0"))
}

fn ends() -> Ends {
    Ends {
        resource: name("r0"),
        identity: 7,
        here: name("b"),
        there: name("a"),
    }
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mend = !input.byte().is_multiple_of(4);
    let mut bytes = input.bytes(DATAGRAM_MAX).to_vec();
    let mut channel = Channel::new(ends(), key(), 1);
    let raw = channel.receive(&bytes);
    let opened = Datagram::open(&bytes, &key());
    assert!(opened.is_ok() || raw.is_err());
    if let Err(error) = &opened {
        assert!(!error.to_string().is_empty());
    }
    if !mend || bytes.len() < RESOURCE.end {
        return;
    }
    // The HMAC is made right by the encoder itself: a datagram of the same fields, if these bytes are one at all.
    bytes[RESOURCE].copy_from_slice(&padded("r0"));
    let Some(datagram) = parsed(&bytes) else {
        return;
    };
    let mut out = [0; DATAGRAM_MAX];
    let len = datagram.seal(&key(), &mut out);
    assert_eq!(resource_of(&out[..len]), Ok(name("r0")));
    assert_eq!(Datagram::open(&out[..len], &key()).as_ref(), Ok(&datagram));
    match channel.receive(&out[..len]) {
        // Nothing was asked yet, and nobody is known yet.
        Ok(Received::SayAgain(_)) => {
            assert!(matches!(datagram.body, Body::Request(_)));
        }
        Ok(other) => panic!("{other:?}"),
        Err(rejected) => assert!(!rejected.to_string().is_empty()),
    }
}

fn padded(text: &str) -> [u8; 32] {
    let mut padded = [0; 32];
    padded[..text.len()].copy_from_slice(text.as_bytes());
    padded
}

/// What the bytes say if their HMAC is made right.
fn parsed(bytes: &[u8]) -> Option<Datagram> {
    let mut bytes = bytes.to_vec();
    bytes.truncate(DATAGRAM_MAX);
    let signed = bytes.len().checked_sub(HMAC)?;
    let mac = key().sign(bytes.get(..signed)?);
    bytes[signed..].copy_from_slice(&mac);
    let len = u16::try_from(bytes.len()).ok()?;
    bytes[6..8].copy_from_slice(&len.to_le_bytes());
    let mac = key().sign(&bytes[..signed]);
    bytes[signed..].copy_from_slice(&mac);
    Datagram::open(&bytes, &key()).ok()
}

fn seeds() -> Vec<Vec<u8>> {
    let refused = |why| Answer::Refused { episode: 3, why };
    let standing = |holder, primary| {
        Answer::State(Standing {
            holder,
            last: 9,
            over: 4,
            primary,
        })
    };
    let promoting = |state| Answer::Promoting { nonce: 9, state };
    let requests = [
        Request::Fence {
            episode: 3,
            released: 2,
            vouched: 1,
            up_to_date: true,
            force: false,
        },
        Request::Unfence {
            episode: 3,
            vouched: 0,
        },
        Request::Outdate {
            episode: 3,
            vouched: 2,
            primary: true,
        },
        Request::Query,
        Request::Promote { nonce: 0 },
        Request::Promote { nonce: 9 },
        Request::Notify {
            number: 1,
            event: Event::BeforeResyncTarget,
            volume: Some(0),
        },
        Request::Notify {
            number: 2,
            event: Event::Disconnected,
            volume: None,
        },
    ];
    let answers = [
        Answer::Granted { episode: 3 },
        Answer::Released { episode: 3 },
        promoting(Promoting::Ready),
        promoting(Promoting::UnderWay),
        promoting(Promoting::Primary),
        promoting(Promoting::Denied(Withheld::PeerIsPrimary)),
        promoting(Promoting::Denied(Withheld::Fenced(4))),
        Answer::Handled { number: 1, code: 7 },
        standing(Some((name("a"), 9)), false),
        standing(None, true),
        refused(Refusal::Held {
            holder: name("a"),
            episode: 4,
        }),
        refused(Refusal::Stale { last: 5 }),
        refused(Refusal::Primary),
        refused(Refusal::Requesting { episode: 2 }),
        refused(Refusal::OtherResource),
        refused(Refusal::NotStored),
        refused(Refusal::Handler(5)),
        refused(Refusal::Future),
        refused(Refusal::Older { vouched: 6 }),
    ];
    let bodies = requests
        .map(Body::Request)
        .into_iter()
        .chain(answers.map(Body::Answer))
        .chain([Body::Again { epoch: 6 }]);
    bodies
        .map(|body| {
            let datagram = Datagram {
                session: 5,
                sequence: 1,
                subject: [0, 0],
                identity: 7,
                resource: name("r0"),
                from: name("a"),
                to: name("b"),
                body,
            };
            let mut out = [0; DATAGRAM_MAX];
            let len = datagram.seal(&key(), &mut out);
            let mut seed = vec![1];
            seed.extend(&out[..len]);
            seed
        })
        .collect()
}
