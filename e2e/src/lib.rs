#![forbid(unsafe_code)]
//! QEMU system tests with real clients (host only).
