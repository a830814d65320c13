//! The C library as far as the gateway uses it: functions, structures and numbers of Linux (include/uapi).

use std::ffi::c_void;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::raw::{c_char, c_int, c_uint, c_ulong};
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;

const AF_UNIX: c_int = 1;
const AF_INET: c_int = 2;
const SOCK_STREAM: c_int = 1;
const SOCK_NONBLOCK: c_int = 0o4000;
const SOCK_CLOEXEC: c_int = 0o2000000;
const SOL_SOCKET: c_int = 1;
const SO_LINGER: c_int = 13;
const EINPROGRESS: i32 = 115;
const PR_SET_DUMPABLE: c_int = 4;
const PR_SET_NO_NEW_PRIVS: c_int = 38;

/// `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    pub fd: RawFd,
    pub events: i16,
    pub found: i16,
}

/// `struct sockaddr_in`.
#[repr(C)]
struct SockAddrIn {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

/// `struct sockaddr_un`.
#[repr(C)]
struct SockAddrUn {
    family: u16,
    path: [u8; 108],
}

/// `struct ifaddrs` of getifaddrs(3), up to `ifa_addr`.
#[repr(C)]
struct IfAddrs {
    next: *mut IfAddrs,
    name: *mut c_char,
    flags: c_uint,
    address: *const SockAddrIn,
}

extern "C" {
    fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
    fn setsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *const c_void,
        length: c_uint,
    ) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn getifaddrs(out: *mut *mut IfAddrs) -> c_int;
    fn freeifaddrs(list: *mut IfAddrs);
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// Waits until one of the descriptors is ready, or for so many milliseconds; -1: for ever.
pub fn wait(fds: &mut [PollFd], timeout_ms: i32) -> io::Result<()> {
    // SAFETY: the slice is valid for its length.
    match check(unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, timeout_ms) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            fds.iter_mut().for_each(|fd| fd.found = 0);
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Begins a connection; it is there, or has failed, when the socket can be written.
pub fn start_connect(to: SocketAddrV4) -> io::Result<TcpStream> {
    // SAFETY: plain system calls; the descriptor is owned from here on.
    let fd = check(unsafe { socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) })?;
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = SockAddrIn {
        family: AF_INET as u16,
        port: to.port().to_be_bytes(),
        address: to.ip().octets(),
        zero: [0; 8],
    };
    let pointer = &address as *const SockAddrIn as *const c_void;
    let length = std::mem::size_of::<SockAddrIn>() as c_uint;
    match check(unsafe { connect(owned.as_raw_fd(), pointer, length) }) {
        Err(error) if error.raw_os_error() != Some(EINPROGRESS) => Err(error),
        _ => Ok(TcpStream::from(owned)),
    }
}

/// Connects to a unix socket, without waiting where its queue is full. Reads, writes and ends are those of any stream.
pub fn connect_unix(path: &str) -> io::Result<TcpStream> {
    // SAFETY: plain system calls; the descriptor is owned from here on.
    let fd = check(unsafe { socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) })?;
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut address = SockAddrUn {
        family: AF_UNIX as u16,
        path: [0; 108],
    };
    // The last byte stays zero.
    let room = address.path.len() - 1;
    if path.len() > room {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    address.path[..path.len()].copy_from_slice(path.as_bytes());
    let pointer = &address as *const SockAddrUn as *const c_void;
    let length = std::mem::size_of::<SockAddrUn>() as c_uint;
    check(unsafe { connect(owned.as_raw_fd(), pointer, length) })?;
    Ok(TcpStream::from(owned))
}

/// Makes closing the socket reset its connection, so that the server learns that it was not ended in order.
pub fn reset_on_close(stream: &TcpStream) {
    let linger: [c_int; 2] = [1, 0];
    let pointer = linger.as_ptr() as *const c_void;
    // SAFETY: `struct linger` is two ints. A socket that refuses is closed in order instead.
    unsafe { setsockopt(stream.as_raw_fd(), SOL_SOCKET, SO_LINGER, pointer, 8) };
}

/// Nobody of the same user looks into this process, and nothing that it starts gets more rights.
pub fn lock_down() {
    // SAFETY: no pointers are passed.
    unsafe {
        prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
}

/// The IPv4 addresses of this host's interfaces.
pub fn own_addresses() -> io::Result<Vec<Ipv4Addr>> {
    let mut list: *mut IfAddrs = std::ptr::null_mut();
    let mut found = Vec::new();
    // SAFETY: the list is walked before it is freed, and each entry's address has the length of its family.
    unsafe {
        check(getifaddrs(&mut list))?;
        let mut entry = list;
        while !entry.is_null() {
            let address = (*entry).address;
            if !address.is_null() && (*address).family == AF_INET as u16 {
                found.push(Ipv4Addr::from((*address).address));
            }
            entry = (*entry).next;
        }
        freeifaddrs(list);
    }
    Ok(found)
}
