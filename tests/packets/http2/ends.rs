//! Streams that are reset, and connections that end before their streams.

use super::block::{Form, NEWEST, STATUS, Text, indexed, named, plain};
use super::wire::{
    CANCEL, END_STREAM, NO_ERROR, REFUSED_STREAM, data, frame, goaway, headers, rst_stream,
    settings,
};
use super::{GET, OK, aborted, answer, assert_l7, exchange, get, with};
use crate::flow::{Client, Flow, Server};
use crate::kernel::{Kernel, Shared};
use crate::model::L7;

const CODES: [u32; 17] = [
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    11,
    12,
    13,
    14,
    0x0700_0000,
    0xffff_ffff,
];

#[test]
fn reset_by_the_client() {
    for code in CODES {
        for size in [1, 1000] {
            with(|f| {
                f.request(headers(1, 0, GET));
                f.send_in(Client, size, rst_stream(1, code));
                exchange(f, 3);
                let expected = L7::http2(2, &[(204, 1)]).aborted(aborted(|a| a.cancelled = 1));
                assert_eq!(L7::of(f), expected, "{code}");
            });
        }
    }
}

#[test]
fn reset_by_the_server() {
    for code in CODES {
        for size in [1, 1000] {
            with(|f| {
                f.request(get(1));
                f.response([headers(1, 0, OK), data(1, 0, "x")].concat());
                f.send_in(Server, size, rst_stream(1, code));
                exchange(f, 3);
                let reason = aborted(|a| match code {
                    REFUSED_STREAM => a.refused = 1,
                    CANCEL => a.cancelled = 1,
                    _ => a.reset = 1,
                });
                let expected = L7::http2(2, &[(204, 1)]).aborted(reason);
                assert_eq!(L7::of(f), expected, "{code}");
            });
        }
    }
}

#[test]
fn reset_of_an_ended_stream() {
    // A server that does not want the rest of a request says so behind its whole answer.
    for role in [Client, Server] {
        for code in [NO_ERROR, CANCEL, REFUSED_STREAM] {
            with(|f| {
                f.request(headers(1, 0, GET));
                f.response([headers(1, 0, OK), data(1, END_STREAM, "x")].concat());
                f.send(role, rst_stream(1, code));
                f.send(role.other(), rst_stream(1, code));
                exchange(f, 3);
                assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
            });
        }
    }
}

#[test]
fn reset_twice() {
    // Both at the same time, and again.
    with(|f| {
        f.request(get(1));
        f.request(rst_stream(1, CANCEL));
        f.response([rst_stream(1, REFUSED_STREAM), rst_stream(1, CANCEL)].concat());
        f.request(rst_stream(1, CANCEL));
        exchange(f, 3);
        let expected = L7::http2(2, &[(204, 1)]).aborted(aborted(|a| a.cancelled = 1));
        assert_l7(f, expected);
    });
}

#[test]
fn answer_on_its_way_when_reset() {
    with(|f| {
        f.request(get(1));
        f.request(rst_stream(1, CANCEL));
        f.response(headers(1, 0, OK));
        f.response([data(1, 0, "x"), answer(1, plain("a", "b"))].concat());
        exchange(f, 3);
        let expected = L7::http2(2, &[(204, 1)]).aborted(aborted(|a| a.cancelled = 1));
        assert_l7(f, expected);
    });
}

#[test]
fn request_on_its_way_when_reset() {
    with(|f| {
        f.request(headers(1, 0, GET));
        f.response(rst_stream(1, REFUSED_STREAM));
        f.request([data(1, 0, "x"), headers(1, END_STREAM, plain("a", "b"))].concat());
        exchange(f, 3);
        let expected = L7::http2(2, &[(204, 1)]).aborted(aborted(|a| a.refused = 1));
        assert_l7(f, expected);
    });
}

/// Its end is not that of the payload that is passed over next.
#[test]
fn answered_before_it_was_opened() {
    let payloads = [
        goaway(1, NO_ERROR),
        frame(0xff, 0, 0, "not known"),
        data(9, 0, "abc"),
    ];
    for payload in payloads {
        for cut in 0..payload.len() {
            with(|f| {
                f.response(answer(1, OK));
                f.request(get(1));
                f.response(&payload[..cut]);
                f.response(&payload[cut..]);
                assert_eq!(L7::of(f), L7::http2(1, &[]), "{payload:?}, cut at {cut}");
                f.close();
            });
        }
    }
}

#[test]
fn reset_of_what_was_never_opened() {
    with(|f| {
        f.request([rst_stream(2, 8), settings(&[])].concat());
        f.response([rst_stream(8, 8), rst_stream(2, 8)].concat());
        exchange(f, 1);
        assert_l7(f, L7::http2(1, &[(204, 1)]));
    });
}

#[test]
fn reset_of_many() {
    // Beyond those that have a place of their own.
    with(|f| {
        for i in 0..300 {
            f.request(get(2 * i + 1));
        }
        for i in 0..300 {
            f.send(
                [Client, Server][i as usize % 2],
                rst_stream(2 * i + 1, CANCEL),
            );
        }
        exchange(f, 601);
        let expected = L7::http2(301, &[(204, 1)]).aborted(aborted(|a| a.cancelled = 300));
        assert_l7(f, expected);
    });
}

/// Two that are open, one that has ended, one whose answer has begun, one of gRPC.
fn open_streams(f: &Flow) {
    f.request([get(1), headers(3, 0, GET), get(5)].concat());
    let grpc = plain("content-type", "application/grpc");
    f.request(headers(7, 0, [&GET[..], &grpc].concat()));
    f.response([answer(1, OK), headers(5, 0, OK), data(5, 0, "x")].concat());
}

fn expected() -> L7 {
    L7::http2(3, &[(200, 1)]).and(L7::grpc(1, &[]))
}

#[test]
fn connection_closed() {
    with(|f| {
        open_streams(f);
        f.close();
        assert_l7(f, expected().aborted(aborted(|a| a.fin = 3)));
    });
}

#[test]
fn connection_reset() {
    for role in [Client, Server] {
        with(|f| {
            open_streams(f);
            f.rst(role);
            assert_l7(f, expected().aborted(aborted(|a| a.rst = 3)));
        });
    }
}

#[test]
fn connection_closed_with_the_last_bytes() {
    with(|f| {
        f.request(get(1));
        f.fin_with(
            Server,
            &[headers(1, 0, OK), data(1, END_STREAM, "x")].concat(),
        );
        f.fin(Client);
        f.ack(Server);
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}

#[test]
fn half_closed() {
    with(|f| {
        f.request(get(1));
        f.fin(Client);
        f.response(answer(1, OK));
        f.fin(Server);
        f.ack(Client);
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}

#[test]
fn evicted() {
    let kernel = Kernel::load(&["--connections", "1"]);
    let f = Flow::open(&kernel, 40000);
    super::start(&f);
    open_streams(&f);
    let next = Flow::open(&kernel, 40001);
    super::start(&next);
    exchange(&next, 1);
    let all = expected().aborted(aborted(|a| a.evicted = 3));
    assert_l7(&f, all.and(L7::http2(1, &[(204, 1)])));
}

#[test]
fn replaced_by_a_new_connection() {
    // The same ports: nothing of the first connection's streams or fields is left.
    let kernel = Shared::get();
    let port = Shared::port();
    let kept = named(Form::Indexed, STATUS, Text::plain("418"));
    for _ in 0..3 {
        let f = Flow::open(&kernel, port);
        super::start(&f);
        open_streams(&f);
        f.request(get(9));
        f.response(answer(9, &kept));
        assert_l7(
            &f,
            L7::http2(4, &[(200, 1), (418, 1)]).and(L7::grpc(1, &[])),
        );
        f.rst(Client);
        let next = Flow::open(&kernel, port);
        super::start(&next);
        next.request(get(1));
        next.response(answer(1, indexed(NEWEST)));
        assert_eq!(next.seen().responses, [(0, 1)].into());
        next.rst(Client);
    }
}
