//! Which series a packet is counted under.

use std::collections::BTreeSet;
use std::net::IpAddr;

use metricd::abi::{MetricKey, direction};

use crate::flow::{Flow, Server, ends, ends6};
use crate::frame;
use crate::kernel::{Kernel, Way};

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[test]
fn each_detail() {
    for detail in ["pod", "service", "full"] {
        let kernel = Kernel::load(&["--connections", "64", "--detail", detail]);
        let mut expected = BTreeSet::new();
        for (inbound, direction) in [(true, direction::INBOUND), (false, direction::OUTBOUND)] {
            for ends in [ends(40000), ends6(40001)] {
                let mut f = Flow::new(&kernel, ends);
                f.inbound = inbound;
                f.handshake();
                f.request("GET / HTTP/1.1\r\n\r\n");
                f.close();
                // Late, when the connection is over.
                f.ack(Server);
                let full = detail == "full";
                let peers = full || detail == "service";
                expected.insert(MetricKey {
                    src: if peers { mapped(ends[0].ip) } else { [0; 16] },
                    dst: if peers { mapped(ends[1].ip) } else { [0; 16] },
                    src_port: if full { ends[0].port } else { 0 },
                    dst_port: 80,
                    proto: 6,
                    direction,
                    ..MetricKey::default()
                });
            }
        }
        let mut all = kernel.series();
        all.retain(|(_, v)| v.recv.packets > 0);
        let all: BTreeSet<_> = all.into_iter().map(|s| s.0).collect();
        assert_eq!(all, expected, "{detail}");
    }
}

#[test]
fn peers_share_a_series_but_no_connection() {
    let kernel = Kernel::load(&["--connections", "64"]);
    let flows: Vec<Flow> = (0..20).map(|i| Flow::open(&kernel, 40000 + i)).collect();
    for f in &flows {
        f.request("GET / HTTP/1.1\r\n");
    }
    for f in &flows {
        f.request("\r\n");
        f.response("HTTP/1.1 204 No Content\r\n\r\n");
    }
    assert_eq!(kernel.series().len(), 2, "and `other`");
    assert_eq!(kernel.responses()[&204], 20);
    assert_eq!(kernel.total().active, 20);
}

#[test]
fn on_the_loopback_both_ends_are_local() {
    // There test_run's packets come from; each connection is seen once on its way out.
    let kernel = Kernel::load_with_loopback(&["--connections", "64"], 1);
    let [client, server] = ends(40000);
    let say = |from, to, seq, ack, flags, payload: &[u8]| {
        kernel.run(Way::Out, &frame::tcp(from, to, seq, ack, flags, payload));
    };
    use crate::frame::{ACK, FIN, SYN};
    say(client, server, 0, 0, SYN, b"");
    say(server, client, 0, 1, SYN | ACK, b"");
    say(client, server, 1, 1, ACK, b"");
    say(client, server, 1, 1, ACK, b"GET / HTTP/1.1\r\n\r\n");
    say(
        server,
        client,
        1,
        19,
        ACK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
    );
    say(client, server, 19, 28, FIN | ACK, b"");
    say(server, client, 28, 20, FIN | ACK, b"");
    say(client, server, 20, 29, ACK, b"");
    let total = kernel.total();
    assert_eq!((total.recv.packets, total.sent.packets), (5, 3));
    assert_eq!(total.closed.fin, 1);
    assert_eq!(kernel.responses()[&204], 1);
    let handshake = kernel.handshake();
    assert_eq!((handshake.rtt.count(), handshake.duration.count()), (1, 1));
}
