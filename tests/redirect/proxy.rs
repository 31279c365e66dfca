//! HAProxy in the pod: it passes connections on to where they were to go, and logs where that was.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use nix::unistd::User;

use crate::fixture::Pod;
use crate::netns::{Netns, unique};
use crate::process::{PATIENCE, Process, eventually};

pub const INBOUND: u16 = 4143;
pub const OUTBOUND: u16 = 4140;

/// Of an IPv4 address it asks conntrack first, but not by a socket for both families. Each connection is
/// logged as soon as it has gone on. A server named * is where the client wanted to go. Kernels before 6.6 can't give a connection to
/// a listener with SO_REUSEPORT.
const CONFIG: &str = "
global
    noreuseport
    maxconn 4000
    log stdout format raw local0
    nbthread 1
defaults
    mode tcp
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    log global
    log-format '%ft %fi %fp'
listen inbound
    bind :4143
    bind [::]:4143 v6only
    server original *
listen outbound
    bind :4140 transparent
    bind [::]:4140 v6only transparent
    server original *
";

pub struct Proxy {
    process: Option<Process>,
    config: PathBuf,
    log: PathBuf,
}

impl Proxy {
    /// Not yet started.
    pub fn new(pod: &Pod) -> Self {
        let config = pod.tmp.file("haproxy.cfg");
        fs::write(&config, CONFIG).expect("a configuration");
        Self {
            process: None,
            config,
            log: pod.tmp.file(&unique("haproxy.log")),
        }
    }

    /// It listens when this returns.
    pub fn start(&mut self, netns: &Netns) {
        // From the start, so that its listening sockets are its user's. It takes one capability to be
        // transparent.
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid(), "--clear-groups"]);
        command.args(["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"]);
        command.arg("haproxy").arg("-f").arg(&self.config);
        let process = Process::start(netns, command, self.log.clone());
        let up = eventually(PATIENCE, || {
            netns.inside(|| [INBOUND, OUTBOUND].into_iter().all(listens))
        });
        assert!(up, "haproxy does not listen\n{}", process.said());
        self.process = Some(process);
    }

    /// Its connections end with it.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// How many connections it has had by which way, by where they were to go.
    pub fn log(&self) -> BTreeMap<(String, SocketAddr), u64> {
        let mut log = BTreeMap::new();
        for line in fs::read_to_string(&self.log).unwrap_or_default().lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [way @ ("inbound" | "outbound"), address, port] = words[..] else {
                continue;
            };
            let address: IpAddr = address.parse().expect("an address");
            let at = SocketAddr::new(address.to_canonical(), port.parse().expect("a port"));
            *log.entry((way.to_owned(), at)).or_default() += 1;
        }
        log
    }

    /// The same, once there are so many.
    pub fn logged(&self, connections: u64) -> BTreeMap<(String, SocketAddr), u64> {
        eventually(PATIENCE, || self.log().values().sum::<u64>() >= connections);
        self.log()
    }
}

/// Whether anybody listens there, by /proc/net/tcp6 rather than by a connection.
fn listens(port: u16) -> bool {
    let table = fs::read_to_string("/proc/thread-self/net/tcp6").expect("tcp6");
    let port = format!(":{port:04X}");
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && fields[3] == "0A"
    })
}

/// The user that HAProxy runs as.
pub fn uid() -> String {
    let user = User::from_name("haproxy").expect("users");
    user.expect("apt-get install haproxy").uid.to_string()
}
