//! Mutated input for everything that reads bytes of the guest or of name servers: nothing panics, and what is held is
//! bounded. The generator is deterministic, so a failure comes back.

#[path = "common/random.rs"]
mod random;

use cryobox_gateway::dns::{self, Question};
use cryobox_gateway::packet::{self, Frame, Route, Segment, ACK};
use cryobox_gateway::peek::Inspector;
use cryobox_gateway::rules::Rule;
use cryobox_gateway::{dhcp, http, tls};
use random::Random;

const ROUNDS: u64 = 200_000;

fn only_a(name: &str) -> bool {
    name == "a.test"
}

/// Flips, removes, repeats or inserts a few bytes.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 0xff, b'\r', b'\n', b' '][random.below(5)],
            2 => bytes.truncate(at),
            3 => {
                let piece = random.bytes(9);
                bytes.splice(at..at, piece);
            }
            _ => {
                let end = (at + random.below(40)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let question = Question::of("www.a.test", dns::A);
    let route = Route::from(packet::DNS, [2; 6]);
    let segment = Segment {
        flags: ACK,
        mss: Some(1460),
        scale: Some(7),
        payload: b"GET / HTTP/1.1\r\n",
        ..Segment::default()
    };
    vec![
        question.ask(7),
        question.answer_addresses(&[(packet::DNS, 9), (packet::GUEST, 9)]),
        route.tcp(&segment),
        route.udp(68, 67, &[0x63; 300]),
        packet::arp_reply(([1; 6], packet::GUEST), packet::DNS),
        tls::sample_hello(Some("a.test"), 40),
        tls::sample_hello(Some("a.test"), 16_384),
        b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n".to_vec(),
        b"*.a.test:80-90".to_vec(),
    ]
}

#[test]
fn reads_mutated_input_without_a_panic() {
    let seeds = seeds();
    for round in 0..ROUNDS {
        let mut random = Random(round + 1);
        let mut bytes = seeds[random.below(seeds.len())].clone();
        mutate(&mut random, &mut bytes);
        if let Ok(question) = dns::parse_question(&bytes) {
            assert!(question.for_udp(question.answer_blocked()).len() <= dns::MAX_UDP);
        }
        let _ = dns::parse_answer(&bytes, 7, &Question::of("www.a.test", dns::A));
        if let Frame::Ip { packet, .. } = packet::parse(&bytes) {
            let _ = packet::parse_tcp(packet.payload);
            let _ = packet::parse_udp(packet.payload);
            let route = Route::from(packet.destination, [1; 6]);
            let _ = (route.echo_reply(packet.payload), route.prohibited(&packet));
        }
        let _ = packet::parse_tcp(&bytes);
        let _ = dhcp::answer(&bytes);
        let _ = tls::hello(&bytes);
        if let Ok(text) = std::str::from_utf8(&bytes) {
            let _ = Rule::parse(text);
        }
        inspect(&mut random, &bytes);
    }
}

/// However it is cut, the verdict and what passes are the same, and a name that is not allowed is in none of it.
fn inspect(random: &mut Random, bytes: &[u8]) {
    let port = [80, 443, 8080][random.below(3)];
    let mut inspector = Inspector::new(port);
    let whole = inspector
        .feed(bytes, &only_a)
        .map_err(|refusal| refusal.reason);
    let mut inspector = Inspector::new(port);
    let mut pieces = Vec::new();
    let mut verdict = Ok(());
    for piece in bytes.chunks(1 + random.below(9)) {
        match inspector.feed(piece, &only_a) {
            Ok(passed) => pieces.extend(passed),
            Err(refusal) => {
                verdict = Err(refusal.reason);
                break;
            }
        }
    }
    match (whole, verdict) {
        (Ok(whole), Ok(())) => assert_eq!(whole, pieces, "{:?}", String::from_utf8_lossy(bytes)),
        (Err(one), Err(other)) => assert_eq!(one, other, "{:?}", String::from_utf8_lossy(bytes)),
        (whole, verdict) => panic!("{:?} and {:?} for {:?}", whole, verdict, bytes),
    }
    assert!(pieces.len() <= bytes.len());
    let _ = http::Requests::default().feed(bytes, &only_a);
}
