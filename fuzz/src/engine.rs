//! The whole engine with a peer, disks, clients and an operator that do anything at any time, and power that
//! fails.
//!
//! Whatever they do, the engine does not panic, keeps its invariants, touches its disks only where a volume
//! or its metadata is, answers everything once, and in the end has given all memory back.

mod disks;
mod moves;
mod seeds;
mod victim;

use crate::Target;
use crate::input::Input;
use victim::Victim;

/// Input: a byte for the protocol ([`victim::mirroring`]), and moves, each a byte that says what happens and the bytes of its choices ([`moves`]).
pub const TARGET: Target = Target {
    name: "engine",
    max_len: 1024,
    run,
    seeds: seeds::seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut victim = Victim::new(victim::mirroring(input.byte()));
    while !input.is_done() {
        moves::one(&mut victim, &mut input);
    }
    victim.end();
}
