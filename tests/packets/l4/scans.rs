//! Who never opens a connection makes no series of its own, and takes no place of those that have:
//! scans, spoofed packets, storms of datagrams.

use std::net::IpAddr;

use metricd::abi::{MetricKey, MetricValue, direction, origin};

use crate::flow::{Client, Flow, Server, ends};
use crate::frame::{self, ACK, End, FIN, PSH, RST, SYN};
use crate::kernel::{Kernel, Way};

const GET: &str = "GET / HTTP/1.1\r\n\r\n";
const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// A peer that nobody else is.
fn stranger(number: u32) -> End {
    let [_, a, b, c] = number.to_be_bytes();
    End {
        ip: IpAddr::from([100 + a, 1 + b, c, 1]),
        port: 40_000,
    }
}

fn pod(port: u16) -> End {
    End {
        ip: IpAddr::from([10, 0, 0, 1]),
        port,
    }
}

/// The series of those who have opened no connection.
fn unopened(kernel: &Kernel) -> Vec<(MetricKey, MetricValue)> {
    let series = kernel.series();
    let all = series
        .into_iter()
        .filter(|(key, _)| key.origin == origin::UNOPENED);
    all.collect()
}

/// A connection before, and once more after, what strangers send: nothing of it is lost.
fn beside_a_connection(kernel: &Kernel, strangers: impl FnOnce()) {
    let flow = Flow::open(kernel, 999);
    flow.request(GET);
    flow.response(OK);
    strangers();
    flow.request(GET);
    flow.response(OK);
    kernel.check();
    let total = kernel.total();
    assert_eq!((total.requests.http1, total.ended), (2, 2));
    assert_eq!(kernel.responses()[&204], 2);
    assert_eq!(total.lost, Default::default());
    flow.rst(Client);
    assert_eq!(kernel.counters().metrics_overflow, 0);
}

#[test]
fn spoofed_syns_that_the_pod_answers() {
    let kernel = Kernel::load(&["--connections", "64"]);
    beside_a_connection(&kernel, || {
        for number in 0..5000 {
            let from = stranger(number);
            kernel.run(Way::In, &frame::tcp(from, pod(80), 7, 0, SYN, b""));
            kernel.run(Way::Out, &frame::tcp(pod(80), from, 9, 8, SYN | ACK, b""));
        }
    });
    let unopened = unopened(&kernel);
    let [(key, value)] = &unopened[..] else {
        panic!("{unopened:?}");
    };
    // Port 80 has opened a connection, so it is told.
    assert_eq!((key.dst_port, key.direction), (80, direction::INBOUND));
    assert_eq!((key.src, key.dst), Default::default());
    // A quarter of the slots at most is held by those that may still open.
    assert_eq!(value.opened, 5000 - 16);
    assert_eq!((value.closed.evicted, value.active), (value.opened, 0));
    // The connection's, and `other`.
    assert_eq!(kernel.series().len() - unopened.len(), 2);
}

#[test]
fn refused_ports_one_after_the_other() {
    for inbound in [true, false] {
        let kernel = Kernel::load(&["--connections", "64"]);
        beside_a_connection(&kernel, || {
            let (to, back) = if inbound {
                (Way::In, Way::Out)
            } else {
                (Way::Out, Way::In)
            };
            for port in 1000..3000 {
                let (from, at) = match inbound {
                    true => (stranger(0), pod(port)),
                    false => (
                        pod(40_000),
                        End {
                            port,
                            ..stranger(0)
                        },
                    ),
                };
                kernel.run(to, &frame::tcp(from, at, 7, 0, SYN, b""));
                kernel.run(back, &frame::tcp(at, from, 0, 8, RST | ACK, b""));
            }
        });
        let unopened = unopened(&kernel);
        // The first ports that are tried are told, so that one that is wrongly asked for is seen.
        assert_eq!(unopened.len(), 17);
        let refused: u64 = unopened.iter().map(|(_, value)| value.closed.refused).sum();
        assert_eq!(refused, 2000, "inbound {inbound}");
    }
}

/// What belongs to no connection: probes with other flags than SYN, and with data.
#[test]
fn packets_of_no_connection() {
    for flags in [
        ACK,
        FIN,
        FIN | ACK,
        RST,
        PSH | ACK,
        SYN | ACK,
        FIN | PSH | 0x20,
        0,
    ] {
        let kernel = Kernel::load(&["--connections", "64"]);
        beside_a_connection(&kernel, || {
            for number in 0..1000 {
                let data: &[u8] = if flags == PSH | ACK {
                    b"GET / HTTP/1.1\r\n\r\n"
                } else {
                    b""
                };
                let from = stranger(number);
                kernel.run(Way::In, &frame::tcp(from, pod(80), 7, 9, flags, data));
                if flags & RST == 0 {
                    let answer = frame::tcp(pod(80), from, 9, 0, RST, b"");
                    kernel.run(Way::Out, &answer);
                }
            }
        });
        let unopened = unopened(&kernel);
        assert!(
            (1..=2).contains(&unopened.len()),
            "flags {flags:#x}: {unopened:?}"
        );
        let packets: u64 = unopened.iter().map(|(_, value)| value.recv.packets).sum();
        assert_eq!(packets, 1000, "flags {flags:#x}");
        let others = kernel.series().len() - unopened.len();
        assert_eq!(others, 2, "flags {flags:#x}");
    }
}

/// A peer that has opened a connection once has a series, and what it is refused counts there.
#[test]
fn a_peer_that_is_known() {
    let kernel = Kernel::load(&["--connections", "64"]);
    let flow = Flow::open(&kernel, 1000);
    flow.close();
    let flow = Flow::new(&kernel, ends(1001));
    flow.syn();
    flow.segment(Server, RST | ACK, 0, b"");
    kernel.check();
    assert_eq!(unopened(&kernel), []);
    let closed = kernel.total().closed;
    assert_eq!((closed.fin, closed.refused), (1, 1));
}

/// Who tries in vain is seen while it tries, and what it has sent counts once.
#[test]
fn an_attempt_that_is_made_again() {
    for inbound in [false, true] {
        let kernel = Kernel::load(&["--connections", "64"]);
        let [client, server] = ends(1000);
        let (from, to, way) = if inbound {
            (client, server, Way::In)
        } else {
            (server, client, Way::Out)
        };
        for _ in 0..4 {
            kernel.run(way, &frame::tcp(from, to, 77, 0, SYN, b""));
        }
        let [(_, value)] = unopened(&kernel)[..] else {
            panic!("{:?}", kernel.series());
        };
        let sent = if inbound { value.recv } else { value.sent };
        assert_eq!((sent.packets, sent.retransmits), (3, 3));
        assert_eq!(value.opened, 0);
        kernel.run(way, &frame::tcp(from, to, 99, 0, SYN, b""));
        let total = kernel.total();
        let sent = if inbound { total.recv } else { total.sent };
        assert_eq!((sent.packets, sent.retransmits), (4, 3));
        assert_eq!((total.opened, total.closed.idle), (1, 1));
    }
}

/// Datagrams take a share of the slots, and end no connection.
#[test]
fn a_storm_of_datagrams() {
    let kernel = Kernel::load(&["--connections", "64"]);
    beside_a_connection(&kernel, || {
        for number in 0..5000 {
            let to = End {
                port: 9125,
                ..stranger(number % 100)
            };
            let from = pod(10_000 + number as u16);
            kernel.run(Way::Out, &frame::udp(from, to, b"a:1|c"));
        }
    });
    let total = kernel.total();
    assert_eq!((total.opened, total.active), (5001, 16));
}

/// The same ports are used again, before the first attempt was given up.
#[test]
fn an_attempt_that_nobody_answers_and_then_another() {
    let kernel = Kernel::load(&["--connections", "64"]);
    let [client, server] = ends(1000);
    kernel.run(Way::In, &frame::tcp(client, server, 77, 0, SYN, b""));
    let flow = Flow::open(&kernel, 1000);
    flow.request(GET);
    flow.response(OK);
    flow.close();
    kernel.check();
    let total = kernel.total();
    assert_eq!(
        (total.requests.http1, total.ended, total.lost),
        (1, 1, Default::default())
    );
    assert_eq!(
        (total.opened, total.closed.idle, total.closed.fin),
        (2, 1, 1)
    );
}
