//! Connections to hosts of the box's secrets: the process that puts the values in gets them, instead of the host.

use crate::gateway::Shared;
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
    /// TLS for this server.
    Name(String),
    /// Something else, which is none of this.
    Other,
}

/// The host of a secret that a connection is to, by its first bytes. `by_name`: the name has to be allowed as well.
pub fn secret_host(shared: &Shared, key: Key, bytes: &[u8], by_name: bool) -> Seen {
    let Shared { policy, pins, .. } = shared;
    match look(bytes) {
        Seen::Name(name)
            if !policy.intercepts(&name, key.port)
                || (by_name && !policy.allows_named(&name, key.address, key.port, pins)) =>
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
    if !tls::begins(bytes) {
        return Seen::Other;
    }
    match tls::hello(bytes) {
        Hello::Partial if bytes.len() <= 2 * tls::MAX_HELLO => Seen::Partial,
        Hello::Whole(Some(name)) => normal_name(&name).map_or(Seen::Other, Seen::Name),
        _ => Seen::Other,
    }
}

/// Connects to that process. What it is told first, as a line: whose connection this is, and where it was to go.
pub fn connect(token: &[u8], name: &str, key: Key) -> io::Result<(TcpStream, Vec<u8>)> {
    let socket = sys::connect_unix(SOCKET)?;
    let line = object! {
        "token" => String::from_utf8_lossy(token).into_owned(),
        "name" => name,
        "address" => key.address.to_string(),
        "port" => u32::from(key.port),
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
        assert_eq!(look(&hello), Seen::Name("a.test".to_string()));
        for other in [
            &b"GET / HTTP/1.1"[..],
            &[22, 3, 1, 0, 0],
            &tls::sample_hello(None, 50),
        ] {
            assert_eq!(look(other), Seen::Other);
        }
    }
}
