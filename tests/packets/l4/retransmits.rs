//! Which segments count as sent again.

use crate::flow::{Client, Flow, Role, Server};
use crate::frame::{ACK, FIN, PSH};
use crate::kernel::Shared;

fn with(test: impl FnOnce(&Flow)) {
    let kernel = Shared::get();
    let flow = Flow::open(&kernel, Shared::port());
    flow.request([b'x'; 300]);
    flow.response([b'x'; 300]);
    test(&flow);
    flow.rst(Client);
}

/// Received and sent.
fn counted(f: &Flow) -> [u64; 2] {
    [f.total().recv.retransmits, f.total().sent.retransmits]
}

const BOTH: [Role; 2] = [Client, Server];

#[test]
fn the_same_or_a_part_or_more() {
    for role in BOTH {
        with(|f| {
            for (n, (at, len)) in [(0, 300), (100, 50), (200, 200)].into_iter().enumerate() {
                f.send_at(role, at, vec![b'x'; len]);
                assert_eq!(counted(f)[role as usize], n as u64 + 1);
            }
            // The new bytes of the last are known now.
            f.send_at(role, 400, b"new");
            assert_eq!(counted(f)[role as usize], 3);
            assert_eq!(counted(f)[role.other() as usize], 0);
        });
    }
}

#[test]
fn acknowledgements_are_none() {
    with(|f| {
        for role in BOTH {
            for _ in 0..5 {
                f.ack(role);
            }
        }
        assert_eq!(counted(f), [0, 0]);
    });
}

#[test]
fn keep_alives_are_none() {
    for role in BOTH {
        with(|f| {
            let last = f.seq(role, f.said[role as usize].get()).wrapping_sub(1);
            f.segment(role, ACK, last, b"");
            f.ack(role.other());
            f.segment(role, ACK, last, b"");
            assert_eq!(counted(f), [0, 0]);
        });
    }
    // With a byte of garbage, RFC 1122 section 4.2.3.6; Linux sends none such.
    with(|f| {
        let last = f.seq(Client, f.said[0].get()).wrapping_sub(1);
        f.segment(Client, ACK, last, b"\0");
        f.ack(Server);
        assert_eq!(counted(f), [0, 0]);
        f.segment(Server, ACK, f.seq(Server, 299), b"x");
        assert_eq!(counted(f), [0, 1], "on its way out it is sent again");
    });
}

#[test]
fn zero_window_probe_is_none() {
    with(|f| {
        // Into the closed window, with one new byte; it is acknowledged only later.
        f.segment(Client, ACK, f.seq(Client, 300), b"y");
        f.segment(Client, ACK, f.seq(Client, 300), b"y");
        assert_eq!(counted(f), [0, 0]);
    });
}

#[test]
fn a_fin_sent_again_is_one() {
    for role in BOTH {
        with(|f| {
            let seq = f.seq(role, 300);
            f.fin(role);
            assert_eq!(counted(f), [0, 0]);
            f.segment(role, FIN | ACK, seq, b"");
            assert_eq!(counted(f)[role as usize], 1);
        });
    }
}

#[test]
fn reordered_is_not_sent_again() {
    for role in BOTH {
        with(|f| {
            for i in [2, 1, 0, 4, 3, 6, 7, 5] {
                f.send_at(role, 300 + i * 100, [b'x'; 100]);
            }
            assert_eq!(counted(f), [0, 0]);
            f.send_at(role, 500, [b'x'; 100]);
            assert_eq!(counted(f)[role as usize], 1);
        });
    }
}

#[test]
fn of_a_super_packet_each_segment_counts() {
    with(|f| {
        let payload = [b'x'; 3000];
        let frame = f.frame(Server, ACK | PSH, f.seq(Server, 300), &payload);
        let headers = frame.len() - payload.len();
        for _ in 0..2 {
            f.kernel.run_gso(f.way(Server), &frame, headers, 1000, 3);
        }
        assert_eq!(counted(f), [0, 3]);
        assert_eq!(f.total().sent.packets, 2 + 6);
    });
}
