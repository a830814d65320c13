//! The few declarations of the C library that are needed (x86-64 and arm64 Linux).

use std::ffi::c_void;
use std::os::raw::{c_char, c_int};

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const EACCES: c_int = 13;
pub const O_ACCMODE: c_int = 3;
pub const O_RDONLY: c_int = 0;
pub const O_RDWR: c_int = 2;

const RTLD_NEXT: *mut c_void = -1isize as *mut c_void;

extern "C" {
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
    fn __errno_location() -> *mut c_int;
}

/// `struct msghdr` (recvmsg(2)).
#[repr(C)]
pub struct MsgHdr {
    pub name: *mut c_void,
    pub name_len: u32,
    pub iov: *mut c_void,
    pub iov_len: usize,
    pub control: *mut c_void,
    pub control_len: usize,
    pub flags: c_int,
}

/// `struct mmsghdr` (sendmmsg(2)).
#[repr(C)]
pub struct MMsgHdr {
    pub header: MsgHdr,
    pub sent: u32,
}

/// Sets `errno`.
pub fn set_errno(value: c_int) {
    // SAFETY: the C library gives a valid pointer to this thread's errno.
    unsafe { *__errno_location() = value }
}

/// `errno`.
pub fn errno() -> c_int {
    // SAFETY: as above.
    unsafe { *__errno_location() }
}

/// The next definition of a symbol; `name` ends with NUL. Aborts when there is none: the guard must not be half there.
pub fn next(name: &'static str) -> *mut c_void {
    debug_assert!(name.ends_with('\0'));
    // SAFETY: the name is a C string, and RTLD_NEXT is a valid pseudo handle.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr().cast()) };
    if found.is_null() {
        std::process::abort();
    }
    found
}
