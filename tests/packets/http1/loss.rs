//! What can't be followed any further is lost visibly, each for its reason.

use metricd::abi::AbortedValue;

use super::{GET, NOT_FOUND, OK, assert_l7, lost, with};
use crate::flow::{Client, Flow, Server, ends};
use crate::frame::{ACK, PSH};
use crate::kernel::Shared;
use crate::model::L7;

/// Segments passed the hook that were not seen.
fn skip(f: &Flow, role: crate::flow::Role, n: u32) {
    let said = &f.said[role as usize];
    said.set(said.get() + n);
}

#[test]
fn gap_within_a_body_is_none() {
    with(|f| {
        f.request("POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n");
        skip(f, Client, 2000);
        f.request([b'x'; 3000]);
        f.response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\nab");
        skip(f, Server, 2000);
        f.response([b'x'; 46]);
        f.response("\r\n0\r\n\r\n");
        f.request(GET);
        f.response(NOT_FOUND);
        assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
    });
}

#[test]
fn gap_up_to_the_end_of_a_body() {
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
        skip(f, Server, 5000);
        f.request(GET);
        f.response(NOT_FOUND);
        assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
    });
}

#[test]
fn gap_beyond_a_body() {
    with(|f| {
        f.request(GET.repeat(2));
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234");
        let gap = f.said[Server as usize].get();
        skip(f, Server, 6);
        f.response(NOT_FOUND);
        // Nobody knows yet whether the bytes will come.
        assert_l7(f, L7::seen(2, &[]));
        // They come, but the rest of the next head was never kept.
        f.send_at(Server, gap, b"56789H");
        assert_l7(
            f,
            L7::seen(2, &[(0, 1), (200, 1)]).lost(lost(|l| l.gap = 1)),
        );
        // From now on each request counts at once, with an unknown answer.
        f.request(GET);
        f.response(OK);
        assert_l7(
            f,
            L7::seen(3, &[(0, 2), (200, 1)]).lost(lost(|l| l.gap = 1)),
        );
    });
}

#[test]
fn gap_in_a_response_head() {
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\nContent-");
        let gap = f.said[Server as usize].get();
        skip(f, Server, 9);
        f.response("2\r\n\r\nhi");
        f.send_at(Server, gap, b"Length: ");
        assert_l7(f, L7::seen(1, &[]));
        f.send_at(Server, gap, b"Length:  ");
        assert_l7(f, L7::seen(1, &[(0, 1)]).lost(lost(|l| l.gap = 1)));
        assert_eq!(f.total().untimed, 1);
    });
}

#[test]
fn gap_in_a_request_head() {
    with(|f| {
        f.request("GET / HTTP/1.1\r\nA: ");
        let gap = f.said[Client as usize].get();
        skip(f, Client, 5);
        f.request("b\r\n\r\n");
        f.send_at(Client, gap, b"aaaaa");
        // The request was seen and its answer is, those behind it are not counted at all.
        f.response(OK);
        f.request(GET);
        assert_l7(f, L7::seen(1, &[(200, 1)]).lost(lost(|l| l.gap = 1)));
    });
}

#[test]
fn gap_never_filled_is_in_flight_until_the_end() {
    with(|f| {
        f.request(GET);
        skip(f, Server, 10);
        f.response(OK);
        assert_l7(f, L7::seen(1, &[]));
        f.close();
        let aborted = AbortedValue {
            fin: 1,
            ..Default::default()
        };
        assert_l7(f, L7::seen(1, &[]).aborted(aborted));
    });
}

#[test]
fn malformed_responses() {
    let head = "HTTP/1.1 200 OK\r\n";
    let bad = [
        "HTTP/1.2 200 OK\r\n\r\n".to_string(),
        "HTTP/1.1 20 OK\r\n\r\n".to_string(),
        "HTTP/1.1 2000 OK\r\n\r\n".to_string(),
        "HTTP/1.1 0aa\r\n\r\n".to_string(),
        "HTTP/1.1_200 OK\r\n\r\n".to_string(),
        "ICY 200 OK\r\n\r\n".to_string(),
        "HTTP/2 200 OK, which does not exist on the wire\r\n\r\n".to_string(),
        format!("{head}Content-Length: abc\r\n\r\n"),
        format!("{head}Content-Length: -1\r\n\r\n"),
        format!("{head}Content-Length: \r\n\r\n"),
        format!("{head}Content-Length: 1 1\r\n\r\n"),
        format!("{head}Content-Length: 1, 2\r\n\r\n"),
        format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n;ext\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"),
    ];
    for response in &bad {
        for size in [1, 3, 1000] {
            with(|f| {
                f.request(GET);
                f.send_in(Server, size, response);
                assert_eq!(
                    L7::of(f),
                    L7::seen(1, &[(0, 1)]).lost(lost(|l| l.malformed = 1)),
                    "{response} by {size}"
                );
            });
        }
    }
}

#[test]
fn length_of_19_digits() {
    // More than can be carried over, so in one segment.
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n");
        assert_l7(f, L7::seen(1, &[(0, 1)]).lost(lost(|l| l.malformed = 1)));
    });
}

#[test]
fn malformed_requests() {
    // The first decides whether it is HTTP at all; it is the second that is malformed.
    let bad = [
        "get / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n",
        "GET /\r\n\r\n",
        "AMETHODTHATISMUCHTOOLONGTOBEONE / HTTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "\0\0\0\0\0\0\0\r\n\r\n",
    ];
    for request in bad {
        for size in [1, 3, 1000] {
            with(|f| {
                f.request(GET);
                f.send_in(Client, size, request);
                f.response(OK);
                assert_eq!(
                    L7::of(f),
                    L7::seen(1, &[(200, 1)]).lost(lost(|l| l.malformed = 1)),
                    "{request} by {size}"
                );
            });
        }
    }
    let bad = [
        "Content-Length: x\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n",
    ];
    for fields in bad {
        with(|f| {
            f.request(format!("POST / HTTP/1.1\r\n{fields}"));
            f.response(OK);
            assert_l7(f, L7::seen(1, &[(200, 1)]).lost(lost(|l| l.malformed = 1)));
        });
    }
}

#[test]
fn unsolicited_response() {
    with(|f| {
        f.request(GET);
        f.response(OK);
        f.response("HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n");
        f.request(GET);
        assert_l7(
            f,
            L7::seen(2, &[(0, 1), (200, 1)]).lost(lost(|l| l.unsolicited = 1)),
        );
    });
}

#[test]
fn older_than_the_programs() {
    let kernel = Shared::get();
    let f = Flow::new(&kernel, ends(Shared::port()));
    f.request(GET);
    f.response(OK);
    assert_l7(&f, L7::default().lost(lost(|l| l.midstream = 1)));
    f.rst(Client);
}

#[test]
fn requests_go_on_when_answers_are_lost() {
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 abc\r\n\r\n");
        f.request(GET.repeat(20));
        let said = f.said[0].get();
        f.segment(Client, ACK | PSH, f.seq(Client, said), GET.as_bytes());
        assert_l7(f, L7::seen(22, &[(0, 22)]).lost(lost(|l| l.malformed = 1)));
        f.close();
    });
}
