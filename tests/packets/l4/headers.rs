//! Where the transport's header is, and what there is when there is none.

use metricd::abi::{MetricKey, origin, series_kind};

use crate::flow::{Flow, ends, ends6};
use crate::frame::{self, ACK, End, RST, SYN, ethernet, ip};
use crate::kernel::{Kernel, Shared, Way};

fn kernel() -> Kernel {
    Kernel::load(&["--connections", "64"])
}

/// The only series that has counted anything.
#[track_caller]
fn only(kernel: &Kernel) -> MetricKey {
    let mut all = kernel.series();
    all.retain(|(_, v)| v.recv.packets + v.sent.packets > 0);
    assert_eq!(all.len(), 1, "{all:?}");
    all[0].0
}

/// Puts a tag between the addresses and the type.
fn tagged(frame: &[u8], protocol: u16) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    out.extend(protocol.to_be_bytes());
    out.extend([0, 7]);
    out.extend(&frame[12..]);
    out
}

/// Puts options into the IPv4 header.
fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut out = frame[..34].to_vec();
    out.extend(options);
    out.extend(&frame[34..]);
    out[14] = 0x40 | (5 + options.len() as u8 / 4);
    let total = out.len() as u16 - 14;
    out[16..18].copy_from_slice(&total.to_be_bytes());
    out
}

/// Puts extension headers into the IPv6 header, whose first is of type `first`.
fn with_extensions(frame: &[u8], first: u8, extensions: &[u8]) -> Vec<u8> {
    let mut out = frame[..54].to_vec();
    out.extend(extensions);
    out.extend(&frame[54..]);
    out[20] = first;
    let len = out.len() as u16 - 54;
    out[18..20].copy_from_slice(&len.to_be_bytes());
    out
}

/// A whole exchange, each frame changed on its way; its request is to be found.
fn exchange(ends: fn(u16) -> [End; 2], change: impl Fn(&[u8]) -> Vec<u8>) {
    let kernel = Shared::get();
    let f = Flow::new(&kernel, ends(Shared::port()));
    let say = |role, flags, seq, payload: &[u8]| {
        let frame = f.frame(role, flags, seq, payload);
        kernel.run(f.way(role), &change(&frame));
    };
    use crate::flow::{Client, Server};
    let request = b"GET / HTTP/1.1\r\n\r\n";
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    say(Client, SYN, f.isn[0], b"");
    say(Server, SYN | ACK, f.isn[1], b"");
    say(Client, ACK, f.seq(Client, 0), b"");
    say(Client, ACK, f.seq(Client, 0), request);
    say(Server, ACK, f.seq(Server, 0), response);
    let total = f.total();
    assert_eq!((total.opened, total.requests.http1), (1, 1));
    assert_eq!(f.seen().responses[&200], 1);
    say(Client, RST, f.seq(Client, request.len() as u32), b"");
    assert_eq!(f.total().closed.rst, 1);
}

#[test]
fn plain() {
    exchange(ends, <[u8]>::to_vec);
    exchange(ends6, <[u8]>::to_vec);
}

#[test]
fn vlan_tags_in_band() {
    for ends in [ends, ends6] {
        exchange(ends, |f| tagged(f, 0x8100));
        exchange(ends, |f| tagged(f, 0x88a8));
        exchange(ends, |f| tagged(&tagged(f, 0x8100), 0x88a8));
        exchange(ends, |f| tagged(&tagged(f, 0x8100), 0x8100));
    }
}

#[test]
fn ipv4_options() {
    for words in 1..=10 {
        exchange(ends, |f| with_options(f, &vec![1; words * 4]));
    }
    exchange(ends, |f| tagged(&with_options(f, &[1; 8]), 0x8100));
}

#[test]
fn ipv6_extension_headers() {
    let cases: [(&str, u8, Vec<u8>); 7] = [
        ("hop-by-hop", 0, vec![6, 0, 1, 4, 0, 0, 0, 0]),
        (
            "routing",
            43,
            vec![
                6, 2, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
            ],
        ),
        ("destination options", 60, vec![6, 0, 1, 4, 0, 0, 0, 0]),
        ("atomic fragment", 44, vec![6, 0, 0, 0, 0, 0, 0, 1]),
        ("mobility", 135, vec![6, 0, 0, 0, 0, 0, 0, 0]),
        (
            "authentication",
            51,
            vec![
                6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,
            ],
        ),
        (
            "as many as are followed",
            0,
            [[60u8, 0, 1, 4, 0, 0, 0, 0]; 7]
                .concat()
                .into_iter()
                .chain([6, 0, 1, 4, 0, 0, 0, 0])
                .collect(),
        ),
    ];
    for (what, first, extensions) in cases {
        println!("{what}");
        exchange(ends6, |f| with_extensions(f, first, &extensions));
        exchange(ends6, |f| {
            tagged(&with_extensions(f, first, &extensions), 0x8100)
        });
    }
}

#[test]
fn one_extension_header_too_many() {
    let kernel = kernel();
    let f = Flow::new(&kernel, ends6(40000));
    let frame = f.frame(crate::flow::Client, SYN, 0, b"");
    let extensions = [[60u8, 0, 1, 4, 0, 0, 0, 0]; 9].concat();
    kernel.run(Way::In, &with_extensions(&frame, 60, &extensions));
    // Counted under the header that it got to.
    assert_eq!(only(&kernel).proto, 60);
}

/// A fragment with this offset, of a datagram with this identification, of a frame of either version.
fn fragment(frame: &[u8], offset: u16, more: bool, id: u8) -> Vec<u8> {
    if frame[12] == 0x08 {
        let mut frame = frame.to_vec();
        let flags = (offset / 8) | if more { 0x2000 } else { 0 };
        frame[18..20].copy_from_slice(&[0, id]);
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        return frame;
    }
    let [high, low] = (offset | u16::from(more)).to_be_bytes();
    let header = [frame[20], 0, high, low, 0, 0, 0, id];
    with_extensions(frame, 44, &header)
}

/// The first fragment has the ports, and those behind it belong to it.
#[test]
fn fragments_of_udp() {
    for [client, server] in [ends(40000), ends6(40000)] {
        let kernel = kernel();
        let frame = frame::udp(server, client, b"abcdefgh");
        kernel.run(Way::Out, &fragment(&frame, 0, true, 7));
        kernel.run(Way::Out, &fragment(&frame, 16, true, 7));
        kernel.run(Way::Out, &fragment(&frame, 32, false, 7));
        assert_eq!(only(&kernel).dst_port, 40000);
        let total = kernel.total();
        assert_eq!((total.sent.packets, total.opened), (3, 1));
        // Of another datagram nobody knows the ports.
        kernel.run(Way::Out, &fragment(&frame, 16, true, 8));
        let series = kernel.series();
        let unknown = series
            .iter()
            .find(|(key, _)| key.origin == origin::UNOPENED);
        let (key, value) = unknown.expect("a series of fragments");
        assert_eq!((key.dst_port, value.sent.packets, value.opened), (0, 1, 0));
    }
}

/// Fragments are never taken for a connection's segments, and open none.
#[test]
fn fragments_of_tcp() {
    for [client, server] in [ends(40000), ends6(40000)] {
        let kernel = kernel();
        let frame = frame::tcp(client, server, 0, 0, SYN, b"abcdefgh");
        for (offset, more, id) in [(0, true, 7), (16, false, 7), (16, true, 8), (24, false, 8)] {
            kernel.run(Way::In, &fragment(&frame, offset, more, id));
        }
        let total = kernel.total();
        assert_eq!((total.recv.packets, total.opened), (4, 0));
        assert_eq!(total.requests, Default::default());
        let series = kernel.series();
        let own = series.iter().filter(|(_, value)| value.recv.packets > 0);
        assert!(own.clone().all(|(key, _)| key.origin == origin::UNOPENED));
        assert!(own.count() <= 2, "{series:?}");
    }
}

#[test]
fn udp() {
    for [client, server] in [ends(40000), ends6(40000)] {
        let kernel = kernel();
        kernel.run(Way::In, &frame::udp(client, server, b"question"));
        kernel.run(Way::Out, &frame::udp(server, client, b"answer"));
        let key = only(&kernel);
        assert_eq!((key.proto, key.dst_port), (17, 80));
        let total = kernel.total();
        assert_eq!((total.recv.packets, total.sent.packets), (1, 1));
        assert_eq!((total.opened, total.active), (1, 1));
    }
}

#[test]
fn other_protocols_by_number() {
    let [client, server] = ends(40000);
    let kernel = kernel();
    for proto in [0, 1, 2, 41, 47, 50, 132, 255] {
        let mut frame = ethernet(client.ip);
        frame.extend(ip(client.ip, server.ip, proto, 8));
        frame.extend([8, 0, 0, 0, 0, 0, 0, 0]);
        kernel.run(Way::In, &frame);
        let found = kernel.series().into_iter().any(|(k, v)| {
            (k.proto, k.src_port, k.dst_port) == (proto, 0, 0) && v.recv.packets == 1
        });
        assert!(found, "{proto}");
    }
    let [client, server] = ends6(40000);
    let mut frame = ethernet(client.ip);
    frame.extend(ip(client.ip, server.ip, 58, 8));
    frame.extend([128, 0, 0, 0, 0, 0, 0, 0]);
    kernel.run(Way::In, &frame);
    assert!(kernel.series().iter().any(|(k, _)| k.proto == 58));
}

#[test]
fn no_ip() {
    let kernel = kernel();
    for ethertype in [0x0806u16, 0x88cc, 0x0001, 0xffff, 0x8100] {
        let mut frame = vec![0xff; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend([0; 46]);
        kernel.run(Way::In, &frame);
        kernel.run(Way::Out, &frame);
    }
    assert_eq!(only(&kernel).kind, series_kind::NON_IP);
    let total = kernel.total();
    assert_eq!((total.recv.packets, total.sent.packets), (5, 5));
}

#[test]
fn ipv6_switched_off() {
    let kernel = Kernel::load(&["--connections", "64", "--ipv6=false"]);
    let f = Flow::new(&kernel, ends6(40000));
    f.handshake();
    f.request("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(only(&kernel).kind, series_kind::IPV6_OFF);
    assert_eq!(kernel.total().opened, 0);
    assert_eq!(kernel.total().recv.packets, 3);
}

#[test]
fn ethernet_padding_is_no_payload() {
    let kernel = kernel();
    let f = Flow::open(&kernel, 40000);
    let mut frame = f.frame(crate::flow::Client, ACK, f.seq(crate::flow::Client, 0), b"");
    frame.extend([0; 20]);
    kernel.run(Way::In, &frame);
    f.request("GET / HTTP/1.1\r\n\r\n");
    f.response("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(kernel.total().recv.retransmits, 0);
    assert_eq!(kernel.responses()[&204], 1);
}

#[test]
fn cut_at_each_byte() {
    let kernel = kernel();
    let frames = [
        frame::tcp(ends(1)[0], ends(1)[1], 0, 0, SYN, b"GET / HTTP/1.1\r\n\r\n"),
        frame::tcp(
            ends6(1)[0],
            ends6(1)[1],
            0,
            0,
            SYN,
            b"GET / HTTP/1.1\r\n\r\n",
        ),
        frame::udp(ends(1)[0], ends(1)[1], b"abc"),
        frame::udp(ends6(1)[0], ends6(1)[1], b"abc"),
    ];
    for frame in &frames {
        let mut changed = vec![
            frame.clone(),
            tagged(frame, 0x8100),
            tagged(&tagged(frame, 0x8100), 0x88a8),
        ];
        changed.push(if frame[12] == 8 {
            with_options(frame, &[1; 40])
        } else {
            with_extensions(frame, 0, &[[0u8, 0, 1, 4, 0, 0, 0, 0]; 7].concat())
        });
        for frame in changed {
            for len in 15..=frame.len() {
                kernel.run_if_taken(Way::In, &frame[..len]);
                kernel.run_if_taken(Way::Out, &frame[..len]);
            }
            kernel.check();
        }
    }
    assert!(kernel.counters().truncated > 0);
}
