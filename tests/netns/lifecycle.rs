//! metricd: starting, stopping, starting again; and that nobody notices.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::attach::WAYS;
use crate::client::connect;
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::load::{check, command, h2load};
use crate::observed::{Connections, Http, io};
use crate::process::{PATIENCE, eventually, run};
use crate::server::{HTTP, Nginx, STATUSES, urls};

fn responses(scrape: &Scrape) -> u64 {
    scrape.sum("linkerd_ebpf_responses_total", &[("dst_port", "80")])
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
    let requests = 200_000;
    let mut load = command(requests, &urls(&pod, Family::V4, &["200"]));
    let client = pod.client.spawn(move || run(&mut load));
    let (mut rounds, mut counted) = (0, 0);
    while !client.is_finished() || rounds == 0 {
        let way = WAYS[rounds % 2];
        pod.attach(&["--attach", way]);
        pod.start();
        pod.attach(&["--attach", way]);
        // Its connections may all be older than the programs: their packets count.
        counted += io(&pod.scrape(), "recv", &[("dst_port", "80")]).1;
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

#[test]
fn metricd_needs_no_rights() {
    let mut pod = Pod::new(Shape::Plain);
    pod.attach(&["--reader-gid", "65534"]);
    pod.start_without_rights();
    let id = pod.metricd().id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("status");
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
    // How often each of its threads has run so far.
    let runs = || -> BTreeMap<OsString, u64> {
        fs::read_dir(format!("/proc/{id}/task"))
            .expect("tasks")
            .map(|task| task.expect("a task"))
            .map(|task| (task.file_name(), context_switches(&task.path())))
            .collect()
    };
    // A connection that has just ended is still being put away.
    thread::sleep(Duration::from_secs(1));
    let before = runs();
    h2load(&pod, 20_000, &urls(&pod, Family::V4, &["200"]));
    let _open = connect(&pod.client, pod.server_at(Family::V4, HTTP));
    thread::sleep(Duration::from_secs(1));
    // A thread that was only waiting for more work may have ended.
    for (thread, count) in runs() {
        assert_eq!(before.get(&thread), Some(&count), "{thread:?} has run");
    }
    assert_eq!(responses(&pod.scrape()), 20_000);
}

/// 0 if it has just ended.
fn context_switches(task: &Path) -> u64 {
    let status = fs::read_to_string(task.join("status")).unwrap_or_default();
    let lines = status.lines().filter(|line| line.contains("ctxt_switches"));
    let counts = lines.filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    counts.sum()
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
