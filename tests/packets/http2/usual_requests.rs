//! Requests as clients mostly send them, many to a packet, whose blocks were seen before; and what
//! is unlike them among them.

use super::block::{CONTENT_TYPE, Form, NEWEST, Text, indexed, named};
use super::usual::{N, streams};
use super::wire::{
    END_STREAM, PADDED, PING, PRIORITY, WINDOW_UPDATE, data, frame, headers, headers_in, padded,
    rst_stream, settings,
};
use super::{GET, NO_CONTENT, OK, answer, assert_l7, get, with};
use crate::flow::Flow;
use crate::model::L7;

/// `:method: POST`, `:scheme: http`, `:path: /`.
const POST: [u8; 3] = [0x83, 0x86, 0x84];

fn window_update(stream: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, END_STREAM, stream, [0x88; 4])
}

/// Nothing but HEADERS.
fn in_a_row() -> Vec<Vec<u8>> {
    streams().map(get).collect()
}

/// Each with a body.
fn with_bodies() -> Vec<Vec<u8>> {
    streams()
        .flat_map(|s| [headers(s, 0, POST), data(s, END_STREAM, [0x82; 50])])
        .collect()
}

/// With what lets the server go on.
fn with_window_updates() -> Vec<Vec<u8>> {
    streams()
        .flat_map(|s| [window_update(s - 2), get(s)])
        .collect()
}

fn all() -> [Vec<Vec<u8>>; 3] {
    [in_a_row(), with_bodies(), with_window_updates()]
}

/// A connection on which a request of such a block has been seen.
fn seen_before(test: impl FnOnce(&Flow)) {
    with(|f| {
        f.request(get(1));
        f.response(answer(1, OK));
        test(f);
        f.close();
    });
}

/// Whether those of `streams()` have all been found at their places, by their answers.
#[track_caller]
fn assert_found(f: &Flow, what: &str) {
    let n = u64::from(N);
    assert_eq!(L7::of(f), L7::http2(n + 1, &[(200, 1)]), "{what}");
    f.response(
        streams()
            .flat_map(|s| answer(s, NO_CONTENT))
            .collect::<Vec<_>>(),
    );
    assert_eq!(L7::of(f), L7::http2(n + 1, &[(200, 1), (204, n)]), "{what}");
    assert_eq!(f.total().untimed, 0, "{what}");
}

#[test]
fn cut_in_two_anywhere() {
    for frames in all() {
        let bytes = frames.concat();
        for cut in 0..bytes.len() {
            seen_before(|f| {
                f.request(&bytes[..cut]);
                f.request(&bytes[cut..]);
                assert_found(f, &format!("cut at {cut}"));
            });
        }
    }
}

#[test]
fn with_other_frames_at_any_place() {
    let others = [
        frame(PING, 0, 0, [0x88; 8]),
        frame(PRIORITY, 0, 1, [0x88; 5]),
        frame(WINDOW_UPDATE, 0, 0, []),
        settings(&[(3, 100)]),
        // Trailers of a stream that has begun, and what is none of a client's.
        headers(1, END_STREAM, GET),
        headers(2, END_STREAM, GET),
        data(2, END_STREAM, "pushed"),
        data(0x7fff_ffff, END_STREAM, "of nothing"),
        rst_stream(2, 0),
    ];
    for frames in all() {
        for other in &others {
            for at in 0..=frames.len() {
                seen_before(|f| {
                    f.request([&frames[..at].concat()[..], other, &frames[at..].concat()].concat());
                    assert_found(f, &format!("{other:?} at {at}"));
                });
            }
        }
    }
}

#[test]
fn one_that_is_unlike_the_others() {
    let long = [
        &GET[..],
        &named(Form::Plain, 19, Text::plain("of some length")),
    ]
    .concat();
    for (what, flags, parts) in [
        ("literal", 0, vec![&long[..]]),
        ("split", 0, vec![&GET[..1], &GET[1..]]),
        ("padded", PADDED, vec![&GET[..]]),
    ] {
        for other in streams() {
            seen_before(|f| {
                let frames = streams().flat_map(|s| match (s == other, flags) {
                    (false, _) => get(s),
                    (true, 0) => headers_in(s, END_STREAM, &parts),
                    (true, _) => headers(s, flags | END_STREAM, padded(3, parts[0])),
                });
                f.request(frames.collect::<Vec<_>>());
                assert_found(f, &format!("{what}, {other}"));
            });
        }
    }
}

/// The last byte decides, which has the length of both.
#[test]
fn grpc_among_others() {
    let insert = |value| named(Form::Indexed, CONTENT_TYPE, Text::plain(value));
    let grpc = [&POST[..], &indexed(NEWEST)].concat();
    let json = [&POST[..], &indexed(NEWEST + 1)].concat();
    with(|f| {
        f.request(
            [
                headers(
                    1,
                    END_STREAM,
                    [&POST[..], &insert("application/json")].concat(),
                ),
                headers(
                    3,
                    END_STREAM,
                    [&POST[..], &insert("application/grpc")].concat(),
                ),
            ]
            .concat(),
        );
        let later = (0..10).map(|i| {
            headers(
                2 * i + 5,
                END_STREAM,
                if i % 2 == 0 { &grpc } else { &json },
            )
        });
        f.request(later.collect::<Vec<_>>().concat());
        assert_l7(f, L7::http2(6, &[]).and(L7::grpc(6, &[])));
        // What was the newest is no longer.
        f.request(
            [
                headers(25, END_STREAM, [&POST[..], &insert("text/plain")].concat()),
                headers(27, END_STREAM, &grpc),
                headers(29, END_STREAM, &json),
            ]
            .concat(),
        );
        assert_l7(f, L7::http2(8, &[]).and(L7::grpc(7, &[])));
        f.close();
    });
}
