//! What `explain` and a dry run print.

use core::fmt::{self, Write};
use replication::api::Micros;
use replication::lineage::Explanation;

/// Decisions about the volumes, and the microseconds since they were made.
pub type Explained<'a> = (Micros, &'a [Explanation]);

/// Prints how the search for the peer goes (nothing if it is empty), what the last handshake decided, and what a dry run
/// since then has found.
///
/// # Errors
/// Those of `out`.
pub fn explain(
    search: &str,
    last: Explained<'_>,
    dry_run: Explained<'_>,
    out: &mut dyn Write,
) -> fmt::Result {
    if !search.is_empty() {
        writeln!(out, "not connected: {search}")?;
    }
    if last.1.is_empty() && dry_run.1.is_empty() {
        return writeln!(
            out,
            "no handshake has come to a decision since this node started; see 'status'"
        );
    }
    if !last.1.is_empty() {
        writeln!(out, "last handshake, {} s ago", last.0 / 1_000_000)?;
        volumes(last.1, out)?;
    }
    forecast(dry_run, out)
}

/// Prints what a dry run has found.
///
/// # Errors
/// Those of `out`.
pub fn forecast(dry_run: Explained<'_>, out: &mut dyn Write) -> fmt::Result {
    if !dry_run.1.is_empty() {
        writeln!(out, "dry run, {} s ago", dry_run.0 / 1_000_000)?;
        volumes(dry_run.1, out)?;
    }
    Ok(())
}

fn volumes(list: &[Explanation], out: &mut dyn Write) -> fmt::Result {
    list.iter().try_for_each(|one| writeln!(out, "{one}"))
}
