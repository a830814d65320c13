//! A file that gets its name when it is whole. Until then it has none (O_TMPFILE), so that nothing of it is left
//! whatever happens: the file system frees it when the job ends, the agent dies or the machine is killed. Where the
//! file system cannot do that it is a file beside its place, removed when the job ends.

use crate::sys;
use std::ffi::{CStr, CString};
use std::fs::{File, Metadata};
use std::io;
use std::os::raw::c_char;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

const MODE: u32 = 0o600;
const EMPTY: *const c_char = b"\0".as_ptr() as *const c_char;

/// What is at a name, without following a link. None when there is nothing.
pub fn look(directory: RawFd, name: &CStr) -> io::Result<Option<Metadata>> {
    let flags = sys::O_PATH | sys::O_NOFOLLOW | sys::O_CLOEXEC;
    match sys::owned(unsafe { sys::openat(directory, name.as_ptr(), flags) }) {
        Err(error) if error.raw_os_error() == Some(sys::ENOENT) => Ok(None),
        Err(error) => Err(error),
        Ok(found) => File::from(found).metadata().map(Some),
    }
}

/// What a thing is that is neither file, directory nor link; None for those.
pub fn special(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    if kind.is_fifo() {
        Some("a FIFO")
    } else if kind.is_socket() {
        Some("a socket")
    } else if kind.is_char_device() {
        Some("a character device")
    } else if kind.is_block_device() {
        Some("a block device")
    } else {
        None
    }
}

/// A directory by its path, as a place for names.
pub fn open_directory(path: &std::path::Path) -> io::Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let name = CString::new(path.as_os_str().as_bytes())?;
    sys::open_path(&name, sys::O_PATH | sys::O_DIRECTORY)
}

pub struct NewFile {
    pub file: File,
    directory: OwnedFd,
    /// Its name for the time being, to be removed.
    name: Option<CString>,
}

impl NewFile {
    /// A file in the file system of a directory.
    pub fn create(directory: &OwnedFd) -> io::Result<NewFile> {
        let directory = sys::duplicate(directory)?;
        let (fd, dot) = (directory.as_raw_fd(), b".\0".as_ptr() as *const c_char);
        let flags = sys::O_RDWR | sys::O_CLOEXEC;
        let unnamed = unsafe { sys::openat(fd, dot, flags | sys::O_TMPFILE, MODE) };
        match sys::owned(unnamed) {
            Ok(file) => Ok(NewFile {
                file: file.into(),
                directory,
                name: None,
            }),
            Err(error) if cannot_be_unnamed(&error) => {
                let name = random_name()?;
                let flags = flags | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW;
                let file = sys::owned(unsafe { sys::openat(fd, name.as_ptr(), flags, MODE) })?;
                Ok(NewFile {
                    file: file.into(),
                    directory,
                    name: Some(name),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Gives it its name in a directory of the same file system. `replace` takes the place of a file or a link that is
    /// there; of anything else never.
    pub fn place(mut self, directory: RawFd, to: &CStr, replace: bool) -> io::Result<()> {
        match self.link(directory, to) {
            Err(error) if replace && error.raw_os_error() == Some(sys::EEXIST) => {}
            other => return other,
        }
        match look(directory, to)? {
            Some(found) if found.is_dir() || special(&found).is_some() => {
                return Err(io::Error::from_raw_os_error(sys::EEXIST))
            }
            _ => {}
        }
        if self.name.is_none() {
            let name = random_name()?;
            self.link(self.directory.as_raw_fd(), &name)?;
            self.name = Some(name);
        }
        if let Some(name) = &self.name {
            let from = self.directory.as_raw_fd();
            let done = unsafe { sys::renameat(from, name.as_ptr(), directory, to.as_ptr()) };
            sys::check(done)?;
        }
        self.name = None;
        Ok(())
    }

    fn link(&self, directory: RawFd, to: &CStr) -> io::Result<()> {
        if let Some(name) = &self.name {
            let from = self.directory.as_raw_fd();
            let done = unsafe { sys::linkat(from, name.as_ptr(), directory, to.as_ptr(), 0) };
            // The first name goes when this is dropped.
            return sys::check(done).map(drop);
        }
        let (fd, flags) = (self.file.as_raw_fd(), sys::AT_EMPTY_PATH);
        let done = unsafe { sys::linkat(fd, EMPTY, directory, to.as_ptr(), flags) };
        match sys::check(done) {
            // Without CAP_DAC_READ_SEARCH: by way of /proc.
            Err(error) if error.raw_os_error() == Some(sys::ENOENT) => {
                let path = CString::new(format!("/proc/self/fd/{}", fd))?;
                let flags = sys::AT_SYMLINK_FOLLOW;
                let done = unsafe {
                    sys::linkat(sys::AT_FDCWD, path.as_ptr(), directory, to.as_ptr(), flags)
                };
                sys::check(done).map(drop)
            }
            other => other.map(drop),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed cannot be helped: the error that led here is the one that matters.
            unsafe { sys::unlinkat(self.directory.as_raw_fd(), name.as_ptr(), 0) };
        }
    }
}

/// open(2): which errors tell that the kernel or the file system does not know O_TMPFILE.
fn cannot_be_unnamed(error: &io::Error) -> bool {
    let codes = [sys::ENOTSUP, sys::EISDIR, sys::ENOENT, sys::EINVAL];
    error
        .raw_os_error()
        .map_or(false, |code| codes.contains(&code))
}

fn random_name() -> io::Result<CString> {
    let mut random = [0; 8];
    sys::random(&mut random)?;
    Ok(CString::new(format!(
        ".cryobox-{:016x}",
        u64::from_ne_bytes(random)
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::path::{Path, PathBuf};

    /// A directory that is removed at the end.
    struct Place(PathBuf);

    impl Place {
        fn new(parent: &str) -> Place {
            let name = random_name().unwrap().into_string().unwrap();
            let path = Path::new(parent).join(name);
            fs::create_dir(&path).unwrap();
            Place(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<String> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn written(directory: &OwnedFd, content: &str) -> NewFile {
        let mut new = NewFile::create(directory).unwrap();
        new.file.write_all(content.as_bytes()).unwrap();
        new
    }

    fn name(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    #[test]
    fn has_no_name_before_it_is_placed() {
        for parent in [std::env::temp_dir().to_str().unwrap(), "/dev/shm"] {
            let place = Place::new(parent);
            let directory = open_directory(&place.0).unwrap();
            let new = written(&directory, "one");
            assert!(place.names().is_empty(), "{:?}", place.names());
            new.place(directory.as_raw_fd(), &name("a"), false).unwrap();
            drop(written(&directory, "never placed"));
            let second = written(&directory, "two");
            let refused = second.place(directory.as_raw_fd(), &name("a"), false);
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(sys::EEXIST));
            assert_eq!(fs::read(place.0.join("a")).unwrap(), b"one");
            let third = written(&directory, "three");
            third
                .place(directory.as_raw_fd(), &name("a"), true)
                .unwrap();
            assert_eq!(fs::read(place.0.join("a")).unwrap(), b"three");
            assert_eq!(place.names(), ["a"]);
        }
    }

    #[test]
    fn takes_no_place_of_a_fifo_or_directory() {
        let place = Place::new(std::env::temp_dir().to_str().unwrap());
        let directory = open_directory(&place.0).unwrap();
        let fd = directory.as_raw_fd();
        let made = unsafe { sys::mknodat(fd, name("p").as_ptr(), sys::S_IFIFO | 0o600, 0) };
        assert_eq!(made, 0);
        fs::create_dir(place.0.join("d")).unwrap();
        for target in ["p", "d"] {
            let refused = written(&directory, "x").place(fd, &name(target), true);
            assert_eq!(refused.unwrap_err().raw_os_error(), Some(sys::EEXIST));
        }
        assert_eq!(place.names(), ["d", "p"]);
    }

    #[test]
    fn goes_by_a_name_where_it_must() {
        let place = Place::new(std::env::temp_dir().to_str().unwrap());
        let directory = open_directory(&place.0).unwrap();
        let fd = directory.as_raw_fd();
        let named = |content: &str| {
            let mut new = written(&directory, content);
            let name = random_name().unwrap();
            new.link(fd, &name).unwrap();
            new.name = Some(name);
            new
        };
        named("one").place(fd, &name("a"), false).unwrap();
        named("two").place(fd, &name("a"), true).unwrap();
        drop(named("never placed"));
        assert!(named("three").place(fd, &name("a"), false).is_err());
        assert_eq!(fs::read(place.0.join("a")).unwrap(), b"two");
        assert_eq!(place.names(), ["a"]);
    }
}
