//! What can't be followed any further is lost visibly, each for its reason.

use libbpf_rs::MapCore;
use metricd::abi::AbortedValue;

use super::{GET, NOT_FOUND, OK, assert_l7, lost, with};
use crate::flow::{Client, Flow, Server, ends};
use crate::frame::{ACK, PSH};
use crate::kernel::Shared;
use crate::model::{EARLY_RANGES, L7};

#[test]
fn gap_within_a_body_is_none() {
    with(|f| {
        f.request("POST / HTTP/1.1\r\nContent-Length: 5000\r\n\r\n");
        f.skip(Client, 2000);
        f.request([b'x'; 3000]);
        f.response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n800\r\nab");
        f.skip(Server, 2000);
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
        f.skip(Server, 5000);
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
        f.skip(Server, 6);
        f.response(&NOT_FOUND[1..]);
        // Nobody knows yet whether the bytes will come.
        assert_l7(f, L7::seen(2, &[]));
        f.send_at(Server, gap, format!("56789{}", &NOT_FOUND[..1]));
        assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
    });
}

#[test]
fn gaps_in_heads() {
    with(|f| {
        let (request, response) = (GET.repeat(2), OK.repeat(2));
        for (role, text) in [(Client, &request), (Server, &response)] {
            let from = f.said[role as usize].get();
            // From behind, but for the first byte.
            for at in (1..text.len()).rev().step_by(7) {
                let end = (at + 7).min(text.len());
                f.send_at(role, from + at as u32, &text[at..end]);
            }
            assert_eq!(L7::of(f).in_flight, u64::from(role == Server) * 2);
            f.send_at(role, from, &text[..8]);
        }
        f.request(GET);
        f.response(NOT_FOUND);
        assert_l7(f, L7::seen(3, &[(200, 2), (404, 1)]));
    });
}

/// More pieces with gaps between them than are kept.
#[test]
fn more_gaps_than_are_kept() {
    for (gaps, kept) in [(EARLY_RANGES, true), (EARLY_RANGES + 1, false)] {
        with(|f| {
            f.request(GET);
            let from = f.said[Server as usize].get();
            for i in 0..gaps {
                f.send_at(Server, from + 1 + 2 * i as u32, &OK[1 + 2 * i..][..1]);
            }
            f.send_at(Server, from, OK);
            f.request(GET);
            f.response(NOT_FOUND);
            // All of them have come a second time: nothing was needed of what was not kept.
            assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
            let from = f.said[Client as usize].get();
            for i in 0..gaps {
                f.send_at(Client, from + 1 + 2 * i as u32, &GET[1 + 2 * i..][..1]);
            }
            for i in 0..gaps {
                f.send_at(Client, from + 2 * i as u32, &GET[2 * i..][..1]);
            }
            f.send_at(Client, from + 2 * gaps as u32, &GET[2 * gaps..]);
            // The request counts from its first line on.
            let seen = L7::seen(3, &[(200, 1), (404, 1)]);
            assert_l7(
                f,
                if kept {
                    seen
                } else {
                    seen.lost(lost(|l| l.gap = 1))
                },
            );
        });
    }
}

/// Of bpf/net/state.h.
const EARLY_BYTES: usize = 1 << 17;
const EARLY_PIECE: usize = 2048;

/// How many pieces of early bytes there are.
fn pieces(f: &Flow) -> usize {
    f.kernel.skel().maps.linkerd_early_bytes_map.keys().count()
}

#[test]
fn more_bytes_than_are_kept() {
    for (early, kept) in [(EARLY_BYTES, true), (EARLY_BYTES + 1, false)] {
        with(|f| {
            // Requests as many bytes as there may be from the missing byte on, and its own.
            let get = format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(100));
            let mut text = get.repeat(early / get.len() - 1);
            let rest = early - text.len() - "GET / HTTP/1.1\r\nA: \r\n\r\n".len();
            text += &format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(rest));
            let requests = (early / get.len()) as u64;
            let from = f.said[Client as usize].get();
            let mut at = 1;
            for piece in text.as_bytes()[1..].chunks(1400) {
                f.send_at(Client, from + at, piece);
                at += piece.len() as u32;
            }
            f.send_at(Client, from, &text[..1]);
            if kept {
                assert_eq!(L7::of(f).requests.http1, requests);
                assert_eq!(pieces(f), EARLY_BYTES / EARLY_PIECE);
            } else {
                assert_eq!(L7::of(f).lost, lost(|l| l.gap = 1));
            }
            f.rst(Client);
        });
    }
}

#[test]
fn gap_never_filled_is_in_flight_until_the_end() {
    with(|f| {
        f.request(GET);
        f.skip(Server, 10);
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
        format!("{head}Content-Length: 1, 2, 1\r\n\r\n"),
        format!("{head}Content-Length: 1, 1, 2\r\n\r\n"),
        format!("{head}Content-Length: 1, 1\r\nContent-Length: 2\r\n\r\n"),
        format!("{head}Content-Length: 1, \r\n\r\n"),
        format!("{head}Content-Length: , 1\r\n\r\n"),
        format!("{head}Content-Length: 1, 1 1\r\n\r\n"),
        format!("{head}Content-Length: 1, 1x\r\n\r\n"),
        format!("{head}Content-Length: :\r\n\r\n"),
        format!("{head}Content-Length: 12/\r\n\r\n"),
        format!("{head}Content-Length: 1\u{b1}\r\n\r\n"),
        format!("{head}Content-Length: 1234a67\r\n\r\n"),
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
        "g@t / HTTP/1.1\r\n\r\n",
        "G\u{e9}T / HTTP/1.1\r\n\r\n",
        "GET\t/ HTTP/1.1\r\n\r\n",
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
        f.response(OK.repeat(2));
        f.request(GET);
        // It may have crossed a response that ends the connection.
        assert_l7(f, L7::seen(2, &[(200, 1)]));
        f.response(NOT_FOUND);
        let seen = L7::seen(2, &[(0, 1), (200, 1)]);
        assert_l7(f, seen.lost(lost(|l| l.unsolicited = 1)));
        f.request(GET);
        f.response(OK);
        // Here nothing is under way, and the connection is followed again.
        let seen = L7::seen(3, &[(0, 1), (200, 2)]);
        assert_l7(f, seen.lost(lost(|l| l.unsolicited = 1)));
    });
}

/// What a server says when it closes an idle connection: RFC 9110 section 15.5.9.
#[test]
fn responses_that_end_idle_connections() {
    let all = [
        "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 408 Request Time-out\r\n\r\n<html></html>",
        "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbad",
        "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
    ];
    for response in all {
        for size in [1, 7, 1000] {
            for (before, crosses) in [(1, 0), (1, 1), (0, 0)] {
                with(|f| {
                    for _ in 0..before {
                        f.request(GET);
                        f.response(OK);
                    }
                    f.send_in(Server, size, response);
                    for _ in 0..crosses {
                        f.request(GET);
                    }
                    f.fin(Server);
                    f.fin(Client);
                    f.ack(Server);
                    let aborted = AbortedValue {
                        fin: crosses,
                        ..Default::default()
                    };
                    let seen = L7::seen(before + crosses, &[(200, before)][..before as usize]);
                    assert_eq!(L7::of(f), seen.aborted(aborted), "{response} by {size}");
                    assert_eq!(f.total().closed.fin, 1);
                });
            }
        }
    }
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
        f.request(GET.repeat(2));
        f.response("HTTP/1.1 abc\r\n\r\n");
        f.request(GET.repeat(20));
        let said = f.said[0].get();
        f.segment(Client, ACK | PSH, f.seq(Client, said), GET.as_bytes());
        assert_l7(f, L7::seen(23, &[(0, 23)]).lost(lost(|l| l.malformed = 1)));
        f.close();
    });
}
