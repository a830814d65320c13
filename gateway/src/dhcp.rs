//! DHCP (RFC 2131) for the one guest there is: always the same address.

use crate::packet::{DNS, GATEWAY, GUEST};

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;
const LEASE_SECONDS: u32 = 86_400;
const BROADCAST: usize = 236;

/// The answer to a message of the guest, if it asks for something.
pub fn answer(message: &[u8]) -> Option<Vec<u8>> {
    if message.len() < BROADCAST + 4
        || message[0] != 1
        || message[BROADCAST..BROADCAST + 4] != MAGIC
    {
        return None;
    }
    let (mut kind, mut wanted) = (0, None);
    let mut options = &message[BROADCAST + 4..];
    while let [code, rest @ ..] = options {
        match code {
            0 => options = rest,
            255 => break,
            _ => {
                let length = usize::from(*rest.first()?);
                let value = rest.get(1..1 + length)?;
                match (code, value) {
                    (53, [value]) => kind = *value,
                    (50, [a, b, c, d]) => wanted = Some([*a, *b, *c, *d]),
                    _ => (),
                }
                options = &rest[1 + length..];
            }
        }
    }
    let kind = match kind {
        DISCOVER => OFFER,
        REQUEST if wanted.map_or(true, |wanted| wanted == GUEST.octets()) => ACK,
        REQUEST => NAK,
        _ => return None,
    };
    let mut out = message[..BROADCAST].to_vec();
    out[0] = 2;
    out[12..28].fill(0);
    if kind != NAK {
        out[16..20].copy_from_slice(&GUEST.octets());
        out[20..24].copy_from_slice(&GATEWAY.octets());
    }
    out[44..].fill(0);
    out.extend(MAGIC);
    out.extend([53, 1, kind, 54, 4]);
    out.extend(GATEWAY.octets());
    if kind != NAK {
        out.extend([51, 4]);
        out.extend(LEASE_SECONDS.to_be_bytes());
        out.extend([1, 4, 255, 255, 255, 0, 3, 4]);
        out.extend(GATEWAY.octets());
        out.extend([6, 4]);
        out.extend(DNS.octets());
    }
    out.push(255);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(options: &[u8]) -> Vec<u8> {
        let mut message = vec![0; BROADCAST];
        message[0] = 1;
        message[4..8].copy_from_slice(b"abcd");
        message.extend(MAGIC);
        message.extend(options);
        message
    }

    #[test]
    fn gives_the_one_address() {
        let offer = answer(&message(&[53, 1, DISCOVER, 255])).unwrap();
        assert_eq!(
            (&offer[4..8], &offer[16..20]),
            (&b"abcd"[..], &[10, 0, 2, 15][..])
        );
        assert_eq!(offer[BROADCAST + 6], OFFER);
        let other = answer(&message(&[50, 4, 10, 0, 2, 16, 53, 1, REQUEST, 255])).unwrap();
        assert_eq!(other[BROADCAST + 6], NAK);
        assert_eq!(answer(&message(&[53, 9, 1])), None);
        assert_eq!(answer(b"short"), None);
    }
}
