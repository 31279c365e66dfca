//! Connections that are older than the programs, programs that are replaced, and ports that are used again.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kit::machine::binaries;

use crate::fixture::{Pod, binary};
use crate::load::{check, command};
use crate::netns::Netns;
use crate::process::run;
use crate::server::HTTP;
use crate::world::{FAMILIES, Mesh, World, assert_nothing_is_left, borrowed, outside};

fn ask(stream: &mut TcpStream) {
    stream
        .write_all(b"GET /404 HTTP/1.1\r\nHost: a\r\n\r\n")
        .expect("a request");
    let mut answer = [0; 1 << 12];
    let read = stream.read(&mut answer).expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 404"));
}

/// Both ways, over both families.
fn begin(pod: &Pod) -> Vec<TcpStream> {
    let connect = |netns: &Netns, at: (std::net::IpAddr, u16)| {
        netns.inside(|| TcpStream::connect(at).expect("a connection"))
    };
    FAMILIES
        .into_iter()
        .flat_map(|family| {
            [
                connect(&pod.client, (pod.server_ip(family), HTTP)),
                connect(&pod.hook, (outside(family), HTTP)),
            ]
        })
        .collect()
}

/// They are L4, with the labels that they would have had, and lost to L7, visibly.
#[test]
fn connections_that_are_older_have_their_direction() {
    for mesh in [Mesh::Linkerd, Mesh::Istio] {
        let mut begun = Vec::new();
        let world = World::attached_after(mesh, false, &[], |pod| {
            begun = begin(pod);
            begun.iter_mut().for_each(ask);
        });
        for _ in 0..3 {
            begun.iter_mut().for_each(ask);
        }
        drop(begun);
        let scrape = world.pod.ended();
        for way in world.ways(HTTP) {
            let labels = way.labels();
            let labels = borrowed(&labels);
            let opened = scrape.select("linkerd_ebpf_connections_opened_total", &labels);
            let opened: f64 = opened
                .filter(|sample| !sample.labels.contains_key("origin"))
                .map(|sample| sample.value)
                .sum();
            assert_eq!(opened, 1.0, "{mesh:?} {labels:?}\n{}", scrape.text);
            let lost = [&labels[..], &[("reason", "midstream")]].concat();
            assert!(scrape.sum("linkerd_ebpf_state_lost_total", &lost) > 0);
        }
        for direction in ["inbound", "outbound", "local"] {
            let labels = [("direction", direction), ("dst_port", "80")];
            assert_eq!(scrape.sum("linkerd_ebpf_requests_total", &labels), 0);
        }
    }
}

/// Requests go on while the programs, and the maps, are replaced.
#[test]
fn upgrades_lose_nothing() {
    let world = World::new(Mesh::Linkerd, false, &[]);
    let pod = &world.pod;
    let done = AtomicBool::new(false);
    let totals: Vec<u64> = thread::scope(|scope| {
        let done = &done;
        let loads: Vec<_> = world
            .ways(HTTP)
            .into_iter()
            .map(|way| {
                scope.spawn(move || {
                    let mut total = 0;
                    while total == 0 || !done.load(Ordering::Relaxed) {
                        check(&way.from.run(&mut command(500, &[way.url("200")])), 500);
                        total += 500;
                    }
                    total
                })
            })
            .collect();
        for size in ["2000", "4000"] {
            thread::sleep(Duration::from_millis(500));
            let mut resize = binary(binaries::path("linkerd-metricd"));
            resize.args(["resize", "--map-size", size, "--netns", &pod.hook.path()]);
            run(resize.arg("--pin-dir").arg(pod.pins.path()));
        }
        done.store(true, Ordering::Relaxed);
        let loads = loads.into_iter();
        loads.map(|load| load.join().expect("no panic")).collect()
    });
    let scrape = pod.ended();
    for (way, total) in world.ways(HTTP).into_iter().zip(totals) {
        let labels = way.labels();
        let labels = borrowed(&labels);
        let requests = scrape.sum("linkerd_ebpf_requests_total", &labels);
        assert_eq!(requests, total, "{labels:?}\n{}", scrape.text);
    }
    assert_nothing_is_left(&scrape);
}

/// The ports of the pod come round, for destinations that change: iptables then gives connections other ports.
#[test]
fn ports_that_are_used_again() {
    for detail in ["service", "full"] {
        let world = World::new(Mesh::Linkerd, false, &["--detail", detail]);
        let pod = &world.pod;
        pod.hook
            .sysctl("net/ipv4/ip_local_port_range", "40000 40127");
        pod.hook.sysctl("net/ipv4/tcp_tw_reuse", "1");
        let ways = world.ways(HTTP);
        let outbound = ways.iter().filter(|way| way.direction == "outbound");
        let mut total = 0;
        for _ in 0..4 {
            for way in outbound.clone() {
                for _ in 0..20 {
                    let mut curl = Command::new("curl");
                    curl.args(["-s", "-o", "/dev/null", &way.url("200")]);
                    // Without a free port nothing is sent.
                    curl.args(["--retry", "20", "--retry-delay", "1", "--retry-all-errors"]);
                    way.from.run(&mut curl);
                    total += 1;
                }
            }
        }
        let scrape = pod.ended();
        let labels = [("direction", "outbound"), ("dst_port", "80")];
        let requests = scrape.sum("linkerd_ebpf_requests_total", &labels);
        assert_eq!(requests, total, "{detail}\n{}", scrape.text);
        assert_nothing_is_left(&scrape);
    }
}
