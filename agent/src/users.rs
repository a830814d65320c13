//! Users and groups by the root's own /etc/passwd and /etc/group (passwd(5), group(5)); no name service.

use crate::failure::{Failure, Outcome};
use std::fs::File;
use std::io::Read;

/// Larger files are cut here: a hostile image must not fill the agent's memory.
const MOST_BYTES: u64 = 4 * 1024 * 1024;
/// NGROUPS_MAX of Linux is 65536; an execution needs far fewer.
const MOST_GROUPS: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub home: Option<Vec<u8>>,
    pub name: Option<Vec<u8>>,
}

/// Resolves `name`, `uid`, `name:group`, `uid:gid` and so on; empty means root.
pub fn resolve(spec: &str) -> Outcome<User> {
    resolve_in(spec, &read("/etc/passwd"), &read("/etc/group"))
}

fn read(path: &str) -> Vec<u8> {
    let mut content = Vec::new();
    if let Ok(file) = File::open(path) {
        // A file that cannot be read names nobody; numeric users still work.
        let _ = file.take(MOST_BYTES).read_to_end(&mut content);
    }
    content
}

fn resolve_in(spec: &str, passwd: &[u8], group: &[u8]) -> Outcome<User> {
    let spec = if spec.is_empty() { "0" } else { spec };
    let (user, wanted_group) = match spec.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (spec, None),
    };
    let number = user.parse::<u32>().ok();
    let line = lines(passwd).find(|fields| {
        fields.len() >= 6
            && (fields[0] == user.as_bytes() || (number.is_some() && parse(fields[2]) == number))
    });
    let mut found = match (&line, number) {
        (Some(fields), _) => User {
            uid: parse(fields[2])
                .ok_or_else(|| unknown(spec, "its /etc/passwd line has no uid"))?,
            gid: parse(fields[3])
                .ok_or_else(|| unknown(spec, "its /etc/passwd line has no gid"))?,
            groups: Vec::new(),
            home: Some(fields[5].to_vec()),
            name: Some(fields[0].to_vec()),
        },
        (None, Some(uid)) => User {
            uid,
            gid: 0,
            groups: Vec::new(),
            home: None,
            name: None,
        },
        (None, None) => return Err(unknown(spec, "not in /etc/passwd")),
    };
    match wanted_group {
        Some(name) => {
            found.gid = find_group(name, group).ok_or_else(|| unknown(spec, "no such group"))?
        }
        None => found.groups = supplementary(&found, group),
    }
    Ok(found)
}

fn unknown(spec: &str, why: &str) -> Failure {
    Failure::new("user_not_found", format!("user {:?}: {}", spec, why))
}

fn find_group(name: &str, group: &[u8]) -> Option<u32> {
    let line = lines(group).find(|fields| fields.len() >= 3 && fields[0] == name.as_bytes());
    line.and_then(|fields| parse(fields[2]))
        .or_else(|| name.parse().ok())
}

fn supplementary(user: &User, group: &[u8]) -> Vec<u32> {
    let mut groups = vec![user.gid];
    if let Some(name) = &user.name {
        for fields in lines(group) {
            let member =
                fields.len() >= 4 && fields[3].split(|b| *b == b',').any(|one| one == &name[..]);
            if let (true, Some(gid)) = (
                member && groups.len() < MOST_GROUPS,
                fields.get(2).and_then(|f| parse(f)),
            ) {
                if !groups.contains(&gid) {
                    groups.push(gid);
                }
            }
        }
    }
    groups
}

fn lines(content: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    content
        .split(|byte| *byte == b'\n')
        .map(|line| line.split(|byte| *byte == b':').collect())
}

fn parse(field: &[u8]) -> Option<u32> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] =
        b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:,,,:/home/ann:/bin/sh\nbad:x:a:b:c:d:e\n";
    const GROUP: &[u8] = b"root:x:0:\nann:x:1001:\naudio:x:29:bob,ann\nvideo:x:44:annabel\n";

    #[test]
    fn finds_users_by_name_and_number() {
        let ann = resolve_in("ann", PASSWD, GROUP).unwrap();
        assert_eq!(
            (ann.uid, ann.gid, ann.groups.clone()),
            (1000, 1001, vec![1001, 29])
        );
        assert_eq!(ann.home.as_deref(), Some(&b"/home/ann"[..]));
        assert_eq!(resolve_in("1000", PASSWD, GROUP).unwrap(), ann);
        assert_eq!(resolve_in("", PASSWD, GROUP).unwrap().uid, 0);
        let stranger = resolve_in("4000", PASSWD, GROUP).unwrap();
        assert_eq!((stranger.uid, stranger.gid, stranger.home), (4000, 0, None));
    }

    #[test]
    fn takes_the_group_that_is_asked_for() {
        let ann = resolve_in("ann:audio", PASSWD, GROUP).unwrap();
        assert_eq!((ann.uid, ann.gid, ann.groups), (1000, 29, vec![]));
        assert_eq!(resolve_in("5:77", PASSWD, GROUP).unwrap().gid, 77);
    }

    #[test]
    fn names_who_is_missing() {
        for spec in ["eve", "ann:nogroup", "bad", "-1", "99999999999"] {
            let failure = resolve_in(spec, PASSWD, GROUP).unwrap_err();
            assert_eq!(failure.code, "user_not_found");
            assert!(failure.message.contains(spec));
        }
    }
}
