//! Answers: status lines, headers, and what is said about a mistake.

use core::fmt::{self, Write};

/// What a connection gets for which there is no slot; it is closed then.
pub const BUSY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n\
Content-Length: 55\r\nRetry-After: 1\r\nConnection: close\r\n\r\n\
all connections of this server are taken: try it again\n";

/// Status codes that are used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// 200.
    Ok,
    /// 400: it cannot be understood.
    BadRequest,
    /// 400: the command is not one line of text.
    BadCommand,
    /// 401: it does not show the token.
    Unauthorized,
    /// 403: commands are off.
    Forbidden,
    /// 404: there is no such document.
    NotFound,
    /// 405: the document has no such method.
    Method,
    /// 408: it did not come whole in time.
    Timeout,
    /// 411: a body whose length is not said beforehand.
    LengthRequired,
    /// 413: its body is too large.
    BodyTooLarge,
    /// 415: its body is of another kind.
    MediaType,
    /// 422: the command was refused, failed, or is none.
    Refused,
    /// 431: its head is too large.
    HeadTooLarge,
    /// 503: there are as many readers of events as there may be.
    Readers,
    /// 503: other commands are being carried out.
    Busy,
    /// 500: a document is larger than it may be.
    Internal,
    /// 503: the node does not do its duty, or cannot answer now.
    Unavailable,
    /// 505: another version of HTTP.
    Version,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Ok,
        Self::BadRequest,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::Method,
        Self::Timeout,
        Self::LengthRequired,
        Self::BodyTooLarge,
        Self::MediaType,
        Self::Refused,
        Self::HeadTooLarge,
        Self::Internal,
        Self::Unavailable,
        Self::Version,
        // Those whose numbers others have, too.
        Self::BadCommand,
        Self::Readers,
        Self::Busy,
    ];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::BadRequest | Self::BadCommand => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::Method => 405,
            Self::Timeout => 408,
            Self::LengthRequired => 411,
            Self::BodyTooLarge => 413,
            Self::MediaType => 415,
            Self::Refused => 422,
            Self::HeadTooLarge => 431,
            Self::Internal => 500,
            Self::Unavailable | Self::Readers | Self::Busy => 503,
            Self::Version => 505,
        }
    }

    const fn phrase(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::BadRequest | Self::BadCommand => "Bad Request",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "Not Found",
            Self::Method => "Method Not Allowed",
            Self::Timeout => "Request Timeout",
            Self::LengthRequired => "Length Required",
            Self::BodyTooLarge => "Content Too Large",
            Self::MediaType => "Unsupported Media Type",
            Self::Refused => "Unprocessable Content",
            Self::HeadTooLarge => "Request Header Fields Too Large",
            Self::Internal => "Internal Server Error",
            Self::Unavailable | Self::Readers | Self::Busy => "Service Unavailable",
            Self::Version => "HTTP Version Not Supported",
        }
    }

    /// What a person is told.
    pub(super) const fn sentence(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::BadRequest => "this is not an HTTP/1.1 request as it should be",
            Self::BadCommand => {
                "a command is one line of at most 256 printable ASCII characters, without others behind it"
            }
            Self::Unauthorized => {
                "commands need the token that [http] in this node's configuration has: Authorization: Bearer TOKEN"
            }
            Self::Forbidden => {
                "commands are off: a token in [http] of this node's configuration allows them"
            }
            Self::NotFound => {
                "there is no such page: there are /, /healthz, /status, /metrics, /events and /v1/exec"
            }
            Self::Method => "this page cannot be asked for in this way: the header Allow says how",
            Self::Timeout => "the request did not come whole within 10 seconds",
            Self::LengthRequired => {
                "say the body's length with Content-Length; chunks are not taken"
            }
            Self::BodyTooLarge => "the body is too large: 258 bytes are taken",
            Self::MediaType => "a command comes as Content-Type: text/plain",
            Self::Refused => "the command was refused",
            Self::HeadTooLarge => {
                "the request's head is too large: 4096 bytes and 32 header lines are taken"
            }
            Self::Internal => {
                "the document is larger than its memory: this is a bug, please report it"
            }
            Self::Unavailable => "all memory for documents is in use: try it again",
            Self::Readers => "6 readers of events are there already: no more are taken",
            Self::Busy => {
                "no command can be begun now: others are being carried out, here or on the console"
            }
            Self::Version => "HTTP/1.0 and HTTP/1.1 are spoken here",
        }
    }
}

/// How many answers there were of each code.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts([u64; Code::ALL.len() - 3]);

impl Counts {
    pub(super) fn count(&mut self, code: Code) {
        let number = code.number();
        if let Some(place) = Code::ALL.iter().position(|of| of.number() == number) {
            self.0[place] += 1;
        }
    }

    /// The codes' numbers, and how many answers had them.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u64)> {
        Code::ALL.iter().map(|code| code.number()).zip(self.0)
    }
}

/// The kind of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Json,
    Metrics,
    Page,
    Events,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Page => "text/html; charset=utf-8",
            Self::Events => "text/event-stream",
        }
    }
}

/// Writes an answer's head, but for further headers and the empty line that ends it.
pub(super) fn head(
    code: Code,
    kind: Kind,
    length: Option<usize>,
    keep_alive: bool,
    out: &mut dyn Write,
) -> fmt::Result {
    let (number, phrase, kind) = (code.number(), code.phrase(), kind.name());
    let connection = if keep_alive { "keep-alive" } else { "close" };
    write!(
        out,
        "HTTP/1.1 {number} {phrase}\r\nServer: Palisade\r\nContent-Type: {kind}\r\n\
         Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: {connection}\r\n"
    )?;
    match length {
        Some(length) => write!(out, "Content-Length: {length}\r\n"),
        // It ends with the connection.
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{
        BODY_BYTES_MAX, COMMAND_BYTES_MAX, HEAD_BYTES_MAX, HEADERS_MAX, READERS_MAX, REQUEST_LIMIT,
    };

    #[test]
    fn the_sentences_name_the_limits() {
        let says = |code: Code, what: &str| assert!(code.sentence().contains(what), "{code:?}");
        says(Code::Readers, &alloc::format!("{READERS_MAX} readers"));
        says(
            Code::Timeout,
            &alloc::format!(" {} seconds", REQUEST_LIMIT / 1_000_000),
        );
        says(
            Code::BadCommand,
            &alloc::format!(" {COMMAND_BYTES_MAX} printable"),
        );
        says(
            Code::BodyTooLarge,
            &alloc::format!(" {BODY_BYTES_MAX} bytes"),
        );
        says(
            Code::HeadTooLarge,
            &alloc::format!(" {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} header"),
        );
    }

    #[test]
    fn the_word_for_the_turned_away_is_a_whole_answer() {
        let text = core::str::from_utf8(BUSY).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        let length = alloc::format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(head.contains(&length), "{text}");
    }
}
