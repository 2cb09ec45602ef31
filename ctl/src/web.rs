//! A node's web server (docs/HTTP.md): commands by `POST /v1/exec`, documents, and the stream of events.

use crate::error::Error;
use crate::line::Answer;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;
use ureq::http::{Response, Uri};
use ureq::{Agent, Body, Timeout};

/// The variable of the environment that has the token.
pub const TOKEN: &str = "PALISADE_TOKEN";

/// The longest answer that is taken, in bytes: more than a node's documents have.
const ANSWER_BYTES_MAX: u64 = 4 << 20;

/// A connection for one answer: a node has few.
const CLOSE: (&str, &str) = ("Connection", "close");

/// A node says at least a word in 15 s.
const SILENCE: Duration = Duration::from_secs(20);

/// A node's web server.
#[derive(Clone)]
pub struct Web {
    /// Without a slash at its end.
    address: String,
    token: Option<String>,
}

impl fmt::Debug for Web {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Web").field(&self.address).finish()
    }
}

impl Web {
    /// The one at `address`, with the token of a file or else of the environment.
    ///
    /// # Errors
    /// [`Error::Address`], [`Error::Token`].
    pub fn new(address: &str, token_file: Option<&Path>) -> Result<Self, Error> {
        let token = match token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file);
                let text =
                    text.map_err(|why| Error::Token(format!("{}: {why}", file.display())))?;
                Some(text)
            }
            None => std::env::var(TOKEN).ok(),
        };
        Self::with_token(address, token.as_deref())
    }

    fn with_token(address: &str, token: Option<&str>) -> Result<Self, Error> {
        let wrong = |why| Error::Address(address.into(), why);
        let uri: Uri = address.parse().map_err(|_| wrong("this is no address"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("nodes speak HTTP without TLS"));
        }
        let host = uri.authority().map_or("", |authority| authority.as_str());
        if host.is_empty() || host.contains('@') {
            return Err(wrong("this is no address"));
        }
        if uri.path_and_query().is_some_and(|path| path != "/") {
            return Err(wrong("nodes have no path"));
        }
        let token = token.map(str::trim_end).filter(|token| !token.is_empty());
        if token.is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Error::Token("it is not one word of printable ASCII".into()));
        }
        Ok(Self {
            address: format!("http://{host}"),
            token: token.map(String::from),
        })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Has the node carry out a command.
    ///
    /// # Errors
    /// [`Error::Denied`] without the right token; [`Error::WebAway`], [`Error::WebSilent`], [`Error::WebAnswer`].
    pub fn run(&self, command: &str, patience: Duration) -> Result<Answer, Error> {
        let Some(token) = &self.token else {
            return Err(self
                .denied("a command needs the token that the node's configuration has in [http]"));
        };
        let sent = agent(Some(patience), None)
            .post(format!("{}/v1/exec", self.address))
            .header(CLOSE.0, CLOSE.1)
            .header("Authorization", format!("Bearer {token}"))
            .content_type("text/plain")
            .send(command);
        let (code, response) = self.answered(sent)?;
        let header = |name: &str| Some(response.headers().get(name)?.as_bytes().to_owned());
        let status = header("Palisade-Exit-Status");
        let cut = header("Palisade-Output").is_some();
        let output = self.body(response)?;
        match (code, status.as_deref()) {
            (200, Some(b"0")) | (422, Some(b"1")) => {
                if cut {
                    eprintln!(
                        "palisadectl: the output is cut: it is longer than the node sends by the web"
                    );
                }
                Ok(Answer {
                    output,
                    done: code == 200,
                })
            }
            _ => Err(self.refusal(code, &output)),
        }
    }

    /// One of the node's documents.
    ///
    /// # Errors
    /// [`Error::WebAway`], [`Error::WebSilent`], [`Error::WebAnswer`].
    pub fn document(&self, path: &str, patience: Duration) -> Result<String, Error> {
        let request = agent(Some(patience), None).get(format!("{}{path}", self.address));
        let (code, response) = self.answered(request.header(CLOSE.0, CLOSE.1).call())?;
        let text = self.body(response)?;
        if code == 200 {
            Ok(text)
        } else {
            Err(self.refusal(code, &text))
        }
    }

    /// The stream of events: after the one with the number `since` of the present boot, or after the mark that the last [`Stream::mark`] was, or with all
    /// of the state first.
    ///
    /// # Errors
    /// [`Error::WebAway`], [`Error::WebSilent`], [`Error::WebAnswer`].
    pub fn events(&self, since: Option<u64>, mark: Option<&str>) -> Result<Stream, Error> {
        let query = since.map_or(String::new(), |since| format!("?since={since}"));
        let mut request = agent(None, Some(SILENCE)).get(format!("{}/events{query}", self.address));
        request = request.header(CLOSE.0, CLOSE.1);
        if let Some(mark) = mark {
            request = request.header("Last-Event-ID", mark);
        }
        let (code, response) = self.answered(request.call())?;
        if code != 200 {
            let text = self.body(response)?;
            return Err(self.refusal(code, &text));
        }
        let body: Box<dyn BufRead> = Box::new(BufReader::new(response.into_body().into_reader()));
        Ok(Stream {
            body,
            mark: String::new(),
        })
    }

    /// The code and the rest of an answer.
    fn answered(
        &self,
        sent: Result<Response<Body>, ureq::Error>,
    ) -> Result<(u16, Response<Body>), Error> {
        let response = sent.map_err(|why| self.trouble(&why))?;
        Ok((response.status().as_u16(), response))
    }

    fn body(&self, response: Response<Body>) -> Result<String, Error> {
        let mut body = response.into_body();
        let text = body.with_config().limit(ANSWER_BYTES_MAX).lossy_utf8(true);
        text.read_to_string().map_err(|why| self.trouble(&why))
    }

    fn trouble(&self, why: &ureq::Error) -> Error {
        let address = self.address.clone();
        match why {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => Error::WebAway {
                address,
                why: "time is up".into(),
            },
            ureq::Error::Timeout(_) => Error::WebSilent(address),
            other => Error::WebAway {
                address,
                why: other.to_string(),
            },
        }
    }

    fn denied(&self, said: &str) -> Error {
        Error::Denied(self.address.clone(), said.into())
    }

    fn refusal(&self, code: u16, said: &str) -> Error {
        let said = said.trim_end();
        match code {
            401 | 403 => self.denied(said),
            _ => Error::WebAnswer(self.address.clone(), code, said.into()),
        }
    }
}

/// For one request: nothing but this address is asked, and what the answer has is shown.
fn agent(all: Option<Duration>, read: Option<Duration>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .timeout_global(all)
        .timeout_per_read(read)
        .timeout_connect(all.or(read))
        .user_agent(concat!("palisadectl/", env!("CARGO_PKG_VERSION")));
    Agent::new_with_config(config.build())
}

/// Events that come in.
pub struct Stream {
    body: Box<dyn BufRead>,
    /// The place of the event that came last.
    mark: String,
}

impl Stream {
    /// The next event, a line of JSON. `None`: the connection is gone; [`Web::events`] goes on after [`Stream::mark`].
    pub fn next(&mut self) -> Option<String> {
        let (mut mark, mut data) = (None, None);
        loop {
            let mut line = String::new();
            match self.body.read_line(&mut line) {
                Ok(1..) if line.ends_with('\n') => {}
                _ => return None,
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(id) = line.strip_prefix("id: ") {
                mark = Some(id.to_owned());
            } else if let Some(text) = line.strip_prefix("data: ") {
                data = Some(text.to_owned());
            } else if line.is_empty() {
                // A comment has neither.
                self.mark = mark
                    .take()
                    .unwrap_or_else(|| std::mem::take(&mut self.mark));
                if let Some(data) = data.take() {
                    return Some(data);
                }
            }
        }
    }

    /// The same, as a stream that goes on after this mark.
    pub fn after(mut self, mark: Option<String>) -> Self {
        self.mark = mark.unwrap_or_default();
        self
    }

    /// The place of the last event that came; `None` before the first.
    pub fn mark(&self) -> Option<&str> {
        Some(&*self.mark).filter(|mark| !mark.is_empty())
    }
}

#[cfg(test)]
mod tests;
