//! Other programs, and other maps, in the place of those that run, while there is traffic.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use metricd::abi::LAYOUT_VERSION;

use crate::attach::{WAYS, attached};
use crate::fixture::{Family, Pod, Shape, binary};
use crate::load::{check, from_environment};
use crate::observed::{Connections, Http, assert_timed};
use crate::peers::{PORT, nghttpd, urls};
use crate::process::{output, run};
use crate::server::HTTP;

pub const CLI: &str = env!("CARGO_BIN_EXE_linkerd-metricd");

/// `linkerd-metricd upgrade`, `resize` or `detach` on the pod.
pub fn operation(pod: &Pod, program: &Path, args: &[&str]) -> Command {
    let mut command = binary(program.to_str().expect("a path"));
    command.args(args).args(["--netns", &pod.hook.path()]);
    command.arg("--pin-dir").arg(pod.pins.path());
    command
}

/// Does so; it must succeed. Returns what it said.
fn operate(pod: &Pod, program: &Path, args: &[&str]) -> String {
    let done = output(&mut operation(pod, program, args));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{args:?}: {said}");
    said
}

fn upgrade(pod: &Pod) -> String {
    operate(pod, Path::new(CLI), &["upgrade"])
}

fn resize(pod: &Pod, entries: u32) -> String {
    operate(
        pod,
        Path::new(CLI),
        &["resize", "--map-size", &entries.to_string()],
    )
}

/// The same command line of a version whose maps have another layout.
fn next_layout() -> PathBuf {
    static BUILD: Once = Once::new();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/next-layout");
    BUILD.call_once(|| {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args([
            "build",
            "--locked",
            "--quiet",
            "--features",
            "next-layout",
            "--bins",
        ]);
        cargo.arg("--target-dir").arg(&target);
        run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")));
    });
    target.join("debug/linkerd-metricd")
}

/// gRPC at 10,000 requests a second: so many requests of ten connections, ten streams each.
fn grpc_load(pod: &Pod, requests: u64) -> Command {
    let body = pod.tmp.file("message");
    std::fs::write(&body, b"\0\0\0\0\x05hello").expect("a message");
    let mut command = Command::new("h2load");
    command.args(["-c", "10", "-m", "10", "--rps", "1000"]);
    command.args(["-n", &requests.to_string()]);
    command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
    command.arg(format!("--data={}", body.display()));
    command.args(urls(pod, Family::V4, &["4k"]));
    command
}

/// What is done to the pod under load: loads one after the other, until all is done. Then all
/// requests and their statuses are there, though programs and maps have changed under them.
pub fn under_load(pod: &mut Pod, rounds: usize, mut what: impl FnMut(&mut Pod, usize)) {
    const REQUESTS: u64 = 50_000;
    let _nghttpd = nghttpd(pod, pod.server(), &["--trailer", "grpc-status: 0"]);
    let is_done = Arc::new(AtomicBool::new(false));
    let mut load = grpc_load(pod, REQUESTS);
    let client = pod.client.spawn({
        let is_done = is_done.clone();
        move || {
            let mut loads = 0;
            while !is_done.load(Ordering::Relaxed) {
                check(&run(&mut load), REQUESTS);
                loads += 1;
            }
            loads
        }
    });
    (0..rounds).for_each(|round| what(pod, round));
    is_done.store(true, Ordering::Relaxed);
    let loads: u64 = client.join().expect("no load failed");
    let requests = loads * REQUESTS;
    let scrape = pod.ended();
    let of = |status: &str| BTreeMap::from([(status.to_owned(), requests)]);
    let mut expected = Http::answered(of("200"));
    expected.grpc = of("0");
    expected.assert_as("grpc", &scrape, PORT);
    assert_timed("grpc", &scrape, PORT, requests);
    Connections::of(&scrape, PORT).assert_ended(10 * loads);
}

/// METRICD_TEST_UPGRADES makes it longer: 20 upgrades and a quarter as many resizes.
fn upgrades_under_load(way: &str) {
    let mut pod = Pod::measured(Shape::Plain, &["--attach", way, "--map-size", "100"]);
    let upgrades = from_environment("METRICD_TEST_UPGRADES", 8);
    let rounds = (upgrades + upgrades / 4) as usize;
    under_load(&mut pod, rounds, |pod, round| {
        if round % 5 == 4 {
            resize(pod, 100 + round as u32);
        } else {
            upgrade(pod);
        }
    });
    let expected = WAYS.map(|other| other == way);
    assert_eq!(attached(&pod).ways(), expected, "{:?}", attached(&pod));
}

#[test]
fn upgrades_and_resizes_under_load_by_tcx() {
    upgrades_under_load("tcx");
}

#[test]
fn upgrades_and_resizes_under_load_by_clsact() {
    upgrades_under_load("clsact");
}

/// There and back: the sidecar, which is of the one version, says what it does not know.
#[test]
fn changes_of_the_layout_under_load() {
    let mut pod = Pod::measured(Shape::Plain, &[]);
    let next = next_layout();
    under_load(&mut pod, 2, |pod, round| {
        let cli = if round == 0 { &next } else { Path::new(CLI) };
        let said = operate(pod, cli, &["upgrade"]);
        assert!(said.contains(&format!("epoch {}", round + 2)), "{said}");
        pod.scrape();
    });
    let said = pod.metricd().said();
    let (known, next) = (LAYOUT_VERSION, LAYOUT_VERSION + 1);
    let differ = format!("have layout {next}, this metricd knows {known}");
    assert!(said.contains(&differ), "{said}");
}

/// What began before and ends after, on a connection that was there before.
#[test]
fn what_is_under_way_goes_on() {
    for way in WAYS {
        let pod = Pod::measured(Shape::Plain, &["--attach", way]);
        let mut pair = pod.pair(HTTP);
        pair.client_says("GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHo");
        resize(&pod, 20);
        pair.client_says("st: b\r\n\r\n");
        pair.server_says("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na");
        upgrade(&pod);
        pair.server_says("bcHTTP/1.1 40");
        resize(&pod, 30);
        pair.server_says("4 No\r\nContent-Length: 0\r\n\r\n");
        let open = pod.settled(|_| true);
        let answered = Http::requests(2).response("200", 1).response("404", 1);
        answered.assert_in(&open, HTTP);
        assert_timed("http1", &open, HTTP, 2);
        resize(&pod, 40);
        pair.close();
        let ended = pod.ended();
        answered.assert_in(&ended, HTTP);
        Connections::closed("fin", 1).assert_in(&ended, HTTP);
        let capacity = [("map", "linkerd_metrics_map")];
        let capacity = ended.sum("linkerd_ebpf_map_capacity", &capacity);
        assert_eq!(capacity, 40, "{}", ended.text);
    }
}

/// A connection of before an epoch that is closed by the table, not by a packet of its own.
#[test]
fn an_eviction_is_of_the_connection_that_it_ends() {
    let pod = Pod::measured(Shape::Plain, &["--connections", "1", "--detail", "full"]);
    let mut old = pod.pair(HTTP);
    old.client_says("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let before = pod.settled(|_| true);
    let labels = |scrape: &crate::exposition::Scrape| {
        let name = "linkerd_ebpf_connections_opened_total";
        let mut lines = scrape.select(name, &[("dst_port", "80")]);
        lines.next().expect("a connection").labels.clone()
    };
    let client_port = labels(&before)["src_port"].clone();
    resize(&pod, 50);
    let _new = pod.pair(8000);
    let after = pod.settled(|_| true);
    let of_old = [("src_port", client_port.as_str()), ("dst_port", "80")];
    let with = |name: &str, reason: &str| {
        let labels = [&of_old[..], &[("reason", reason)]].concat();
        after.sum(name, &labels)
    };
    assert_eq!(with("linkerd_ebpf_connections_closed_total", "evicted"), 1);
    assert_eq!(with("linkerd_ebpf_requests_aborted_total", "evicted"), 1);
    assert_eq!(after.sum("linkerd_ebpf_connections_active", &of_old), 0);
}

/// `metricd-init` again: of the same build and with the same settings it is done already.
#[test]
fn the_same_init_again_changes_nothing() {
    let pod = Pod::measured(Shape::Plain, &["--map-size", "100"]);
    let before = attached(&pod);
    let said = pod.attach(&[]);
    assert!(said.contains("already attached"), "{said}");
    let said = pod.attach(&["--map-size", "100"]);
    assert!(!said.contains("replaced"), "{said}");
    assert_eq!(attached(&pod), before);
    // And with others it makes them so, but for what connections depend on.
    let said = pod.attach(&["--map-size", "200", "--connections", "77"]);
    assert!(
        said.contains("epoch 2") && said.contains("already attached"),
        "{said}"
    );
    assert!(said.contains("--connections stays 4096"), "{said}");
    let said = pod.attach(&["--ipv6", "false"]);
    assert!(said.contains("programs replaced"), "{said}");
    let said = pod.attach(&["--ipv6", "false", "--map-size", "200"]);
    assert!(!said.contains("replaced"), "{said}");
}

/// Here for want of descriptors; the kernel's refusal comes by the same way.
#[test]
fn what_fails_leaves_the_old_programs_running() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let (before, pins) = (attached(&pod), pod.pins.list());
    let mut command = binary(CLI);
    command.args([
        "resize",
        "--map-size",
        "16000000",
        "--netns",
        &pod.hook.path(),
    ]);
    command.arg("--pin-dir").arg(pod.pins.path());
    let failed = output(
        Command::new("prlimit")
            .arg("--nofile=16")
            .arg(command.get_program())
            .args(command.get_args()),
    );
    assert!(!failed.status.success(), "{failed:?}");
    assert_eq!(attached(&pod), before);
    assert_eq!(pod.pins.list(), pins);
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
}

#[test]
fn there_must_be_something_to_upgrade() {
    let pod = Pod::new(Shape::Plain);
    let mut command = binary(CLI);
    command.args(["upgrade", "--netns", &pod.hook.path()]);
    let failed = output(command.arg("--pin-dir").arg(pod.pins.path()));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(
        !failed.status.success() && said.contains("attach first"),
        "{said}"
    );
    assert_eq!(pod.pins.list(), [""; 0]);
    let mut command = binary(CLI);
    let failed = output(command.args(["resize", "--netns", &pod.hook.path()]));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("--map-size"), "{said}");
}

/// Programs that follow connections in another way, which this version can't go on from: they go on
/// themselves, until they are detached; and in a new sandbox they are forgotten.
#[test]
fn another_version_of_the_connections_state() {
    let mut pod = Pod::measured(Shape::Plain, &[]);
    let info = MapHandle::from_pinned_path(pod.pins.path().join("linkerd_info_map")).expect("info");
    let zero = 0u32.to_ne_bytes();
    let mut value = info
        .lookup(&zero, MapFlags::ANY)
        .expect("info")
        .expect("info");
    value[4] = 99;
    info.update(&zero, &value, MapFlags::ANY).expect("write");
    let before = attached(&pod);
    let refused = pod.init(&["--map-size", "50"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("of version 99"),
        "{said}"
    );
    assert_eq!(attached(&pod), before);
    pod.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), HTTP);
    let mut sandbox = Pod::new(Shape::Plain);
    std::mem::swap(&mut pod.pins, &mut sandbox.pins);
    let said = sandbox.attach(&[]);
    assert!(said.contains(": attached ("), "{said}");
    sandbox.start();
    sandbox.pair(HTTP).close();
    Connections::closed("fin", 1).assert_in(&sandbox.ended(), HTTP);
}
