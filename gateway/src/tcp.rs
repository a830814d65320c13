//! One TCP connection of the guest, of which this is the server's side (RFC 9293, RFC 7323). The wire loses nothing and
//! keeps the order, so segments are taken in order only, and there is neither a selective acknowledgement nor a
//! congestion window: what the guest's window takes is sent.

use crate::packet::{Segment, ACK, FIN, PSH, RST, SYN};
use crate::queue::Queue;

/// What the guest may have sent that its server has not taken yet.
pub const RECEIVE_BYTES: usize = 1024 * 1024;
/// What the server may have sent that the guest has not acknowledged yet.
pub const SEND_BYTES: usize = 512 * 1024;
/// Shifts a window of `RECEIVE_BYTES` into sixteen bits.
const SCALE: u8 = 5;
/// A frame of this size is the largest that the card takes.
const OWN_MSS: u16 = 65_480;
/// Without the option (RFC 9293, section 3.7.1).
const DEFAULT_MSS: u16 = 536;
const FIRST_RETRY_MS: u64 = 200;
const MAX_RETRY_MS: u64 = 3_000;
/// Tries without an answer until the guest counts as gone: some 20 seconds.
const MAX_TRIES: u32 = 8;
/// After both sides have ended, the last segment of the guest is acknowledged again for so long.
const LINGER_MS: u64 = 1_000;

/// A segment that is to be sent, without ports.
pub type Emit<'a> = dyn FnMut(&Segment) + 'a;

pub struct Tcp {
    mss: usize,
    send_scale: u8,
    receive_scale: Option<u8>,
    first_seq: u32,
    una: u32,
    next: u32,
    /// Behind the highest byte that was ever sent.
    most: u32,
    window: u32,
    out: Queue,
    synced: bool,
    answer_syn: bool,
    ending: bool,
    fin_seq: Option<u32>,
    fin_acked: bool,
    expected: u32,
    /// The end of the window that the guest was told last.
    promised: u32,
    inbound: Queue,
    guest_ended: bool,
    ack_now: bool,
    retry_at: Option<u64>,
    retry_ms: u64,
    tries: u32,
    repeated: u32,
    is_reset: bool,
    over_at: Option<u64>,
    /// Bytes that were taken out of `inbound` and that the server has not taken: they count for the window.
    pub outstanding: usize,
    /// Its part of what all connections may hold, each way.
    pub share: usize,
    /// Segments that were sent again.
    pub retransmits: u64,
}

fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

impl Tcp {
    /// Answers the guest's SYN; `first_seq` should not be guessable.
    pub fn accept(syn: &Segment, first_seq: u32) -> Tcp {
        let mss = syn.mss.unwrap_or(DEFAULT_MSS).clamp(64, OWN_MSS);
        let expected = syn.seq.wrapping_add(1);
        Tcp {
            mss: usize::from(mss),
            send_scale: syn.scale.unwrap_or(0),
            receive_scale: syn.scale.map(|_| SCALE),
            first_seq,
            una: first_seq,
            next: first_seq,
            most: first_seq,
            window: u32::from(syn.window),
            out: Queue::default(),
            synced: false,
            answer_syn: true,
            ending: false,
            fin_seq: None,
            fin_acked: false,
            expected,
            promised: expected,
            inbound: Queue::default(),
            guest_ended: false,
            ack_now: false,
            retry_at: None,
            retry_ms: FIRST_RETRY_MS,
            tries: 0,
            repeated: 0,
            is_reset: false,
            over_at: None,
            outstanding: 0,
            share: RECEIVE_BYTES,
            retransmits: 0,
        }
    }

    /// What the guest has sent, once.
    pub fn take_received(&mut self) -> Vec<u8> {
        self.inbound.take()
    }

    /// The guest sends nothing more, and all that it has sent was taken.
    pub fn guest_has_ended(&self) -> bool {
        self.guest_ended && self.inbound.is_empty()
    }

    /// Bytes that `send` takes now.
    pub fn room(&self) -> usize {
        if self.ending || self.is_reset {
            return 0;
        }
        SEND_BYTES.min(self.share).saturating_sub(self.out.len())
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.out.push(bytes);
    }

    /// Nothing more is sent than what was given already.
    pub fn end(&mut self) {
        self.ending = true;
    }

    /// The guest has reset the connection, or does not answer.
    pub fn is_reset(&self) -> bool {
        self.is_reset
    }

    /// Both sides have ended, and each knows it of the other.
    pub fn is_ended(&self) -> bool {
        self.over_at.is_some()
    }

    /// Both sides have ended and the guest need not be answered any more.
    pub fn is_over(&self, now: u64) -> bool {
        self.is_reset || self.over_at.map_or(false, |at| at <= now)
    }

    /// The segment that tells the guest that the connection is gone.
    pub fn reset(&mut self) -> Segment<'static> {
        self.is_reset = true;
        Segment {
            seq: self.next,
            ack: self.expected,
            flags: RST | ACK,
            ..Segment::default()
        }
    }

    fn receive_limit(&self) -> usize {
        self.receive_scale
            .map_or(65_535, |_| RECEIVE_BYTES)
            .min(self.share)
    }

    fn receive_room(&self) -> usize {
        self.receive_limit()
            .saturating_sub(self.inbound.len() + self.outstanding)
    }

    /// Takes a segment of the guest.
    pub fn receive(&mut self, segment: &Segment, now: u64) {
        if segment.flags & RST != 0 {
            let offset = segment.seq.wrapping_sub(self.expected);
            // Only inside of the window (RFC 9293, section 3.5.3): a memory that went back knows other numbers.
            if (offset as usize) <= self.receive_room() {
                self.is_reset = true;
            }
            return;
        }
        if segment.flags & SYN != 0 {
            if self.synced {
                self.ack_now = true;
            } else {
                self.answer_syn = true;
            }
            return;
        }
        if segment.flags & ACK == 0 {
            return;
        }
        if !self.take_ack(segment, now) {
            return;
        }
        self.take_data(segment, now);
    }

    fn take_ack(&mut self, segment: &Segment, now: u64) -> bool {
        let ack = segment.ack;
        if is_before(self.most, ack) {
            self.ack_now = true;
            return false;
        }
        let window = u32::from(segment.window) << self.send_scale;
        if is_before(self.una, ack) {
            let mut count = ack.wrapping_sub(self.una) as usize;
            if !self.synced {
                self.synced = true;
                count -= 1;
            }
            if self.fin_seq.map_or(false, |seq| is_before(seq, ack)) {
                self.fin_acked = true;
                count -= 1;
            }
            self.out.consume(count);
            self.una = ack;
            if is_before(self.next, ack) {
                self.next = ack;
            }
            (self.tries, self.repeated, self.retry_ms) = (0, 0, FIRST_RETRY_MS);
            self.retry_at = (self.una != self.most).then(|| now + self.retry_ms);
            self.note_end(now);
        } else if ack == self.una {
            let pure = segment.payload.is_empty() && segment.flags & FIN == 0;
            if pure && self.una != self.most && window == self.window && window > 0 {
                self.repeated += 1;
                if self.repeated == 3 {
                    self.go_back();
                }
            }
            if window == 0 {
                // A guest that takes nothing now is there nevertheless.
                self.tries = 0;
            } else if self.window == 0 && self.synced {
                // The byte that asked for the window was not taken.
                self.next = self.una;
            }
        }
        if !is_before(ack, self.una) {
            self.window = window;
        }
        true
    }

    fn take_data(&mut self, segment: &Segment, now: u64) {
        let has_fin = segment.flags & FIN != 0;
        let skip = self.expected.wrapping_sub(segment.seq) as i32;
        if skip < 0 {
            // A gap: it comes again.
            self.ack_now = true;
            return;
        }
        let skip = skip as usize;
        if skip > segment.payload.len() {
            self.ack_now = true;
            return;
        }
        if skip > 0 {
            self.ack_now = true;
        }
        if self.guest_ended {
            self.ack_now |= has_fin || !segment.payload.is_empty();
            return;
        }
        let fresh = &segment.payload[skip..];
        let taken = fresh.len().min(self.receive_room());
        if !fresh.is_empty() {
            self.inbound.push(&fresh[..taken]);
            self.expected = self.expected.wrapping_add(taken as u32);
            self.ack_now = true;
        }
        if has_fin && taken == fresh.len() {
            self.expected = self.expected.wrapping_add(1);
            self.guest_ended = true;
            self.ack_now = true;
            self.note_end(now);
        }
    }

    fn note_end(&mut self, now: u64) {
        if self.guest_ended && self.fin_acked && self.over_at.is_none() {
            self.over_at = Some(now + LINGER_MS);
        }
    }

    fn go_back(&mut self) {
        self.retransmits += 1;
        self.next = self.una;
        if !self.synced {
            self.answer_syn = true;
        }
    }

    /// When `output` has something to do without anything having come; milliseconds.
    pub fn due(&self) -> Option<u64> {
        [self.retry_at, self.over_at].into_iter().flatten().min()
    }

    /// Sends what is to be sent now, at most until `is_full`.
    pub fn output(&mut self, now: u64, is_full: &dyn Fn() -> bool, emit: &mut Emit) {
        if self.is_reset {
            return;
        }
        if self.retry_at.map_or(false, |at| at <= now) && !self.retry(now, emit) {
            return;
        }
        if !self.synced {
            self.send_syn(now, emit);
            return;
        }
        let mut sent = false;
        while !is_full() && self.send_next(now, emit) {
            sent = true;
        }
        if self.out.len() > self.in_flight() && self.window == 0 && self.retry_at.is_none() {
            self.retry_at = Some(now + self.retry_ms);
        }
        if !sent && (self.ack_now || self.window_has_grown()) {
            let ack = self.segment(self.next, ACK, &[]);
            emit(&ack);
            self.told();
        }
    }

    fn in_flight(&self) -> usize {
        let flying = self.next.wrapping_sub(self.una) as usize;
        flying.min(self.out.len())
    }

    /// False: the guest does not answer, and the connection is gone.
    fn retry(&mut self, now: u64, emit: &mut Emit) -> bool {
        self.tries += 1;
        if self.tries > MAX_TRIES {
            let reset = self.reset();
            emit(&reset);
            return false;
        }
        self.retry_ms = (2 * self.retry_ms).min(MAX_RETRY_MS);
        self.retry_at = Some(now + self.retry_ms);
        self.go_back();
        if self.synced && self.window == 0 && !self.out.is_empty() {
            // One byte asks for the window (RFC 9293, section 3.8.6.1).
            let probe = [self.out.as_slice()[0]];
            let segment = self.segment(self.una, ACK, &probe);
            emit(&segment);
            self.advance(self.una.wrapping_add(1));
        }
        true
    }

    fn send_syn(&mut self, now: u64, emit: &mut Emit) {
        if !self.answer_syn {
            return;
        }
        self.answer_syn = false;
        let room = self.receive_room().min(65_535) as u16;
        let answer = Segment {
            seq: self.first_seq,
            ack: self.expected,
            flags: SYN | ACK,
            // Not scaled yet.
            window: room,
            mss: Some(OWN_MSS),
            scale: self.receive_scale,
            ..Segment::default()
        };
        emit(&answer);
        self.promised = self.expected.wrapping_add(u32::from(room));
        self.advance(self.first_seq.wrapping_add(1));
        self.retry_at = self.retry_at.or(Some(now + self.retry_ms));
    }

    fn send_next(&mut self, now: u64, emit: &mut Emit) -> bool {
        let start = self.next.wrapping_sub(self.una) as usize;
        if start > self.out.len() {
            return false;
        }
        let window = (self.window as usize).saturating_sub(start);
        let count = (self.out.len() - start).min(window).min(self.mss);
        let is_last = start + count == self.out.len();
        let fin = is_last && self.ending && !self.fin_acked;
        if count == 0 && !fin {
            return false;
        }
        // A small rest of the window is not worth a segment while more is on its way to be acknowledged.
        if count < self.mss && !is_last && start > 0 {
            return false;
        }
        let end = if fin { FIN } else { 0 };
        let push = if is_last && count > 0 { PSH } else { 0 };
        let payload = &self.out.as_slice()[start..start + count];
        let segment = self.segment(self.next, ACK | push | end, payload);
        emit(&segment);
        let mut next = self.next.wrapping_add(count as u32);
        if fin {
            self.fin_seq = Some(next);
            next = next.wrapping_add(1);
        }
        self.advance(next);
        self.told();
        self.retry_at = self.retry_at.or(Some(now + self.retry_ms));
        true
    }

    fn advance(&mut self, next: u32) {
        self.next = next;
        if is_before(self.most, next) {
            self.most = next;
        }
    }

    fn window_has_grown(&self) -> bool {
        let told = self.promised.wrapping_sub(self.expected) as usize;
        !self.guest_ended && self.receive_room() >= told + self.receive_limit() / 4
    }

    fn shown_window(&self) -> u16 {
        (self.receive_room() >> self.receive_scale.unwrap_or(0)).min(65_535) as u16
    }

    fn told(&mut self) {
        self.ack_now = false;
        let window = u32::from(self.shown_window()) << self.receive_scale.unwrap_or(0);
        self.promised = self.expected.wrapping_add(window);
    }

    fn segment<'a>(&self, seq: u32, flags: u8, payload: &'a [u8]) -> Segment<'a> {
        Segment {
            seq,
            ack: self.expected,
            flags,
            window: self.shown_window(),
            payload,
            ..Segment::default()
        }
    }
}
