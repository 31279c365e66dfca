//! A connection that was lost is followed again, from a point that proves itself, and from none else.

use metricd::abi::AbortedValue;

use super::{GET, NOT_FOUND, OK, lost, with};
use crate::flow::{Client, Flow, Server};
use crate::frame::{ACK, PSH};
use crate::model::L7;

const MALFORMED: &str = "HTTP/1.1 abc\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n";

fn resumed(f: &Flow) -> u64 {
    f.seen().resumed
}

/// The connection was resumed, and this is all that was counted.
#[track_caller]
fn assert_resumed(f: &Flow, expected: L7) {
    assert_eq!((L7::of(f), resumed(f)), (expected, 1));
}

#[track_caller]
fn assert_not_resumed(f: &Flow, expected: L7) {
    assert_eq!((L7::of(f), resumed(f)), (expected, 0));
}

/// What comes behind is counted as ever, by the usual way.
fn goes_on(f: &Flow) {
    for _ in 0..3 {
        f.request(GET);
        f.response(NOT_FOUND);
    }
    f.request(GET.repeat(3));
    f.response(NOT_FOUND.repeat(3));
}

#[test]
fn behind_a_malformed_response() {
    with(|f| {
        f.request(GET);
        f.response(MALFORMED);
        f.request(GET);
        f.response(OK);
        goes_on(f);
        let seen = L7::seen(8, &[(0, 1), (200, 1), (404, 6)]);
        assert_resumed(f, seen.lost(lost(|l| l.malformed = 1)));
    });
}

#[test]
fn behind_a_malformed_request() {
    with(|f| {
        f.request(GET);
        f.response(OK);
        f.request("GET / HTTP/1.2\r\n\r\n");
        f.response(NOT_FOUND);
        f.request(GET);
        f.response(OK);
        goes_on(f);
        let seen = L7::seen(8, &[(200, 2), (404, 6)]);
        assert_resumed(f, seen.lost(lost(|l| l.malformed = 1)));
    });
}

#[test]
fn behind_a_gap_in_a_response() {
    for missing in [1, 10, OK.len() as u32 - 1, 200_000] {
        with(|f| {
            f.request(GET);
            f.skip(Server, missing);
            f.response("the end of it");
            f.request(GET);
            f.response(OK);
            goes_on(f);
            let seen = L7::seen(8, &[(0, 1), (200, 1), (404, 6)]);
            assert_resumed(f, seen.lost(lost(|l| l.gap = 1)));
        });
    }
}

/// Of a whole response nothing was seen. The next one tells, by its beginning.
#[test]
fn behind_a_response_that_was_not_seen() {
    for pieces in [1, 7, 1000] {
        with(|f| {
            f.request(GET);
            f.skip(Server, OK.len() as u32);
            f.request(GET);
            f.send_in(Server, pieces, NOT_FOUND);
            f.request(GET);
            f.response(OK);
            goes_on(f);
            let seen = L7::seen(9, &[(0, 2), (200, 1), (404, 6)]);
            assert_resumed(f, seen.lost(lost(|l| l.gap = 1)));
        });
    }
    // It does not begin there: a part of it is missing, and may be that of another request.
    with(|f| {
        f.request(GET);
        f.skip(Server, OK.len() as u32);
        f.request(GET);
        f.response(&OK[1..]);
        f.request(GET);
        f.response(OK);
        assert_not_resumed(f, L7::seen(3, &[(0, 3)]).lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn behind_a_gap_in_a_request() {
    with(|f| {
        f.request(GET);
        f.response(OK);
        f.request("GET / HT");
        f.skip(Client, 8);
        f.request("t: a\r\n\r\n");
        f.response(OK);
        f.request(GET);
        f.response(OK);
        goes_on(f);
        // The request in the gap, and its response, are not counted.
        let seen = L7::seen(8, &[(200, 2), (404, 6)]);
        assert_resumed(f, seen.lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn behind_gaps_in_both() {
    with(|f| {
        f.request("GET / HTTP/1.1\r\n");
        f.skip(Client, 100);
        f.request("\r\n");
        f.skip(Server, 100);
        f.response("\r\n");
        f.request(GET);
        f.response(OK);
        goes_on(f);
        let seen = L7::seen(8, &[(0, 1), (200, 1), (404, 6)]);
        assert_resumed(f, seen.lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn behind_a_gap_beyond_a_body() {
    with(|f| {
        f.request(POST);
        f.skip(Client, 5000 + GET.len() as u32);
        f.response(OK.repeat(2));
        // With this one it is known that bytes are missing, and with the next that they will not come.
        f.request(GET);
        f.response(OK);
        goes_on(f);
        let seen = L7::seen(7, &[(200, 1), (404, 6)]);
        assert_resumed(f, seen.lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn twice() {
    with(|f| {
        for _ in 0..2 {
            f.request(GET);
            f.response(MALFORMED);
            f.request(GET);
            f.response(OK);
        }
        let seen = L7::seen(4, &[(0, 2), (200, 2)]);
        assert_eq!(L7::of(f), seen.lost(lost(|l| l.malformed = 2)));
        assert_eq!(resumed(f), 2);
    });
}

/// What is sent again is not new.
#[test]
fn not_where_a_request_is_sent_again() {
    with(|f| {
        f.request(GET);
        f.response(MALFORMED);
        let said = f.said[Client as usize].get();
        f.send_at(Client, said - GET.len() as u32, GET);
        assert_not_resumed(f, L7::seen(1, &[(0, 1)]).lost(lost(|l| l.malformed = 1)));
        f.request(GET);
        f.response(OK);
        let seen = L7::seen(2, &[(0, 1), (200, 1)]);
        assert_resumed(f, seen.lost(lost(|l| l.malformed = 1)));
    });
}

/// A body may hold requests.
#[test]
fn not_in_a_body() {
    with(|f| {
        f.request(POST);
        f.skip(Client, 100);
        f.request(GET);
        f.response("HTTP/1.1 100 Continue\r\n\r\n");
        f.request(GET);
        f.skip(Client, 4900 - 2 * GET.len() as u32);
        f.response(OK);
        goes_on(f);
        assert_not_resumed(f, L7::seen(7, &[(200, 1), (404, 6)]));
    });
    // In a request that is lost, before its answer.
    with(|f| {
        f.request(GET);
        f.response(OK);
        f.request("GET / HTTP/1.2\r\n\r\n");
        f.request(GET);
        f.request(GET);
        assert_not_resumed(f, L7::seen(1, &[(200, 1)]).lost(lost(|l| l.malformed = 1)));
    });
    // While the server still answers.
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
        f.request("GET / HTTP/1.2\r\n\r\n");
        f.response("5678");
        f.request(GET);
        f.response("9");
        let seen = L7::seen(1, &[(200, 1)]).lost(lost(|l| l.malformed = 1));
        assert_not_resumed(f, seen.clone());
        f.response(OK);
        f.request(GET);
        f.response(NOT_FOUND);
        let seen = L7::seen(2, &[(200, 1), (404, 1)]);
        assert_resumed(f, seen.lost(lost(|l| l.malformed = 1)));
    });
}

/// Of two requests that are under way at once, the second one's answer may still be to come.
#[test]
fn not_where_requests_are_pipelined() {
    // When the answers were lost.
    with(|f| {
        f.request(GET.repeat(2));
        f.response(MALFORMED);
        f.request(GET);
        f.response(OK);
        f.request(GET);
        f.response(OK);
        assert_not_resumed(f, L7::seen(4, &[(0, 4)]).lost(lost(|l| l.malformed = 1)));
    });
    // Later.
    with(|f| {
        f.request(GET);
        f.response(MALFORMED);
        f.request(GET);
        f.request(GET);
        f.response(OK);
        f.request(GET);
        f.response(OK);
        let seen = L7::of(f);
        assert_eq!(seen.requests.http1, 4);
        // The first of the two was a point that proves itself, and its answer is right.
        assert_eq!(resumed(f), 1);
        assert_eq!(seen.responses, L7::seen(4, &[(0, 1), (200, 2)]).responses);
    });
    // In a gap.
    with(|f| {
        f.request(GET.repeat(2));
        f.skip(Server, 10);
        f.response("the end of it");
        f.request(GET);
        f.response(OK);
        assert_not_resumed(f, L7::seen(3, &[(0, 3)]).lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn not_before_all_is_acknowledged() {
    let behind = |f: &Flow, by: u32| {
        // A request that acknowledges less than the server has sent.
        let said = &f.said[Server as usize];
        said.set(said.get() - by);
        f.request(GET);
        said.set(said.get() + by);
    };
    with(|f| {
        f.request(GET);
        f.response(MALFORMED);
        behind(f, 1);
        let seen = L7::seen(2, &[(0, 2)]).lost(lost(|l| l.malformed = 1));
        assert_not_resumed(f, seen);
        // The client does not wait for the answers: it is taken for one that pipelines.
        f.response(OK);
        f.request(GET);
        f.response(OK);
        assert_not_resumed(f, L7::seen(3, &[(0, 3)]).lost(lost(|l| l.malformed = 1)));
    });
    // The server has not acknowledged all before its last payload.
    with(|f| {
        f.request(GET);
        f.response(OK);
        f.request("GET / HTTP/1.2\r\n\r\n");
        let said = &f.said[Client as usize];
        said.set(said.get() - 1);
        f.response(OK);
        said.set(said.get() + 1);
        f.request(GET);
        assert_not_resumed(f, L7::seen(1, &[(200, 1)]).lost(lost(|l| l.malformed = 1)));
    });
}

/// Only a whole request line in one packet.
#[test]
fn not_by_a_part_of_a_line() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(600));
    for pieces in [&["GET / HTT", "P/1.1\r\n\r\n"][..], &[&long]] {
        with(|f| {
            f.request(GET);
            f.response(OK);
            f.request("GET / HTTP/1.2\r\n\r\n");
            f.response(OK);
            pieces.iter().for_each(|piece| f.request(piece));
            f.response(OK);
            let seen = L7::seen(1, &[(200, 1)]).lost(lost(|l| l.malformed = 1));
            assert_not_resumed(f, seen.clone());
            f.request(GET);
            f.response(NOT_FOUND);
            let seen = L7::seen(2, &[(200, 1), (404, 1)]);
            assert_resumed(f, seen.lost(lost(|l| l.malformed = 1)));
        });
    }
}

/// The server's next bytes are no status line: its side is lost again.
#[test]
fn what_does_not_go_on_as_it_should() {
    with(|f| {
        f.request(GET);
        f.response(MALFORMED);
        f.request(GET);
        f.response("and more of the body\r\n");
        let seen = L7::seen(2, &[(0, 2)]).lost(lost(|l| l.malformed = 2));
        assert_resumed(f, seen);
    });
}

#[test]
fn what_only_came_in_another_order_resumes_nothing() {
    with(|f| {
        f.request(GET);
        let from = f.said[Server as usize].get();
        f.send_at(Server, from + 10, &OK[10..]);
        f.send_at(Server, from, &OK[..10]);
        goes_on(f);
        assert_not_resumed(f, L7::seen(7, &[(200, 1), (404, 6)]));
    });
}

#[test]
fn with_the_end() {
    with(|f| {
        f.request(GET);
        f.response(MALFORMED);
        f.request(GET);
        f.segment(Client, ACK | PSH, f.seq(Client, 0), b"");
        f.close();
        let aborted = AbortedValue {
            fin: 1,
            ..Default::default()
        };
        let seen = L7::seen(2, &[(0, 1)]).aborted(aborted);
        assert_resumed(f, seen.lost(lost(|l| l.malformed = 1)));
    });
}
