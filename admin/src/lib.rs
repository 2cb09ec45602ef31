#![no_std]
#![forbid(unsafe_code)]
//! Configuration, console line editor, verbs and status rendering.
