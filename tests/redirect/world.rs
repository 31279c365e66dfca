//! The pod with a proxy in it, what is outside of it, and who asks whom.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use crate::fixture::{Family, Pod, Shape};
use crate::kernel::tcx_programs;
use crate::netns::Netns;
use crate::process::PATIENCE;
use crate::proxy::{INBOUND, OUTBOUND, Proxy, uid};

pub const WAYS: [&str; 2] = ["tcx", "clsact"];
pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];
pub const PORT: u16 = 80;

pub struct World {
    pub proxy: Proxy,
    pub pod: Pod,
}

impl World {
    /// Nothing redirected yet. What is outside of the pod is all in the client's namespace.
    pub fn new() -> Self {
        let pod = Pod::new(Shape::Plain);
        for host in 1..=HOSTS {
            pod.client
                .ip(&format!("addr add 203.0.113.{host}/32 dev lo"));
            pod.client
                .ip(&format!("addr add 2001:db8::{host}/128 dev lo nodad"));
        }
        pod.hook.ip("route add default via 10.9.0.1");
        pod.hook.ip("-6 route add default via fd00:0::1");
        let mut world = Self {
            proxy: Proxy::new(&pod),
            pod,
        };
        world.proxy.start(&world.pod.hook);
        world
    }

    /// Everything redirected.
    pub fn redirected(flags: &[&str]) -> Self {
        let world = Self::new();
        world.redirect(flags);
        world
    }

    pub fn redirect(&self, flags: &[&str]) -> String {
        let (inbound, outbound) = (INBOUND.to_string(), OUTBOUND.to_string());
        let uid = uid();
        let all = [
            &["--redirect-inbound", &inbound, "--redirect-outbound"][..],
            &[&outbound, "--proxy-uid", &uid],
            flags,
        ];
        self.pod.attach(&all.concat())
    }

    /// All there is in the pod's namespace that redirection could leave behind.
    pub fn state(&self) -> String {
        let pod = &self.pod.hook;
        let mut state = String::new();
        for words in [
            "rule",
            "-6 rule",
            "route show table all",
            "-6 route show table all",
        ] {
            // The link's own routes come when they come.
            let lines = pod.ip(words);
            let lines = lines
                .lines()
                .filter(|line| !line.contains("fe80:") && !line.contains("ff00:"));
            state.extend(lines.flat_map(|line| [line, "\n"]));
        }
        for device in ["eth0", "lo"] {
            for words in [
                format!("qdisc show dev {device}"),
                format!("filter show dev {device} ingress"),
                format!("filter show dev {device} egress"),
            ] {
                state += &pod.run(Command::new("tc").args(words.split(' ')));
            }
            for egress in [false, true] {
                let programs = pod.inside(|| tcx_programs(device, egress));
                state += &format!("{device} {egress}: {} programs\n", programs.len());
            }
        }
        let accept_local = "/proc/sys/net/ipv4/conf/lo/accept_local";
        state += &pod
            .inside(|| fs::read_to_string(accept_local))
            .expect("sysctl");
        state + &format!("{:?}\n", self.pod.pins.list())
    }
}

/// Addresses outside of the pod, beside that of its neighbour.
const HOSTS: u16 = 4;

pub fn outside(family: Family, port: u16) -> Vec<SocketAddr> {
    let address = |host| -> IpAddr {
        let text = match family {
            Family::V4 => format!("203.0.113.{host}"),
            Family::V6 => format!("2001:db8::{host}"),
        };
        text.parse().expect("an address")
    };
    (1..=HOSTS)
        .map(|host| SocketAddr::new(address(host), port))
        .collect()
}

/// Answers each question with the address that its connection has come to, and closes the connection
/// after "bye!". It ends with the tests.
pub fn serve(netns: &Netns, port: u16) {
    let listener = netns.inside(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)));
    let listener = listener.unwrap_or_else(|e| panic!("listen on {port}: {e}"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

/// Answers each question until the client closes the connection. There is no timeout: a test may
/// keep a connection silent for as long as it needs.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    let at = stream.local_addr()?;
    let at = SocketAddr::new(at.ip().to_canonical(), at.port());
    let mut question = [0; 4];
    while stream.read_exact(&mut question).is_ok() {
        writeln!(stream, "{at}")?;
        if &question == b"bye!" {
            break;
        }
    }
    Ok(())
}

/// A connection on which it is asked once, and which is closed by who asks.
pub fn ask(netns: &Netns, at: SocketAddr) -> io::Result<String> {
    let mut stream = netns.inside(|| TcpStream::connect_timeout(&at, PATIENCE))?;
    ask_again(&mut stream)
}

pub fn ask_again(stream: &mut TcpStream) -> io::Result<String> {
    question_of(stream, b"who?")
}

/// The last time.
pub fn ask_for_good(stream: &mut TcpStream) -> io::Result<String> {
    let answer = question_of(stream, b"bye!")?;
    match stream.read(&mut [0])? {
        0 => Ok(answer),
        _ => Err(io::Error::other("more than an answer")),
    }
}

fn question_of(stream: &mut TcpStream, question: &[u8; 4]) -> io::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question)?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    Ok(String::from_utf8_lossy(&answer).trim().to_owned())
}

/// So many connections to each, one after the other, all of which must be answered, by whom they were
/// to reach.
pub fn ask_all(netns: &Netns, at: &[SocketAddr], connections: usize) {
    ask_each(netns, at, connections, ask_again);
}

/// The same, and they are closed by who is asked.
pub fn ask_all_for_good(netns: &Netns, at: &[SocketAddr], connections: usize) {
    ask_each(netns, at, connections, ask_for_good);
}

type Question = fn(&mut TcpStream) -> io::Result<String>;

fn ask_each(netns: &Netns, at: &[SocketAddr], connections: usize, question: Question) {
    netns.inside(|| {
        thread::scope(|scope| {
            for &at in at {
                scope.spawn(move || {
                    for _ in 0..connections {
                        let mut stream = TcpStream::connect_timeout(&at, PATIENCE)
                            .unwrap_or_else(|e| panic!("connecting to {at}: {e}"));
                        let answer = question(&mut stream);
                        let answer = answer.unwrap_or_else(|e| panic!("asking {at}: {e}"));
                        assert_eq!(answer, at.to_string());
                    }
                });
            }
        });
    });
}

/// What the proxy's log is to say of [`ask_all`].
pub fn expected(
    way: &str,
    at: &[SocketAddr],
    connections: u64,
) -> BTreeMap<(String, SocketAddr), u64> {
    at.iter()
        .map(|&at| ((way.to_owned(), at), connections))
        .collect()
}
