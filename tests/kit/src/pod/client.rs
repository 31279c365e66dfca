//! Clients of the tests' own: one whose both ends the test plays itself, and one that reads
//! responses off a stream and counts them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::machine::netns::Netns;
use crate::machine::process::{PATIENCE, eventually};
use crate::pod::fixture::{Family, Pod};

/// A connection of which the test holds both ends, so that it says what happens when.
pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
    /// Whether a segment of the client's was one byte.
    pub said_one_byte: bool,
}

impl Pod {
    /// A connection from the client to the server.
    pub fn pair(&self, port: u16) -> Pair {
        self.pair_over(Family::V4, port)
    }

    pub fn pair_over(&self, family: Family, port: u16) -> Pair {
        Pair::new(&self.client, self.server(), self.server_at(family, port))
    }
}

impl Pair {
    pub fn new(client: &Netns, server: &Netns, at: SocketAddr) -> Self {
        let listener = listen(server, at);
        let client = connect(client, at);
        let (server, _) = listener.accept().expect("accept");
        prepare(&server);
        Self {
            client,
            server,
            said_one_byte: false,
        }
    }

    /// Bytes from the client, which the server has when this returns.
    pub fn client_says(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.said_one_byte |= bytes.len() == 1;
        transfer(&mut self.client, &mut self.server, bytes);
    }

    pub fn server_says(&mut self, bytes: impl AsRef<[u8]>) {
        transfer(&mut self.server, &mut self.client, bytes.as_ref());
    }

    /// One segment for each byte: the next is sent when the last has been read.
    pub fn client_spells(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.client_says([*byte]);
        }
    }

    pub fn server_spells(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.server_says([*byte]);
        }
    }

    /// FIN from both, the client's first.
    pub fn close(self) {
        let Self { client, server, .. } = self;
        close_in_order(client, server);
    }

    pub fn close_server_first(self) {
        let Self { client, server, .. } = self;
        close_in_order(server, client);
    }
}

fn close_in_order(first: TcpStream, mut second: TcpStream) {
    drop(first);
    let mut rest = Vec::new();
    second.read_to_end(&mut rest).expect("the end");
    assert!(rest.is_empty(), "unread: {rest:?}");
}

/// Closes with RST instead of FIN.
pub fn reset(stream: TcpStream) {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &linger).expect("SO_LINGER");
}

pub fn listen(netns: &Netns, at: SocketAddr) -> TcpListener {
    // The last listener there may live a moment longer, in a child process of another test that
    // is just being started.
    let mut listener = netns.inside(|| TcpListener::bind(at));
    eventually(PATIENCE, || {
        let in_use = matches!(&listener, Err(e) if e.kind() == ErrorKind::AddrInUse);
        if in_use {
            listener = netns.inside(|| TcpListener::bind(at));
        }
        !in_use
    });
    let listener = listener.unwrap_or_else(|e| panic!("listening on {at}: {e}"));
    // Holds for accept too.
    let patience = TimeVal::seconds(PATIENCE.as_secs() as i64);
    setsockopt(&listener, sockopt::ReceiveTimeout, &patience).expect("SO_RCVTIMEO");
    listener
}

pub fn connect(netns: &Netns, to: SocketAddr) -> TcpStream {
    let stream = netns.inside(|| TcpStream::connect_timeout(&to, PATIENCE));
    let stream = stream.unwrap_or_else(|e| panic!("connecting to {to}: {e}"));
    prepare(&stream);
    stream
}

/// A test fails rather than waits for ever, and no write waits for another.
fn prepare(stream: &TcpStream) {
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("timeout");
}

fn transfer(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(bytes).expect("write"));
        let mut got = vec![0; bytes.len()];
        to.read_exact(&mut got).expect("read");
        assert_eq!(got, bytes, "what arrived");
    });
}

/// Waits for the end of the stream; what comes before it is returned.
pub fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the end");
    rest
}

/// Responses as they come, framed by content-length or by their status.
pub struct Responses(BufReader<TcpStream>);

impl Responses {
    pub fn of(stream: &TcpStream) -> Self {
        Self(BufReader::new(stream.try_clone().expect("clone")))
    }

    /// Reads the next response, to a request of this method, and returns its status.
    pub fn next(&mut self, method: &str) -> u16 {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a status line");
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {line:?}"));
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("a header");
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            length = 0;
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a body");
        status
    }
}

/// Writes all requests in one go while the responses are read; returns how many had which status.
pub fn pipeline(stream: &TcpStream, requests: &[String]) -> BTreeMap<String, u64> {
    let burst = requests.concat();
    let mut statuses = BTreeMap::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = stream;
            stream.write_all(burst.as_bytes()).expect("write");
        });
        let mut responses = Responses::of(stream);
        for request in requests {
            let method = request.split(' ').next().expect("a method");
            let status = responses.next(method);
            *statuses.entry(status.to_string()).or_default() += 1;
        }
    });
    statuses
}

/// A connection from exactly this address and port.
pub fn connect_from(source: SocketAddr, to: SocketAddr) -> nix::Result<TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage};
    use nix::sys::socket::{bind, connect, socket};
    use std::os::fd::AsRawFd;

    let family = match source.ip() {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(source))?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(TcpStream::from(fd))
}

/// Long enough for the kernel's own timers of a second to have fired some times.
pub const SOME_SECONDS: Duration = Duration::from_millis(3500);
