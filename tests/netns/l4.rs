//! Connections and packets, whatever they carry. The truth about bytes and packets is the
//! interface's own count.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::client::{Pair, SOME_SECONDS, connect_from, drain, reset};
use crate::exposition::Scrape;
use crate::fixture::{Family, Pod, Shape};
use crate::kernel::{packet_socket, sending_packet_socket};
use crate::load::h2load;
use crate::netns::{Interface, Netns};
use crate::observed::{Connections, Http, io};
use crate::process::PATIENCE;
use crate::server::{Nginx, urls};

const PORT: u16 = 7000;
const BOTH: [Family; 2] = [Family::V4, Family::V6];

/// What the interface has counted between the two moments is what all series together have.
#[track_caller]
pub fn assert_equal_growth(before: &(Interface, Scrape), after: &(Interface, Scrape)) {
    let grown = |scrape: fn(&(Interface, Scrape)) -> (u64, u64)| {
        let (a, b) = (scrape(before), scrape(after));
        (b.0 - a.0, b.1 - a.1)
    };
    assert_eq!(
        before.0.sent_dropped, after.0.sent_dropped,
        "frames were dropped behind the hook: nothing can be said about what was sent"
    );
    assert_eq!(
        grown(|(_, scrape)| io(scrape, "recv", &[])),
        grown(|(interface, _)| (interface.recv_bytes, interface.recv_packets)),
        "received: the series' bytes and packets (left), the interface's (right)"
    );
    assert_eq!(
        grown(|(_, scrape)| io(scrape, "sent", &[])),
        grown(|(interface, _)| (interface.sent_bytes, interface.sent_packets)),
        "sent: the series' bytes and packets (left), the interface's (right)"
    );
}

/// Everything at once: TCP, fragmented UDP, ICMP, ARP and neighbour discovery, IPv4 and IPv6.
#[test]
fn all_series_together_are_the_interface() {
    for attach in ["tcx", "clsact"] {
        let pod = Pod::measured(Shape::Frames, &["--attach", attach]);
        let nginx = Nginx::start(&pod);
        let before = pod.both_counts("eth0");
        // No more in flight than a veth takes at once: 1,000 frames.
        pod.client.sysctl("net/ipv4/tcp_rmem", "4096 32768 32768");
        for family in BOTH {
            h2load(&pod, 500, &urls(&pod, family, &["200", "20k", "404"]));
            h2load(&pod, 50, &urls(&pod, family, &["1m"]));
            ping(&pod, family, 3, 3000);
            let (client, server) = udp(&pod, family);
            client.send(&[0; 4000]).expect("send");
            server.recv(&mut [0; 4000]).expect("recv");
        }
        pod.ended();
        let after = pod.both_counts("eth0");
        assert_eq!(nginx.responses(1100).values().sum::<u64>(), 1100);
        assert!(after.0.sent_bytes > 100 << 20, "{:?}", after.0);
        assert_equal_growth(&before, &after);
    }
}

/// What packet sockets send in large frames has only Ethernet's header in the linear part. Messages of
/// DNS are counted by what is behind the headers.
#[test]
fn headers_in_a_fragment() {
    let pod = Pod::measured(Shape::Plain, &["--dns-ports", &PORT.to_string()]);
    for netns in [&pod.client, &pod.hook] {
        netns.ip("link set eth0 mtu 9000");
    }
    let socket = pod.client.inside(|| packet_socket("eth0"));
    let frames = [
        queries(&[0x08, 0x00], 5000),
        queries(&[0x86, 0xdd], 5000),
        queries(&[0x86, 0xdd, 60], 5000),
        queries(&[0x81, 0, 0, 5, 0x08, 0x00], 5000),
        queries(&[0x81, 0, 0, 5, 0x86, 0xdd], 5000),
    ];
    for frame in &frames {
        nix::unistd::write(&socket, frame).expect("send a frame");
    }
    let asked = |scrape: &Scrape| scrape.sum("linkerd_ebpf_dns_queries_in_flight", &[]) as usize;
    let scrape = pod.settled(|scrape| asked(scrape) == frames.len());
    let udp = [("proto", "udp"), ("dst_port", "7000"), ("io", "recv")];
    let packets = scrape.sum("linkerd_ebpf_packets_total", &udp);
    assert_eq!(packets, frames.len() as u64);
    assert_eq!(scrape.sum("linkerd_ebpf_truncated_packets_total", &[]), 0);
}

/// Packet sockets leave tags in the data of what the pod sends, and say that the network header is
/// behind these.
#[test]
fn tags_of_packet_sockets() {
    let pod = Pod::measured(Shape::Plain, &["--dns-ports", &PORT.to_string()]);
    let socket = pod.hook.inside(|| sending_packet_socket("eth0"));
    let frames = [
        queries(&[0x08, 0x00], 100),
        queries(&[0x81, 0, 0, 5, 0x08, 0x00], 100),
        queries(&[0x81, 0, 0, 5, 0x86, 0xdd], 100),
        queries(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5, 0x08, 0x00], 100),
    ];
    for frame in &frames {
        nix::unistd::write(&socket, frame).expect("send a frame");
    }
    let asked = |scrape: &Scrape| scrape.sum("linkerd_ebpf_dns_queries_in_flight", &[]) as usize;
    pod.settled(|scrape| asked(scrape) == frames.len());
}

/// A frame of Ethernet with a query of DNS over UDP, behind these tags and ethertype; 60 behind the
/// ethertype is an extension header of IPv6 with that number.
fn queries(ethertype: &[u8], size: usize) -> Vec<u8> {
    let be = u16::to_be_bytes;
    let length = 8 + size as u16;
    let mut payload = vec![0; size];
    payload[..6].copy_from_slice(&[0, 1, 1, 0, 0, 1]);
    let udp = [&be(1111), &be(PORT), &be(length), &[0; 2], &payload[..]].concat();
    let options = [17, 0, 0, 0, 0, 0, 0, 0];
    let has_options = ethertype.ends_with(&[60]);
    let ethertype = &ethertype[..ethertype.len() - usize::from(has_options)];
    let packet = if ethertype.ends_with(&[0x08, 0x00]) {
        let head = [
            &[0x45, 0][..],
            &be(20 + length),
            &[0, 1, 0, 0, 64, 17, 0, 0],
        ]
        .concat();
        [head, [[10, 0, 0, 1], [10, 0, 0, 2]].concat(), udp].concat()
    } else {
        let ends = [[0xfd; 16], [0xfe; 16]].concat();
        let (next, options) = match has_options {
            true => (60, &options[..]),
            false => (17, &[][..]),
        };
        let head = [
            &[0x60, 0, 0, 0][..],
            &be(length + options.len() as u16),
            &[next, 64],
        ]
        .concat();
        [&head, &ends, options, &udp].concat()
    };
    [&[2; 12], ethertype, &packet].concat()
}

/// With the offloads that a pod has, one skb is up to 64 KB, for the interface one packet; what
/// counts is what is on the wire. The sender's TCP counts segments.
#[test]
fn super_packets_count_as_what_they_become() {
    for (family, headers) in BOTH.into_iter().zip([14 + 20 + 32, 14 + 40 + 32]) {
        let pod = Pod::measured(Shape::Plain, &[]);
        let mut pair = pod.pair_over(family, PORT);
        // Each at once in the first window, so that nothing waits for an ACK, or is sent again.
        let (times, size) = (300, 13_000);
        for client_sends in [true, false] {
            let ways = match client_sends {
                true => [("recv", &pod.client), ("sent", &pod.hook)],
                false => [("sent", &pod.hook), ("recv", &pod.client)],
            };
            let served =
                |scrape: &Scrape| ways.map(|(way, _)| io(scrape, way, &[("proto", "tcp")]));
            let segments = || ways.map(|(_, netns)| netns.kernel_counter("Tcp", "OutSegs"));
            let (skbs, before) = pod.both_counts("eth0");
            // No scrape between these two: it would count in the pod's namespace.
            let truth_before = segments();
            for _ in 0..times {
                match client_sends {
                    true => pair.client_says(vec![0; size]),
                    false => pair.server_says(vec![0; size]),
                }
            }
            // The last acknowledgement may be a delayed one.
            thread::sleep(Duration::from_millis(300));
            let truth = segments();
            let (skbs_after, after) = pod.both_counts("eth0");
            let [data, acks] = [0, 1].map(|way| {
                let (before, after) = (served(&before)[way], served(&after)[way]);
                (after.0 - before.0, after.1 - before.1)
            });
            assert_eq!(data.1, truth[0] - truth_before[0], "segments with data");
            assert_eq!(data.0, times * size as u64 + data.1 * headers);
            assert_eq!(acks.1, truth[1] - truth_before[1], "acknowledgements");
            assert_eq!(acks.0, acks.1 * headers);
            let skbs = skbs_after.recv_packets + skbs_after.sent_packets
                - skbs.recv_packets
                - skbs.sent_packets;
            assert!(skbs < data.1 / 2, "no super packets: {skbs}");
        }
        pair.close();
        pod.ended();
    }
}

#[test]
fn refused_connections() {
    for family in BOTH {
        let pod = Pod::measured(Shape::Plain, &[]);
        for _ in 0..5 {
            let at = pod.server_at(family, PORT);
            let refused = pod.client.inside(|| TcpStream::connect(at)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        }
        Connections::closed("refused", 5).assert_in(&pod.ended(), PORT);
    }
}

#[test]
fn refused_on_the_way_out() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let at = SocketAddr::new(pod.client_ip(Family::V4), PORT);
    let refused = pod.hook.inside(|| TcpStream::connect(at)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let scrape = pod.ended();
    Connections::closed("refused", 1).assert_in(&scrape, PORT);
    let outbound = [("direction", "outbound"), ("reason", "refused")];
    let closed = scrape.sum("linkerd_ebpf_connections_closed_total", &outbound);
    assert_eq!(closed, 1);
}

#[test]
fn ends_by_fin_and_by_rst() {
    for family in BOTH {
        let pod = Pod::measured(Shape::Plain, &[]);
        let open = |port| pod.pair_over(family, port);
        let mut pair = open(PORT);
        pair.client_says("x");
        Connections::open(1).assert_in(&pod.settled(|_| true), PORT);
        pair.close();
        open(PORT).close_server_first();
        open(PORT).close();
        Connections::closed("fin", 3).assert_in(&pod.ended(), PORT);
        reset(open(PORT + 1).client);
        reset(open(PORT + 1).server);
        // One side has said FIN already.
        let Pair {
            client, mut server, ..
        } = open(PORT + 1);
        client.shutdown(std::net::Shutdown::Write).expect("FIN");
        assert!(drain(&mut server).is_empty());
        reset(server);
        Connections::closed("rst", 3).assert_in(&pod.ended(), PORT + 1);
    }
}

/// The same addresses and ports again: another connection.
#[test]
fn the_same_tuple_again() {
    let pod = Pod::measured(Shape::Plain, &["--detail", "full"]);
    let at = pod.server_at(Family::V4, PORT);
    let source = SocketAddr::new(pod.client_ip(Family::V4), 33_333);
    let listener = crate::client::listen(pod.server(), at);
    for _ in 0..10 {
        let client = pod.client.inside(|| connect_from(source, at));
        let client = client.expect("connect");
        let (mut server, _) = listener.accept().expect("accept");
        let mut client = client;
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("write");
        server
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            .expect("write");
        let mut head = [0; 38];
        std::io::Read::read_exact(&mut client, &mut head).expect("read");
        // RST, so that the client may use its port again at once.
        reset(client);
        let _ = std::io::Read::read_to_end(&mut server, &mut Vec::new());
    }
    let scrape = pod.ended();
    Connections::closed("rst", 10).assert_in(&scrape, PORT);
    Http::requests(10)
        .response("200", 10)
        .assert_in(&scrape, PORT);
    let duration = "linkerd_ebpf_connection_duration_seconds_count";
    assert_eq!(scrape.sum(duration, &[("dst_port", "7000")]), 10);
}

/// An RTT sample and a duration for each connection, in both orientations.
#[test]
fn handshakes_and_durations() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let outside = SocketAddr::new(pod.client_ip(Family::V6), PORT);
    for _ in 0..7 {
        pod.pair(PORT).close();
        Pair::new(&pod.hook, &pod.client, outside).close();
    }
    let scrape = pod.ended();
    for direction in ["inbound", "outbound"] {
        let labels = [("direction", direction), ("dst_port", "7000")];
        for what in ["tcp_rtt", "connection_duration"] {
            let name = format!("linkerd_ebpf_{what}_seconds_count");
            assert_eq!(scrape.sum(&name, &labels), 7, "{direction} {what}");
        }
        let rtt = scrape.value("linkerd_ebpf_tcp_rtt_seconds_sum", &labels);
        assert!(rtt > 0.0 && rtt < 0.1, "{rtt}");
    }
}

/// Sockets that send to each other, the first in the client's namespace.
fn udp(pod: &Pod, family: Family) -> (UdpSocket, UdpSocket) {
    let at = pod.server_at(family, PORT);
    let from = SocketAddr::new(pod.client_ip(family), PORT + 1);
    let server = pod.server().inside(|| UdpSocket::bind(at)).expect("bind");
    let client = pod.client.inside(|| UdpSocket::bind(from)).expect("bind");
    client.connect(at).expect("connect");
    server.connect(from).expect("connect");
    server.set_read_timeout(Some(PATIENCE)).expect("timeout");
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    (client, server)
}

#[test]
fn datagrams() {
    for (family, headers) in BOTH.into_iter().zip([14 + 20 + 8, 14 + 40 + 8]) {
        let pod = Pod::measured(Shape::Plain, &[]);
        let (client, server) = udp(&pod, family);
        for _ in 0..20 {
            client.send(&[1; 100]).expect("send");
            server.recv(&mut [0; 100]).expect("recv");
        }
        for _ in 0..3 {
            server.send(&[1; 500]).expect("send");
            client.recv(&mut [0; 500]).expect("recv");
        }
        let scrape = pod.settled(|_| true);
        let client_ip = pod.client_ip(family).to_string();
        let labels = [
            ("proto", "udp"),
            ("direction", "inbound"),
            ("src_ip", client_ip.as_str()),
            ("dst_port", "7000"),
        ];
        assert_eq!(io(&scrape, "recv", &labels), (20 * (headers + 100), 20));
        assert_eq!(io(&scrape, "sent", &labels), (3 * (headers + 500), 3));
        // Who spoke first with whom: it is open until it has been idle.
        let flow = Connections {
            opened: 1,
            active: 1,
            ..Connections::default()
        };
        flow.assert_in(&scrape, PORT);
    }
}

/// Each other's link addresses, for good.
fn know_each_other(pod: &Pod) {
    let link = |netns: &Netns| {
        let shown = netns.ip("-o link show dev eth0");
        let (_, rest) = shown.split_once("link/ether ").expect("an address");
        rest.split(' ').next().expect("an address").to_owned()
    };
    let (client, server) = (link(&pod.client), link(&pod.hook));
    for family in BOTH {
        for (netns, peer, address) in [
            (&pod.client, pod.server_ip(family), &server),
            (&pod.hook, pod.client_ip(family), &client),
        ] {
            netns.ip(&format!(
                "neigh replace {peer} lladdr {address} dev eth0 nud permanent"
            ));
        }
    }
}

fn ping(pod: &Pod, family: Family, count: u64, size: u64) {
    pod.client.run(Command::new("ping").args([
        "-q",
        "-i",
        "0.01",
        "-c",
        &count.to_string(),
        "-s",
        &size.to_string(),
        &pod.server_ip(family).to_string(),
    ]));
}

#[test]
fn pings_count_under_their_protocol() {
    for (family, proto, headers) in [
        (Family::V4, "1", 14 + 20 + 8),
        (Family::V6, "58", 14 + 40 + 8),
    ] {
        let pod = Pod::measured(Shape::Plain, &[]);
        // Neighbour discovery is ICMP too: known neighbours are not asked for.
        know_each_other(&pod);
        ping(&pod, family, 5, 56);
        let scrape = pod.settled(|_| true);
        let (src, dst) = (pod.client_ip(family), pod.server_ip(family));
        let labels = [
            ("proto", proto),
            ("src_ip", &src.to_string()),
            ("dst_ip", &dst.to_string()),
        ];
        for direction in ["recv", "sent"] {
            assert_eq!(io(&scrape, direction, &labels), (5 * (headers + 56), 5));
        }
    }
}

/// ARP, and what else is not IP.
#[test]
fn frames_that_are_not_ip() {
    let pod = Pod::measured(Shape::Plain, &[]);
    pod.pair(PORT).close();
    let scrape = pod.settled(|_| true);
    let (_, recv) = io(&scrape, "recv", &[("proto", "non-ip")]);
    let (_, sent) = io(&scrape, "sent", &[("proto", "non-ip")]);
    assert!(recv >= 1 && sent >= 1, "{recv} {sent}");
}

/// A silent peer is asked whether it is still there: nothing is sent again.
#[test]
fn keep_alive_probes_are_no_retransmits() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let mut pair = pod.pair(PORT);
    pair.client_says("x");
    pair.server_says("y");
    for stream in [&pair.client, &pair.server] {
        setsockopt(stream, sockopt::KeepAlive, &true).expect("SO_KEEPALIVE");
        setsockopt(stream, sockopt::TcpKeepIdle, &1).expect("TCP_KEEPIDLE");
        setsockopt(stream, sockopt::TcpKeepInterval, &1).expect("TCP_KEEPINTVL");
    }
    thread::sleep(SOME_SECONDS);
    for netns in [&pod.client, &pod.hook] {
        let probes = netns.kernel_counter("TcpExt", "TCPKeepAlive");
        assert!(probes >= 2, "{probes} probes");
    }
    Connections::open(1).assert_in(&pod.settled(|_| true), PORT);
    pair.close();
    Connections::closed("fin", 1).assert_in(&pod.ended(), PORT);
}

/// A peer that does not read is asked now and then whether there is room: nothing is sent again.
#[test]
fn zero_window_probes_are_no_retransmits() {
    let pod = Pod::measured(Shape::Plain, &[]);
    for (port, client_sends) in [(PORT, true), (PORT + 1, false)] {
        let Pair { client, server, .. } = pod.pair(port);
        let (mut from, mut to) = match client_sends {
            true => (client, server),
            false => (server, client),
        };
        let data = vec![0; 16 << 20];
        let sender = match client_sends {
            true => &pod.client,
            false => &pod.hook,
        };
        let retransmits = |netns: &Netns| netns.kernel_counter("Tcp", "RetransSegs");
        let sent_again = || (retransmits(&pod.client), retransmits(&pod.hook));
        let before = (sender.kernel_counter("TcpExt", "TCPWinProbe"), sent_again());
        thread::scope(|scope| {
            scope.spawn(|| {
                from.write_all(&data).expect("write");
                drop(from);
            });
            thread::sleep(SOME_SECONDS);
            let probes = sender.kernel_counter("TcpExt", "TCPWinProbe") - before.0;
            assert!(probes >= 2, "{probes} probes");
            assert_eq!(drain(&mut to).len(), data.len());
        });
        drop(to);
        let scrape = pod.ended();
        let observed = Connections::of(&scrape, port);
        // A last segment may have gone beyond the window, and then indeed again.
        let after = sent_again();
        assert_eq!(
            (observed.retransmits_recv, observed.retransmits_sent),
            (after.0 - before.1.0, after.1 - before.1.1),
        );
        assert_eq!(observed.closed, BTreeMap::from([("fin".to_owned(), 1)]));
    }
}
