//! The bounds of bpf/http/http2, each at the bound and one beyond.

use super::block::plain;
use super::wire::{END_STREAM, data, headers};
use super::{GET, OK, aborted, answer, assert_l7, exchange, get, lost, start, with};
use crate::flow::{Client, Flow, Server, ends};
use crate::kernel::{Kernel, Shared};
use crate::model::L7;

/// HTTP2_STREAMS of bpf/http/state.h: streams with a place of their own.
const STREAMS: u32 = 128;

#[test]
fn connections() {
    // --http2-connections, whose places are given back in whatever way a connection ends.
    let kernel = Kernel::load(&["--connections", "64", "--http2-connections", "3"]);
    let open = |port| {
        let f = Flow::open(&kernel, port);
        start(&f);
        f.request(get(1));
        f
    };
    for round in 0..4 {
        let three = [1, 2, 3].map(|i| open(1000 * round + i));
        let fourth = open(1000 * round + 4);
        assert_l7(&fourth, L7::default().lost(lost(|l| l.bound = 1)));
        fourth.response(answer(1, OK));
        fourth.close();
        for f in &three {
            f.response(answer(1, OK));
        }
        assert_l7(
            &three[0],
            L7::http2(3, &[(200, 3)]).lost(lost(|l| l.bound = 1)),
        );
        three[0].close();
        three[1].rst(Client);
        // Replaced by one with the same ports.
        let again = Flow::new(&kernel, ends(1000 * round + 3));
        again.handshake();
        again.rst(Server);
    }
}

#[test]
fn streams_of_connections_that_have_ended() {
    // What they leave behind takes no place from a stream that lives.
    with(|f| {
        f.request([get(1), get(1 + 2 * STREAMS)].concat());
        f.response(headers(1 + 2 * STREAMS, 0, plain(":status", "299")));
        for _ in 0..60 {
            let other = Flow::open(f.kernel, Shared::port());
            start(&other);
            for i in 0..2 * STREAMS {
                other.request(get(2 * i + 1));
            }
            other.close();
        }
        f.response([data(1 + 2 * STREAMS, END_STREAM, "x"), answer(1, OK)].concat());
        let others = u64::from(60 * 2 * STREAMS);
        let others = L7::http2(others, &[]).aborted(aborted(|a| a.fin = others));
        assert_l7(f, L7::http2(2, &[(200, 1), (299, 1)]).and(others));
    });
}

#[test]
fn streams_without_a_place() {
    // linkerd_http2_stream_map has room for 4,096: beyond it, what is missing must be visible.
    for n in [1000, 3000, 5000] {
        with(|f| {
            let all = STREAMS + n;
            f.send_in(
                Client,
                3000,
                (0..all).flat_map(|i| get(2 * i + 1)).collect::<Vec<_>>(),
            );
            let answers = (0..all).flat_map(|i| answer(2 * i + 1, OK));
            f.send_in(Server, 3000, answers.collect::<Vec<_>>());
            let seen = L7::of(f);
            assert_eq!(seen.requests.http2, u64::from(all));
            assert!(
                seen.in_flight == 0 || seen.lost.bound > 0,
                "of {all}, without a sign: {seen:?}"
            );
        });
    }
}

#[test]
fn unanswered_streams_without_a_place() {
    with(|f| {
        for i in 0..2 * STREAMS {
            f.request(get(2 * i + 1));
        }
        f.close();
        let all = u64::from(2 * STREAMS);
        assert_l7(f, L7::http2(all, &[]).aborted(aborted(|a| a.fin = all)));
    });
}

#[test]
fn fields_of_a_block() {
    // There is no bound on them.
    with(|f| {
        f.request(headers(1, END_STREAM, GET));
        let block = [plain(":status", "418"), plain("a", "b").repeat(20_000)].concat();
        f.send_in(Server, 3000, answer(1, block));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(204, 1), (418, 1)]));
    });
}
