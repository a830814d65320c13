//! The functions that reach out.

use crate::address::is_refused;
use crate::libc::{next, set_errno, MMsgHdr, MsgHdr, EACCES};
use std::ffi::c_void;
use std::mem::transmute;
use std::os::raw::c_int;

/// Longest address that is looked at: `struct sockaddr_storage`.
const MAX_ADDRESS_LEN: usize = 128;

fn refused(address: *const c_void, len: u32) -> bool {
    if address.is_null() {
        return false;
    }
    let len = (len as usize).min(MAX_ADDRESS_LEN);
    // SAFETY: the caller passes an address of at least `len` bytes, as the replaced function demands.
    let refused = is_refused(unsafe { std::slice::from_raw_parts(address.cast::<u8>(), len) });
    if refused {
        set_errno(EACCES);
    }
    refused
}

/// connect(2).
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn connect(fd: c_int, address: *const c_void, len: u32) -> c_int {
    type Connect = unsafe extern "C" fn(c_int, *const c_void, u32) -> c_int;
    if refused(address, len) {
        return -1;
    }
    let real: Connect = transmute(next("connect\0"));
    real(fd, address, len)
}

/// sendto(2).
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn sendto(
    fd: c_int,
    data: *const c_void,
    size: usize,
    flags: c_int,
    address: *const c_void,
    len: u32,
) -> isize {
    type SendTo =
        unsafe extern "C" fn(c_int, *const c_void, usize, c_int, *const c_void, u32) -> isize;
    if refused(address, len) {
        return -1;
    }
    let real: SendTo = transmute(next("sendto\0"));
    real(fd, data, size, flags, address, len)
}

/// sendmsg(2).
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn sendmsg(fd: c_int, message: *const MsgHdr, flags: c_int) -> isize {
    type SendMsg = unsafe extern "C" fn(c_int, *const MsgHdr, c_int) -> isize;
    if !message.is_null() && refused((*message).name, (*message).name_len) {
        return -1;
    }
    let real: SendMsg = transmute(next("sendmsg\0"));
    real(fd, message, flags)
}

/// sendmmsg(2): refused as a whole when any of its messages is.
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn sendmmsg(
    fd: c_int,
    messages: *mut MMsgHdr,
    count: u32,
    flags: c_int,
) -> c_int {
    type SendMMsg = unsafe extern "C" fn(c_int, *mut MMsgHdr, u32, c_int) -> c_int;
    if !messages.is_null() {
        for message in std::slice::from_raw_parts(messages, count as usize) {
            if refused(message.header.name, message.header.name_len) {
                return -1;
            }
        }
    }
    let real: SendMMsg = transmute(next("sendmmsg\0"));
    real(fd, messages, count, flags)
}
