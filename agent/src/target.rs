//! Where the content of a file goes: into a new file that takes its place when it is whole, or to what is there already.

use crate::cancel::Cancel;
use crate::failure::{Context, Failure, Outcome};
use crate::new_file::{self, NewFile};
use crate::sys::{self, Io};
use std::ffi::{CStr, CString};
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

const COPY_BYTES: usize = 64 * 1024;
/// Nothing is opened so that it waits for somebody else, or takes a terminal for the agent.
const OPEN_FLAGS: i32 = sys::O_NONBLOCK | sys::O_NOCTTY | sys::O_CLOEXEC;

pub enum Target {
    New(New),
    /// A device, a FIFO with a reader, or a file in whose directory nothing can be made.
    Direct(Direct),
}

pub struct New {
    file: NewFile,
    directory: OwnedFd,
    name: CString,
    /// The file with several names that gets the content once it is whole.
    into: Option<File>,
}

pub struct Direct {
    file: File,
    /// A file takes the content from its beginning, and has no old one from then on.
    to_truncate: bool,
    is_file: bool,
}

/// What is to be written to.
pub struct Name<'a> {
    pub directory: &'a OwnedFd,
    pub name: &'a CStr,
    /// What is there: no directory.
    pub found: Option<&'a Metadata>,
    /// How it is called in messages.
    pub shown: &'a str,
}

impl Target {
    /// A file with several names keeps them with `keep_links`, and is replaced under this one without.
    pub fn open(at: &Name, keep_links: bool) -> Outcome<Target> {
        if let Some(kind) = at.found.and_then(new_file::special) {
            return Ok(Target::Direct(open_special(at, kind)?));
        }
        let old = at.found.filter(|found| found.is_file());
        let file = match NewFile::create(at.directory) {
            Err(error) if old.is_some() && nothing_can_be_made(&error) => {
                let file = open_at(at).context(at.shown)?;
                return Ok(Target::Direct(Direct::new(file, true)));
            }
            other => other.context(at.shown)?,
        };
        let shared = old.map_or(false, |old| links(old) > 1);
        let into = match keep_links && shared {
            true => Some(open_at(at).context(at.shown)?),
            false => None,
        };
        Ok(Target::New(New {
            file,
            directory: sys::duplicate(at.directory).context(at.shown)?,
            name: at.name.to_owned(),
            into,
        }))
    }

    /// What a path leads to and has no name of its own, such as /dev/stdout.
    pub fn open_followed(path: &Path, found: &Metadata) -> Outcome<Target> {
        let shown = path.display().to_string();
        let kind = new_file::special(found).unwrap_or("a file");
        refuse_socket(kind, &shown)?;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(OPEN_FLAGS)
            .open(path)
            .map_err(|error| not_opened(kind, &shown, &error))?;
        Ok(Target::Direct(Direct::new(file, found.is_file())))
    }

    /// Takes everything there is to read. `reading` says in errors what was read from.
    pub fn take(&mut self, from: &mut impl Read, cancel: &Cancel, by: &Words) -> Outcome<u64> {
        let mut buffer = vec![0; COPY_BYTES];
        let mut total = 0;
        loop {
            // Files of the kernel take a value by one write.
            let whole = matches!(self, Target::Direct(direct) if direct.is_file);
            let count = read_piece(from, &mut buffer, whole).context(by.reading)?;
            if count == 0 {
                return Ok(total);
            }
            match self {
                Target::New(new) => new
                    .file
                    .file
                    .write_all(&buffer[..count])
                    .context(by.shown)?,
                Target::Direct(direct) => direct.write(&buffer[..count], cancel, by.shown)?,
            }
            total += count as u64;
        }
    }

    /// The content is whole: `finish` gives a file its attributes. What is no new file keeps its own.
    pub fn commit(self, shown: &str, finish: impl Fn(RawFd) -> Outcome<()>) -> Outcome<()> {
        match self {
            Target::Direct(mut direct) => direct.truncate(shown),
            Target::New(new) => new.commit(shown, finish),
        }
    }

    /// The file that is to get its name.
    pub fn new_file(&self) -> Option<&File> {
        match self {
            Target::New(new) => Some(&new.file.file),
            Target::Direct(_) => None,
        }
    }

    /// The new file without its place, when there is one.
    pub fn into_new_file(self) -> Option<NewFile> {
        match self {
            Target::New(new) => Some(new.file),
            Target::Direct(_) => None,
        }
    }
}

/// How things are called in messages.
pub struct Words<'a> {
    pub shown: &'a str,
    pub reading: &'a str,
}

impl New {
    fn commit(mut self, shown: &str, finish: impl Fn(RawFd) -> Outcome<()>) -> Outcome<()> {
        if let Some(file) = &self.into {
            copy_into(&mut self.file.file, file).context(shown)?;
            return finish(file.as_raw_fd());
        }
        finish(self.file.file.as_raw_fd())?;
        let mut copy = self.file.file.try_clone().context(shown)?;
        match self
            .file
            .place(self.directory.as_raw_fd(), &self.name, true)
        {
            // Something is mounted on the name, so nothing else can have it.
            Err(error) if error.raw_os_error() == Some(sys::EBUSY) => {
                let at = Name {
                    directory: &self.directory,
                    name: &self.name,
                    found: None,
                    shown,
                };
                let file = open_at(&at).context(shown)?;
                copy_into(&mut copy, &file).context(shown)?;
                finish(file.as_raw_fd())
            }
            other => other.context(shown),
        }
    }
}

impl Direct {
    fn new(file: File, is_file: bool) -> Direct {
        Direct {
            file,
            to_truncate: is_file,
            is_file,
        }
    }

    fn truncate(&mut self, shown: &str) -> Outcome<()> {
        if std::mem::take(&mut self.to_truncate) {
            match self.file.set_len(0) {
                // Some files of the kernel have no length to set.
                Err(error) if error.raw_os_error() == Some(sys::EINVAL) => {}
                other => other.context(shown)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], cancel: &Cancel, shown: &str) -> Outcome<()> {
        cancel.check(shown)?;
        self.truncate(shown)?;
        let fd = self.file.as_raw_fd();
        let mut waited = false;
        while !bytes.is_empty() {
            match sys::write_some(fd, bytes) {
                Io::Done(count) => {
                    bytes = &bytes[count..];
                    waited = false;
                }
                Io::Blocked => {
                    cancel.wait_writable(fd, waited, shown)?;
                    waited = true;
                }
                Io::Failed(error) => {
                    let error = io::Error::from_raw_os_error(error);
                    return Err(Failure::io(shown, &error));
                }
            }
        }
        Ok(())
    }
}

fn links(metadata: &Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(metadata)
}

fn open_at(at: &Name) -> io::Result<File> {
    let flags = sys::O_WRONLY | sys::O_NOFOLLOW | OPEN_FLAGS;
    let fd = unsafe { sys::openat(at.directory.as_raw_fd(), at.name.as_ptr(), flags) };
    sys::owned(fd).map(File::from)
}

fn open_special(at: &Name, kind: &str) -> Outcome<Direct> {
    refuse_socket(kind, at.shown)?;
    let file = open_at(at).map_err(|error| not_opened(kind, at.shown, &error))?;
    let opened = file.metadata().context(at.shown)?;
    if new_file::special(&opened) != Some(kind) {
        let message = format!("{}: it was replaced meanwhile", at.shown);
        return Err(Failure::new("invalid_state", message));
    }
    Ok(Direct::new(file, false))
}

fn refuse_socket(kind: &str, shown: &str) -> Outcome<()> {
    if kind == "a socket" {
        let message = format!("{} is a socket, which takes no content of a file", shown);
        return Err(Failure::new("unsupported", message)
            .hint("Connect to it from a command in the box, or remove it first."));
    }
    Ok(())
}

fn not_opened(kind: &str, shown: &str, error: &io::Error) -> Failure {
    if kind == "a FIFO" && error.raw_os_error() == Some(sys::ENXIO) {
        let message = format!("{} is a FIFO that nobody reads", shown);
        return Failure::new("unsupported", message)
            .hint("Start its reader in the box first, or remove it.");
    }
    Failure::io(format!("{}, {}", shown, kind), error)
}

/// Whether the directory is the reason, and the file itself may take content all the same.
fn nothing_can_be_made(error: &io::Error) -> bool {
    let codes = [
        sys::EROFS,
        sys::EACCES,
        sys::EPERM,
        sys::ENOENT,
        sys::ENOTSUP,
        sys::ENOSYS,
        sys::EINVAL,
    ];
    error
        .raw_os_error()
        .map_or(false, |code| codes.contains(&code))
}

fn read_piece(from: &mut impl Read, buffer: &mut [u8], whole: bool) -> io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match from.read(&mut buffer[count..]) {
            Ok(0) => break,
            Ok(more) if whole => count += more,
            Ok(more) => return Ok(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// Writes content over the old one of a file that stays. Room is taken first: a full disk leaves the old content.
fn copy_into(from: &mut File, to: &File) -> io::Result<()> {
    let length = from.seek(SeekFrom::End(0))?;
    from.seek(SeekFrom::Start(0))?;
    if length > 0 {
        let mode = sys::FALLOC_FL_KEEP_SIZE;
        let room = unsafe { sys::fallocate(to.as_raw_fd(), mode, 0, length as i64) };
        match sys::check(room).map_err(|error| error.raw_os_error()) {
            Err(Some(sys::ENOSPC)) | Err(Some(sys::EDQUOT)) => {
                return Err(io::Error::last_os_error())
            }
            // Not every file system can do it.
            _ => {}
        }
    }
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let count = read_piece(from, &mut buffer, false)?;
        if count == 0 {
            return to.set_len(length);
        }
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
}
