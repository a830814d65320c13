//! Extended attributes that go with a file.

use crate::sys;
use std::ffi::CString;
use std::fs::File;
use std::os::raw::c_char;
use std::os::unix::io::{AsRawFd, RawFd};

const MOST_BYTES: usize = 64 * 1024;

/// Name and value.
pub type Attribute = (Vec<u8>, Vec<u8>);

/// Whether an attribute is carried by archives: those of users, file capabilities, access control lists.
fn carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") || is_capability(name) || name.starts_with(b"system.posix_acl_")
}

/// File capabilities do not outlive a change of the content, as for every writer.
pub fn is_capability(name: &[u8]) -> bool {
    name == b"security.capability"
}

/// The attributes of a file that are carried; none where the file system has none.
pub fn read(file: &File) -> Vec<Attribute> {
    let mut names = vec![0u8; MOST_BYTES.min(1024)];
    let mut length = list(file, &mut names);
    if length < 0 {
        names.resize(MOST_BYTES, 0);
        length = list(file, &mut names);
    }
    if length <= 0 {
        return Vec::new();
    }
    names[..length as usize]
        .split(|byte| *byte == 0)
        .filter(|name| carried(name))
        .filter_map(|name| value(file, name).map(|value| (name.to_vec(), value)))
        .collect()
}

fn value(file: &File, name: &[u8]) -> Option<Vec<u8>> {
    let mut value = vec![0u8; MOST_BYTES];
    let c_name = CString::new(name).ok()?;
    let count = unsafe {
        sys::fgetxattr(
            file.as_raw_fd(),
            c_name.as_ptr(),
            value.as_mut_ptr() as *mut _,
            value.len(),
        )
    };
    value.truncate(usize::try_from(count).ok()?);
    Some(value)
}

fn list(file: &File, names: &mut [u8]) -> isize {
    unsafe {
        sys::flistxattr(
            file.as_raw_fd(),
            names.as_mut_ptr() as *mut c_char,
            names.len(),
        )
    }
}

/// Sets those that are carried. What the file system does not take is left out, as by other unpackers.
pub fn write(fd: RawFd, attributes: &[Attribute]) {
    for (name, value) in attributes.iter().filter(|(name, _)| carried(name)) {
        if let Ok(name) = CString::new(&name[..]) {
            unsafe {
                sys::fsetxattr(
                    fd,
                    name.as_ptr(),
                    value.as_ptr() as *const _,
                    value.len(),
                    0,
                )
            };
        }
    }
}
