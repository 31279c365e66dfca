//! HTTP/1.1 and 1.0: what is counted of given segments.

mod bounds;
mod cuts;
mod framing;
mod large;
mod loss;
mod other;
mod resume;

use metricd::abi::LostValue;

use crate::flow::{Client, Flow};
use crate::kernel::Shared;
use crate::model::L7;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

/// A connection of its own, that the pod serves.
fn with(test: impl FnOnce(&Flow)) {
    let kernel = Shared::get();
    let flow = Flow::open(&kernel, Shared::port());
    test(&flow);
    kernel.check();
    flow.rst(Client);
}

#[track_caller]
fn assert_l7(flow: &Flow, expected: L7) {
    assert_eq!(L7::of(flow), expected);
}

/// One connection, or several, lost for one reason.
fn lost(set: impl FnOnce(&mut LostValue)) -> LostValue {
    let mut lost = LostValue::default();
    set(&mut lost);
    lost
}
