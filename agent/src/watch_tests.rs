use super::*;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

static PLACES: AtomicUsize = AtomicUsize::new(0);

/// A directory that is removed at the end, and one beside it that is not watched.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let number = PLACES.fetch_add(1, Ordering::SeqCst);
        let name = format!("cryobox-watch-{}-{}", std::process::id(), number);
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(path.join("in")).unwrap();
        Place(path)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn watch(&self, recursive: bool) -> Watch<Vec<u8>> {
        let tree = Tree::open(&self.at("in"), recursive, 100).unwrap();
        Watch::new(tree, Vec::new())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What has happened until now, a word and a name each.
fn told(watch: &mut Watch<Vec<u8>>) -> Vec<String> {
    watch.take(0).unwrap();
    watch.lines.flush().unwrap();
    let lines = std::mem::take(&mut watch.lines.out);
    let lines = String::from_utf8(lines).unwrap();
    lines.lines().map(short).collect()
}

fn short(line: &str) -> String {
    let value = crate::json::parse(line.as_bytes()).unwrap();
    let text = |name: &str| {
        let bytes = value.get(name).and_then(Value::as_bytes).unwrap_or(b"");
        String::from_utf8_lossy(bytes).into_owned()
    };
    let whole = format!("{} {} {}", text("type"), text("name"), text("to"));
    whole.trim().to_string()
}

#[test]
fn tells_what_becomes_of_files() {
    let place = Place::new();
    let mut watch = place.watch(false);
    let file = place.at("in/a");
    fs::write(&file, "content").unwrap();
    assert_eq!(told(&mut watch), ["created a", "written a"]);
    fs::write(&file, "other").unwrap();
    assert_eq!(told(&mut watch), ["written a"]);
    fs::rename(&file, place.at("in/b")).unwrap();
    assert_eq!(told(&mut watch), ["renamed a b"]);
    let name = std::ffi::CString::new(place.at("in/b").to_str().unwrap()).unwrap();
    let at = sys::AT_FDCWD;
    sys::check(unsafe { sys::fchownat(at, name.as_ptr(), u32::MAX, u32::MAX, 0) }).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(place.at("in/b"), mode).unwrap();
    assert_eq!(told(&mut watch), ["attributes b"]);
    fs::rename(place.at("in/b"), place.at("out")).unwrap();
    assert_eq!(told(&mut watch), ["removed b"]);
    fs::rename(place.at("out"), place.at("in/c")).unwrap();
    assert_eq!(told(&mut watch), ["created c", "written c"]);
    fs::remove_file(place.at("in/c")).unwrap();
    assert_eq!(told(&mut watch), ["removed c"]);
}

#[test]
fn tells_a_name_that_left_and_came_again_in_that_order() {
    let place = Place::new();
    fs::write(place.at("in/a"), "").unwrap();
    let mut watch = place.watch(false);
    fs::rename(place.at("in/a"), place.at("out")).unwrap();
    fs::write(place.at("in/a"), "").unwrap();
    assert_eq!(told(&mut watch), ["removed a", "created a"]);
    fs::rename(place.at("in/a"), place.at("out")).unwrap();
    watch.take(60_000).unwrap();
    assert!(watch.lines.buffer.is_empty(), "told before it is known");
    assert_eq!(told(&mut watch), ["removed a"]);
}

#[test]
fn tells_a_file_of_the_agent_when_it_is_whole() {
    use crate::new_file::{open_directory, NewFile};
    use std::os::unix::io::AsRawFd;
    let place = Place::new();
    let mut watch = place.watch(false);
    let directory = open_directory(&place.at("in")).unwrap();
    let name = std::ffi::CString::new("file").unwrap();
    for expected in [&["created file", "written file"][..], &["written file"]] {
        let mut new = NewFile::create(&directory).unwrap();
        new.file.write_all(b"content").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o640);
        new.file.set_permissions(mode).unwrap();
        let mut file = new.file.try_clone().unwrap();
        new.place(directory.as_raw_fd(), &name, true).unwrap();
        drop(file.flush());
        drop(file);
        assert_eq!(told(&mut watch), expected);
    }
}

#[test]
fn leaves_directories_alone_unless_recursive() {
    let place = Place::new();
    fs::create_dir(place.at("in/d")).unwrap();
    let mut watch = place.watch(false);
    fs::write(place.at("in/d/a"), "x").unwrap();
    fs::create_dir(place.at("in/e")).unwrap();
    fs::write(place.at("in/e/a"), "x").unwrap();
    assert_eq!(told(&mut watch), ["created e"]);
}

#[test]
fn follows_directories_that_come_get_names_and_go() {
    let place = Place::new();
    fs::create_dir_all(place.at("in/d/e")).unwrap();
    let mut watch = place.watch(true);
    fs::write(place.at("in/d/e/a"), "").unwrap();
    assert_eq!(told(&mut watch), ["created d/e/a"]);

    // What is made in a directory before it is watched.
    fs::create_dir_all(place.at("in/n/m")).unwrap();
    fs::write(place.at("in/n/m/a"), "x").unwrap();
    assert_eq!(
        told(&mut watch),
        ["created n", "created n/m", "created n/m/a", "written n/m/a"]
    );
    fs::remove_file(place.at("in/n/m/a")).unwrap();
    assert_eq!(told(&mut watch), ["removed n/m/a"]);

    // What has another name before it is watched.
    fs::create_dir(place.at("in/x")).unwrap();
    fs::write(place.at("in/x/a"), "").unwrap();
    fs::rename(place.at("in/x"), place.at("in/y")).unwrap();
    let all = ["created x", "renamed x y", "created y/a"];
    assert_eq!(told(&mut watch), all);
    fs::remove_file(place.at("in/y/a")).unwrap();
    assert_eq!(told(&mut watch), ["removed y/a"]);

    fs::rename(place.at("in/d"), place.at("in/n/d")).unwrap();
    fs::write(place.at("in/n/d/e/b"), "").unwrap();
    assert_eq!(told(&mut watch), ["renamed d n/d", "created n/d/e/b"]);

    fs::rename(place.at("in/n/d"), place.at("out")).unwrap();
    assert_eq!(told(&mut watch), ["removed n/d"]);
    fs::write(place.at("out/e/c"), "").unwrap();
    assert!(told(&mut watch).is_empty());

    fs::remove_dir_all(place.at("in/n")).unwrap();
    assert_eq!(told(&mut watch), ["removed n/m", "removed n"]);
    fs::rename(place.at("out"), place.at("in/n")).unwrap();
    let mut again = told(&mut watch);
    again.sort();
    let all = [
        "created n",
        "created n/e",
        "created n/e/a",
        "created n/e/b",
        "created n/e/c",
    ];
    assert_eq!(again, all);
}

#[test]
fn follows_no_links_below_the_directory() {
    let place = Place::new();
    fs::create_dir(place.at("out")).unwrap();
    symlink(place.at("out"), place.at("in/link")).unwrap();
    symlink(place.at("in"), place.at("way")).unwrap();
    let tree = Tree::open(&place.at("way"), true, 100).unwrap();
    let mut watch = Watch::new(tree, Vec::new());
    fs::write(place.at("out/a"), "").unwrap();
    fs::write(place.at("in/a"), "").unwrap();
    assert_eq!(told(&mut watch), ["created a"]);
}

#[test]
fn tells_that_events_were_lost_and_finds_the_directories_again() {
    let place = Place::new();
    fs::create_dir_all(place.at("in/d")).unwrap();
    let mut watch = place.watch(true);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    for turn in 0..limit {
        // Two that differ: the kernel joins what is the same.
        let name = ["in/a", "in/b"][turn % 2];
        fs::write(place.at(name), "").unwrap();
        fs::remove_file(place.at(name)).unwrap();
    }
    fs::rename(place.at("in/d"), place.at("in/e")).unwrap();
    fs::create_dir(place.at("in/f")).unwrap();
    let all = told(&mut watch);
    assert_eq!(all.last().map(String::as_str), Some("overflow"));
    assert!(all.len() <= limit + 1);
    fs::write(place.at("in/e/a"), "").unwrap();
    fs::write(place.at("in/f/a"), "").unwrap();
    assert_eq!(told(&mut watch), ["created e/a", "created f/a"]);
}

#[test]
fn ends_when_the_directory_goes() {
    for goes in [
        (|place| fs::remove_dir(place.at("in")).unwrap()) as fn(&Place),
        |place| fs::rename(place.at("in"), place.at("out")).unwrap(),
    ] {
        let place = Place::new();
        let mut watch = place.watch(true);
        goes(&place);
        watch.run(&Cancel::new()).unwrap();
        assert_eq!(told_so_far(&watch), ["removed"]);
    }
}

fn told_so_far(watch: &Watch<Vec<u8>>) -> Vec<String> {
    let lines = String::from_utf8(watch.lines.out.clone()).unwrap();
    lines.lines().map(short).collect()
}

#[test]
fn ends_when_it_is_cancelled() {
    let place = Place::new();
    let mut watch = place.watch(false);
    let cancel = Cancel::new();
    let waiter = {
        let cancel = cancel.clone();
        thread::spawn(move || watch.run(&cancel).unwrap_err().code)
    };
    cancel.set();
    assert_eq!(waiter.join().unwrap(), "cancelled");
}

#[test]
fn refuses_what_cannot_be_watched() {
    let place = Place::new();
    fs::write(place.at("file"), "").unwrap();
    let code = |path: &str, most| match Tree::open(&place.at(path), true, most) {
        Ok(_) => "opened",
        Err(failure) => failure.code,
    };
    assert_eq!(code("file", 100), "invalid_argument");
    assert_eq!(code("none", 100), "not_found");
    fs::create_dir_all(place.at("in/a/b/c")).unwrap();
    assert_eq!(code("in", 4), "opened");
    assert_eq!(code("in", 3), "resource_exhausted");
}
