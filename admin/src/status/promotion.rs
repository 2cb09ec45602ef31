//! Why this node is not Primary: in `status`, `status --json` and `explain`.

use crate::text::wrapped;
use core::fmt::{self, Write};
use replication::api::{DeniedPromotion, Micros, Role, Status};

fn age(denied: &DeniedPromotion, now: Micros) -> u64 {
    now.saturating_sub(denied.at) / 1_000_000
}

fn asked(denied: &DeniedPromotion) -> &'static str {
    match denied.for_clients {
        true => "clients that wait",
        false => "command",
    }
}

/// The lines in `status`; none where clients are not reason enough, or nobody waits and nobody was refused.
pub(super) fn lines(status: &Status, now: Micros, out: &mut dyn Write) -> fmt::Result {
    if !status.auto_promote || status.role == Role::Primary {
        return Ok(());
    }
    match status.waiting_clients {
        0 => {}
        1 => writeln!(out, "1 client waits to be served")?,
        many => writeln!(out, "{many} clients wait to be served")?,
    }
    match &status.denied {
        Some(denied) if denied.for_clients => said(denied, now, "! ", out),
        _ => Ok(()),
    }
}

fn said(denied: &DeniedPromotion, now: Micros, first: &str, out: &mut dyn Write) -> fmt::Result {
    let mut line: heapless::String<320> = heapless::String::new();
    write!(
        crate::text::Truncating(&mut line),
        "not promoted, {} s ago, by {}: {}",
        age(denied, now),
        asked(denied),
        denied.why
    )?;
    wrapped("", first, &line, out)
}

/// Prints who fences whom and what was last said against a promotion, for `explain`.
///
/// # Errors
/// Those of `out`.
pub fn explain_roles(status: &Status, now: Micros, out: &mut dyn Write) -> fmt::Result {
    super::fence::line(status, out)?;
    match &status.denied {
        Some(denied) => said(denied, now, "promotion: ", out),
        None => Ok(()),
    }
}

pub(super) fn json(json: &mut crate::json::Json<'_>, status: &Status, now: Micros) -> fmt::Result {
    json.object(Some("promotion"), |json| {
        json.bool("auto", status.auto_promote)?;
        json.number("waiting_clients", status.waiting_clients.into())?;
        let denied = status.denied.as_ref();
        json.string("denied", denied.map_or("", |denied| &denied.why))?;
        json.optional("denied_s", denied.map(|denied| age(denied, now)))?;
        json.bool(
            "for_clients",
            denied.is_some_and(|denied| denied.for_clients),
        )
    })
}
