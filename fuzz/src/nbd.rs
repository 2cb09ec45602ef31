//! The NBD server: clients that send any bytes in any pieces, an engine that answers in any order and
//! fails, a node that stops serving.
//!
//! Whatever comes, the engine is asked only for what is inside a volume, no memory is lost and all comes to
//! rest. A client that keeps to the protocol gets exactly one answer to each request, with the data that is
//! on the disk.

mod client;
mod world;

use crate::Target;
use crate::input::Input;
use world::World;

/// Input: a byte for the size of the pool, then moves ([`world`]).
pub const TARGET: Target = Target {
    name: "nbd",
    max_len: 1024,
    run,
    seeds: client::seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::new(input.one_of(&[4096, 72, 16, 40]));
    while !input.is_done() {
        world.one(&mut input);
        world.rest();
    }
    world.end();
}
