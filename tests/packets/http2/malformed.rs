//! What RFC 9113 and 7541 do not allow is lost visibly: from then on nothing is known of that side.

use super::block::{integer, plain};
use super::wire::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PUSH_PROMISE,
    RST_STREAM, SETTINGS, WITH_PRIORITY, data, frame, headers, rst_stream,
};
use super::{GET, OK, answer, assert_l7, get, lost, with};
use crate::flow::{Client, Server};
use crate::model::L7;

/// Bytes of either side, about stream 1.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let unfinished = frame(HEADERS, END_STREAM, 1, [0x88]);
    let behind = |other: Vec<u8>| [unfinished.clone(), other].concat();
    let block = |block: &[u8]| headers(1, END_STREAM, block);
    let overflow = |first: u8| {
        let mut out = vec![first];
        out.extend([0xff; 9]);
        out.push(0x7f);
        out
    };
    let behind_empty = [
        frame(HEADERS, END_HEADERS | PADDED, 1, []),
        frame(PING, 0, 0, [0; 8]),
    ]
    .concat();
    vec![
        ("DATA within a block", behind(data(1, 0, "x"))),
        ("SETTINGS within a block", behind(frame(SETTINGS, 0, 0, []))),
        ("PING within a block", behind(frame(PING, 0, 0, [0; 8]))),
        ("RST_STREAM within a block", behind(rst_stream(1, 8))),
        ("HEADERS within a block", behind(headers(1, 0, OK))),
        ("unknown frame within a block", behind(frame(99, 0, 1, "x"))),
        (
            "CONTINUATION of another stream",
            behind(frame(CONTINUATION, END_HEADERS, 3, [])),
        ),
        (
            "CONTINUATION without HEADERS",
            frame(CONTINUATION, END_HEADERS, 1, OK),
        ),
        (
            "CONTINUATION of an ended block",
            [headers(1, 0, OK), frame(CONTINUATION, END_HEADERS, 1, [])].concat(),
        ),
        ("index too large", block(&overflow(0xff))),
        ("index of a name too large", block(&overflow(0x7f))),
        ("table size too large", block(&overflow(0x3f))),
        (
            "length of a name too large",
            block(&[&[0][..], &overflow(0x7f)].concat()),
        ),
        (
            "length of a value too large",
            block(&[&[0x08][..], &overflow(0xff)].concat()),
        ),
        ("index 0", block(&[0x80])),
        ("name beyond the block", block(&[0, 5, b'a'])),
        ("value beyond the block", block(&[8, 4, b'2', b'0', b'0'])),
        (
            "long value beyond the block",
            block(&[&[8][..], &integer(0, 7, 9000)].concat()),
        ),
        ("block ends before the value", block(&[0, 1, b'a'])),
        ("block ends within an integer", block(&[0x88, 0xff])),
        (
            "HEADERS with more padding than payload",
            frame(HEADERS, END_HEADERS | PADDED, 1, [2, 0x88]),
        ),
        (
            "HEADERS without room for the padding's length",
            // The byte is looked for in what follows.
            behind_empty,
        ),
        (
            "HEADERS without room for the priority",
            frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, [0; 4]),
        ),
        ("RST_STREAM of 3 bytes", frame(RST_STREAM, 0, 1, [0; 3])),
        ("RST_STREAM of 5 bytes", frame(RST_STREAM, 0, 1, [0; 5])),
        ("GOAWAY of 7 bytes", frame(GOAWAY, 0, 0, [0; 7])),
    ]
}

#[test]
fn by_the_server() {
    let mut all = malformed();
    all.push((
        "PUSH_PROMISE of 3 bytes",
        frame(PUSH_PROMISE, END_HEADERS, 1, [0; 3]),
    ));
    for (what, bytes) in all {
        for size in [1, 5, 1000] {
            with(|f| {
                f.request([get(1), get(3)].concat());
                f.response(answer(3, OK));
                f.request(get(5));
                f.send_in(Server, size, &bytes);
                let lost = lost(|l| l.malformed = 1);
                let expected = L7::http2(3, &[(0, 2), (200, 1)]).lost(lost);
                assert_eq!(L7::of(f), expected, "{what} by {size}");
                // Later ones count at once, with an unknown answer.
                f.request(get(7));
                f.response(answer(7, OK));
                let expected = L7::http2(4, &[(0, 3), (200, 1)]).lost(lost);
                assert_eq!(L7::of(f), expected, "{what} by {size}");
                assert_eq!(f.total().untimed, 3);
            });
        }
    }
}

#[test]
fn by_the_client() {
    for (what, bytes) in malformed() {
        for size in [1, 5, 1000] {
            with(|f| {
                f.request(get(3));
                f.send_in(Client, size, &bytes);
                f.request(get(5));
                // What was not seen is counted when it is answered.
                f.response(answer(3, OK));
                f.response(answer(5, OK));
                let expected = L7::http2(2, &[(200, 2)]).lost(lost(|l| l.malformed = 1));
                assert_eq!(L7::of(f), expected, "{what} by {size}");
            });
        }
    }
}

#[test]
fn of_grpc() {
    with(|f| {
        let grpc = [&GET[..], &plain("content-type", "application/grpc")].concat();
        f.request([get(1), answer(3, &grpc)].concat());
        f.response(frame(CONTINUATION, END_HEADERS, 1, OK));
        f.request([get(5), answer(7, &grpc)].concat());
        let grpc = L7::grpc(2, &[((0, metricd::abi::GRPC_STATUS_NONE), 2)]);
        let expected = L7::http2(2, &[(0, 2)]).and(grpc);
        assert_l7(f, expected.lost(lost(|l| l.malformed = 1)));
    });
}

#[test]
fn lost_once_a_side() {
    with(|f| {
        f.request(get(1));
        let bad = frame(CONTINUATION, END_HEADERS, 1, OK);
        f.response([&bad[..], &bad].concat());
        f.response(&bad);
        assert_l7(f, L7::http2(1, &[(0, 1)]).lost(lost(|l| l.malformed = 1)));
        f.request([&bad[..], &bad].concat());
        f.request(&bad);
        assert_l7(f, L7::http2(1, &[(0, 1)]).lost(lost(|l| l.malformed = 2)));
    });
}

#[test]
fn goes_on_until_the_connection_ends() {
    with(|f| {
        f.request(headers(1, 0, GET));
        f.response(frame(CONTINUATION, END_HEADERS, 1, OK));
        f.request([data(1, END_STREAM, "x"), rst_stream(1, 8), get(3)].concat());
        f.close();
        assert_l7(f, L7::http2(2, &[(0, 2)]).lost(lost(|l| l.malformed = 1)));
    });
}

#[test]
fn bytes_that_are_no_frames() {
    // Frames of any type and length are skipped: there may be nothing wrong with them. Whatever
    // is made of it, no answer is wrong.
    with(|f| {
        f.request([get(1), get(3)].concat());
        f.response(plain("x", "y").repeat(500));
        f.response(frame(DATA, PADDED | END_STREAM, 1, [200, 1]));
        f.response(answer(1, OK));
        let responses = f.seen().responses;
        assert!(
            responses.keys().all(|status| [0, 200].contains(status)),
            "{responses:?}"
        );
    });
}
