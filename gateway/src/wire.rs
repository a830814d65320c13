//! The connection to the machine's card: QEMU's `-netdev stream` carries Ethernet frames, each behind its length as
//! four bytes, the highest first (net/stream.c of QEMU).

use crate::queue::Queue;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

/// An Ethernet header and the largest IPv4 packet.
pub const MAX_FRAME: usize = 14 + 65_535;
/// More is not put on the wire at once: who sends waits until the guest has taken some.
const FULL: usize = 2 * 1024 * 1024;
/// Above this frames are dropped, as every Ethernet may.
const MOST: usize = 2 * FULL;
const READ_BYTES: usize = 256 * 1024;

/// Frames of a stream of bytes.
#[derive(Default)]
pub struct Deframer {
    pending: Queue,
}

impl Deframer {
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.push(bytes);
    }

    /// The next whole frame. An error: what comes is no frame, and nothing after it can be understood.
    pub fn frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        let bytes = self.pending.as_slice();
        if bytes.len() < 4 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if length > MAX_FRAME {
            let what = format!("a frame of {} bytes, at most {} are", length, MAX_FRAME);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if bytes.len() < 4 + length {
            return Ok(None);
        }
        let frame = bytes[4..4 + length].to_vec();
        self.pending.consume(4 + length);
        Ok(Some(frame))
    }
}

/// The wire to the card.
pub struct Wire {
    pub stream: UnixStream,
    frames: Deframer,
    out: Queue,
    buffer: Vec<u8>,
}

impl Wire {
    pub fn new(stream: UnixStream) -> io::Result<Wire> {
        stream.set_nonblocking(true)?;
        Ok(Wire {
            stream,
            frames: Deframer::default(),
            out: Queue::default(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Reads what is there. False: the card is gone.
    pub fn fill(&mut self) -> io::Result<bool> {
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.frames.push(&self.buffer[..count]);
                Ok(true)
            }
            Err(error) if is_for_later(&error) => Ok(true),
            Err(error) => Err(error),
        }
    }

    pub fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.frames.frame()
    }

    pub fn send(&mut self, frame: &[u8]) {
        if self.out.len() > MOST {
            return;
        }
        self.out.push(&(frame.len() as u32).to_be_bytes());
        self.out.push(frame);
    }

    pub fn is_full(&self) -> bool {
        self.out.len() >= FULL
    }

    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Writes as much as the card takes now.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slice()) {
                Ok(count) => self.out.consume(count),
                Err(error) if is_for_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether a call on a socket that does not block is to be repeated when the socket is ready.
pub fn is_for_later(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_frames_however_they_are_cut() {
        let frames: [&[u8]; 3] = [b"one", b"", b"three"];
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend((frame.len() as u32).to_be_bytes());
            bytes.extend(frame);
        }
        for step in 1..bytes.len() {
            let mut deframer = Deframer::default();
            let mut found = Vec::new();
            for piece in bytes.chunks(step) {
                deframer.push(piece);
                while let Some(frame) = deframer.frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames);
        }
    }

    #[test]
    fn refuses_a_frame_that_is_too_long() {
        let mut deframer = Deframer::default();
        deframer.push(&(MAX_FRAME as u32 + 1).to_be_bytes());
        assert!(deframer.frame().is_err());
    }
}
