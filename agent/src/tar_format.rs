//! The tar format as far as it is read and written here: ustar headers (POSIX.1-1988), pax extended headers
//! (POSIX.1-2001, pax), and GNU long names on reading.

use crate::failure::{Failure, Outcome};
use std::io::{self, Read};

pub const BLOCK: usize = 512;
/// Extended headers and long names beyond this are refused: they are held in memory.
const MOST_EXTENDED_BYTES: u64 = 1024 * 1024;
/// PATH_MAX of Linux.
const MOST_PATH_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    pub mtime: (i64, i64),
    pub link: Vec<u8>,
    pub device: (u32, u32),
    /// Extended attributes: name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, i64)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads an archive entry by entry, in bounded memory.
pub struct TarReader<R: Read> {
    input: R,
    /// Bytes of the current entry not yet read, and the padding after them.
    data: u64,
    padding: u64,
}

fn bad(what: impl Into<String>) -> Failure {
    Failure::invalid(format!("the archive is damaged: {}", what.into()))
}

impl<R: Read> TarReader<R> {
    pub fn new(input: R) -> TarReader<R> {
        TarReader {
            input,
            data: 0,
            padding: 0,
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Outcome<usize> {
        let mut got = 0;
        while got < buffer.len() {
            match self.input.read(&mut buffer[got..]) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io("reading the archive", &error)),
            }
        }
        Ok(got)
    }

    fn skip(&mut self, mut count: u64) -> Outcome<()> {
        let mut buffer = [0; 8 * BLOCK];
        while count > 0 {
            let wanted = count.min(buffer.len() as u64) as usize;
            if self.fill(&mut buffer[..wanted])? != wanted {
                return Err(bad("it ends within an entry"));
            }
            count -= wanted as u64;
        }
        Ok(())
    }

    /// The next entry, past what is left of the one before. None at the end.
    pub fn next_entry(&mut self) -> Outcome<Option<Entry>> {
        let mut extended = Extended::default();
        let mut global = false;
        loop {
            let rest = self.data + self.padding;
            self.skip(rest)?;
            self.data = 0;
            self.padding = 0;
            let mut header = [0; BLOCK];
            match self.fill(&mut header)? {
                0 => return self.end(global),
                BLOCK => {}
                _ => return Err(bad("it ends within a header")),
            }
            if header.iter().all(|byte| *byte == 0) {
                return self.end(global);
            }
            check_sum(&header)?;
            let size = number(&header[124..136]).ok_or_else(|| bad("an entry without a size"))?;
            match header[156] {
                b'x' => read_pax(&self.extension(size)?, &mut extended)?,
                b'g' => {
                    self.extension(size)?;
                }
                b'L' => extended.path = Some(until_nul(&self.extension(size)?).to_vec()),
                b'K' => extended.link = Some(until_nul(&self.extension(size)?).to_vec()),
                _ => return self.entry(&header, size, extended).map(Some),
            }
            global = header[156] != b'g';
        }
    }

    fn end(&mut self, dangling: bool) -> Outcome<Option<Entry>> {
        if dangling {
            return Err(bad("an extended header without its entry"));
        }
        Ok(None)
    }

    /// Reads what follows the end mark, so that the sender is not cut off.
    pub fn drain(&mut self) -> Outcome<()> {
        let mut buffer = [0; 8 * BLOCK];
        while self.fill(&mut buffer)? > 0 {}
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Outcome<Vec<u8>> {
        if size > MOST_EXTENDED_BYTES {
            return Err(bad(format!("an extended header of {} bytes", size)));
        }
        let mut content = vec![0; size as usize];
        if self.fill(&mut content)? != content.len() {
            return Err(bad("it ends within an extended header"));
        }
        self.skip(pad(size))?;
        Ok(content)
    }

    fn entry(&mut self, header: &[u8; BLOCK], size: u64, extended: Extended) -> Outcome<Entry> {
        let kind = match header[156] {
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::Character,
            b'4' => Kind::Block,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let message = format!(
                    "an archive entry of type {:?} is not supported",
                    other as char
                );
                return Err(Failure::new("unsupported", message));
            }
        };
        let path = extended.path.unwrap_or_else(|| ustar_path(header));
        let link = extended
            .link
            .unwrap_or_else(|| until_nul(&header[157..257]).to_vec());
        if path.is_empty() || path.len() > MOST_PATH_BYTES || link.len() > MOST_PATH_BYTES {
            return Err(bad("an entry whose name is empty or too long"));
        }
        if path.contains(&0) || link.contains(&0) {
            return Err(bad("a name with a NUL byte"));
        }
        // Old archives mark directories by the slash only.
        let kind = if kind == Kind::File && path.ends_with(b"/") {
            Kind::Directory
        } else {
            kind
        };
        let size = extended.size.unwrap_or(size);
        if size > i64::MAX as u64 {
            return Err(bad("an entry of impossible size"));
        }
        self.data = size;
        self.padding = pad(size);
        let field = |from: usize, to: usize| number(&header[from..to]).unwrap_or(0);
        Ok(Entry {
            path,
            kind,
            mode: field(100, 108) as u32 & 0o7777,
            uid: extended.uid.unwrap_or(field(108, 116) as u32),
            gid: extended.gid.unwrap_or(field(116, 124) as u32),
            size: if kind == Kind::File { size } else { 0 },
            mtime: extended.mtime.unwrap_or((signed(&header[136..148]), 0)),
            link,
            device: (field(329, 337) as u32, field(337, 345) as u32),
            xattrs: extended.xattrs,
        })
    }
}

/// The content of the current entry.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = self.data.min(buffer.len() as u64) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends within a file",
            ));
        }
        self.data -= count as u64;
        Ok(count)
    }
}

fn pad(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or(&[])
}

fn ustar_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = until_nul(&header[0..100]);
    // GNU headers ("ustar  ") use the place of the prefix for other things.
    let prefix = if &header[257..263] == b"ustar\0" {
        until_nul(&header[345..500])
    } else {
        &[]
    };
    if prefix.is_empty() {
        name.to_vec()
    } else {
        [prefix, b"/", name].concat()
    }
}

/// Octal text, or base 256 where the first bit is set (GNU).
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let mut value = (field[0] & 0x7f) as u64;
        for byte in &field[1..] {
            if value >> 55 != 0 {
                return None;
            }
            value = value << 8 | *byte as u64;
        }
        return Some(value);
    }
    let text = std::str::from_utf8(until_nul(field))
        .ok()?
        .trim_matches(' ');
    if text.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(text, 8).ok()
}

/// As `number`, for times before 1970 in base 256.
fn signed(field: &[u8]) -> i64 {
    if field[0] == 0xff {
        let tail = &field[field.len() - 8..];
        return <[u8; 8]>::try_from(tail).map_or(0, i64::from_be_bytes);
    }
    number(field)
        .and_then(|value| i64::try_from(value).ok())
        .unwrap_or(0)
}

fn check_sum(header: &[u8; BLOCK]) -> Outcome<()> {
    let written = number(&header[148..156]);
    let sum: u64 = header
        .iter()
        .enumerate()
        .map(|(index, byte)| {
            if (148..156).contains(&index) {
                32
            } else {
                *byte as u64
            }
        })
        .sum();
    if written == Some(sum) {
        Ok(())
    } else {
        Err(bad("a header with a wrong checksum"))
    }
}

/// Records `LENGTH KEY=VALUE\n` of a pax extended header.
fn read_pax(content: &[u8], extended: &mut Extended) -> Outcome<()> {
    let mut rest = content;
    while !rest.is_empty() {
        let space = rest
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(|| bad("a pax record"))?;
        let length =
            decimal(&rest[..space]).ok_or_else(|| bad("a pax record without a length"))? as usize;
        if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
            return Err(bad("a pax record of wrong length"));
        }
        let record = &rest[space + 1..length - 1];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(|| bad("a pax record"))?;
        apply_pax(&record[..equals], &record[equals + 1..], extended)?;
        rest = &rest[length..];
    }
    Ok(())
}

fn apply_pax(key: &[u8], value: &[u8], extended: &mut Extended) -> Outcome<()> {
    let wrong = || bad(format!("a pax record {}", String::from_utf8_lossy(key)));
    let id = || {
        decimal(value)
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(wrong)
    };
    match key {
        b"path" => extended.path = Some(value.to_vec()),
        b"linkpath" => extended.link = Some(value.to_vec()),
        b"size" => extended.size = Some(decimal(value).ok_or_else(wrong)?),
        b"uid" => extended.uid = Some(id()?),
        b"gid" => extended.gid = Some(id()?),
        b"mtime" => extended.mtime = Some(pax_time(value).ok_or_else(wrong)?),
        _ if key.starts_with(b"GNU.sparse.") => {
            return Err(Failure::new(
                "unsupported",
                "sparse files in archives are not supported",
            ))
        }
        _ => {
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                extended.xattrs.push((name.to_vec(), value.to_vec()));
            }
        }
    }
    Ok(())
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional fraction, as (seconds, nanoseconds).
fn pax_time(text: &[u8]) -> Option<(i64, i64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

/// The header blocks of an entry: ustar where it fits, with a pax header before it where not.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    let records = pax_records(entry);
    if !records.is_empty() {
        let named = Entry {
            path: b"PaxHeaders/entry".to_vec(),
            link: Vec::new(),
            size: records.len() as u64,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: (0, 0),
            xattrs: Vec::new(),
            ..entry.clone()
        };
        ustar(&named, b'x', &mut out);
        out.extend_from_slice(&records);
        out.resize(out.len() + pad(records.len() as u64) as usize, 0);
    }
    let flag = match entry.kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::Character => b'3',
        Kind::Block => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    };
    ustar(entry, flag, &mut out);
    out
}

/// Zero bytes after the content of a file of this size.
pub fn padding(size: u64) -> usize {
    pad(size) as usize
}

fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |key: &[u8], value: &[u8]| {
        // The length counts its own digits.
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        records.extend_from_slice(length.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(key);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    if entry.path.len() > 100 {
        add(b"path", &entry.path);
    }
    if entry.link.len() > 100 {
        add(b"linkpath", &entry.link);
    }
    if entry.size >= 1 << 33 {
        add(b"size", entry.size.to_string().as_bytes());
    }
    if entry.uid >= 1 << 21 {
        add(b"uid", entry.uid.to_string().as_bytes());
    }
    if entry.gid >= 1 << 21 {
        add(b"gid", entry.gid.to_string().as_bytes());
    }
    let (seconds, nanoseconds) = entry.mtime;
    if seconds >= 0 && (nanoseconds != 0 || seconds >= 1 << 33) {
        add(
            b"mtime",
            format!("{}.{:09}", seconds, nanoseconds).as_bytes(),
        );
    }
    for (name, value) in &entry.xattrs {
        add(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

fn ustar(entry: &Entry, flag: u8, out: &mut Vec<u8>) {
    let mut header = [0u8; BLOCK];
    let mut text = |at: usize, most: usize, value: &[u8]| {
        let count = value.len().min(most);
        header[at..at + count].copy_from_slice(&value[..count]);
    };
    let octal =
        |value: u64, digits: usize| format!("{:0width$o}", value, width = digits).into_bytes();
    let fitting = |value: u64, bits: u32| if value >> bits == 0 { value } else { 0 };
    text(0, 100, &entry.path);
    text(100, 7, &octal(entry.mode as u64 & 0o7777, 7));
    text(108, 7, &octal(fitting(entry.uid as u64, 21), 7));
    text(116, 7, &octal(fitting(entry.gid as u64, 21), 7));
    text(124, 11, &octal(fitting(entry.size, 33), 11));
    text(
        136,
        11,
        &octal(fitting(entry.mtime.0.max(0) as u64, 33), 11),
    );
    text(148, 8, b"        ");
    text(156, 1, &[flag]);
    text(157, 100, &entry.link);
    text(257, 8, b"ustar\x0000");
    text(329, 7, &octal(fitting(entry.device.0 as u64, 21), 7));
    text(337, 7, &octal(fitting(entry.device.1 as u64, 21), 7));
    let sum: u64 = header.iter().map(|byte| *byte as u64).sum();
    header[148..156].copy_from_slice(format!("{:06o}\0 ", sum).as_bytes());
    out.extend_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &[u8]) -> Entry {
        Entry {
            path: path.to_vec(),
            kind: Kind::File,
            mode: 0o4755,
            uid: 1000,
            gid: 3_000_000,
            size: 0,
            mtime: (1_700_000_000, 123_456_789),
            link: Vec::new(),
            device: (0, 0),
            xattrs: vec![(b"user.note".to_vec(), b"a=b\n\0c".to_vec())],
        }
    }

    #[test]
    fn reads_back_what_it_writes() {
        for length in [1, 99, 100, 101, 255, 4000] {
            let written = entry(&vec![b'a'; length]);
            let mut bytes = encode(&written);
            bytes.extend_from_slice(&[0; 2 * BLOCK]);
            let mut reader = TarReader::new(&bytes[..]);
            assert_eq!(reader.next_entry().unwrap().unwrap(), written);
            assert_eq!(reader.next_entry().unwrap(), None);
        }
    }

    #[test]
    fn refuses_damage() {
        let mut bytes = encode(&entry(b"a"));
        bytes[3] ^= 1;
        assert!(TarReader::new(&bytes[..])
            .next_entry()
            .unwrap_err()
            .message
            .contains("checksum"));
        let whole = encode(&entry(b"a"));
        for cut in [1, 511, 600, 1100, 1500] {
            assert!(
                TarReader::new(&whole[..cut]).next_entry().is_err(),
                "cut at {}",
                cut
            );
        }
    }

    #[test]
    fn reads_times_before_the_epoch() {
        assert_eq!(pax_time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(pax_time(b"3"), Some((3, 0)));
        assert_eq!(pax_time(b"x"), None);
    }
}
