//! Connections to hosts of the box's secrets: the process that puts the values in gets them, instead of the host.

use crate::gateway::Shared;
use crate::http;
use crate::object;
use crate::rules::normal_name;
use crate::streams::Key;
use crate::sys;
use crate::tls::{self, Hello};
use std::io;
use std::net::TcpStream;

/// Where that process listens, in the machine's directory.
const SOCKET: &str = "intercept.sock";

/// What the first bytes of a connection say.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// More is needed.
    Partial,
    /// Requests for this server, by TLS or without.
    Name { name: String, is_tls: bool },
    /// Something else, which is none of this.
    Other,
}

/// The host of a secret that a connection is to, by its first bytes. `by_name`: the name has to be allowed as well.
pub fn secret_host(shared: &Shared, key: Key, bytes: &[u8], by_name: bool) -> Seen {
    let Shared { policy, pins, .. } = shared;
    match look(bytes) {
        Seen::Name { ref name, .. }
            if !policy.intercepts(name, key.port)
                || (by_name && !policy.allows_named(name, key.address, key.port, pins)) =>
        {
            Seen::Other
        }
        seen => seen,
    }
}

/// Looks for the name of a server in the bytes so far.
fn look(bytes: &[u8]) -> Seen {
    if bytes.is_empty() {
        return Seen::Partial;
    }
    let is_tls = tls::begins(bytes);
    let named = match is_tls {
        true => match tls::hello(bytes) {
            Hello::Partial if bytes.len() <= 2 * tls::MAX_HELLO => return Seen::Partial,
            Hello::Whole(Some(name)) => normal_name(&name),
            _ => None,
        },
        false => match http::first_host(bytes) {
            http::FirstHost::Partial => return Seen::Partial,
            http::FirstHost::Named(name) => Some(name),
            http::FirstHost::None => None,
        },
    };
    named.map_or(Seen::Other, |name| Seen::Name { name, is_tls })
}

/// Connects to that process. What it is told first, as a line: whose connection this is, and where it was to go.
pub fn connect(
    token: &[u8],
    (name, is_tls): (&str, bool),
    key: Key,
) -> io::Result<(TcpStream, Vec<u8>)> {
    let socket = sys::connect_unix(SOCKET)?;
    let line = object! {
        "token" => String::from_utf8_lossy(token).into_owned(),
        "name" => name,
        "address" => key.address.to_string(),
        "port" => u32::from(key.port),
        "tls" => is_tls,
    };
    let mut bytes = line.to_bytes();
    bytes.push(b'\n');
    Ok((socket, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_the_name_of_a_hello_in_pieces() {
        let hello = tls::sample_hello(Some("A.test"), 50);
        for end in 0..hello.len() {
            assert_eq!(look(&hello[..end]), Seen::Partial, "{}", end);
        }
        let named = |is_tls: bool| Seen::Name {
            name: "a.test".to_string(),
            is_tls,
        };
        assert_eq!(look(&hello), named(true));
        let request = b"POST /x HTTP/1.1\r\nAccept: *\r\nhost:  A.test.:80 \r\n\r\n";
        for end in 0..request.len() {
            assert_eq!(look(&request[..end]), Seen::Partial, "{}", end);
        }
        assert_eq!(look(request), named(false));
        let long = [&b"GET /"[..], &[b'a'; 20_000]].concat();
        for other in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"GET / HTTP/1.1\nHost: a.test\n\n",
            b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n",
            b"EHLO a\r\n",
            b"\0\0\0\x08",
            &long,
            &[22, 3, 1, 0, 0],
            &tls::sample_hello(None, 50),
        ] {
            assert_eq!(look(other), Seen::Other, "{:?}", &other[..4]);
        }
    }
}
