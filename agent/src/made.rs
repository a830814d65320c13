//! What an archive has made so far: one that is refused, cut off or given up leaves none of it.

use crate::beneath::{components, Beneath};
use crate::new_file;
use crate::sys;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::os::unix::io::AsRawFd;

/// Names remembered, at about 150 bytes each: a fraction of the smallest box's memory. What comes later stays.
const MOST_NAMES: usize = 131_072;

/// Names that were not there before, by their paths in the target. What replaced something stays: the old is gone.
#[derive(Default)]
pub struct Made {
    names: BTreeMap<Vec<u8>, Thing>,
    is_full: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Link,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Thing {
    kind: Kind,
    device: u64,
    inode: u64,
}

impl Thing {
    fn of(found: &Metadata) -> Thing {
        let file_type = found.file_type();
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_symlink() {
            Kind::Link
        } else {
            Kind::Other
        };
        Thing {
            kind,
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

impl Made {
    /// Something has a name, or is about to get it. `was_there`: in the place of what was there before.
    pub fn note(&mut self, parts: &[&[u8]], is: &Metadata, was_there: bool) {
        self.note_path(parts.join(&b'/'), is, was_there);
    }

    fn note_path(&mut self, path: Vec<u8>, is: &Metadata, was_there: bool) {
        if let Some(known) = self.names.get_mut(&path) {
            *known = Thing::of(is);
        } else if was_there {
        } else if self.names.len() < MOST_NAMES {
            self.names.insert(path, Thing::of(is));
        } else {
            self.is_full = true;
        }
    }

    /// Directories that were made on the way to something.
    pub fn note_directories(&mut self, root: &Beneath, paths: Vec<Vec<u8>>) {
        for path in paths {
            let parts = components(&path).unwrap_or_default();
            let opened = root.existing_directory(&parts).map(std::fs::File::from);
            if let Ok(found) = opened.and_then(|directory| directory.metadata()) {
                self.note_path(path, &found, false);
            }
        }
    }

    /// Removes what is still what was made, the inner before the outer. Directories that somebody else put something
    /// into stay. Says whether everything was remembered.
    pub fn undo(self, root: &Beneath) -> bool {
        let mut rest: Vec<(Vec<u8>, Thing)> = self.names.into_iter().rev().collect();
        // A path may lead through a link that was made, too: links go after what is behind them.
        for kind in &[Kind::Other, Kind::Directory, Kind::Link, Kind::Directory] {
            rest.retain(|(path, thing)| thing.kind != *kind || !remove(root, path, *thing));
        }
        !self.is_full
    }
}

fn remove(root: &Beneath, path: &[u8], thing: Thing) -> bool {
    let parts = components(path).unwrap_or_default();
    let (name, parents) = match parts.split_last() {
        Some(split) => split,
        None => return false,
    };
    let (directory, name) = match (root.existing_directory(parents), CString::new(*name)) {
        (Ok(directory), Ok(name)) => (directory, name),
        _ => return false,
    };
    let fd = directory.as_raw_fd();
    match new_file::look(fd, &name) {
        Ok(Some(found)) if Thing::of(&found) == thing => {}
        _ => return false,
    }
    let flags = match thing.kind {
        Kind::Directory => sys::AT_REMOVEDIR,
        _ => 0,
    };
    unsafe { sys::unlinkat(fd, name.as_ptr(), flags) == 0 }
}
