//! Which addresses a machine may not reach.

use crate::libc::{AF_INET, AF_INET6};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const DNS_PORT: u16 = 53;
const RESOLVER_FILE: &str = "/etc/resolv.conf";

/// Whether a socket address, as the C library passes it, is refused. What is no internet address is not.
pub fn is_refused(bytes: &[u8]) -> bool {
    match parse(bytes) {
        Some((ip, port)) => {
            is_internal(ip) && !(port == DNS_PORT && configured_nameservers().contains(&ip))
        }
        None => false,
    }
}

/// `struct sockaddr_in` (ip(7)) or `struct sockaddr_in6` (ipv6(7)).
fn parse(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let family = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]);
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    if family == AF_INET {
        let octets: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
        return Some((IpAddr::V4(Ipv4Addr::from(octets)), port));
    }
    if family == AF_INET6 {
        let octets: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
        return Some((plain(Ipv6Addr::from(octets)), port));
    }
    None
}

/// An IPv4 address in IPv6 clothes (RFC 4291, section 2.5.5.2) is that IPv4 address.
fn plain(address: Ipv6Addr) -> IpAddr {
    let octets = address.octets();
    if octets[..10] == [0; 10] && octets[10..12] == [0xff, 0xff] {
        return IpAddr::V4(Ipv4Addr::new(
            octets[12], octets[13], octets[14], octets[15],
        ));
    }
    IpAddr::V6(address)
}

/// Loopback, link-local and "this host" (RFC 6890).
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unspecified() || ip.segments()[0] & 0xffc0 == 0xfe80
        }
    }
}

/// The resolver may itself be on the loopback, and may change: it is read when it matters.
fn configured_nameservers() -> Vec<IpAddr> {
    nameservers(&std::fs::read_to_string(RESOLVER_FILE).unwrap_or_default())
}

/// Addresses of the `nameserver` lines (resolv.conf(5)).
pub fn nameservers(text: &str) -> Vec<IpAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        let mut bytes = AF_INET.to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.extend([0; 8]);
        bytes
    }

    fn v6(ip: &str, port: u16) -> Vec<u8> {
        let mut bytes = AF_INET6.to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(ip.parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([0; 4]);
        bytes
    }

    #[test]
    fn refuses_what_belongs_to_the_host() {
        for ip in [
            [127, 0, 0, 1],
            [127, 9, 9, 9],
            [169, 254, 169, 254],
            [0, 0, 0, 0],
        ] {
            assert!(is_refused(&v4(ip, 80)), "{:?}", ip);
        }
        for ip in [
            "::1",
            "::",
            "fe80::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_refused(&v6(ip, 80)), "{}", ip);
        }
    }

    #[test]
    fn lets_the_rest_through() {
        for ip in [
            [1, 1, 1, 1],
            [10, 0, 0, 1],
            [192, 168, 1, 1],
            [128, 0, 0, 1],
        ] {
            assert!(!is_refused(&v4(ip, 80)), "{:?}", ip);
        }
        for ip in ["2001:db8::1", "::ffff:1.1.1.1", "fd00::1"] {
            assert!(!is_refused(&v6(ip, 80)), "{}", ip);
        }
        assert!(
            !is_refused(&[1, 0, b'/', b't', b'm', b'p', 0]),
            "a unix socket"
        );
        assert!(!is_refused(&[]), "nothing");
        assert!(!is_refused(&[2, 0, 0]), "too short to be an address");
    }

    #[test]
    fn reads_nameservers() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 127.0.0.53\n nameserver ::1 # local\nnameserver x\n";
        let expected: Vec<IpAddr> = vec!["127.0.0.53".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(nameservers(text), expected);
    }
}
