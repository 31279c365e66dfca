//! What the field sends while a pod works: a port scan, a storm of DNS queries and a SYN flood, all at
//! once, while a client asks a server in the pod. The client's own counts stay exact.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::thread;

use metricd::cluster::inject::{InjectConfig, memory};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::load::{SESSIONS, h2load_streams};
use crate::memory::taken;
use crate::observed::{Connections, Http, io};
use crate::peers::{PORT, nghttpd, urls};
use crate::process::{PATIENCE, eventually};

/// At this rate the load lasts 12 s, which is some times longer than the storms, so that these begin
/// and end within it on a busy machine too.
const REQUESTS: u64 = 60_000;
const REQUESTS_PER_SECOND: u64 = 5000;
/// Before the first page is read, so that what a server and its client take is on it.
const WARM_UP: u64 = 1000;

/// Ports of the pod that nobody listens on.
const SCANNED: std::ops::Range<u16> = 10_000..30_000;
/// Each from a socket of its own, whose port the kernel draws.
const QUERIES: u64 = 12_000;
/// Who asks at a time, each one query after the other. As many queries wait for an answer at most, and
/// the programs have room for these wherever they fall: they keep them in sets of 8.
const RESOLVERS: u64 = 8;
const SYNS: u32 = 100_000;

/// An address of the client's that the pod sees only after the storms.
const NEWCOMER: &str = "10.9.0.3";

/// Lines that the storms may add to the page. A series has some ten, so this is far from one for each
/// port, query or source.
const LINES: usize = 500;

/// Answers with no record to what is asked in the client's namespace.
fn dns_server(pod: &Pod) -> SocketAddr {
    let at = SocketAddr::new(pod.client_ip(Family::V4), 53);
    let socket = pod.client.inside(|| UdpSocket::bind(at)).expect("bind");
    // The thread ends some time after the test.
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut message) {
            // The question again, as an answer: NOERROR.
            message[2] |= 0x80;
            let _ = socket.send_to(&message[..n], from);
        }
    });
    at
}

/// One query of RFC 1035 for an address of here.test, from a new socket; it must be answered.
fn query(server: SocketAddr, id: u16) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect(server).expect("connect");
    let mut message = id.to_be_bytes().to_vec();
    message.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x04here\x04test\0\0\x01\0\x01");
    assert_eq!(socket.send(&message).expect("send"), message.len());
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("an answer");
    message[2] |= 0x80;
    assert_eq!(answer[..length], message);
}

/// From some resolvers at a time.
fn dns_storm(pod: &Pod, server: SocketAddr) {
    pod.hook.inside(|| {
        thread::scope(|scope| {
            for resolver in 0..RESOLVERS {
                scope.spawn(move || {
                    for id in (resolver..QUERIES).step_by(RESOLVERS as usize) {
                        query(server, id as u16);
                    }
                });
            }
        })
    });
}

fn port_scan(pod: &Pod) {
    pod.client.inside(|| {
        for port in SCANNED {
            let refused = TcpStream::connect(pod.server_at(Family::V4, port)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{port}");
        }
    });
}

/// The n-th source of the flood, in the net that RFC 2544 keeps for tests.
fn source(n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + n)
}

/// An IPv4 packet with a SYN. The kernel fills in the id and the checksum of IP's header.
fn syn(from: Ipv4Addr, to: SocketAddrV4) -> Vec<u8> {
    const PROTO: u8 = 6;
    const LENGTH: u8 = 20;
    let ends = [from.octets(), to.ip().octets()].concat();
    // A number, no acknowledgement, 5 words, SYN, a window, no checksum yet, nothing urgent.
    let mut segment = [40_000u16.to_be_bytes(), to.port().to_be_bytes()].concat();
    segment.extend(from.to_bits().to_be_bytes());
    segment.extend([0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    let pseudo = [&ends[..], &[0, PROTO, 0, LENGTH]].concat();
    let summed = [&pseudo[..], &segment].concat();
    let words = summed
        .chunks(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let sum: u32 = words.map(u32::from).sum();
    // RFC 1071: the carries are added, twice as adding them may carry.
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    let head = [0x45, 0, 0, 2 * LENGTH, 0, 0, 0x40, 0, 64, PROTO, 0, 0];
    [&head[..], &ends, &segment].concat()
}

/// To the port of the server that works, each from another source.
fn syn_flood(pod: &Pod) {
    let SocketAddr::V4(to) = pod.server_at(Family::V4, PORT) else {
        panic!("not IPv4");
    };
    pod.client.inside(|| {
        let raw = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Raw,
        );
        let raw = raw.expect("a raw socket");
        for n in 0..SYNS {
            let packet = syn(source(n), to);
            let sent = sendto(
                raw.as_raw_fd(),
                &packet,
                &SockaddrIn::from(to),
                MsgFlags::empty(),
            );
            assert_eq!(sent, Ok(packet.len()));
        }
    });
}

/// The labels of what a peer has from the server.
fn served<'a>(peer: &'a str, server: &'a str) -> [(&'a str, &'a str); 6] {
    [
        ("direction", "inbound"),
        ("src_ip", peer),
        ("dst_ip", server),
        ("src_port", ""),
        ("dst_port", "8080"),
        ("proto", "tcp"),
    ]
}

/// These responses to the peer by HTTP/2, and nothing lost. Returns its connections, of which each
/// was followed from its beginning on.
#[track_caller]
fn assert_served(
    scrape: &Scrape,
    peer: &[(&str, &str)],
    seen: BTreeMap<String, u64>,
) -> Connections {
    let http2 = [peer, &[("protocol", "http2")]].concat();
    let requests = scrape.sum("linkerd_ebpf_requests_total", &http2);
    assert_eq!(requests, seen.values().sum::<u64>());
    assert_eq!(Http::labelled(scrape, peer), Http::answered(seen));
    let connections = Connections::labelled(scrape, peer);
    let classified = scrape.sum("linkerd_ebpf_connections_classified_total", &http2);
    assert_eq!(classified, connections.opened);
    let opaque = scrape.by("reason", "linkerd_ebpf_connections_opaque_total", peer);
    assert_eq!(opaque, BTreeMap::new());
    connections
}

/// What was answered in the client's namespace, each query once.
#[track_caller]
fn assert_resolved(scrape: &Scrape, server: SocketAddr, queries: u64) {
    let server = server.ip().to_string();
    let labels = [
        ("direction", "outbound"),
        ("dst_ip", server.as_str()),
        ("rcode", "NOERROR"),
    ];
    for labels in [&labels[..], &[]] {
        assert_eq!(
            scrape.sum("linkerd_ebpf_dns_queries_total", labels),
            queries
        );
    }
    let unanswered = "linkerd_ebpf_dns_queries_unanswered_total";
    assert_eq!(scrape.by("reason", unanswered, &[]), BTreeMap::new());
    for name in ["queries_in_flight", "answers_unsolicited_total"] {
        assert_eq!(
            scrape.sum(&format!("linkerd_ebpf_dns_{name}"), &[]),
            0,
            "{name}"
        );
    }
    let timed = scrape.sum("linkerd_ebpf_dns_duration_seconds_count", &[]);
    assert_eq!(timed, queries);
}

/// The scan and the flood were seen by the programs, as what has opened no connection.
#[track_caller]
fn assert_unopened(scrape: &Scrape) {
    let all = [("direction", "inbound"), ("origin", "unopened")];
    let flood = [&all[..], &[("dst_port", "8080")]].concat();
    let packets = |way, labels: &[(&str, &str)]| io(scrape, way, labels).1;
    // Of the scan, one SYN for each port and one RST back. The reason is left out: an attempt that a
    // busy machine holds up may be evicted by the flood before it is refused.
    for way in ["recv", "sent"] {
        let scan = packets(way, &all) - packets(way, &flood);
        assert_eq!(scan, SCANNED.len() as u64, "{way}");
    }
    // Of the flood, the last ones may be held back until it is known what becomes of them: as many as
    // there may be connections that have not opened, a quarter of all.
    let held = u64::from(InjectConfig::default().connections) / 4;
    let (syns, sent) = (packets("recv", &flood), u64::from(SYNS));
    assert!((sent - held..=sent).contains(&syns), "{syns} SYNs");
}

/// Nothing had no room, whoever it came from, and no request was lost.
#[track_caller]
fn assert_nothing_is_left_out(scrape: &Scrape) {
    for name in [
        "linkerd_proxy_ebpf_map_overflow_total",
        "linkerd_ebpf_connections_untracked_total",
        "linkerd_ebpf_contended_packets_total",
        "linkerd_ebpf_state_lost_total",
        "linkerd_ebpf_requests_aborted_total",
    ] {
        assert_eq!(scrape.sum(name, &[]), 0, "{name}");
    }
    let other = [("direction", "other")];
    assert_eq!(io(scrape, "recv", &other), (0, 0));
    assert_eq!(io(scrape, "sent", &other), (0, 0));
}

/// One request by curl from another of the client's addresses.
fn newcomer(pod: &Pod, url: &str) {
    pod.client.ip(&format!("addr add {NEWCOMER}/24 dev eth0"));
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--http2-prior-knowledge", "--interface", NEWCOMER]);
    curl.args(["-o", "/dev/null", "-w", "%{http_code} %{http_version}", url]);
    assert_eq!(pod.client.run(&mut curl), "200 2");
}

#[test]
fn a_scan_queries_and_a_flood_at_once() {
    let pod = Pod::measured(Shape::Plain, &[]);
    // As in a pod, whose answers find a way to everybody. The client drops what is for others.
    let gateway = pod.client_ip(Family::V4).to_string();
    pod.hook
        .ip(&format!("route add default via {gateway} dev eth0"));
    // The flood fills the queue of the server's port for a minute. By cookies the newcomer gets past it.
    pod.hook.sysctl("net/ipv4/tcp_syncookies", "1");
    let _nghttpd = nghttpd(&pod, pod.server(), &[]);
    let resolver = dns_server(&pod);
    let server = pod.server_ip(Family::V4).to_string();
    let client = served(&gateway, &server);
    let from = (&pod, &pod.client);
    let urls = urls(&pod, Family::V4, &["4k", "301", "404"]);
    let mut seen = h2load_streams(from, WARM_UP, &[], &urls);
    pod.hook.inside(|| query(resolver, 0));
    let before = pod.ended();

    let rate = (REQUESTS_PER_SECOND / SESSIONS).to_string();
    let under_load = thread::scope(|scope| {
        let load = scope.spawn(|| h2load_streams(from, REQUESTS, &["--rps", &rate], &urls));
        // All of its connections are there before the flood, and it keeps them.
        let opened = || Connections::labelled(&pod.scrape(), &client).active == SESSIONS;
        assert!(eventually(PATIENCE, opened), "the load has not begun");
        let storms = [
            scope.spawn(|| port_scan(&pod)),
            scope.spawn(|| dns_storm(&pod, resolver)),
            scope.spawn(|| syn_flood(&pod)),
        ];
        for storm in storms {
            storm.join().expect("a storm");
        }
        assert!(!load.is_finished(), "the storms took longer than the load");
        load.join().expect("the load")
    });
    let cookies = pod.hook.kernel_counter("TcpExt", "SyncookiesSent");
    assert!(
        cookies > 0,
        "the flood has not filled the queue of the port"
    );
    assert_eq!(under_load.values().sum::<u64>(), REQUESTS);
    for (status, count) in under_load {
        *seen.entry(status).or_default() += count;
    }
    assert_eq!(Vec::from_iter(seen.keys()), ["200", "301", "404"]);

    let after = pod.ended();
    assert_served(&after, &client, seen).assert_ended(2 * SESSIONS);
    let all = after.sum("linkerd_ebpf_requests_total", &[]);
    assert_eq!(all, WARM_UP + REQUESTS, "with those of other labels");
    assert_resolved(&after, resolver, QUERIES + 1);
    assert_unopened(&after);
    assert_nothing_is_left_out(&after);
    let [fewer, more] = [&before, &after].map(|scrape| scrape.text.lines().count());
    assert!(more < fewer + LINES, "{fewer} lines, then {more}");
    // The bound is what the maps take before they grow. They grow by series, and the storms make none.
    let (taken, bound) = (taken(&pod), memory::at_first(&InjectConfig::default()));
    assert!(taken <= bound, "{taken} bytes, where {bound} are added");

    newcomer(&pod, &urls[0]);
    let newcomer = served(NEWCOMER, &server);
    let one = BTreeMap::from([("200".to_owned(), 1)]);
    let connections = assert_served(&pod.ended(), &newcomer, one);
    // Who closes first may find bytes that the other has not read: by FIN or by RST.
    assert_eq!((connections.opened, connections.active), (1, 0));
}
