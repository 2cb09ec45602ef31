#![no_std]
#![forbid(unsafe_code)]
//! smoltcp stack glue, NBD codec and session, peer-link framing, management endpoint, web server.

extern crate alloc;

pub mod http;
pub mod link;
pub mod management;
pub mod nbd;
pub mod stack;
pub mod stream;
