//! Unpacks a tar stream into a directory that its entries cannot leave.

use crate::beneath::{components, Beneath};
use crate::failure::{Context, Failure, Outcome};
use crate::files;
use crate::json::Value;
use crate::object;
use crate::sys;
use crate::tar_format::{Entry, Kind, TarReader};
use crate::tar_pack::carried;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::raw::c_char;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

const COPY_BYTES: usize = 64 * 1024;
/// Directories whose mode and time are set at the end; beyond it at once, when later entries change the time again.
const MOST_LATE: usize = 65_536;

pub struct UnpackOptions {
    pub path: PathBuf,
    /// Replace files that exist; else the first one is an error.
    pub overwrite: bool,
    /// A single file may become `path` itself.
    pub rename_single: bool,
    pub keep_owner: bool,
}

struct Unpacker<'a> {
    options: &'a UnpackOptions,
    root: Beneath,
    late: Vec<Late>,
}

/// A directory made here, to be finished when nothing is put into it any more.
struct Late {
    parts: Vec<Vec<u8>>,
    mode: u32,
    mtime: (i64, i64),
}

#[derive(Default)]
struct Totals {
    entries: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        self.entries += 1;
        self.bytes += entry.size;
    }
}

pub fn unpack(options: &UnpackOptions, input: File, cut_off: &Arc<AtomicBool>) -> Outcome<Value> {
    let mut reader = TarReader::new(BufReader::with_capacity(COPY_BYTES, input));
    let mut totals = Totals::default();
    let result = unpack_all(options, &mut reader, &mut totals, cut_off);
    if let Err(failure) = result {
        // An input that stops short shows as damage: the reason is the better message.
        files::check_whole(cut_off, &options.path)?;
        return Err(failure);
    }
    Ok(object! { "entries" => totals.entries, "bytes" => totals.bytes })
}

fn unpack_all<R: Read>(
    options: &UnpackOptions,
    reader: &mut TarReader<R>,
    totals: &mut Totals,
    cut_off: &Arc<AtomicBool>,
) -> Outcome<()> {
    let first = reader.next_entry()?;
    let path = &options.path;
    let slash = path.as_os_str().as_bytes().ends_with(b"/");
    let maybe_single = options.rename_single && !slash && !path.is_dir();
    let mut next = match first {
        Some(entry) if maybe_single && entry.kind == Kind::File => {
            totals.add(&entry);
            match unpack_single(options, reader, &entry)? {
                None => {
                    reader.drain()?;
                    return Ok(());
                }
                second => second,
            }
        }
        first => {
            fs::create_dir_all(path).context(path.display())?;
            first
        }
    };
    let root = Beneath::open(path).context(path.display())?;
    let mut unpacker = Unpacker {
        options,
        root,
        late: Vec::new(),
    };
    while let Some(entry) = next {
        totals.add(&entry);
        unpacker.entry(&entry, reader)?;
        next = reader.next_entry()?;
    }
    reader.drain()?;
    files::check_whole(cut_off, path)?;
    unpacker.finish_directories()
}

/// The first entry is a file and may be the only one: writes it beside the path. If it stays alone it becomes the
/// path; else the path becomes a directory with it inside, and the second entry is returned.
fn unpack_single<R: Read>(
    options: &UnpackOptions,
    reader: &mut TarReader<R>,
    entry: &Entry,
) -> Outcome<Option<Entry>> {
    let path = &options.path;
    let exists = fs::symlink_metadata(path).is_ok();
    if exists && !options.overwrite {
        return Err(Failure::new(
            "already_exists",
            format!("{} exists already", path.display()),
        ));
    }
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent).context(parent.display())?;
    let (temporary, mut file) = files::create_beside(path)?;
    let done = copy(reader, &mut file, path)
        .and_then(|()| set_metadata(file.as_raw_fd(), entry, options, path))
        .and_then(|()| reader.next_entry())
        .and_then(|second| {
            place_first(options, entry, &temporary, second.is_some()).map(|()| second)
        });
    if done.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    done
}

fn place_first(
    options: &UnpackOptions,
    entry: &Entry,
    temporary: &Path,
    several: bool,
) -> Outcome<()> {
    let path = &options.path;
    if !several {
        return fs::rename(temporary, path).context(path.display());
    }
    fs::create_dir_all(path).context(path.display())?;
    let (parts, shown) = safe_components(&entry.path)?;
    let (name, parents) = parts
        .split_last()
        .ok_or_else(|| Failure::invalid("a file without a name"))?;
    let mut root = Beneath::open(path).context(path.display())?;
    let directory = root.directory(parents).context(&shown)?;
    let from = files::c_path(temporary)?;
    let to = CString::new(*name).map_err(|_| Failure::invalid("a name with a NUL byte"))?;
    let done = unsafe {
        sys::renameat(
            sys::AT_FDCWD,
            from.as_ptr(),
            directory.as_raw_fd(),
            to.as_ptr(),
        )
    };
    sys::check(done).map(drop).context(&shown)
}

fn safe_components(path: &[u8]) -> Outcome<(Vec<&[u8]>, String)> {
    let shown = String::from_utf8_lossy(path).into_owned();
    match components(path) {
        Some(parts) => Ok((parts, shown)),
        None => Err(Failure::invalid(format!(
            "the archive entry {:?} leads out of the target",
            shown
        ))),
    }
}

fn copy(from: &mut impl Read, to: &mut impl Write, path: &Path) -> Outcome<()> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => to.write_all(&buffer[..count]).context(path.display())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::io("reading the archive", &error)),
        }
    }
}

/// Owner, mode, attributes and time, in the order in which none undoes another.
fn set_metadata(fd: RawFd, entry: &Entry, options: &UnpackOptions, path: &Path) -> Outcome<()> {
    if options.keep_owner {
        sys::check(unsafe { sys::fchown(fd, entry.uid, entry.gid) }).context(path.display())?;
    }
    sys::check(unsafe { sys::fchmod(fd, entry.mode) }).context(path.display())?;
    set_xattrs(fd, entry);
    let times = times(entry.mtime);
    sys::check(unsafe { sys::futimens(fd, times.as_ptr()) })
        .map(drop)
        .context(path.display())
}

/// Attributes that the file system does not take are left out, as by other unpackers.
fn set_xattrs(fd: RawFd, entry: &Entry) {
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| carried(name)) {
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

fn times(mtime: (i64, i64)) -> [sys::Timespec; 2] {
    let time = sys::Timespec {
        sec: mtime.0,
        nsec: mtime.1,
    };
    [time, time]
}

impl<'a> Unpacker<'a> {
    fn entry<R: Read>(&mut self, entry: &Entry, reader: &mut TarReader<R>) -> Outcome<()> {
        let (parts, shown) = safe_components(&entry.path)?;
        let (name, parents) = match parts.split_last() {
            Some(split) => split,
            // The target itself keeps its own metadata.
            None => return Ok(()),
        };
        if entry.kind == Kind::Directory {
            return self.directory(entry, &parts, &shown);
        }
        let name = CString::new(*name).map_err(|_| Failure::invalid("a name with a NUL byte"))?;
        let link_source = match entry.kind {
            Kind::HardLink => Some(self.hard_link_source(&entry.link)?),
            _ => None,
        };
        let overwrite = self.options.overwrite;
        let directory = self.root.directory(parents).context(&shown)?.as_raw_fd();
        make_room(directory, &name, overwrite, &shown)?;
        match (entry.kind, link_source) {
            (Kind::File, _) => {
                let file = create(directory, &name).context(&shown)?;
                let mut file = File::from(file);
                copy(reader, &mut file, Path::new(&shown))?;
                return set_metadata(file.as_raw_fd(), entry, self.options, Path::new(&shown));
            }
            (_, Some((from, old))) => {
                let done = unsafe {
                    sys::linkat(from.as_raw_fd(), old.as_ptr(), directory, name.as_ptr(), 0)
                };
                return sys::check(done).map(drop).context(&shown);
            }
            (Kind::Symlink, _) => {
                let target = CString::new(&entry.link[..])
                    .map_err(|_| Failure::invalid("a link with a NUL"))?;
                let done = unsafe { sys::symlinkat(target.as_ptr(), directory, name.as_ptr()) };
                sys::check(done).context(&shown)?;
            }
            _ => make_node(directory, &name, entry).context(&shown)?,
        }
        self.set_node_metadata(directory, &name, entry)
            .context(&shown)?;
        self.root.forget();
        Ok(())
    }

    /// Owner, mode and time of what cannot be opened.
    fn set_node_metadata(&self, directory: RawFd, name: &CString, entry: &Entry) -> io::Result<()> {
        let flags = sys::AT_SYMLINK_NOFOLLOW;
        let path = name.as_ptr();
        if self.options.keep_owner {
            sys::check(unsafe { sys::fchownat(directory, path, entry.uid, entry.gid, flags) })?;
        }
        let times = times(entry.mtime);
        sys::check(unsafe { sys::utimensat(directory, path, times.as_ptr(), flags) }).map(drop)
    }

    fn directory(&mut self, entry: &Entry, parts: &[&[u8]], shown: &str) -> Outcome<()> {
        // One that is there stays as it is, also behind a link that stays inside.
        if self.root.existing_directory(parts).is_ok() {
            return Ok(());
        }
        let (name, parents) = match parts.split_last() {
            Some(split) => split,
            None => return Ok(()),
        };
        let name = CString::new(*name).map_err(|_| Failure::invalid("a name with a NUL byte"))?;
        let directory = self.root.directory(parents).context(shown)?.as_raw_fd();
        make_room(directory, &name, self.options.overwrite, shown)?;
        let made = unsafe { sys::mkdirat(directory, name.as_ptr(), 0o700) };
        sys::check(made).context(shown)?;
        self.root.forget();
        let fd = self.root.existing_directory(parts).context(shown)?;
        let options = self.options;
        if options.keep_owner {
            sys::check(unsafe { sys::fchown(fd.as_raw_fd(), entry.uid, entry.gid) })
                .context(shown)?;
        }
        set_xattrs(fd.as_raw_fd(), entry);
        if self.late.len() < MOST_LATE {
            self.late.push(Late {
                parts: parts.iter().map(|part| part.to_vec()).collect(),
                mode: entry.mode,
                mtime: entry.mtime,
            });
            return Ok(());
        }
        sys::check(unsafe { sys::fchmod(fd.as_raw_fd(), entry.mode) })
            .map(drop)
            .context(shown)
    }

    fn finish_directories(&mut self) -> Outcome<()> {
        while let Some(late) = self.late.pop() {
            let parts: Vec<&[u8]> = late.parts.iter().map(|part| &part[..]).collect();
            // A later entry may have replaced it.
            if let Ok(fd) = self.root.existing_directory(&parts) {
                let times = times(late.mtime);
                unsafe {
                    sys::fchmod(fd.as_raw_fd(), late.mode);
                    sys::futimens(fd.as_raw_fd(), times.as_ptr());
                }
            }
        }
        Ok(())
    }

    fn hard_link_source(&mut self, link: &[u8]) -> Outcome<(OwnedFd, CString)> {
        let (parts, shown) = safe_components(link)?;
        let (name, parents) = parts
            .split_last()
            .ok_or_else(|| Failure::invalid("a hard link to the target itself"))?;
        let directory = self.root.existing_directory(parents).context(&shown)?;
        let name = CString::new(*name).map_err(|_| Failure::invalid("a name with a NUL byte"))?;
        Ok((directory, name))
    }
}

/// Removes what stands where an entry goes: not a directory, and only when replacing is allowed.
fn make_room(directory: RawFd, name: &CString, overwrite: bool, shown: &str) -> Outcome<()> {
    let flags = sys::O_PATH | sys::O_NOFOLLOW | sys::O_CLOEXEC;
    let found = sys::owned(unsafe { sys::openat(directory, name.as_ptr(), flags) });
    let found = match found {
        Err(error) if error.raw_os_error() == Some(sys::ENOENT) => return Ok(()),
        other => other.context(shown)?,
    };
    let is_directory = File::from(found).metadata().context(shown)?.is_dir();
    if is_directory {
        let message = format!(
            "{} is a directory in the target, but not in the archive",
            shown
        );
        return Err(Failure::new("already_exists", message));
    }
    if !overwrite {
        return Err(Failure::new(
            "already_exists",
            format!("{} exists already", shown),
        ));
    }
    sys::check(unsafe { sys::unlinkat(directory, name.as_ptr(), 0) })
        .map(drop)
        .context(shown)
}

fn create(directory: RawFd, name: &CString) -> io::Result<OwnedFd> {
    let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_EXCL | sys::O_NOFOLLOW | sys::O_CLOEXEC;
    let path: *const c_char = name.as_ptr();
    sys::owned(unsafe { sys::openat(directory, path, flags, 0o600) })
}

fn make_node(directory: RawFd, name: &CString, entry: &Entry) -> io::Result<()> {
    let kind = match entry.kind {
        Kind::Character => sys::S_IFCHR,
        Kind::Block => sys::S_IFBLK,
        _ => sys::S_IFIFO,
    };
    let (major, minor) = (entry.device.0 as u64, entry.device.1 as u64);
    let device =
        (major & 0xfff) << 8 | (major & !0xfff) << 32 | (minor & 0xff) | (minor & !0xff) << 12;
    // The agent's umask would take bits away: PID 1 runs with 022.
    let made = unsafe { sys::mknodat(directory, name.as_ptr(), kind | entry.mode, device) };
    sys::check(made).map(drop)
}
