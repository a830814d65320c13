//! Frames on the wire and the preamble that starts a connection (docs/PROTOCOL.md, sections 2 and 3).

use crate::json::{self, Value};

pub const MAX_HEADER_BYTES: usize = 64 * 1024;
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
pub const NONCE_BYTES: usize = 16;
/// Starts every connection. The first byte makes it an impossible header length.
pub const MAGIC: &[u8; 16] = b"\xffcryobox-agent\r\n";

#[derive(Debug, PartialEq)]
pub struct Frame {
    pub header: Value,
    pub payload: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub enum Item {
    /// A client begins; everything before is void.
    Preamble([u8; NONCE_BYTES]),
    Frame(Frame),
    /// The input makes no sense; it is skipped up to the next preamble.
    Broken(String),
}

/// Turns bytes, in pieces of any size, into items. Holds at most one frame and one piece.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
    framing: bool,
}

impl Decoder {
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > MAX_PAYLOAD_BYTES {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets everything and waits for a preamble.
    pub fn resync(&mut self) {
        *self = Decoder::default();
    }

    /// Waits for a preamble, which what is there already may hold.
    pub fn scan_on(&mut self) {
        self.framing = false;
    }

    /// The next item, or None until more bytes come.
    pub fn next_item(&mut self) -> Option<Item> {
        if self.framing {
            self.frame()
        } else {
            self.scan().map(Item::Preamble)
        }
    }

    fn scan(&mut self) -> Option<[u8; NONCE_BYTES]> {
        let rest = &self.buffer[self.start..];
        let found = rest.windows(MAGIC.len()).position(|window| window == MAGIC);
        // Without a whole magic its first bytes may still be at the end.
        let keep_from = found.unwrap_or_else(|| rest.len().saturating_sub(MAGIC.len() - 1));
        self.start += keep_from;
        found?;
        let begin = self.start + MAGIC.len();
        let nonce = self.buffer.get(begin..begin + NONCE_BYTES)?;
        let nonce = <[u8; NONCE_BYTES]>::try_from(nonce).ok()?;
        self.start = begin + NONCE_BYTES;
        self.framing = true;
        Some(nonce)
    }

    fn frame(&mut self) -> Option<Item> {
        let rest = &self.buffer[self.start..];
        let header_length = read_u32(rest, 0)?;
        if header_length > MAX_HEADER_BYTES || header_length == 0 {
            return Some(self.broken(format!("a header of {} bytes", header_length)));
        }
        let payload_length = read_u32(rest, 4)?;
        if payload_length > MAX_PAYLOAD_BYTES {
            return Some(self.broken(format!("a payload of {} bytes", payload_length)));
        }
        let whole = rest.get(..8 + header_length + payload_length)?;
        match json::parse(&whole[8..8 + header_length]) {
            Ok(header @ Value::Obj(_)) => {
                let payload = whole[8 + header_length..].to_vec();
                self.start += 8 + header_length + payload_length;
                Some(Item::Frame(Frame { header, payload }))
            }
            Ok(_) => Some(self.broken("a header that is no object".into())),
            Err(error) => Some(self.broken(format!("a header that is not JSON: {}", error))),
        }
    }

    fn broken(&mut self, why: String) -> Item {
        self.framing = false;
        Item::Broken(why)
    }
}

fn read_u32(bytes: &[u8], at: usize) -> Option<usize> {
    let four = <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?;
    Some(u32::from_be_bytes(four) as usize)
}

/// Appends a frame. The payload must fit [`MAX_PAYLOAD_BYTES`].
pub fn encode(header: &[u8], payload: &[&[u8]], out: &mut Vec<u8>) {
    let length: usize = payload.iter().map(|part| part.len()).sum();
    out.extend_from_slice(&(header.len() as u32).to_be_bytes());
    out.extend_from_slice(&(length as u32).to_be_bytes());
    out.extend_from_slice(header);
    for part in payload {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(frames: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&[7; NONCE_BYTES]);
        for (header, payload) in frames {
            encode(header.as_bytes(), &[payload], &mut out);
        }
        out
    }

    #[test]
    fn decodes_pieces_of_any_size() {
        let bytes = wire(&[("{\"id\":1}", b""), ("{\"s\":4,\"at\":0}", &[9; 5000])]);
        for size in [1, 7, 31, 4096, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut items = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.feed(piece);
                while let Some(item) = decoder.next_item() {
                    items.push(item);
                }
            }
            assert_eq!(items.len(), 3, "pieces of {}", size);
            assert_eq!(items[0], Item::Preamble([7; NONCE_BYTES]));
            assert!(matches!(&items[2], Item::Frame(frame) if frame.payload == [9; 5000]));
        }
    }

    #[test]
    fn skips_rubbish_and_finds_the_next_preamble() {
        let mut decoder = Decoder::default();
        decoder.feed(&[0xff; 100_000]);
        assert_eq!(decoder.next_item(), None);
        decoder.feed(&wire(&[("[1]", b"")]));
        assert_eq!(decoder.next_item(), Some(Item::Preamble([7; NONCE_BYTES])));
        assert!(matches!(decoder.next_item(), Some(Item::Broken(_))));
        decoder.feed(&wire(&[("{}", b"")]));
        assert_eq!(decoder.next_item(), Some(Item::Preamble([7; NONCE_BYTES])));
        assert!(matches!(decoder.next_item(), Some(Item::Frame(_))));
    }

    #[test]
    fn a_new_preamble_between_frames_is_found() {
        let mut decoder = Decoder::default();
        let mut bytes = wire(&[("{}", b"")]);
        bytes.extend_from_slice(&wire(&[("{}", b"x")]));
        decoder.feed(&bytes);
        let kinds: Vec<_> = std::iter::from_fn(|| decoder.next_item()).collect();
        assert!(matches!(kinds[2], Item::Broken(_)));
        assert!(matches!(kinds[3], Item::Preamble(_)));
        assert!(matches!(&kinds[4], Item::Frame(frame) if frame.payload == b"x"));
    }
}
