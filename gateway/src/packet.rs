//! Ethernet, ARP (RFC 826), IPv4 (RFC 791), ICMP (RFC 792), UDP (RFC 768) and TCP (RFC 9293) headers, read and written.

use std::net::Ipv4Addr;

pub type Mac = [u8; 6];

/// The addresses of the box's network, as QEMU's user-mode network gives them.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

pub const ICMP: u8 = 1;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

const ETHERTYPE_IPV4: [u8; 2] = [8, 0];
const ETHERTYPE_ARP: [u8; 2] = [8, 6];
const ETHERNET: usize = 14;
const IP: usize = 20;

/// The hardware address that a host of the box's network has: those of QEMU's user-mode network, which the guest of an
/// older memory knows already.
pub fn mac_of(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x52, 0x55, a, b, c, d]
}

/// What a frame of the guest holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// Who has this address?
    ArpRequest {
        sender: (Mac, Ipv4Addr),
        wanted: Ipv4Addr,
    },
    Ip {
        source_mac: Mac,
        packet: Packet<'a>,
    },
    /// An IPv4 packet that is never let out, and why.
    Refused(&'static str, Ipv4Addr),
    /// Nothing that is answered here.
    Other,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    pub protocol: u8,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
    /// All of the packet.
    pub bytes: &'a [u8],
    /// What is behind the IPv4 header.
    pub payload: &'a [u8],
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn ip_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32_at(bytes, at))
}

fn mac_at(bytes: &[u8], at: usize) -> Mac {
    let mut mac = [0; 6];
    mac.copy_from_slice(&bytes[at..at + 6]);
    mac
}

/// The Internet checksum (RFC 1071) of some pieces, of which only the last may be of odd length.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for piece in pieces {
        let mut pairs = piece.chunks_exact(2);
        for pair in &mut pairs {
            sum += u64::from(u16::from_be_bytes([pair[0], pair[1]]));
        }
        if let [last] = pairs.remainder() {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: usize) -> [u8; 12] {
    let mut header = [0; 12];
    header[..4].copy_from_slice(&source.octets());
    header[4..8].copy_from_slice(&destination.octets());
    header[9] = protocol;
    header[10..].copy_from_slice(&(length as u16).to_be_bytes());
    header
}

/// Reads a frame. Checksums are not looked at: the wire is a socket of this host, and a card may leave them out.
pub fn parse(frame: &[u8]) -> Frame<'_> {
    if frame.len() < ETHERNET {
        return Frame::Other;
    }
    let body = &frame[ETHERNET..];
    match [frame[12], frame[13]] {
        ETHERTYPE_ARP => parse_arp(body),
        ETHERTYPE_IPV4 => parse_ip(mac_at(frame, 6), body),
        _ => Frame::Other,
    }
}

fn parse_arp(body: &[u8]) -> Frame<'_> {
    // Ethernet and IPv4, a request.
    if body.len() < 28 || body[..8] != [0, 1, 8, 0, 6, 4, 0, 1] {
        return Frame::Other;
    }
    Frame::ArpRequest {
        sender: (mac_at(body, 8), ip_at(body, 14)),
        wanted: ip_at(body, 24),
    }
}

fn parse_ip(source_mac: Mac, body: &[u8]) -> Frame<'_> {
    if body.len() < IP || body[0] >> 4 != 4 {
        return Frame::Other;
    }
    let destination = ip_at(body, 16);
    let header = usize::from(body[0] & 15) * 4;
    let total = usize::from(u16_at(body, 2));
    if header < IP || total < header || total > body.len() {
        return Frame::Other;
    }
    // Source routes and the like (RFC 791, section 3.1).
    if header != IP {
        return Frame::Refused("options", destination);
    }
    // More fragments, or not the first one: what is in them cannot be judged.
    if u16_at(body, 6) & 0x3fff != 0 {
        return Frame::Refused("fragment", destination);
    }
    let packet = Packet {
        protocol: body[9],
        source: ip_at(body, 12),
        destination,
        bytes: &body[..total],
        payload: &body[IP..total],
    };
    Frame::Ip { source_mac, packet }
}

/// A TCP segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Segment<'a> {
    pub source_port: u16,
    pub destination_port: u16,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// Largest segment that the sender takes; with SYN only.
    pub mss: Option<u16>,
    /// What its windows are shifted by; with SYN only.
    pub scale: Option<u8>,
    pub payload: &'a [u8],
}

pub fn parse_tcp(bytes: &[u8]) -> Option<Segment<'_>> {
    if bytes.len() < 20 {
        return None;
    }
    let header = usize::from(bytes[12] >> 4) * 4;
    if header < 20 || header > bytes.len() {
        return None;
    }
    let mut segment = Segment {
        source_port: u16_at(bytes, 0),
        destination_port: u16_at(bytes, 2),
        seq: u32_at(bytes, 4),
        ack: u32_at(bytes, 8),
        flags: bytes[13],
        window: u16_at(bytes, 14),
        payload: &bytes[header..],
        ..Segment::default()
    };
    let mut options = &bytes[20..header];
    while let [kind, rest @ ..] = options {
        match kind {
            0 => break,
            1 => options = rest,
            _ => {
                let length = usize::from(*rest.first()?);
                if length < 2 || length > options.len() {
                    return None;
                }
                match (kind, &options[2..length]) {
                    (2, [high, low]) => segment.mss = Some(u16::from_be_bytes([*high, *low])),
                    (3, [shift]) => segment.scale = Some((*shift).min(14)),
                    _ => (),
                }
                options = &options[length..];
            }
        }
    }
    Some(segment)
}

/// A UDP datagram: source port, destination port, content.
pub fn parse_udp(bytes: &[u8]) -> Option<(u16, u16, &[u8])> {
    if bytes.len() < 8 {
        return None;
    }
    let length = usize::from(u16_at(bytes, 4));
    if length < 8 || length > bytes.len() {
        return None;
    }
    Some((u16_at(bytes, 0), u16_at(bytes, 2), &bytes[8..length]))
}

/// Who a frame goes to, and from whom it seems to come.
#[derive(Clone, Copy)]
pub struct Route {
    pub guest: Mac,
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
}

impl Route {
    /// To the guest from an address.
    pub fn from(source: Ipv4Addr, guest: Mac) -> Route {
        Route {
            guest,
            source,
            destination: GUEST,
        }
    }

    fn frame(&self, protocol: u8, parts: &[&[u8]]) -> Vec<u8> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut out = Vec::with_capacity(ETHERNET + IP + length);
        out.extend(self.guest);
        out.extend(mac_of(GATEWAY));
        out.extend(ETHERTYPE_IPV4);
        let mut header = [0; IP];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&((IP + length) as u16).to_be_bytes());
        // Not to be fragmented, as nothing here is.
        header[6] = 0x40;
        header[8] = 64;
        header[9] = protocol;
        header[12..16].copy_from_slice(&self.source.octets());
        header[16..].copy_from_slice(&self.destination.octets());
        let sum = checksum(&[&header]);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        out.extend(header);
        parts.iter().for_each(|part| out.extend_from_slice(part));
        out
    }

    pub fn tcp(&self, segment: &Segment) -> Vec<u8> {
        let mut header = Vec::with_capacity(28);
        header.extend(segment.source_port.to_be_bytes());
        header.extend(segment.destination_port.to_be_bytes());
        header.extend(segment.seq.to_be_bytes());
        header.extend(segment.ack.to_be_bytes());
        header.extend([0, segment.flags]);
        header.extend(segment.window.to_be_bytes());
        header.extend([0; 4]);
        if let Some(mss) = segment.mss {
            header.extend([2, 4]);
            header.extend(mss.to_be_bytes());
        }
        if let Some(scale) = segment.scale {
            header.extend([3, 3, scale, 1]);
        }
        header[12] = ((header.len() / 4) as u8) << 4;
        let length = header.len() + segment.payload.len();
        let pseudo = pseudo_header(self.source, self.destination, TCP, length);
        let sum = checksum(&[&pseudo, &header, segment.payload]);
        header[16..18].copy_from_slice(&sum.to_be_bytes());
        self.frame(TCP, &[&header, segment.payload])
    }

    pub fn udp(&self, source_port: u16, destination_port: u16, content: &[u8]) -> Vec<u8> {
        let length = 8 + content.len();
        let mut header = [0; 8];
        header[..2].copy_from_slice(&source_port.to_be_bytes());
        header[2..4].copy_from_slice(&destination_port.to_be_bytes());
        header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
        let pseudo = pseudo_header(self.source, self.destination, UDP, length);
        // A sum of zero means none was made (RFC 768).
        let sum = match checksum(&[&pseudo, &header, content]) {
            0 => 0xffff,
            sum => sum,
        };
        header[6..].copy_from_slice(&sum.to_be_bytes());
        self.frame(UDP, &[&header, content])
    }

    fn icmp(&self, kind: [u8; 2], rest: [u8; 4], content: &[u8]) -> Vec<u8> {
        let mut header = [kind[0], kind[1], 0, 0, rest[0], rest[1], rest[2], rest[3]];
        let sum = checksum(&[&header, content]);
        header[2..4].copy_from_slice(&sum.to_be_bytes());
        self.frame(ICMP, &[&header, content])
    }

    /// The answer to an echo request, if that is what the ICMP message is.
    pub fn echo_reply(&self, request: &[u8]) -> Option<Vec<u8>> {
        if request.len() < 8 || request[..2] != [8, 0] {
            return None;
        }
        let rest = [request[4], request[5], request[6], request[7]];
        Some(self.icmp([0, 0], rest, &request[8..]))
    }

    /// "Communication administratively prohibited" (RFC 1812, section 5.2.7.1) for a packet.
    pub fn prohibited(&self, packet: &Packet) -> Vec<u8> {
        let quoted = &packet.bytes[..packet.bytes.len().min(IP + 8)];
        self.icmp([3, 13], [0; 4], quoted)
    }
}

/// The answer to an ARP request for an address that is on this side.
pub fn arp_reply(sender: (Mac, Ipv4Addr), wanted: Ipv4Addr) -> Vec<u8> {
    let mut out = Vec::with_capacity(42);
    out.extend(sender.0);
    out.extend(mac_of(wanted));
    out.extend(ETHERTYPE_ARP);
    out.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    out.extend(mac_of(wanted));
    out.extend(wanted.octets());
    out.extend(sender.0);
    out.extend(sender.1.octets());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x52, 0x54, 0, 1, 2, 3];

    #[test]
    fn sums_as_rfc_1071_does() {
        let data = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&[&data]), !0xddf2);
        assert_eq!(checksum(&[&data[..4], &data[4..]]), !0xddf2);
    }

    #[test]
    fn reads_what_it_writes() {
        let route = Route::from(DNS, MAC);
        let segment = Segment {
            source_port: 443,
            destination_port: 50_000,
            seq: 7,
            ack: 9,
            flags: SYN | ACK,
            window: 1000,
            mss: Some(1460),
            scale: Some(5),
            payload: b"hi",
        };
        let frame = route.tcp(&segment);
        let packet = match parse(&frame) {
            Frame::Ip { packet, .. } => packet,
            other => panic!("{:?}", other),
        };
        assert_eq!((packet.source, packet.destination), (DNS, GUEST));
        assert_eq!(checksum(&[&packet.bytes[..20]]), 0, "sum of the header");
        let pseudo = pseudo_header(DNS, GUEST, TCP, packet.payload.len());
        assert_eq!(
            checksum(&[&pseudo, packet.payload]),
            0,
            "sum of the segment"
        );
        assert_eq!(parse_tcp(packet.payload), Some(segment));

        let frame = route.udp(53, 4000, b"answer");
        match parse(&frame) {
            Frame::Ip { packet, .. } => {
                assert_eq!(parse_udp(packet.payload), Some((53, 4000, &b"answer"[..])));
            }
            other => panic!("{:?}", other),
        }
    }

    #[test]
    fn refuses_fragments_and_options() {
        let mut frame = Route::from(DNS, MAC).udp(1, 2, b"");
        for bits in [0x20, 0x01] {
            frame[ETHERNET + 6] = bits;
            assert_eq!(parse(&frame), Frame::Refused("fragment", GUEST));
        }
        frame[ETHERNET + 6] = 0;
        frame[ETHERNET] = 0x46;
        assert_eq!(parse(&frame), Frame::Refused("options", GUEST));
    }

    #[test]
    fn answers_arp() {
        let mut request = vec![0xff; 6];
        request.extend(MAC);
        request.extend(ETHERTYPE_ARP);
        request.extend([0, 1, 8, 0, 6, 4, 0, 1]);
        request.extend(MAC);
        request.extend(GUEST.octets());
        request.extend([0; 6]);
        request.extend(GATEWAY.octets());
        let sender = (MAC, GUEST);
        let wanted = GATEWAY;
        assert_eq!(parse(&request), Frame::ArpRequest { sender, wanted });
        let reply = arp_reply(sender, wanted);
        assert_eq!(reply[22..28], [0x52, 0x55, 10, 0, 2, 2]);
        assert_eq!(parse(&reply), Frame::Other);
    }
}
