//! The two ends of streams on this side: what a source has read and may send, what a sink has taken and must write.

use crate::cancel::Cancel;
use crate::ring::Ring;
use crate::sys::{self, Io};
use std::os::unix::io::{AsRawFd, OwnedFd};
use std::sync::Arc;

/// Bytes a sender may be ahead of its receiver, and what a source keeps for a later attach.
pub const WINDOW: u64 = 256 * 1024;
/// Read from one source before the others get their turn.
const TURN_BYTES: usize = 128 * 1024;
const VEOF: u8 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Exec(u64),
    /// A job or a dialled connection: lives and dies with the host's connection.
    Connection,
}

pub struct Outlet {
    pub stream: u32,
    pub sent: u64,
    /// Up to here the host has taken the bytes.
    pub acked: u64,
    pub end_sent: bool,
}

pub struct Source {
    pub fd: Option<OwnedFd>,
    pub ring: Ring,
    pub readable: bool,
    /// Nothing will be added any more.
    pub ended: bool,
    /// After the process ended: what was in the pipe at that moment and is still to be taken.
    pub remaining: Option<u64>,
    pub terminal: bool,
    pub owner: Owner,
    pub outlet: Option<Outlet>,
    /// Its connection is gone: nothing from this offset on is dropped for a while, so that a host that comes back at
    /// once, as after a pause of the machine, has lost nothing.
    pub held_from: Option<u64>,
    /// The end is held back until the job behind it has succeeded.
    pub hold_end: bool,
    /// Up to here some host has said that it took the bytes.
    pub taken: u64,
    /// Bytes that no host took and that are kept no more.
    pub lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    Pipe,
    Terminal,
    Socket,
}

pub struct Sink {
    pub fd: Option<OwnedFd>,
    pub buffer: Ring,
    pub writable: bool,
    pub ended: bool,
    pub kind: SinkKind,
    pub last_byte: u8,
    pub owner: Owner,
    pub stream: Option<u32>,
    pub granted: u64,
    /// Tells the job behind it that the input was cut off, not ended.
    pub cut_off: Option<Arc<Cancel>>,
}

impl Sink {
    /// Offset up to which input was taken from the host.
    pub fn accepted(&self) -> u64 {
        self.buffer.end()
    }
}

impl Source {
    /// Reads what is there, up to the room for it. True when there is more to read at once.
    pub fn fill(&mut self, scratch: &mut [u8], limit: u64) -> bool {
        let mut turn = 0;
        while self.readable && !self.ended && turn < TURN_BYTES {
            let room = self.room(limit, scratch.len());
            if room == 0 {
                if self.remaining == Some(0) {
                    self.ended = true;
                }
                return false;
            }
            let fd = match &self.fd {
                Some(fd) => fd.as_raw_fd(),
                None => break,
            };
            match sys::read_some(fd, &mut scratch[..room]) {
                Io::Done(count) if count > 0 => {
                    self.take(&scratch[..count], limit);
                    turn += count;
                }
                Io::Blocked => {
                    self.readable = false;
                    self.ended = self.remaining.is_some();
                }
                // End of file; a terminal without processes answers EIO.
                _ => {
                    self.ended = true;
                    self.remaining = None;
                }
            }
        }
        if self.remaining == Some(0) {
            self.ended = true;
        }
        self.readable && !self.ended
    }

    fn room(&self, limit: u64, most: usize) -> usize {
        let room = match &self.outlet {
            None => self.held_from.map_or(most as u64, |floor| {
                limit.saturating_sub(self.ring.end() - floor)
            }),
            Some(outlet) => {
                let floor = if self.owner == Owner::Connection {
                    outlet.sent
                } else {
                    outlet.acked
                };
                limit.saturating_sub(self.ring.end() - floor)
            }
        };
        room.min(most as u64)
            .min(self.remaining.unwrap_or(u64::MAX)) as usize
    }

    fn take(&mut self, bytes: &[u8], limit: u64) {
        if let Some(remaining) = self.remaining.as_mut() {
            *remaining -= bytes.len() as u64;
        }
        let floor = match &self.outlet {
            None => self.held_from.unwrap_or(u64::MAX),
            Some(outlet) if self.owner == Owner::Connection => outlet.sent,
            Some(outlet) => outlet.acked,
        };
        let end = self.ring.end() + bytes.len() as u64;
        let kept_from = end.saturating_sub(limit).min(floor).min(self.ring.end());
        self.lost += kept_from.saturating_sub(self.ring.base().max(self.taken));
        self.ring.drop_until(kept_from);
        self.ring.push(bytes);
    }
}

impl Sink {
    /// Writes what the descriptor takes. Err when it takes no more for ever.
    pub fn step(&mut self) -> Result<(), ()> {
        while self.writable && !self.buffer.is_empty() {
            let fd = match &self.fd {
                Some(fd) => fd.as_raw_fd(),
                None => return Err(()),
            };
            let (first, _) = self.buffer.slices(self.buffer.base(), usize::MAX);
            match sys::write_some(fd, first) {
                Io::Done(count) => {
                    let base = self.buffer.base() + count as u64;
                    self.buffer.drop_until(base);
                }
                Io::Blocked => self.writable = false,
                Io::Failed(_) => return Err(()),
            }
        }
        if self.buffer.is_empty() {
            if self.buffer.capacity() > 16 * 1024 {
                self.buffer.shrink();
            }
            if self.ended {
                self.finish();
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        let fd = match &self.fd {
            Some(fd) => fd.as_raw_fd(),
            None => return,
        };
        match self.kind {
            SinkKind::Pipe => {}
            SinkKind::Socket => {
                unsafe { sys::shutdown(fd, sys::SHUT_WR) };
            }
            SinkKind::Terminal => {
                // The first one hands over an unfinished line, the next is the end.
                let ends: &[u8] = if self.last_byte == b'\n' {
                    &[VEOF]
                } else {
                    &[VEOF, VEOF]
                };
                sys::write_some(fd, ends);
            }
        }
        self.fd = None;
    }
}
