//! Fencing for people: the line in `status`, and the verb `fence`.

use crate::text::wrapped;
use core::fmt::{self, Write};
use replication::api::{FenceStatus, Grantors, OwnFence, Policy, Role, Status};

/// The name of a policy, as DRBD and the configuration write it.
pub const fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::DontCare => "dont-care",
        Policy::ResourceOnly => "resource-only",
        Policy::ResourceAndStonith => "resource-and-stonith",
    }
}

/// `requested`, `held` or `releasing`; empty for no episode of this node.
pub(super) const fn state_name(own: OwnFence) -> &'static str {
    match own {
        OwnFence::None => "",
        OwnFence::Requested(_) => "requested",
        OwnFence::Held(..) => "held",
        OwnFence::Releasing(_) => "releasing",
    }
}

const fn grantors(by: Grantors) -> &'static str {
    match (by.peer, by.arbiter) {
        (true, true) => "peer and arbiter",
        (true, false) => "peer",
        (false, true) => "arbiter",
        (false, false) => "nobody",
    }
}

/// Whose answers are awaited.
const fn awaited(status: &FenceStatus) -> Option<&'static str> {
    match (status.awaits_peer, status.awaits_arbiter) {
        (true, true) => Some("peer and arbiter"),
        (true, false) => Some("the peer"),
        (false, true) => Some("the arbiter"),
        (false, false) => None,
    }
}

/// Whether there is anything to say in `status`.
fn quiet(status: &Status) -> bool {
    let fencing = &status.fencing;
    status.fencing_policy == Policy::DontCare
        && fencing.record.own == OwnFence::None
        && fencing.record.mark.is_none()
}

/// The line in `status` and `explain`; none where nobody is ever fenced.
pub(super) fn line(status: &Status, out: &mut dyn Write) -> fmt::Result {
    if quiet(status) {
        return Ok(());
    }
    let fencing = &status.fencing;
    let mut line: heapless::String<160> = heapless::String::new();
    let text = &mut crate::text::Truncating(&mut line);
    match (fencing.record.own, fencing.record.mark) {
        (OwnFence::None, None) => {
            let policy = policy_name(status.fencing_policy);
            write!(text, "none (policy {policy})")?;
        }
        (OwnFence::None, Some(mark)) => {
            write!(
                text,
                "by {}, episode {mark}, against this node",
                status.peer
            )?;
        }
        (OwnFence::Requested(episode), _) => write!(text, "episode {episode} requested")?,
        (OwnFence::Held(episode, by), _) => {
            write!(text, "episode {episode} held, granted by {}", grantors(by))?;
        }
        (OwnFence::Releasing(episode), _) => write!(text, "episode {episode} being given back")?,
    }
    if let Some(whom) = awaited(fencing) {
        write!(text, "; waits for {whom}")?;
    }
    if fencing.overdue {
        text.write_str("; overdue")?;
    }
    wrapped("", "fence: ", &line, out)
}

/// Writes the answer to `fence`: who fences whom, who granted it, what is waited for, and what ends it.
///
/// # Errors
/// Those of `out`.
pub fn fence(status: &Status, dropped: Option<u64>, out: &mut dyn Write) -> fmt::Result {
    let fencing = &status.fencing;
    let (record, peer) = (&fencing.record, &status.peer);
    let mut sentence = |text: fmt::Arguments<'_>| {
        let mut line: heapless::String<480> = heapless::String::new();
        write!(crate::text::Truncating(&mut line), "{text}")?;
        wrapped("", "", &line, out)
    };
    sentence(format_args!(
        "policy {}",
        policy_name(status.fencing_policy)
    ))?;
    match record.own {
        OwnFence::None => sentence(format_args!("this node fences nobody"))?,
        OwnFence::Requested(episode) => sentence(format_args!(
            "this node asks for a fence against {peer}, episode {episode}; it goes on alone only once that is granted"
        ))?,
        OwnFence::Held(episode, by) => sentence(format_args!(
            "this node fences {peer} by episode {episode}, granted by {}; it is given back when every volume is UpToDate \
             on both nodes",
            grantors(by)
        ))?,
        OwnFence::Releasing(episode) => sentence(format_args!(
            "this node gives the fence of episode {episode} back; it is over when everybody asked has acknowledged that"
        ))?,
    }
    if let Some(mark) = record.mark {
        sentence(format_args!(
            "this node is fenced by {peer}, episode {mark}: {peer} may have newer data, and this node does not become \
             Primary until {peer} has given that back"
        ))?;
    }
    if let Some(whom) = awaited(fencing) {
        sentence(format_args!("waits for the answer of {whom}"))?;
    }
    if fencing.saving {
        sentence(format_args!("waits for the disks to store it"))?;
    }
    if fencing.promoting {
        sentence(format_args!("a promotion waits for it"))?;
    }
    if fencing.frozen {
        sentence(format_args!(
            "clients' requests are frozen until it is decided{}; 'resume-io' lets them go on, if {peer} is surely off",
            match fencing.overdue {
                true => ", and the time for that has passed",
                false => "",
            }
        ))?;
    }
    if let (OwnFence::Held(episode, _) | OwnFence::Requested(episode), Role::Secondary) =
        (record.own, status.role)
    {
        sentence(format_args!(
            "if the pair is stuck with it: 'unfence {episode}' says what ending it by hand means"
        ))?;
    }
    if let Some(mark) = record.mark {
        sentence(format_args!(
            "if {peer} is gone for good: 'primary --force', or 'unfence {mark}', which says what it means"
        ))?;
    }
    sentence(format_args!(
        "highest episode seen {}, the peer's last given back {}, resource identity {:016X}",
        record.seen, record.released, record.identity
    ))?;
    match dropped {
        Some(count) => sentence(format_args!(
            "management datagrams dropped since boot: {count}"
        )),
        None => sentence(format_args!("no management network is configured")),
    }
}
