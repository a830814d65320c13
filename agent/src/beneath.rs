//! A directory that cannot be left: paths from an archive are resolved by the kernel below it (openat2(2)).

use crate::sys;
use std::ffi::CString;
use std::io;
use std::os::unix::io::{AsRawFd, OwnedFd};
use std::path::Path;

pub struct Beneath {
    root: OwnedFd,
    resolve: u64,
    /// The directory used last: archives come directory by directory.
    last: Option<(Vec<u8>, OwnedFd)>,
    made: Vec<Vec<u8>>,
}

/// The components of a path from an archive, without `.` and leading slashes. None when `..` is in it.
pub fn components(path: &[u8]) -> Option<Vec<&[u8]>> {
    let parts: Vec<&[u8]> = path
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .collect();
    if parts.iter().any(|part| *part == b"..") {
        None
    } else {
        Some(parts)
    }
}

impl Beneath {
    /// Links that lead out of the directory are refused. Where it is the root itself nothing is outside, so absolute
    /// links in it are followed.
    pub fn open(path: &Path) -> io::Result<Beneath> {
        use std::os::unix::ffi::OsStrExt;
        let name = CString::new(path.as_os_str().as_bytes())?;
        let root = sys::open_path(&name, sys::O_PATH | sys::O_DIRECTORY)?;
        let everything = std::fs::canonicalize(path)?.as_os_str() == "/";
        let scope = if everything {
            sys::RESOLVE_IN_ROOT
        } else {
            sys::RESOLVE_BENEATH
        };
        Ok(Beneath {
            root,
            resolve: scope | sys::RESOLVE_NO_MAGICLINKS,
            last: None,
            made: Vec::new(),
        })
    }

    fn openat2(&self, path: &[u8], flags: i32) -> io::Result<OwnedFd> {
        let name = CString::new(if path.is_empty() { b"." } else { path })?;
        let how = sys::OpenHow {
            flags: (flags | sys::O_CLOEXEC) as u64,
            mode: 0,
            resolve: self.resolve,
        };
        let size = std::mem::size_of::<sys::OpenHow>();
        let fd = unsafe {
            sys::syscall(
                sys::nr::OPENAT2,
                self.root.as_raw_fd(),
                name.as_ptr(),
                &how,
                size,
            )
        };
        sys::owned(fd as i32)
    }

    /// The directory of these components; missing ones are made.
    pub fn directory(&mut self, parts: &[&[u8]]) -> io::Result<&OwnedFd> {
        let path = parts.join(&b'/');
        let cached = self
            .last
            .as_ref()
            .map_or(false, |(known, _)| *known == path);
        if !cached {
            let fd = self.open_or_make(parts)?;
            self.last = Some((path, fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd),
            None => Err(io::Error::from_raw_os_error(sys::ENOENT)),
        }
    }

    /// To be called when a name may have come to mean something else.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// The directories made since this was asked last, the outer before the inner.
    pub fn take_made(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.made)
    }

    fn open_or_make(&mut self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        let flags = sys::O_PATH | sys::O_DIRECTORY;
        match self.openat2(&parts.join(&b'/'), flags) {
            Err(error) if error.raw_os_error() == Some(sys::ENOENT) && !parts.is_empty() => {}
            other => return other,
        }
        let mut parent = self.openat2(b"", flags)?;
        for count in 1..=parts.len() {
            let path = parts[..count].join(&b'/');
            parent = match self.openat2(&path, flags) {
                Err(error) if error.raw_os_error() == Some(sys::ENOENT) => {
                    let name = CString::new(parts[count - 1])?;
                    let made = unsafe { sys::mkdirat(parent.as_raw_fd(), name.as_ptr(), 0o755) };
                    if made == 0 {
                        self.made.push(path.clone());
                    } else if sys::errno() != sys::EEXIST {
                        return Err(io::Error::last_os_error());
                    }
                    self.openat2(&path, flags)?
                }
                other => other?,
            };
        }
        Ok(parent)
    }

    /// The directory of these components if it is there, following links that stay inside.
    pub fn existing_directory(&self, parts: &[&[u8]]) -> io::Result<OwnedFd> {
        self.openat2(&parts.join(&b'/'), sys::O_RDONLY | sys::O_DIRECTORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_paths() {
        assert_eq!(components(b"/./a//b/"), Some(vec![&b"a"[..], b"b"]));
        assert_eq!(components(b"./"), Some(vec![]));
        assert_eq!(components(b"a/../b"), None);
        assert_eq!(components(b"a..b"), Some(vec![&b"a..b"[..]]));
    }
}
