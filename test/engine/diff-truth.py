"""Makes files, changes them in every way there is, and says what is there: run in a box as `diff-truth.py make|change|facts`."""

import hashlib
import json
import os
import random
import shutil
import stat
import sys

TOP = b"/root/work"
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}


def fact(path, found):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    content = ""
    if kind == stat.S_IFLNK:
        content = os.fsdecode(os.readlink(path))
    elif kind == stat.S_IFREG and path.startswith(TOP):
        with open(path, "rb") as file:
            # Of what is nearly all holes, the end.
            file.seek(st.st_size - 4096 if st.st_size > 1 << 26 else 0)
            content = hashlib.sha1(file.read()).hexdigest()
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = str(st.st_rdev)
    attributes = {}
    if path.startswith(TOP):
        for name in os.listxattr(path, follow_symlinks=False):
            attributes[name] = os.getxattr(path, name, follow_symlinks=False).hex()
    found[os.fsdecode(path)] = {
        "type": KINDS.get(kind, "other"),
        "kind": kind,
        "size": st.st_size,
        "content": content,
        "metadata": [st.st_mode, st.st_uid, st.st_gid, 0 if kind == stat.S_IFDIR else st.st_mtime_ns, attributes],
    }


def facts():
    found = {}
    device = os.lstat("/").st_dev
    fact(b"/", found)
    waiting = [b"/"]
    while waiting:
        directory = waiting.pop()
        for name in os.listdir(directory):
            path = os.path.join(directory, name)
            if os.lstat(path).st_dev != device:
                continue
            fact(path, found)
            if os.path.isdir(path) and not os.path.islink(path):
                waiting.append(path)
    print(json.dumps(found))


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)


def make():
    choose = random.Random(1)
    for i in range(12):
        directory = TOP + b"/d%d/e/f" % i
        os.makedirs(directory)
        for j in range(25):
            write(directory + b"/n%d" % j, choose.randbytes(choose.choice([0, 10, 5000, 70000])))
    many = TOP + b"/many"
    os.mkdir(many)
    for i in range(600):
        write(many + b"/a-rather-long-name-of-a-file-%d" % i, b"x")
    write(TOP + b"/large", b"".join(choose.randbytes(1 << 16) for _ in range(160)))
    write(TOP + b"/sparse", b"")
    os.truncate(TOP + b"/sparse", 1 << 33)
    os.symlink("d0", TOP + b"/link")
    os.symlink("x" * 300, TOP + b"/long-link")
    os.mkfifo(TOP + b"/pipe")
    os.mknod(TOP + b"/device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    write(TOP + b"/bad-\xff\xc3\xa9-name", b"bytes")
    os.link(TOP + b"/large", TOP + b"/large-too")
    for name in (b"typed", b"typed-too", b"unchanged", b"touched"):
        write(TOP + b"/" + name, b"some")
    os.mkdir(TOP + b"/goes")
    write(TOP + b"/goes/in-it", b"1")


def change():
    choose = random.Random(2)
    for i in range(12):
        directory = TOP + b"/d%d/e/f" % i
        for j in range(25):
            path = directory + b"/n%d" % j
            what = choose.randrange(12)
            if what == 0:
                os.unlink(path)
            elif what == 1:
                os.rename(path, path + b"-moved")
            elif what == 2:
                os.chmod(path, 0o640)
            elif what == 3:
                os.chown(path, 1000, 70000)
            elif what == 4:
                os.setxattr(path, "user.note", b"v" * choose.choice([3, 900]))
            elif what == 5:
                with open(path, "ab") as file:
                    file.write(b"more")
            elif what == 6:
                # Its time is what it was: only its bytes tell.
                st = os.lstat(path)
                if st.st_size > 0:
                    with open(path, "r+b") as file:
                        file.seek(st.st_size - 1)
                        last = file.read(1)
                        file.seek(st.st_size - 1)
                        file.write(bytes([last[0] ^ 1]))
                    os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
            elif what == 7:
                # Another inode with the same bytes and facts: no change.
                shutil.copy2(path, path + b"-copy")
                os.rename(path + b"-copy", path)
    many = TOP + b"/many"
    for i in range(0, 600, 3):
        os.unlink(many + b"/a-rather-long-name-of-a-file-%d" % i)
    for i in range(300):
        write(many + b"/another-rather-long-name-%d" % i, b"y")
    with open(TOP + b"/large", "r+b") as file:
        file.seek(5_000_000)
        file.write(b"changed")
    with open(TOP + b"/sparse", "r+b") as file:
        file.seek((1 << 33) - 5)
        file.write(b"z")
    os.unlink(TOP + b"/link")
    os.symlink("d1", TOP + b"/link")
    os.unlink(TOP + b"/device")
    os.mknod(TOP + b"/device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    write(TOP + b"/bad-\xff\xc3\xa9-name", b"other bytes")
    write(TOP + b"/\xf0\x9f\x90\xa7", b"new")
    os.unlink(TOP + b"/typed")
    os.makedirs(TOP + b"/typed/with/more")
    os.unlink(TOP + b"/typed-too")
    os.symlink("typed", TOP + b"/typed-too")
    os.utime(TOP + b"/touched", ns=(5, 5))
    os.unlink(TOP + b"/goes/in-it")
    os.rmdir(TOP + b"/goes")
    os.rename(TOP + b"/d11", TOP + b"/renamed")


{"make": make, "change": change, "facts": facts}[sys.argv[1]]()
