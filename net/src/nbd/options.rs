//! Answers to the options of the negotiation.

use super::export::{self, Export};
use super::out::Out;
use super::proto::{
    BASE_ALLOCATION, Cursor, EXPORT_NAME_ZEROES, OPTION_REPLY_MAGIC, info, opt, rep, tflag,
};
use replication::buf::PAGE;

/// What client and server have agreed on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Negotiated {
    /// The client wants no zeroes behind the answer to NBD_OPT_EXPORT_NAME.
    pub no_zeroes: bool,
    /// Structured replies.
    pub structured: bool,
    /// The export for which base:allocation was chosen.
    pub allocation: Option<usize>,
}

/// What follows an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Another option.
    Option,
    /// The list of exports, from the first on.
    List,
    /// Transmission of this export.
    Transmit(usize),
    /// The end, once the answer is sent.
    Close,
    /// The end at once: the client does not speak this protocol.
    Drop,
}

/// The identifier of base:allocation in block status replies.
pub(super) const ALLOCATION_ID: u32 = 1;

/// What the answers depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    pub exports: &'a [Export],
    /// The maximum block size, in bytes.
    pub request_max: u32,
}

/// Queues a reply's header.
fn reply_header(out: &mut Out, option: u32, kind: u32, len: usize) {
    out.put_u64(OPTION_REPLY_MAGIC);
    out.put_u32(option);
    out.put_u32(kind);
    out.put_u32(len as u32);
}

/// Queues NBD_REP_ACK.
pub(super) fn ack(out: &mut Out, option: u32) -> Next {
    reply_header(out, option, rep::ACK, 0);
    Next::Option
}

/// Queues an error reply with its reason for a person.
fn refuse(out: &mut Out, option: u32, kind: u32, reason: &str) -> Next {
    reply_header(out, option, kind, reason.len());
    out.put(reason.as_bytes());
    Next::Option
}

fn invalid(out: &mut Out, option: u32, reason: &str) -> Next {
    refuse(out, option, rep::ERR_INVALID, reason)
}

/// Queues one NBD_REP_SERVER; needs up to 60 bytes of room.
pub(super) fn list_entry(out: &mut Out, export: &Export) {
    let name = export.name.as_bytes();
    reply_header(out, opt::LIST, rep::SERVER, 4 + name.len());
    out.put_u32(name.len() as u32);
    out.put(name);
}

/// The flags of an export: of a volume's the same on both nodes, in every state.
fn transmission_flags(export: &Export, structured: bool) -> u16 {
    let df = if structured { tflag::SEND_DF } else { 0 };
    if export.snapshot {
        return tflag::HAS_FLAGS
            | tflag::READ_ONLY
            | tflag::CAN_MULTI_CONN
            | tflag::SEND_CACHE
            | df;
    }
    let always = tflag::HAS_FLAGS
        | tflag::SEND_FLUSH
        | tflag::SEND_FUA
        | tflag::SEND_TRIM
        | tflag::SEND_WRITE_ZEROES
        | tflag::CAN_MULTI_CONN
        | tflag::SEND_CACHE
        | tflag::SEND_FAST_ZERO;
    always | df
}

/// Answers an option whose data was too long to be stored and has been drained.
pub(super) fn answer_oversized(option: u32, out: &mut Out) -> Next {
    match option {
        opt::EXPORT_NAME => Next::Close,
        opt::ABORT => abort(out),
        opt::LIST | opt::STRUCTURED_REPLY => invalid(out, option, "this option has no data"),
        opt::INFO | opt::GO => invalid(out, option, "name or list of requests too long"),
        opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => {
            refuse(out, option, rep::ERR_TOO_BIG, "too many queries")
        }
        _ => unsupported(out, option),
    }
}

/// Answers an option of a client that gets no export; `None`: as always.
pub(super) fn answer_refused(option: u32, why: &str, out: &mut Out) -> Option<Next> {
    match option {
        opt::INFO | opt::GO => Some(refuse(out, option, rep::ERR_POLICY, why)),
        // There is no way to say no but this one.
        opt::EXPORT_NAME => Some(Next::Close),
        _ => None,
    }
}

fn abort(out: &mut Out) -> Next {
    ack(out, opt::ABORT);
    Next::Close
}

fn unsupported(out: &mut Out, option: u32) -> Next {
    refuse(out, option, rep::ERR_UNSUP, "")
}

impl Options<'_> {
    /// Answers an option with its whole `data`.
    pub(super) fn answer(
        &self,
        agreed: &mut Negotiated,
        option: u32,
        data: &[u8],
        out: &mut Out,
    ) -> Next {
        match option {
            opt::EXPORT_NAME => self.export_name(agreed, data, out),
            opt::ABORT => abort(out),
            opt::LIST if data.is_empty() => Next::List,
            opt::LIST => invalid(out, option, "NBD_OPT_LIST has no data"),
            opt::INFO | opt::GO => self.info(agreed, option, data, out),
            opt::STRUCTURED_REPLY if !data.is_empty() => {
                invalid(out, option, "NBD_OPT_STRUCTURED_REPLY has no data")
            }
            opt::STRUCTURED_REPLY => {
                agreed.structured = true;
                ack(out, option)
            }
            opt::LIST_META_CONTEXT | opt::SET_META_CONTEXT => {
                self.meta_context(agreed, option, data, out)
            }
            // STARTTLS included: without TLS every option of it is unknown, and clients that
            // insist on it then leave by themselves.
            _ => unsupported(out, option),
        }
    }

    fn export_name(&self, agreed: &mut Negotiated, name: &[u8], out: &mut Out) -> Next {
        let Some(index) = export::find(self.exports, name) else {
            // There is no way to say no but this one.
            return Next::Close;
        };
        let export = &self.exports[index];
        out.put_u64(export.size);
        out.put_u16(transmission_flags(export, agreed.structured));
        if !agreed.no_zeroes {
            out.put(&[0; EXPORT_NAME_ZEROES]);
        }
        self.enter(agreed, index)
    }

    /// Contexts chosen for another export do not count (proto.md, NBD_OPT_SET_META_CONTEXT).
    fn enter(&self, agreed: &mut Negotiated, index: usize) -> Next {
        if agreed.allocation != Some(index) {
            agreed.allocation = None;
        }
        Next::Transmit(index)
    }

    fn info(&self, agreed: &mut Negotiated, option: u32, data: &[u8], out: &mut Out) -> Next {
        let mut at = Cursor::new(data);
        let Some(name) = at.string() else {
            return invalid(out, option, "bad export name");
        };
        let Some(count) = at.u16() else {
            return invalid(out, option, "no number of information requests");
        };
        let (mut want_name, mut want_description, mut want_sizes) = (false, false, false);
        for _ in 0..count {
            match at.u16() {
                None => return invalid(out, option, "fewer information requests than announced"),
                Some(info::NAME) => want_name = true,
                Some(info::DESCRIPTION) => want_description = true,
                Some(info::BLOCK_SIZE) => want_sizes = true,
                Some(_) => {}
            }
        }
        if !at.is_done() {
            return invalid(out, option, "trailing bytes");
        }
        let Some(index) = export::find(self.exports, name) else {
            return refuse(out, option, rep::ERR_UNKNOWN, "no such export");
        };
        let export = &self.exports[index];

        reply_header(out, option, rep::INFO, 12);
        out.put_u16(info::EXPORT);
        out.put_u64(export.size);
        out.put_u16(transmission_flags(export, agreed.structured));
        // A client that does not ask assumes 512 bytes to 32 MiB (proto.md, "Block size
        // constraints"); it must be told when that is wrong.
        let assumed = export.block_size == export::BLOCK_SIZE_MIN
            && self.request_max == super::shared::REQUEST_MAX;
        if want_sizes || !assumed {
            reply_header(out, option, rep::INFO, 14);
            out.put_u16(info::BLOCK_SIZE);
            out.put_u32(export.block_size);
            out.put_u32(PAGE);
            out.put_u32(self.request_max);
        }
        for (wanted, kind, text) in [
            (want_name, info::NAME, export.name.as_bytes()),
            (
                want_description,
                info::DESCRIPTION,
                export.description.as_bytes(),
            ),
        ] {
            if wanted {
                reply_header(out, option, rep::INFO, 2 + text.len());
                out.put_u16(kind);
                out.put(text);
            }
        }
        ack(out, option);
        if option == opt::GO {
            self.enter(agreed, index)
        } else {
            Next::Option
        }
    }

    fn meta_context(
        &self,
        agreed: &mut Negotiated,
        option: u32,
        data: &[u8],
        out: &mut Out,
    ) -> Next {
        let list = option == opt::LIST_META_CONTEXT;
        if !list {
            // Even a failed SET undoes what an earlier one chose.
            agreed.allocation = None;
            if !agreed.structured {
                return invalid(out, option, "structured replies come first");
            }
        }
        let mut at = Cursor::new(data);
        let Some(name) = at.string() else {
            return invalid(out, option, "bad export name");
        };
        let Some(count) = at.u32() else {
            return invalid(out, option, "no number of queries");
        };
        let mut matched = list && count == 0;
        // Each query takes four bytes of `data` at least, so that the loop ends soon whatever
        // the count says.
        for _ in 0..count {
            let Some(query) = at.string() else {
                return invalid(out, option, "bad query");
            };
            matched |= query == BASE_ALLOCATION || list && query == b"base:";
        }
        if !at.is_done() {
            return invalid(out, option, "trailing bytes");
        }
        let Some(index) = export::find(self.exports, name) else {
            return refuse(out, option, rep::ERR_UNKNOWN, "no such export");
        };
        if matched {
            reply_header(out, option, rep::META_CONTEXT, 4 + BASE_ALLOCATION.len());
            out.put_u32(if list { 0 } else { ALLOCATION_ID });
            out.put(BASE_ALLOCATION);
            if !list {
                agreed.allocation = Some(index);
            }
        }
        ack(out, option)
    }
}
