//! Streams: a source is a descriptor whose bytes flow to the host, a sink one that takes bytes from the host. Both
//! are bounded by credit (docs/PROTOCOL.md, section 5).

use crate::agent::{Agent, Timer, Token};
use crate::connection::{End, OUT_SOFT_BYTES};
pub use crate::endpoints::{Outlet, Owner, Sink, SinkKind, Source, WINDOW};
use crate::failure::{Failure, Outcome};
use crate::frame::Frame;
use crate::object;
use crate::ring::Ring;
use crate::sys::{self, Io};
use std::os::unix::io::{AsRawFd, OwnedFd};

/// What each source may hold once all of them together hold [`RINGS_TOTAL_BYTES`].
const SMALL_WINDOW: u64 = 16 * 1024;
/// Above this the agent would take too much of a small guest.
const RINGS_TOTAL_BYTES: usize = 16 * 1024 * 1024;
/// Largest data frame sent: small enough that streams take turns.
const CHUNK: usize = 32 * 1024;
/// How long nothing is dropped after a connection is gone, and after the next one has greeted.
const HOLD_MS: u64 = 2_000;
const HOLD_ATTACH_MS: u64 = 10_000;
/// What is still taken from a terminal after its process ended, should a child keep writing.
const TERMINAL_REST_BYTES: u64 = 1024 * 1024;

impl Agent {
    pub fn add_source(
        &mut self,
        fd: OwnedFd,
        owner: Owner,
        terminal: bool,
    ) -> std::io::Result<u64> {
        sys::set_nonblocking(fd.as_raw_fd())?;
        let id = self.new_key();
        self.watch(&fd, sys::EPOLLIN, Token::Stream(id))?;
        self.sources.insert(
            id,
            Source {
                fd: Some(fd),
                ring: Ring::default(),
                readable: true,
                ended: false,
                remaining: None,
                terminal,
                owner,
                outlet: None,
                held_from: None,
                hold_end: false,
                taken: 0,
                lost: 0,
            },
        );
        Ok(id)
    }

    pub fn add_sink(&mut self, fd: OwnedFd, owner: Owner, kind: SinkKind) -> std::io::Result<u64> {
        sys::set_nonblocking(fd.as_raw_fd())?;
        let id = self.new_key();
        self.watch(&fd, sys::EPOLLOUT, Token::Stream(id))?;
        self.sinks.insert(
            id,
            Sink {
                fd: Some(fd),
                buffer: Ring::default(),
                writable: true,
                ended: false,
                kind,
                last_byte: b'\n',
                owner,
                stream: None,
                granted: WINDOW,
                cut_off: None,
            },
        );
        Ok(id)
    }

    /// Whether the stream ids are free; every id may be used once at a time.
    pub fn check_streams(&self, ids: &[Option<u32>]) -> Outcome<()> {
        for (index, id) in ids.iter().enumerate() {
            let id = match id {
                Some(id) => id,
                None => continue,
            };
            let taken = self
                .connection
                .as_ref()
                .map_or(false, |c| c.streams.contains_key(id));
            if taken || ids[..index].contains(&Some(*id)) {
                return Err(Failure::invalid(format!("stream {} is in use already", id)));
            }
        }
        Ok(())
    }

    /// Joins a source to a stream, from an offset on. Returns the offset where it really starts.
    pub fn attach_source(&mut self, id: u64, stream: u32, from: u64) -> u64 {
        let source = match self.sources.get_mut(&id) {
            Some(source) => source,
            None => return from,
        };
        let at = from.max(source.ring.base()).min(source.ring.end());
        source.held_from = None;
        // Who asks from there has what comes before.
        source.taken = source.taken.max(from.min(source.ring.end()));
        source.outlet = Some(Outlet {
            stream,
            sent: at,
            acked: at,
            end_sent: false,
        });
        if let Some(connection) = self.connection.as_mut() {
            connection.streams.insert(stream, End::Out(id));
        }
        self.busy.insert(id);
        at
    }

    pub fn attach_sink(&mut self, id: u64, stream: u32) {
        if let Some(sink) = self.sinks.get_mut(&id) {
            sink.stream = Some(stream);
            sink.granted = sink.buffer.end() + WINDOW - sink.buffer.len() as u64;
            if let Some(connection) = self.connection.as_mut() {
                connection.streams.insert(stream, End::In(id));
            }
        }
    }

    pub fn detach_source(&mut self, id: u64) {
        if let Some(source) = self.sources.get_mut(&id) {
            if let Some(outlet) = source.outlet.take() {
                self.forget_stream(outlet.stream);
                self.busy.insert(id);
            }
        }
    }

    pub fn detach_sink(&mut self, id: u64) {
        if let Some(sink) = self.sinks.get_mut(&id) {
            if let Some(stream) = sink.stream.take() {
                self.forget_stream(stream);
            }
        }
    }

    fn forget_stream(&mut self, stream: u32) {
        if let Some(connection) = self.connection.as_mut() {
            connection.streams.remove(&stream);
        }
    }

    pub fn remove_source(&mut self, id: u64) {
        self.detach_source(id);
        self.busy.remove(&id);
        if let Some(source) = self.sources.remove(&id) {
            self.ring_bytes -= source.ring.capacity();
        }
    }

    pub fn remove_sink(&mut self, id: u64) {
        self.detach_sink(id);
        if let Some(sink) = self.sinks.remove(&id) {
            // Also an end that has come is cut off while bytes before it have not reached the job.
            if let (Some(cancel), true) = (&sink.cut_off, sink.fd.is_some()) {
                cancel.set();
            }
        }
    }

    /// Detaches a source whose connection is gone, and keeps what its host has not taken.
    fn hold_source(&mut self, id: u64) {
        let acked = self
            .sources
            .get(&id)
            .and_then(|source| source.outlet.as_ref())
            .map(|outlet| outlet.acked);
        self.detach_source(id);
        if let (Some(source), Some(acked)) = (self.sources.get_mut(&id), acked) {
            source.held_from = Some(acked.max(source.ring.base()));
            self.hold_for(HOLD_MS);
        }
    }

    /// The host has come back: it gets the time to attach to what it followed before.
    pub fn hold_longer(&mut self) {
        if self.held_until_ms.is_some() {
            self.hold_for(HOLD_ATTACH_MS);
        }
    }

    fn hold_for(&mut self, ms: u64) {
        let until = sys::monotonic_ms() + ms;
        if self.held_until_ms.map_or(true, |earlier| earlier < until) {
            self.held_until_ms = Some(until);
            self.after(ms, Timer::Held);
        }
    }

    /// Nobody came back in time: processes go on, and the oldest output is dropped.
    pub fn release_held(&mut self) {
        let now = sys::monotonic_ms();
        if self.held_until_ms.map_or(true, |until| until > now) {
            return;
        }
        self.held_until_ms = None;
        for (id, source) in self.sources.iter_mut() {
            if source.held_from.take().is_some() {
                self.busy.insert(*id);
            }
        }
    }

    /// Ends what lives only as long as the connection, and detaches the rest.
    pub fn drop_streams(&mut self) {
        let ends: Vec<End> = self
            .connection
            .as_ref()
            .map(|connection| connection.streams.values().copied().collect())
            .unwrap_or_default();
        for end in ends {
            match end {
                End::Out(id) => match self.sources.get(&id).map(|source| source.owner) {
                    Some(Owner::Exec(_)) => self.hold_source(id),
                    _ => self.remove_source(id),
                },
                End::In(id) => match self.sinks.get(&id).map(|sink| sink.owner) {
                    Some(Owner::Exec(_)) => self.detach_sink(id),
                    _ => self.remove_sink(id),
                },
            }
        }
    }

    /// A frame with data, an end, credit or a reset. Err means the host broke the protocol.
    pub fn stream_frame(&mut self, stream: u32, frame: Frame) -> Result<(), String> {
        let end = self
            .connection
            .as_ref()
            .and_then(|c| c.streams.get(&stream).copied());
        let header = &frame.header;
        match end {
            // Late frames of a stream that has just ended here.
            None => Ok(()),
            Some(End::Out(id)) => {
                if let Some(credit) = header.get("credit").and_then(|v| v.as_int()) {
                    self.credit(id, credit.max(0) as u64);
                } else if header.get("reset").is_some() {
                    match self.sources.get(&id).map(|source| source.owner) {
                        Some(Owner::Exec(_)) => self.detach_source(id),
                        _ => {
                            self.remove_source(id);
                            self.cancel_job_of_stream(End::Out(id));
                        }
                    }
                }
                Ok(())
            }
            Some(End::In(id)) => {
                if header.get("reset").is_some() {
                    match self.sinks.get(&id).map(|sink| sink.owner) {
                        Some(Owner::Exec(_)) => self.detach_sink(id),
                        _ => {
                            self.remove_sink(id);
                            self.cancel_job_of_stream(End::In(id));
                        }
                    }
                    return Ok(());
                }
                let at = header.get("at").and_then(|v| v.as_int()).unwrap_or(-1);
                let end = header.get("end").is_some();
                self.sink_data(id, at, &frame.payload, end)
            }
        }
    }

    fn credit(&mut self, id: u64, credit: u64) {
        let source = match self.sources.get_mut(&id) {
            Some(source) => source,
            None => return,
        };
        if let Some(outlet) = source.outlet.as_mut() {
            let acked = credit.saturating_sub(WINDOW).min(outlet.sent);
            if acked > outlet.acked {
                outlet.acked = acked;
                source.taken = source.taken.max(acked);
                self.busy.insert(id);
            }
        }
    }

    fn sink_data(&mut self, id: u64, at: i64, bytes: &[u8], end: bool) -> Result<(), String> {
        let sink = match self.sinks.get_mut(&id) {
            Some(sink) => sink,
            None => return Ok(()),
        };
        if at < 0 || at as u64 != sink.buffer.end() || sink.ended {
            return Err(format!("data at {}, expected at {}", at, sink.buffer.end()));
        }
        if sink.buffer.end() + bytes.len() as u64 > sink.granted {
            return Err(format!("data beyond the credit of {}", sink.granted));
        }
        if let Some(last) = bytes.last() {
            sink.last_byte = *last;
            sink.buffer.push(bytes);
        }
        sink.ended |= end;
        self.sink_step(id);
        Ok(())
    }

    /// Readiness of a source, a sink or a descriptor that is only emptied.
    pub fn stream_event(&mut self, id: u64) {
        if let Some(source) = self.sources.get_mut(&id) {
            source.readable = true;
            self.busy.insert(id);
        } else if let Some(sink) = self.sinks.get_mut(&id) {
            sink.writable = true;
            self.sink_step(id);
        } else if self.drains.contains_key(&id) {
            self.drain(id);
        }
    }

    /// Reads away what background processes still write to a stream that has ended.
    fn drain(&mut self, id: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if let Some(fd) = self.drains.get(&id) {
            loop {
                match sys::read_some(fd.as_raw_fd(), &mut scratch) {
                    Io::Blocked => break,
                    Io::Done(count) if count > 0 => continue,
                    _ => {
                        self.drains.remove(&id);
                        break;
                    }
                }
            }
        }
        self.scratch = scratch;
    }

    /// Gives every busy source a turn: reads into its buffer, and sends from it what credit and connection allow.
    pub fn pump(&mut self) {
        let turn: Vec<u64> = std::mem::take(&mut self.busy).into_iter().collect();
        for id in turn {
            self.fill(id);
            self.send(id);
            let owner = self.sources.get(&id).map(|source| source.owner);
            match owner {
                Some(Owner::Exec(key)) => self.exec_check(key),
                Some(Owner::Connection) => self.connection_source_check(id),
                None => {}
            }
        }
    }

    fn fill(&mut self, id: u64) {
        let limit = if self.ring_bytes > RINGS_TOTAL_BYTES {
            SMALL_WINDOW
        } else {
            WINDOW
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut again = false;
        if let Some(source) = self.sources.get_mut(&id) {
            let before = source.ring.capacity();
            again = source.fill(&mut scratch, limit);
            if source.ended {
                source.ring.shrink();
                if let Some(fd) = source.fd.take() {
                    if source.remaining.is_some() {
                        self.drains.insert(id, fd);
                    }
                }
            }
            self.ring_bytes = self.ring_bytes + source.ring.capacity() - before;
        }
        self.scratch = scratch;
        if again {
            self.busy.insert(id);
        }
        if self.drains.contains_key(&id) {
            self.drain(id);
        }
    }

    fn send(&mut self, id: u64) {
        let source = match self.sources.get_mut(&id) {
            Some(source) => source,
            None => return,
        };
        let (connection, outlet) = match (self.connection.as_mut(), source.outlet.as_mut()) {
            (Some(connection), Some(outlet)) => (connection, outlet),
            _ => return,
        };
        let credit = outlet.acked + WINDOW;
        let upto = source.ring.end().min(credit);
        while outlet.sent < upto && connection.backlog() < OUT_SOFT_BYTES {
            let count = ((upto - outlet.sent) as usize).min(CHUNK);
            connection.send_data(
                outlet.stream,
                outlet.sent,
                source.ring.slices(outlet.sent, count),
            );
            outlet.sent += count as u64;
        }
        if outlet.sent < upto {
            // The connection is full: another turn when it has drained.
            self.waiting.insert(id);
        } else if source.ended
            && outlet.sent == source.ring.end()
            && !outlet.end_sent
            && !source.hold_end
        {
            outlet.end_sent = true;
            let header = object! { "s" => outlet.stream, "at" => outlet.sent, "end" => true };
            connection.send(&header);
        }
        if source.owner == Owner::Connection {
            let sent = outlet.sent;
            source.ring.drop_until(sent);
        }
    }

    fn connection_source_check(&mut self, id: u64) {
        let ended = self
            .sources
            .get(&id)
            .and_then(|source| source.outlet.as_ref())
            .map_or(false, |outlet| outlet.end_sent);
        if ended {
            self.remove_source(id);
        }
    }

    /// The job behind a source is done: its end may be sent, or the stream is aborted.
    pub fn release_source(&mut self, id: u64, failure: Option<&Failure>) {
        match failure {
            None => {
                if let Some(source) = self.sources.get_mut(&id) {
                    source.hold_end = false;
                    self.busy.insert(id);
                }
            }
            Some(failure) => {
                let stream = self
                    .sources
                    .get(&id)
                    .and_then(|s| s.outlet.as_ref())
                    .map(|o| o.stream);
                if let (Some(stream), Some(connection)) = (stream, self.connection.as_mut()) {
                    connection.send(&object! { "s" => stream, "reset" => failure.to_value() });
                }
                self.remove_source(id);
            }
        }
    }

    /// The process behind a source has ended: takes what is in the pipe now, and no more.
    pub fn end_source(&mut self, id: u64) {
        if let Some(source) = self.sources.get_mut(&id) {
            if source.ended {
                return;
            }
            let mut waiting: i32 = 0;
            if let Some(fd) = &source.fd {
                unsafe { sys::ioctl(fd.as_raw_fd(), sys::FIONREAD, &mut waiting) };
            }
            let rest = if source.terminal {
                TERMINAL_REST_BYTES
            } else {
                waiting.max(0) as u64
            };
            source.remaining = Some(rest);
            source.readable = true;
            self.busy.insert(id);
        }
    }

    fn sink_step(&mut self, id: u64) {
        let sink = match self.sinks.get_mut(&id) {
            Some(sink) => sink,
            None => return,
        };
        if sink.step().is_err() {
            // Nobody reads any more: tell the host, swallow what is under way.
            let stream = sink.stream;
            if let (Some(stream), Some(connection)) = (stream, self.connection.as_mut()) {
                let failure = Failure::new("stopped", "the reader has closed its input");
                connection.send(&object! { "s" => stream, "reset" => failure.to_value() });
            }
            self.remove_sink_fd(id);
            return;
        }
        let wanted = sink.buffer.base() + WINDOW;
        if let (Some(stream), Some(connection)) = (sink.stream, self.connection.as_mut()) {
            if !sink.ended && wanted >= sink.granted + WINDOW / 4 {
                sink.granted = wanted;
                connection.send(&object! { "s" => stream, "credit" => wanted });
            }
        }
        if sink.fd.is_none() && sink.owner == Owner::Connection {
            self.remove_sink(id);
        }
    }

    /// Leaves the sink of a running process in place, so that an attach still finds its offsets.
    fn remove_sink_fd(&mut self, id: u64) {
        self.detach_sink(id);
        if let Some(sink) = self.sinks.get_mut(&id) {
            sink.fd = None;
            sink.buffer.drop_until(u64::MAX);
            sink.buffer.shrink();
            sink.ended = true;
            if sink.owner == Owner::Connection {
                self.sinks.remove(&id);
            }
        }
    }

    /// The descriptor of a terminal, for its size.
    pub fn source_fd(&self, id: u64) -> Option<&OwnedFd> {
        self.sources.get(&id).and_then(|source| source.fd.as_ref())
    }
}
