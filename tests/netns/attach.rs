//! What metricd-init attaches, finds and takes away.

use std::process::Command;

use libbpf_rs::Link;
use libbpf_rs::query::{LinkInfo, LinkTypeInfo};

use crate::fixture::{Family, Pod, Shape, binary};
use crate::kernel::tcx_programs;
use crate::load::h2load;
use crate::netns::Interface;
use crate::observed::{Connections, Http};
use crate::pins::PinDir;
use crate::process::{PATIENCE, eventually, output, run};
use crate::server::{HTTP, HTTPS, Nginx, urls};

pub const WAYS: [&str; 2] = ["tcx", "clsact"];

/// Every program and filter on the pod's interface, as the kernel lists them: ingress, egress.
#[derive(Debug, PartialEq)]
pub struct Attached {
    pub tcx: [Vec<u32>; 2],
    pub filters: [String; 2],
}

impl Attached {
    /// By which way the programs are there, each in its direction.
    pub fn ways(&self) -> [bool; 2] {
        let by_tcx = self.tcx.iter().all(|programs| programs.len() == 1);
        let has = |direction, name| self.filters[direction as usize].contains(name);
        [
            by_tcx,
            has(0, "linkerd_ingress") && has(1, "linkerd_egress"),
        ]
    }

    pub fn has_ours(&self) -> bool {
        self.ways().contains(&true)
    }

    /// How many programs there are in each direction.
    pub fn count(&self) -> [usize; 2] {
        [0, 1].map(|direction| {
            let filters = self.filters[direction].matches(" handle 0x").count();
            self.tcx[direction].len() + filters
        })
    }

    pub fn is_empty(&self) -> bool {
        self.tcx.iter().all(Vec::is_empty) && self.filters.iter().all(String::is_empty)
    }
}

pub fn attached(pod: &Pod) -> Attached {
    let filters = ["ingress", "egress"].map(|direction| {
        let mut command = Command::new("tc");
        command.args(["filter", "show", "dev", "eth0", direction]);
        pod.hook.run(&mut command)
    });
    let tcx = [false, true].map(|egress| pod.hook.inside(|| tcx_programs("eth0", egress)));
    Attached { tcx, filters }
}

pub fn qdiscs(pod: &Pod) -> String {
    pod.hook
        .run(Command::new("tc").args(["qdisc", "show", "dev", "eth0"]))
}

/// By which way it was asked for, and both directions.
#[test]
fn attaches_the_way_it_is_told() {
    for way in WAYS {
        let pod = Pod::measured(Shape::Plain, &["--attach", way]);
        let attached = attached(&pod);
        let expected = WAYS.map(|other| other == way);
        assert_eq!(attached.ways(), expected, "{attached:?}");
        assert_eq!(qdiscs(&pod).contains("clsact"), way == "clsact");
    }
}

#[test]
fn detach_leaves_nothing() {
    for way in WAYS {
        let pod = Pod::measured(Shape::Plain, &["--attach", way]);
        assert!(!pod.pins.list().is_empty());
        pod.attach(&["--detach"]);
        assert!(attached(&pod).is_empty(), "{way}: {:?}", attached(&pod));
        assert!(!qdiscs(&pod).contains("clsact"), "{way}");
        assert_eq!(pod.pins.list(), [""; 0], "{way}");
        // Nothing to detach: no error.
        pod.attach(&["--detach"]);
        // And it can begin anew.
        pod.attach(&["--attach", way]);
        assert!(attached(&pod).has_ours());
    }
}

/// Packets that the filter of others has had, from `tc -s`.
fn seen_by_others(pod: &Pod, direction: &str) -> u64 {
    let mut command = Command::new("tc");
    command.args(["-s", "filter", "show", "dev", "eth0", direction]);
    let shown = pod.hook.run(&mut command);
    let (_, rest) = shown.split_once("Sent ").expect("statistics");
    let count = rest.split(' ').nth(2).expect("packets");
    count.parse().expect("a number")
}

/// Filters and qdiscs of others stay, before, while and after ours are there; and get all that
/// ours have seen.
fn what_others_attached_stays(direction: &str, packets: fn(&Interface) -> u64) {
    let pod = Pod::new(Shape::Plain);
    let tc = |words: &str| {
        let mut command = Command::new("tc");
        pod.hook.run(command.args(words.split(' ')))
    };
    tc("qdisc add dev eth0 root handle 7: pfifo");
    tc("qdisc add dev eth0 clsact");
    tc(&format!(
        "filter add dev eth0 {direction} protocol all prio 49000 u32 match u32 0 0 \
         action mirred egress mirror dev lo"
    ));
    let (filters, shape) = (attached(&pod), qdiscs(&pod));
    // Both at one and the same moment.
    let counts = || {
        let mut counts = (0, 0);
        let quiet = eventually(PATIENCE, || {
            let before = packets(&pod.hook.interface("eth0"));
            counts = (before, seen_by_others(&pod, direction));
            before == packets(&pod.hook.interface("eth0"))
        });
        assert!(quiet, "the interface is never quiet");
        counts
    };
    for way in WAYS {
        pod.attach(&["--attach", way]);
        assert!(attached(&pod).has_ours());
        let before = counts();
        let mut pair = pod.pair(HTTP);
        for _ in 0..20 {
            pair.client_says("x");
            pair.server_says("x");
        }
        let after = counts();
        assert!(after.0 > before.0 + 20);
        assert_eq!(after.1 - before.1, after.0 - before.0, "{direction} {way}");
        pair.close();
        pod.attach(&["--detach"]);
        assert_eq!(attached(&pod), filters, "{direction} {way}");
        assert_eq!(qdiscs(&pod), shape, "{direction} {way}");
    }
}

#[test]
fn what_others_attached_to_ingress_stays() {
    what_others_attached_stays("ingress", |interface| interface.recv_packets);
}

#[test]
fn what_others_attached_to_egress_stays() {
    what_others_attached_stays("egress", |interface| interface.sent_packets);
}

#[test]
fn attaching_twice_is_harmless() {
    for way in WAYS {
        let pod = Pod::measured(Shape::Plain, &["--attach", way]);
        let nginx = Nginx::start(&pod);
        h2load(&pod, 500, &urls(&pod, Family::V4, &["200"]));
        let (before, pins) = (attached(&pod), pod.pins.list());
        let said = pod.attach(&["--attach", way]);
        assert!(said.contains("already"), "it says what it found:\n{said}");
        assert_eq!(attached(&pod), before, "{way}");
        assert_eq!(pod.pins.list(), pins, "{way}");
        h2load(&pod, 500, &urls(&pod, Family::V4, &["404"]));
        let scrape = pod.ended();
        Http::answered(nginx.responses(1000)).assert_in(&scrape, HTTP);
    }
}

#[test]
fn disabled_it_does_nothing() {
    let pod = Pod::new(Shape::Plain);
    pod.attach(&["--disable"]);
    assert!(attached(&pod).is_empty());
    assert_eq!(pod.pins.list(), [""; 0]);
}

/// What cannot be done is said in one line, with an exit code; in pods with exit code 0.
#[test]
fn failures_are_loud_on_the_command_line() {
    let pod = Pod::new(Shape::Plain);
    let failed = pod.init(&["--interface", "none0"]);
    assert!(!failed.status.success());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("none0"), "{said}");
    assert_eq!(pod.pins.list(), [""; 0], "nothing is left");
    // A pod's start is not to fail over us, not even over a setting that makes no sense.
    for (name, value) in [
        ("METRICD_INTERFACE", "none0"),
        ("METRICD_MAP_SIZE", "a lot"),
    ] {
        let mut in_a_pod = pod.init_command(&[]);
        in_a_pod.env("METRICD_FAIL_OPEN", "true").env(name, value);
        let open = output(&mut in_a_pod);
        assert!(open.status.success(), "{name}={value}: {open:?}");
    }
}

#[test]
fn pins_belong_on_a_bpffs() {
    let mut pod = Pod::new(Shape::Plain);
    pod.pins = PinDir::at(pod.tmp.file("pins"));
    let failed = pod.init(&[]);
    assert!(!failed.status.success());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        said.contains("bpffs") && said.lines().count() == 1,
        "{said}"
    );
    assert!(attached(&pod).is_empty());
}

/// Started in the namespace: every interface that is up, but the loopback.
#[test]
fn its_own_namespace_and_all_that_is_up() {
    let pod = Pod::new(Shape::Plain);
    pod.hook.ip("tuntap add mode tun up0");
    pod.hook.ip("tuntap add mode tun down0");
    pod.hook.ip("link set up0 up");
    let mut command = binary(env!("CARGO_BIN_EXE_metricd-init"));
    command.arg("--pin-dir").arg(pod.pins.path());
    pod.hook.run(&mut command);
    let on = |interface: &str| pod.hook.inside(|| tcx_programs(interface, true)).len();
    let found = ["eth0", "up0", "down0", "lo"].map(on);
    assert_eq!(found, [1, 1, 0, 0]);
}

/// The same with the loopback, as beside a proxy: on its ingress only, by which what is redirected comes.
#[test]
fn the_loopback_if_asked_for() {
    let pod = Pod::new(Shape::Plain);
    let mut command = binary(env!("CARGO_BIN_EXE_metricd-init"));
    command.arg("--pin-dir").arg(pod.pins.path());
    command.env("METRICD_LOOPBACK", "true");
    pod.hook.run(&mut command);
    let on = |interface: &str, egress| pod.hook.inside(|| tcx_programs(interface, egress)).len();
    assert_eq!([on("eth0", false), on("eth0", true)], [1, 1]);
    assert_eq!([on("lo", false), on("lo", true)], [1, 0]);
}

/// By a process in it, as a container runtime tells.
#[test]
fn the_namespace_of_a_process() {
    let mut pod = Pod::new(Shape::Plain);
    pod.start_waiting();
    let pid = pod.metricd().id().to_string();
    let mut command = binary(env!("CARGO_BIN_EXE_metricd-init"));
    command.args(["--pid", &pid, "--pin-dir"]);
    run(command.arg(pod.pins.path()));
    let up = |pod: &Pod| pod.scrape().sum("linkerd_ebpf_up", &[]) == 1;
    assert!(eventually(PATIENCE, || up(&pod)));
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
}

/// A sandbox under the same pins as one before, whose pins are still there: its interface has the
/// same name and index, and has nothing attached.
fn a_sandbox_made_again(way: &str, is_gone: bool) {
    let mut old = Pod::new(Shape::Plain);
    old.attach(&["--attach", way]);
    old.pair(HTTP).close();
    let mut new = Pod::new(Shape::Plain);
    std::mem::swap(&mut old.pins, &mut new.pins);
    let old = (!is_gone).then_some(old);
    if old.is_none() {
        // The namespace itself goes a little later, in the background.
        assert!(eventually(PATIENCE, || links_are_dead(&new)), "{way}");
    }
    new.attach(&["--attach", way]);
    assert!(attached(&new).has_ours(), "{way}: {:?}", attached(&new));
    new.start();
    new.pair(HTTPS).close();
    let scrape = new.ended();
    Connections::closed("fin", 1).assert_in(&scrape, HTTPS);
    new.attach(&["--detach"]);
    assert!(attached(&new).is_empty());
}

/// Whether the devices of all pinned TCX links are gone.
fn links_are_dead(pod: &Pod) -> bool {
    let mut names = pod.pins.list();
    names.retain(|name| name.contains("_link_"));
    names.iter().all(|name| {
        let link = Link::open(pod.pins.path().join(name)).expect("a link");
        let LinkInfo { info, .. } = link.info().expect("a link");
        matches!(info, LinkTypeInfo::Tcx(tcx) if tcx.ifindex == 0)
    })
}

#[test]
fn a_sandbox_made_again_after_the_old_one() {
    for way in WAYS {
        a_sandbox_made_again(way, true);
    }
}

/// Namespaces go away some time after their last process.
#[test]
fn a_sandbox_made_again_beside_the_old_one() {
    for way in WAYS {
        a_sandbox_made_again(way, false);
    }
}

/// By what strace has seen: after the last bpf() nothing is left of its rights.
#[test]
fn init_drops_all_rights_when_it_is_done() {
    let pod = Pod::new(Shape::Plain);
    let log = pod.tmp.file("strace");
    let init = pod.init_command(&[]);
    let mut strace = Command::new("strace");
    strace
        .args(["-qq", "-e", "trace=bpf,capset,prctl", "-o"])
        .arg(&log);
    run(strace.arg(init.get_program()).args(init.get_args()));
    let said = std::fs::read_to_string(&log).expect("strace's log");
    let (_, last) = said.rsplit_once("bpf(BPF").expect("it has called bpf()");
    let capset = "{effective=0, permitted=0, inheritable=0}) = 0";
    assert!(last.contains(capset), "{last}");
    assert!(last.contains("prctl(PR_SET_NO_NEW_PRIVS, 1"), "{last}");
}

/// In a pod the sidecar says why there is nothing, until there is.
#[test]
fn why_init_failed_reaches_the_sidecar() {
    let mut pod = Pod::new(Shape::Plain);
    let mut init = pod.init_command(&["--interface", "none0"]);
    run(init.env("METRICD_FAIL_OPEN", "true"));
    pod.start_waiting();
    assert!(eventually(PATIENCE, || pod.try_scrape().is_ok()));
    let scrape = pod.scrape();
    let up: Vec<_> = scrape.select("linkerd_ebpf_up", &[]).collect();
    let reason = &up[0].labels["reason"];
    assert!(
        reason.contains("metricd-init failed: find interface none0"),
        "{reason}"
    );
    pod.attach(&[]);
    assert_eq!(pod.scrape().sum("linkerd_ebpf_up", &[]), 1);
    assert!(!pod.pins.list().contains(&"linkerd_failure".to_owned()));
}
