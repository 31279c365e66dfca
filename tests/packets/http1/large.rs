//! Super-packets of 64 KB: what is beyond the first few KB is read, too, and the bound on what is
//! followed in one packet holds.

use super::{OK, lost};
use crate::flow::{Client, Server};
use crate::kernel::Way;
use crate::model::L7;
use crate::tap::{feed, with_flow as with};

/// PARSER_STEPS of bpf/http/parser.h: messages, chunks and blocks of a head in one packet.
const FIRST_STEPS: usize = 4096;
/// In a usual packet of a connection that is known to carry HTTP/1 there is one more.
const STEPS: usize = 1 + FIRST_STEPS;

#[test]
fn pipelined_2000() {
    with(|tap, f| {
        let request = "GET /12345678901 HTTP/1.1\r\n\r\n";
        feed(tap, f, Client, request.repeat(2000).as_bytes());
        let responses = OK.repeat(1000);
        feed(tap, f, Server, responses.as_bytes());
        feed(tap, f, Server, responses.as_bytes());
        assert_eq!(L7::of(f), L7::seen(2000, &[(200, 2000)]));
        let total = f.total();
        assert_eq!((total.untimed, total.requests.http1), (0, 2000));
        assert!(total.recv.packets > 30);
    });
}

#[test]
fn body_and_head_behind_it() {
    with(|tap, f| {
        let length = 64_000;
        let mut requests =
            format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        requests.extend(vec![b'x'; length]);
        requests.extend(b"HEAD / HTTP/1.1\r\n\r\n");
        feed(tap, f, Client, &requests);
        let mut responses =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        responses.extend(vec![b'x'; length]);
        responses.extend(b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\n");
        feed(tap, f, Server, &responses);
        assert_eq!(L7::of(f), L7::seen(2, &[(200, 1), (404, 1)]));
    });
}

/// A response in chunks of one byte, each a step.
fn chunks(n: usize) -> Vec<u8> {
    "1\r\nx\r\n".repeat(n).into_bytes()
}

#[test]
fn steps_of_one_packet() {
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    with(|tap, f| {
        feed(tap, f, Client, b"GET / HTTP/1.1\r\n\r\n");
        feed(tap, f, Server, head);
        feed(tap, f, Server, chunks(STEPS));
        feed(tap, f, Server, b"0\r\n\r\n");
        assert_eq!(L7::of(f), L7::seen(1, &[(200, 1)]));
    });
    with(|tap, f| {
        feed(tap, f, Client, b"GET / HTTP/1.1\r\n\r\n");
        feed(tap, f, Server, head);
        feed(tap, f, Server, chunks(STEPS + 1));
        feed(tap, f, Server, b"0\r\n\r\n");
        assert_eq!(
            L7::of(f),
            L7::seen(1, &[(0, 1)]).lost(lost(|l| l.bound = 1))
        );
        assert_eq!(f.way(Server), Way::Out);
    });
}

#[test]
fn requests_of_one_packet() {
    // One step each, and they are never more than fit into 64 KB.
    let request = "G / HTTP/1.1\n\n";
    let most = 65000 / request.len();
    with(|tap, f| {
        feed(tap, f, Client, request.repeat(FIRST_STEPS).as_bytes());
        assert_eq!(L7::of(f), L7::seen(FIRST_STEPS as u64, &[]));
    });
    assert!(most > FIRST_STEPS);
    with(|tap, f| {
        feed(tap, f, Client, request.repeat(most).as_bytes());
        let lost = lost(|l| l.bound = 1);
        assert_eq!(L7::of(f), L7::seen(FIRST_STEPS as u64, &[]).lost(lost));
    });
}
