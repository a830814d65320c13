//! What the gateway itself says to the guest of a connection, and notes of one that it refuses.

use crate::denials::Refused;
use crate::gateway::Shared;
use crate::packet::{self, Route, Segment, ACK, RST, SYN};
use crate::streams::Key;

/// A segment with the ports of its connection.
pub fn with_ports<'a>(key: Key, segment: &Segment<'a>) -> Segment<'a> {
    Segment {
        source_port: key.port,
        destination_port: key.guest_port,
        payload: segment.payload,
        ..*segment
    }
}

/// Sends a segment of a connection to the guest.
pub fn send(shared: &mut Shared, key: Key, segment: &Segment) {
    let route = Route::from(key.address, shared.guest_mac);
    shared.wire.send(&route.tcp(&with_ports(key, segment)));
}

/// Says that there is no such connection (RFC 9293, section 3.5.2).
pub fn answer_reset(shared: &mut Shared, key: Key, segment: &Segment) {
    let length = segment.payload.len() as u32 + u32::from(segment.flags & SYN != 0);
    let length = length + u32::from(segment.flags & packet::FIN != 0);
    let reset = match segment.flags & ACK {
        0 => Segment {
            ack: segment.seq.wrapping_add(length),
            flags: RST | ACK,
            ..Segment::default()
        },
        _ => Segment {
            seq: segment.ack,
            flags: RST,
            ..Segment::default()
        },
    };
    send(shared, key, &reset);
}

/// Notes why a connection was refused.
pub fn refuse(shared: &mut Shared, key: Key, reason: &'static str, name: Option<String>) {
    shared.told.refused(Refused {
        reason,
        protocol: "tcp",
        name,
        address: Some(key.address),
        port: key.port,
    });
}
