//! More connections than the maps have room for: the totals stay exact.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use crate::client::{Pair, connect_from, listen, reset};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::l4::assert_equal_growth;
use crate::load::from_environment;
use crate::observed::{Connections, Http};

const PORT: u16 = 9200;
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: pod\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// Ports of one of the client's addresses that are used, each once.
const PORTS: u32 = 40_000;
const FIRST_PORT: u16 = 20_000;

/// Where the n-th connection comes from.
fn source(n: u32) -> SocketAddr {
    let ip = Ipv4Addr::new(10, 9, 0, 10 + (n / PORTS) as u8);
    SocketAddr::new(ip.into(), FIRST_PORT + (n % PORTS) as u16)
}

/// Each connection from another port or address, with a request; every third ends by RST.
fn connections(pod: &Pod, count: u32) {
    for n in (0..count).step_by(PORTS as usize) {
        pod.client
            .ip(&format!("addr add {}/24 dev eth0", source(n).ip()));
    }
    let at = pod.server_at(Family::V4, PORT);
    let listener = listen(&pod.hook, at);
    let server = thread::spawn(move || {
        let mut request = [0; REQUEST.len()];
        for _ in 0..count {
            let (mut stream, _) = listener.accept().expect("accept");
            stream.read_exact(&mut request).expect("read");
            stream.write_all(RESPONSE).expect("write");
            // Waits for the client's end, however it comes.
            let _ = stream.read(&mut request);
        }
    });
    pod.client.inside(|| {
        let mut response = [0; RESPONSE.len()];
        for n in 0..count {
            let mut stream = connect_from(source(n), at).expect("connect");
            stream.write_all(REQUEST).expect("write");
            stream.read_exact(&mut response).expect("read");
            if n % 3 == 0 {
                reset(stream);
            }
        }
    });
    server.join().expect("the server");
}

#[test]
fn totals_stay_exact_beyond_the_maps_size() {
    let count = from_environment("METRICD_TEST_CONNECTIONS", 200_000);
    let mut pod = Pod::quiet(Shape::Frames).observed(&["--detail", "full", "--map-size", "1024"]);
    // Both kernels' own count: on a busy machine they end a few connections by themselves.
    let resets = || -> u64 {
        let sent = [&pod.client, &pod.hook].map(|netns| netns.kernel_counter("Tcp", "OutRsts"));
        sent.iter().sum()
    };
    let resets_before = resets();
    let before = pod.both_counts("eth0");
    connections(&pod, u32::try_from(count).expect("a count"));
    pod.ended();
    let after = pod.both_counts("eth0");
    assert_equal_growth(&before, &after);
    let resets = resets() - resets_before;

    let scrape = &after.1;
    let sum = |name| scrape.sum(name, &[]);
    assert_eq!(sum("linkerd_ebpf_connections_opened_total"), count);
    assert_eq!(sum("linkerd_ebpf_connections_active"), 0);
    let closed = scrape.by("reason", "linkerd_ebpf_connections_closed_total", &[]);
    let [fin, rst] = ["fin", "rst"].map(|reason| closed.get(reason).copied().unwrap_or_default());
    assert_eq!(fin + rst, count, "{closed:?}");
    assert!(
        [count.div_ceil(3), resets].contains(&rst),
        "{closed:?}, {resets} resets by the kernels"
    );
    assert_eq!(sum("linkerd_ebpf_requests_total"), count);
    assert_eq!(sum("linkerd_ebpf_responses_total"), count);
    assert_eq!(sum("linkerd_ebpf_requests_in_flight"), 0);

    // What did not fit is there, under one name, and is said to be.
    assert!(sum("linkerd_proxy_ebpf_map_overflow_total") > 0);
    let said = pod.metricd().said();
    let remedy = "linkerd.io/ebpf-metric-map-size";
    assert!(said.contains(remedy), "{remedy} is not in:\n{said}");
    let entries = [("map", "linkerd_metrics_map")];
    assert!(scrape.sum("linkerd_ebpf_map_entries", &entries) <= 1024 + 1);
    let other = [
        "direction",
        "src_ip",
        "dst_ip",
        "src_port",
        "dst_port",
        "proto",
    ]
    .map(|label| (label, "other"));
    // So the totals have them, too: those that fit, and those that did not.
    for name in [
        "pod_requests_total",
        "pod_responses_total",
        "pod_connections_opened_total",
    ] {
        let totals = scrape.by("direction", &format!("linkerd_ebpf_{name}"), &[]);
        assert_eq!(totals.values().sum::<u64>(), count, "{name}: {totals:?}");
        assert!(
            totals["inbound"] > 0 && totals["other"] > 0,
            "{name}: {totals:?}"
        );
    }
    let own = Connections::of(scrape, PORT).opened;
    let rest = scrape.sum("linkerd_ebpf_connections_opened_total", &other);
    assert_eq!(own + rest, count, "own series and other");
    assert!(own > 900 && own <= 1024, "{own} have series of their own");
}

/// The pod goes on when every series and more has been used: those that fit count as before.
#[test]
fn a_series_that_fits_stays_exact() {
    let pod = Pod::quiet(Shape::Frames).observed(&["--detail", "full", "--map-size", "64"]);
    let mut early = pod.pair(PORT + 1);
    early.client_says(REQUEST);
    early.server_says(RESPONSE);
    connections(&pod, 500);
    early.client_says(REQUEST);
    early.server_says(RESPONSE);
    early.close();
    let scrape = pod.ended();
    let port = (PORT + 1).to_string();
    let own = [("dst_port", port.as_str()), ("status", "204")];
    assert_eq!(scrape.sum("linkerd_ebpf_responses_total", &own), 2);
    Connections::closed("fin", 1).assert_in(&scrape, PORT + 1);
    assert_eq!(scrape.sum("linkerd_ebpf_requests_total", &[]), 502);
}

/// More connections at a time than there are slots: each end is accounted for.
#[test]
fn more_connections_than_slots() {
    let pod = Pod::measured(Shape::Plain, &["--connections", "64"]);
    let mut pairs = Vec::from_iter((0..200).map(|_| pod.pair(PORT)));
    for pair in &mut pairs {
        pair.client_says(REQUEST);
    }
    let open = pod.settled(|_| true);
    let sum = |scrape: &Scrape, name| scrape.sum(name, &[("dst_port", "9200")]);
    // Some slots may have what is not a connection, like neighbour discovery.
    let active = sum(&open, "linkerd_ebpf_connections_active");
    assert!((56..=64).contains(&active), "{active} active");
    let evicted = open.by("reason", "linkerd_ebpf_connections_closed_total", &[]);
    assert!(evicted["evicted"] >= 200 - 64, "{evicted:?}");
    for pair in &mut pairs {
        pair.server_says(RESPONSE);
    }
    pairs.into_iter().for_each(Pair::close);
    let scrape = pod.ended();
    assert_eq!(sum(&scrape, "linkerd_ebpf_requests_in_flight"), 0);
    // Of a connection that was forgotten nothing is guessed.
    let served = Http::of(&scrape, PORT);
    assert!(served.requests <= 200, "{served:?}");
    assert!(
        served.responses.keys().all(|status| status == "204"),
        "{served:?}"
    );
}
