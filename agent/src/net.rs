//! The network inside the guest: addresses and routes by ioctl (netdevice(7)), and connections dialled for the host.

use crate::agent::{Agent, Ticket, Timer, TimerKey, Token};
use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::object;
use crate::streams::{Owner, SinkKind};
use crate::sys;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::raw::{c_ulong, c_void};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsRawFd, OwnedFd};

const SIOCADDRT: c_ulong = 0x890b;
const SIOCGIFFLAGS: c_ulong = 0x8913;
const SIOCSIFFLAGS: c_ulong = 0x8914;
const SIOCSIFADDR: c_ulong = 0x8916;
const SIOCSIFNETMASK: c_ulong = 0x891c;
const SIOCSIFHWADDR: c_ulong = 0x8924;
const IFF_UP: u16 = 1;
const ARPHRD_ETHER: u16 = 1;
const RTF_UP_GATEWAY: u16 = 3;
const DIAL_TIMEOUT_MS: u64 = 10_000;
/// Connections being opened; open ones are bounded by the streams.
const MOST_DIALS: usize = 256;

/// `struct ifreq`: a name and 24 bytes of union.
#[repr(C)]
struct IfReq {
    name: [u8; 16],
    data: [u8; 24],
}

/// `struct rtentry` on 64-bit machines.
#[repr(C)]
struct RtEntry {
    pad1: c_ulong,
    destination: [u8; 16],
    gateway: [u8; 16],
    mask: [u8; 16],
    flags: u16,
    pad2: i16,
    pad3: c_ulong,
    pad4: *const c_void,
    metric: i16,
    device: *const u8,
    mtu: c_ulong,
    window: c_ulong,
    irtt: u16,
}

fn if_req(name: &str) -> Outcome<IfReq> {
    let mut request = IfReq {
        name: [0; 16],
        data: [0; 24],
    };
    if name.is_empty() || name.len() > 15 || name.contains('/') {
        return Err(Failure::invalid(format!(
            "{:?} is no name of a network interface",
            name
        )));
    }
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    Ok(request)
}

/// `struct sockaddr_in`.
fn socket_address(address: Ipv4Addr, port: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&(sys::AF_INET as u16).to_ne_bytes());
    bytes[2..4].copy_from_slice(&port.to_be_bytes());
    bytes[4..8].copy_from_slice(&address.octets());
    bytes
}

fn control_socket() -> Outcome<OwnedFd> {
    sys::owned(unsafe { sys::socket(sys::AF_INET, sys::SOCK_DGRAM | sys::SOCK_CLOEXEC, 0) })
        .context("socket")
}

fn set_up(socket: &OwnedFd, name: &str, up: bool) -> Outcome<()> {
    let mut request = if_req(name)?;
    let fd = socket.as_raw_fd();
    let what = || format!("interface {}", name);
    sys::check(unsafe { sys::ioctl(fd, SIOCGIFFLAGS, &mut request) }).context(what())?;
    let flags = u16::from_ne_bytes([request.data[0], request.data[1]]);
    let wanted = if up { flags | IFF_UP } else { flags & !IFF_UP };
    if wanted != flags {
        request.data[..2].copy_from_slice(&wanted.to_ne_bytes());
        sys::check(unsafe { sys::ioctl(fd, SIOCSIFFLAGS, &request) }).context(what())?;
    }
    Ok(())
}

fn set_address(socket: &OwnedFd, name: &str, address: Ipv4Addr, prefix: u32) -> Outcome<()> {
    let fd = socket.as_raw_fd();
    let mask = Ipv4Addr::from(u32::MAX.checked_shl(32 - prefix).unwrap_or(0));
    for (request_number, value) in [(SIOCSIFADDR, address), (SIOCSIFNETMASK, mask)] {
        let mut request = if_req(name)?;
        request.data[..16].copy_from_slice(&socket_address(value, 0));
        sys::check(unsafe { sys::ioctl(fd, request_number, &request) })
            .context(format!("address of interface {}", name))?;
    }
    Ok(())
}

fn add_default_route(socket: &OwnedFd, gateway: Ipv4Addr) -> Outcome<()> {
    let none = socket_address(Ipv4Addr::UNSPECIFIED, 0);
    let route = RtEntry {
        pad1: 0,
        destination: none,
        gateway: socket_address(gateway, 0),
        mask: none,
        flags: RTF_UP_GATEWAY,
        pad2: 0,
        pad3: 0,
        pad4: std::ptr::null(),
        metric: 0,
        device: std::ptr::null(),
        mtu: 0,
        window: 0,
        irtt: 0,
    };
    match sys::check(unsafe { sys::ioctl(socket.as_raw_fd(), SIOCADDRT, &route) }) {
        // The route of an earlier call.
        Err(error) if error.raw_os_error() == Some(sys::EEXIST) => Ok(()),
        other => other
            .map(drop)
            .context(format!("default route by {}", gateway)),
    }
}

/// Takes a card away from its driver: the guest then has no such interface. One that is not there is away already.
fn take_away(socket: &OwnedFd, name: &str) -> Outcome<()> {
    let device = match fs::read_link(format!("/sys/class/net/{}/device", name)) {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::io(name, &error)),
    };
    let number = device.file_name().map(|number| number.as_bytes().to_vec());
    let number =
        number.ok_or_else(|| Failure::new("internal", format!("{} has no device", name)))?;
    set_up(socket, name, false)?;
    let driver = format!("/sys/class/net/{}/device/driver/unbind", name);
    fs::write(&driver, number).context(driver)
}

fn ipv4(args: &Args, name: &str) -> Outcome<Option<Ipv4Addr>> {
    args.optional_text(name)?
        .map(|text| {
            let message =
                || Failure::invalid(format!("{} is {:?}, expected an IPv4 address", name, text));
            text.parse().map_err(|_| message())
        })
        .transpose()
}

/// net.configure.
pub fn configure(args: &Args) -> Outcome<Value> {
    let socket = control_socket()?;
    if args
        .0
        .get("loopback")
        .and_then(Value::as_bool)
        .unwrap_or(true)
    {
        set_up(&socket, "lo", true)?;
    }
    let name = args.optional_text("interface")?.unwrap_or("eth0");
    if args.flag("disabled")? {
        return take_away(&socket, name).map(|()| object! {});
    }
    if let Some(address) = ipv4(args, "address")? {
        let prefix = args.int("prefix", 0, 32)? as u32;
        set_address(&socket, name, address, prefix)?;
        set_up(&socket, name, true)?;
        if let Some(gateway) = ipv4(args, "gateway")? {
            add_default_route(&socket, gateway)?;
        }
    }
    let dns = args.list("dns")?;
    if !dns.is_empty() {
        let mut content = Vec::new();
        for server in dns {
            content.extend_from_slice(&[b"nameserver ", server, b"\n"].concat());
        }
        replace_file("/etc/resolv.conf", &content)?;
    }
    Ok(object! {})
}

/// Writes a small configuration file; a link in its place is replaced, not followed.
pub fn replace_file(path: &str, content: &[u8]) -> Outcome<()> {
    if fs::symlink_metadata(path).map_or(false, |found| found.file_type().is_symlink()) {
        fs::remove_file(path).context(path)?;
    }
    fs::write(path, content).context(path)
}

/// Gives an interface another hardware address, such as `52:54:00:12:34:56`; keeps it up or down. A box without a network
/// has no interface, and needs no address.
pub fn set_mac(name: &str, mac: &str) -> Outcome<()> {
    if fs::metadata(format!("/sys/class/net/{}", name)).is_err() {
        return Ok(());
    }
    let bytes: Vec<u8> = mac
        .split(':')
        .filter_map(|part| u8::from_str_radix(part, 16).ok())
        .collect();
    if bytes.len() != 6 || mac.len() != 17 {
        return Err(Failure::invalid(format!(
            "mac is {:?}, expected six bytes in hex",
            mac
        )));
    }
    let socket = control_socket()?;
    let mut request = if_req(name)?;
    request.data[..2].copy_from_slice(&ARPHRD_ETHER.to_ne_bytes());
    request.data[2..8].copy_from_slice(&bytes);
    let set = || sys::check(unsafe { sys::ioctl(socket.as_raw_fd(), SIOCSIFHWADDR, &request) });
    let done = match set() {
        // A card that cannot change its address while it is up.
        Err(error) if error.raw_os_error() == Some(sys::EBUSY) => {
            set_up(&socket, name, false)?;
            let done = set();
            set_up(&socket, name, true)?;
            done
        }
        other => other,
    };
    done.map(drop)
        .context(format!("hardware address of {}", name))
}

/// Brings the interfaces up before the machine is frozen: the card's receive buffers are then in the frozen memory,
/// and no box makes its own.
pub fn prepare() -> Outcome<()> {
    // QEMU's user-mode network is started without IPv6: its addresses and solicitations would lead nowhere.
    let _ = fs::write("/proc/sys/net/ipv6/conf/eth0/disable_ipv6", "1");
    let socket = control_socket()?;
    set_up(&socket, "lo", true)?;
    set_up(&socket, "eth0", true)
}

/// A connection being opened.
pub struct Dial {
    /// Set once it is being opened.
    timeout: Option<TimerKey>,
    ticket: Ticket,
    socket: OwnedFd,
    input: Option<u32>,
    output: Option<u32>,
    target: String,
    /// The port to try on ::1 when nobody listens here.
    other: Option<u16>,
}

impl Agent {
    /// net.dial: `in` carries bytes to the guest's server, `out` bytes from it.
    pub fn net_dial(&mut self, ticket: Ticket, args: &Args) -> Outcome<()> {
        let port = args.int("port", 1, 65535)? as u16;
        let host = args.optional_text("host")?.unwrap_or("localhost");
        // "localhost" is either loopback address: servers that resolve the name often listen on ::1 alone.
        let (host, other) = match host {
            "localhost" => ("127.0.0.1", Some(port)),
            host => (host, None),
        };
        let address: IpAddr = host
            .parse()
            .map_err(|_| Failure::invalid(format!("host is {:?}, expected an address", host)))?;
        let (input, output) = (args.stream("in")?, args.stream("out")?);
        self.check_streams(&[input, output])?;
        if self.dials.len() >= MOST_DIALS {
            return Err(Failure::new(
                "resource_exhausted",
                "too many connections are being opened",
            ));
        }
        let target = format!("{}:{}", host, port);
        let socket = start_connect(address, port).map_err(|error| {
            Failure::new("network_unavailable", format!("{}: {}", target, error))
        })?;
        let dial = Dial {
            timeout: None,
            ticket,
            socket,
            input,
            output,
            target,
            other,
        };
        self.start_dial(dial)
    }

    fn start_dial(&mut self, mut dial: Dial) -> Outcome<()> {
        let id = self.new_key();
        self.watch(&dial.socket, sys::EPOLLOUT, Token::Dial(id))
            .context("epoll_ctl")?;
        dial.timeout = Some(self.after(DIAL_TIMEOUT_MS, Timer::DialTimeout(id)));
        self.dials.insert(id, dial);
        Ok(())
    }

    /// Tries ::1 after 127.0.0.1. False: there is no other address, or it does not even begin.
    fn dial_other(&mut self, dial: &mut Dial) -> bool {
        let port = match dial.other.take() {
            Some(port) => port,
            None => return false,
        };
        let socket = match start_connect(IpAddr::V6(Ipv6Addr::LOCALHOST), port) {
            Ok(socket) => socket,
            Err(_) => return false,
        };
        dial.target = format!("{} and [::1]:{}", dial.target, port);
        dial.socket = socket;
        true
    }

    pub fn dial_event(&mut self, id: u64) {
        if let Some(dial) = self.dials.remove(&id) {
            self.unwatch(&dial.socket);
            if let Some(timeout) = dial.timeout {
                self.cancel_timer(timeout);
            }
            let ticket = dial.ticket;
            let answer = match self.dialled(dial) {
                Ok(None) => return,
                Ok(Some(value)) => Ok(value),
                Err(failure) => Err(failure),
            };
            self.reply(ticket, answer);
        }
    }

    /// The host waits no longer: nothing is opened for it.
    pub fn cancel_dial(&mut self, ticket: Ticket) {
        self.dials.retain(|_, dial| dial.ticket != ticket);
    }

    pub fn dial_timeout(&mut self, id: u64) {
        if let Some(dial) = self.dials.remove(&id) {
            let message = format!("{}: no answer within {} ms", dial.target, DIAL_TIMEOUT_MS);
            self.reply(
                dial.ticket,
                Err(Failure::new("network_unavailable", message)),
            );
        }
    }

    /// None: another address is tried, and answered later.
    fn dialled(&mut self, mut dial: Dial) -> Outcome<Option<Value>> {
        let mut error: i32 = 0;
        let mut length = std::mem::size_of::<i32>() as u32;
        let pointer = &mut error as *mut i32 as *mut c_void;
        let fd = dial.socket.as_raw_fd();
        sys::check(unsafe {
            sys::getsockopt(fd, sys::SOL_SOCKET, sys::SO_ERROR, pointer, &mut length)
        })
        .context("getsockopt")?;
        if error == sys::ECONNREFUSED && self.dial_other(&mut dial) {
            return self.start_dial(dial).map(|()| None);
        }
        if error != 0 {
            let message = format!("{}: {}", dial.target, io::Error::from_raw_os_error(error));
            return Err(Failure::new("network_unavailable", message));
        }
        self.check_streams(&[dial.input, dial.output])?;
        if let Some(stream) = dial.input {
            let fd = sys::duplicate(&dial.socket).context("dup")?;
            let sink = self
                .add_sink(fd, Owner::Connection, SinkKind::Socket)
                .context("epoll_ctl")?;
            self.attach_sink(sink, stream);
        }
        if let Some(stream) = dial.output {
            let source = self
                .add_source(dial.socket, Owner::Connection, false)
                .context("epoll_ctl")?;
            self.attach_source(source, stream, 0);
        }
        Ok(Some(object! {}))
    }
}

fn start_connect(address: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let kind = sys::SOCK_STREAM | sys::SOCK_CLOEXEC | sys::SOCK_NONBLOCK;
    let (domain, bytes) = match address {
        IpAddr::V4(address) => (sys::AF_INET, socket_address(address, port).to_vec()),
        IpAddr::V6(address) => {
            let mut bytes = vec![0; 28];
            bytes[..2].copy_from_slice(&(sys::AF_INET6 as u16).to_ne_bytes());
            bytes[2..4].copy_from_slice(&port.to_be_bytes());
            bytes[8..24].copy_from_slice(&address.octets());
            (sys::AF_INET6, bytes)
        }
    };
    let socket = sys::owned(unsafe { sys::socket(domain, kind, 0) })?;
    let pointer = bytes.as_ptr() as *const c_void;
    match sys::check(unsafe { sys::connect(socket.as_raw_fd(), pointer, bytes.len() as u32) }) {
        Err(error) if error.raw_os_error() != Some(sys::EINPROGRESS) => Err(error),
        _ => Ok(socket),
    }
}
