//! How connections begin and end.

use metricd::abi::{ClosedValue, MetricValue};

use crate::flow::{Client, Flow, Role, Server, ends, ends6};
use crate::frame::{ACK, FIN, RST, SYN};
use crate::kernel::{Shared, Way};

/// What happens to a connection.
type Act = fn(&Flow);

/// Runs `test` for the pod as server and as client, by IPv4 and IPv6, each on a connection of
/// which nothing was said.
fn each_way(test: impl Fn(&Flow)) {
    let kernel = Shared::get();
    for inbound in [true, false] {
        for ends in [ends, ends6] {
            let mut flow = Flow::new(&kernel, ends(Shared::port()));
            flow.inbound = inbound;
            test(&flow);
            kernel.check();
            flow.rst(Client);
        }
    }
}

#[track_caller]
fn assert_closed(flow: &Flow, set: impl FnOnce(&mut ClosedValue)) {
    let mut closed = ClosedValue::default();
    set(&mut closed);
    let total = flow.total();
    assert_eq!((total.opened, total.closed), (1, closed));
    let durations = flow.seen().handshake.duration.count();
    assert_eq!(durations, 1 - total.active, "durations");
}

/// Of a connection that has ended before it opened, nothing is known but how.
fn assert_never_opened(flow: &Flow, set: impl FnOnce(&mut ClosedValue)) {
    let mut closed = ClosedValue::default();
    set(&mut closed);
    let total = flow.total();
    assert_eq!((total.opened, total.active, total.closed), (1, 0, closed));
    let seen = flow.seen();
    assert_eq!(seen.handshake.duration.count() + rtts(flow), 0);
}

fn rtts(flow: &Flow) -> u64 {
    flow.seen().handshake.rtt.count()
}

#[test]
fn handshake_and_close() {
    each_way(|f| {
        f.handshake();
        assert_closed(f, |_| ());
        assert_eq!(rtts(f), 1);
        f.close();
        assert_closed(f, |c| c.fin = 1);
        assert_eq!(rtts(f), 1);
        assert_eq!(f.total().lost, Default::default());
    });
}

#[test]
fn closed_by_the_server() {
    each_way(|f| {
        f.handshake();
        f.fin(Server);
        f.ack(Client);
        f.request("half closed, still speaking");
        f.ack(Server);
        f.fin(Client);
        assert_closed(f, |_| ());
        f.ack(Server);
        assert_closed(f, |c| c.fin = 1);
    });
}

#[test]
fn closed_by_both_at_once() {
    each_way(|f| {
        f.handshake();
        let (client, server) = (f.seq(Client, 0), f.seq(Server, 0));
        f.segment(Client, FIN | ACK, client, b"");
        f.segment(Server, FIN | ACK, server, b"");
        f.said[0].set(1);
        f.said[1].set(1);
        f.ack(Client);
        assert_closed(f, |_| ());
        f.ack(Server);
        assert_closed(f, |c| c.fin = 1);
    });
}

#[test]
fn last_ack_sent_again() {
    each_way(|f| {
        f.handshake();
        f.close();
        f.ack(Client);
        f.segment(Server, FIN | ACK, f.seq(Server, 0), b"");
        f.ack(Client);
        assert_closed(f, |c| c.fin = 1);
    });
}

#[test]
fn refused() {
    each_way(|f| {
        f.syn();
        f.segment(Server, RST | ACK, 0, b"");
        assert_never_opened(f, |c| c.refused = 1);
    });
}

#[test]
fn reset() {
    for role in [Client, Server] {
        each_way(|f| {
            f.handshake();
            f.request("something");
            f.rst(role);
            assert_closed(f, |c| c.rst = 1);
        });
    }
}

#[test]
fn reset_by_the_client_in_the_handshake() {
    each_way(|f| {
        f.syn();
        f.syn_ack();
        f.segment(Client, RST, f.seq(Client, 0), b"");
        assert_never_opened(f, |c| c.rst = 1);
    });
}

#[test]
fn reset_after_both_fins() {
    each_way(|f| {
        f.handshake();
        f.fin(Client);
        f.rst(Server);
        assert_closed(f, |c| c.rst = 1);
    });
}

#[test]
fn forged_reset() {
    let kernel = Shared::get();
    let f = Flow::open(&kernel, Shared::port());
    f.segment(Client, RST, f.seq(Client, 1 << 30), b"");
    assert_closed(&f, |_| ());
    f.rst(Client);
}

#[test]
fn no_sample_of_a_handshake_sent_twice() {
    let twice: [(&str, Act); 2] = [
        ("SYN", |f| {
            f.syn();
            f.syn();
            f.syn_ack();
            f.ack(Client);
        }),
        ("SYN-ACK", |f| {
            f.syn();
            f.syn_ack();
            f.syn_ack();
            f.ack(Client);
        }),
    ];
    for (what, handshake) in twice {
        each_way(|f| {
            handshake(f);
            // Outbound, the sample is taken at the first SYN-ACK, when nothing was sent twice.
            let samples = u64::from(!f.inbound && what == "SYN-ACK");
            assert_eq!(rtts(f), samples, "{what}, inbound {}", f.inbound);
            assert_closed(f, |_| ());
            let MetricValue { recv, sent, .. } = f.total();
            assert_eq!(recv.retransmits + sent.retransmits, 1, "{what}");
        });
    }
}

#[test]
fn one_sample_however_many_acks() {
    each_way(|f| {
        f.handshake();
        f.ack(Client);
        f.request("x");
        f.ack(Server);
        assert_eq!(rtts(f), 1);
    });
}

#[test]
fn data_with_the_syn() {
    // TCP fast open, RFC 7413.
    each_way(|f| {
        let request = b"GET / HTTP/1.1\r\n\r\n";
        f.segment(Client, SYN, f.isn[0], request);
        f.said[0].set(request.len() as u32);
        f.syn_ack();
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        f.ack(Client);
        f.close();
        assert_closed(f, |c| c.fin = 1);
        assert_eq!(f.total().requests.http1, 1);
        assert_eq!(f.total().in_flight(), 0);
    });
}

/// The next connection between the same ends.
fn again<'a>(f: &Flow<'a>, isn: u32) -> Flow<'a> {
    let mut next = Flow::new(f.kernel, f.ends);
    next.inbound = f.inbound;
    next.isn = [isn, isn ^ 0x5555_5555];
    next
}

#[test]
fn closed_and_opened_again() {
    each_way(|f| {
        f.handshake();
        f.close();
        for i in 1..5 {
            let next = again(f, f.isn[0].wrapping_add(i * 100_000));
            next.handshake();
            next.request("GET / HTTP/1.1\r\n\r\n");
            next.response("HTTP/1.1 204 No Content\r\n\r\n");
            next.close();
            assert_closed(&next, |c| c.fin = 1);
            assert_eq!(rtts(&next), 1);
            assert_eq!(next.seen().responses[&204], 1);
        }
    });
}

#[test]
fn opened_again_before_it_was_closed() {
    each_way(|f| {
        f.handshake();
        f.request("GET / HTTP/1.1\r\n\r\n");
        let next = again(f, f.seq(Client, 1000));
        next.handshake();
        let total = f.total();
        assert_eq!((total.opened, total.active, total.closed.idle), (2, 1, 1));
        assert_eq!((total.aborted.idle, total.in_flight()), (1, 0));
        next.request("GET / HTTP/1.1\r\n\r\n");
        next.response("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(f.seen().responses[&204], 1);
        next.close();
        assert_eq!(f.total().active, 0);
    });
}

#[test]
fn ends_change_places() {
    // The client of before is now the server, between the same ports.
    let kernel = Shared::get();
    let f = Flow::open(&kernel, Shared::port());
    f.close();
    let [a, b] = f.ends;
    let mut next = Flow::new(&kernel, [b, a]);
    next.inbound = false;
    next.handshake();
    next.request("GET / HTTP/1.1\r\n\r\n");
    next.response("HTTP/1.1 204 No Content\r\n\r\n");
    next.close();
    assert_eq!(next.seen().responses[&204], 1);
    assert_eq!(next.total().closed.fin, 1);
}

#[test]
fn without_a_beginning() {
    let first: [(&str, u64, Act); 4] = [
        ("ACK alone", 0, |f| f.ack(Client)),
        ("FIN alone", 0, |f| f.fin(Server)),
        ("RST alone", 0, |f| f.rst(Server)),
        ("data", 1, |f| f.request("x")),
    ];
    for (what, opened, test) in first {
        each_way(|f| {
            test(f);
            // One end alone is nobody's connection yet.
            assert_eq!(f.total().opened, 0, "{what}");
            f.close();
            let total = f.total();
            assert_eq!(total.opened, opened, "{what}");
            assert_eq!(total.lost.midstream, opened, "{what}");
            assert_eq!(total.closed.fin, opened, "{what}");
            let seen = f.seen();
            assert_eq!(seen.handshake.duration.count(), 0, "{what}: of unknown age");
        });
    }
}

#[test]
fn from_the_syn_ack_on() {
    each_way(|f| {
        f.syn_ack();
        f.ack(Client);
        f.close();
        let total = f.total();
        assert_eq!((total.opened, total.closed.fin), (1, 1));
        assert_eq!(rtts(f), 0);
    });
}

#[test]
fn both_ways_of_speaking_are_told_apart() {
    each_way(|f| {
        f.handshake();
        let roles: [Role; 5] = [Client, Server, Client, Client, Server];
        for role in roles {
            f.send(role, "x");
        }
        let total = f.total();
        let (client, server) = (2 + 3, 1 + 2);
        let (recv, sent) = if f.inbound {
            (client, server)
        } else {
            (server, client)
        };
        assert_eq!((total.recv.packets, total.sent.packets), (recv, sent));
    });
}

#[test]
fn further_subflows_of_mptcp() {
    // RFC 8684 section 3.2: the option's length, and its subtype in the upper half of the third byte.
    let join = [30, 12, 0x10, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    let capable = [30, 12, 0x01, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    for (options, followed) in [
        (join, 0),
        (capable, 1),
        // Behind others, and cut.
        ([1, 1, 8, 3, 0, 30, 12, 0x10, 0, 0, 0, 0], 0),
        ([1, 1, 8, 3, 0, 30, 12, 0x21, 0, 0, 0, 0], 1),
        ([2, 9, 0, 0, 0, 0, 0, 0, 0, 30, 3, 0x10], 0),
        ([2, 10, 0, 0, 0, 0, 0, 0, 0, 0, 30, 3], 1),
        ([2, 200, 0, 0, 0, 0, 0, 0, 0, 0, 30, 3], 1),
        // No more options, or one without a length.
        ([0, 30, 12, 0x10, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        ([2, 0, 30, 12, 0x10, 0, 0, 0, 0, 0, 0, 0], 1),
    ] {
        let kernel = Shared::get();
        for ends in [ends(Shared::port()), ends6(Shared::port())] {
            let flow = Flow::new(&kernel, ends);
            let mut syn = flow.frame(Client, SYN, flow.isn[0], b"");
            let n = syn.len();
            syn[n - 12..].copy_from_slice(&options);
            kernel.run(Way::In, &syn);
            flow.syn_ack();
            flow.ack(Client);
            flow.request("GET / HTTP/1.1\r\n\r\n");
            flow.response("HTTP/1.1 204 No Content\r\n\r\n");
            flow.rst(Client);
            let total = flow.total();
            assert_eq!(
                (total.opened, total.requests.http1),
                (1, followed),
                "{options:?}"
            );
            assert_eq!(total.decided.passed_over, 1 - followed, "{options:?}");
        }
    }
}
