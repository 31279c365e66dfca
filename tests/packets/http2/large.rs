//! Packets of hundreds of frames, and super-packets of 64 KB.

use super::block::{Form, Text, filler, literal, named, plain};
use super::wire::{END_STREAM, PREFACE, data, headers, headers_in, settings};
use super::{GET, OK, answer, assert_l7, exchange, get, with};
use crate::flow::{Client, Flow, Server};
use crate::model::L7;
use crate::tap::{self, Tap, feed};

/// Bytes of a segment that BPF_PROG_TEST_RUN takes.
const LARGEST: usize = 3600;

fn all(streams: impl Iterator<Item = u32>, frames: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    streams.flat_map(frames).collect()
}

fn odd(n: u32) -> impl Iterator<Item = u32> {
    (0..n).map(|i| 2 * i + 1)
}

#[test]
fn requests_of_one_packet() {
    with(|f| {
        let requests = all(odd(100), get);
        assert!(requests.len() < LARGEST);
        f.request(requests);
        f.response(all(odd(100), |stream| answer(stream, OK)));
        assert_l7(f, L7::http2(100, &[(200, 100)]));
    });
}

#[test]
fn any_number_of_frames_of_one_packet() {
    // All of them count with the packet they are in, wherever it ends.
    for n in 1..=200 {
        with(|f| {
            f.request(all(odd(n), get));
            assert_eq!(L7::of(f), L7::http2(n.into(), &[]), "requests");
            f.response(all(odd(n), |stream| answer(stream, OK)));
            let expected = L7::http2(n.into(), &[(200, n.into())]);
            assert_eq!(L7::of(f), expected, "answers");
        });
    }
}

#[test]
fn any_number_of_fields_of_one_packet() {
    let check = |what: &str, fields: &[u8]| {
        with(|f| {
            f.request(headers(1, END_STREAM, [&GET, fields].concat()));
            assert_eq!(L7::of(f), L7::http2(1, &[]), "GET and {what}");
            f.response(answer(1, [&OK, fields].concat()));
            assert_eq!(L7::of(f), L7::http2(1, &[(200, 1)]), "OK and {what}");
        });
    };
    for n in 0..300 {
        check(&format!("{n} fields of a byte"), &vec![0x90; n]);
    }
    // Two and three tokens each, so that the last is at any place.
    for n in 0..60 {
        for m in 0..3 {
            let empty = named(Form::Plain, 33, Text::plain("")).repeat(m);
            let fields = [filler(n), empty].concat();
            check(&format!("{n} new fields and {m} empty ones"), &fields);
        }
    }
}

#[test]
fn hundreds_of_frames_of_one_packet() {
    with(|f| {
        f.request(headers(1, 0, GET));
        f.request(data(1, 0, "").repeat(LARGEST / 9));
        f.request(data(1, END_STREAM, ""));
        f.response(headers(1, 0, OK));
        f.response(data(1, 0, "x").repeat(LARGEST / 10));
        f.response(data(1, END_STREAM, ""));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn hundreds_of_fields_of_one_packet() {
    with(|f| {
        let block = [&OK[..], &plain("", "").repeat(1100)].concat();
        f.request(get(1));
        f.response(answer(1, block));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

/// On the tap device, a connection whose first frames are done.
fn on_tap(test: impl FnOnce(&Tap, &Flow) + Send) {
    tap::with_flow(|tap, flow| {
        feed(tap, flow, Client, [&PREFACE[..], &settings(&[])].concat());
        feed(tap, flow, Server, settings(&[]));
        test(tap, flow);
    });
}

#[test]
fn requests_of_a_super_packet() {
    on_tap(|tap, f| {
        feed(tap, f, Client, all(odd(500), get));
        feed(tap, f, Server, all(odd(500), |stream| answer(stream, OK)));
        assert_l7(f, L7::http2(500, &[(200, 500)]));
        let total = f.total();
        assert!(total.recv.packets > 5 && total.untimed == 0);
    });
}

#[test]
fn frames_of_a_super_packet() {
    on_tap(|tap, f| {
        feed(tap, f, Client, get(1));
        feed(tap, f, Server, headers(1, 0, OK));
        for _ in 0..3 {
            feed(tap, f, Server, data(1, 0, "x").repeat(1000));
        }
        feed(tap, f, Server, data(1, END_STREAM, "x"));
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}

#[test]
fn bodies_of_a_super_packet() {
    on_tap(|tap, f| {
        feed(tap, f, Client, all(odd(4), get));
        let response = |stream: u32| {
            let text = (200 + stream).to_string();
            let head = headers(stream, 0, plain(":status", &text));
            [head, data(stream, END_STREAM, [0x88; 16000])].concat()
        };
        feed(tap, f, Server, all(odd(4), response));
        assert_l7(f, L7::http2(4, &[(201, 1), (203, 1), (205, 1), (207, 1)]));
    });
}

#[test]
fn block_of_a_super_packet() {
    on_tap(|tap, f| {
        // Of 60 KB, in frames of at most 16 KB.
        let value = "v".repeat(20_000);
        let block = [
            literal(Form::Plain, Text::plain("cookie"), Text::huffman(&value)),
            plain("x", &value),
            plain(":status", "418"),
            plain("y", &value),
        ]
        .concat();
        let parts: Vec<_> = block.chunks(16384).collect();
        feed(tap, f, Client, get(1));
        feed(tap, f, Server, headers_in(1, END_STREAM, &parts));
        assert_l7(f, L7::http2(1, &[(418, 1)]));
    });
}
