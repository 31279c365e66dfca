//! Server push: it is not counted, but its header blocks change what later ones mean.

use super::block::{Form, NEWEST, Text, indexed, literal};
use super::wire::{
    CONTINUATION, END_HEADERS, END_STREAM, PADDED, PUSH_PROMISE, data, frame, headers, padded,
    push_promise, rst_stream,
};
use super::{GET, NOT_FOUND, OK, answer, assert_l7, exchange, get, with};
use crate::flow::Server;
use crate::model::L7;

/// A status that is not in the static table, kept.
fn teapot() -> Vec<u8> {
    literal(
        Form::Indexed,
        Text::huffman(":status"),
        Text::huffman("418"),
    )
}

#[test]
fn pushed_exchange() {
    with(|f| {
        f.request(get(1));
        f.response(push_promise(1, 2, &GET));
        f.response([headers(2, 0, NOT_FOUND), data(2, END_STREAM, "pushed")].concat());
        assert_l7(f, L7::http2(1, &[]));
        f.response(answer(1, OK));
        f.response([push_promise(1, 4, &GET), answer(4, OK)].concat());
        f.response([push_promise(1, 6, &GET), rst_stream(6, 8)].concat());
        f.request([rst_stream(4, 8), rst_stream(2, 7)].concat());
        exchange(f, 3);
        assert_l7(f, L7::http2(2, &[(200, 1), (204, 1)]));
    });
}

#[test]
fn fields_kept_by_a_promise() {
    for size in [1, 4, 1000] {
        with(|f| {
            f.request(get(1));
            f.send_in(Server, size, push_promise(1, 2, &teapot()));
            f.send_in(Server, size, answer(1, indexed(NEWEST)));
            assert_l7(f, L7::http2(1, &[(418, 1)]));
        });
    }
}

#[test]
fn fields_kept_by_a_pushed_response() {
    with(|f| {
        f.request(get(1));
        f.response(push_promise(1, 2, &GET));
        f.response(answer(2, teapot()));
        f.response(answer(1, indexed(NEWEST)));
        assert_l7(f, L7::http2(1, &[(418, 1)]));
    });
}

#[test]
fn promise_of_several_frames() {
    for size in [1, 6, 1000] {
        with(|f| {
            f.request(get(1));
            let block = teapot();
            let (a, b) = block.split_at(3);
            let first = padded(7, [&[0, 0, 0, 2], a].concat());
            f.send_in(Server, size, frame(PUSH_PROMISE, PADDED, 1, first));
            f.send_in(Server, size, frame(CONTINUATION, END_HEADERS, 1, b));
            f.send_in(Server, size, answer(1, indexed(NEWEST)));
            assert_l7(f, L7::http2(1, &[(418, 1)]));
        });
    }
}
