//! Interfaces that come up later, and interfaces that lie upon each other.

use std::process::Command;

use crate::attach::WAYS;
use crate::client::Pair;
use crate::fixture::{METRICS, Pod, Shape};
use crate::netns::veth;
use crate::observed::Http;
use crate::process::{PATIENCE, eventually};
use crate::server::HTTP;

const OBSERVED: &str = "linkerd_ebpf_interface_observed";

/// metricd-init without `--interface`, in the pod's namespace as a pod's own is. Returns what it said.
fn init(pod: &Pod, flags: &[&str]) -> String {
    let mut command = Command::new("sh");
    command.args(["-c", "\"$@\" 2>&1", "sh"]);
    command.arg(env!("CARGO_BIN_EXE_metricd-init"));
    command.arg("--pin-dir").arg(pod.pins.path()).args(flags);
    pod.hook.run(&mut command)
}

/// The interfaces that a scrape names, and whether each is observed.
#[track_caller]
fn shows(pod: &Pod, expected: &[(&str, bool)]) {
    let shown = || {
        let scrape = pod.scrape();
        let lines = scrape.select(OBSERVED, &[]);
        let shown = lines.map(|line| (line.labels["interface"].clone(), line.value == 1.0));
        shown.collect::<Vec<_>>()
    };
    let expected: Vec<_> = expected
        .iter()
        .map(|(name, is)| ((*name).to_owned(), *is))
        .collect();
    // The kernel notices a carrier some time later.
    if !eventually(PATIENCE, || shown() == expected) {
        assert_eq!(shown(), expected);
    }
}

/// Another interface between client and pod, with the pod's address 10.9.`subnet`.2.
fn second(pod: &Pod, name: &str, subnet: u8) {
    veth((&pod.client, name), (&pod.hook, name));
    for (netns, host) in [(&pod.client, 1), (&pod.hook, 2)] {
        netns.ip(&format!("addr add 10.9.{subnet}.{host}/24 dev {name}"));
        netns.ip(&format!("link set {name} up"));
    }
}

/// A request and its answer to an address of the pod.
fn ask(pod: &Pod, ip: &str) {
    let at = format!("{ip}:{HTTP}").parse().expect("an address");
    let mut pair = Pair::new(&pod.client, &pod.hook, at);
    pair.client_says("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    pair.server_says("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    pair.close();
}

#[track_caller]
fn has_counted(pod: &Pod, requests: u64) {
    let answers = (requests > 0).then(|| ("200".to_owned(), requests));
    Http::answered(answers.into_iter().collect()).assert_in(&pod.ended(), HTTP);
}

fn diagnosis(pod: &Pod) -> String {
    let url = format!("http://127.0.0.1:{METRICS}/diagnose");
    pod.hook.run(Command::new("curl").args(["-fsS", &url]))
}

/// It is said that it is not observed, by a sidecar without any right; the next run attaches to it.
#[test]
fn one_that_comes_up_later() {
    for way in WAYS {
        let mut pod = Pod::new(Shape::Plain);
        init(&pod, &["--attach", way]);
        pod.start_without_rights();
        shows(&pod, &[("eth0", true)]);
        assert!(!diagnosis(&pod).contains("interface_observed"), "{way}");
        // Without a carrier it is not missed.
        pod.hook.ip("tuntap add mode tun down0");
        pod.hook.ip("link set down0 up");
        second(&pod, "net1", 3);
        shows(&pod, &[("eth0", true), ("net1", false)]);
        let said = diagnosis(&pod);
        assert!(said.contains("what passes net1 is not counted"), "{said}");
        ask(&pod, "10.9.3.2");
        has_counted(&pod, 0);
        init(&pod, &["--attach", way]);
        shows(&pod, &[("down0", true), ("eth0", true), ("net1", true)]);
        assert!(!diagnosis(&pod).contains("interface_observed"), "{way}");
        ask(&pod, "10.9.3.2");
        ask(&pod, "10.9.0.2");
        has_counted(&pod, 2);
        init(&pod, &["--detach"]);
        assert_eq!(pod.pins.list(), [""; 0], "{way}");
    }
}

/// What --interface does not name is not missed. What it names is, when it is made again.
#[test]
fn one_that_was_named() {
    let mut pod = Pod::new(Shape::Plain);
    second(&pod, "net1", 3);
    second(&pod, "net2", 4);
    init(&pod, &["--interface", "eth0,net1"]);
    pod.start_without_rights();
    shows(&pod, &[("eth0", true), ("net1", true)]);
    pod.hook.ip("link del net1");
    shows(&pod, &[("eth0", true)]);
    second(&pod, "net1", 3);
    shows(&pod, &[("eth0", true), ("net1", false)]);
    init(&pod, &["--interface", "eth0,net1"]);
    shows(&pod, &[("eth0", true), ("net1", true)]);
    ask(&pod, "10.9.3.2");
    has_counted(&pod, 1);
}

/// A sidecar elsewhere does not take its own interfaces for the pod's.
#[test]
fn from_another_namespace() {
    let mut pod = Pod::new(Shape::Plain);
    init(&pod, &[]);
    std::mem::swap(&mut pod.client, &mut pod.hook);
    pod.start();
    shows(&pod, &[]);
}

/// The address of the pod goes to a bridge over its interface.
fn bridge(pod: &Pod) {
    for words in [
        "addr del 10.9.0.2/24 dev eth0",
        "link add br0 type bridge",
        "link set eth0 master br0",
        "addr add 10.9.0.2/24 dev br0",
        "link set br0 up",
    ] {
        pod.hook.ip(words);
    }
}

/// A bridge sees what its ports hand up to the pod: it is observed in their place.
#[test]
fn a_bridge_and_its_port() {
    let mut pod = Pod::new(Shape::Plain);
    bridge(&pod);
    let said = init(&pod, &[]);
    assert!(
        said.contains("eth0: left out, its packets are seen at br0"),
        "{said}"
    );
    pod.start();
    shows(&pod, &[("br0", true)]);
    ask(&pod, "10.9.0.2");
    has_counted(&pod, 1);
}

/// What a macvlan lies upon sees the macvlan's packets and its own.
#[test]
fn a_macvlan_and_what_it_lies_upon() {
    let mut pod = Pod::new(Shape::Plain);
    pod.hook
        .ip("link add mac0 link eth0 type macvlan mode bridge");
    pod.hook.ip("addr add 10.9.3.2/24 dev mac0");
    pod.hook.ip("link set mac0 up");
    pod.client.ip("addr add 10.9.3.1/24 dev eth0");
    let said = init(&pod, &[]);
    assert!(
        said.contains("mac0: left out, its packets are seen at eth0"),
        "{said}"
    );
    pod.start();
    shows(&pod, &[("eth0", true)]);
    ask(&pod, "10.9.3.2");
    ask(&pod, "10.9.0.2");
    has_counted(&pod, 2);
}

/// Whoever names both is told what that means: packets count twice, and requests once.
#[test]
fn both_if_they_are_named() {
    let mut pod = Pod::new(Shape::Plain);
    bridge(&pod);
    let warning = "br0 lies upon eth0, and both are observed";
    assert!(!init(&pod, &["--interface", "br0"]).contains(warning));
    let said = init(&pod, &["--interface", "br0,eth0"]);
    assert!(said.contains(warning), "{said}");
    pod.start();
    ask(&pod, "10.9.0.2");
    has_counted(&pod, 1);
}

/// A virtual machine's interface is joined to the pod's by a bridge: its packets are seen where they
/// were seen before, and no interface is missed.
#[test]
fn a_bridge_that_is_made_over_an_observed_one() {
    let mut pod = Pod::new(Shape::Plain);
    init(&pod, &[]);
    pod.start();
    bridge(&pod);
    shows(&pod, &[("eth0", true)]);
    init(&pod, &[]);
    shows(&pod, &[("eth0", true)]);
    ask(&pod, "10.9.0.2");
    has_counted(&pod, 1);
}

/// Requests come in by one interface, and their answers go out by another: it is one connection.
#[test]
fn one_for_each_direction() {
    for way in WAYS {
        let mut pod = Pod::new(Shape::Plain);
        second(&pod, "net1", 3);
        pod.hook.ip("route add 10.9.0.1/32 dev net1");
        for netns in [&pod.client, &pod.hook] {
            for interface in ["all", "eth0", "net1"] {
                netns.sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
            }
        }
        init(&pod, &["--attach", way]);
        pod.start();
        shows(&pod, &[("eth0", true), ("net1", true)]);
        let before = pod.hook.interface("net1");
        ask(&pod, "10.9.0.2");
        let sent = pod.hook.interface("net1").sent_packets - before.sent_packets;
        assert!(sent >= 3, "{way}: {sent} packets by net1");
        has_counted(&pod, 1);
        let scrape = pod.ended();
        let of_port = [("proto", "tcp"), ("dst_port", "80")];
        assert_eq!(
            scrape.sum("linkerd_ebpf_connections_opened_total", &of_port),
            1,
            "{way}"
        );
        assert_eq!(
            scrape.sum("linkerd_ebpf_state_lost_total", &of_port),
            0,
            "{way}"
        );
    }
}
