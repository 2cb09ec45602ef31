//! `[http]`: the web server on the management address.

use super::policy::Secret;
use super::reader::{At, Reader};
use super::schema::{Draft, port, to_u16};
use super::value;
use alloc::format;
use alloc::string::String;
use core::ops::Range;
use toml::de::DeTable;

/// TCP port of the web server.
pub const HTTP_PORT: u16 = 7791;

/// `[http]`. The address is that of the `[[nic]]` with the role management.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// TCP port.
    pub port: u16,
    /// Who shows it may give commands; `None`: nobody may. It has no blanks.
    pub token: Option<Secret>,
}

/// `[http]` with the places of what the cross checks look at.
pub(super) struct HttpDraft {
    /// The header; `None` if there is no such section.
    section: Option<Range<usize>>,
    port: At<u32>,
    token: Option<At<Secret>>,
}

pub(super) fn read<'t>(reader: &mut Reader<'t>, root: &DeTable<'t>) -> HttpDraft {
    let section = reader.section(root, "http", &["port", "token"]);
    let section = section.as_ref();
    let mut port_value = At {
        value: HTTP_PORT.into(),
        span: 0..0,
    };
    if section.is_some() {
        port_value = reader.with_default(section, ("http", "port"), port_value.value, port);
    }
    HttpDraft {
        section: section.map(|section| section.span.clone()),
        port: port_value,
        token: section.and_then(|section| reader.optional_secret(section, "token", value::token)),
    }
}

impl HttpDraft {
    /// The section, if there is one.
    pub(super) fn finish(self) -> Option<Http> {
        self.section?;
        Some(Http {
            port: to_u16(self.port.value),
            token: self.token.map(|token| token.value),
        })
    }
}

/// Checks it against the rest.
pub(super) fn check(reader: &mut Reader<'_>, draft: &Draft) {
    let http = &draft.http;
    let Some(section) = &http.section else {
        return;
    };
    if let Some(token) = &http.token {
        let peers = draft.secret.as_ref().map(|secret| &secret.value);
        for (secret, whose) in [
            (peers, "[peer]"),
            (draft.management.own_secret(), "[management]"),
        ] {
            if secret == Some(&token.value) {
                let message = format!(
                    "http: token: it is the secret of {whose}, which never crosses a network, and this one does so in the \
                     clear; expected another one"
                );
                reader.problem(token.span.clone(), message);
            }
        }
    }
    let nic = draft.nics.iter().find(|nic| nic.nic.roles.management);
    let Some(nic) = nic else {
        if draft.nics_complete {
            let message = "http: no [[nic]] has the role \"management\", whose address the web server would have; expected \
                           one; it may have other roles, too";
            reader.problem(section.clone(), String::from(message));
        }
        return;
    };
    let roles = nic.nic.roles;
    let others = [
        (
            roles.replication,
            u32::from(draft.replication.replication.port),
            "the replication's",
        ),
        (roles.export, draft.export_port.value, "the export's"),
        (
            roles.export && draft.has_snapshots(),
            draft.snapshot_port.value,
            "the snapshots'",
        ),
    ];
    for (shared, port, whose) in others {
        if shared && port == http.port.value {
            let message = format!(
                "http: port: found {port}, which is {whose} on the same card; expected another (the default is {HTTP_PORT})"
            );
            // The port may be the one that was left out and has no place of its own.
            let place = if http.port.span.is_empty() {
                section
            } else {
                &http.port.span
            };
            reader.problem(place.clone(), message);
        }
    }
}
