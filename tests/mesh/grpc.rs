//! gRPC through the proxy, by grpcio on both sides.

use std::collections::BTreeMap;

use kit::pod::peers::{PORT, python, start_in};

use crate::world::{Mesh, World, assert_nothing_is_left, borrowed};

const ROUNDS: &str = "2";

fn calls_count_once(mesh: Mesh) {
    let world = World::new(mesh, false, &[]);
    let pod = &world.pod;
    let server = || {
        let mut command = python("grpc_server.py");
        command.arg(PORT.to_string());
        command
    };
    let _servers = [&pod.hook, &pod.client].map(|netns| start_in(pod, netns, server()));
    let mut expected = Vec::new();
    for way in world.ways(PORT) {
        let mut client = python("grpc_client.py");
        client.args([&way.at.to_string(), ROUNDS, "statuses"]);
        let said = way.from.run(&mut client);
        let line = |line: &str| {
            let (status, count) = line.split_once(' ').expect("two words");
            (status.to_owned(), count.parse().expect("a count"))
        };
        let counts: BTreeMap<String, u64> = said.lines().map(line).collect();
        assert!(!counts.is_empty());
        expected.push((way.labels(), counts));
    }
    let scrape = pod.ended();
    for (labels, counts) in expected {
        let labels = borrowed(&labels);
        let labels = [&labels[..], &[("protocol", "grpc")]].concat();
        let answered = scrape.by("grpc_status", "linkerd_ebpf_responses_total", &labels);
        assert_eq!(answered, counts, "{labels:?}");
    }
    assert_nothing_is_left(&scrape);
}

#[test]
fn by_linkerds_rules() {
    calls_count_once(Mesh::Linkerd);
}

#[test]
fn by_istios_rules() {
    calls_count_once(Mesh::Istio);
}

#[test]
fn by_our_redirection() {
    calls_count_once(Mesh::Redirection);
}
