//! The directories of a watch: which number of inotify(7) stands for which path below the watched directory.

use crate::failure::{Failure, Outcome};
use crate::inotify::Inotify;
use crate::sys;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What the kernel gives all watches of a small guest by default (fs.inotify.max_user_watches).
pub const MOST_DIRECTORIES: usize = 8192;

pub struct Tree {
    pub inotify: Inotify,
    pub root: PathBuf,
    pub root_watch: i32,
    pub recursive: bool,
    most: usize,
    /// Paths below the root; that of the root is empty.
    paths: HashMap<i32, Vec<u8>>,
    watches: BTreeMap<Vec<u8>, i32>,
}

/// Something in a directory.
pub struct Entry {
    /// Below the root.
    pub path: Vec<u8>,
    pub is_directory: bool,
}

/// A name in a directory of the tree.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    [directory, name].join(&b'/')
}

impl Tree {
    /// Watches a directory and, when asked, everything below it.
    pub fn open(root: &Path, recursive: bool, most: usize) -> Outcome<Tree> {
        let inotify = Inotify::open()?;
        let root_watch = inotify
            .watch(root, true)
            .map_err(|error| refused(root, &error))?;
        let mut tree = Tree {
            inotify,
            root: root.to_path_buf(),
            root_watch,
            recursive,
            most,
            paths: HashMap::new(),
            watches: BTreeMap::new(),
        };
        tree.insert(Vec::new(), root_watch)?;
        if recursive {
            tree.add_below(Vec::new(), |_| Ok(()))?;
        }
        Ok(tree)
    }

    /// Where something of the tree is.
    pub fn path(&self, below: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(below))
    }

    /// The directory a number stands for; None when it is not watched any more.
    pub fn directory(&self, watch: i32) -> Option<&Vec<u8>> {
        self.paths.get(&watch)
    }

    /// Watches a directory that has come, and those in it. `found` is told what is in them already.
    pub fn add(&mut self, path: Vec<u8>, found: impl FnMut(&Entry) -> Outcome<()>) -> Outcome<()> {
        if self.watch(&path)? {
            self.add_below(path, found)?;
        }
        Ok(())
    }

    fn add_below(
        &mut self,
        path: Vec<u8>,
        mut found: impl FnMut(&Entry) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut directories = vec![path];
        while let Some(directory) = directories.pop() {
            let listed = match fs::read_dir(self.path(&directory)) {
                Ok(listed) => listed,
                // Gone meanwhile.
                Err(_) => continue,
            };
            for listed in listed.filter_map(|each| each.ok()) {
                let entry = Entry {
                    path: join(&directory, listed.file_name().as_bytes()),
                    is_directory: listed.file_type().map_or(false, |kind| kind.is_dir()),
                };
                found(&entry)?;
                if entry.is_directory && self.watch(&entry.path)? {
                    directories.push(entry.path);
                }
            }
        }
        Ok(())
    }

    /// False when it is gone, or no directory any more.
    fn watch(&mut self, path: &[u8]) -> Outcome<bool> {
        let full = self.path(path);
        match self.inotify.watch(&full, false) {
            Ok(watch) => self.insert(path.to_vec(), watch).map(|()| true),
            Err(error) => match error.raw_os_error() {
                Some(sys::ENOENT) | Some(sys::ENOTDIR) | Some(sys::ELOOP) => Ok(false),
                _ => Err(refused(&full, &error)),
            },
        }
    }

    fn insert(&mut self, path: Vec<u8>, watch: i32) -> Outcome<()> {
        self.paths.insert(watch, path.clone());
        self.watches.insert(path, watch);
        if self.paths.len() <= self.most {
            return Ok(());
        }
        let message = format!(
            "{} has more than the {} directories of one watch",
            self.root.display(),
            self.most
        );
        Err(Failure::new("resource_exhausted", message)
            .hint("Watch a directory further below, or without what is in its directories."))
    }

    /// The directory has another name in the tree, and so has everything in it. False when it is not watched.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> bool {
        if !self.watches.contains_key(from) {
            return false;
        }
        for path in self.below(from) {
            if let Some(watch) = self.watches.remove(&path) {
                let renamed = [to, &path[from.len()..]].concat();
                self.paths.insert(watch, renamed.clone());
                self.watches.insert(renamed, watch);
            }
        }
        true
    }

    /// The directory has left the tree.
    pub fn leave(&mut self, path: &[u8]) {
        for path in self.below(path) {
            if let Some(watch) = self.watches.remove(&path) {
                self.paths.remove(&watch);
                self.inotify.unwatch(watch);
            }
        }
    }

    /// The kernel has ended a watch.
    pub fn ended(&mut self, watch: i32) {
        if let Some(path) = self.paths.remove(&watch) {
            // Another directory may have the name by now.
            if self.watches.get(&path) == Some(&watch) {
                self.watches.remove(&path);
            }
        }
    }

    /// Looks at the whole tree again, after events were lost: directories may have come, gone and got other names.
    pub fn look_again(&mut self) -> Outcome<()> {
        let before: Vec<i32> = self.paths.keys().copied().collect();
        self.paths.clear();
        self.watches.clear();
        self.insert(Vec::new(), self.root_watch)?;
        self.add_below(Vec::new(), |_| Ok(()))?;
        for watch in before {
            if !self.paths.contains_key(&watch) {
                self.inotify.unwatch(watch);
            }
        }
        Ok(())
    }

    /// The watched paths at and below one.
    fn below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let under = join(path, b"");
        self.watches
            .range(path.to_vec()..)
            .map(|(watched, _)| watched)
            .take_while(|watched| watched.starts_with(path))
            .filter(|watched| watched.len() == path.len() || watched.starts_with(&under))
            .cloned()
            .collect()
    }
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    match error.raw_os_error() {
        Some(sys::ENOTDIR) => {
            Failure::invalid(format!("{} is no directory, expected one to watch", shown))
                .hint("Watch the directory that it is in.")
        }
        // What inotify_add_watch(2) says at its own limit; no disk is full.
        Some(sys::ENOSPC) => Failure::new(
            "resource_exhausted",
            format!(
                "{}: the guest's kernel watches no more directories (fs.inotify.max_user_watches)",
                shown
            ),
        )
        .hint("Close other watches of the box, or raise the limit by sysctl in it."),
        _ => Failure::io(shown, error),
    }
}
