//! A disk with metadata on it that is saved, torn, overwritten and misdirected; then a node attaches it.
//!
//! Whatever is on the disk, the node comes to a verdict in words, trusts no page that is not intact, and
//! never believes something newer to be older.

mod image;

use crate::Target;
use crate::input::Input;
use image::Image;

/// Input: a byte for the kind of disk, then moves ([`image`]).
pub const TARGET: Target = Target {
    name: "metadata",
    max_len: 1024,
    run,
    seeds: image::seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut image = Image::new(input.coin());
    while !input.is_done() {
        image.one(&mut input);
    }
    image.attach();
}
