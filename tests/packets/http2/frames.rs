//! Every type of frame, with all that it may have.

use super::wire::{
    ACK, DATA, DEPENDENCY, END_STREAM, HEADERS, PADDED, PING, PRIORITY, SETTINGS, WINDOW_UPDATE,
    WITH_PRIORITY, data, frame, headers, padded, settings,
};
use super::{GET, NOT_FOUND, OK, answer, assert_l7, exchange, get, with};
use crate::flow::{Client, Flow, Server};
use crate::model::L7;

#[test]
fn bodies() {
    with(|f| {
        f.request([headers(1, 0, GET), data(1, 0, "abc"), data(1, 0, "")].concat());
        f.request(data(1, END_STREAM, [0x88; 1000]));
        f.response([headers(1, 0, OK), data(1, 0, "abc")].concat());
        f.response(data(1, 0, answer(1, NOT_FOUND)));
        assert_l7(f, L7::http2(1, &[]));
        f.response(data(1, END_STREAM, ""));
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}

#[test]
fn body_of_many_segments() {
    with(|f| {
        let body = answer(1, NOT_FOUND).repeat(1638);
        f.request(headers(1, 0, GET));
        f.send_in(Client, 1448, data(1, END_STREAM, &body));
        f.response(headers(1, 0, OK));
        f.send_in(Server, 1448, data(1, 0, &body));
        f.send_in(Server, 1448, data(1, END_STREAM, &body));
        assert_l7(f, L7::http2(1, &[(200, 1)]));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn the_largest_frame() {
    // Of any size that the length can say: nothing of it is kept.
    with(|f| {
        f.request(get(1));
        f.response(headers(1, 0, OK));
        f.send_in(Server, 3000, data(1, END_STREAM, vec![1; (1 << 20) - 1]));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn padding_of_headers() {
    for pad in [0, 1, 2, 100, 255] {
        for size in [1, 7, 1000] {
            with(|f| {
                let flags = PADDED | END_STREAM;
                f.send_in(Client, size, headers(1, flags, padded(pad, GET)));
                f.send_in(Server, size, headers(1, flags, padded(pad, NOT_FOUND)));
                exchange(f, 3);
                assert_l7(f, L7::http2(2, &[(204, 1), (404, 1)]));
            });
        }
    }
}

#[test]
fn padding_of_data() {
    for pad in [0, 1, 2, 100, 255] {
        for body in ["", "x", "hello"] {
            with(|f| {
                f.request(headers(1, 0, GET));
                f.request(data(1, PADDED | END_STREAM, padded(pad, body)));
                f.response(headers(1, 0, OK));
                f.response(data(1, PADDED, padded(pad, body)));
                assert_l7(f, L7::http2(1, &[]));
                f.response(data(1, PADDED | END_STREAM, padded(pad, body)));
                exchange(f, 3);
                assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
            });
        }
    }
}

#[test]
fn priority_within_headers() {
    for size in [1, 3, 1000] {
        with(|f| {
            let first = [&DEPENDENCY[..], &GET].concat();
            f.send_in(Client, size, headers(1, WITH_PRIORITY, first));
            f.send_in(Client, size, data(1, END_STREAM, "abc"));
            let flags = WITH_PRIORITY | PADDED | END_STREAM;
            let second = padded(9, [&DEPENDENCY[..], &GET].concat());
            f.send_in(Client, size, headers(3, flags, &second));
            f.send_in(Server, size, answer(1, OK));
            let third = padded(9, [&DEPENDENCY[..], &NOT_FOUND].concat());
            f.send_in(Server, size, headers(3, flags, third));
            exchange(f, 5);
            assert_l7(f, L7::http2(3, &[(200, 1), (204, 1), (404, 1)]));
        });
    }
}

/// Frames that say nothing of a request.
fn others() -> Vec<Vec<u8>> {
    let disguised = get(99);
    vec![
        settings(&[]),
        settings(&[(1, 4096), (3, 100), (4, 65535), (5, 16384), (0x8888, 9)]),
        frame(SETTINGS, ACK, 0, []),
        frame(PING, 0, 0, [0x88; 8]),
        frame(PING, ACK, 0, [0x88; 8]),
        frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]),
        frame(WINDOW_UPDATE, 0, 1, [0x7f, 0xff, 0xff, 0xff]),
        frame(PRIORITY, 0, 1, DEPENDENCY),
        frame(PRIORITY, 0xff, 77, DEPENDENCY),
        // ALTSVC, ORIGIN, PRIORITY_UPDATE, and what is not known at all.
        frame(10, 0, 0, &disguised),
        frame(12, 0, 0, &disguised),
        frame(16, 0, 0, b"\0\0\0\x01u=1"),
        frame(0xff, 0xff, 0x7fff_ffff, &disguised),
        frame(0xfe, 0, 1, []),
    ]
}

fn among_others(f: &Flow, other: &[u8]) {
    f.request([other, &headers(1, 0, GET), other].concat());
    f.request([other, &data(1, END_STREAM, "x"), other].concat());
    f.response([other, &headers(1, 0, OK), other, &data(1, 0, "x"), other].concat());
    assert_l7(f, L7::http2(1, &[]));
    f.response([other, &data(1, END_STREAM, "x"), other].concat());
    f.request([other, &get(3), other].concat());
    f.response([other, &answer(3, NOT_FOUND), other].concat());
}

#[test]
fn frames_between() {
    for other in others() {
        with(|f| {
            among_others(f, &other);
            assert_eq!(L7::of(f), L7::http2(2, &[(200, 1), (404, 1)]), "{other:?}");
        });
    }
    with(|f| {
        among_others(f, &others().concat());
        assert_l7(f, L7::http2(2, &[(200, 1), (404, 1)]));
    });
}

#[test]
fn flags_and_bits_without_meaning() {
    with(|f| {
        // 0x08 and 0x20 mean something, 0x04 is not DATA's.
        let reserved = 1 << 31;
        f.request(frame(HEADERS, !0x29, 1 | reserved, GET));
        f.request(frame(DATA, !0x08, 1 | reserved, "abc"));
        f.response(frame(HEADERS, !0x29, 1 | reserved, OK));
        assert_l7(f, L7::http2(1, &[]));
        f.response(frame(DATA, !0x08, 1 | reserved, "abc"));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn trailers() {
    with(|f| {
        let field = super::block::plain("x-checksum", "1");
        f.request([headers(1, 0, GET), data(1, 0, "abc")].concat());
        f.request(headers(1, END_STREAM, &field));
        f.response([headers(1, 0, OK), data(1, 0, "abc")].concat());
        assert_l7(f, L7::http2(1, &[]));
        f.response(headers(1, END_STREAM, &field));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn interim_responses() {
    with(|f| {
        let interim = |status| super::block::plain(":status", status);
        f.request(headers(1, 0, GET));
        f.response([headers(1, 0, interim("100")), headers(1, 0, interim("103"))].concat());
        assert_l7(f, L7::http2(1, &[]));
        f.request(data(1, END_STREAM, "abc"));
        f.response(headers(1, 0, interim("103")));
        f.response(answer(1, NOT_FOUND));
        assert_l7(f, L7::http2(1, &[(404, 1)]));
    });
}

#[test]
fn answer_before_the_request_has_ended() {
    with(|f| {
        f.request([headers(1, 0, GET), data(1, 0, "abc")].concat());
        f.response(answer(1, NOT_FOUND));
        assert_l7(f, L7::http2(1, &[(404, 1)]));
        f.request([data(1, 0, "abc"), data(1, END_STREAM, "")].concat());
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(204, 1), (404, 1)]));
    });
}
