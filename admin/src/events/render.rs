//! Events as lines.

use super::{Event, FenceState, Holder, Journal, Line, Names, Object};
use crate::json::Json;
use crate::status::{connection_name, disk_state_name, replication_name, role_name};
use core::fmt::{self, Write};
use core::net::SocketAddr;
use replication::api::{Grantors, Suspended};

/// Longest line in bytes, its line feed included.
pub const LINE_BYTES_MAX: usize = 320;

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `SECONDS NUMBER EVENT OBJECT KEY:VALUE...`, as `events2` does.
    Text,
    /// A JSON object.
    Json,
}

/// A member of an object's line.
enum Value<'a> {
    Word(&'a str),
    Number(u64),
    Flag(bool),
    /// Tenths of a percent; where there is none, text has no such member.
    Percent(Option<u16>),
}

type Put<'a> = dyn FnMut(&str, Value<'_>) -> fmt::Result + 'a;

impl Journal {
    /// Writes a line, ended by a line feed: printable ASCII, at most [`LINE_BYTES_MAX`].
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&self, line: &Line, format: Format, out: &mut dyn Write) -> fmt::Result {
        let (sequence, at, kind, object) = match line {
            Line::Event(Event {
                sequence,
                at,
                kind,
                object,
            }) => (*sequence, *at, kind.name(), Some(object)),
            Line::End { sequence, at } => (*sequence, *at, "exists", None),
        };
        let name = object.map_or("-", object_name);
        match format {
            Format::Text => {
                let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
                write!(out, "{seconds}.{micros:06} {sequence} {kind} {name}")?;
                match object {
                    Some(object) => members(object, &self.names, &mut |key, value| {
                        text_member(key, &value, out)
                    })?,
                    None => write!(out, " boot:{:016x}", self.names.boot)?,
                }
            }
            Format::Json => Json::new(out).object(None, |json| {
                json.number("seq", sequence)?;
                json.number("time_us", at)?;
                json.string("event", kind)?;
                json.string("object", name)?;
                match object {
                    Some(object) => members(object, &self.names, &mut |key, value| {
                        json_member(key, &value, json)
                    }),
                    None => json.raw("boot", format_args!("\"{:016x}\"", self.names.boot)),
                }
            })?,
        }
        out.write_char('\n')
    }
}

fn text_member(key: &str, value: &Value<'_>, out: &mut dyn Write) -> fmt::Result {
    if matches!(value, Value::Percent(None)) {
        return Ok(());
    }
    out.write_char(' ')?;
    for c in key.chars() {
        out.write_char(if c == '_' { '-' } else { c })?;
    }
    match value {
        Value::Word(word) => write!(out, ":{word}"),
        Value::Number(number) => write!(out, ":{number}"),
        Value::Flag(flag) => write!(out, ":{}", if *flag { "yes" } else { "no" }),
        Value::Percent(tenths) => {
            let tenths = tenths.unwrap_or(0);
            write!(out, ":{}.{}", tenths / 10, tenths % 10)
        }
    }
}

fn json_member(key: &str, value: &Value<'_>, json: &mut Json<'_>) -> fmt::Result {
    match value {
        Value::Word(word) => json.string(key, word),
        Value::Number(number) => json.number(key, *number),
        Value::Flag(flag) => json.bool(key, *flag),
        Value::Percent(Some(tenths)) => {
            json.raw(key, format_args!("{}.{}", tenths / 10, tenths % 10))
        }
        Value::Percent(None) => json.optional(key, None),
    }
}

const fn object_name(object: &Object) -> &'static str {
    match object {
        Object::Resource { .. } => "resource",
        Object::Connection { .. } => "connection",
        Object::Path { .. } => "path",
        Object::Device { .. } => "device",
        Object::PeerDevice { .. } => "peer-device",
        Object::Fence { .. } => "fence",
    }
}

fn members(object: &Object, names: &Names, put: &mut Put<'_>) -> fmt::Result {
    put("name", Value::Word(&names.resource))?;
    match object {
        Object::Resource {
            role,
            suspended,
            serving,
        } => {
            put("role", Value::Word(role_name(*role)))?;
            put("suspended", Value::Word(suspended_name(*suspended)))?;
            put("serving", Value::Flag(*serving))
        }
        Object::Connection { state, role } => {
            put("conn_name", Value::Word(&names.peer))?;
            put("connection", Value::Word(connection_name(*state)))?;
            put("role", Value::Word(role_name(*role)))
        }
        Object::Path { established } => {
            put("conn_name", Value::Word(&names.peer))?;
            address("local", names.local_address, put)?;
            address("peer", names.peer_address, put)?;
            put("established", Value::Flag(*established))
        }
        Object::Device { volume, disk, size } => {
            put("volume", Value::Number((*volume).into()))?;
            put("disk", Value::Word(disk_state_name(*disk)))?;
            put("size", Value::Number(*size))
        }
        Object::PeerDevice {
            volume,
            peer_disk,
            replication,
            done,
            out_of_sync,
        } => {
            put("conn_name", Value::Word(&names.peer))?;
            put("volume", Value::Number((*volume).into()))?;
            put("replication", Value::Word(replication_name(*replication)))?;
            put("peer_disk", Value::Word(disk_state_name(*peer_disk)))?;
            put("done", Value::Percent(*done))?;
            put("out_of_sync", Value::Number(*out_of_sync))
        }
        Object::Fence {
            holder,
            episode,
            state,
            waits_peer,
            waits_arbiter,
            overdue,
        } => {
            let (by, against) = match holder {
                Holder::Node => (&names.node, &names.peer),
                Holder::Peer => (&names.peer, &names.node),
            };
            put("by", Value::Word(by))?;
            put("against", Value::Word(against))?;
            put("episode", Value::Number(*episode))?;
            let (state, granted) = match state {
                FenceState::Requested => ("requested", Grantors::default()),
                FenceState::Held(by) => ("held", *by),
                FenceState::Releasing => ("releasing", Grantors::default()),
            };
            put("state", Value::Word(state))?;
            put("granted", Value::Word(both(granted.peer, granted.arbiter)))?;
            put("waits", Value::Word(both(*waits_peer, *waits_arbiter)))?;
            put("overdue", Value::Flag(*overdue))
        }
    }
}

fn address(key: &str, address: SocketAddr, put: &mut Put<'_>) -> fmt::Result {
    let mut text: heapless::String<64> = heapless::String::new();
    write!(crate::text::Truncating(&mut text), "{address}")?;
    put(key, Value::Word(&text))
}

const fn both(peer: bool, arbiter: bool) -> &'static str {
    match (peer, arbiter) {
        (true, true) => "peer,arbiter",
        (true, false) => "peer",
        (false, true) => "arbiter",
        (false, false) => "no",
    }
}

const fn suspended_name(suspended: Suspended) -> &'static str {
    match (suspended.user, suspended.no_data, suspended.fencing) {
        (false, false, false) => "no",
        (true, false, false) => "user",
        (false, true, false) => "no-data",
        (true, true, false) => "user,no-data",
        (false, false, true) => "fencing",
        (true, false, true) => "user,fencing",
        (false, true, true) => "no-data,fencing",
        (true, true, true) => "user,no-data,fencing",
    }
}
