//! Watching a directory (docs/PROTOCOL.md, section 7): a job that writes a line of JSON for everything that happens in
//! it. The events that wait are the kernel's: a host that does not read makes the job wait, and then they overflow.

use crate::cancel::Cancel;
use crate::failure::{Context, Outcome};
use crate::inotify::{self, Event};
use crate::json::Value;
use crate::object;
use crate::sys;
use crate::watch_tree::{join, Entry, Tree, MOST_DIRECTORIES};
use std::collections::{HashSet, VecDeque};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How long the second half of a rename is waited for when nothing else happens.
const HALF_RENAME_MS: u64 = 20;
/// Events between both halves of a rename: there may be one for each processor, and the kernel queues both in one call.
const MOST_BETWEEN: usize = 64;
/// Names that are remembered until the kernel has told of them; of more than so many in directories that have just come,
/// the others may be told twice.
const MOST_FOUND: usize = 65_536;
/// Lines that are sent at once.
const BATCH_BYTES: usize = 32 * 1024;

pub fn watch(path: &Path, recursive: bool, out: File, cancel: &Cancel) -> Outcome<Value> {
    let tree = Tree::open(path, recursive, MOST_DIRECTORIES)?;
    let mut watch = Watch::new(tree, out);
    watch.lines.tell("started", b"", true, None);
    watch.run(cancel)?;
    Ok(object! {})
}

struct Watch<W: Write> {
    tree: Tree,
    lines: Lines<W>,
    /// What the kernel has told and is not told yet: a rename at its front may lack its second half.
    queue: VecDeque<Event>,
    /// Since when the front is waited for.
    waits_since: Option<u64>,
    /// What was found in directories that had just come: the kernel's event of it, if it comes, is no news.
    found: HashSet<Vec<u8>>,
}

/// What becomes of the first half of a rename.
enum Half {
    To(Event),
    MovedOut,
    /// Not known yet.
    Waits,
}

impl<W: Write> Watch<W> {
    fn new(tree: Tree, out: W) -> Watch<W> {
        let (buffer, last) = (Vec::new(), Vec::new());
        Watch {
            tree,
            lines: Lines { out, buffer, last },
            queue: VecDeque::new(),
            waits_since: None,
            found: HashSet::new(),
        }
    }

    /// Until the directory is gone, or nobody wants to know any more.
    fn run(&mut self, cancel: &Cancel) -> Outcome<()> {
        loop {
            if self.take(HALF_RENAME_MS)? {
                return self.lines.flush();
            }
            self.lines.flush()?;
            let wait_ms = match self.waits_since {
                Some(since) => (since + HALF_RENAME_MS).saturating_sub(sys::monotonic_ms()) as i32,
                None => -1,
            };
            cancel.wait_readable(self.tree.inotify.fd(), wait_ms, "watching a directory")?;
        }
    }

    /// Takes all there is, but the half of a rename that is not older than `patience_ms`. True when the directory is gone.
    fn take(&mut self, patience_ms: u64) -> Outcome<bool> {
        loop {
            let events = self.tree.inotify.read().context("inotify")?;
            let is_all = events.is_empty();
            self.queue.extend(events);
            while let Some(event) = self.queue.pop_front() {
                let half = self.half(&event, patience_ms);
                if let Half::Waits = half {
                    self.queue.push_front(event);
                    break;
                }
                self.waits_since = None;
                if self.event(event, half)? {
                    return Ok(true);
                }
                self.lines.flush_when_full()?;
            }
            if is_all {
                if self.queue.is_empty() {
                    // What is found in directories from now on was not told before.
                    self.found.clear();
                }
                return Ok(false);
            }
        }
    }

    fn half(&mut self, event: &Event, patience_ms: u64) -> Half {
        if event.mask & inotify::MOVED_FROM == 0 {
            return Half::MovedOut;
        }
        let is_other =
            |each: &Event| each.cookie == event.cookie && each.mask & inotify::MOVED_TO != 0;
        let at = self.queue.iter().take(MOST_BETWEEN).position(is_other);
        if let Some(other) = at.and_then(|at| self.queue.remove(at)) {
            return Half::To(other);
        }
        let now = sys::monotonic_ms();
        let since = *self.waits_since.get_or_insert(now);
        if self.queue.len() >= MOST_BETWEEN || now - since >= patience_ms {
            return Half::MovedOut;
        }
        Half::Waits
    }

    fn event(&mut self, event: Event, half: Half) -> Outcome<bool> {
        if event.mask & inotify::OVERFLOW != 0 {
            self.lines.tell("overflow", b"", true, None);
            if self.tree.recursive {
                self.tree.look_again()?;
            }
            return Ok(false);
        }
        let ends = inotify::DELETE_SELF | inotify::MOVE_SELF | inotify::UNMOUNT | inotify::IGNORED;
        if event.watch == self.tree.root_watch && event.mask & ends != 0 {
            self.lines.tell("removed", b"", true, None);
            return Ok(true);
        }
        if event.mask & inotify::IGNORED != 0 {
            self.tree.ended(event.watch);
            return Ok(false);
        }
        if let Some(path) = self.path_of(&event) {
            self.named(&event, path, half)?;
        }
        Ok(false)
    }

    /// None for what is of a directory that has left, or what its parent tells too.
    fn path_of(&self, event: &Event) -> Option<Vec<u8>> {
        let directory = self.tree.directory(event.watch)?;
        Some(join(directory, &event.name)).filter(|_| !event.name.is_empty())
    }

    /// Something happened under a name.
    fn named(&mut self, event: &Event, path: Vec<u8>, half: Half) -> Outcome<()> {
        let is_directory = event.mask & inotify::IS_DIRECTORY != 0;
        if event.mask & inotify::MOVED_FROM != 0 {
            let to = match half {
                Half::To(other) => self.path_of(&other),
                _ => None,
            };
            match to {
                Some(to) => return self.renamed(&path, to, is_directory),
                None => self.moved_out(&path, is_directory),
            }
            return Ok(());
        }
        if is_unfinished(&event.name) {
            return Ok(());
        }
        if event.mask & (inotify::CREATE | inotify::MOVED_TO) != 0 {
            if self.found.remove(&path) {
                return Ok(());
            }
            return self.created(Entry { path, is_directory });
        }
        if event.mask & inotify::DELETE != 0 {
            self.lines.tell("removed", &path, is_directory, None);
            return Ok(());
        }
        if self.has_no_name(event, &path) {
            return Ok(());
        }
        if event.mask & inotify::MODIFY != 0 {
            self.lines.tell("written", &path, is_directory, None);
        } else if event.mask & inotify::ATTRIB != 0 {
            self.lines.tell("attributes", &path, is_directory, None);
        }
        Ok(())
    }

    /// Whether this is of a file without a name (O_TMPFILE), which the kernel calls by its number.
    fn has_no_name(&self, event: &Event, path: &[u8]) -> bool {
        let is_number = event.name.strip_prefix(b"#").map_or(false, |digits| {
            !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
        });
        is_number && fs::symlink_metadata(self.tree.path(path)).is_err()
    }

    fn created(&mut self, entry: Entry) -> Outcome<()> {
        tell_created(&mut self.lines, &self.tree.root, &entry);
        match entry.is_directory {
            true => self.add(entry.path),
            false => Ok(()),
        }
    }

    /// Watches a directory that has come, and tells what is in it already.
    fn add(&mut self, path: Vec<u8>) -> Outcome<()> {
        if !self.tree.recursive {
            return Ok(());
        }
        let (lines, found, root) = (&mut self.lines, &mut self.found, self.tree.root.clone());
        self.tree.add(path, |inside| {
            if is_unfinished(last_of(&inside.path)) {
                return Ok(());
            }
            tell_created(lines, &root, inside);
            if found.len() < MOST_FOUND {
                found.insert(inside.path.clone());
            }
            lines.flush_when_full()
        })
    }

    fn renamed(&mut self, from: &[u8], to: Vec<u8>, is_directory: bool) -> Outcome<()> {
        // What this agent has written takes the place of the file that was there.
        if is_unfinished(last_of(from)) {
            self.lines.tell("written", &to, false, None);
            return Ok(());
        }
        self.lines.tell("renamed", from, is_directory, Some(&to));
        if is_directory && !self.tree.rename(from, &to) {
            // It had its new name before it was looked at under the old one.
            return self.add(to);
        }
        Ok(())
    }

    fn moved_out(&mut self, path: &[u8], is_directory: bool) {
        if is_directory {
            self.tree.leave(path);
        }
        if !is_unfinished(last_of(path)) {
            self.lines.tell("removed", path, is_directory, None);
        }
    }
}

/// A file that came with its content, by a link or a rename, was written too; for other files the kernel says it.
fn tell_created(lines: &mut Lines<impl Write>, root: &Path, entry: &Entry) {
    lines.tell("created", &entry.path, entry.is_directory, None);
    if entry.is_directory {
        return;
    }
    let full = root.join(OsStr::from_bytes(&entry.path));
    if fs::symlink_metadata(full).map_or(false, |found| found.is_file() && found.len() > 0) {
        lines.tell("written", &entry.path, false, None);
    }
}

fn last_of(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// Whether this is the name of a file that the agent writes and that has not got its own yet (new_file.rs).
fn is_unfinished(name: &[u8]) -> bool {
    name.strip_prefix(b".cryobox-").map_or(false, |rest| {
        rest.len() == 16 && rest.iter().all(u8::is_ascii_hexdigit)
    })
}

/// What is told, a line each.
struct Lines<W: Write> {
    out: W,
    buffer: Vec<u8>,
    /// The line before: a change that follows the same change is told once.
    last: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn tell(&mut self, kind: &str, name: &[u8], is_directory: bool, to: Option<&[u8]>) {
        let line = object! {
            "type" => kind,
            "name" => name,
            "to" => to,
            "isDirectory" => is_directory,
        };
        let mut line = line.to_bytes();
        line.push(b'\n');
        if line == self.last && (kind == "written" || kind == "attributes") {
            return;
        }
        self.buffer.extend_from_slice(&line);
        self.last = line;
    }

    fn flush_when_full(&mut self) -> Outcome<()> {
        if self.buffer.len() < BATCH_BYTES {
            return Ok(());
        }
        self.flush()
    }

    fn flush(&mut self) -> Outcome<()> {
        let sent = self.out.write_all(&self.buffer);
        self.buffer.clear();
        // What comes later is news to who has read this.
        self.last.clear();
        sent.context("sending what has happened")
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
