//! Where messages end: RFC 9112 section 6.3.

use metricd::abi::{AbortedValue, LostValue};

use super::{GET, NOT_FOUND, OK, assert_l7, with};
use crate::flow::{Client, Flow, Server};
use crate::kernel::Shared;
use crate::model::L7;

/// Requests and responses in turn, each in one segment, then what is to be counted.
fn exchange(messages: &[(&str, &str)], expected: L7) {
    with(|f| {
        for (request, response) in messages {
            f.request(request);
            f.response(response);
        }
        assert_l7(f, expected);
    });
}

#[test]
fn keep_alive() {
    with(|f| {
        for _ in 0..100 {
            f.request(GET);
            f.response(OK);
            f.request(GET);
            f.response(NOT_FOUND);
        }
        f.close();
        assert_l7(f, L7::seen(200, &[(200, 100), (404, 100)]));
        let total = f.total();
        assert_eq!((total.closed.fin, total.untimed), (1, 0));
    });
}

#[test]
fn both_ways() {
    // The pod as the client: the programs' directions change places.
    let kernel = Shared::get();
    let f = Flow::open_outbound(&kernel, Shared::port());
    f.request(GET);
    f.response(OK);
    assert_l7(&f, L7::seen(1, &[(200, 1)]));
    f.request(GET);
    f.close();
    let aborted = AbortedValue {
        fin: 1,
        ..Default::default()
    };
    assert_l7(&f, L7::seen(2, &[(200, 1)]).aborted(aborted));
}

#[test]
fn pipelined_in_one_segment() {
    with(|f| {
        f.request(GET.repeat(50));
        assert_l7(f, L7::seen(50, &[]));
        f.response(OK.repeat(49));
        f.response(NOT_FOUND);
        assert_l7(f, L7::seen(50, &[(200, 49), (404, 1)]));
        assert_eq!(f.total().untimed, 0);
    });
}

#[test]
fn pipelined_over_segments_cut_anywhere() {
    with(|f| {
        f.send_in(Client, 1000, GET.repeat(2000));
        f.send_in(Server, 1000, OK.repeat(2000));
        assert_l7(f, L7::seen(2000, &[(200, 2000)]));
    });
}

#[test]
fn request_body_that_looks_like_requests() {
    let body = "GET /evil HTTP/1.1\r\n\r\n".repeat(30);
    let post = format!(
        "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    for size in [1, 7, 100, 3000] {
        with(|f| {
            f.send_in(Client, size, &post);
            f.response(OK);
            f.request(GET);
            f.response(NOT_FOUND);
            assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
        });
    }
}

#[test]
fn response_body_that_looks_like_responses() {
    let body = NOT_FOUND.repeat(30);
    let response = format!(
        "HTTP/1.1 200 OK\r\ncontent-length:{}  \r\n\r\n{body}",
        body.len()
    );
    for size in [1, 7, 100, 3000] {
        with(|f| {
            f.request(GET);
            f.send_in(Server, size, &response);
            f.request(GET);
            f.response(OK);
            assert_l7(f, L7::seen(2, &[(200, 2)]));
        });
    }
}

#[test]
fn chunked() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let bodies = [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "5;name=value;other=\"0\"\r\nhello\r\n000;last\r\n\r\n",
        "A \r\n0123456789\r\n0000000000000000\r\n\r\n",
        "a\r\n0\r\n\r\n01234\r\n0\r\nTrailer: 1\r\nContent-Length: 99\r\n\r\n",
        "1\r\nx\r\n1\r\ny\r\n2f\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\nab\r\n0\r\n\r\n",
    ];
    for body in bodies {
        for size in [1, 2, 3, 5, 1000] {
            with(|f| {
                f.request(GET);
                f.send_in(Server, size, format!("{head}{body}"));
                f.request(GET);
                f.response(NOT_FOUND);
                assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
            });
        }
    }
}

#[test]
fn chunked_request() {
    with(|f| {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n";
        f.request(head);
        f.send_in(
            Client,
            1,
            "14\r\nGET / HTTP/1.1\r\n\r\nxx\r\n0\r\nA: b\r\n\r\n",
        );
        f.request(GET);
        f.response(OK.repeat(2));
        assert_l7(f, L7::seen(2, &[(200, 2)]));
    });
}

#[test]
fn chunked_overrides_length() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    exchange(&[(GET, both), (GET, OK)], L7::seen(2, &[(200, 2)]));
}

#[test]
fn one_byte_chunks() {
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for _ in 0..10 {
            f.response("1\r\nx\r\n".repeat(200));
        }
        f.response("0\r\n\r\n");
        assert_l7(f, L7::seen(1, &[(200, 1)]));
    });
}

#[test]
fn until_the_connection_closes() {
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n");
        f.response("more");
        assert_l7(f, L7::seen(1, &[]));
        f.fin(Server);
        assert_l7(f, L7::seen(1, &[(200, 1)]));
        assert_eq!(f.seen().latency.duration().count(), 1);
    });
}

#[test]
fn until_the_connection_closes_with_the_last_bytes() {
    with(|f| {
        f.request(GET);
        f.fin_with(Server, b"HTTP/1.0 200 OK\r\n\r\nall of it");
        f.fin(Client);
        f.ack(Server);
        assert_l7(f, L7::seen(1, &[(200, 1)]));
        assert_eq!(f.total().closed.fin, 1);
    });
}

#[test]
fn reset_before_the_end() {
    with(|f| {
        f.request(GET);
        f.response("HTTP/1.1 200 OK\r\n\r\nsome of it");
        f.rst(Server);
        let aborted = AbortedValue {
            rst: 1,
            ..Default::default()
        };
        assert_l7(f, L7::seen(1, &[]).aborted(aborted));
    });
}

#[test]
fn closed_before_the_end() {
    with(|f| {
        f.request(GET.repeat(3));
        f.response(OK);
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsome");
        f.fin(Server);
        f.fin(Client);
        f.ack(Server);
        let aborted = AbortedValue {
            fin: 2,
            ..Default::default()
        };
        assert_l7(f, L7::seen(3, &[(200, 1)]).aborted(aborted));
    });
}

#[test]
fn interim_responses() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    with(|f| {
        f.request("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
        f.response(interim);
        assert_l7(f, L7::seen(1, &[]));
        f.request("abc");
        f.response(format!("{interim}{OK}"));
        assert_l7(f, L7::seen(1, &[(200, 1)]));
    });
}

#[test]
fn responses_without_a_body() {
    let head = "HEAD / HTTP/1.1\r\n\r\n";
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    exchange(
        &[
            (head, long),
            (head, chunked),
            (head, "HTTP/1.1 200 OK\r\n\r\n"),
            (GET, "HTTP/1.1 204 No Content\r\n\r\n"),
            (
                GET,
                "HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n",
            ),
            (GET, OK),
        ],
        L7::seen(6, &[(200, 4), (204, 1), (304, 1)]),
    );
}

#[test]
fn pipelined_methods() {
    with(|f| {
        let head = "HEAD / HTTP/1.1\r\n\r\n";
        f.request(format!("{GET}{head}{GET}{head}{head}"));
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n";
        f.response(format!("{OK}{long}{NOT_FOUND}{long}{long}"));
        assert_l7(f, L7::seen(5, &[(200, 4), (404, 1)]));
    });
}

#[test]
fn upgrade() {
    with(|f| {
        f.request("GET /chat HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        f.response("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x01\x02");
        // From here on it is no HTTP, whatever it looks like.
        f.request(GET);
        f.response(OK);
        assert_l7(f, L7::seen(1, &[(101, 1)]));
    });
}

#[test]
fn tunnel() {
    let connect = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
    with(|f| {
        f.request(connect);
        f.response("HTTP/1.1 200 Connection established\r\nContent-Length: 7\r\n\r\n");
        f.request(GET);
        f.response(OK);
        assert_l7(f, L7::seen(1, &[(200, 1)]));
    });
    // One that is refused is a request like any other.
    exchange(
        &[(connect, NOT_FOUND), (GET, OK)],
        L7::seen(2, &[(200, 1), (404, 1)]),
    );
}

#[test]
fn answer_before_the_request_has_ended() {
    with(|f| {
        f.request("POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
        f.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
        assert_l7(f, L7::seen(1, &[(413, 1)]));
        f.request("defghij");
        f.request(GET);
        f.response(OK);
        assert_l7(f, L7::seen(2, &[(200, 1), (413, 1)]));
    });
}

#[test]
fn answer_before_the_head_has_ended() {
    with(|f| {
        f.request("GET / HTTP/1.1\r\nHost: ");
        f.response(NOT_FOUND);
        f.request("a\r\n\r\n");
        assert_l7(f, L7::seen(1, &[(404, 1)]));
    });
}

#[test]
fn http_1_0() {
    with(|f| {
        f.request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        f.response("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        f.request("GET / HTTP/1.0\r\n\r\n");
        f.response("HTTP/1.0 500 \r\n\r\nhi");
        f.fin(Server);
        f.fin(Client);
        f.ack(Server);
        assert_l7(f, L7::seen(2, &[(200, 1), (500, 1)]));
    });
}

#[test]
fn spelling() {
    // Bare line feeds, no reason phrase, empty lines first, white space, unknown methods.
    exchange(
        &[
            (
                "\r\n\nGET / HTTP/1.1\nHost: a\n\n",
                "HTTP/1.1 200\nCONTENT-LENGTH:\t2 \n\nhi",
            ),
            (
                "M-SEARCH * HTTP/1.1\r\ncontent-LENGTH:2\r\n\r\nhi",
                "HTTP/1.1 299 \r\nContent-Length: 0\r\nContent-Location: 7\r\nContent-Length: 0\r\n\r\n",
            ),
            (
                "PROPFIND / HTTP/1.1\r\nTransfer-Encoding:chunked \r\n\r\n0\r\n\r\n",
                "HTTP/1.1 207 Multi-Status\r\nX-Content-Length: 5\r\ntransfer-encoding: \tchunked\t\r\n\r\n0\r\n\r\n",
            ),
            (GET, OK),
        ],
        L7::seen(4, &[(200, 2), (207, 1), (299, 1)]),
    );
}

/// Any token is a method, RFC 9110 sections 5.6.2 and 9.1, also of the first request.
#[test]
fn methods() {
    let all = [
        "patch",
        "Get",
        "0",
        "!#$%&'*+-.^_`|~",
        "head",
        "a-method-of-23-letters-",
    ];
    for method in all {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        for size in [1, 2, 1000] {
            with(|f| {
                f.send_in(Client, size, request.repeat(2));
                f.response(OK.repeat(2));
                f.request(GET);
                f.response(NOT_FOUND);
                let seen = L7::seen(3, &[(200, 2), (404, 1)]);
                assert_eq!(L7::of(f), seen, "{method} by {size}");
            });
        }
    }
}

/// RFC 9110 section 8.6: a list of equal values is that value.
#[test]
fn lists_of_lengths() {
    for length in [
        "5, 5",
        "5,5",
        "5 ,\t5 , 05",
        "000005,  5",
        "5\r\nContent-Length: 5, 5",
        "5, 5\r\nContent-Length: 5",
    ] {
        let framed = format!("Content-Length: {length}\r\n\r\nhello");
        for size in [1, 7, 1000] {
            with(|f| {
                f.send_in(Client, size, format!("POST / HTTP/1.1\r\n{framed}{GET}"));
                f.send_in(
                    Server,
                    size,
                    format!("HTTP/1.1 200 OK\r\n{framed}{NOT_FOUND}"),
                );
                let seen = L7::seen(2, &[(200, 1), (404, 1)]);
                assert_eq!(L7::of(f), seen, "{length} by {size}");
            });
        }
    }
}

/// RFC 9112 section 6.1: in HTTP/1.0 there are no transfer codings, and the framing is faulty.
#[test]
fn codings_of_http_1_0() {
    for fields in [
        "Transfer-Encoding: chunked",
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
    ] {
        for size in [1, 7, 1000] {
            with(|f| {
                f.request(GET);
                let head = format!("HTTP/1.0 200 OK\r\n{fields}\r\n\r\n");
                f.send_in(
                    Server,
                    size,
                    format!("{head}3\r\nabc\r\n0\r\n\r\n{NOT_FOUND}"),
                );
                assert_eq!(L7::of(f), L7::seen(1, &[]), "{fields} by {size}");
                f.fin(Server);
                assert_eq!(L7::of(f), L7::seen(1, &[(200, 1)]), "{fields} by {size}");
            });
            with(|f| {
                let request = format!("POST / HTTP/1.0\r\n{fields}\r\n\r\n0\r\n\r\n{GET}");
                f.send_in(Client, size, request);
                f.response(OK);
                let seen = L7::seen(1, &[(200, 1)]).lost(LostValue {
                    malformed: 1,
                    ..Default::default()
                });
                assert_eq!(L7::of(f), seen, "{fields} by {size}");
            });
        }
    }
    // An interim response, and one without a body, have no framing.
    with(|f| {
        f.request("HEAD / HTTP/1.0\r\n\r\n");
        f.response("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        f.request(GET);
        f.response(OK);
        assert_l7(f, L7::seen(2, &[(200, 2)]));
    });
}

/// Empty elements of a list do not count, RFC 9110 section 5.6.1.
#[test]
fn lists_of_codings() {
    for coding in [
        "chunked,",
        ", chunked , ,",
        "gzip,,chunked",
        "gzip\r\nTransfer-Encoding: chunked",
    ] {
        let framed = format!("Transfer-Encoding: {coding}\r\n\r\n0\r\n\r\n");
        exchange(
            &[
                (
                    &format!("POST / HTTP/1.1\r\n{framed}"),
                    &format!("HTTP/1.1 200 OK\r\n{framed}"),
                ),
                (GET, NOT_FOUND),
            ],
            L7::seen(2, &[(200, 1), (404, 1)]),
        );
    }
}

/// A head with an expectation, of a body that is not sent if the answer is final.
fn expecting(field: &str, framing: &str) -> String {
    format!("POST / HTTP/1.1\r\n{field}\r\n{framing}\r\n\r\n")
}

const EXPECT: &str = "Expect: 100-continue";

#[test]
fn expectation_refused() {
    let pad = format!(
        "X: {}\r\n{EXPECT}\r\nY: {}",
        "x".repeat(600),
        "y".repeat(600)
    );
    for field in [
        EXPECT,
        "expect:100-Continue ",
        "Upgrade: h2c\r\nEXPECT:\t100-continue",
        "Expect: 100-continue\r\nUpgrade: websocket\r\nExpires: 0",
        &pad,
    ] {
        for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
            for size in [1, 7, 3000] {
                with(|f| {
                    f.send_in(Client, size, expecting(field, framing));
                    f.response("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n");
                    for _ in 0..3 {
                        f.request(GET);
                        f.response(OK);
                    }
                    let seen = L7::seen(4, &[(200, 3), (417, 1)]);
                    assert_eq!(L7::of(f), seen, "{field}, {framing} by {size}");
                });
            }
        }
    }
}

/// Behind a final answer the body may come all the same.
#[test]
fn expectation_refused_and_body_sent() {
    let cut = format!("GET /{} HTTP/1.1", "x".repeat(600));
    for body in [
        "x",
        "GET",
        "GET / HTTP/1.1",
        "GET / HTTP/1.2\r\n",
        "GET /\r\n",
        "G@T / HTTP/1.1\r\n",
        &format!("{cut}\r\n"),
    ] {
        with(|f| {
            f.request(expecting(EXPECT, "Content-Length: 1000"));
            f.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
            f.request(body);
            f.request(GET.repeat(50).split_at(1000 - body.len()).0);
            f.request(GET);
            f.response(OK);
            assert_eq!(L7::of(f), L7::seen(2, &[(200, 1), (413, 1)]), "{body}");
        });
    }
    with(|f| {
        f.request(expecting(EXPECT, "Transfer-Encoding: chunked"));
        f.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
        f.request(format!("1b\r\n{GET}\r\n0\r\n\r\n{GET}"));
        f.response(OK);
        assert_l7(f, L7::seen(2, &[(200, 1), (413, 1)]));
    });
}

/// Before a final answer the next bytes are the body, whatever they look like.
#[test]
fn expectation_met() {
    let length = format!("Content-Length: {}", GET.len());
    for interim in ["", "HTTP/1.1 100 Continue\r\n\r\n"] {
        with(|f| {
            f.request(GET);
            f.request(expecting(EXPECT, &length));
            f.response(format!("{OK}{interim}"));
            f.request(GET);
            f.response(OK);
            f.request(GET);
            f.response(NOT_FOUND);
            assert_l7(f, L7::seen(3, &[(200, 2), (404, 1)]));
        });
    }
    // All of it at once, in order or from behind, and behind what was answered.
    let all = format!("{}{GET}{GET}", expecting(EXPECT, &length));
    for cut in 1..all.len() {
        with(|f| {
            f.request(GET);
            f.response(OK);
            let from = f.said[Client as usize].get();
            f.send_at(Client, from + cut as u32, &all[cut..]);
            f.send_at(Client, from, &all[..cut]);
            f.response(OK.repeat(2));
            assert_eq!(L7::of(f), L7::seen(3, &[(200, 3)]), "cut at {cut}");
        });
    }
}

/// Without an expectation, or with another one, a body is sent in any case.
#[test]
fn other_expectations() {
    for field in [
        "X-Expect: 100-continue",
        "Expect-CT: 100-continue",
        "Expect: 100-continues",
    ] {
        with(|f| {
            f.request(expecting(field, &format!("Content-Length: {}", GET.len())));
            f.response("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
            f.request(GET);
            f.request(GET);
            f.response(OK);
            assert_eq!(L7::of(f), L7::seen(2, &[(200, 1), (413, 1)]), "{field}");
        });
    }
}
