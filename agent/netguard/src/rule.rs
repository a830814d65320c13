//! Which addresses a guest may not reach through its host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
const DNS_PORT: u16 = 53;

/// Address and port of a `struct sockaddr_in` or `sockaddr_in6` (ip(7), ipv6(7)); None for other families.
pub fn parse(bytes: &[u8]) -> Option<(IpAddr, u16)> {
    let family = u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?]);
    let port = || Some(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
    match family {
        AF_INET => {
            let octets = <[u8; 4]>::try_from(bytes.get(4..8)?).ok()?;
            Some((IpAddr::V4(octets.into()), port()?))
        }
        AF_INET6 => {
            let octets = <[u8; 16]>::try_from(bytes.get(8..24)?).ok()?;
            Some((IpAddr::V6(octets.into()), port()?))
        }
        _ => None,
    }
}

/// Loopback, link-local and "this host" addresses, except port 53 of a name server of the host.
pub fn is_refused(address: IpAddr, port: u16, name_servers: &[IpAddr]) -> bool {
    let address = plain(address);
    let own = match address {
        IpAddr::V4(address) => is_own_v4(address),
        IpAddr::V6(address) => is_own_v6(address),
    };
    let is_name_server =
        port == DNS_PORT && name_servers.iter().any(|server| plain(*server) == address);
    own && !is_name_server
}

/// An IPv4 address in IPv6 clothes (mapped, compatible, NAT64) as what it is to the host's kernel or a gateway.
fn plain(address: IpAddr) -> IpAddr {
    let octets = match address {
        IpAddr::V4(_) => return address,
        IpAddr::V6(address) => address.octets(),
    };
    let low = Ipv4Addr::new(octets[12], octets[13], octets[14], octets[15]);
    let zeros = octets[..10] == [0; 10];
    let mapped = zeros && octets[10..12] == [0xff, 0xff];
    let compatible = zeros && octets[10..12] == [0, 0] && u32::from(low) > 1;
    let nat64 = octets[..12] == [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0];
    if mapped || compatible || nat64 {
        IpAddr::V4(low)
    } else {
        address
    }
}

/// 127/8, 169.254/16 (with the metadata services of clouds), 0/8 (which the kernel takes for this host).
fn is_own_v4(address: Ipv4Addr) -> bool {
    matches!(address.octets(), [127, ..] | [0, ..] | [169, 254, ..])
}

/// ::, ::1, fe80::/10, and the metadata service of a cloud at fd00:ec2::254.
fn is_own_v6(address: Ipv6Addr) -> bool {
    let first = address.segments()[0];
    address.is_unspecified()
        || address.is_loopback()
        || first & 0xffc0 == 0xfe80
        || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
}

/// The name servers of a resolv.conf(5).
pub fn name_servers(content: &str) -> Vec<IpAddr> {
    content
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next() != Some("nameserver") {
                return None;
            }
            let address = words.next()?;
            address.split('%').next()?.parse().ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(address: &str, port: u16) -> bool {
        let servers = name_servers(
            "# x\nnameserver 127.0.0.53\nsearch a\nnameserver fe80::1%eth0\nnameserver bad\n",
        );
        assert_eq!(servers.len(), 2);
        is_refused(address.parse().unwrap(), port, &servers)
    }

    #[test]
    fn refuses_the_host_itself() {
        for address in [
            "127.0.0.1",
            "127.255.1.2",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "::",
            "::1",
            "fe80::5",
            "febf::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::127.0.0.1",
            "fd00:ec2::254",
        ] {
            assert!(refused(address, 80), "{}", address);
        }
    }

    #[test]
    fn lets_the_world_through() {
        for address in [
            "1.1.1.1",
            "10.0.0.1",
            "192.168.1.1",
            "2606:4700::1",
            "fec0::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(!refused(address, 80), "{}", address);
        }
    }

    #[test]
    fn lets_name_servers_answer() {
        assert!(!refused("127.0.0.53", 53));
        assert!(!refused("::ffff:127.0.0.53", 53));
        assert!(!refused("fe80::1", 53));
        assert!(refused("127.0.0.53", 80));
        assert!(refused("127.0.0.1", 53));
    }

    #[test]
    fn reads_socket_addresses() {
        let mut v4 = vec![2, 0, 0, 80, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(parse(&v4), Some(("127.0.0.1".parse().unwrap(), 80)));
        assert_eq!(parse(&v4[..7]), None);
        v4[0] = 1;
        assert_eq!(parse(&v4), None);
        let mut v6 = vec![0; 28];
        v6[0] = 10;
        v6[23] = 1;
        assert_eq!(parse(&v6), Some(("::1".parse().unwrap(), 0)));
        assert_eq!(parse(&[]), None);
    }
}
