//! The built library, preloaded into another program, as it is into QEMU.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;

/// Cargo puts the library beside the test programs.
fn library() -> PathBuf {
    let mut path = std::env::current_exe().expect("the path of the test");
    path.pop();
    path.join("libnetguard.so")
}

/// Runs a line of Python under the guard; its standard output.
fn guarded(script: &str) -> String {
    let output = Command::new("python3")
        .args(["-c", script])
        .env("LD_PRELOAD", library())
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

#[test]
fn refuses_loopback_and_metadata_but_not_unix_sockets() {
    assert!(
        library().exists(),
        "{} is built with the tests",
        library().display()
    );
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let script = format!(
        r#"
import errno, socket
def tell(what, call):
    try:
        call()
        print(what, 'ok', end=' ')
    except OSError as error:
        print(what, errno.errorcode[error.errno], end=' ')
tcp = lambda family, *to: socket.socket(family, socket.SOCK_STREAM).connect(to)
udp = lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tell('v4', lambda: tcp(socket.AF_INET, '127.0.0.1', {port}))
tell('any', lambda: tcp(socket.AF_INET, '0.0.0.0', {port}))
tell('mapped', lambda: tcp(socket.AF_INET6, '::ffff:127.0.0.1', {port}))
tell('sendto', lambda: udp().sendto(b'x', ('127.0.0.1', {port})))
tell('sendmsg', lambda: udp().sendmsg([b'x'], [], 0, ('169.254.169.254', 80)))
one, other = socket.socketpair()
tell('pair', lambda: one.send(b'x'))
tell('unix', lambda: socket.socket(socket.AF_UNIX).connect('/no/such/socket'))
"#
    );
    assert_eq!(
        guarded(&script),
        "v4 EACCES any EACCES mapped EACCES sendto EACCES sendmsg EACCES pair ok unix ENOENT"
    );
}

#[test]
fn leaves_other_addresses_alone() {
    // Connecting a datagram socket sends nothing: it only asks the routing table.
    let reachable = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9"));
    let script = r#"
import socket
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('192.0.2.1', 9))
    print('ok')
except OSError as error:
    print(error.errno)
"#;
    let expected = match reachable {
        Ok(()) => "ok".to_string(),
        Err(error) => error.raw_os_error().unwrap_or(0).to_string(),
    };
    assert_eq!(guarded(script), expected);
}

/// A memory file that may not be written is opened for reading, so that it can be mapped privately; others are not.
#[test]
fn opens_a_memory_file_for_reading_where_writing_is_denied() {
    let directory = std::env::temp_dir().join(format!("netguard-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory");
    let script = r#"
import os, stat, sys
os.chdir(sys.argv[1] if len(sys.argv) > 1 else os.environ['GUARD_TEST_DIR'])
for name in ('ram', 'other'):
    with open(name, 'w') as file: file.write('x')
    os.chmod(name, 0o444)
if os.getuid() == 0:
    os.chmod('.', 0o777)
    os.setgid(65534); os.setuid(65534)
for name in ('ram', 'other'):
    try:
        fd = os.open(name, os.O_RDWR)
        try:
            os.write(fd, b'y')
            print(name, 'written', end=' ')
        except OSError:
            print(name, 'read-only', end=' ')
    except OSError:
        print(name, 'denied', end=' ')
"#;
    std::env::set_var("GUARD_TEST_DIR", &directory);
    let seen = guarded(script);
    std::fs::remove_dir_all(&directory).expect("its removal");
    assert_eq!(seen, "ram read-only other denied");
}
