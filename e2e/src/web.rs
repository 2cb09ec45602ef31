//! A node's web server, by bare requests.

use crate::tools::{free_port, text};
use crate::{Node, Pair};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A pair with web servers, and their ports.
#[derive(Debug)]
pub struct Web {
    /// The pair.
    pub pair: Pair,
    /// The ports, on the loopback.
    pub ports: [u16; 2],
}

impl Web {
    /// A pair with these options for `up` besides.
    pub fn boot(options: &[&str]) -> Self {
        let ports = [free_port(), free_port()];
        let chosen = format!("{},{}", ports[0], ports[1]);
        let pair = Pair::boot_with(&[&["--http-ports", &chosen], options].concat());
        Self { pair, ports }
    }

    /// Where a node's web server is reached.
    pub fn port(&self, node: Node) -> u16 {
        self.ports[usize::from(node == Node::B)]
    }

    /// A connection, which waits for 40 s at most.
    pub fn connect(&self, node: Node) -> TcpStream {
        let stream =
            TcpStream::connect(("127.0.0.1", self.port(node))).expect("the forwarded port");
        let time = Some(Duration::from_secs(40));
        stream.set_read_timeout(time).expect("a time");
        stream
    }

    /// Sends this and reads to the end. Of a connection that was reset: what came before.
    pub fn say(&self, node: Node, words: &[u8]) -> String {
        let mut stream = self.connect(node);
        let _ = stream.write_all(words);
        rest(&mut stream)
    }

    /// Sends a command with this token: the code, the head, and the output.
    pub fn exec(&self, node: Node, token: &str, command: &str) -> (u16, String, String) {
        let request = format!(
            "POST /v1/exec HTTP/1.1\r\nHost: n\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{command}",
            command.len()
        );
        let answer = self.say(node, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        (code(head), head.to_owned(), body.to_owned())
    }

    /// The code and the body of a GET.
    pub fn get(&self, node: Node, path: &str) -> (u16, String) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n");
        let answer = self.say(node, request.as_bytes());
        let (head, body) = answer.split_once("\r\n\r\n").expect(&answer);
        (code(head), body.to_owned())
    }
}

/// What a connection still brings.
pub fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    text(&bytes)
}

/// The code of an answer; 0 if it is none.
pub fn code(answer: &str) -> u16 {
    let code = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    code.and_then(|code| code.parse().ok()).unwrap_or(0)
}
