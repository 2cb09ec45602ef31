//! A request's head: `httparse` finds the parts, and here is decided what they mean.

use super::reply::Code;
use super::token::Token;
use super::{BODY_BYTES_MAX, HEADERS_MAX, Mark};
use httparse::{EMPTY_HEADER, Error, Request, Status};

/// How a request is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    /// As GET, without the body.
    Head,
    Post,
    Other,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Index,
    Health,
    Status,
    Metrics,
    Events,
    Exec,
    Other,
}

impl Target {
    fn of(path: &str) -> Self {
        match path {
            "/" => Self::Index,
            "/healthz" => Self::Health,
            "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            "/events" => Self::Events,
            "/v1/exec" => Self::Exec,
            _ => Self::Other,
        }
    }
}

/// A head that is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub method: Method,
    pub target: Target,
    /// Whether the connection may be used for another request.
    pub keep_alive: bool,
    /// Bytes of the body, if it says so.
    pub body: Option<usize>,
    /// Whether the body is plain text, as far as is said.
    pub plain: bool,
    /// May it give commands?
    pub token: Token,
    /// Bytes of the head.
    pub length: usize,
    /// Of a reader of events: what it knows.
    pub mark: Option<Mark>,
}

/// Reads a head; `token` is the one that may give commands. `None`: it is not whole. `Err`: it is none, and how to answer; the connection is of no
/// more use then.
pub(super) fn parse(bytes: &[u8], token: Option<&[u8]>) -> Result<Option<Head>, Code> {
    let mut headers = [EMPTY_HEADER; HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return Err(Code::HeadTooLarge),
        Err(Error::Version) => return Err(Code::Version),
        Err(_) => return Err(Code::BadRequest),
    };
    let (Some(method), Some(target), Some(version)) =
        (request.method, request.path, request.version)
    else {
        return Err(Code::BadRequest);
    };
    let one_one = version == 1;
    let (mut keep_alive, mut body, mut host) = (one_one, None, 0);
    let (mut last_event, mut plain) = (None, true);
    let (mut worth, mut tokens_given) = (Token::missing(token), 0);
    for header in request.headers.iter() {
        let name = |wanted: &str| header.name.eq_ignore_ascii_case(wanted);
        if name("host") {
            host += 1;
        } else if name("connection") {
            let says =
                |word: &str| tokens(header.value).any(|t| t.eq_ignore_ascii_case(word.as_bytes()));
            if says("close") {
                keep_alive = false;
            } else if says("keep-alive") {
                keep_alive = true;
            }
        } else if name("content-length") {
            if body.is_some() {
                return Err(Code::BadRequest);
            }
            body = Some(length_of(header.value)?);
        } else if name("last-event-id") {
            last_event = core::str::from_utf8(header.value).ok().and_then(mark);
        } else if name("transfer-encoding") {
            return Err(Code::LengthRequired);
        } else if name("content-type") {
            plain = is_plain(header.value);
        } else if name("authorization") {
            worth = Token::of(header.value, token);
            tokens_given += 1;
        }
    }
    if one_one && host != 1 {
        return Err(Code::BadRequest);
    }
    if tokens_given > 1 {
        return Err(Code::BadRequest);
    }
    if body.is_some_and(|body| body > BODY_BYTES_MAX) {
        return Err(Code::BodyTooLarge);
    }
    Ok(Some(Head {
        method: match method {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            _ => Method::Other,
        },
        target: Target::of(path(target)),
        keep_alive,
        body,
        plain,
        token: worth,
        length,
        mark: last_event.or_else(|| since(target)),
    }))
}

/// The path of a target, which may be a whole address (RFC 9112, section 3.2.2) and may have a query.
fn path(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => match rest.find(['/', '?']) {
            Some(at) => &rest[at..],
            None => "/",
        },
        _ => target,
    };
    target.split('?').next().unwrap_or(target)
}

/// A mark as events have it: a number, and perhaps `-` and the boot.
fn mark(text: &str) -> Option<Mark> {
    let (sequence, boot) = match text.trim().split_once('-') {
        Some((sequence, boot)) => (sequence, Some(u64::from_str_radix(boot, 16).ok()?)),
        None => (text.trim(), None),
    };
    Some(Mark {
        sequence: sequence.parse().ok()?,
        boot,
    })
}

/// The mark in a query: `since=`.
fn since(target: &str) -> Option<Mark> {
    let (_, query) = target.split_once('?')?;
    query
        .split('&')
        .find_map(|pair| mark(pair.strip_prefix("since=")?))
}

fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether a content type is `text/plain` of a charset that has ASCII in it.
fn is_plain(value: &[u8]) -> bool {
    let mut parts = value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
    let kind = parts.next().unwrap_or_default();
    kind.eq_ignore_ascii_case(b"text/plain")
        && parts.all(|part| {
            [&b"charset=utf-8"[..], b"charset=us-ascii"]
                .iter()
                .any(|charset| part.eq_ignore_ascii_case(charset))
        })
}

fn length_of(value: &[u8]) -> Result<usize, Code> {
    let digits = core::str::from_utf8(value.trim_ascii()).map_err(|_| Code::BadRequest)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Code::BadRequest);
    }
    // What does not fit a number is too large as well.
    digits.parse().map_err(|_| Code::BodyTooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn head(text: &str) -> Head {
        parse(text.as_bytes(), None)
            .expect("a sound head")
            .expect("a whole head")
    }

    #[test]
    fn targets_may_be_addresses_and_have_queries() {
        for target in [
            "/metrics",
            "/metrics?a=b",
            "http://10.0.0.1:7791/metrics",
            "HTTP://n/metrics?x://y",
        ] {
            let head = head(&alloc::format!("GET {target} HTTP/1.1\r\nHost: n\r\n\r\n"));
            assert_eq!(head.target, Target::Metrics, "{target}");
        }
        assert_eq!(
            head("GET http://n HTTP/1.1\r\nHost: n\r\n\r\n").target,
            Target::Index
        );
        assert_eq!(
            head("GET http://n?q HTTP/1.1\r\nHost: n\r\n\r\n").target,
            Target::Other
        );
        assert_eq!(head("GET /status/ HTTP/1.0\r\n\r\n").target, Target::Other);
    }

    #[test]
    fn readers_of_events_say_what_they_know() {
        let of = |target, line| {
            head(&alloc::format!(
                "GET {target} HTTP/1.1\r\nHost: n\r\n{line}\r\n"
            ))
            .mark
        };
        let mark = |sequence, boot| Some(Mark { sequence, boot });
        assert_eq!(of("/events", ""), None);
        assert_eq!(of("/events?a=b&since=7", ""), mark(7, None));
        let back = "Last-Event-ID: 9-00000000000000ff\r\n";
        assert_eq!(of("/events?since=0", back), mark(9, Some(255)));
        assert_eq!(of("/events?since=x", "Last-Event-ID: y-z\r\n"), None);
    }

    #[test]
    fn commands_are_plain_text() {
        let plain = |line: &str| {
            head(&alloc::format!(
                "POST /v1/exec HTTP/1.1\r\nHost: n\r\n{line}Content-Length: 6\r\n\r\n"
            ))
            .plain
        };
        for fit in [
            "",
            "Content-Type: text/plain\r\n",
            "content-type: Text/Plain; charset=UTF-8\r\n",
        ] {
            assert!(plain(fit), "{fit}");
        }
        for unfit in [
            "Content-Type: application/x-www-form-urlencoded\r\n",
            "Content-Type: text/plain; charset=utf-16\r\n",
            "Content-Type: text/plainer\r\n",
            "Content-Type:\r\n",
        ] {
            assert!(!plain(unfit), "{unfit}");
        }
    }

    #[test]
    fn connections_are_kept_as_the_version_and_the_header_say() {
        let keeps = |version, line| {
            head(&alloc::format!(
                "GET / HTTP/{version}\r\nHost: n\r\n{line}\r\n"
            ))
            .keep_alive
        };
        assert!(keeps("1.1", "") && !keeps("1.0", ""));
        assert!(!keeps("1.1", "Connection: x, Close\r\n"));
        assert!(keeps("1.0", "connection: Keep-Alive\r\n"));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let code = |text: &str| parse(text.as_bytes(), None).expect_err(text);
        assert_eq!(code("\x16\x03\x01\x02"), Code::BadRequest);
        assert_eq!(code("GET / HTTP/2.0\r\n\r\n"), Code::Version);
        assert_eq!(code("GET / HTTP/1.1\r\n\r\n"), Code::BadRequest);
        let with = |line: &str| alloc::format!("POST / HTTP/1.1\r\nHost: n\r\n{line}\r\n\r\n");
        assert_eq!(code(&with("Host: m")), Code::BadRequest);
        assert_eq!(code(&with("Content-Length: -1")), Code::BadRequest);
        assert_eq!(code(&with("Content-Length: +1")), Code::BadRequest);
        assert_eq!(
            code(&with("Content-Length: 1\r\nContent-Length: 1")),
            Code::BadRequest
        );
        assert_eq!(code(&with("Content-Length: 259")), Code::BodyTooLarge);
        assert_eq!(
            code(&with("Content-Length: 99999999999999999999999")),
            Code::BodyTooLarge
        );
        assert_eq!(
            code(&with("Transfer-Encoding: chunked")),
            Code::LengthRequired
        );
        assert_eq!(
            code(&with(&"X: y\r\n".repeat(HEADERS_MAX))),
            Code::HeadTooLarge
        );
        assert_eq!(parse(b"GET / HTTP/1.1\r\nHost: n\r\n", None), Ok(None));
        assert_eq!(
            code(&with("Authorization: Bearer x\r\nAuthorization: Bearer x")),
            Code::BadRequest
        );
    }
}
