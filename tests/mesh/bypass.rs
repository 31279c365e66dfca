//! What does not go through the proxy, and what is nobody's request.

use std::process::Command;

use kit::machine::binaries;

use crate::fixture::binary;
use crate::load::{check, command};
use crate::process::output;
use crate::server::HTTP;
use crate::world::{Mesh, SKIPPED, World, assert_nothing_is_left, borrowed};

/// Ports that are skipped are counted on eth0, as in any pod.
#[test]
fn skipped_ports_count_once() {
    for mesh in Mesh::ALL {
        let world = World::new(mesh, false, &[]);
        let pod = &world.pod;
        for way in world.ways(SKIPPED) {
            check(&way.from.run(&mut command(100, &[way.url("200")])), 100);
        }
        let scrape = pod.ended();
        for mut way in world.ways(SKIPPED) {
            if way.direction == "inbound" {
                let family = way.family();
                way.src = pod.client_ip(family).to_string();
            }
            let labels = way.labels();
            let labels = borrowed(&labels);
            let requests = scrape.sum("linkerd_ebpf_requests_total", &labels);
            assert_eq!(requests, 100, "{mesh:?} {labels:?}\n{}", scrape.text);
        }
        for direction in ["inbound", "outbound"] {
            let all = scrape.sum("linkerd_ebpf_requests_total", &[("direction", direction)]);
            assert_eq!(all, 200, "{mesh:?} {direction}");
        }
        assert_nothing_is_left(&scrape);
    }
}

/// What containers of the pod ask each other is neither inbound nor outbound.
#[test]
fn what_stays_in_the_pod_is_local() {
    let world = World::new(Mesh::Linkerd, false, &[]);
    let pod = &world.pod;
    let url = format!("http://127.0.0.1:{HTTP}/404");
    check(&pod.hook.run(&mut command(200, &[url])), 200);
    let scrape = pod.ended();
    let labels = [("direction", "local"), ("dst_port", "80")];
    let responses = scrape.by("status", "linkerd_ebpf_responses_total", &labels);
    assert_eq!(responses, [("404".to_owned(), 200)].into());
    for direction in ["inbound", "outbound"] {
        let all = scrape.sum("linkerd_ebpf_requests_total", &[("direction", direction)]);
        assert_eq!(all, 0, "{direction}");
    }
}

/// The proxy's connections with what is outside are L4, told apart from those that are no proxy's.
#[test]
fn the_proxys_own_connections_have_it_as_their_origin() {
    let world = World::new(Mesh::Linkerd, true, &[]);
    let pod = &world.pod;
    let mut ways = world.ways(HTTP);
    for way in &mut ways {
        if way.direction == "outbound" {
            way.at.set_port(crate::server::HTTPS);
        }
        check(&way.from.run(&mut command(100, &[way.url("200")])), 100);
    }
    let scrape = pod.ended();
    for way in &ways {
        let (ip, port) = (way.at.ip().to_string(), way.at.port().to_string());
        let to = [
            ("dst_ip", &*ip),
            ("dst_port", &*port),
            ("direction", way.direction),
        ];
        let proxys = [&to[..], &[("origin", "proxy")]].concat();
        let sum = |name: &str, labels: &[(&str, &str)]| {
            scrape.sum(&format!("linkerd_ebpf_{name}_total"), labels)
        };
        // One connection for each, on both sides of the proxy.
        assert_eq!(sum("connections_opened", &to), 100, "{}", scrape.text);
        assert_eq!(sum("connections_opened", &proxys), 50);
        assert_eq!(sum("tls_connections", &proxys), 50);
        assert_eq!(sum("requests", &proxys), 0);
        assert_eq!(sum("requests", &to), 100);
    }
}

/// A proxy that is not there refuses connections, which are told as what they were to be.
#[test]
fn refused_connections_are_the_directions() {
    let mut world = World::new(Mesh::Linkerd, false, &[]);
    world.kill_proxy();
    for way in world.ways(HTTP) {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "--max-time", "5", &way.url("200")]);
        let code = way.from.inside(|| output(&mut curl)).status.code();
        assert_eq!(code, Some(7), "{}", way.at);
    }
    let scrape = world.pod.ended();
    let closed = "linkerd_ebpf_connections_closed_total";
    // By IPv4 and by IPv6. What has never opened a connection has no series of its own.
    for direction in ["inbound", "outbound"] {
        let labels = [
            ("direction", direction),
            ("dst_port", "80"),
            ("reason", "refused"),
            ("origin", "unopened"),
        ];
        assert_eq!(
            scrape.sum(closed, &labels),
            2,
            "{direction}\n{}",
            scrape.text
        );
    }
}

/// `diagnose` compares with what the kernel has counted between proxy and application.
#[test]
fn diagnose_finds_the_pod_whole() {
    let world = World::new(Mesh::Linkerd, false, &[]);
    for way in world.ways(HTTP) {
        check(&way.from.run(&mut command(100, &[way.url("404")])), 100);
    }
    world.pod.ended();
    let mut command = binary(binaries::path("linkerd-metricd"));
    command.args(["diagnose", "--output", "json"]);
    let said = world.pod.hook.inside(|| output(&mut command));
    let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("JSON");
    assert_eq!(said["whole"], true, "{said:#}");
}
