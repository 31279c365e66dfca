//! Header blocks of several frames.

use super::block::{Form, Text, indexed, literal, named, plain};
use super::wire::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, PADDED, frame};
use super::wire::{data, headers_in, padded};
use super::{GET, NOT_FOUND, assert_l7, exchange, get, with};
use crate::flow::{Client, Server};
use crate::model::L7;

/// One of each form, the status last but one.
fn response() -> Vec<u8> {
    [
        plain("x-first", "some value"),
        literal(
            Form::Indexed,
            Text::huffman("x-second"),
            Text::huffman("other"),
        ),
        literal(Form::Never, Text::plain(":status"), Text::huffman("418")),
        indexed(62),
        named(Form::Indexed, 31, Text::plain("text/html; charset=utf-8")),
    ]
    .concat()
}

/// A request of gRPC whose content-type is in two pieces when cut.
fn request() -> Vec<u8> {
    let grpc = Text::huffman("application/grpc+proto");
    [
        &GET[..],
        &named(Form::Indexed, 31, grpc),
        &plain("te", "trailers"),
    ]
    .concat()
}

#[test]
fn block_cut_in_two_anywhere() {
    let (request, response) = (request(), response());
    for cut in 0..=request.len().max(response.len()) {
        for size in [1, 5, 1000] {
            with(|f| {
                let (a, b) = request.split_at(cut.min(request.len()));
                f.send_in(Client, size, headers_in(1, END_STREAM, &[a, b]));
                let (a, b) = response.split_at(cut.min(response.len()));
                f.send_in(Server, size, headers_in(1, 0, &[a, b]));
                f.send_in(Server, size, data(1, END_STREAM, "abc"));
                exchange(f, 3);
                let expected = L7::grpc(1, &[((418, 0x80 | 2), 1)]).and(L7::http2(1, &[(204, 1)]));
                assert_eq!(L7::of(f), expected, "cut at {cut} by {size}");
            });
        }
    }
}

#[test]
fn one_byte_a_frame() {
    let (request, response) = (request(), response());
    for size in [1, 9, 10, 11, 1000] {
        with(|f| {
            let parts: Vec<_> = request.chunks(1).collect();
            f.send_in(Client, size, headers_in(1, END_STREAM, &parts));
            assert_l7(f, L7::grpc(1, &[]));
            let parts: Vec<_> = response.chunks(1).collect();
            f.send_in(Server, size, headers_in(1, END_STREAM, &parts));
            assert_l7(f, L7::grpc(1, &[((418, 0x80 | 2), 1)]));
        });
    }
}

#[test]
fn empty_frames() {
    with(|f| {
        f.request(headers_in(1, END_STREAM, &[&[], &[], &GET, &[], &[]]));
        f.response(headers_in(1, END_STREAM, &[&[], &NOT_FOUND, &[]]));
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(204, 1), (404, 1)]));
    });
}

#[test]
fn counted_at_the_end_of_the_block() {
    with(|f| {
        f.request(frame(HEADERS, END_STREAM, 1, GET));
        assert_l7(f, L7::default());
        f.request(frame(CONTINUATION, 0, 1, plain("a", "b")));
        assert_l7(f, L7::default());
        f.request(frame(CONTINUATION, END_HEADERS, 1, plain("c", "d")));
        assert_l7(f, L7::http2(1, &[]));
        f.response(frame(HEADERS, END_STREAM, 1, NOT_FOUND));
        assert_l7(f, L7::http2(1, &[]));
        f.response(frame(CONTINUATION, END_HEADERS, 1, []));
        assert_l7(f, L7::http2(1, &[(404, 1)]));
    });
}

#[test]
fn behind_a_padded_frame() {
    // The padding is of the first frame only, and in the midst of a field.
    let response = response();
    for cut in 0..response.len() {
        for size in [1, 20, 1000] {
            with(|f| {
                f.request(get(1));
                let (a, b) = response.split_at(cut);
                let first = frame(HEADERS, PADDED | END_STREAM, 1, padded(40, a));
                f.send_in(Server, size, first);
                assert_l7(f, L7::http2(1, &[]));
                f.send_in(Server, size, frame(CONTINUATION, END_HEADERS, 1, b));
                exchange(f, 3);
                let expected = L7::http2(2, &[(204, 1), (418, 1)]);
                assert_eq!(L7::of(f), expected, "at {cut} by {size}");
            });
        }
    }
}
