//! The functions that open files. Each comes in several names: with and without 64-bit offsets, and the checked forms
//! that `_FORTIFY_SOURCE` puts in their place.

use crate::libc::{errno, next, EACCES, O_ACCMODE, O_RDONLY, O_RDWR};
use std::ffi::CStr;
use std::mem::transmute;
use std::os::raw::{c_char, c_int};

/// Name of the memory file in a machine's directory (src/machine/arguments.ts).
const RAM_FILE: &[u8] = b"ram";

type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;

/// Opens as asked; a memory file that may not be written is opened for reading.
unsafe fn guarded(symbol: &'static str, path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let real: Open = transmute(next(symbol));
    let fd = real(path, flags, mode);
    let is_denied = fd < 0 && errno() == EACCES && flags & O_ACCMODE == O_RDWR;
    if is_denied && !path.is_null() && CStr::from_ptr(path).to_bytes() == RAM_FILE {
        return real(path, flags & !O_ACCMODE | O_RDONLY, mode);
    }
    fd
}

/// open(2). The mode is always passed on: it is in a register whether the caller gave it or not.
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    guarded("open\0", path, flags, mode)
}

/// open(2) with 64-bit offsets.
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    guarded("open64\0", path, flags, mode)
}

/// The checked form of open(2) without a mode.
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn __open_2(path: *const c_char, flags: c_int) -> c_int {
    guarded("__open_2\0", path, flags, 0)
}

/// The checked form of open(2) with 64-bit offsets, without a mode.
///
/// # Safety
/// As of the function of the C library.
#[no_mangle]
pub unsafe extern "C" fn __open64_2(path: *const c_char, flags: c_int) -> c_int {
    guarded("__open64_2\0", path, flags, 0)
}
