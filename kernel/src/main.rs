//! The Palisade unikernel.
fn main() {}
