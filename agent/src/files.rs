//! File operations of the root (docs/PROTOCOL.md, section 7). They run in jobs, since any file system may block.

use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::new_file;
use crate::object;
use crate::sys;
use std::ffi::{CString, OsStr};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

const COPY_BYTES: usize = 64 * 1024;

/// The absolute path in a member of a request.
pub fn path_of(args: &Args, name: &str) -> Outcome<PathBuf> {
    let bytes = args.bytes(name)?;
    if bytes.first() != Some(&b'/') {
        let got = String::from_utf8_lossy(bytes);
        return Err(Failure::invalid(format!(
            "{} is {:?}, expected an absolute path",
            name, got
        )));
    }
    Ok(PathBuf::from(OsStr::from_bytes(bytes)))
}

pub fn c_path(path: &Path) -> Outcome<CString> {
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Failure::invalid("a path holds a NUL byte"))
}

/// The words of the protocol for a file's type.
fn kind_of(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    if kind.is_file() {
        "file"
    } else if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_char_device() {
        "character"
    } else if kind.is_block_device() {
        "block"
    } else if kind.is_fifo() {
        "fifo"
    } else {
        "socket"
    }
}

fn describe(name: &[u8], metadata: &Metadata, target: Option<PathBuf>) -> Value {
    object! {
        "name" => name,
        "type" => kind_of(metadata),
        "size" => metadata.len(),
        "mode" => metadata.mode() & 0o7777,
        "uid" => metadata.uid(),
        "gid" => metadata.gid(),
        "mtimeMs" => metadata.mtime() * 1000 + metadata.mtime_nsec() / 1_000_000,
        "linkTarget" => target.map(|target| Value::from(target.as_os_str().as_bytes())),
    }
}

fn link_target(path: &Path, metadata: &Metadata) -> Option<PathBuf> {
    if metadata.file_type().is_symlink() {
        fs::read_link(path).ok()
    } else {
        None
    }
}

pub fn stat(path: &Path, follow: bool) -> Outcome<Value> {
    let metadata = if follow {
        fs::metadata(path)
    } else {
        fs::symlink_metadata(path)
    };
    let metadata = metadata.context(path.display())?;
    let name = path.file_name().map_or(&b"/"[..], |name| name.as_bytes());
    Ok(describe(name, &metadata, link_target(path, &metadata)))
}

/// Writes one line of JSON per entry.
pub fn list(path: &Path, out: File) -> Outcome<Value> {
    let mut out = BufWriter::with_capacity(COPY_BYTES, out);
    let mut entries = 0u64;
    for entry in fs::read_dir(path).context(path.display())? {
        let entry = entry.context(path.display())?;
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Failure::io(entry.path().display(), &error)),
        };
        let target = link_target(&entry.path(), &metadata);
        let mut line = describe(entry.file_name().as_bytes(), &metadata, target).to_bytes();
        line.push(b'\n');
        out.write_all(&line).context("sending the list")?;
        entries += 1;
    }
    out.flush().context("sending the list")?;
    Ok(object! { "entries" => entries })
}

/// Opens what can be read without waiting for anybody: files and devices.
pub fn open_to_read(path: &Path, follow: bool) -> Outcome<(File, Metadata)> {
    // Opening a FIFO would already be seen by its writer.
    let found = match follow {
        true => fs::metadata(path),
        false => fs::symlink_metadata(path),
    };
    check_readable(path, &found.context(path.display())?)?;
    let links = if follow { 0 } else { sys::O_NOFOLLOW };
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(links | sys::O_NONBLOCK | sys::O_NOCTTY)
        .open(path)
        .context(path.display())?;
    let metadata = file.metadata().context(path.display())?;
    // It may be another one by now.
    check_readable(path, &metadata)?;
    Ok((file, metadata))
}

fn check_readable(path: &Path, metadata: &Metadata) -> Outcome<()> {
    let shown = path.display();
    if metadata.is_dir() {
        return Err(is_directory(shown));
    }
    match new_file::special(metadata) {
        Some(kind @ ("a FIFO" | "a socket")) => Err(Failure::new(
            "unsupported",
            format!("{} is {}; only files and devices are read", shown, kind),
        )
        .hint("Read it by a command in the box.")),
        _ => Ok(()),
    }
}

pub fn is_directory(shown: impl std::fmt::Display) -> Failure {
    Failure::invalid(format!("{} is a directory, expected a file", shown))
}

pub fn read(path: &Path, offset: u64, length: Option<u64>, mut out: File) -> Outcome<Value> {
    let (mut file, metadata) = open_to_read(path, true)?;
    if offset > 0 {
        file.seek(SeekFrom::Start(offset)).context(path.display())?;
    }
    let bytes = copy(&mut file.take(length.unwrap_or(u64::MAX)), &mut out, path)?;
    Ok(object! { "bytes" => bytes, "size" => metadata.len() })
}

/// What the file has now: where it would have to wait for more, it ends.
fn copy(from: &mut impl Read, to: &mut impl Write, path: &Path) -> Outcome<u64> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut total = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(total),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Failure::io(path.display(), &error)),
        };
        to.write_all(&buffer[..count]).context("sending the file")?;
        total += count as u64;
    }
}

/// All of a file of the kernel, whose length says nothing, up to a limit.
pub fn read_whole(file: &File, limit: u64, path: &Path) -> Outcome<Vec<u8>> {
    let mut content = Vec::new();
    copy(&mut file.take(limit + 1), &mut content, path)?;
    if content.len() as u64 > limit {
        let message = format!(
            "{}: a file without a length, over {} bytes",
            path.display(),
            limit
        );
        return Err(Failure::new("payload_too_large", message));
    }
    Ok(content)
}

pub fn mode_of(args: &Args) -> Outcome<Option<u32>> {
    Ok(args
        .optional_int("mode", 0, 0o7777)?
        .map(|mode| mode as u32))
}

pub fn id_of(args: &Args, name: &str) -> Outcome<Option<u32>> {
    Ok(args
        .optional_int(name, 0, u32::MAX as i64 - 1)?
        .map(|id| id as u32))
}

pub fn make_directory(path: &Path, recursive: bool, mode: Option<u32>) -> Outcome<Value> {
    let mut builder = DirBuilder::new();
    builder.recursive(recursive).mode(mode.unwrap_or(0o755));
    builder.create(path).context(path.display())?;
    if let Some(mode) = mode {
        // Past the umask, and for one that was there.
        fs::set_permissions(path, Permissions::from_mode(mode)).context(path.display())?;
    }
    Ok(object! {})
}

pub fn remove(path: &Path, recursive: bool, force: bool) -> Outcome<Value> {
    let removed = fs::symlink_metadata(path).and_then(|metadata| {
        if !metadata.is_dir() {
            fs::remove_file(path)
        } else if recursive {
            fs::remove_dir_all(path)
        } else {
            fs::remove_dir(path)
        }
    });
    match removed {
        Err(error) if force && error.kind() == io::ErrorKind::NotFound => Ok(object! {}),
        other => other.context(path.display()).map(|()| object! {}),
    }
}

pub fn rename(from: &Path, to: &Path, overwrite: bool) -> Outcome<Value> {
    if !overwrite && fs::symlink_metadata(to).is_ok() {
        return Err(Failure::new(
            "already_exists",
            format!("{} exists already", to.display()),
        ));
    }
    fs::rename(from, to).context(format!("{} to {}", from.display(), to.display()))?;
    Ok(object! {})
}

pub fn change_mode(path: &Path, mode: u32) -> Outcome<Value> {
    fs::set_permissions(path, Permissions::from_mode(mode)).context(path.display())?;
    Ok(object! {})
}

pub fn change_owner(
    path: &Path,
    uid: Option<u32>,
    gid: Option<u32>,
    follow: bool,
) -> Outcome<Value> {
    let flags = if follow { 0 } else { sys::AT_SYMLINK_NOFOLLOW };
    let name = c_path(path)?;
    let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
    let done = unsafe { sys::fchownat(sys::AT_FDCWD, name.as_ptr(), uid, gid, flags) };
    sys::check(done).context(path.display())?;
    Ok(object! {})
}

pub fn make_symlink(target: &[u8], path: &Path) -> Outcome<Value> {
    std::os::unix::fs::symlink(OsStr::from_bytes(target), path).context(path.display())?;
    Ok(object! {})
}

pub fn read_symlink(path: &Path) -> Outcome<Value> {
    let target = fs::read_link(path).context(path.display())?;
    Ok(object! { "target" => target.as_os_str().as_bytes() })
}
