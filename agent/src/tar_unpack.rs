//! Unpacks a tar stream into a directory that its entries cannot leave.

use crate::beneath::{components, Beneath};
use crate::cancel::Cancel;
use crate::failure::{Context, Failure, Outcome};
use crate::file_write::{self, Parents};
use crate::json::Value;
use crate::made::Made;
use crate::new_file::{self, NewFile};
use crate::object;
use crate::sys;
use crate::tar_format::{Entry, Kind, TarReader};
use crate::target::{Name, Target, Words};
use crate::xattr;
use std::ffi::CString;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

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
    made: Made,
    cancel: &'a Cancel,
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

pub fn unpack(options: &UnpackOptions, input: File, cancel: &Cancel) -> Outcome<Value> {
    let mut reader = TarReader::new(BufReader::with_capacity(COPY_BYTES, input));
    let mut totals = Totals::default();
    let result = unpack_all(options, &mut reader, &mut totals, cancel);
    if let Err(failure) = result {
        // An input that stops short shows as damage: the reason is the better message.
        cancel.check(options.path.display())?;
        return Err(failure);
    }
    Ok(object! { "entries" => totals.entries, "bytes" => totals.bytes })
}

fn unpack_all<R: Read>(
    options: &UnpackOptions,
    reader: &mut TarReader<R>,
    totals: &mut Totals,
    cancel: &Cancel,
) -> Outcome<()> {
    let first = reader.next_entry()?;
    let path = &options.path;
    let slash = path.as_os_str().as_bytes().ends_with(b"/");
    let maybe_single = options.rename_single && !slash && !path.is_dir();
    let (first, waiting) = match first {
        Some(entry) if maybe_single && entry.kind == Kind::File => {
            totals.add(&entry);
            match unpack_single(options, reader, &entry, cancel)? {
                Single::Done => return Ok(()),
                Single::OneOfMany(next, file, parents) => {
                    (Some(next), Some((entry, file, parents)))
                }
            }
        }
        first => (first, None),
    };
    let parents = Parents::make(path)?;
    let root = Beneath::open(path).context(path.display())?;
    let mut unpacker = Unpacker {
        options,
        root,
        late: Vec::new(),
        made: Made::default(),
        cancel,
    };
    let (waiting, outer) = match waiting {
        Some((entry, file, parents)) => (Some((entry, file)), parents),
        None => (None, Parents::default()),
    };
    let done = unpacker
        .waiting(waiting)
        .and_then(|()| unpacker.entries(first, reader, totals));
    unpacker.finish(done)?;
    parents.keep();
    outer.keep();
    Ok(())
}

enum Single {
    Done,
    /// The second entry, the first one's content, and the directories made for it.
    OneOfMany(Entry, NewFile, Parents),
}

/// The first entry is a file and may be the only one: what it holds waits for its name. If it stays alone it becomes
/// the path, as a file written there; else the path becomes a directory with it inside.
fn unpack_single<R: Read>(
    options: &UnpackOptions,
    reader: &mut TarReader<R>,
    entry: &Entry,
    cancel: &Cancel,
) -> Outcome<Single> {
    let path = &options.path;
    let shown = path.display().to_string();
    if !options.overwrite && fs::symlink_metadata(path).is_ok() {
        return Err(already_exists(&shown));
    }
    let mut opened = file_write::open(path, true)?;
    opened.target.take(reader, cancel, &words(&shown))?;
    if let Some(second) = reader.next_entry()? {
        let file = opened
            .target
            .into_new_file()
            .ok_or_else(|| Failure::new("already_exists", format!("{} is no directory", shown)))?;
        return Ok(Single::OneOfMany(second, file, opened.parents));
    }
    reader.drain()?;
    cancel.check(&shown)?;
    opened
        .target
        .commit(&shown, |fd| set_metadata(fd, entry, options, path))?;
    opened.parents.keep();
    Ok(Single::Done)
}

fn c_name(name: &[u8]) -> Outcome<CString> {
    CString::new(name).map_err(|_| Failure::invalid("a name with a NUL byte"))
}

fn already_exists(shown: &str) -> Failure {
    Failure::new("already_exists", format!("{} exists already", shown))
}

fn words(shown: &str) -> Words<'_> {
    let reading = "reading the archive";
    Words { shown, reading }
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

/// Owner, mode, attributes and time, in the order in which none undoes another.
fn set_metadata(fd: RawFd, entry: &Entry, options: &UnpackOptions, path: &Path) -> Outcome<()> {
    if options.keep_owner {
        sys::check(unsafe { sys::fchown(fd, entry.uid, entry.gid) }).context(path.display())?;
    }
    sys::check(unsafe { sys::fchmod(fd, entry.mode) }).context(path.display())?;
    xattr::write(fd, &entry.xattrs);
    let times = times(entry.mtime);
    sys::check(unsafe { sys::futimens(fd, times.as_ptr()) })
        .map(drop)
        .context(path.display())
}

fn times(mtime: (i64, i64)) -> [sys::Timespec; 2] {
    let time = sys::Timespec {
        sec: mtime.0,
        nsec: mtime.1,
    };
    [time, time]
}

impl<'a> Unpacker<'a> {
    /// Gives the first file its place, which was read before it was known that others follow.
    fn waiting(&mut self, first: Option<(Entry, NewFile)>) -> Outcome<()> {
        let (entry, file) = match first {
            Some(first) => first,
            None => return Ok(()),
        };
        let (parts, shown) = safe_components(&entry.path)?;
        let (name, parents) = parts
            .split_last()
            .ok_or_else(|| Failure::invalid("a file without a name"))?;
        let to = c_name(name)?;
        let made = file.file.metadata().context(&shown)?;
        let directory = self.root.directory(parents).context(&shown)?.as_raw_fd();
        let found = new_file::look(directory, &to).context(&shown)?;
        set_metadata(
            file.file.as_raw_fd(),
            &entry,
            self.options,
            Path::new(&shown),
        )?;
        self.made.note(&parts, &made, found.is_some());
        file.place(directory, &to, true).context(&shown)
    }

    /// What was made on the way to a failure goes again; else directories get their modes and times.
    fn finish(mut self, done: Outcome<()>) -> Outcome<()> {
        let implied = self.root.take_made();
        self.made.note_directories(&self.root, implied);
        let failure = match done {
            Ok(()) => {
                self.finish_directories();
                return Ok(());
            }
            Err(failure) => failure,
        };
        if self.made.undo(&self.root) {
            return Err(failure);
        }
        Err(failure.hint("What was unpacked last stays: there were too many files to remember."))
    }

    fn entries<R: Read>(
        &mut self,
        first: Option<Entry>,
        reader: &mut TarReader<R>,
        totals: &mut Totals,
    ) -> Outcome<()> {
        let mut next = first;
        while let Some(entry) = next {
            totals.add(&entry);
            let done = self.entry(&entry, reader);
            let implied = self.root.take_made();
            self.made.note_directories(&self.root, implied);
            done?;
            next = reader.next_entry()?;
        }
        reader.drain()?;
        self.cancel.check(self.options.path.display())
    }

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
        let name = c_name(name)?;
        let link_source = match entry.kind {
            Kind::HardLink => Some(self.hard_link_source(&entry.link)?),
            _ => None,
        };
        let directory = self.root.directory(parents).context(&shown)?;
        let found = new_file::look(directory.as_raw_fd(), &name).context(&shown)?;
        check_replaceable(found.as_ref(), self.options.overwrite, &shown)?;
        let at = Name {
            directory,
            name: &name,
            found: found.as_ref(),
            shown: &shown,
        };
        match (entry.kind, link_source) {
            (Kind::File, _) => {
                let (options, made) = (self.options, &mut self.made);
                let about = |is: &Metadata| made.note(&parts, is, found.is_some());
                return self::file(&at, entry, reader, options, self.cancel, about);
            }
            (_, Some(source)) => {
                hard_link(&at, &source)?;
                return note_at(&mut self.made, &at, &parts);
            }
            (Kind::Symlink, _) => {
                make_room(&at)?;
                let target = CString::new(&entry.link[..])
                    .map_err(|_| Failure::invalid("a link with a NUL"))?;
                let fd = directory.as_raw_fd();
                sys::check(unsafe { sys::symlinkat(target.as_ptr(), fd, name.as_ptr()) })
                    .context(&shown)?;
            }
            _ if is_same_node(found.as_ref(), entry) => {}
            _ => {
                make_room(&at)?;
                make_node(directory.as_raw_fd(), &name, entry).context(&shown)?;
            }
        }
        note_at(&mut self.made, &at, &parts)?;
        let directory = directory.as_raw_fd();
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
        let name = c_name(name)?;
        let directory = self.root.directory(parents).context(shown)?;
        let found = new_file::look(directory.as_raw_fd(), &name).context(shown)?;
        check_replaceable(found.as_ref(), self.options.overwrite, shown)?;
        if found.as_ref().map_or(false, Metadata::is_file) {
            let message = format!(
                "{} is a file in the target, but a directory in the archive",
                shown
            );
            return Err(Failure::new("already_exists", message));
        }
        let at = Name {
            directory,
            name: &name,
            found: found.as_ref(),
            shown,
        };
        make_room(&at)?;
        let made = unsafe { sys::mkdirat(directory.as_raw_fd(), name.as_ptr(), 0o700) };
        sys::check(made).context(shown)?;
        note_at(&mut self.made, &at, parts)?;
        self.root.forget();
        let fd = self.root.existing_directory(parts).context(shown)?;
        let options = self.options;
        if options.keep_owner {
            sys::check(unsafe { sys::fchown(fd.as_raw_fd(), entry.uid, entry.gid) })
                .context(shown)?;
        }
        xattr::write(fd.as_raw_fd(), &entry.xattrs);
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

    fn finish_directories(&mut self) {
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
    }

    fn hard_link_source(&mut self, link: &[u8]) -> Outcome<(OwnedFd, CString)> {
        let (parts, shown) = safe_components(link)?;
        let (name, parents) = parts
            .split_last()
            .ok_or_else(|| Failure::invalid("a hard link to the target itself"))?;
        let directory = self.root.existing_directory(parents).context(&shown)?;
        Ok((directory, c_name(name)?))
    }
}

/// A file in a directory of the target: new, in the place of another file or link, or into a device that is there.
fn file<R: Read>(
    at: &Name,
    entry: &Entry,
    reader: &mut TarReader<R>,
    options: &UnpackOptions,
    cancel: &Cancel,
    about_to_name: impl FnOnce(&Metadata),
) -> Outcome<()> {
    let mut target = Target::open(at, false)?;
    target.take(reader, cancel, &words(at.shown))?;
    if let Some(file) = target.new_file() {
        about_to_name(&file.metadata().context(at.shown)?);
    }
    // What is cut off within an entry is seen by the reader, at its end here.
    target.commit(at.shown, |fd| {
        set_metadata(fd, entry, options, Path::new(at.shown))
    })
}

/// Remembers what has just got its name.
fn note_at(made: &mut Made, at: &Name, parts: &[&[u8]]) -> Outcome<()> {
    if let Some(is) = new_file::look(at.directory.as_raw_fd(), at.name).context(at.shown)? {
        made.note(parts, &is, at.found.is_some());
    }
    Ok(())
}

fn hard_link(at: &Name, source: &(OwnedFd, CString)) -> Outcome<()> {
    let (from, old) = (source.0.as_raw_fd(), &source.1);
    let first = new_file::look(from, old).context(at.shown)?;
    let identity = |file: &Metadata| (file.dev(), file.ino());
    if first.is_some() && first.as_ref().map(identity) == at.found.map(identity) {
        return Ok(());
    }
    make_room(at)?;
    let to = at.directory.as_raw_fd();
    let done = unsafe { sys::linkat(from, old.as_ptr(), to, at.name.as_ptr(), 0) };
    sys::check(done).map(drop).context(at.shown)
}

fn check_replaceable(found: Option<&Metadata>, overwrite: bool, shown: &str) -> Outcome<()> {
    match found {
        Some(found) if found.is_dir() => {
            let message = format!(
                "{} is a directory in the target, but not in the archive",
                shown
            );
            Err(Failure::new("already_exists", message))
        }
        Some(_) if !overwrite => Err(already_exists(shown)),
        _ => Ok(()),
    }
}

/// Removes a file or link that stands where something else goes. A device, FIFO or socket is never replaced: whoever
/// uses it by its name would go on with something else.
fn make_room(at: &Name) -> Outcome<()> {
    let found = match at.found {
        None => return Ok(()),
        Some(found) => found,
    };
    if let Some(kind) = new_file::special(found) {
        let message = format!(
            "{} is {} in the target and something else in the archive",
            at.shown, kind
        );
        return Err(Failure::new("unsupported", message)
            .hint("Remove it in the box first, or leave it out of the archive."));
    }
    let directory = at.directory.as_raw_fd();
    sys::check(unsafe { sys::unlinkat(directory, at.name.as_ptr(), 0) })
        .map(drop)
        .context(at.shown)
}

/// Whether the device or FIFO of an entry is there already.
fn is_same_node(found: Option<&Metadata>, entry: &Entry) -> bool {
    found.map_or(false, |found| {
        let same = found.mode() & sys::S_IFMT == node_kind(entry.kind);
        same && (entry.kind == Kind::Fifo || found.rdev() == device_number(entry))
    })
}

fn node_kind(kind: Kind) -> u32 {
    match kind {
        Kind::Character => sys::S_IFCHR,
        Kind::Block => sys::S_IFBLK,
        _ => sys::S_IFIFO,
    }
}

fn device_number(entry: &Entry) -> u64 {
    let (major, minor) = (entry.device.0 as u64, entry.device.1 as u64);
    (major & 0xfff) << 8 | (major & !0xfff) << 32 | (minor & 0xff) | (minor & !0xff) << 12
}

fn make_node(directory: RawFd, name: &CString, entry: &Entry) -> io::Result<()> {
    let kind = node_kind(entry.kind);
    let device = device_number(entry);
    // The agent's umask would take bits away: PID 1 runs with 022.
    let made = unsafe { sys::mknodat(directory, name.as_ptr(), kind | entry.mode, device) };
    sys::check(made).map(drop)
}
