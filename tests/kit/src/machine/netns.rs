//! Network namespaces that go away with their owner.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::machine::process::{PATIENCE, eventually, run};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A name that no other test, and no other run of the tests, uses at the same time.
pub fn unique(prefix: &str) -> String {
    let n = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}-{}-{n}", std::process::id())
}

/// Bytes and packets as the interface itself counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub recv_bytes: u64,
    pub recv_packets: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    /// Frames that a program on egress has seen and that then did not leave.
    pub sent_dropped: u64,
}

pub struct Netns {
    pub name: String,
}

impl Netns {
    pub fn new(role: &str) -> Self {
        // `ip netns add` mounts its folder on first use: one at a time.
        static ADD: Mutex<()> = Mutex::new(());
        let name = format!("{}-{role}", unique("metricd"));
        {
            let _one = ADD.lock().unwrap_or_else(PoisonError::into_inner);
            run(Command::new("ip").args(["netns", "add", &name]));
        }
        let netns = Self { name };
        // Addresses at once, and no frames but those that the tests cause.
        netns.sysctl("net/ipv6/conf/all/accept_dad", "0");
        netns.sysctl("net/ipv6/conf/default/accept_dad", "0");
        netns.sysctl("net/ipv6/conf/default/accept_ra", "0");
        netns.sysctl("net/ipv6/conf/default/router_solicitations", "0");
        netns.ip("link set lo up");
        netns
    }

    pub fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `ip` with these words in the namespace.
    pub fn ip(&self, words: &str) -> String {
        run(Command::new("ip")
            .args(["-n", &self.name])
            .args(words.split_whitespace()))
    }

    /// Runs the closure on a thread of its own in this namespace. What it opens or starts belongs
    /// to the namespace and may be used from anywhere. (`ip netns exec` would also hide the bpffs
    /// below /sys.)
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        let result = thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter(&path);
                    work()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// As `inside`, without waiting for the end.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let path = self.path();
        thread::spawn(move || {
            enter(&path);
            work()
        })
    }

    /// Runs a command in this namespace and returns its output; it must succeed.
    pub fn run(&self, command: &mut Command) -> String {
        self.inside(|| run(command))
    }

    /// As `run`, with a standard input that ends once the condition holds, which it must.
    pub fn run_until(&self, command: &mut Command, holds: impl FnMut() -> bool) -> String {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.inside(|| command.spawn().expect("the command"));
        let held = eventually(PATIENCE, holds);
        drop(child.stdin.take());
        let output = child.wait_with_output().expect("its end");
        assert!(held && output.status.success(), "{held}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn sysctl(&self, name: &str, value: &str) {
        self.inside(|| fs::write(format!("/proc/sys/{name}"), value))
            .unwrap_or_else(|e| panic!("{name}={value} in {}: {e}", self.name));
    }

    /// A counter of /proc/net/snmp or /proc/net/netstat, for example ("Tcp", "RetransSegs").
    pub fn kernel_counter(&self, group: &str, name: &str) -> u64 {
        let text = self.inside(|| {
            let read = |file| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            read("snmp").expect("snmp") + &read("netstat").expect("netstat")
        });
        let lines: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix(group)?.strip_prefix(": "))
            .collect();
        let [names, values] = lines[..] else {
            panic!("{group} is not in the kernel's counters");
        };
        let position = names.split(' ').position(|n| n == name);
        let position = position.unwrap_or_else(|| panic!("no counter {name} in {group}"));
        values.split(' ').nth(position).unwrap().parse().unwrap()
    }

    pub fn interface(&self, name: &str) -> Interface {
        let text = self
            .inside(|| fs::read_to_string("/proc/thread-self/net/dev"))
            .expect("/proc/net/dev");
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&format!("{name}:")))
            .unwrap_or_else(|| panic!("no interface {name} in {}", self.name));
        let fields: Vec<u64> = line
            .split_whitespace()
            .map(|field| field.parse().unwrap())
            .collect();
        Interface {
            recv_bytes: fields[0],
            recv_packets: fields[1],
            sent_bytes: fields[8],
            sent_packets: fields[9],
            sent_dropped: fields[11],
        }
    }

    /// Makes one skb one frame, with its checksum in place.
    pub fn offloads_off(&self, interface: &str) {
        self.run(Command::new("ethtool").args([
            "-K", interface, "tso", "off", "gso", "off", "gro", "off", "tx", "off",
        ]));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let deleted = Command::new("ip")
            .args(["netns", "del", &self.name])
            .status();
        if !deleted.is_ok_and(|status| status.success()) {
            eprintln!("the namespace {} is left behind", self.name);
        }
    }
}

/// A veth pair, one end in each namespace, not yet up.
pub fn veth(a: (&Netns, &str), b: (&Netns, &str)) {
    run(Command::new("ip").args([
        "link", "add", a.1, "netns", &a.0.name, "type", "veth", "peer", "name", b.1, "netns",
        &b.0.name,
    ]));
}

fn enter(path: &str) {
    let netns = File::open(path).unwrap_or_else(|e| panic!("{path}: {e}"));
    setns(netns, CloneFlags::CLONE_NEWNET).unwrap_or_else(|e| panic!("entering {path}: {e}"));
}
