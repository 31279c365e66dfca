//! HTTP/2, HPACK and gRPC: what is counted of given segments.

mod bounds;
mod cancelled;
mod continuation;
mod cuts;
mod ends;
mod frames;
mod gaps;
mod goaway;
mod grpc;
mod hpack;
mod large;
mod malformed;
mod model;
mod property;
mod push;
mod start;
mod streams;
mod table;
mod timing;
mod upgrade;
mod usual;
mod usual_requests;

pub use kit::packets::http2::{block, stretches, wire};
use metricd::abi::{AbortedValue, LostValue};

use crate::flow::{Client, Flow};
use crate::kernel::Shared;
use crate::model::L7;
use wire::{END_STREAM, PREFACE, headers, settings, settings_ack};

/// `:method: GET`, `:scheme: http`, `:path: /`.
const GET: [u8; 3] = [0x82, 0x86, 0x84];
/// `:status: 200`, and so on.
const OK: [u8; 1] = [0x88];
const NO_CONTENT: [u8; 1] = [0x89];
const NOT_FOUND: [u8; 1] = [0x8d];

/// A connection of its own, that the pod serves, on which nothing has been said.
fn fresh(test: impl FnOnce(&Flow)) {
    let kernel = Shared::get();
    let flow = Flow::open(&kernel, Shared::port());
    test(&flow);
    kernel.check();
    flow.rst(Client);
}

/// One with its first frames.
fn with(test: impl FnOnce(&Flow)) {
    fresh(|flow| {
        start(flow);
        test(flow);
    });
}

/// What both sides say before there is a request.
pub fn start(flow: &Flow) {
    flow.request([&PREFACE, &settings(&[])[..]].concat());
    flow.response([settings(&[(3, 1000)]), settings_ack()].concat());
    flow.request(settings_ack());
}

/// A request that is all in its HEADERS.
pub fn get(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, GET)
}

/// A response likewise.
pub fn answer(stream: u32, block: impl AsRef<[u8]>) -> Vec<u8> {
    headers(stream, END_STREAM, block)
}

/// That the connection still works: one more request, on a stream so far unused, and its answer.
fn exchange(flow: &Flow, stream: u32) {
    flow.request(get(stream));
    flow.response(answer(stream, NO_CONTENT));
}

#[track_caller]
fn assert_l7(flow: &Flow, expected: L7) {
    assert_eq!(L7::of(flow), expected);
}

fn aborted(set: impl FnOnce(&mut AbortedValue)) -> AbortedValue {
    let mut aborted = AbortedValue::default();
    set(&mut aborted);
    aborted
}

fn lost(set: impl FnOnce(&mut LostValue)) -> LostValue {
    let mut lost = LostValue::default();
    set(&mut lost);
    lost
}

#[test]
fn one_exchange() {
    with(|f| {
        f.request(get(1));
        assert_l7(f, L7::http2(1, &[]));
        f.response(headers(1, 0, OK));
        assert_l7(f, L7::http2(1, &[]));
        f.response(wire::data(1, END_STREAM, "hello"));
        assert_l7(f, L7::http2(1, &[(200, 1)]));
        assert_eq!(f.total().untimed, 0);
    });
}

#[test]
fn one_after_another() {
    with(|f| {
        for i in 0..500 {
            f.request(get(4 * i + 1));
            f.response(answer(4 * i + 1, NO_CONTENT));
            f.request(get(4 * i + 3));
            f.response(
                [
                    headers(4 * i + 3, 0, NOT_FOUND),
                    wire::data(4 * i + 3, 1, "x"),
                ]
                .concat(),
            );
        }
        f.close();
        assert_l7(f, L7::http2(1000, &[(204, 500), (404, 500)]));
        let total = f.total();
        assert_eq!((total.closed.fin, total.untimed), (1, 0));
    });
}

#[test]
fn both_ways() {
    // The pod as the client: the programs' directions change places.
    let kernel = Shared::get();
    let f = Flow::open_outbound(&kernel, Shared::port());
    start(&f);
    f.request(get(1));
    f.response(answer(1, OK));
    assert_l7(&f, L7::http2(1, &[(200, 1)]));
    f.request(get(3));
    f.close();
    let expected = L7::http2(2, &[(200, 1)]).aborted(aborted(|a| a.fin = 1));
    assert_l7(&f, expected);
}
