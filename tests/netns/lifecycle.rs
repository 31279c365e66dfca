//! Starting, stopping, starting again; and what is left when it is all over.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::client::connect;
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape, binary};
use crate::load::{check, command, h2load};
use crate::observed::{Connections, Http};
use crate::process::{PATIENCE, eventually, output, run};
use crate::server::{HTTP, Nginx, STATUSES, urls};

const WAYS: [&str; 2] = ["tcx", "clsact"];

/// Every program and filter on the pod's interface, as the kernel lists them.
fn attached(pod: &Pod) -> String {
    let tc = |direction| {
        let mut command = Command::new("tc");
        command.args(["filter", "show", "dev", "eth0", direction]);
        pod.hook.run(&mut command)
    };
    let mut bpftool = Command::new("bpftool");
    bpftool.args(["net", "show", "dev", "eth0"]);
    let listed = pod.hook.run(&mut bpftool);
    let of_ours = |line: &&str| line.contains("linkerd_");
    let listed: Vec<&str> = listed.lines().filter(of_ours).collect();
    tc("ingress") + &tc("egress") + &listed.join("\n")
}

fn qdiscs(pod: &Pod) -> String {
    pod.hook
        .run(Command::new("tc").args(["qdisc", "show", "dev", "eth0"]))
}

fn responses(scrape: &Scrape) -> u64 {
    scrape.sum("linkerd_ebpf_responses_total", &[("dst_port", "80")])
}

/// By which way it was asked for, and both directions.
#[test]
fn attaches_the_way_it_is_told() {
    for way in WAYS {
        let pod = Pod::measured(Shape::Plain, &["--attach", way]);
        let attached = attached(&pod);
        assert!(attached.contains("linkerd_ingress"), "{attached}");
        assert!(attached.contains("linkerd_egress"), "{attached}");
        assert_eq!(qdiscs(&pod).contains("clsact"), way == "clsact");
    }
}

#[test]
fn detach_leaves_nothing() {
    for way in WAYS {
        let pod = Pod::measured(Shape::Plain, &["--attach", way]);
        assert!(!pod.pins.list().is_empty());
        pod.attach(&["--detach"]);
        assert_eq!(attached(&pod), "", "{way}");
        assert_eq!(pod.pins.list(), [""; 0], "{way}");
        // Nothing to detach: no error.
        pod.attach(&["--detach"]);
        // And it can begin anew.
        pod.attach(&["--attach", way]);
        assert!(attached(&pod).contains("linkerd_egress"));
    }
}

/// Packets that the filters of others behind ours have had, from `tc -s`.
fn seen_by_others(pod: &Pod) -> [u64; 2] {
    ["ingress", "egress"].map(|direction| {
        let mut command = Command::new("tc");
        command.args(["-s", "filter", "show", "dev", "eth0", direction]);
        let shown = pod.hook.run(&mut command);
        let (_, rest) = shown.split_once("Sent ").expect("statistics");
        let count = rest.split(' ').nth(2).expect("packets");
        count.parse().expect("a number")
    })
}

/// Filters and qdiscs of others stay, before, while and after ours are there; and get what ours
/// have seen.
#[test]
fn what_others_attached_stays() {
    let pod = Pod::new(Shape::Plain);
    let tc = |words: &str| {
        let mut command = Command::new("tc");
        pod.hook.run(command.args(words.split(' ')))
    };
    tc("qdisc add dev eth0 root handle 7: htb");
    tc("qdisc add dev eth0 clsact");
    for direction in ["ingress", "egress"] {
        tc(&format!(
            "filter add dev eth0 {direction} protocol all prio 49000 u32 match u32 0 0 \
             action mirred egress mirror dev lo"
        ));
    }
    let (filters, shape) = (attached(&pod), qdiscs(&pod));
    for way in WAYS {
        pod.attach(&["--attach", way]);
        assert!(attached(&pod).contains("linkerd_ingress"));
        let before = seen_by_others(&pod);
        pod.pair(HTTP).close();
        let after = seen_by_others(&pod);
        assert!(after[0] >= before[0] + 4, "{way}: {before:?} {after:?}");
        assert!(after[1] >= before[1] + 3, "{way}: {before:?} {after:?}");
        pod.attach(&["--detach"]);
        assert_eq!(attached(&pod), filters, "{way}");
        assert_eq!(qdiscs(&pod), shape, "{way}");
    }
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
    assert_eq!(attached(&pod), "");
    assert_eq!(pod.pins.list(), [""; 0]);
}

#[test]
fn counters_survive_the_killing_of_metricd() {
    let mut pod = Pod::measured(Shape::Plain, &[]);
    let nginx = Nginx::start(&pod);
    h2load(&pod, 3000, &urls(&pod, Family::V4, &STATUSES));
    let before = pod.ended();
    pod.metricd().kill();
    assert!(pod.try_scrape().is_err(), "it is dead");
    h2load(&pod, 1200, &urls(&pod, Family::V4, &STATUSES));
    pod.start();
    let after = pod.ended();
    assert_eq!((responses(&before), responses(&after)), (3000, 4200));
    Http::answered(nginx.responses(4200)).assert_in(&after, HTTP);
    // And what stood before stands.
    for sample in before.samples.iter().filter(|s| s.name.ends_with("_total")) {
        let labels: Vec<(&str, &str)> = sample
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        if sample.labels.contains_key("direction") {
            let now = after.value(&sample.name, &labels);
            assert!(now >= sample.value, "{sample:?} is {now} now");
        }
    }
}

/// A client under load, while all that can be done to our side is done: it sees no error.
#[test]
fn nothing_we_do_shows_in_the_clients_errors() {
    let mut pod = Pod::new(Shape::Plain);
    let _nginx = Nginx::start(&pod);
    let requests = 150_000;
    let mut load = command(requests, &urls(&pod, Family::V4, &["200"]));
    let client = pod.client.spawn(move || run(&mut load));
    let (mut rounds, mut counted) = (0, 0);
    while !client.is_finished() || rounds == 0 {
        let way = WAYS[rounds % 2];
        pod.attach(&["--attach", way]);
        pod.start();
        pod.attach(&["--attach", way]);
        counted += responses(&pod.scrape());
        pod.metricd().kill();
        pod.attach(&["--detach"]);
        rounds += 1;
    }
    check(&client.join().expect("h2load"), requests);
    assert!(rounds > 1 && counted > 0, "the load was over too soon");
}

/// The sidecar may be first: it says that there is nothing yet, and then finds it.
#[test]
fn metricd_waits_for_the_pins() {
    let mut pod = Pod::new(Shape::Plain);
    pod.start_waiting();
    let answers = eventually(PATIENCE, || pod.try_scrape().is_ok());
    assert!(answers, "{}", pod.metricd().said());
    let scrape = pod.scrape();
    let up: Vec<_> = scrape.select("linkerd_ebpf_up", &[]).collect();
    assert_eq!(up.len(), 1);
    assert_eq!(up[0].value, 0.0);
    let reason = up[0].labels.get("reason");
    assert!(reason.is_some_and(|reason| !reason.is_empty()), "{up:?}");
    pod.attach(&[]);
    let found = eventually(PATIENCE, || pod.scrape().sum("linkerd_ebpf_up", &[]) == 1);
    assert!(found, "{}", pod.scrape().text);
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
}

/// The maps are replaced under a running metricd: it shows the new ones.
#[test]
fn metricd_finds_new_maps() {
    let pod = Pod::measured(Shape::Plain, &[]);
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
    pod.attach(&["--detach"]);
    assert_eq!(pod.scrape().sum("linkerd_ebpf_up", &[]), 0);
    pod.attach(&[]);
    pod.pair(HTTP).close();
    pod.pair(HTTP).close();
    let scrape = pod.settled(|scrape| scrape.sum("linkerd_ebpf_up", &[]) == 1);
    Connections::closed("fin", 2).assert_in(&scrape, HTTP);
}

/// As in a pod: nobody, no capability, none to be had.
#[test]
fn metricd_needs_no_rights() {
    let mut pod = Pod::new(Shape::Plain);
    pod.attach(&["--reader-gid", "65534"]);
    let metricd = binary(env!("CARGO_BIN_EXE_metricd"));
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    command.args(["--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]);
    command.arg(metricd.get_program()).arg("--pin-dir");
    command.arg(pod.pins.path());
    pod.start_as(command);
    let up = eventually(PATIENCE, || {
        pod.try_scrape()
            .is_ok_and(|scrape| scrape.sum("linkerd_ebpf_up", &[]) == 1)
    });
    assert!(up, "{}", pod.metricd().said());
    let id = pod.metricd().id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("status");
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line").trim().to_owned()
    };
    assert_eq!(of("CapEff:"), "0000000000000000");
    assert_eq!(of("CapBnd:"), "0000000000000000");
    assert!(of("Uid:").starts_with("65534"));
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
}

/// Between scrapes it sleeps, whatever the traffic.
#[test]
fn metricd_does_nothing_between_scrapes() {
    let mut pod = Pod::measured(Shape::Plain, &[]);
    let _nginx = Nginx::start(&pod);
    pod.scrape();
    let id = pod.metricd().id();
    let switches = || -> u64 {
        let read = |task: std::fs::DirEntry| {
            let status = std::fs::read_to_string(task.path().join("status")).expect("status");
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            counts
                .map(|line| {
                    line.split_whitespace()
                        .nth(1)
                        .unwrap()
                        .parse::<u64>()
                        .unwrap()
                })
                .sum::<u64>()
        };
        std::fs::read_dir(format!("/proc/{id}/task"))
            .expect("tasks")
            .map(|task| read(task.expect("a task")))
            .sum()
    };
    // A connection that has just ended is still being put away.
    thread::sleep(Duration::from_secs(1));
    let before = switches();
    h2load(&pod, 20_000, &urls(&pod, Family::V4, &["200"]));
    let _open = connect(&pod.client, pod.server_at(Family::V4, HTTP));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(switches() - before, 0, "times that metricd ran");
    assert_eq!(responses(&pod.scrape()), 20_000);
}

/// SIGTERM ends it at once, with exit code 0.
#[test]
fn metricd_stops_when_told_to() {
    let mut pod = Pod::measured(Shape::Plain, &[]);
    let id = i32::try_from(pod.metricd().id()).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(id);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("kill");
    let ended = eventually(Duration::from_secs(5), || {
        pod.metricd().exit_code() == Some(0)
    });
    assert!(ended, "{}", pod.metricd().said());
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
    let mut in_a_pod = pod.init_command(&["--interface", "none0"]);
    let open = output(in_a_pod.env("METRICD_FAIL_OPEN", "true"));
    assert!(open.status.success(), "{open:?}");
}
