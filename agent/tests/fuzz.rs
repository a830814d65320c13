//! Mutated input for everything that reads bytes of others: frames, JSON, archives. The generator is deterministic, so
//! a failure comes back; none of the readers may panic, and what they accept must be what was written.

use cryobox_agent::frame::{self, Decoder, Item, MAGIC, NONCE_BYTES};
use cryobox_agent::json::{self, Value};
use cryobox_agent::tar_format::{self, Entry, Kind, TarReader, BLOCK};
use std::io::Read;

const ROUNDS: u64 = 30_000;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit.max(1)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most + 1);
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// Flips, removes, repeats or inserts a few bytes.
    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                1 if !bytes.is_empty() => bytes[at] = [0, 0xff, b'"', b'\\', b'9'][self.below(5)],
                2 => bytes.truncate(at),
                3 => {
                    let piece = self.bytes(20);
                    bytes.splice(at..at, piece);
                }
                _ => {
                    let end = (at + self.below(40)).min(bytes.len());
                    let piece = bytes[at..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth > 4 { 5 } else { 7 }) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => Value::Int(self.next() as i64),
            3 => Value::Float(self.below(1000) as f64 + 0.25),
            4 => Value::Str(self.bytes(30)),
            5 => Value::Arr((0..self.below(5)).map(|_| self.value(depth + 1)).collect()),
            _ => Value::Obj(
                (0..self.below(5))
                    .map(|_| (self.bytes(8), self.value(depth + 1)))
                    .collect(),
            ),
        }
    }
}

#[test]
fn json_reads_back_what_it_writes_and_survives_the_rest() {
    let mut random = Random(1);
    for _ in 0..ROUNDS {
        let value = random.value(0);
        let mut text = value.to_bytes();
        assert!(std::str::from_utf8(&text).is_ok());
        assert_eq!(json::parse(&text), Ok(value));
        random.mutate(&mut text);
        if let Ok(other) = json::parse(&text) {
            // A whole number written as 1.0 comes back as 1: the text is what must not change.
            let text = other.to_bytes();
            assert_eq!(json::parse(&text).map(|again| again.to_bytes()), Ok(text));
        }
    }
}

#[test]
fn frames_survive_and_a_preamble_always_gets_through() {
    let mut random = Random(2);
    for round in 0..ROUNDS {
        let mut wire = MAGIC.to_vec();
        wire.extend_from_slice(&[1; NONCE_BYTES]);
        for _ in 0..random.below(4) {
            let header = Value::Obj(vec![(b"id".to_vec(), random.value(1))]);
            let payload = random.bytes(300);
            frame::encode(&header.to_bytes(), &[&payload], &mut wire);
        }
        random.mutate(&mut wire);
        // What a client sends after an unanswered preamble: filler, then another one (docs/PROTOCOL.md, section 3).
        let filler = 2 * frame::MAX_PAYLOAD_BYTES + 4096;
        if round % 50 == 0 {
            wire.resize(wire.len() + filler, 0xff);
            wire.extend_from_slice(MAGIC);
            wire.extend_from_slice(&[2; NONCE_BYTES]);
        }
        let mut decoder = Decoder::default();
        let mut last = None;
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let count = (1 + random.below(9000)).min(rest.len());
            decoder.feed(&rest[..count]);
            rest = &rest[count..];
            while let Some(item) = decoder.next_item() {
                last = Some(item);
            }
        }
        if round % 50 == 0 {
            assert_eq!(last, Some(Item::Preamble([2; NONCE_BYTES])));
        }
    }
}

#[test]
fn archives_survive() {
    let mut random = Random(3);
    let mut accepted = 0;
    for _ in 0..ROUNDS {
        let mut wire = Vec::new();
        for _ in 0..1 + random.below(3) {
            let content = random.bytes(700);
            let long = random.below(150);
            wire.extend_from_slice(&tar_format::encode(&entry(
                &mut random,
                content.len(),
                long,
            )));
            wire.extend_from_slice(&content);
            wire.resize(wire.len() + tar_format::padding(content.len() as u64), 0);
        }
        wire.resize(wire.len() + 2 * BLOCK, 0);
        if random.below(10) > 0 {
            random.mutate(&mut wire);
        }
        let mut reader = TarReader::new(&wire[..]);
        let mut read = 0;
        while let Ok(Some(entry)) = reader.next_entry() {
            assert!(!entry.path.is_empty() && entry.path.len() <= 4096);
            let mut content = Vec::new();
            if reader.read_to_end(&mut content).is_ok() {
                accepted += 1;
            }
            read += content.len();
        }
        assert!(read <= wire.len());
    }
    assert!(accepted > ROUNDS as usize / 10);
}

fn entry(random: &mut Random, size: usize, long: usize) -> Entry {
    Entry {
        path: [&b"dir/"[..], &vec![b'n'; long + 1]].concat(),
        kind: Kind::File,
        mode: random.below(0o7777) as u32,
        uid: random.next() as u32,
        gid: random.next() as u32,
        size: size as u64,
        mtime: (
            random.below(1 << 30) as i64,
            random.below(1_000_000_000) as i64,
        ),
        link: Vec::new(),
        device: (0, 0),
        xattrs: if random.below(2) == 0 {
            Vec::new()
        } else {
            vec![(b"user.x".to_vec(), random.bytes(40))]
        },
    }
}
