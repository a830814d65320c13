//! Writing a file by its path. A reader sees the old content or the new: docs/decisions/020-writing-files.md.

use crate::cancel::Cancel;
use crate::failure::{Args, Context, Failure, Outcome};
use crate::files::{c_path, id_of, is_directory, mode_of, path_of};
use crate::json::Value;
use crate::new_file::{self, NewFile};
use crate::object;
use crate::sys;
use crate::target::{Name, Target, Words};
use crate::xattr::{self, Attribute};
use std::ffi::CString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Symbolic links that are followed one after the other, as by the kernel.
const MOST_LINKS: usize = 40;
const DEFAULT_MODE: u32 = 0o644;

pub struct WriteOptions {
    pub path: PathBuf,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub append: bool,
    pub create_parents: bool,
}

impl WriteOptions {
    pub fn read(args: &Args) -> Outcome<WriteOptions> {
        Ok(WriteOptions {
            path: path_of(args, "path")?,
            mode: mode_of(args)?,
            uid: id_of(args, "uid")?,
            gid: id_of(args, "gid")?,
            append: args.flag("append")?,
            create_parents: args.flag("createParents")?,
        })
    }
}

/// Directories made for files that are not there yet, and by how many writes each is needed.
static MADE: Mutex<Vec<(PathBuf, usize)>> = Mutex::new(Vec::new());

/// Directories made on the way to a file. They go again when nothing comes into them, and no other write that is under
/// way found them there.
#[derive(Default)]
pub struct Parents(Vec<PathBuf>);

impl Parents {
    /// Makes a directory and those above it that are missing.
    pub fn make(directory: &Path) -> Outcome<Parents> {
        let mut made = Parents::default();
        let mut all = lock();
        let mut places: Vec<&Path> = directory.ancestors().collect();
        places.reverse();
        for place in places {
            if let Some((_, users)) = all.iter_mut().find(|(path, _)| path == place) {
                *users += 1;
                made.0.push(place.to_path_buf());
                continue;
            }
            if fs::metadata(place).is_ok() {
                continue;
            }
            match fs::create_dir(place) {
                Ok(()) => {
                    all.push((place.to_path_buf(), 1));
                    made.0.push(place.to_path_buf());
                }
                Err(_) if place.is_dir() => {}
                Err(error) => {
                    drop(all);
                    return Err(Failure::io(place.display(), &error));
                }
            }
        }
        Ok(made)
    }

    /// They stay, whoever else needed them.
    pub fn keep(mut self) {
        let kept = std::mem::take(&mut self.0);
        lock().retain(|(path, _)| !kept.contains(path));
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        let mut all = lock();
        for place in self.0.iter().rev() {
            let at = match all.iter().position(|(path, _)| path == place) {
                Some(at) => at,
                None => continue,
            };
            all[at].1 -= 1;
            if all[at].1 == 0 {
                all.swap_remove(at);
                // One that is not empty stays: somebody uses it.
                let _ = fs::remove_dir(place);
            }
        }
    }
}

fn lock() -> MutexGuard<'static, Vec<(PathBuf, usize)>> {
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file about to be written, found by its path.
pub struct Opened {
    pub target: Target,
    pub parents: Parents,
    /// The file that is there, and its attributes.
    pub old: Option<(Metadata, Vec<Attribute>)>,
}

/// Finds out what a path means and opens it. Links are followed, also one that leads to nothing yet.
pub fn open(path: &Path, create_parents: bool) -> Outcome<Opened> {
    let shown = path.display().to_string();
    let place = match resolve(path)? {
        Place::Named(place) => place,
        Place::Unnamed(found) => {
            return Ok(Opened {
                target: Target::open_followed(path, &found)?,
                parents: Parents::default(),
                old: None,
            })
        }
    };
    let (directory, name) = split(&place)?;
    let parents = match create_parents {
        true => Parents::make(directory)?,
        false => Parents::default(),
    };
    let directory = new_file::open_directory(directory).context(&shown)?;
    let found = new_file::look(directory.as_raw_fd(), &name).context(&shown)?;
    if found.as_ref().map_or(false, Metadata::is_dir) {
        return Err(is_directory(&shown));
    }
    let at = Name {
        directory: &directory,
        name: &name,
        found: found.as_ref(),
        shown: &shown,
    };
    let target = Target::open(&at, true)?;
    let old = found
        .filter(Metadata::is_file)
        .map(|old| (old, attributes(&directory, &name)));
    Ok(Opened {
        target,
        parents,
        old,
    })
}

enum Place {
    Named(PathBuf),
    /// What is there is reached by the path only: no name in a directory is known for it.
    Unnamed(Metadata),
}

fn resolve(path: &Path) -> Outcome<Place> {
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return follow(path).map(Place::Named)
        }
        other => other.context(path.display())?,
    };
    if found.is_dir() {
        return Err(is_directory(path.display()));
    }
    match fs::canonicalize(path) {
        Ok(place) if is_same(&place, &found) => Ok(Place::Named(place)),
        _ => Ok(Place::Unnamed(found)),
    }
}

/// Where links lead that end at nothing: the name to be made.
fn follow(path: &Path) -> Outcome<PathBuf> {
    if path.as_os_str().as_bytes().ends_with(b"/") {
        return Err(is_directory(path.display()));
    }
    let mut place = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::symlink_metadata(&place) {
            Ok(found) if found.file_type().is_symlink() => {}
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::io(path.display(), &error))
            }
            _ => return Ok(place),
        }
        let target = fs::read_link(&place).context(path.display())?;
        place = place.parent().unwrap_or(&place).join(target);
    }
    let error = io::Error::from_raw_os_error(sys::ELOOP);
    Err(Failure::io(path.display(), &error))
}

fn is_same(place: &Path, found: &Metadata) -> bool {
    fs::symlink_metadata(place).map_or(false, |there| {
        (there.dev(), there.ino()) == (found.dev(), found.ino())
    })
}

fn split(place: &Path) -> Outcome<(&Path, CString)> {
    match (place.parent(), place.file_name()) {
        (Some(directory), Some(name)) => Ok((directory, c_path(Path::new(name))?)),
        _ => Err(is_directory(place.display())),
    }
}

/// Those that stay with a file whose content changes.
fn attributes(directory: &OwnedFd, name: &CString) -> Vec<Attribute> {
    let flags = sys::O_RDONLY | sys::O_NOFOLLOW | sys::O_NONBLOCK | sys::O_CLOEXEC;
    let fd = unsafe { sys::openat(directory.as_raw_fd(), name.as_ptr(), flags) };
    let file = match sys::owned(fd) {
        Ok(file) => File::from(file),
        Err(_) => return Vec::new(),
    };
    let mut attributes = xattr::read(&file);
    attributes.retain(|(name, _)| !xattr::is_capability(name));
    attributes
}

/// Writes a file from a stream.
pub fn write(options: &WriteOptions, mut input: File, cancel: &Cancel) -> Outcome<Value> {
    let path = &options.path;
    let shown = path.display().to_string();
    let words = Words {
        shown: &shown,
        reading: "reading the stream",
    };
    if options.append {
        return append(options, &mut input, cancel, &words);
    }
    let mut opened = open(path, options.create_parents)?;
    let bytes = opened.target.take(&mut input, cancel, &words)?;
    cancel.check(&shown)?;
    let old = opened.old;
    opened
        .target
        .commit(&shown, |fd| finish(fd, options, old.as_ref()))?;
    opened.parents.keep();
    Ok(object! { "bytes" => bytes })
}

/// Owner, mode and attributes: as asked, else those of the file that was there, else root's usual ones.
fn finish(
    fd: RawFd,
    options: &WriteOptions,
    old: Option<&(Metadata, Vec<Attribute>)>,
) -> Outcome<()> {
    let shown = options.path.display();
    let uid = options.uid.or_else(|| old.map(|(old, _)| old.uid()));
    let gid = options.gid.or_else(|| old.map(|(old, _)| old.gid()));
    let mode = options
        .mode
        .or_else(|| old.map(|(old, _)| old.mode() & 0o7777))
        .unwrap_or(DEFAULT_MODE);
    if uid.is_some() || gid.is_some() {
        let done = unsafe { sys::fchown(fd, uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX)) };
        let kept = options.uid.is_none() && options.gid.is_none();
        if done != 0 && !kept {
            return Err(Failure::io(shown, &io::Error::last_os_error()));
        }
    }
    if let Some((_, attributes)) = old {
        xattr::write(fd, attributes);
    }
    sys::check(unsafe { sys::fchmod(fd, mode) })
        .map(drop)
        .context(shown)
}

/// Adds to what is there once the stream is whole: one that is cut off adds nothing.
fn append(
    options: &WriteOptions,
    input: &mut File,
    cancel: &Cancel,
    words: &Words,
) -> Outcome<Value> {
    let path = &options.path;
    let found = fs::metadata(path).ok();
    if found.as_ref().and_then(new_file::special).is_some() {
        let mut opened = open(path, false)?;
        let bytes = opened.target.take(input, cancel, words)?;
        cancel.check(words.shown)?;
        return Ok(object! { "bytes" => bytes });
    }
    let directory = path.parent().unwrap_or(path);
    let parents = match options.create_parents {
        true => Parents::make(directory)?,
        false => Parents::default(),
    };
    let directory = new_file::open_directory(directory).context(words.shown)?;
    let mut whole = NewFile::create(&directory).context(words.shown)?;
    io::copy(input, &mut whole.file).context(words.reading)?;
    cancel.check(words.shown)?;
    whole.file.seek(SeekFrom::Start(0)).context(words.shown)?;
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(options.mode.unwrap_or(DEFAULT_MODE))
        .custom_flags(sys::O_NONBLOCK | sys::O_NOCTTY)
        .open(path)
        .context(words.shown)?;
    let bytes = io::copy(&mut whole.file, &mut file).context(words.shown)?;
    parents.keep();
    Ok(object! { "bytes" => bytes })
}
