#![forbid(unsafe_code)]
//! Deterministic simulator of a Palisade pair and its oracle (host only).
