//! Answers as servers mostly send them, many to a packet, whose blocks were seen before; and what
//! is unlike them among them.

use super::block::{Form, NEWEST, STATUS, Text, indexed, literal, named, plain};
use super::wire::{
    END_STREAM, PADDED, PING, data, frame, headers, headers_in, padded, push_promise, rst_stream,
};
use super::{GET, NOT_FOUND, OK, aborted, answer, assert_l7, get, with};
use crate::flow::Flow;
use crate::model::L7;

pub const N: u32 = 12;

pub fn streams() -> impl Iterator<Item = u32> {
    (0..N).map(|i| 2 * i + 3)
}

/// Each as HEADERS and DATA.
fn in_pairs() -> Vec<Vec<u8>> {
    streams()
        .flat_map(|s| [headers(s, 0, OK), data(s, END_STREAM, [0x88; 50])])
        .collect()
}

/// All HEADERS, then all DATA, as nghttp2 does.
fn in_rows() -> Vec<Vec<u8>> {
    let heads = streams().map(|s| headers(s, 0, OK));
    heads
        .chain(streams().map(|s| data(s, END_STREAM, [0x88; 50])))
        .collect()
}

/// Bodies in two frames, the second of which is empty.
fn in_parts() -> Vec<Vec<u8>> {
    streams()
        .flat_map(|s| {
            [
                headers(s, 0, OK),
                data(s, 0, [0x88; 50]),
                data(s, END_STREAM, ""),
            ]
        })
        .collect()
}

fn ask(f: &Flow) {
    f.request(streams().flat_map(get).collect::<Vec<_>>());
}

/// A connection on which an answer of such a block has been seen, and all have been asked for.
fn seen_before(test: impl FnOnce(&Flow)) {
    with(|f| {
        f.request(get(1));
        f.response(answer(1, OK));
        ask(f);
        test(f);
        f.close();
    });
}

fn expected() -> L7 {
    L7::http2(u64::from(N) + 1, &[(200, u64::from(N) + 1)])
}

#[test]
fn cut_in_two_anywhere() {
    for frames in [in_pairs(), in_rows(), in_parts()] {
        let all = frames.concat();
        for cut in 0..all.len() {
            seen_before(|f| {
                f.response(&all[..cut]);
                f.response(&all[cut..]);
                assert_eq!(L7::of(f), expected(), "cut at {cut}");
            });
        }
    }
}

#[test]
fn counted_with_the_last_byte() {
    for frames in [in_pairs(), in_rows(), in_parts()] {
        seen_before(|f| {
            let all = frames.concat();
            f.response(&all[..all.len() - 1]);
            let n = u64::from(N);
            // An empty frame has no byte but its header's.
            assert_l7(f, L7::http2(n + 1, &[(200, n)]));
            f.response(&all[all.len() - 1..]);
            assert_l7(f, expected());
        });
    }
}

#[test]
fn with_other_frames_at_any_place() {
    let others = [
        frame(PING, 0, 0, [0x88; 8]),
        push_promise(1, 2, &GET),
        headers(2, 0, OK),
        data(2, END_STREAM, "pushed"),
        data(0x7fff_ffff, END_STREAM, "of nothing"),
        rst_stream(2, 0),
    ];
    for frames in [in_pairs(), in_rows(), in_parts()] {
        for other in &others {
            for at in 0..=frames.len() {
                seen_before(|f| {
                    let all = [&frames[..at].concat()[..], other, &frames[at..].concat()].concat();
                    f.response(all);
                    assert_eq!(L7::of(f), expected(), "{other:?} at {at}");
                });
            }
        }
    }
}

/// The frames of an answer, of a stream.
type Frames<'a> = Box<dyn Fn(u32) -> Vec<u8> + 'a>;

#[test]
fn one_that_is_unlike_the_others() {
    let teapot = named(Form::Plain, STATUS, Text::plain("418"));
    let unlike: [(&str, Frames); 6] = [
        ("literal", Box::new(|s| answer(s, &teapot))),
        (
            "padded",
            Box::new(|s| headers(s, PADDED | END_STREAM, padded(3, &teapot))),
        ),
        (
            "split",
            Box::new(|s| headers_in(s, END_STREAM, &[&teapot[..1], &teapot[1..]])),
        ),
        (
            "interim",
            Box::new(|s| [headers(s, 0, plain(":status", "103")), answer(s, &teapot)].concat()),
        ),
        (
            "padded body",
            Box::new(|s| {
                let body = data(s, PADDED | END_STREAM, padded(9, "body"));
                [headers(s, 0, &teapot), body].concat()
            }),
        ),
        (
            "trailers",
            Box::new(|s| [headers(s, 0, &teapot), data(s, 0, "x"), answer(s, OK)].concat()),
        ),
    ];
    let n = u64::from(N);
    for (what, frames) in unlike {
        for other in streams() {
            seen_before(|f| {
                let all = streams().map(|s| {
                    if s == other {
                        frames(s)
                    } else {
                        [headers(s, 0, OK), data(s, END_STREAM, [0x88; 50])].concat()
                    }
                });
                f.response(all.collect::<Vec<_>>().concat());
                let l7 = L7::http2(n + 1, &[(200, n), (418, 1)]);
                assert_eq!(L7::of(f), l7, "{what}, of {other}");
            });
        }
    }
}

/// That answers of the two blocks, in turn, are told apart.
fn told_apart(ok: &[u8], not_found: &[u8]) {
    with(|f| {
        ask(f);
        let answers = streams().map(|s| answer(s, if s % 4 == 3 { ok } else { not_found }));
        f.response(answers.flatten().collect::<Vec<_>>());
        let half = u64::from(N / 2);
        let l7 = L7::http2(N.into(), &[(200, half), (404, half)]);
        assert_eq!(L7::of(f), l7, "{ok:?} and {not_found:?}");
        f.close();
    });
}

/// Blocks of the same length, and the same but for one byte.
#[test]
fn blocks_that_are_almost_the_same() {
    for len in 0..20 {
        let references = |status: [u8; 1]| [&[0x90].repeat(len)[..], &status].concat();
        told_apart(&references(OK), &references(NOT_FOUND));
        let value = "x".repeat(len);
        let accept = named(Form::Plain, 16, Text::plain(&value));
        let literal = |status: [u8; 1]| [&accept[..], &status].concat();
        told_apart(&literal(OK), &literal(NOT_FOUND));
    }
}

/// The same bytes mean something else once a field has been inserted.
#[test]
fn the_table_changes() {
    let status = |text| named(Form::Indexed, STATUS, Text::plain(text));
    with(|f| {
        ask(f);
        let frames = [
            answer(3, status("418")),
            answer(5, indexed(NEWEST)),
            answer(7, indexed(NEWEST)),
            answer(9, status("503")),
            answer(11, indexed(NEWEST)),
            answer(13, indexed(NEWEST + 1)),
            answer(15, indexed(NEWEST)),
        ];
        f.response(frames.concat());
        assert_l7(f, L7::http2(N.into(), &[(418, 4), (503, 3)]));
    });
}

#[test]
fn a_stream_that_is_reset_among_them() {
    for reset in streams() {
        seen_before(|f| {
            f.response(in_rows()[..N as usize].concat());
            f.response(rst_stream(reset, 8));
            f.response(in_rows()[N as usize..].concat());
            let n = u64::from(N);
            let l7 = L7::http2(n + 1, &[(200, n)]).aborted(aborted(|a| a.cancelled = 1));
            assert_eq!(L7::of(f), l7, "reset of {reset}");
        });
    }
}

#[test]
fn grpc_with_its_trailers() {
    let grpc = named(Form::Indexed, 31, Text::plain("application/grpc"));
    let post = [&[0x83, 0x86, 0x84][..], &grpc].concat();
    let status = |n| plain("grpc-status", n);
    // Short enough to be remembered, once it is in the table.
    let kept = literal(Form::Indexed, Text::plain("grpc-status"), Text::plain("7"));
    with(|f| {
        f.request(
            streams()
                .flat_map(|s| headers(s, END_STREAM, &post))
                .collect::<Vec<_>>(),
        );
        let first = [
            headers(3, 0, OK),
            data(3, 0, "\0\0\0\0\x01x"),
            answer(3, &kept),
        ]
        .concat();
        f.response(first);
        let rest = streams().skip(1).map(|s| {
            [
                headers(s, 0, OK),
                data(s, 0, "\0\0\0\0\x01x"),
                answer(s, indexed(NEWEST)),
            ]
            .concat()
        });
        f.response(rest.take(N as usize - 2).collect::<Vec<_>>().concat());
        let last = 2 * N + 1;
        f.response([headers(last, 0, OK), answer(last, status("5"))].concat());
        let n = u64::from(N);
        assert_l7(f, L7::grpc(n, &[((200, 7), n - 1), ((200, 5), 1)]));
    });
}
