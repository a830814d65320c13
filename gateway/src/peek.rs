//! What a connection that is allowed by name has to say first: TLS has to name an allowed server, HTTP an allowed host with
//! every request. Only what the guest sends is held; a server may speak first.

use crate::http::{is_token_byte, MayAsk, Refusal, Requests, MAX_HEAD, MAX_METHOD};
use crate::rules::normal_name;
use crate::tls::{self, Hello, Next, Records};

/// On these ports everything is HTTP or TLS; on others what is certainly neither passes as it is.
const WEB_PORTS: [u16; 2] = [80, 443];

enum State {
    First,
    Tls(Records),
    Http(Requests),
    Opaque,
}

/// Judges what a guest sends.
pub struct Inspector {
    state: State,
    held: Vec<u8>,
    is_web: bool,
    /// The name that TLS asked for.
    pub name: Option<String>,
}

impl Inspector {
    /// `port`: the server's.
    pub fn new(port: u16) -> Inspector {
        Inspector {
            state: State::First,
            held: Vec::new(),
            is_web: WEB_PORTS.contains(&port),
            name: None,
        }
    }

    /// Takes bytes of the guest and returns those that go on.
    pub fn feed(&mut self, bytes: &[u8], may_ask: &MayAsk) -> Result<Vec<u8>, Refusal> {
        if let State::Http(requests) = &mut self.state {
            return requests.feed(bytes, may_ask);
        }
        self.held.extend_from_slice(bytes);
        let mut out = Vec::new();
        loop {
            match &mut self.state {
                State::Opaque => {
                    out.append(&mut self.held);
                    return Ok(out);
                }
                State::Http(requests) => {
                    let held = std::mem::take(&mut self.held);
                    out.extend(requests.feed(&held, may_ask)?);
                    return Ok(out);
                }
                State::First => match self.classify()? {
                    Some(state) => self.state = state,
                    None => return Ok(out),
                },
                State::Tls(records) => match records.next(&self.held) {
                    Next::Pass(count) => out.extend(self.held.drain(..count)),
                    Next::More => return Ok(out),
                    Next::Opaque => self.state = State::Opaque,
                    Next::Hello => match self.judge_hello(may_ask)? {
                        Some(count) => out.extend(self.held.drain(..count)),
                        None => return Ok(out),
                    },
                },
            }
        }
    }

    /// Takes what the server says. True: bytes that were held may go on now.
    pub fn answered(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        match &mut self.state {
            State::Http(requests) => requests.answered(bytes),
            _ => Ok(false),
        }
    }

    /// The guest has ended: what is held never becomes whole.
    pub fn finish(&self) -> Result<(), Refusal> {
        let is_partial = match &self.state {
            State::Http(requests) => requests.is_partial(),
            _ => !self.held.is_empty(),
        };
        match is_partial {
            true => Err(self.unclear()),
            false => Ok(()),
        }
    }

    /// Nothing is looked at any more.
    pub fn is_done(&self) -> bool {
        match &self.state {
            State::Opaque => self.held.is_empty(),
            State::Http(requests) => requests.is_opaque(),
            _ => false,
        }
    }

    fn unclear(&self) -> Refusal {
        let is_tls = tls::begins(&self.held) || tls::begins_old(&self.held);
        Refusal::because(if is_tls { "no_sni" } else { "http" })
    }

    /// Bytes that are neither TLS nor HTTP.
    fn raw(&self) -> Result<Option<State>, Refusal> {
        match self.is_web {
            true => Err(Refusal::because("http")),
            false => Ok(Some(State::Opaque)),
        }
    }

    fn classify(&self) -> Result<Option<State>, Refusal> {
        let bytes = &self.held[..];
        if bytes.is_empty() {
            return Ok(None);
        }
        if tls::begins(bytes) {
            return Ok(Some(State::Tls(Records::default())));
        }
        if bytes[0] & 0x80 != 0 && bytes.len() < 3 {
            return Ok(None);
        }
        if tls::begins_old(bytes) {
            return Err(Refusal::because("no_sni"));
        }
        let is_blank = |byte: &u8| matches!(byte, b'\r' | b'\n' | b' ' | b'\t');
        let blanks = bytes.iter().take_while(|byte| is_blank(byte)).count();
        let text = &bytes[blanks..];
        if text.is_empty() {
            return if blanks > MAX_HEAD {
                self.raw()
            } else {
                Ok(None)
            };
        }
        // The second version of HAProxy's protocol, in front of anything.
        if blanks >= 4 && text[0] == 0 {
            return Err(Refusal::because("http"));
        }
        let word = text.iter().take_while(|byte| is_token_byte(**byte)).count();
        if word == 0 || word > MAX_METHOD {
            return self.raw();
        }
        match text.get(word) {
            None => return Ok(None),
            Some(b' ' | b'\t') => (),
            Some(_) => return self.raw(),
        }
        let line = match text.iter().position(|byte| *byte == b'\n') {
            Some(end) => &text[..end],
            None if text.len() <= MAX_HEAD => return Ok(None),
            None => return Err(Refusal::because("http")),
        };
        let line = line.to_ascii_uppercase();
        if line.starts_with(b"PROXY ") {
            return Err(Refusal::because("http"));
        }
        if !line.windows(5).any(|five| five == b"HTTP/") {
            return self.raw();
        }
        // Servers skip empty lines in front; here they make a request unclear.
        if blanks > 0 {
            return Err(Refusal::because("http"));
        }
        Ok(Some(State::Http(Requests::default())))
    }

    /// Bytes of the hello at the front; None: it is not whole yet.
    fn judge_hello(&mut self, may_ask: &MayAsk) -> Result<Option<usize>, Refusal> {
        let named = match tls::hello(&self.held) {
            Hello::Partial if self.held.len() <= 2 * tls::MAX_HELLO => return Ok(None),
            Hello::Partial | Hello::Bad | Hello::Whole(None) => {
                return Err(Refusal::because("no_sni"))
            }
            Hello::Whole(Some(name)) => name,
        };
        let name = normal_name(&named);
        let shown = String::from_utf8_lossy(&named).chars().take(253).collect();
        match name.filter(|name| may_ask(name)) {
            Some(name) => self.name = Some(name),
            None => {
                return Err(Refusal {
                    reason: "sni",
                    name: Some(shown),
                })
            }
        }
        match tls::hello_bytes(&self.held) {
            Some(count) => Ok(Some(count)),
            None => Err(Refusal::because("no_sni")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_a(name: &str) -> bool {
        name == "a.test"
    }

    fn feed(port: u16, bytes: &[u8], step: usize) -> Result<Vec<u8>, &'static str> {
        let mut inspector = Inspector::new(port);
        let mut out = Vec::new();
        for piece in bytes.chunks(step) {
            out.extend(
                inspector
                    .feed(piece, &only_a)
                    .map_err(|refusal| refusal.reason)?,
            );
        }
        inspector.finish().map_err(|refusal| refusal.reason)?;
        Ok(out)
    }

    fn tls(names: &[Option<&str>]) -> Vec<u8> {
        let changed = [20, 3, 3, 0, 1, 1];
        names
            .iter()
            .flat_map(|name| [&tls::sample_hello(*name, 100)[..], &changed].concat())
            .collect()
    }

    #[test]
    fn passes_what_is_allowed() {
        let data = [
            &tls(&[Some("a.test"), Some("A.test")])[..],
            &[23, 3, 3, 0, 2, 9, 9, 23],
        ]
        .concat();
        let http = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".to_vec();
        for step in [1, 5, 1000] {
            assert_eq!(
                feed(443, &data[..data.len() - 1], step).as_ref(),
                Ok(&data[..data.len() - 1].to_vec())
            );
            assert_eq!(feed(80, &http, step).as_ref(), Ok(&http));
            for raw in [
                "SSH-2.0-x y\r\n",
                "EHLO a\r\n",
                "*1\r\n$4\r\nPING\r\n",
                "\0\0\0\x08\x04",
                "\r\n",
            ] {
                if raw == "\r\n" {
                    continue;
                }
                assert_eq!(
                    feed(2222, raw.as_bytes(), step),
                    Ok(raw.as_bytes().to_vec()),
                    "{:?}",
                    raw
                );
            }
        }
    }

    #[test]
    fn refuses_the_rest() {
        let cases: [(u16, Vec<u8>, &str); 12] = [
            (443, tls(&[Some("b.test")]), "sni"),
            (8443, tls(&[Some("b.test")]), "sni"),
            (443, tls(&[Some("a.test"), Some("b.test")]), "sni"),
            (443, tls(&[None]), "no_sni"),
            (443, tls(&[Some("10.1.1.1")]), "sni"),
            (443, vec![22, 3, 1, 0, 0], "no_sni"),
            (443, vec![0x80, 0x2e, 1, 3, 1, 0], "no_sni"),
            (
                8080,
                b"\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n".to_vec(),
                "http",
            ),
            (
                8080,
                b"get / http/1.1\r\nHost: b.test\r\n\r\n".to_vec(),
                "http",
            ),
            (8080, b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "http"),
            (80, b"SSH-2.0-x\r\n".to_vec(), "http"),
            (443, b"\0\0\0\x08".to_vec(), "http"),
        ];
        for (port, bytes, reason) in cases {
            for step in [1, 7, 10_000] {
                assert_eq!(feed(port, &bytes, step), Err(reason), "{:?}", bytes);
            }
        }
    }
}
