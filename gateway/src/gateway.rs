//! The one loop: frames of the card, sockets of the host, questions, and what the engine says.

use crate::control::Control;
use crate::denials::{Refused, Told};
use crate::dhcp;
use crate::dns::{self, Bad, Question};
use crate::forwarder;
use crate::json::Value;
use crate::object;
use crate::packet::{self, Frame, Mac, Packet, Route, DNS, GATEWAY, GUEST};
use crate::policy::{Floor, Pins, Policy};
use crate::rate::{Rates, Tokens};
use crate::resolver::{Asked, Resolver};
use crate::streams::{self, Streams, Wanted};
use crate::sys::{self, PollFd, POLLIN, POLLOUT};
use crate::udp::Flows;
use crate::wire::Wire;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::io::AsRawFd;
use std::time::Instant;

const DNS_PORT: u16 = 53;
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
/// The host's addresses are looked up again after this time.
const OWN_ADDRESSES_MS: u64 = 30_000;
/// Questions a second, and how many may come at once.
const QUESTION_RATE: u64 = 200;
const QUESTION_BURST: u64 = 400;
/// Frames that are taken before the sockets have their turn.
const TURN: usize = 512;

/// What every part of the gateway looks at.
pub struct Shared {
    pub wire: Wire,
    pub guest_mac: Mac,
    pub policy: Policy,
    pub floor: Floor,
    pub pins: Pins,
    pub told: Told,
    pub rates: Rates,
    /// What the process that puts secrets in knows the box by.
    pub token: Vec<u8>,
    /// Milliseconds since the start.
    pub now: u64,
}

/// Where an answer goes.
enum Reply {
    Udp(u16),
    Tcp(streams::Key),
    /// Nowhere: what was learned is kept.
    Kept,
}

pub struct Gateway {
    shared: Shared,
    control: Control,
    streams: Streams,
    flows: Flows,
    resolver: Resolver<Reply>,
    started: Instant,
    floor_at: Option<u64>,
    questions: Tokens,
}

impl Gateway {
    pub fn new(wire: Wire, control: Control) -> io::Result<Gateway> {
        Ok(Gateway {
            shared: Shared {
                wire,
                guest_mac: [0xff; 6],
                policy: Policy::closed(),
                floor: Floor::default(),
                pins: Pins::default(),
                told: Told::default(),
                rates: Rates::default(),
                token: control.token().to_vec(),
                now: 0,
            },
            control,
            streams: Streams::default(),
            flows: Flows::default(),
            resolver: Resolver::new()?,
            started: Instant::now(),
            floor_at: None,
            questions: Tokens::new(QUESTION_RATE, QUESTION_BURST),
        })
    }

    /// Runs until the card is gone.
    pub fn run(mut self) -> io::Result<()> {
        let mut fds = Vec::new();
        let mut stream_keys = Vec::new();
        let mut flow_keys = Vec::new();
        let mut turn = 0;
        loop {
            fds.clear();
            stream_keys.clear();
            flow_keys.clear();
            let writes = if self.shared.wire.has_output() {
                POLLOUT
            } else {
                0
            };
            fds.push(PollFd {
                fd: self.shared.wire.stream.as_raw_fd(),
                events: POLLIN | writes,
                found: 0,
            });
            let was_full = self.shared.wire.is_full();
            let may_move = self.may_move(was_full);
            self.streams.interests(may_move, &mut fds, &mut stream_keys);
            if may_move.1 {
                self.flows.interests(&mut fds, &mut flow_keys);
            }
            let control_at = fds.len();
            self.control.interests(&mut fds);
            let asks_at = fds.len();
            self.resolver.interests(&mut fds);
            sys::wait(&mut fds, self.timeout())?;
            self.shared.now = self.started.elapsed().as_millis() as u64;

            self.serve_control(&fds[control_at..asks_at]);
            let mut wanted = Wanted::default();
            if fds[0].found & !POLLOUT != 0 && !self.take_frames(&mut wanted)? {
                return Ok(());
            }
            let found = &fds[1..control_at];
            let (of_streams, of_flows) = found.split_at(stream_keys.len());
            // Each time another one is the first to have what a limit leaves.
            let count = stream_keys.len();
            turn = (turn + 1) % count.max(1);
            for at in (turn..count).chain(0..turn.min(count)) {
                if of_streams[at].found != 0 {
                    let key = stream_keys[at];
                    self.streams.pump(&mut self.shared, key, true, &mut wanted);
                }
            }
            for (key, fd) in flow_keys.iter().zip(of_flows) {
                if fd.found != 0 {
                    self.flows.receive(&mut self.shared, *key);
                }
            }
            for key in self.streams.overdue(self.shared.now) {
                self.streams.pump(&mut self.shared, key, false, &mut wanted);
            }
            self.flows.forget_idle(self.shared.now);
            self.take_questions(wanted);
            self.take_answers(&fds[asks_at..]);
            self.shared.wire.flush()?;
            if was_full && !self.shared.wire.is_full() {
                let mut wanted = Wanted::default();
                for key in self.streams.keys() {
                    self.streams.pump(&mut self.shared, key, false, &mut wanted);
                }
                self.take_questions(wanted);
                self.shared.wire.flush()?;
            }
        }
    }

    /// Whether bytes may go to the host, and whether they may come from it.
    fn may_move(&mut self, wire_is_full: bool) -> (bool, bool) {
        let Shared { rates, now, .. } = &mut self.shared;
        let comes = !wire_is_full && rates.received.room(*now) > 0;
        (rates.sent.room(*now) > 0, comes)
    }

    fn timeout(&self) -> i32 {
        let dues = [
            self.streams.due(),
            self.flows.due(),
            self.resolver.due(),
            self.shared.rates.due(),
        ];
        match dues.into_iter().flatten().min() {
            Some(due) => due.saturating_sub(self.shared.now).min(60_000) as i32 + 1,
            None => -1,
        }
    }

    /// False: the card is gone.
    fn take_frames(&mut self, wanted: &mut Wanted) -> io::Result<bool> {
        if !self.shared.wire.fill()? {
            return Ok(false);
        }
        let mut touched = Vec::new();
        let mut count = 0;
        while let Some(frame) = self.shared.wire.next_frame()? {
            touched.extend(self.take_frame(&frame));
            count += 1;
            if count % TURN == 0 {
                self.pump_all(&mut touched, wanted);
            }
        }
        self.pump_all(&mut touched, wanted);
        Ok(true)
    }

    fn pump_all(&mut self, touched: &mut Vec<streams::Key>, wanted: &mut Wanted) {
        touched.sort_unstable_by_key(|key| (key.guest_port, key.address, key.port));
        touched.dedup();
        for key in touched.drain(..) {
            self.streams.pump(&mut self.shared, key, false, wanted);
        }
    }

    fn take_frame(&mut self, frame: &[u8]) -> Option<streams::Key> {
        match packet::parse(frame) {
            Frame::Other => None,
            Frame::ArpRequest { sender, wanted } => {
                self.shared.guest_mac = sender.0;
                if wanted == GATEWAY || wanted == DNS {
                    self.shared.wire.send(&packet::arp_reply(sender, wanted));
                }
                None
            }
            Frame::Refused(reason, address) => {
                self.refuse_packet(reason, address);
                None
            }
            Frame::Ip { source_mac, packet } => self.take_packet(source_mac, &packet),
        }
    }

    fn refuse_packet(&mut self, reason: &'static str, address: Ipv4Addr) {
        self.shared.told.refused(Refused {
            reason,
            protocol: "ip",
            name: None,
            address: Some(address),
            port: 0,
        });
    }

    fn take_packet(&mut self, source_mac: Mac, packet: &Packet) -> Option<streams::Key> {
        // The guest changes it, and its neighbours know ours from before.
        self.shared.guest_mac = source_mac;
        if packet.protocol == packet::UDP {
            let (source, destination, content) = packet::parse_udp(packet.payload)?;
            if destination == DHCP_SERVER && source == DHCP_CLIENT {
                self.answer_dhcp(content);
                return None;
            }
            if packet.source != GUEST {
                self.refuse_packet("source", packet.source);
                return None;
            }
            if packet.destination == DNS && destination == DNS_PORT {
                self.take_question(content, Reply::Udp(source));
                return None;
            }
            self.renew_floor();
            self.flows
                .datagram(&mut self.shared, packet, (source, destination), content);
            return None;
        }
        if packet.source != GUEST {
            self.refuse_packet("source", packet.source);
            return None;
        }
        match packet.protocol {
            packet::TCP => {
                self.renew_floor();
                let first_seq = self.resolver.random();
                self.streams.segment(&mut self.shared, packet, first_seq)
            }
            packet::ICMP => {
                self.take_icmp(packet);
                None
            }
            _ => {
                self.refuse_packet("protocol", packet.destination);
                None
            }
        }
    }

    fn take_icmp(&mut self, packet: &Packet) {
        let route = Route::from(packet.destination, self.shared.guest_mac);
        let is_ours = packet.destination == GATEWAY || packet.destination == DNS;
        match route.echo_reply(packet.payload) {
            Some(reply) if is_ours => self.shared.wire.send(&reply),
            // Errors are not answered with errors (RFC 1122, section 3.2.2).
            Some(_) => {
                self.refuse_packet("icmp", packet.destination);
                self.shared.wire.send(&route.prohibited(packet));
            }
            None => self.refuse_packet("icmp", packet.destination),
        }
    }

    fn answer_dhcp(&mut self, content: &[u8]) {
        if let Some(answer) = dhcp::answer(content) {
            let route = Route {
                guest: self.shared.guest_mac,
                source: GATEWAY,
                destination: Ipv4Addr::BROADCAST,
            };
            let frame = route.udp(DHCP_SERVER, DHCP_CLIENT, &answer);
            self.shared.wire.send(&frame);
        }
    }

    fn renew_floor(&mut self) {
        let now = self.shared.now;
        if self
            .floor_at
            .map_or(true, |at| at + OWN_ADDRESSES_MS <= now)
        {
            // Where they cannot be told, those of before stay.
            if let Ok(own) = sys::own_addresses() {
                self.shared.floor.own = own;
            }
            self.floor_at = Some(now);
        }
    }

    fn take_questions(&mut self, wanted: Wanted) {
        for (key, message) in wanted.questions {
            self.take_question(&message, Reply::Tcp(key));
        }
    }

    fn take_question(&mut self, message: &[u8], reply: Reply) {
        let question = match dns::parse_question(message) {
            Ok(question) => question,
            Err(Bad::Silent) => return,
            Err(Bad::Answer(answer)) => return self.give(reply, answer),
        };
        if !self.questions.take(self.shared.now) {
            self.shared.told.refused(Refused {
                reason: "limit_rate",
                protocol: "dns",
                name: None,
                address: None,
                port: 0,
            });
            let answer = question.answer_code(dns::REFUSED);
            return self.give(reply, answer);
        }
        self.renew_floor();
        match forwarder::judge(&self.shared.policy, &mut self.shared.told, &question) {
            Some(answer) => self.give_for(&question, reply, answer),
            None => self.ask(question, reply),
        }
    }

    fn ask(&mut self, question: Question, reply: Reply) {
        let Shared { policy, now, .. } = &self.shared;
        if let Some(asked) = self.resolver.ask(question, reply, &policy.resolvers, *now) {
            self.finish(asked);
        }
    }

    fn take_answers(&mut self, found: &[PollFd]) {
        let Shared { policy, now, .. } = &self.shared;
        for asked in self.resolver.progress(found, &policy.resolvers, *now) {
            self.finish(asked);
        }
    }

    fn finish(&mut self, asked: Asked<Reply>) {
        let Shared {
            policy,
            floor,
            pins,
            told,
            ..
        } = &mut self.shared;
        let answer = forwarder::finish(policy, floor, pins, told, &asked);
        self.give_for(&asked.question, asked.reply, answer);
    }

    fn give_for(&mut self, question: &Question, reply: Reply, answer: Vec<u8>) {
        let answer = match reply {
            Reply::Udp(_) => question.for_udp(answer),
            _ => answer,
        };
        self.give(reply, answer);
    }

    fn give(&mut self, reply: Reply, answer: Vec<u8>) {
        match reply {
            Reply::Kept => (),
            Reply::Udp(port) => {
                let route = Route::from(DNS, self.shared.guest_mac);
                let frame = route.udp(DNS_PORT, port, &answer);
                self.shared.wire.send(&frame);
            }
            Reply::Tcp(key) => {
                self.streams.answer(key, &answer);
                let mut wanted = Wanted::default();
                self.streams.pump(&mut self.shared, key, false, &mut wanted);
                self.take_questions(wanted);
            }
        }
    }

    fn serve_control(&mut self, found: &[PollFd]) {
        let mut new_policy = None;
        let Gateway {
            control,
            shared,
            streams,
            ..
        } = self;
        control.progress(
            found,
            &mut |request| match request.get("op").and_then(Value::as_bytes) {
                Some(b"policy") => {
                    let given = request.get("policy").ok_or("there is no policy")?;
                    let policy = Policy::parse(given)?;
                    shared.rates.set(policy.rates, shared.now);
                    shared.policy = policy;
                    new_policy = Some(());
                    Ok(object! {})
                }
                Some(b"info") => {
                    let after = request.get("after").and_then(Value::as_int).unwrap_or(0);
                    Ok(shared.told.to_json(after.max(0) as u64, streams.len()))
                }
                Some(b"refused") => shared.told.refused_elsewhere(request),
                _ => Err("there is no such op".to_string()),
            },
        );
        if new_policy.is_some() {
            self.apply_policy();
        }
    }

    /// Ends what is not allowed any more, and learns the addresses of the names that are listed: the guest of an older
    /// memory knows them already.
    fn apply_policy(&mut self) {
        self.renew_floor();
        self.streams.judge_again(&mut self.shared);
        self.flows.judge_again(&self.shared);
        if !self.shared.policy.enabled {
            return;
        }
        let names: Vec<String> = self
            .shared
            .policy
            .exact_names()
            .take(crate::resolver::MAX_ASKS / 2)
            .map(str::to_string)
            .collect();
        for name in names {
            self.ask(Question::of(&name, dns::A), Reply::Kept);
        }
    }
}
