//! The pod with a proxy in it, and how connections get there.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::netns::Netns;
use crate::process::{PATIENCE, Process, eventually, run};
use crate::server::{Nginx, OTHER, make_certificate};

pub const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A port that nobody redirects.
pub const SKIPPED: u16 = OTHER;
/// What is outside of the pod, beside the client.
const HOSTS: [(&str, u8); 2] = [("203.0.113.1", 32), ("2001:db8::1", 128)];

/// Who gives connections to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mesh {
    /// Linkerd's iptables rules, as linkerd-init writes them.
    Linkerd,
    /// Istio's iptables rules, as istio-init writes them.
    Istio,
    /// Ours.
    Redirection,
}

impl Mesh {
    pub const ALL: [Self; 3] = [Self::Linkerd, Self::Istio, Self::Redirection];

    pub fn uid(self) -> u32 {
        match self {
            Self::Istio => 1337,
            _ => 2102,
        }
    }

    /// Where the proxy listens: inbound and outbound.
    pub fn ports(self) -> [u16; 2] {
        match self {
            Self::Istio => [15006, 15001],
            _ => [4143, 4140],
        }
    }

    /// For iptables-restore. The loopback of 127.0.0.0/8 is ::1/128 in IPv6, and 127.0.0.6 is ::6.
    fn rules(self, family: Family) -> String {
        let (loopback, passthrough) = match family {
            Family::V4 => ("127.0.0.1/32", "127.0.0.6/32"),
            Family::V6 => ("::1/128", "::6/128"),
        };
        let rules = match self {
            Self::Redirection => return String::new(),
            Self::Linkerd => format!(
                "-N PROXY_INIT_REDIRECT
                 -A PROXY_INIT_REDIRECT -p tcp --match multiport --dports 4190,4191,{SKIPPED} -j RETURN
                 -A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-port 4143
                 -A PREROUTING -j PROXY_INIT_REDIRECT
                 -N PROXY_INIT_OUTPUT
                 -A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN
                 -A PROXY_INIT_OUTPUT -o lo -j RETURN
                 -A PROXY_INIT_OUTPUT -p tcp --match multiport --dports {SKIPPED} -j RETURN
                 -A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-port 4140
                 -A OUTPUT -j PROXY_INIT_OUTPUT"
            ),
            Self::Istio => format!(
                "-N ISTIO_INBOUND
                 -N ISTIO_REDIRECT
                 -N ISTIO_IN_REDIRECT
                 -N ISTIO_OUTPUT
                 -A PREROUTING -p tcp -j ISTIO_INBOUND
                 -A OUTPUT -j ISTIO_OUTPUT
                 -A ISTIO_INBOUND -p tcp --dport 15008 -j RETURN
                 -A ISTIO_INBOUND -p tcp --dport 15090 -j RETURN
                 -A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN
                 -A ISTIO_INBOUND -p tcp --dport 15020 -j RETURN
                 -A ISTIO_INBOUND -p tcp --dport 4191 -j RETURN
                 -A ISTIO_INBOUND -p tcp --dport {SKIPPED} -j RETURN
                 -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
                 -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
                 -A ISTIO_OUTPUT -s {passthrough} -o lo -j RETURN
                 -A ISTIO_OUTPUT ! -d {loopback} -o lo -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
                 -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
                 -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
                 -A ISTIO_OUTPUT -d {loopback} -j RETURN
                 -A ISTIO_OUTPUT -p tcp --dport {SKIPPED} -j RETURN
                 -A ISTIO_OUTPUT -p tcp -j ISTIO_REDIRECT
                 -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001"
            ),
        };
        let rules: Vec<&str> = rules.lines().map(str::trim).collect();
        format!("*nat\n{}\nCOMMIT\n", rules.join("\n"))
    }
}

/// Fields are dropped in this order: processes, then what they use.
pub struct World {
    pub tls: bool,
    pub application: Nginx,
    pub outside: Nginx,
    proxy: Process,
    pub pod: Pod,
}

impl World {
    /// A pod whose requests go through the proxy, which speaks TLS with what is outside if it is told to.
    pub fn new(mesh: Mesh, tls: bool, flags: &[&str]) -> Self {
        Self::attached_after(mesh, tls, flags, |_| ())
    }

    /// The programs come after what is done before.
    pub fn attached_after(
        mesh: Mesh,
        tls: bool,
        flags: &[&str],
        before: impl FnOnce(&Pod),
    ) -> Self {
        let mut pod = Pod::new(Shape::Plain);
        for (host, bits) in HOSTS {
            let nodad = if bits == 128 { "nodad" } else { "" };
            pod.client
                .ip(&format!("addr add {host}/{bits} dev lo {nodad}"));
        }
        pod.hook.ip("route add default via 10.9.0.1");
        pod.hook.ip("-6 route add default via fd00:0::1");
        if mesh == Mesh::Istio {
            pod.hook.ip("addr add ::6/128 dev lo nodad");
        }
        for family in FAMILIES {
            let rules = pod.tmp.file("rules");
            std::fs::write(&rules, mesh.rules(family)).expect("a file");
            let command = match family {
                Family::V4 => "iptables-restore",
                Family::V6 => "ip6tables-restore",
            };
            if mesh != Mesh::Redirection {
                pod.hook.run(Command::new(command).arg(&rules));
            }
        }
        if tls {
            make_certificate(&pod);
        }
        let application = Nginx::start_logging(&pod, &pod.hook, "application", false);
        let outside = Nginx::start_logging(&pod, &pod.client, "outside", tls);
        let proxy = proxy(&pod, mesh, tls);
        before(&pod);
        let uid = mesh.uid().to_string();
        let mut all = vec!["--interface", "eth0,lo", "--proxy-uid", &uid];
        all.extend(flags);
        let ports = mesh.ports().map(|port| port.to_string());
        let skipped = SKIPPED.to_string();
        if mesh == Mesh::Redirection {
            all.extend(["--redirect-inbound", &ports[0], "--redirect-outbound"]);
            all.extend([&ports[1], "--skip-inbound-ports"]);
            all.extend([&skipped, "--skip-outbound-ports", &skipped]);
        }
        pod.attach(&all);
        pod.start();
        Self {
            tls,
            application,
            outside,
            proxy,
            pod,
        }
    }

    /// Nobody listens in its place.
    pub fn kill_proxy(&mut self) {
        self.proxy.kill();
    }

    /// Who asks, from where, for what: from outside for the application, and the other way round.
    pub fn ways(&self, port: u16) -> Vec<Way<'_>> {
        let mut ways = Vec::new();
        for family in FAMILIES {
            ways.push(Way {
                direction: "inbound",
                from: &self.pod.client,
                at: self.pod.server_at(family, port),
                src: String::new(),
                scheme: if self.tls { "https" } else { "http" },
            });
            ways.push(Way {
                direction: "outbound",
                from: &self.pod.hook,
                at: SocketAddr::new(outside(family), port),
                src: self.pod.server_ip(family).to_string(),
                scheme: "http",
            });
        }
        ways
    }
}

pub fn outside(family: Family) -> IpAddr {
    let (host, _) = HOSTS[usize::from(family == Family::V6)];
    host.parse().expect("an address")
}

/// The requests of one direction to one address.
pub struct Way<'a> {
    pub direction: &'static str,
    pub from: &'a Netns,
    pub at: SocketAddr,
    /// The client's address, as it is to be told.
    pub src: String,
    scheme: &'static str,
}

impl Way<'_> {
    pub fn url(&self, path: impl std::fmt::Display) -> String {
        format!("{}://{}/{path}", self.scheme, self.at)
    }

    pub fn family(&self) -> Family {
        match self.at {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        }
    }

    /// The labels of what is counted for it.
    pub fn labels(&self) -> Vec<(String, String)> {
        [
            ("direction", self.direction.to_owned()),
            ("src_ip", self.src.clone()),
            ("dst_ip", self.at.ip().to_string()),
            ("dst_port", self.at.port().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

/// Labels as a scrape takes them.
pub fn borrowed(labels: &[(String, String)]) -> Vec<(&str, &str)> {
    let each = labels.iter();
    each.map(|(name, value)| (&**name, &**value)).collect()
}

/// Nothing is open, in flight or lost, and nothing was aborted.
#[track_caller]
pub fn assert_nothing_is_left(scrape: &Scrape) {
    for name in [
        "linkerd_ebpf_requests_in_flight",
        "linkerd_ebpf_state_lost_total",
        "linkerd_ebpf_requests_aborted_total",
    ] {
        for direction in ["inbound", "outbound"] {
            assert_eq!(
                scrape.sum(name, &[("direction", direction)]),
                0,
                "{name} {direction}\n{}",
                scrape.text
            );
        }
    }
}

fn proxy(pod: &Pod, mesh: Mesh, tls: bool) -> Process {
    let uid = mesh.uid().to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    if mesh == Mesh::Redirection {
        command.args(["--inh-caps=-all,+net_raw", "--ambient-caps=-all,+net_raw"]);
    }
    command.arg("/usr/bin/python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mesh/proxy.py"));
    let [inbound, outbound] = mesh.ports().map(|port| port.to_string());
    command.args(["--inbound", &inbound, "--outbound", &outbound]);
    match mesh {
        Mesh::Linkerd => {}
        Mesh::Istio => drop(command.args(["--source", "127.0.0.6", "::6"])),
        Mesh::Redirection => drop(command.arg("--transparent")),
    }
    if tls {
        // One file that the proxy's user may read.
        let both = pod.tmp.file("proxy.pem");
        run(Command::new("sh").arg("-c").arg(format!(
            "cat {0}/cert.pem {0}/key.pem >{1} && chmod 644 {1}",
            pod.tmp.path().display(),
            both.display()
        )));
        command.arg("--tls").arg(both);
    }
    let process = Process::start(&pod.hook, command, pod.tmp.file("proxy.log"));
    let up = eventually(PATIENCE, || process.said().contains("listens"));
    assert!(up, "the proxy does not listen\n{}", process.said());
    process
}
