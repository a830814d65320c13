//! The one connection to the host: bytes in, frames out. Its state is dropped and made anew by every preamble.

use crate::frame::{self, Decoder, Item, MAGIC, NONCE_BYTES};
use crate::json::Value;
use crate::sys::{self, Io};
use std::collections::BTreeMap;
use std::os::unix::io::{AsRawFd, OwnedFd};

/// Stream data is queued only below this, so that answers never wait behind much of it.
pub const OUT_SOFT_BYTES: usize = 128 * 1024;
/// Above this no requests are read until the host takes answers.
pub const OUT_HARD_BYTES: usize = 1024 * 1024;

/// Which end of a stream this side holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Data flows to the host, from this source.
    Out(u64),
    /// Data flows from the host, into this sink.
    In(u64),
}

pub struct Connection {
    pub fd: OwnedFd,
    decoder: Decoder,
    out: Vec<u8>,
    out_start: usize,
    pub readable: bool,
    pub writable: bool,
    /// The transport is gone; a socket is then closed, a port waits for its next opening.
    pub hung_up: bool,
    /// Counts preambles and hang-ups; answers to requests of an older one are dropped.
    pub generation: u64,
    pub greeted: bool,
    pub streams: BTreeMap<u32, End>,
}

impl Connection {
    pub fn new(fd: OwnedFd, generation: u64) -> Connection {
        Connection {
            fd,
            decoder: Decoder::default(),
            out: Vec::new(),
            out_start: 0,
            readable: true,
            writable: true,
            hung_up: false,
            generation,
            greeted: false,
            streams: BTreeMap::new(),
        }
    }

    /// Forgets all state of the dialogue; the caller has detached the streams.
    pub fn reset(&mut self) {
        self.generation += 1;
        self.greeted = false;
        self.streams.clear();
        self.out = Vec::new();
        self.out_start = 0;
    }

    pub fn resync(&mut self) {
        self.decoder.resync();
    }

    /// Looks for a preamble from here on, in what has come already too.
    pub fn scan(&mut self) {
        self.decoder.scan_on();
    }

    pub fn answer_preamble(&mut self, nonce: &[u8; NONCE_BYTES]) {
        self.out.extend_from_slice(MAGIC);
        self.out.extend_from_slice(nonce);
    }

    pub fn send(&mut self, header: &Value) {
        frame::encode(&header.to_bytes(), &[], &mut self.out);
    }

    pub fn send_data(&mut self, stream: u32, at: u64, parts: (&[u8], &[u8])) {
        let header = format!("{{\"s\":{},\"at\":{}}}", stream, at);
        frame::encode(header.as_bytes(), &[parts.0, parts.1], &mut self.out);
    }

    pub fn backlog(&self) -> usize {
        self.out.len() - self.out_start
    }

    /// Reads one piece into the decoder. False when there is nothing more for now.
    pub fn read(&mut self, scratch: &mut [u8]) -> bool {
        if !self.readable || self.hung_up || self.backlog() > OUT_HARD_BYTES {
            return false;
        }
        match sys::read_some(self.fd.as_raw_fd(), scratch) {
            Io::Done(0) => self.hung_up = true,
            Io::Done(count) => {
                self.decoder.feed(&scratch[..count]);
                return true;
            }
            Io::Blocked => self.readable = false,
            Io::Failed(_) => self.hung_up = true,
        }
        false
    }

    pub fn next_item(&mut self) -> Option<Item> {
        self.decoder.next_item()
    }

    /// Writes what the transport takes.
    pub fn flush(&mut self) {
        while self.writable && !self.hung_up && self.out_start < self.out.len() {
            match sys::write_some(self.fd.as_raw_fd(), &self.out[self.out_start..]) {
                Io::Done(count) => self.out_start += count,
                Io::Blocked => self.writable = false,
                Io::Failed(_) => self.hung_up = true,
            }
        }
        if self.out_start == self.out.len() {
            self.out.clear();
            self.out_start = 0;
            if self.out.capacity() > 2 * OUT_SOFT_BYTES {
                self.out = Vec::new();
            }
        } else if self.out_start > OUT_SOFT_BYTES {
            self.out.drain(..self.out_start);
            self.out_start = 0;
        }
    }
}
