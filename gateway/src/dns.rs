//! DNS messages (RFC 1035), as much as a forwarder needs: one question, and addresses of an answer.

use crate::rules::normal_name;
use std::net::Ipv4Addr;

pub const A: u16 = 1;
pub const CNAME: u16 = 5;
pub const AAAA: u16 = 28;
pub const SVCB: u16 = 64;
pub const HTTPS: u16 = 65;
const OPT: u16 = 41;
const IN: u16 = 1;

pub const NOERROR: u8 = 0;
pub const FORMERR: u8 = 1;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;
pub const NOTIMP: u8 = 4;
pub const REFUSED: u8 = 5;

/// Largest answer by UDP that surely arrives (DNS Flag Day 2020).
pub const MAX_UDP: usize = 1232;
/// Answers to one question that are kept.
const MAX_RECORDS: usize = 128;

/// A question of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u16,
    /// In lower case, without a dot at its end; empty: the root.
    pub name: String,
    pub kind: u16,
    /// The question as it came.
    bytes: Vec<u8>,
    recursion: bool,
    /// What the guest takes by UDP.
    pub udp_bytes: usize,
    has_options: bool,
}

/// Why a message is not answered as a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Bad {
    /// Nothing can be said to it.
    Silent,
    Answer(Vec<u8>),
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let piece = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(piece)
    }

    fn u16(&mut self) -> Option<u16> {
        let piece = self.take(2)?;
        Some(u16::from_be_bytes([piece[0], piece[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    /// A name, its labels with dots between them; pointers lead backwards only, so it ends.
    fn name(&mut self) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        let mut at = self.at;
        let mut limit = self.at;
        let mut jumped = false;
        loop {
            let length = usize::from(*self.bytes.get(at)?);
            if length & 0xc0 == 0xc0 {
                let target = (length & 0x3f) << 8 | usize::from(*self.bytes.get(at + 1)?);
                if !jumped {
                    self.at = at + 2;
                }
                if target >= limit {
                    return None;
                }
                (at, limit, jumped) = (target, target, true);
                continue;
            }
            if length > 63 {
                return None;
            }
            at += 1;
            if length == 0 {
                break;
            }
            let label = self.bytes.get(at..at + length)?;
            // A dot or NUL inside a label would read as another name.
            if label.iter().any(|byte| matches!(byte, b'.' | 0)) {
                return None;
            }
            if !name.is_empty() {
                name.push(b'.');
            }
            name.extend_from_slice(label);
            at += length;
            if name.len() > 255 {
                return None;
            }
        }
        if !jumped {
            self.at = at;
        }
        Some(name)
    }
}

/// Reads a question. One question, the Internet's class, opcode 0; everything else gets an answer that says so.
pub fn parse_question(message: &[u8]) -> Result<Question, Bad> {
    let mut reader = Reader {
        bytes: message,
        at: 0,
    };
    let header = reader.take(12).ok_or(Bad::Silent)?;
    let id = u16::from_be_bytes([header[0], header[1]]);
    if header[2] & 0x80 != 0 {
        return Err(Bad::Silent);
    }
    let short = |code: u8| {
        let flags = [0x80 | (header[2] & 0x79), code];
        Bad::Answer([&header[..2], &flags, &[0; 8]].concat())
    };
    if header[2] & 0x78 != 0 {
        return Err(short(NOTIMP));
    }
    if header[4..6] != [0, 1] {
        return Err(short(FORMERR));
    }
    let name = reader.name().ok_or_else(|| short(FORMERR))?;
    let kind = reader.u16().ok_or_else(|| short(FORMERR))?;
    let class = reader.u16().ok_or_else(|| short(FORMERR))?;
    let bytes = message[12..reader.at].to_vec();
    if class != IN {
        return Err(short(REFUSED));
    }
    let name = match name.is_empty() {
        true => String::new(),
        false => normal_name(&name).ok_or_else(|| short(NXDOMAIN))?,
    };
    let (udp_bytes, has_options) = match options(&mut reader, header) {
        Some(size) => (usize::from(size).clamp(512, MAX_UDP), true),
        None => (512, false),
    };
    Ok(Question {
        id,
        name,
        kind,
        bytes,
        recursion: header[2] & 1 != 0,
        udp_bytes,
        has_options,
    })
}

/// The size in the OPT record (RFC 6891) that comes first behind the question.
fn options(reader: &mut Reader, header: &[u8]) -> Option<u16> {
    if header[6..10] != [0; 4] || header[10..12] == [0; 2] {
        return None;
    }
    reader.name().filter(|name| name.is_empty())?;
    let kind = reader.u16()?;
    let size = reader.u16()?;
    (kind == OPT).then_some(size)
}

impl Question {
    /// For asking a name without a guest that asks.
    pub fn of(name: &str, kind: u16) -> Question {
        let mut bytes = Vec::new();
        for label in name.split('.') {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(IN.to_be_bytes());
        Question {
            id: 0,
            name: name.to_string(),
            kind,
            bytes,
            recursion: true,
            udp_bytes: MAX_UDP,
            has_options: true,
        }
    }

    /// The message that asks an upstream server.
    pub fn ask(&self, id: u16) -> Vec<u8> {
        let mut out = id.to_be_bytes().to_vec();
        out.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 1]);
        out.extend(&self.bytes);
        // An OPT record with our size.
        out.push(0);
        out.extend(OPT.to_be_bytes());
        out.extend((MAX_UDP as u16).to_be_bytes());
        out.extend([0; 6]);
        out
    }

    fn head(&self, code: u8, answers: usize) -> Vec<u8> {
        let mut out = self.id.to_be_bytes().to_vec();
        out.extend([0x80 | u8::from(self.recursion), 0x80 | code, 0, 1]);
        out.extend((answers as u16).to_be_bytes());
        out.extend([0, 0, 0, u8::from(self.has_options)]);
        out.extend(&self.bytes);
        out
    }

    fn tail(&self, out: &mut Vec<u8>, option: &[u8]) {
        if self.has_options {
            out.push(0);
            out.extend(OPT.to_be_bytes());
            out.extend((MAX_UDP as u16).to_be_bytes());
            out.extend([0; 4]);
            out.extend((option.len() as u16).to_be_bytes());
            out.extend_from_slice(option);
        }
    }

    /// An answer without records.
    pub fn answer_code(&self, code: u8) -> Vec<u8> {
        let mut out = self.head(code, 0);
        self.tail(&mut out, &[]);
        out
    }

    /// There is no such name for this box: with the extended error "blocked" (RFC 8914, section 4.16).
    pub fn answer_blocked(&self) -> Vec<u8> {
        let mut out = self.head(NXDOMAIN, 0);
        self.tail(&mut out, &[0, 15, 0, 2, 0, 15]);
        out
    }

    pub fn answer_addresses(&self, addresses: &[(Ipv4Addr, u32)]) -> Vec<u8> {
        let mut out = self.head(NOERROR, addresses.len());
        for (address, ttl) in addresses {
            // The name is that of the question.
            out.extend([0xc0, 12]);
            out.extend(A.to_be_bytes());
            out.extend(IN.to_be_bytes());
            out.extend(ttl.to_be_bytes());
            out.extend([0, 4]);
            out.extend(address.octets());
        }
        self.tail(&mut out, &[]);
        out
    }

    /// An answer of an upstream server, with the guest's number.
    pub fn answer_as_it_is(&self, message: &[u8]) -> Vec<u8> {
        let mut out = message.to_vec();
        out[..2].copy_from_slice(&self.id.to_be_bytes());
        out
    }

    /// What goes by UDP: an answer that is too long is asked for again by TCP.
    pub fn for_udp(&self, answer: Vec<u8>) -> Vec<u8> {
        if answer.len() <= self.udp_bytes {
            return answer;
        }
        let mut short = self.answer_code(answer[3] & 15);
        short[2] |= 2;
        short
    }
}

/// An answer of an upstream server.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub code: u8,
    pub is_truncated: bool,
    /// Addresses of the name that was asked, by way of its aliases, and how long each may be kept (seconds).
    pub addresses: Vec<(Ipv4Addr, u32)>,
}

/// Reads the answer to a question that was asked with a number; None when it is none.
pub fn parse_answer(message: &[u8], id: u16, question: &Question) -> Option<Answer> {
    let mut reader = Reader {
        bytes: message,
        at: 0,
    };
    let header = reader.take(12)?;
    let is_ours = header[..2] == id.to_be_bytes() && header[2] & 0x80 != 0;
    if !is_ours || header[4..6] != [0, 1] {
        return None;
    }
    let name = reader.name()?;
    if !is_same(&name, &question.name) || reader.u16()? != question.kind || reader.u16()? != IN {
        return None;
    }
    let mut answer = Answer {
        code: header[3] & 15,
        is_truncated: header[2] & 2 != 0,
        addresses: Vec::new(),
    };
    let count = usize::from(u16::from_be_bytes([header[6], header[7]])).min(MAX_RECORDS);
    let mut name = name;
    for _ in 0..count {
        let owner = match reader.name() {
            Some(owner) => owner,
            None => break,
        };
        let (kind, class) = (reader.u16()?, reader.u16()?);
        let ttl = reader.u32()?;
        let length = usize::from(reader.u16()?);
        let end = reader.at + length;
        let is_next = class == IN && owner.eq_ignore_ascii_case(&name);
        match kind {
            A if is_next && length == 4 => {
                let bytes = reader.take(4)?;
                let address = Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
                answer.addresses.push((address, ttl));
            }
            // Aliases come in the order in which they lead on.
            CNAME if is_next => name = reader.name()?,
            _ => (),
        }
        if end > message.len() {
            break;
        }
        reader.at = end;
    }
    Some(answer)
}

fn is_same(name: &[u8], wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(name: &str, kind: u16) -> Question {
        let asked = Question::of(name, kind).ask(7);
        parse_question(&asked).unwrap()
    }

    #[test]
    fn reads_its_own_questions() {
        let question = question("a.b.test", A);
        assert_eq!(
            (question.id, question.name.as_str(), question.kind),
            (7, "a.b.test", A)
        );
        assert!(question.has_options);
        let answer = question.answer_addresses(&[(Ipv4Addr::new(1, 2, 3, 4), 60)]);
        let read = parse_answer(&answer, 7, &question).unwrap();
        assert_eq!(read.addresses, [(Ipv4Addr::new(1, 2, 3, 4), 60)]);
        assert_eq!(parse_answer(&answer, 8, &question), None);
        let other = Question::of("b.b.test", A);
        assert_eq!(parse_answer(&answer, 7, &other), None);
        assert_eq!(
            parse_answer(&question.answer_blocked(), 7, &question)
                .unwrap()
                .code,
            NXDOMAIN
        );
    }

    #[test]
    fn follows_aliases_and_nothing_else() {
        let question = question("a.test", A);
        let mut message = question.head(NOERROR, 4);
        let record = |owner: &str, kind: u16, data: &[u8]| {
            let name = Question::of(owner, A).bytes;
            let mut out = name[..name.len() - 4].to_vec();
            out.extend(kind.to_be_bytes());
            out.extend([0, 1, 0, 0, 0, 9, 0, data.len() as u8]);
            out.extend(data);
            out
        };
        let alias = Question::of("c.test", A).bytes;
        message.extend(record("a.test", CNAME, &alias[..alias.len() - 4]));
        message.extend(record("evil.test", A, &[6, 6, 6, 6]));
        message.extend(record("C.test", A, &[1, 1, 1, 1]));
        message.extend(record("a.test", A, &[7, 7, 7, 7]));
        let answer = parse_answer(&message, 7, &question).unwrap();
        assert_eq!(answer.addresses, [(Ipv4Addr::new(1, 1, 1, 1), 9)]);
    }

    #[test]
    fn refuses_what_is_no_single_question() {
        let asked = Question::of("a.test", A).ask(1);
        for (at, value, code) in [
            (5, 2, FORMERR),
            (2, 0x10, NOTIMP),
            (asked.len() - 12, 3, REFUSED),
        ] {
            let mut message = asked.clone();
            message[at] = value;
            match parse_question(&message) {
                Err(Bad::Answer(answer)) => assert_eq!(answer[3] & 15, code),
                other => panic!("{:?}", other),
            }
        }
        assert_eq!(parse_question(&asked[..11]), Err(Bad::Silent));
        // A pointer to itself.
        let mut looped = asked[..12].to_vec();
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        assert!(parse_question(&looped).is_err());
    }

    #[test]
    fn cuts_what_is_too_long_for_udp() {
        let question = question("a.test", A);
        let many: Vec<(Ipv4Addr, u32)> = (0..100).map(|n| (Ipv4Addr::from(n), 1)).collect();
        let answer = question.for_udp(question.answer_addresses(&many));
        assert!(answer.len() < 512 && answer[2] & 2 != 0);
    }
}
