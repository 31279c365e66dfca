//! Many requests, as their clients, their servers, the proxy and the programs that count have them.

use std::process::Command;

use crate::fixture::Pod;
use crate::load::{check, command, requests};
use crate::netns::Netns;
use crate::server::{HTTP, Nginx};
use crate::world::{FAMILIES, World, expected, outside};

/// Connections that the client of [`command`] makes.
const CONNECTIONS: u64 = 50;

/// One way at a time, over either family. The proxy speaks plain HTTP on both sides: requests are counted on
/// the loopback, between proxy and application, and on eth0 there is the proxy's connection.
fn requests_are_counted_once(way: &str, netns: fn(&Pod) -> [&Netns; 2]) {
    let mut world = World::redirected(&[]);
    world.pod.start();
    let requests = requests() / 10;
    let mut at = Vec::new();
    let pod = &world.pod;
    let [from, to] = netns(pod);
    let nginx = Nginx::start_in(pod, to);
    for family in FAMILIES {
        let there = match way {
            "inbound" => pod.server_at(family, HTTP),
            _ => outside(family, HTTP)[0],
        };
        at.push(there);
        let said = from.run(&mut command(requests, &[format!("http://{there}/200")]));
        check(&said, requests);
    }
    assert_eq!(
        nginx.responses(2 * requests).values().sum::<u64>(),
        2 * requests
    );
    assert_eq!(
        world.proxy.logged(2 * CONNECTIONS),
        expected(way, &at, CONNECTIONS)
    );
    let scrape = world.pod.ended();
    for (family, at) in FAMILIES.into_iter().zip(&at) {
        let dst = at.ip().to_string();
        let client = world.pod.client_ip(family).to_string();
        let pod = world.pod.server_ip(family).to_string();
        // The application's end, and then the proxy's connection with what is outside.
        let [src, outside] = match way {
            "inbound" => ["", client.as_str()],
            _ => [pod.as_str(), pod.as_str()],
        };
        let of = |src| {
            [
                ("direction", way),
                ("src_ip", src),
                ("dst_ip", dst.as_str()),
                ("dst_port", "80"),
            ]
        };
        let labels = of(src);
        let sum = |name| scrape.sum(name, &labels);
        assert_eq!(sum("linkerd_ebpf_requests_total"), requests, "{labels:?}");
        assert_eq!(sum("linkerd_ebpf_responses_total"), requests, "{labels:?}");
        let proxys = [&of(outside)[..], &[("origin", "proxy")]].concat();
        let opened = |labels| scrape.sum("linkerd_ebpf_connections_opened_total", labels);
        assert_eq!(opened(&proxys), CONNECTIONS, "{proxys:?}");
        let both = opened(&labels) + if src == outside { 0 } else { CONNECTIONS };
        assert_eq!(both, 2 * CONNECTIONS, "{labels:?}");
    }
    let all = [("direction", way)];
    let all = scrape.sum("linkerd_ebpf_requests_total", &all);
    assert_eq!(all, 2 * requests);
    let lost = scrape.sum("linkerd_ebpf_state_lost_total", &[("dst_port", "80")]);
    assert_eq!(lost, 0);
}

#[test]
fn inbound_requests_are_counted_once() {
    requests_are_counted_once("inbound", |pod| [&pod.client, &pod.hook]);
}

#[test]
fn outbound_requests_are_counted_once() {
    requests_are_counted_once("outbound", |pod| [&pod.hook, &pod.client]);
}

/// As many connections as wrk can make, each for one request.
#[test]
fn short_connections_by_wrk() {
    let world = World::redirected(&[]);
    let pod = &world.pod;
    let _nginx = Nginx::start(pod);
    for family in FAMILIES {
        let at = pod.server_at(family, HTTP);
        let mut wrk = Command::new("wrk");
        wrk.args(["-t1", "-c20", "-d2s", "-H", "Connection: close"]);
        let said = pod.client.run(wrk.arg(format!("http://{at}/200")));
        assert!(
            !said.contains("Socket errors") && !said.contains("Non-2xx"),
            "{said}"
        );
        let requests = said
            .lines()
            .find_map(|line| line.trim().split_once(" requests in "));
        let requests: u64 = requests.expect("a sum").0.parse().expect("a number");
        let had = *world
            .proxy
            .log()
            .get(&("inbound".to_owned(), at))
            .expect("some");
        // What is under way when time is up is not counted by wrk.
        assert!(
            (requests..=requests + 40).contains(&had),
            "{requests} of {had}"
        );
    }
}
