//! The guest's side of a connection, played with lost, doubled and late segments, small windows and numbers that wrap: what
//! arrives is what was sent, both ways, and both sides end.

#[path = "common/random.rs"]
mod random;

use cryobox_gateway::packet::{Segment, ACK, FIN, RST, SYN};
use cryobox_gateway::tcp::{Tcp, RECEIVE_BYTES};
use random::Random;
use std::collections::VecDeque;

const SEEDS: u64 = 10_000;

#[derive(Clone)]
struct Sent {
    seq: u32,
    ack: u32,
    flags: u8,
    window: u16,
    payload: Vec<u8>,
}

impl Sent {
    fn of(segment: &Segment) -> Sent {
        Sent {
            seq: segment.seq,
            ack: segment.ack,
            flags: segment.flags,
            window: segment.window,
            payload: segment.payload.to_vec(),
        }
    }

    fn with<T>(&self, take: impl FnOnce(&Segment) -> T) -> T {
        take(&Segment {
            seq: self.seq,
            ack: self.ack,
            flags: self.flags,
            window: self.window,
            payload: &self.payload,
            ..Segment::default()
        })
    }
}

/// A guest that sends some bytes, takes some, and ends.
struct Guest {
    first: u32,
    to_send: Vec<u8>,
    /// Acknowledged by the other side, FIN included.
    acked: usize,
    window: usize,
    expected: Option<u32>,
    got: Vec<u8>,
    other_ended: bool,
}

impl Guest {
    fn take(&mut self, segment: &Sent) -> bool {
        assert_eq!(segment.flags & RST, 0, "a reset");
        if segment.flags & SYN != 0 {
            self.expected.get_or_insert(segment.seq.wrapping_add(1));
        }
        let acked = segment.ack.wrapping_sub(self.first.wrapping_add(1)) as usize;
        assert!(
            acked <= self.to_send.len() + 1,
            "acknowledges what was not sent"
        );
        self.acked = self.acked.max(acked);
        let scale = if segment.flags & SYN != 0 { 0 } else { 5 };
        self.window = usize::from(segment.window) << scale;
        assert!(self.window <= RECEIVE_BYTES);
        let expected = self.expected.expect("data before the SYN");
        if segment.seq != expected || self.other_ended {
            return !segment.payload.is_empty() || segment.flags & (FIN | SYN) != 0;
        }
        self.got.extend_from_slice(&segment.payload);
        self.other_ended = segment.flags & FIN != 0;
        let count = segment.payload.len() as u32 + u32::from(self.other_ended);
        self.expected = Some(expected.wrapping_add(count));
        count > 0
    }

    fn segment(&self, at: usize, count: usize, room: usize) -> Sent {
        let end = (at + count).min(self.to_send.len());
        let fin = at <= self.to_send.len() && end == self.to_send.len();
        Sent {
            seq: self.first.wrapping_add(1 + at as u32),
            ack: self.expected.unwrap_or(0),
            flags: ACK | if fin { FIN } else { 0 },
            window: room as u16,
            payload: self.to_send.get(at..end).unwrap_or(&[]).to_vec(),
        }
    }
}

fn play(seed: u64) {
    let mut random = Random(seed + 1);
    let limit = [0, 1, 3_000, 60_000][random.below(4)];
    let (up, down) = (random.below(limit + 1), random.below(limit + 1));
    let server_bytes = random.bytes(down);
    let mut guest = Guest {
        first: [0, u32::MAX - 1_000, random.next() as u32][random.below(3)],
        to_send: random.bytes(up),
        acked: 0,
        window: 0,
        expected: None,
        got: Vec::new(),
        other_ended: false,
    };
    let syn = Segment {
        seq: guest.first,
        flags: SYN,
        window: 1_000,
        mss: Some([64, 536, 1460, 65_495][random.below(4)]),
        scale: Some(0),
        ..Segment::default()
    };
    let first = [0, u32::MAX - 700, random.next() as u32][random.below(3)];
    let mut tcp = Tcp::accept(&syn, first);
    let mut to_guest: VecDeque<Sent> = VecDeque::new();
    let mut to_tcp: VecDeque<Sent> = VecDeque::new();
    let (mut arrived, mut given, mut ended) = (Vec::new(), 0, false);
    let mut now = 0;
    // What may go wrong, of a hundred; in the end nothing does.
    let (lost, doubled, late) = (random.below(20), random.below(10), random.below(10));
    for round in 0..4_000 {
        let wrong = if round < 300 {
            (lost, doubled, late)
        } else {
            (0, 0, 0)
        };
        arrived.extend(tcp.take_received());
        let count = random.below(5_000).min(down - given).min(tcp.room());
        tcp.send(&server_bytes[given..given + count]);
        given += count;
        if given == down && !ended {
            ended = true;
            tcp.end();
        }
        tcp.output(now, &|| false, &mut |segment| {
            mangle(&mut random, wrong, &mut to_guest, Sent::of(segment));
        });
        let mut answers = false;
        while let Some(segment) = to_guest.pop_front() {
            answers |= guest.take(&segment);
        }
        if guest.expected.is_some() {
            // Now and then nothing is taken.
            let room = if round < 300 && random.below(5) == 0 {
                0
            } else {
                random.below(9_000) + 1
            };
            let done = guest.acked > guest.to_send.len();
            let at = guest.acked.min(guest.to_send.len());
            let count = random.below(2_000).min(guest.window) + usize::from(guest.window > 0);
            if !done {
                mangle(
                    &mut random,
                    wrong,
                    &mut to_tcp,
                    guest.segment(at, count, room),
                );
            } else if answers || random.below(3) == 0 {
                mangle(
                    &mut random,
                    wrong,
                    &mut to_tcp,
                    guest.segment(at + 1, 0, room),
                );
            }
        }
        while let Some(segment) = to_tcp.pop_front() {
            segment.with(|segment| tcp.receive(segment, now));
        }
        now += [1, 50, 400][random.below(3)];
        if tcp.is_over(now) {
            break;
        }
    }
    arrived.extend(tcp.take_received());
    assert!(!tcp.is_reset(), "the connection was reset");
    assert!(
        arrived == guest.to_send,
        "{} of {} bytes up",
        arrived.len(),
        up
    );
    assert!(
        guest.got == server_bytes,
        "{} of {} bytes down",
        guest.got.len(),
        down
    );
    assert!(guest.other_ended && tcp.guest_has_ended() && tcp.is_over(now + 5_000));
}

fn mangle(
    random: &mut Random,
    (lost, doubled, late): (usize, usize, usize),
    queue: &mut VecDeque<Sent>,
    segment: Sent,
) {
    if random.below(100) < lost {
        return;
    }
    if random.below(100) < doubled {
        queue.push_back(segment.clone());
    }
    if random.below(100) < late {
        queue.push_front(segment);
    } else {
        queue.push_back(segment);
    }
}

#[test]
fn carries_everything_whatever_the_wire_does() {
    for seed in 0..SEEDS {
        if let Err(panic) = std::panic::catch_unwind(|| play(seed)) {
            eprintln!("seed {}", seed);
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn gives_up_a_guest_that_does_not_answer() {
    let syn = Segment {
        flags: SYN,
        ..Segment::default()
    };
    let mut tcp = Tcp::accept(&syn, 1);
    let (mut now, mut count) = (0, 0);
    while !tcp.is_over(now) {
        tcp.output(now, &|| false, &mut |_| count += 1);
        now = tcp.due().unwrap_or(now + 1).max(now + 1);
    }
    assert!(
        count < 12 && now < 60_000,
        "{} segments in {} ms",
        count,
        now
    );
}

#[test]
fn takes_a_reset_only_inside_of_the_window() {
    let syn = Segment {
        seq: 100,
        flags: SYN,
        scale: Some(7),
        ..Segment::default()
    };
    let mut tcp = Tcp::accept(&syn, 1);
    let reset = |seq| Segment {
        seq,
        flags: RST,
        ..Segment::default()
    };
    tcp.receive(&reset(5), 0);
    tcp.receive(&reset(102 + RECEIVE_BYTES as u32), 0);
    assert!(!tcp.is_reset());
    tcp.receive(&reset(101), 0);
    assert!(tcp.is_reset());
}
