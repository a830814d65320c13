//! Packs a file or a tree as a tar stream.

use crate::failure::{Context, Failure, Outcome};
use crate::files::{self, c_path};
use crate::json::Value;
use crate::object;
use crate::sys;
use crate::tar_format::{self, Entry, Kind, BLOCK};
use crate::xattr;
use std::collections::HashMap;
use std::fs::{self, File, Metadata, ReadDir};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::io::AsRawFd;
use std::path::{Path, PathBuf};

/// Directories within each other; every level holds an open directory.
const MOST_DEPTH: usize = 256;
/// Files with several names that are remembered; later ones are packed once per name.
const MOST_LINKS: usize = 65_536;
/// Files of the kernel have no length before they are read: one is held in memory as a whole.
const MOST_KERNEL_BYTES: u64 = 16 * 1024 * 1024;
const COPY_BYTES: usize = 64 * 1024;
/// File systems of the kernel (statfs(2)): proc, sysfs, devpts, cgroup2, cgroup, debugfs, tracefs, securityfs, configfs,
/// bpf, binfmt_misc, fusectl, pstore, efivarfs, mqueue.
const KERNEL_FILE_SYSTEMS: [i64; 15] = [
    0x9fa0,
    0x6265_6572,
    0x1cd1,
    0x6367_7270,
    0x27_e0eb,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0x6265_6570,
    0xcafe_4a11,
    0x4249_4e4d,
    0x6573_5543,
    0x6165_676c,
    0xde5e_81e4,
    0x1980_0202,
];

pub struct PackOptions {
    pub path: PathBuf,
    pub follow: bool,
    /// One top entry with the base name, else for a directory its content as `./...`.
    pub include_parent: bool,
}

struct Packer<'a> {
    out: BufWriter<File>,
    options: &'a PackOptions,
    links: HashMap<(u64, u64), Vec<u8>>,
    entries: u64,
    bytes: u64,
}

/// A directory being walked.
struct Level {
    reader: ReadDir,
    /// Name in the archive, with a slash at the end.
    prefix: Vec<u8>,
    identity: (u64, u64),
}

pub fn pack(options: &PackOptions, out: File) -> Outcome<Value> {
    let mut packer = Packer {
        out: BufWriter::with_capacity(COPY_BYTES, out),
        options,
        links: HashMap::new(),
        entries: 0,
        bytes: 0,
    };
    packer.walk()?;
    packer.write(&[0; 2 * BLOCK])?;
    packer.out.flush().context("sending the archive")?;
    Ok(object! { "entries" => packer.entries, "bytes" => packer.bytes })
}

impl<'a> Packer<'a> {
    fn write(&mut self, bytes: &[u8]) -> Outcome<()> {
        self.out.write_all(bytes).context("sending the archive")
    }

    fn walk(&mut self) -> Outcome<()> {
        let path = &self.options.path;
        // A slash at the end means what a link leads to.
        let slash = path.as_os_str().as_bytes().ends_with(b"/");
        let metadata = if self.options.follow || slash {
            fs::metadata(path)
        } else {
            fs::symlink_metadata(path)
        };
        let metadata = metadata.context(path.display())?;
        let base = path
            .file_name()
            .map_or(&b"root"[..], |name| name.as_bytes());
        let name = if metadata.is_dir() && !self.options.include_parent {
            b"."
        } else {
            base
        };
        let mut levels = Vec::new();
        levels.extend(self.add(path, name.to_vec(), &metadata)?);
        if self.entries == 0 {
            let message = format!("{} is a socket, which no archive holds", path.display());
            return Err(Failure::new("unsupported", message));
        }
        while let Some(level) = levels.last_mut() {
            let entry = match level.reader.next() {
                None => {
                    levels.pop();
                    continue;
                }
                Some(entry) => entry.context(path.display())?,
            };
            let name = [&level.prefix, entry.file_name().as_bytes()].concat();
            let metadata = match self.look(&entry.path()) {
                Ok(metadata) => metadata,
                // Removed meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Failure::io(entry.path().display(), &error)),
            };
            let looping = levels
                .iter()
                .any(|level| level.identity == (metadata.dev(), metadata.ino()));
            if metadata.is_dir() && (looping || levels.len() >= MOST_DEPTH) {
                let message = format!(
                    "{}: directories are nested too deep",
                    entry.path().display()
                );
                return Err(Failure::invalid(message));
            }
            levels.extend(self.add(&entry.path(), name, &metadata)?);
        }
        Ok(())
    }

    /// Where links are followed, one that leads nowhere is kept as a link.
    fn look(&self, path: &Path) -> io::Result<Metadata> {
        if self.options.follow {
            if let Ok(metadata) = fs::metadata(path) {
                return Ok(metadata);
            }
        }
        fs::symlink_metadata(path)
    }

    /// Writes one entry. For a directory: the level to walk next.
    fn add(&mut self, path: &Path, name: Vec<u8>, metadata: &Metadata) -> Outcome<Option<Level>> {
        let kind = metadata.file_type();
        let mut entry = Entry {
            path: name,
            kind: Kind::File,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: 0,
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        };
        if kind.is_dir() {
            return self.add_directory(path, entry, metadata);
        }
        if kind.is_symlink() {
            entry.kind = Kind::Symlink;
            entry.link = fs::read_link(path)
                .context(path.display())?
                .into_os_string()
                .as_bytes()
                .to_vec();
        } else if kind.is_fifo() {
            entry.kind = Kind::Fifo;
        } else if kind.is_char_device() || kind.is_block_device() {
            entry.kind = if kind.is_block_device() {
                Kind::Block
            } else {
                Kind::Character
            };
            entry.device = split_device(metadata.rdev());
        } else if !kind.is_file() {
            // A socket means nothing without the process behind it.
            return Ok(None);
        }
        if entry.kind == Kind::File {
            self.add_file(path, entry, metadata)?;
        } else {
            self.entries += 1;
            self.write(&tar_format::encode(&entry))?;
        }
        Ok(None)
    }

    fn add_directory(
        &mut self,
        path: &Path,
        mut entry: Entry,
        metadata: &Metadata,
    ) -> Outcome<Option<Level>> {
        entry.kind = Kind::Directory;
        entry.path.push(b'/');
        entry.xattrs = File::open(path)
            .map(|file| xattr::read(&file))
            .unwrap_or_default();
        self.entries += 1;
        self.write(&tar_format::encode(&entry))?;
        if is_kernel_file_system(path)? {
            return Ok(None);
        }
        Ok(Some(Level {
            reader: fs::read_dir(path).context(path.display())?,
            prefix: entry.path,
            identity: (metadata.dev(), metadata.ino()),
        }))
    }

    fn add_file(&mut self, path: &Path, mut entry: Entry, metadata: &Metadata) -> Outcome<()> {
        let identity = (metadata.dev(), metadata.ino());
        if metadata.nlink() > 1 {
            if let Some(first) = self.links.get(&identity) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                self.entries += 1;
                return self.write(&tar_format::encode(&entry));
            }
            if self.links.len() < MOST_LINKS {
                self.links.insert(identity, entry.path.clone());
            }
        }
        let (file, metadata) = match files::open_to_read(path, self.options.follow) {
            Ok(opened) => opened,
            // Removed meanwhile.
            Err(failure) if failure.code == "not_found" && self.entries > 0 => return Ok(()),
            Err(failure) => return Err(failure),
        };
        if !metadata.is_file() {
            let message = format!("{}: it was replaced while it was read", path.display());
            return Err(Failure::new("invalid_state", message));
        }
        entry.xattrs = xattr::read(&file);
        if metadata.len() == 0 || is_kernel_file(&file, path)? {
            let content = files::read_whole(&file, MOST_KERNEL_BYTES, path)?;
            return self.add_content(entry, &content);
        }
        entry.size = metadata.len();
        self.entries += 1;
        self.write(&tar_format::encode(&entry))?;
        let copied = self.copy(&file, entry.size, path)?;
        // A file that shrinks while it is read is filled up: its size is announced already.
        let missing = entry.size - copied + tar_format::padding(entry.size) as u64;
        let zeros = [0; 8 * BLOCK];
        let mut left = missing;
        while left > 0 {
            let count = left.min(zeros.len() as u64) as usize;
            self.write(&zeros[..count])?;
            left -= count as u64;
        }
        Ok(())
    }

    /// A file of the kernel: it has the length it has when it is read.
    fn add_content(&mut self, mut entry: Entry, content: &[u8]) -> Outcome<()> {
        entry.size = content.len() as u64;
        self.entries += 1;
        self.bytes += entry.size;
        self.write(&tar_format::encode(&entry))?;
        self.write(content)?;
        self.write(&[0; BLOCK][..tar_format::padding(entry.size)])
    }

    fn copy(&mut self, file: &File, size: u64, path: &Path) -> Outcome<u64> {
        let mut limited = file.take(size);
        let mut buffer = vec![0; COPY_BYTES.min(size.max(1) as usize)];
        let mut copied = 0;
        loop {
            let count = limited.read(&mut buffer).context(path.display())?;
            if count == 0 {
                self.bytes += copied;
                return Ok(copied);
            }
            self.write(&buffer[..count])?;
            copied += count as u64;
        }
    }
}

/// `gnu_dev_major` and `gnu_dev_minor`.
fn split_device(device: u64) -> (u32, u32) {
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & !0xff);
    (major as u32, minor as u32)
}

fn is_kernel_file(file: &File, path: &Path) -> Outcome<bool> {
    let mut info = sys::StatFs::default();
    sys::check(unsafe { sys::fstatfs(file.as_raw_fd(), &mut info) }).context(path.display())?;
    Ok(KERNEL_FILE_SYSTEMS.contains(&info.kind))
}

fn is_kernel_file_system(path: &Path) -> Outcome<bool> {
    let name = c_path(path)?;
    let mut info = sys::StatFs::default();
    sys::check(unsafe { sys::statfs(name.as_ptr(), &mut info) }).context(path.display())?;
    Ok(KERNEL_FILE_SYSTEMS.contains(&info.kind))
}
