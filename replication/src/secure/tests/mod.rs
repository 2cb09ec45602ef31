//! The preamble and sealed records.
