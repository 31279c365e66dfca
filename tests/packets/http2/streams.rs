//! Many streams at a time.

use super::block::{CONTENT_TYPE, Form, STATUS, Text, named, plain};
use super::wire::{END_STREAM, data, headers};
use super::{GET, OK, answer, assert_l7, exchange, get, with};
use crate::flow::{Client, Flow, Server};
use crate::model::L7;

/// The nth stream of a client.
fn nth(n: usize) -> u32 {
    2 * n as u32 + 1
}

/// A status that tells streams apart, also those whose place is the same.
fn status(n: usize) -> u16 {
    200 + (n % 59) as u16
}

fn head(n: usize, flags: u8) -> Vec<u8> {
    let text = status(n).to_string();
    headers(
        nth(n),
        flags,
        named(Form::Plain, STATUS, Text::plain(&text)),
    )
}

/// `n` requests at once, each answered with a status of its own in another order, body last.
fn at_once(f: &Flow, n: usize, order: impl Fn(usize) -> usize) {
    let requests: Vec<u8> = (0..n).flat_map(|i| get(nth(i))).collect();
    f.send_in(Client, 1000, requests);
    assert_l7(f, L7::http2(n as u64, &[]));
    f.send_in(
        Server,
        1000,
        (0..n).flat_map(|i| head(order(i), 0)).collect::<Vec<_>>(),
    );
    assert_l7(f, L7::http2(n as u64, &[]));
    let bodies = (0..n).flat_map(|i| data(nth(order(n - 1 - i)), END_STREAM, "x"));
    f.send_in(Server, 1000, bodies.collect::<Vec<_>>());
    let mut expected = L7::http2(n as u64, &[]);
    expected.in_flight = 0;
    for i in 0..n {
        let answer = crate::kernel::Answer::http2(status(i));
        *expected.responses.entry(answer).or_default() += 1;
    }
    assert_l7(f, expected);
    assert_eq!(f.total().untimed, 0);
}

#[test]
fn at_once_100() {
    with(|f| at_once(f, 100, |i| i));
    with(|f| at_once(f, 100, |i| 99 - i));
    with(|f| at_once(f, 100, |i| i * 37 % 100));
}

#[test]
fn at_once_as_many_as_have_a_place() {
    // HTTP2_STREAMS of bpf/http/state.h, and one more.
    with(|f| at_once(f, 128, |i| 127 - i));
    with(|f| at_once(f, 129, |i| 128 - i));
    with(|f| at_once(f, 129, |i| i));
}

#[test]
fn at_once_more_than_have_a_place() {
    with(|f| at_once(f, 300, |i| i * 7 % 300));
    with(|f| at_once(f, 500, |i| 499 - i));
}

#[test]
fn long_lived() {
    with(|f| {
        f.request(headers(1, 0, GET));
        f.response(headers(1, 0, plain(":status", "299")));
        let grpc = named(Form::Plain, CONTENT_TYPE, Text::plain("application/grpc"));
        f.request(headers(3, 0, [&GET[..], &grpc].concat()));
        for i in 2..1000 {
            exchange(f, nth(i));
            if i % 100 == 0 {
                f.request([data(1, 0, "x"), data(3, 0, "x")].concat());
                f.response(data(1, 0, "x"));
            }
        }
        f.response([headers(3, 0, OK), answer(3, plain("grpc-status", "9"))].concat());
        f.response(data(1, END_STREAM, "x"));
        let http = L7::http2(999, &[(204, 998), (299, 1)]);
        assert_l7(f, http.and(L7::grpc(1, &[((200, 9), 1)])));
        assert_eq!(f.total().untimed, 0);
    });
}

#[test]
fn many_long_lived() {
    // As a watch of each kind of thing: all their places are taken again and again.
    with(|f| {
        let n = 60;
        for i in 0..n {
            f.request(headers(nth(i), END_STREAM, GET));
            f.response(head(i, 0));
        }
        for i in n..1000 {
            exchange(f, nth(i));
        }
        let mut expected = L7::http2(1000, &[(204, 940)]);
        assert_l7(f, expected.clone());
        for i in 0..n {
            f.response(data(nth(i), END_STREAM, "x"));
            let answer = crate::kernel::Answer::http2(status(i));
            *expected.responses.entry(answer).or_default() += 1;
            expected.in_flight -= 1;
        }
        assert_l7(f, expected);
    });
}

#[test]
fn numbers_left_out() {
    with(|f| {
        let streams = [5, 7, 263, 100_001, 0x0fff_ffff, 0x7fff_fffd, 0x7fff_ffff];
        for stream in streams {
            f.request(get(stream));
        }
        assert_l7(f, L7::http2(7, &[]));
        for stream in streams {
            f.response(answer(stream, OK));
        }
        assert_l7(f, L7::http2(7, &[(200, 7)]));
    });
}

#[test]
fn frames_in_turn() {
    with(|f| {
        f.request([headers(1, 0, GET), headers(3, 0, GET), headers(5, 0, GET)].concat());
        for i in 0..20 {
            let end = u8::from(i == 19);
            let all = [data(5, end, "x"), data(1, end, "yy"), data(3, end, "zzz")].concat();
            f.request(all);
        }
        f.response([head(2, 0), head(0, 0), head(1, 0)].concat());
        for i in 0..20 {
            f.response([data(1, 0, "yy"), data(3, u8::from(i == 10), "z")].concat());
            if i == 10 {
                f.response(data(5, END_STREAM, ""));
                break;
            }
            f.response(data(5, 0, "xxx"));
        }
        assert_l7(f, L7::http2(3, &[(201, 1), (202, 1)]));
        f.response(data(1, END_STREAM, ""));
        assert_l7(f, L7::http2(3, &[(200, 1), (201, 1), (202, 1)]));
    });
}

#[test]
fn answer_to_no_stream() {
    // On a stream that the client has not opened: there is nothing to answer.
    with(|f| {
        f.request(get(1));
        f.response(answer(5, OK));
        f.response(data(9, END_STREAM, "x"));
        let responses: u64 = f.seen().responses.values().sum();
        assert!(responses <= 1, "{:?}", L7::of(f));
    });
}

#[test]
fn answer_to_the_connection() {
    // Stream 0 is no request's, whether there was one or not.
    for before in [true, false] {
        with(|f| {
            if before {
                exchange(f, 1);
            }
            f.response([data(0, END_STREAM, "x"), answer(0, OK)].concat());
            f.request([data(0, END_STREAM, "x"), answer(0, GET)].concat());
            let n = u64::from(before);
            let seen = L7::of(f);
            assert_eq!((seen.requests.http2, seen.in_flight), (n, 0), "{seen:?}");
            assert_eq!(seen.responses.values().sum::<u64>(), n, "{seen:?}");
        });
    }
}

#[test]
fn frames_of_an_ended_stream() {
    with(|f| {
        f.request(get(1));
        f.response(answer(1, OK));
        f.response([answer(1, OK), data(1, END_STREAM, "x")].concat());
        f.request([data(1, END_STREAM, "x"), get(1)].concat());
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}
