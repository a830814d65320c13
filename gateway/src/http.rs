//! Requests of HTTP/1 (RFC 9112), read strictly: where a request ends has to be as clear to the server as it is here, or
//! a second one could hide in the first. What could be read in two ways is refused.

use crate::rules::normal_name;

/// Longest head of a request, and longest trailer.
pub const MAX_HEAD: usize = 16 * 1024;
const MAX_CHUNK_LINE: usize = 1024;
/// A longer word is no method of HTTP.
pub const MAX_METHOD: usize = 32;

/// Why a connection is ended: the reason, and the name that was asked for, if one was.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: &'static str,
    pub name: Option<String>,
}

impl Refusal {
    pub fn because(reason: &'static str) -> Refusal {
        Refusal { reason, name: None }
    }
}

/// Whether the server may be asked for a name.
pub type MayAsk<'a> = dyn Fn(&str) -> bool + 'a;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Body(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    /// The answer says whether another protocol follows; true: one that may.
    Upgrade(bool),
    Opaque,
}

/// The requests of one connection.
pub struct Requests {
    state: State,
    held: Vec<u8>,
    is_first: bool,
    answer: Vec<u8>,
}

struct Head {
    body: State,
}

impl Default for Requests {
    fn default() -> Requests {
        Requests {
            state: State::Head,
            held: Vec::new(),
            is_first: true,
            answer: Vec::new(),
        }
    }
}

impl Requests {
    /// Takes bytes of the guest and returns those that go on to the server.
    pub fn feed(&mut self, bytes: &[u8], may_ask: &MayAsk) -> Result<Vec<u8>, Refusal> {
        self.held.extend_from_slice(bytes);
        let mut passed = 0;
        loop {
            let rest = &self.held[passed..];
            let step = match self.state {
                State::Opaque => Some((rest.len(), State::Opaque)).filter(|_| !rest.is_empty()),
                State::Upgrade(_) if rest.len() > MAX_HEAD => return Err(Refusal::because("http")),
                State::Upgrade(_) => None,
                State::Head => match head_end(rest)? {
                    Some(end) => {
                        let head = read_head(&rest[..end], self.is_first, may_ask)?;
                        self.is_first = false;
                        Some((end, head.body))
                    }
                    None => None,
                },
                State::Body(left) | State::ChunkData(left) => {
                    let count = left.min(rest.len() as u64);
                    let done = count == left;
                    let next = match (self.state, done) {
                        (State::Body(_), true) => State::Head,
                        (State::Body(_), false) => State::Body(left - count),
                        (_, true) => State::ChunkEnd,
                        (_, false) => State::ChunkData(left - count),
                    };
                    Some((count as usize, next)).filter(|_| count > 0 || done)
                }
                State::ChunkLine => read_chunk_line(rest)?,
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => Some((2, State::ChunkLine)),
                    [] | [b'\r'] => None,
                    _ => return Err(Refusal::because("http")),
                },
                State::Trailer => match rest {
                    [b'\r', b'\n', ..] => Some((2, State::Head)),
                    [] | [b'\r'] => None,
                    _ => match head_end(rest)? {
                        Some(end) => {
                            lines(&rest[..end])?;
                            Some((end, State::Head))
                        }
                        None => None,
                    },
                },
            };
            match step {
                Some((count, state)) => {
                    passed += count;
                    self.state = state;
                }
                None => break,
            }
        }
        Ok(self.held.drain(..passed).collect())
    }

    /// Takes what the server says. True: bytes that were held may go on now.
    pub fn answered(&mut self, bytes: &[u8]) -> Result<bool, Refusal> {
        let may_change = match self.state {
            State::Upgrade(may_change) => may_change,
            _ => return Ok(false),
        };
        const STATUS_END: usize = "HTTP/1.1 101".len();
        let wanted = STATUS_END - self.answer.len();
        self.answer
            .extend_from_slice(&bytes[..bytes.len().min(wanted)]);
        if self.answer.len() < STATUS_END {
            return Ok(false);
        }
        let changes = self.answer.ends_with(b" 101");
        if changes && !may_change {
            return Err(Refusal::because("http"));
        }
        self.state = if changes { State::Opaque } else { State::Head };
        Ok(true)
    }

    pub fn is_opaque(&self) -> bool {
        self.state == State::Opaque && self.held.is_empty()
    }

    /// Whether something is held that is no whole request.
    pub fn is_partial(&self) -> bool {
        !self.held.is_empty()
    }
}

/// Behind the empty line, if it is there.
fn head_end(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    match end {
        Some(at) if at + 4 <= MAX_HEAD => Ok(Some(at + 4)),
        // A server might take the head for whole where a line ends so.
        None if has_bare_line_feed(bytes) => Err(Refusal::because("http")),
        None if bytes.len() <= MAX_HEAD => Ok(None),
        _ => Err(Refusal::because("http")),
    }
}

fn has_bare_line_feed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&b'\n')
        || bytes
            .windows(2)
            .any(|two| two[1] == b'\n' && two[0] != b'\r')
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| is_token_byte(*byte))
}

/// RFC 9110, section 5.6.2.
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The lines of a head, without the empty one; none holds a control character that a server might take for an end.
fn lines(head: &[u8]) -> Result<Vec<&[u8]>, Refusal> {
    let mut found = Vec::new();
    let mut rest = &head[..head.len() - 2];
    while !rest.is_empty() {
        let end = rest
            .windows(2)
            .position(|two| two == b"\r\n")
            .ok_or_else(|| Refusal::because("http"))?;
        let line = &rest[..end];
        if line
            .iter()
            .any(|byte| (*byte < 32 && *byte != b'\t') || *byte == 127)
        {
            return Err(Refusal::because("http"));
        }
        found.push(line);
        rest = &rest[end + 2..];
    }
    Ok(found)
}

fn trim(bytes: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| *byte == b' ' || *byte == b'\t';
    let start = bytes.iter().position(|byte| !is_blank(byte));
    let end = bytes.iter().rposition(|byte| !is_blank(byte));
    match (start, end) {
        (Some(start), Some(end)) => &bytes[start..=end],
        _ => &[],
    }
}

fn read_head(head: &[u8], is_first: bool, may_ask: &MayAsk) -> Result<Head, Refusal> {
    let bad = || Refusal::because("http");
    let lines = lines(head)?;
    let (request, fields) = lines.split_first().ok_or_else(bad)?;
    let words: Vec<&[u8]> = request.split(|byte| *byte == b' ').collect();
    let (method, target) = match words[..] {
        [method, target, b"HTTP/1.1"] | [method, target, b"HTTP/1.0"] => (method, target),
        _ => return Err(bad()),
    };
    let is_method = (1..=MAX_METHOD).contains(&method.len())
        && method
            .iter()
            .all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    if !is_method || method == b"CONNECT" {
        return Err(bad());
    }
    let mut host = None;
    let mut length: Option<u64> = None;
    let mut chunked = false;
    let mut upgrade: Option<&[u8]> = None;
    for field in fields {
        let colon = field
            .iter()
            .position(|byte| *byte == b':')
            .ok_or_else(bad)?;
        let (name, value) = (&field[..colon], trim(&field[colon + 1..]));
        if !is_token(name) {
            return Err(bad());
        }
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("host") {
            if host.replace(value).is_some() {
                return Err(Refusal::because("host"));
            }
        } else if is("content-length") {
            if length.replace(number(value).ok_or_else(bad)?).is_some() {
                return Err(bad());
            }
        } else if is("transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(bad());
            }
            chunked = true;
        } else if is("upgrade") && upgrade.replace(value).is_some() {
            return Err(bad());
        }
    }
    check_name(host.ok_or_else(|| Refusal::because("host"))?, may_ask)?;
    check_target(target, may_ask)?;
    // A server of HTTP/1.0 takes what comes behind the head for the next request.
    let is_old = words[2] == b"HTTP/1.0";
    let body = match (length, chunked) {
        (Some(_), true) => return Err(bad()),
        (_, true) if is_old => return Err(bad()),
        (None, true) => State::ChunkLine,
        (None | Some(0), false) => State::Head,
        (Some(length), false) => State::Body(length),
    };
    match upgrade {
        None => Ok(Head { body }),
        // Which answer is the one to this request could not be told later.
        Some(_) if !is_first || body != State::Head => Err(bad()),
        Some(protocol) => Ok(Head {
            body: State::Upgrade(protocol.eq_ignore_ascii_case(b"websocket")),
        }),
    }
}

/// What the first bytes of a connection say of the host that is asked.
pub enum FirstHost {
    /// More is needed.
    Partial,
    Named(String),
    /// No request, or one that does not say it clearly.
    None,
}

/// The host of the first request of a connection. Whoever gets the connection reads the request again, by stricter rules.
pub fn first_host(bytes: &[u8]) -> FirstHost {
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    let line = &bytes[..line_end.unwrap_or(bytes.len())];
    let word = line.iter().take_while(|byte| is_token_byte(**byte)).count();
    let is_request = match line.get(word) {
        _ if word == 0 || word > MAX_METHOD => false,
        None => line_end.is_none(),
        Some(byte) => {
            *byte == b' ' && (line_end.is_none() || line.windows(8).any(|part| part == b" HTTP/1."))
        }
    };
    if !is_request {
        return FirstHost::None;
    }
    let end = match head_end(bytes) {
        Ok(Some(end)) => end,
        Ok(None) => return FirstHost::Partial,
        Err(_) => return FirstHost::None,
    };
    let fields = lines(&bytes[..end]).unwrap_or_default();
    let mut hosts = fields.iter().skip(1).filter_map(|field| {
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b':')?);
        name.eq_ignore_ascii_case(b"host")
            .then(|| trim(&value[1..]))
    });
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            let colon = host.iter().position(|byte| *byte == b':');
            let name = normal_name(&host[..colon.unwrap_or(host.len())]);
            name.map_or(FirstHost::None, FirstHost::Named)
        }
        _ => FirstHost::None,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok()?;
    is_number.then(|| text.parse().ok()).flatten()
}

fn check_name(authority: &[u8], may_ask: &MayAsk) -> Result<(), Refusal> {
    let refusal = || Refusal {
        reason: "host",
        name: Some(
            String::from_utf8_lossy(authority)
                .chars()
                .take(253)
                .collect(),
        ),
    };
    let colon = authority.iter().position(|byte| *byte == b':');
    let (name, port) = authority.split_at(colon.unwrap_or(authority.len()));
    if port.len() > 1 && number(&port[1..]).map_or(true, |port| port > 65_535) {
        return Err(refusal());
    }
    match normal_name(name) {
        Some(name) if may_ask(&name) => Ok(()),
        _ => Err(refusal()),
    }
}

/// A path, `*`, or an address whose host may be asked as well.
fn check_target(target: &[u8], may_ask: &MayAsk) -> Result<(), Refusal> {
    if target.first() == Some(&b'/') || target == b"*" {
        return Ok(());
    }
    let lower = target.to_ascii_lowercase();
    let rest = [&b"http://"[..], b"https://"]
        .iter()
        .find_map(|scheme| lower.strip_prefix(*scheme))
        .ok_or_else(|| Refusal::because("http"))?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    check_name(&rest[..end.unwrap_or(rest.len())], may_ask)
}

fn read_chunk_line(rest: &[u8]) -> Result<Option<(usize, State)>, Refusal> {
    let bad = || Refusal::because("http");
    let end = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => end,
        None if rest.len() <= MAX_CHUNK_LINE => return Ok(None),
        None => return Err(bad()),
    };
    if end == 0 || end > MAX_CHUNK_LINE || rest[end - 1] != b'\r' {
        return Err(bad());
    }
    let line = &rest[..end - 1];
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let extension = &line[digits..];
    let is_plain = extension.iter().all(|byte| *byte >= 32 && *byte != 127);
    let begins_well = extension.first().map_or(true, |byte| *byte == b';');
    if digits == 0 || digits > 15 || !is_plain || !begins_well {
        return Err(bad());
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| bad())?;
    let size = u64::from_str_radix(text, 16).map_err(|_| bad())?;
    let next = match size {
        0 => State::Trailer,
        size => State::ChunkData(size),
    };
    Ok(Some((end + 1, next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only_a(name: &str) -> bool {
        name == "a.test"
    }

    fn feed(text: &str, step: usize) -> Result<Vec<u8>, Refusal> {
        let mut requests = Requests::default();
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(step) {
            out.extend(requests.feed(piece, &only_a)?);
        }
        assert!(!requests.is_partial(), "{:?}", text);
        Ok(out)
    }

    #[test]
    fn passes_requests_however_they_are_cut() {
        let text = concat!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "POST /x HTTP/1.1\r\nhost: A.TEST.:8080\r\nContent-Length: 5\r\n\r\nhello",
            "GET http://a.test/y HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "PUT /z HTTP/1.1\r\nHost:a.test\r\nTransfer-Encoding: chunked\r\n\r\n",
            "3;x=y\r\nabc\r\n0a\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\n",
            "PUT /z HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\nHost: a.test\r\n\r\n",
        );
        for step in 1..text.len() {
            assert_eq!(feed(text, step).unwrap(), text.as_bytes(), "{}", step);
        }
    }

    #[test]
    fn refuses_other_hosts_and_what_can_be_read_in_two_ways() {
        let first = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
        let cases = [
            ("GET / HTTP/1.1\r\nHost: b.test\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost: a.test@b.test\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost: 10.1.1.1\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", "host"),
            ("GET / HTTP/1.1\r\nX: y\r\n\r\n", "host"),
            ("GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "host"),
            ("GET http://a.test@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "host"),
            ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "http"),
            ("GET b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "http"),
            ("GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", "http"),
            ("GET / HTTP/1.1\r\nX: y\r\n Host: b.test\r\nHost: a.test\r\n\r\n", "http"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX: y\nHost: b.test\r\n\r\n", "http"),
            ("GET / HTTP/1.1\nHost: a.test\n\nGET / HTTP/1.1\r\n\r\n", "http"),
            ("GET / HTTP/1.1\r\nHost: a.test\r\nX: \0\r\n\r\n", "http"),
            ("GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", "http"),
            ("get / HTTP/1.1\r\nHost: a.test\r\n\r\n", "http"),
            ("GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", "http"),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http"),
            ("\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +1\r\n\r\nx", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", "http"),
            ("POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\nx", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\nx\r\n", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz", "http"),
            ("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx", "http"),
        ];
        for (text, reason) in cases {
            for step in [1, 9, 10_000] {
                for text in [text.to_string(), format!("{}{}", first, text)] {
                    let refusal = feed(&text, step).expect_err(&text);
                    assert_eq!(refusal.reason, reason, "{}", text);
                }
            }
        }
    }

    #[test]
    fn lets_another_protocol_follow_only_when_the_server_agrees() {
        let request = b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n";
        let begun = |request: &[u8]| {
            let mut requests = Requests::default();
            requests.feed(request, &only_a).unwrap();
            assert_eq!(requests.feed(b"\x81\x05hello", &only_a).unwrap(), b"");
            requests
        };
        let mut requests = begun(request);
        assert!(!requests.answered(b"HTTP/1.1 ").unwrap());
        assert!(requests.answered(b"101 Switching").unwrap());
        assert_eq!(requests.feed(b"", &only_a).unwrap(), b"\x81\x05hello");
        assert!(requests.is_opaque());

        let mut requests = begun(request);
        assert!(requests.answered(b"HTTP/1.1 200 OK").unwrap());
        assert!(requests.feed(b"\r\n\r\n", &only_a).is_err());

        let h2c = b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: h2c\r\n\r\n";
        assert!(begun(h2c).answered(b"HTTP/1.1 101 Switching").is_err());
    }

    #[test]
    fn bounds_a_head() {
        let mut requests = Requests::default();
        let line = "X: ".to_string() + &"y".repeat(1000) + "\r\n";
        let mut result = requests.feed(b"GET / HTTP/1.1\r\n", &only_a);
        for _ in 0..20 {
            if result.is_ok() {
                result = requests.feed(line.as_bytes(), &only_a);
            }
        }
        assert!(result.is_err() && requests.held.len() < 2 * MAX_HEAD);
    }
}
