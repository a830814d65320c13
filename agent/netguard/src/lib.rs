//! Loaded into QEMU by LD_PRELOAD: QEMU's user-mode network opens a socket of the host for every connection of the
//! guest, so what must not be reached is refused where those sockets connect. Everything else passes unchanged.

pub mod rule;

use std::net::IpAddr;
use std::os::raw::{c_char, c_int, c_uint, c_void};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

const EACCES: c_int = 13;
const EFAULT: c_int = 14;
const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;
/// No socket address is longer (`struct sockaddr_storage`).
const MOST_ADDRESS_BYTES: usize = 128;

extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

/// The beginning of `struct msghdr`.
#[repr(C)]
struct MessageHeader {
    name: *const c_void,
    name_length: c_uint,
}

/// `struct mmsghdr` on 64-bit machines: a message header of 56 bytes and a length.
#[repr(C)]
struct ManyHeader {
    header: MessageHeader,
    rest: [u64; 5],
    length: c_uint,
}

type Connect = unsafe extern "C" fn(c_int, *const c_void, c_uint) -> c_int;
type SendTo =
    unsafe extern "C" fn(c_int, *const c_void, usize, c_int, *const c_void, c_uint) -> isize;
type SendMessage = unsafe extern "C" fn(c_int, *const c_void, c_int) -> isize;
type SendMany = unsafe extern "C" fn(c_int, *mut c_void, c_uint, c_int) -> c_int;

static NEXT_CONNECT: AtomicUsize = AtomicUsize::new(0);
static NEXT_SENDTO: AtomicUsize = AtomicUsize::new(0);
static NEXT_SENDMSG: AtomicUsize = AtomicUsize::new(0);
static NEXT_SENDMMSG: AtomicUsize = AtomicUsize::new(0);
static NAME_SERVERS: AtomicPtr<Vec<IpAddr>> = AtomicPtr::new(std::ptr::null_mut());

/// The C library's function behind ours. A process that cannot find it must not go on unguarded.
fn next(slot: &AtomicUsize, name: &'static [u8]) -> usize {
    let known = slot.load(Ordering::Relaxed);
    if known != 0 {
        return known;
    }
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr() as *const c_char) } as usize;
    if found == 0 {
        std::process::abort();
    }
    slot.store(found, Ordering::Relaxed);
    found
}

/// Read once, when the library is loaded: later the process may not see the host's files any more.
extern "C" fn load() {
    let content = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = Box::into_raw(Box::new(rule::name_servers(&content)));
    NAME_SERVERS.store(servers, Ordering::Release);
}

#[used]
#[link_section = ".init_array"]
static AT_LOAD: extern "C" fn() = load;

fn name_servers() -> &'static [IpAddr] {
    let servers = NAME_SERVERS.load(Ordering::Acquire);
    if servers.is_null() {
        &[]
    } else {
        unsafe { &*servers }
    }
}

/// Whether the address is one that is refused; it is copied out first, so that nobody changes it after the look.
unsafe fn refuses(address: *const c_void, length: c_uint) -> bool {
    if address.is_null() || length < 2 {
        return false;
    }
    let bytes = std::slice::from_raw_parts(
        address as *const u8,
        (length as usize).min(MOST_ADDRESS_BYTES),
    );
    match rule::parse(bytes) {
        Some((address, port)) => rule::is_refused(address, port, name_servers()),
        None => false,
    }
}

unsafe fn fail(error: c_int) {
    *__errno_location() = error;
}

/// connect(2), guarded.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn connect(fd: c_int, address: *const c_void, length: c_uint) -> c_int {
    if refuses(address, length) {
        fail(EACCES);
        return -1;
    }
    let function: Connect = std::mem::transmute(next(&NEXT_CONNECT, b"connect\0"));
    function(fd, address, length)
}

/// sendto(2), guarded.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    data: *const c_void,
    count: usize,
    flags: c_int,
    address: *const c_void,
    length: c_uint,
) -> isize {
    if refuses(address, length) {
        fail(EACCES);
        return -1;
    }
    let function: SendTo = std::mem::transmute(next(&NEXT_SENDTO, b"sendto\0"));
    function(fd, data, count, flags, address, length)
}

/// sendmsg(2), guarded.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const c_void, flags: c_int) -> isize {
    if message.is_null() {
        fail(EFAULT);
        return -1;
    }
    let header = &*(message as *const MessageHeader);
    if refuses(header.name, header.name_length) {
        fail(EACCES);
        return -1;
    }
    let function: SendMessage = std::mem::transmute(next(&NEXT_SENDMSG, b"sendmsg\0"));
    function(fd, message, flags)
}

/// sendmmsg(2), guarded: one refused address refuses all.
///
/// # Safety
/// As for the C function.
#[no_mangle]
pub unsafe extern "C" fn sendmmsg(
    fd: c_int,
    messages: *mut c_void,
    count: c_uint,
    flags: c_int,
) -> c_int {
    if !messages.is_null() {
        let headers = std::slice::from_raw_parts(messages as *const ManyHeader, count as usize);
        if headers
            .iter()
            .any(|one| refuses(one.header.name, one.header.name_length))
        {
            fail(EACCES);
            return -1;
        }
    }
    let function: SendMany = std::mem::transmute(next(&NEXT_SENDMMSG, b"sendmmsg\0"));
    function(fd, messages, count, flags)
}
