//! The pod: a client's and a server's namespace, the hook in one of them, faults between if wanted.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::binaries;
use crate::machine::netns::{Interface, Netns, veth};
use crate::machine::pins::{PinDir, sweep};
use crate::machine::process::{PATIENCE, Process, TempDir, eventually, output};
use crate::machine::wire::{Faults, Wire};
use crate::scrape::exposition::{Sample, Scrape, check_identities};
use crate::scrape::metrics::get;

pub const METRICS: u16 = 4191;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

/// Where the hook sits, and what is on its sides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// client – pod, with the offloads a pod has: one skb is many segments.
    Plain,
    /// client – pod, one skb is one frame: what the interface counts is what the wire sees.
    Frames,
    /// client – faults – pod.
    FaultsBefore(Faults),
    /// client – router with the hook – faults – server.
    FaultsBehind(Faults),
}

/// Fields are dropped in this order: processes, then what they use.
pub struct Pod {
    metricd: Option<Process>,
    /// Scrapes come over eth0; for when the programs are on the loopback.
    scrape_from_client: bool,
    pub wire: Option<Wire>,
    pub pins: PinDir,
    pub tmp: TempDir,
    pub client: Netns,
    /// The namespace whose eth0 has the programs, and that metricd runs in.
    pub hook: Netns,
    /// Where the server runs, if not at the hook.
    behind: Option<Netns>,
    _wire_netns: Option<Netns>,
}

impl Pod {
    /// Namespaces and addresses, nothing attached yet.
    pub fn new(shape: Shape) -> Self {
        sweep();
        let client = Netns::new("client");
        let hook = Netns::new("pod");
        let mut pod = match shape {
            Shape::Plain | Shape::Frames => {
                veth((&client, "eth0"), (&hook, "eth0"));
                Self::from_netns(client, hook)
            }
            Shape::FaultsBefore(_) => {
                let wire = wire_netns();
                veth((&client, "eth0"), (&wire, "eth0"));
                veth((&wire, "eth1"), (&hook, "eth0"));
                Self {
                    _wire_netns: Some(wire),
                    ..Self::from_netns(client, hook)
                }
            }
            Shape::FaultsBehind(_) => {
                let wire = wire_netns();
                let server = Netns::new("server");
                veth((&client, "eth0"), (&hook, "eth0"));
                veth((&hook, "eth1"), (&wire, "eth0"));
                veth((&wire, "eth1"), (&server, "eth0"));
                Self {
                    behind: Some(server),
                    _wire_netns: Some(wire),
                    ..Self::from_netns(client, hook)
                }
            }
        };
        up(&pod.client, "eth0", 0, 1);
        match &pod.behind {
            None => up(&pod.hook, "eth0", 0, 2),
            Some(server) => {
                up(&pod.hook, "eth0", 0, 254);
                up(&pod.hook, "eth1", 1, 254);
                up(server, "eth0", 1, 2);
                pod.hook.sysctl("net/ipv4/ip_forward", "1");
                pod.hook.sysctl("net/ipv6/conf/all/forwarding", "1");
            }
        }
        if let Shape::FaultsBefore(_) | Shape::FaultsBehind(_) = shape {
            pod.quick_routes();
        }
        if shape != Shape::Plain {
            pod.client.offloads_off("eth0");
            pod.hook.offloads_off("eth0");
        }
        if let Some(server) = &pod.behind {
            pod.hook.offloads_off("eth1");
            server.offloads_off("eth0");
        }
        if let Shape::FaultsBefore(faults) | Shape::FaultsBehind(faults) = shape {
            let netns = pod._wire_netns.as_ref().expect("a wire");
            for interface in ["eth0", "eth1"] {
                netns.ip(&format!("link set {interface} up"));
                netns.offloads_off(interface);
            }
            pod.wire = Some(Wire::start(netns, "eth0", "eth1", faults));
        }
        pod
    }

    /// Between client and server, with lost segments sent again sooner than after the usual
    /// 200 ms: the same test in less time.
    fn quick_routes(&self) {
        for family in [Family::V4, Family::V6] {
            for (netns, to, subnet) in [
                (&self.client, self.server_ip(family), 0),
                (self.server(), self.client_ip(family), 1),
            ] {
                let via = match self.behind {
                    None => String::new(),
                    Some(_) => format!("via {}", address(family, subnet, 254)),
                };
                netns.ip(&format!("route add {to} {via} dev eth0 rto_min 20ms"));
            }
        }
    }

    fn from_netns(client: Netns, hook: Netns) -> Self {
        Self {
            metricd: None,
            scrape_from_client: false,
            wire: None,
            pins: PinDir::new(),
            tmp: TempDir::new(),
            client,
            hook,
            behind: None,
            _wire_netns: None,
        }
    }

    /// Nothing passes but what the test sends: the kernels say nothing of their own over IPv6, such as who
    /// their neighbours are.
    pub fn quiet(shape: Shape) -> Self {
        let pod = Self::new(shape);
        for netns in [&pod.client, &pod.hook] {
            netns.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1");
        }
        pod
    }

    /// Observed on its loopback alone, where every packet passes twice.
    pub fn measured_on_loopback() -> Self {
        let mut pod = Self::new(Shape::Plain);
        pod.scrape_from_client = true;
        pod.attach(&["--interface", "lo"]);
        pod.start();
        pod
    }

    /// The usual start: everything attached to eth0 and metricd answering.
    pub fn measured(shape: Shape, flags: &[&str]) -> Self {
        Self::new(shape).observed(flags)
    }

    /// With everything attached to eth0 and metricd answering.
    pub fn observed(mut self, flags: &[&str]) -> Self {
        self.attach(flags);
        self.start();
        self
    }

    pub fn server(&self) -> &Netns {
        self.behind.as_ref().unwrap_or(&self.hook)
    }

    pub fn client_ip(&self, family: Family) -> IpAddr {
        address(family, 0, 1)
    }

    pub fn server_ip(&self, family: Family) -> IpAddr {
        match self.behind {
            None => address(family, 0, 2),
            Some(_) => address(family, 1, 2),
        }
    }

    pub fn server_at(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.server_ip(family), port)
    }

    /// metricd-init for this pod, on eth0 if the flags don't say otherwise.
    pub fn init_command(&self, flags: &[&str]) -> Command {
        let mut command = binary(binaries::path("metricd-init"));
        command.args(["--netns", &self.hook.path(), "--pin-dir"]);
        command.arg(self.pins.path());
        if !flags.contains(&"--interface") {
            command.args(["--interface", "eth0"]);
        }
        command.args(flags);
        command
    }

    pub fn init(&self, flags: &[&str]) -> Output {
        output(&mut self.init_command(flags))
    }

    /// As `init`; it must succeed. Returns what it said.
    pub fn attach(&self, flags: &[&str]) -> String {
        let output = self.init(flags);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            output.status.success(),
            "metricd-init: {}\n{said}",
            output.status
        );
        said
    }

    /// Starts metricd and waits until it serves what the programs count.
    pub fn start(&mut self) {
        self.start_waiting();
        self.wait_until_up();
    }

    /// As `start`, with series left out that have not changed for so long.
    pub fn start_showing(&mut self, show_idle: &str) {
        let mut command = self.metricd_command();
        command.args(["--show-idle", show_idle]);
        self.start_as(command);
        self.wait_until_up();
    }

    /// As `start`, as in a pod: nobody, no capability, none to be had.
    pub fn start_without_rights(&mut self) {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]);
        let metricd = binary(binaries::path("metricd"));
        command.arg(metricd.get_program()).arg("--pin-dir");
        command.arg(self.pins.path());
        self.start_as(command);
        self.wait_until_up();
    }

    fn wait_until_up(&mut self) {
        let up = eventually(PATIENCE, || {
            self.try_scrape()
                .is_ok_and(|scrape| scrape.sum("linkerd_ebpf_up", &[]) == 1)
        });
        assert!(up, "metricd is not up\n{}", self.metricd().said());
    }

    /// Starts metricd, whether there is anything to read or not.
    pub fn start_waiting(&mut self) {
        self.start_as(self.metricd_command());
    }

    fn metricd_command(&self) -> Command {
        let mut command = binary(binaries::path("metricd"));
        command.arg("--pin-dir").arg(self.pins.path());
        command.args(["--listen", &format!("[::]:{METRICS}")]);
        command
    }

    /// Starts metricd by a command of the test's own.
    pub fn start_as(&mut self, command: Command) {
        self.metricd = None;
        let log = self.tmp.file("metricd.log");
        self.metricd = Some(Process::start(&self.hook, command, log));
    }

    pub fn metricd(&mut self) -> &mut Process {
        self.metricd.as_mut().expect("metricd was started")
    }

    pub fn try_scrape(&self) -> std::io::Result<Scrape> {
        let text = if self.scrape_from_client {
            let at = self.server_ip(Family::V4);
            self.client.inside(|| get(SocketAddr::new(at, METRICS)))
        } else {
            self.hook
                .inside(|| get((Ipv4Addr::LOCALHOST, METRICS).into()))
        };
        text.map(|text| Scrape::parse(&text))
    }

    pub fn scrape(&self) -> Scrape {
        self.try_scrape().unwrap_or_else(|e| {
            let status = self.metricd.as_ref().map(Process::state);
            panic!("the scrape failed: {e}; metricd: {status:?}")
        })
    }

    /// Scrapes until the traffic's last packets have been counted: nothing changes any more and
    /// the condition holds. If it never does, the test sees what it was given instead. The
    /// identities are checked on what is returned.
    pub fn settled(&self, condition: impl Fn(&Scrape) -> bool) -> Scrape {
        let deadline = Instant::now() + PATIENCE;
        let mut last = self.scrape();
        loop {
            thread::sleep(Duration::from_millis(50));
            let scrape = self.scrape();
            let quiet = traffic(&scrape).eq(traffic(&last));
            if (quiet && condition(&scrape)) || Instant::now() > deadline {
                check_identities(&scrape);
                return scrape;
            }
            last = scrape;
        }
    }

    /// Settled with every connection closed.
    pub fn ended(&self) -> Scrape {
        self.settled(|scrape| {
            let active = |proto| {
                let labels = [("proto", proto)];
                let lines = scrape.select("linkerd_ebpf_connections_active", &labels);
                lines
                    .filter(|line| !is_scrapes_own(line))
                    .all(|line| line.value == 0.0)
            };
            active("tcp") && active("other")
        })
    }

    /// What the interface of the hook and the programs have counted, at one and the same moment.
    pub fn both_counts(&self, interface: &str) -> (Interface, Scrape) {
        let mut before = self.hook.interface(interface);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let scrape = self.scrape();
            let after = self.hook.interface(interface);
            if before == after {
                return (after, scrape);
            }
            assert!(Instant::now() < deadline, "the interface is never quiet");
            before = after;
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The lines that traffic changes, without what metricd says about itself, and what scrapes change where
/// the loopback is observed.
fn traffic(scrape: &Scrape) -> impl Iterator<Item = &Sample> {
    scrape
        .samples
        .iter()
        .filter(|sample| sample.labels.contains_key("direction") && !is_scrapes_own(sample))
}

/// Whether scrapes may change the line: those of their port, and the totals.
fn is_scrapes_own(line: &Sample) -> bool {
    let port = line.labels.get("dst_port");
    line.name.starts_with("linkerd_ebpf_pod_")
        || port.is_some_and(|port| *port == METRICS.to_string())
}

/// One of ours, whatever the environment of the tests says.
pub fn binary(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars() {
        if name.starts_with("METRICD_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

fn address(family: Family, subnet: u8, host: u16) -> IpAddr {
    let text = match family {
        Family::V4 => format!("10.9.{subnet}.{host}"),
        Family::V6 => format!("fd00:{subnet}::{host}"),
    };
    text.parse().expect("an address")
}

fn up(netns: &Netns, interface: &str, subnet: u8, host: u16) {
    netns.ip(&format!("addr add 10.9.{subnet}.{host}/24 dev {interface}"));
    netns.ip(&format!(
        "addr add fd00:{subnet}::{host}/64 dev {interface} nodad"
    ));
    netns.ip(&format!("link set {interface} up"));
}

/// A namespace that says nothing of its own.
fn wire_netns() -> Netns {
    let netns = Netns::new("wire");
    netns.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
    netns.sysctl("net/ipv6/conf/default/disable_ipv6", "1");
    netns
}
