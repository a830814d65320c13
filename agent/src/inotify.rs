//! inotify(7): what the kernel tells of watched directories.

use crate::failure::{Context, Failure, Outcome};
use crate::sys;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

pub const MODIFY: u32 = 0x2;
pub const ATTRIB: u32 = 0x4;
pub const MOVED_FROM: u32 = 0x40;
pub const MOVED_TO: u32 = 0x80;
pub const CREATE: u32 = 0x100;
pub const DELETE: u32 = 0x200;
pub const DELETE_SELF: u32 = 0x400;
pub const MOVE_SELF: u32 = 0x800;
pub const UNMOUNT: u32 = 0x2000;
pub const OVERFLOW: u32 = 0x4000;
pub const IGNORED: u32 = 0x8000;
pub const IS_DIRECTORY: u32 = 0x4000_0000;
const ONLY_DIRECTORY: u32 = 0x0100_0000;
const NO_FOLLOW: u32 = 0x0200_0000;
/// Nothing of files that have no name any more, or not yet.
const EXCLUDE_UNLINKED: u32 = 0x0400_0000;

const WANTED: u32 = MODIFY
    | ATTRIB
    | MOVED_FROM
    | MOVED_TO
    | CREATE
    | DELETE
    | DELETE_SELF
    | MOVE_SELF
    | ONLY_DIRECTORY
    | EXCLUDE_UNLINKED;

/// `struct inotify_event` without its name: four numbers of four bytes.
const HEADER_BYTES: usize = 16;
/// Some hundred events at once; the kernel wants room for one with the longest name.
const BUFFER_BYTES: usize = 16 * 1024;

/// One event of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub struct Event {
    /// Which watch it is of; -1 for an overflow.
    pub watch: i32,
    pub mask: u32,
    /// Joins the two halves of a rename.
    pub cookie: u32,
    /// What it is about in the directory; empty for the directory itself.
    pub name: Vec<u8>,
}

pub struct Inotify {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Inotify {
    pub fn open() -> Outcome<Inotify> {
        let flags = sys::O_CLOEXEC | sys::O_NONBLOCK;
        let opened = sys::owned(unsafe { sys::inotify_init1(flags) });
        let fd = match opened {
            Err(error) if error.raw_os_error() == Some(sys::EMFILE) => {
                return Err(Failure::new(
                    "resource_exhausted",
                    "the guest's kernel gives no more watches (fs.inotify.max_user_instances)",
                )
                .hint("Close other watches of the box, or raise the limit by sysctl in it."))
            }
            other => other.context("inotify_init1")?,
        };
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Inotify { fd, buffer })
    }

    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Watches a directory; one that is watched already keeps its number.
    pub fn watch(&self, path: &Path, follow: bool) -> io::Result<i32> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let mask = if follow { WANTED } else { WANTED | NO_FOLLOW };
        sys::check(unsafe { sys::inotify_add_watch(self.fd(), name.as_ptr(), mask) })
    }

    /// Ends a watch, if it is there still.
    pub fn unwatch(&self, watch: i32) {
        unsafe { sys::inotify_rm_watch(self.fd(), watch) };
    }

    /// What has happened; empty when there is nothing more now.
    pub fn read(&mut self) -> io::Result<Vec<Event>> {
        match sys::read_some(self.fd.as_raw_fd(), &mut self.buffer) {
            sys::Io::Done(count) => Ok(parse(&self.buffer[..count])),
            sys::Io::Blocked => Ok(Vec::new()),
            sys::Io::Failed(error) => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn parse(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while bytes.len() >= HEADER_BYTES {
        let number = |at: usize| {
            let part = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
            u32::from_ne_bytes(part)
        };
        let end = (HEADER_BYTES + number(12) as usize).min(bytes.len());
        let padded = &bytes[HEADER_BYTES..end];
        // The name is filled up with NUL bytes.
        let length = padded.iter().position(|byte| *byte == 0);
        events.push(Event {
            watch: number(0) as i32,
            mask: number(4),
            cookie: number(8),
            name: padded[..length.unwrap_or(padded.len())].to_vec(),
        });
        bytes = &bytes[end..];
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(watch: i32, mask: u32, cookie: u32, padded: &[u8]) -> Vec<u8> {
        let mut bytes = watch.to_ne_bytes().to_vec();
        for number in [mask, cookie, padded.len() as u32] {
            bytes.extend(number.to_ne_bytes());
        }
        bytes.extend(padded);
        bytes
    }

    #[test]
    fn parses_events_with_and_without_names() {
        let mut bytes = raw(3, CREATE, 0, b"name\0\0\0\0");
        bytes.extend(raw(-1, OVERFLOW, 0, b""));
        bytes.extend(raw(4, MOVED_TO, 9, b"b\0\0\0"));
        let events = parse(&bytes);
        assert_eq!(events.len(), 3);
        assert_eq!(events[0].name, b"name");
        assert_eq!((events[1].watch, events[1].mask), (-1, OVERFLOW));
        assert_eq!((events[2].cookie, &events[2].name[..]), (9, &b"b"[..]));
    }

    #[test]
    fn takes_nothing_from_what_is_cut_off() {
        assert!(parse(&[0; 15]).is_empty());
        let cut = &raw(1, CREATE, 0, b"name\0\0\0\0")[..18];
        assert_eq!(parse(cut)[0].name, b"na");
    }
}
