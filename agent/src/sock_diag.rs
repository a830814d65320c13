//! Destroys TCP connections that lead out of the machine (sock_diag(7), SOCK_DESTROY): after a restore the other side
//! knows nothing of them. Listening sockets and connections within the machine stay.

use crate::failure::{Context, Failure, Outcome};
use crate::json::Value;
use crate::object;
use crate::sys;
use std::os::raw::c_void;
use std::os::unix::io::{AsRawFd, OwnedFd};

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
/// All but TIME_WAIT (6), CLOSE (7) and LISTEN (10).
const OPEN_STATES: u32 = 0xfff & !(1 | 1 << 6 | 1 << 7 | 1 << 10);
const SOCKET_ID_BYTES: usize = 48;
/// Connections destroyed per address family in one call.
const MOST: usize = 65_536;

/// net.resetConnections: how many were destroyed.
pub fn reset_connections() -> Outcome<Value> {
    let kind = sys::SOCK_RAW | sys::SOCK_CLOEXEC;
    let socket = sys::owned(unsafe { sys::socket(sys::AF_NETLINK, kind, NETLINK_SOCK_DIAG) })
        .context("sock_diag")?;
    let mut reset = 0u64;
    for family in [sys::AF_INET as u8, sys::AF_INET6 as u8] {
        for id in open_connections(&socket, family)? {
            if leads_out(family, &id) && destroy(&socket, family, &id)? {
                reset += 1;
            }
        }
    }
    Ok(object! { "reset" => reset })
}

/// `struct inet_diag_req_v2` in a netlink message.
fn message(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; SOCKET_ID_BYTES]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(72);
    bytes.extend_from_slice(&72u32.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    bytes.extend_from_slice(&states.to_ne_bytes());
    bytes.extend_from_slice(id);
    bytes
}

fn send(socket: &OwnedFd, message: &[u8]) -> Outcome<()> {
    let sent = unsafe {
        sys::write(
            socket.as_raw_fd(),
            message.as_ptr() as *const c_void,
            message.len(),
        )
    };
    sys::check(sent as i32).map(drop).context("sock_diag")
}

fn open_connections(socket: &OwnedFd, family: u8) -> Outcome<Vec<[u8; SOCKET_ID_BYTES]>> {
    let any = [0; SOCKET_ID_BYTES];
    send(
        socket,
        &message(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, OPEN_STATES, &any),
    )?;
    let mut found = Vec::new();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let count = match sys::read_some(socket.as_raw_fd(), &mut buffer) {
            sys::Io::Done(count) => count,
            _ => {
                return Err(Failure::new(
                    "unsupported",
                    "the kernel does not list its connections",
                ))
            }
        };
        for (kind, body) in messages(&buffer[..count]) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(unsupported(body)),
                // struct inet_diag_msg: four bytes, then the socket's id.
                _ => {
                    let id = body
                        .get(4..4 + SOCKET_ID_BYTES)
                        .and_then(|id| id.try_into().ok());
                    if let (Some(id), true) = (id, found.len() < MOST) {
                        found.push(id);
                    }
                }
            }
        }
    }
}

fn unsupported(body: &[u8]) -> Failure {
    let error = std::io::Error::from_raw_os_error(-error_number(body));
    Failure::new(
        "unsupported",
        format!("the kernel does not list its connections: {}", error),
    )
}

fn error_number(body: &[u8]) -> i32 {
    body.get(..4)
        .and_then(|four| four.try_into().ok())
        .map_or(-sys::EIO, i32::from_ne_bytes)
}

/// The messages in what was read: type and body.
fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while bytes.len() >= 16 {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if length < 16 || length > bytes.len() {
            break;
        }
        found.push((u16::from_ne_bytes([bytes[4], bytes[5]]), &bytes[16..length]));
        bytes = &bytes[((length + 3) & !3).min(bytes.len())..];
    }
    found
}

/// `struct inet_diag_sockid`: two ports, source at 4, destination at 20.
fn leads_out(family: u8, id: &[u8; SOCKET_ID_BYTES]) -> bool {
    let (source, destination) = (&id[4..20], &id[20..36]);
    let v4 = |address: &[u8]| address[0] == 127;
    let loopback = if family == sys::AF_INET as u8 {
        v4(destination)
    } else {
        let mapped = destination[..10] == [0; 10] && destination[10..12] == [255, 255];
        destination[..15] == [0; 15] && destination[15] == 1 || mapped && v4(&destination[12..])
    };
    !loopback && source != destination
}

fn destroy(socket: &OwnedFd, family: u8, id: &[u8; SOCKET_ID_BYTES]) -> Outcome<bool> {
    send(socket, &message(SOCK_DESTROY, NLM_F_ACK, family, 0, id))?;
    let mut buffer = [0; 4096];
    let count = match sys::read_some(socket.as_raw_fd(), &mut buffer) {
        sys::Io::Done(count) => count,
        _ => 0,
    };
    let error = messages(&buffer[..count])
        .first()
        .map_or(-sys::EIO, |(_, body)| error_number(body));
    match -error {
        0 => Ok(true),
        // It ended by itself meanwhile.
        sys::ENOENT => Ok(false),
        other => {
            let error = std::io::Error::from_raw_os_error(other);
            Err(Failure::new(
                "unsupported",
                format!("the kernel does not destroy connections: {}", error),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_connections_within_the_machine() {
        let mut id = [0; SOCKET_ID_BYTES];
        id[4..8].copy_from_slice(&[10, 0, 2, 15]);
        id[20..24].copy_from_slice(&[1, 2, 3, 4]);
        assert!(leads_out(2, &id));
        id[20..24].copy_from_slice(&[10, 0, 2, 15]);
        assert!(!leads_out(2, &id));
        id[20..24].copy_from_slice(&[127, 9, 9, 9]);
        assert!(!leads_out(2, &id));
        let mut mapped = [0; SOCKET_ID_BYTES];
        mapped[30..32].copy_from_slice(&[255, 255]);
        mapped[32..36].copy_from_slice(&[127, 0, 0, 1]);
        assert!(!leads_out(10, &mapped));
    }
}
