//! The first message of TLS (RFC 8446, section 4.1.2), as far as the name of the server (RFC 6066, section 3).

/// Most bytes that are held until the message is whole.
pub const MAX_HELLO: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CHANGE_CIPHER_SPEC: u8 = 20;
const APPLICATION_DATA: u8 = 23;
const CLIENT_HELLO: u8 = 1;
/// Behind these many bytes a server that asked for another hello has got it.
const WATCHED_BYTES: usize = 256 * 1024;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// More is needed.
    Partial,
    /// Names the server, if it names one.
    Whole(Option<Vec<u8>>),
    /// It begins as TLS and is none.
    Bad,
}

/// Whether a connection begins with TLS, by its first byte.
pub fn begins(bytes: &[u8]) -> bool {
    bytes.first() == Some(&HANDSHAKE)
}

/// Whether a connection begins with a hello of SSL 2 (RFC 5246, appendix E.2), which names no server.
pub fn begins_old(bytes: &[u8]) -> bool {
    bytes.len() >= 3 && bytes[0] & 0x80 != 0 && bytes[2] == CLIENT_HELLO
}

/// Reads a client's hello, which may be in many records.
pub fn hello(bytes: &[u8]) -> Hello {
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let Some(length) = message_length(&message) {
            if message.first() != Some(&CLIENT_HELLO) || length > MAX_HELLO {
                return Hello::Bad;
            }
            if message.len() >= 4 + length {
                return server_name(&message[4..4 + length]).map_or(Hello::Bad, Hello::Whole);
            }
        }
        if rest.len() < 5 {
            return Hello::Partial;
        }
        let length = usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        if rest[0] != HANDSHAKE || rest[1] != 3 || length == 0 || length > 16_384 {
            return Hello::Bad;
        }
        let body = &rest[5..];
        if body.len() < length {
            // A wrong kind of message is seen at once.
            let first = message.first().or_else(|| body.first());
            let is_wrong = first.map_or(false, |kind| *kind != CLIENT_HELLO);
            return if is_wrong { Hello::Bad } else { Hello::Partial };
        }
        message.extend_from_slice(&body[..length]);
        rest = &body[length..];
    }
}

fn message_length(message: &[u8]) -> Option<usize> {
    let header = message.get(..4)?;
    Some(usize::from(header[1]) << 16 | usize::from(header[2]) << 8 | usize::from(header[3]))
}

/// Takes a part off the front whose length stands before it, in so many bytes.
fn part<'a>(rest: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let header = rest.get(..length_bytes)?;
    let length = header
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let found = rest.get(length_bytes..length_bytes + length)?;
    *rest = &rest[length_bytes + length..];
    Some(found)
}

/// None: not well formed.
fn server_name(hello: &[u8]) -> Option<Option<Vec<u8>>> {
    // Version and random.
    let mut rest = hello.get(34..)?;
    part(&mut rest, 1)?;
    part(&mut rest, 2)?;
    part(&mut rest, 1)?;
    if rest.is_empty() {
        return Some(None);
    }
    let mut extensions = part(&mut rest, 2)?;
    if !rest.is_empty() {
        return None;
    }
    let mut name = None;
    while !extensions.is_empty() {
        let kind = extensions.get(..2)?;
        extensions = &extensions[2..];
        let mut body = part(&mut extensions, 2)?;
        if kind != [0, 0] {
            continue;
        }
        let mut list = part(&mut body, 2)?;
        // One list with one name: a second one could be what the server takes.
        if name.is_some() || !body.is_empty() || list.first() != Some(&0) {
            return None;
        }
        list = &list[1..];
        name = Some(part(&mut list, 2)?.to_vec());
        if !list.is_empty() {
            return None;
        }
    }
    Some(name)
}

/// Watches the records behind the first hello: a server may ask for another one (RFC 8446, section 4.1.4), which could
/// name another server.
#[derive(Default)]
pub struct Records {
    /// Bytes of the record under way that are still to come.
    left: usize,
    seen: usize,
}

/// What is to be done with the bytes behind the first hello.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// So many bytes go on.
    Pass(usize),
    /// Here a second hello begins: it is to be judged as the first one was.
    Hello,
    More,
    /// Nothing more is said in the clear.
    Opaque,
}

impl Records {
    /// What to do with the bytes that are next.
    pub fn next(&mut self, bytes: &[u8]) -> Next {
        if self.seen > WATCHED_BYTES {
            return Next::Opaque;
        }
        if self.left > 0 {
            let count = self.left.min(bytes.len());
            self.left -= count;
            self.seen += count;
            return if count == 0 {
                Next::More
            } else {
                Next::Pass(count)
            };
        }
        let kind = match bytes.first() {
            Some(kind) => *kind,
            None => return Next::More,
        };
        match kind {
            HANDSHAKE => match bytes.get(5) {
                None => Next::More,
                Some(&CLIENT_HELLO) => Next::Hello,
                Some(_) => Next::Opaque,
            },
            CHANGE_CIPHER_SPEC | APPLICATION_DATA => {
                if bytes.len() < 5 {
                    return Next::More;
                }
                self.left = 5 + usize::from(u16::from_be_bytes([bytes[3], bytes[4]]));
                self.next(bytes)
            }
            _ => Next::Opaque,
        }
    }
}

/// Bytes of the records that the hello at the front takes, to their end. Called with a whole one.
pub fn hello_bytes(bytes: &[u8]) -> Option<usize> {
    let mut message = Vec::new();
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + 5)?;
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        message.extend_from_slice(bytes.get(at + 5..at + 5 + length)?);
        at += 5 + length;
        let whole = message_length(&message).map(|length| 4 + length);
        if whole.map_or(false, |whole| message.len() >= whole) {
            // Something of the same kind behind it would be part of the same record: not what clients send.
            return (whole == Some(message.len())).then_some(at);
        }
    }
}

/// A hello for tests: with a name, if any, cut into records of so many bytes.
pub fn sample_hello(name: Option<&str>, record: usize) -> Vec<u8> {
    let prefixed = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let mut extensions = vec![0x0a, 0x0a, 0, 0];
    if let Some(name) = name {
        let entry = [&[0][..], &prefixed(name.as_bytes())].concat();
        extensions.extend([0, 0]);
        extensions.extend(prefixed(&prefixed(&entry)));
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend(prefixed(&extensions));
    let mut message = vec![CLIENT_HELLO, 0];
    message.extend(prefixed(&body));
    message
        .chunks(record)
        .flat_map(|piece| [&[HANDSHAKE, 3, 1][..], &prefixed(piece)].concat())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_name_however_it_is_cut() {
        for record in [1, 7, 100, 16_384] {
            let bytes = sample_hello(Some("a.test"), record);
            for end in 0..bytes.len() {
                assert_eq!(
                    hello(&bytes[..end]),
                    Hello::Partial,
                    "{} of {}",
                    end,
                    record
                );
            }
            assert_eq!(hello(&bytes), Hello::Whole(Some(b"a.test".to_vec())));
            assert_eq!(hello_bytes(&bytes), Some(bytes.len()));
        }
        assert_eq!(hello(&sample_hello(None, 500)), Hello::Whole(None));
    }

    #[test]
    fn refuses_two_names_and_other_messages() {
        let mut bytes = sample_hello(Some("a.test"), 16_384);
        bytes[5] = 2;
        assert_eq!(hello(&bytes), Hello::Bad);
        let mut two = sample_hello(Some("a.test"), 16_384);
        // The list of names says that it is shorter than the extension.
        let at = two.len() - 9 - 2;
        assert_eq!(two[at..at + 2], [0, 9]);
        two[at + 1] = 8;
        assert_eq!(hello(&two), Hello::Bad);
    }

    #[test]
    fn sees_a_second_hello() {
        let mut records = Records::default();
        let changed = [CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1];
        assert_eq!(records.next(&changed), Next::Pass(6));
        assert_eq!(records.next(&[APPLICATION_DATA, 3, 3]), Next::More);
        assert_eq!(
            records.next(&[APPLICATION_DATA, 3, 3, 0, 2, 9]),
            Next::Pass(6)
        );
        assert_eq!(records.next(&[9]), Next::Pass(1));
        assert_eq!(
            records.next(&sample_hello(Some("b.test"), 500)),
            Next::Hello
        );
        assert_eq!(records.next(&[HANDSHAKE, 3, 3, 0, 9, 16]), Next::Opaque);
    }
}
