//! GOAWAY: RFC 9113 section 6.8.

use super::wire::{END_STREAM, NO_ERROR, data, goaway, headers, rst_stream};
use super::{GET, OK, aborted, answer, assert_l7, get, with};
use crate::flow::{Client, Server};
use crate::model::L7;

/// Before there is a number to give: the last stream there can be.
const LAST: u32 = (1 << 31) - 1;

#[test]
fn streams_above_are_refused() {
    for size in [1, 1000] {
        with(|f| {
            f.request([get(1), get(3), headers(5, 0, GET), get(7)].concat());
            f.send_in(Server, size, goaway(3, NO_ERROR));
            let refused = || aborted(|a| a.refused = 2);
            let mut expected = L7::http2(4, &[]).aborted(refused());
            expected.in_flight = 2;
            assert_l7(f, expected);
            f.response([answer(1, OK), headers(3, 0, OK)].concat());
            f.response(data(3, END_STREAM, "x"));
            f.close();
            assert_l7(f, L7::http2(4, &[(200, 2)]).aborted(refused()));
        });
    }
}

#[test]
fn ended_streams_are_not() {
    with(|f| {
        f.request([get(1), get(3)].concat());
        f.response([answer(1, OK), answer(3, OK), goaway(0, 2)].concat());
        assert_l7(f, L7::http2(2, &[(200, 2)]));
    });
}

#[test]
fn in_two_steps() {
    with(|f| {
        f.request([get(1), get(3)].concat());
        f.response(goaway(LAST, NO_ERROR));
        f.request(get(5));
        assert_l7(f, L7::http2(3, &[]));
        f.response(goaway(3, NO_ERROR));
        f.response([answer(1, OK), answer(3, OK)].concat());
        let expected = L7::http2(3, &[(200, 2)]).aborted(aborted(|a| a.refused = 1));
        assert_l7(f, expected);
    });
}

#[test]
fn without_any_stream() {
    with(|f| {
        f.response(goaway(0, NO_ERROR));
        f.close();
        assert_l7(f, L7::default());
    });
}

#[test]
fn by_the_client() {
    // It is about pushed streams.
    with(|f| {
        f.request([get(1), get(3), goaway(0, NO_ERROR)].concat());
        f.response([answer(1, OK), answer(3, OK)].concat());
        assert_l7(f, L7::http2(2, &[(200, 2)]));
    });
}

#[test]
fn request_on_its_way() {
    // It is refused, at once or when the connection ends.
    with(|f| {
        f.request(get(1));
        f.response(goaway(1, NO_ERROR));
        f.request(get(3));
        f.response(answer(1, OK));
        let refused = L7::http2(2, &[(200, 1)]).aborted(aborted(|a| a.refused = 1));
        let seen = L7::of(f);
        assert!(
            seen == refused || seen == L7::http2(2, &[(200, 1)]),
            "{seen:?}"
        );
        f.close();
        let total = f.total();
        assert_eq!(total.aborted.refused + total.aborted.fin, 1);
    });
}

#[test]
fn refused_and_reset() {
    with(|f| {
        f.request([get(1), get(3)].concat());
        f.response([goaway(1, NO_ERROR), rst_stream(3, 7)].concat());
        f.send(Client, rst_stream(3, 8));
        f.response(answer(1, OK));
        let expected = L7::http2(2, &[(200, 1)]).aborted(aborted(|a| a.refused = 1));
        assert_l7(f, expected);
    });
}

#[test]
fn of_many() {
    // Those beyond the places there are, too.
    with(|f| {
        for i in 0..300 {
            f.request(get(2 * i + 1));
        }
        f.response(goaway(99, NO_ERROR));
        let mut expected = L7::http2(300, &[]).aborted(aborted(|a| a.refused = 250));
        expected.in_flight = 50;
        assert_l7(f, expected);
    });
}
