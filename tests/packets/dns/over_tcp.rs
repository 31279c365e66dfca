//! DNS over TCP, RFC 7766: each message has its length in front of it.

use metricd::abi::direction;

use super::{Dns, answer, end, message, opt, query};
use crate::flow::{Client, Flow, Server};
use crate::frame::{ACK, End};
use crate::kernel::{Kernel, Shared};

/// A message as it is sent over TCP.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = (message.len() as u16).to_be_bytes().to_vec();
    out.extend(message);
    out
}

/// A connection of the pod with a server of DNS.
fn open(kernel: &Kernel, server: End) -> Flow<'_> {
    let mut flow = Flow::new(kernel, [end([10, 0, 0, 1], 40000), server]);
    flow.inbound = false;
    flow.handshake();
    flow
}

fn with(flags: &[&str], test: impl FnOnce(&Dns, &Flow)) {
    let dns = Dns::load(flags);
    let flow = open(&dns.kernel, dns.server);
    test(&dns, &flow);
    dns.kernel.check();
}

#[test]
fn cut_anywhere() {
    for size in [1, 2, 3, 13, 14, 15, 1000] {
        with(&[], |dns, f| {
            let ids = 1..=20;
            let queries: Vec<u8> = ids.clone().flat_map(|id| framed(&query(id))).collect();
            let answers: Vec<u8> = ids.rev().flat_map(|id| framed(&answer(id, 3))).collect();
            f.send_in(Client, size, &queries);
            assert_eq!((dns.total().queries, dns.waiting()), (20, 20));
            f.send_in(Server, size, &answers);
            let total = dns.total();
            assert_eq!(
                (total.answers[3], total.unsolicited, dns.waiting()),
                (20, 0, 0)
            );
            let (key, _) = dns
                .counted()
                .into_iter()
                .find(|(_, v)| v.queries > 0)
                .unwrap();
            assert_eq!(
                (key.direction, &key.server[12..]),
                (direction::OUTBOUND, &[10, 0, 0, 53][..])
            );
            f.close();
            let of_tcp = f.total();
            assert_eq!((of_tcp.dns, of_tcp.opened, of_tcp.closed.fin), (1, 1, 1));
            assert_eq!(of_tcp.decided.total() + of_tcp.lost.gap, 0);
        });
    }
}

#[test]
fn a_server_in_the_pod() {
    let kernel = Kernel::load(&[]);
    let f = Flow::new(&kernel, [end([10, 0, 0, 2], 40000), end([10, 0, 0, 1], 53)]);
    f.handshake();
    f.request(framed(&query(1)));
    f.response(framed(&answer(1, 0)));
    let dns = super::counted(&kernel);
    let (key, value) = dns.iter().find(|(_, v)| v.queries > 0).unwrap();
    assert_eq!((key.direction, value.answers[0]), (direction::INBOUND, 1));
}

/// In another order, and sent again: each message counts once.
#[test]
fn out_of_order_and_again() {
    with(&[], |dns, f| {
        let all: Vec<u8> = (0..50).flat_map(|id| framed(&query(id))).collect();
        let from = f.said[Client as usize].get();
        let pieces: Vec<_> = all.chunks(23).enumerate().collect();
        for pair in pieces.chunks(2) {
            for (i, piece) in pair.iter().rev() {
                f.send_at(Client, from + 23 * *i as u32, piece);
                f.send_at(Client, from + 23 * *i as u32, piece);
            }
        }
        assert_eq!(dns.total().queries, 50);
    });
}

/// A body is not needed, the headers are.
#[test]
fn gaps() {
    with(&[], |dns, f| {
        f.request(&framed(&query(1))[..14]);
        f.skip(Client, query(1).len() as u32 - 12);
        f.request(framed(&query(2)));
        assert_eq!(dns.total().queries, 2);
        f.skip(Client, 100);
        f.request(framed(&query(3)));
        assert_eq!(dns.total().queries, 2);
        assert_eq!(f.total().dns, 1);
    });
}

#[test]
fn a_zone_in_several_messages() {
    with(&[], |dns, f| {
        f.request(framed(&query(1)));
        f.response(framed(&answer(1, 0)).repeat(100));
        let total = dns.total();
        assert_eq!(
            (total.queries, total.answers[0], total.unsolicited),
            (1, 1, 0)
        );
    });
}

#[test]
fn codes_of_edns() {
    with(&[], |dns, f| {
        // Several in one segment: the code is read from the message that it belongs to.
        let answers: Vec<u8> = [0, 1]
            .into_iter()
            .flat_map(|upper| {
                let rest = [super::NAME, &opt(upper)].concat();
                framed(&message(upper.into(), [0x81, 0x80], [1, 0, 0, 1], &rest))
            })
            .collect();
        f.request([framed(&query(0)), framed(&query(1))].concat());
        f.response(&answers);
        assert_eq!((dns.total().answers[0], dns.total().answers[16]), (1, 1));
    });
}

#[test]
fn other_ports_by_a_flag() {
    for (flags, port, counts) in [
        (&["--dns-ports", "5353,53"][..], 5353, true),
        (&["--dns-ports", "5353,53"], 53, true),
        (&["--dns-ports", "1,2,3,5353"], 53, false),
        (&[], 5353, false),
    ] {
        let kernel = Kernel::load(flags);
        let server = end([10, 0, 0, 53], port);
        let f = open(&kernel, server);
        f.request(framed(&query(1)));
        f.response(framed(&answer(1, 0)));
        let pod = end([10, 0, 0, 1], 40001);
        kernel.run(
            crate::kernel::Way::Out,
            &crate::frame::udp(pod, server, &query(2)),
        );
        kernel.run(
            crate::kernel::Way::In,
            &crate::frame::udp(server, pod, &answer(2, 0)),
        );
        let answered: u64 = super::counted(&kernel).values().map(|v| v.answers[0]).sum();
        assert_eq!(answered, if counts { 2 } else { 0 }, "{flags:?} {port}");
        assert_eq!(f.total().dns, u64::from(counts));
        kernel.check();
    }
}

/// What else is spoken there is told as ever.
#[test]
fn what_is_not_dns() {
    for (first, dns, tls, http1) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], 0, 0, 1),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 0, 1, 0),
        (b"\0\x0b\0\0\0\0\0\0\0\0\0\0\0\0", 0, 0, 0),
        (b"\0\x0c\0\x01\x01\0\0\0\0\0\0\0\0\0", 1, 0, 0),
    ] {
        for size in [1, 1000] {
            with(&[], |_, f| {
                f.send_in(Client, size, first);
                let total = f.total();
                assert_eq!(
                    (total.dns, total.tls, total.decided.http1),
                    (dns, tls, http1),
                    "{first:?}"
                );
                f.rst(Client);
            });
        }
    }
}

/// A length that no message has: what follows is not known.
#[test]
fn malformed() {
    with(&[], |dns, f| {
        f.request(framed(&query(1)));
        f.request(b"\0\x05hello, and so on, and so on");
        f.request(framed(&query(2)));
        assert_eq!(dns.total().queries, 1);
        assert_eq!(f.total().lost.malformed, 1);
    });
}

/// A connection that is older than the programs may stand anywhere in a message.
#[test]
fn midstream() {
    let kernel = Shared::get();
    let mut f = Flow::new(
        &kernel,
        [end([10, 0, 0, 1], Shared::port()), end([10, 0, 0, 53], 53)],
    );
    f.inbound = false;
    f.request(framed(&query(1)));
    f.response(framed(&answer(1, 0)));
    f.segment(Client, ACK, f.seq(Client, f.said[0].get()), b"");
    assert_eq!((f.total().dns, f.total().lost.midstream), (0, 1));
    f.rst(Client);
}
