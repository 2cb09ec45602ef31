//! Who the peer is: nobody without the secret comes through, whoever comes through agrees with the
//! other side, and what is sealed is not altered unnoticed.

mod wiretap;

use crate::Target;
use crate::input::Input;

/// Input: what the two nodes are configured for, then what somebody between them does ([`wiretap`]).
pub const TARGET: Target = Target {
    name: "secure",
    max_len: 768,
    run,
    seeds: wiretap::seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.coin() {
        wiretap::impostor(&mut input);
    } else {
        wiretap::between(&mut input);
    }
}
