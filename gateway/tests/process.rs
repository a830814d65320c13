//! The program itself, with a card that is played here: what a guest with root may put on the wire.

use cryobox_gateway::dns::{self, Question};
use cryobox_gateway::packet::{self, Frame, Mac, Packet, Route, Segment, RST, SYN};
use cryobox_gateway::wire::Deframer;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const MAC: Mac = [0x52, 0x54, 0, 9, 9, 9];
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PROGRAM: &str = env!("CARGO_BIN_EXE_cryobox-gateway");
const LIMIT: Duration = Duration::from_secs(30);
static NEXT: AtomicUsize = AtomicUsize::new(0);

struct Trial {
    directory: PathBuf,
    child: Child,
    card: UnixStream,
    control: BufReader<UnixStream>,
    frames: Deframer,
}

/// A network of its own, in which nobody answers: nothing that a test sends leaves it.
const NOBODY: &str =
    "ip link add a0 type veth peer name b0 && ip addr add 198.51.100.1/24 dev a0 && \
    ip link set b0 up && ip link set a0 up && ip route add 203.0.113.0/24 dev a0 && exec \"$0\"";

/// The program in that network; with rights over it, also for who is not root.
fn alone() -> Command {
    let mut command = Command::new("unshare");
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--net", "sh", "-c", NOBODY, PROGRAM]);
    command
}

fn new_directory() -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("cryobox-gateway-{}-{}", std::process::id(), number);
    let directory = std::env::temp_dir().join(name);
    fs::create_dir(&directory).unwrap();
    directory
}

impl Trial {
    fn start() -> Trial {
        Trial::start_as(alone())
    }

    fn start_as(mut command: Command) -> Trial {
        let directory = new_directory();
        let listener = UnixListener::bind(directory.join("net.sock")).unwrap();
        let mut child = command
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", TOKEN).unwrap();
        let (card, _) = listener.accept().unwrap();
        card.set_read_timeout(Some(LIMIT)).unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert_eq!(ready, "ready\n");
        let control = UnixStream::connect(directory.join("gateway.sock")).unwrap();
        control.set_read_timeout(Some(LIMIT)).unwrap();
        let mut trial = Trial {
            directory,
            child,
            card,
            control: BufReader::new(control),
            frames: Deframer::default(),
        };
        let hello = format!("{{\"token\":\"{}\"}}\n", TOKEN);
        trial.control.get_mut().write_all(hello.as_bytes()).unwrap();
        trial
    }

    fn ask(&mut self, request: &str) -> String {
        let line = format!("{}\n", request);
        self.control.get_mut().write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        self.control.read_line(&mut answer).unwrap();
        answer
    }

    fn policy(&mut self, allow: &str, otherwise: &str, resolver: &str) {
        let text = format!(
            concat!(
                r#"{{"op":"policy","policy":{{"mode":"enabled","allow":[{}],"deny":[],"#,
                r#""otherwise":"{}","private":"deny","resolvers":[{}]}}}}"#
            ),
            allow, otherwise, resolver
        );
        assert_eq!(self.ask(&text), "{\"ok\":{}}\n");
    }

    fn info(&mut self) -> String {
        self.ask(r#"{"op":"info","after":0}"#)
    }

    fn send(&mut self, frame: &[u8]) {
        let length = (frame.len() as u32).to_be_bytes();
        self.card.write_all(&[&length, frame].concat()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        loop {
            if let Some(frame) = self.frames.frame().unwrap() {
                return frame;
            }
            let mut buffer = [0; 65_536];
            let count = self.card.read(&mut buffer).expect("no frame came");
            assert!(count > 0, "the gateway has ended");
            self.frames.push(&buffer[..count]);
        }
    }

    /// What the name server says to a question.
    fn resolve(&mut self, name: &str, kind: u16) -> (u8, Vec<Ipv4Addr>) {
        let question = Question::of(name, kind);
        self.send(&from_guest(packet::DNS).udp(4000, 53, &question.ask(7)));
        let frame = self.receive();
        let packet = ip(&frame);
        let (from, _, content) = packet::parse_udp(packet.payload).unwrap();
        assert_eq!((packet.source, from), (packet::DNS, 53));
        let answer = dns::parse_answer(content, 7, &question).unwrap();
        let addresses = answer.addresses.iter().map(|(address, _)| *address);
        (answer.code, addresses.collect())
    }

    /// Flags of the answer to a SYN.
    fn connect(&mut self, address: Ipv4Addr, port: u16) -> u8 {
        self.send(&syn(packet::GUEST, address, (5000, port)));
        let frame = self.receive();
        let packet = ip(&frame);
        assert_eq!(packet.source, address);
        packet::parse_tcp(packet.payload).unwrap().flags
    }

    /// Sends an echo request and takes what comes before its answer: everything before was looked at by then.
    fn settle(&mut self) -> Vec<Vec<u8>> {
        let echo = [8, 0, 0, 0, 1, 2, 3, 4, 5];
        let frame = from_guest(packet::GATEWAY).udp(0, 0, &[]);
        self.send(&with_payload(&frame, packet::ICMP, &echo));
        let mut others = Vec::new();
        loop {
            let frame = self.receive();
            let is_echo = matches!(packet::parse(&frame), Frame::Ip { packet, .. }
                if packet.protocol == packet::ICMP && packet.payload[0] == 0);
            if is_echo {
                return others;
            }
            others.push(frame);
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn from_guest(destination: Ipv4Addr) -> Route {
    Route {
        guest: MAC,
        source: packet::GUEST,
        destination,
    }
}

fn syn(source: Ipv4Addr, destination: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    let route = Route {
        guest: MAC,
        source,
        destination,
    };
    route.tcp(&Segment {
        source_port: ports.0,
        destination_port: ports.1,
        flags: SYN,
        mss: Some(1460),
        ..Segment::default()
    })
}

fn with_payload(frame: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&frame[..34], payload].concat();
    frame[16..18].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
    frame[23] = protocol;
    frame
}

fn ip(frame: &[u8]) -> Packet<'_> {
    match packet::parse(frame) {
        Frame::Ip { packet, .. } => packet,
        other => panic!("{:?}", other),
    }
}

/// A name server on the loopback; how often it was asked is counted.
fn name_server() -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    thread::spawn(move || loop {
        let mut buffer = [0; 2048];
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        let question = dns::parse_question(&buffer[..length]).unwrap();
        asked.fetch_add(1, Ordering::SeqCst);
        let last = if question.name == "inside.test" {
            [127, 0, 0, 1]
        } else {
            [203, 0, 113, 7]
        };
        let answer = question.answer_addresses(&[(Ipv4Addr::from(last), 60)]);
        socket.send_to(&answer, from).unwrap();
    });
    (address, count)
}

#[test]
fn lets_nothing_out_before_there_is_a_policy() {
    let mut trial = Trial::start();
    assert_eq!(trial.connect(Ipv4Addr::new(203, 0, 113, 7), 80) & RST, RST);
    assert_eq!(trial.resolve("a.test", dns::A).0, dns::REFUSED);
    assert!(trial.info().contains(r#""disabled":2"#));
}

#[test]
fn tells_only_names_that_are_allowed_and_lead_outside() {
    // It asks a server on the loopback of this host, and connects to nobody.
    let mut trial = Trial::start_as(Command::new(PROGRAM));
    let (server, asked) = name_server();
    trial.policy(
        r#""a.test","inside.test","*.b.test""#,
        "refuse",
        &format!("\"{}\"", server),
    );
    // The names that are listed are asked for at once.
    while asked.load(Ordering::SeqCst) < 2 {
        thread::yield_now();
    }
    let outside = vec![Ipv4Addr::new(203, 0, 113, 7)];
    assert_eq!(
        trial.resolve("A.test", dns::A),
        (dns::NOERROR, outside.clone())
    );
    assert_eq!(trial.resolve("x.y.b.test", dns::A), (dns::NOERROR, outside));
    assert_eq!(trial.resolve("a.test", dns::AAAA), (dns::NOERROR, vec![]));
    assert_eq!(
        trial.resolve("inside.test", dns::A),
        (dns::NXDOMAIN, vec![])
    );
    let before = asked.load(Ordering::SeqCst);
    assert_eq!(trial.resolve("b.test", dns::A), (dns::NXDOMAIN, vec![]));
    assert_eq!(
        trial.resolve("secret.evil.test", 16),
        (dns::NXDOMAIN, vec![])
    );
    assert_eq!(
        asked.load(Ordering::SeqCst),
        before,
        "nobody hears of other names"
    );
    let info = trial.info();
    assert!(
        info.contains(r#""name":"secret.evil.test""#) && info.contains(r#""rebinding""#),
        "{}",
        info
    );
}

#[test]
fn reaches_nothing_inside_whatever_is_allowed() {
    let mut trial = Trial::start();
    trial.policy(r#""0.0.0.0/0""#, "allow", "");
    for address in [
        "127.0.0.1",
        "169.254.169.254",
        "10.0.2.2",
        "10.0.2.9",
        "0.0.0.1",
        "224.0.0.1",
        "192.168.1.1",
    ] {
        let flags = trial.connect(address.parse().unwrap(), 22);
        assert_eq!(flags & RST, RST, "{}", address);
    }
    let info = trial.info();
    assert!(info.contains(r#""floor":7"#), "{}", info);
}

#[test]
fn drops_what_is_forged() {
    let mut trial = Trial::start();
    trial.policy(r#""0.0.0.0/0""#, "allow", "");
    let target = Ipv4Addr::new(203, 0, 113, 7);
    let honest = syn(packet::GUEST, target, (1, 80));
    let mut fragment = honest.clone();
    fragment[20] = 0x20;
    let mut source_route = honest.clone();
    source_route[14] = 0x46;
    let forged = syn(Ipv4Addr::new(198, 51, 100, 9), target, (1, 80));
    let other = with_payload(&honest, 47, &[0; 40]);
    let mut short = honest.clone();
    short.truncate(30);
    for frame in [
        fragment,
        source_route,
        forged,
        other,
        short,
        vec![],
        vec![0; 14],
    ] {
        trial.send(&frame);
    }
    assert_eq!(trial.settle(), Vec::<Vec<u8>>::new());
    let info = trial.info();
    for reason in ["fragment", "options", "source", "protocol"] {
        assert!(
            info.contains(&format!("\"{}\":1", reason)),
            "{} in {}",
            reason,
            info
        );
    }
    assert!(
        info.contains(r#""opened":0"#) && info.contains(r#""open":0"#),
        "{}",
        info
    );
}

#[test]
fn bounds_a_flood() {
    let mut trial = Trial::start();
    trial.policy("", "allow", "");
    for number in 0..5_000u16 {
        let target = Ipv4Addr::new(203, 0, 113, (number % 250) as u8 + 1);
        trial.send(&syn(packet::GUEST, target, (number + 1, 81)));
        if number % 500 == 0 {
            trial.settle();
        }
    }
    trial.settle();
    let info = trial.info();
    let open: usize = info
        .split(r#""open":"#)
        .nth(1)
        .unwrap()
        .split(',')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(open <= 256, "{} are open", open);
    assert!(info.contains("limit_connections"));
    let status = fs::read_to_string(format!("/proc/{}/status", trial.child.id())).unwrap();
    let rss = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap();
    let kib: usize = rss.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kib < 64 * 1024, "{}", rss);
}

#[test]
fn answers_arp_dhcp_and_nothing_of_strangers() {
    let mut trial = Trial::start();
    let mut discover = vec![0; 236];
    discover[0] = 1;
    discover.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255]);
    let route = Route {
        guest: MAC,
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::BROADCAST,
    };
    trial.send(&route.udp(68, 67, &discover));
    let frame = trial.receive();
    let (_, port, offer) = packet::parse_udp(ip(&frame).payload).unwrap();
    assert_eq!((port, &offer[16..20]), (68, &packet::GUEST.octets()[..]));

    let mut stranger = UnixStream::connect(trial.directory.join("gateway.sock")).unwrap();
    stranger.set_read_timeout(Some(LIMIT)).unwrap();
    stranger
        .write_all(b"{\"token\":\"0123456789abcdef0123456789abcdee\"}\n{\"op\":\"info\"}\n")
        .unwrap();
    let mut said = Vec::new();
    let _ = stranger.read_to_end(&mut said);
    assert_eq!(said, b"");
}

#[test]
fn ends_with_the_card() {
    let mut trial = Trial::start();
    trial.card.shutdown(std::net::Shutdown::Both).unwrap();
    assert!(trial.child.wait().unwrap().success());
}

/// QEMU's socket appears, and listens, after its process answers.
#[test]
fn waits_for_a_card_that_does_not_listen_yet() {
    for left_over in [false, true] {
        let directory = new_directory();
        let card = directory.join("net.sock");
        if left_over {
            drop(UnixListener::bind(&card).unwrap());
        }
        let mut child = alone()
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        writeln!(child.stdin.take().unwrap(), "{}", TOKEN).unwrap();
        // It makes its own socket just before it asks for the card.
        while !directory.join("gateway.sock").exists() {
            assert!(child.try_wait().unwrap().is_none());
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(20));
        let _ = fs::remove_file(&card);
        let listener = UnixListener::bind(&card).unwrap();
        let (held, _) = listener.accept().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut ready)
            .unwrap();
        assert_eq!(ready, "ready\n");
        drop(held);
        assert!(child.wait().unwrap().success());
        fs::remove_dir_all(&directory).unwrap();
    }
}
