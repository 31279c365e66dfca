//! The bounds of bpf/http/http1, each at the bound and one beyond.

use super::{GET, OK, assert_l7, lost, with};
use crate::flow::{Client, Flow, Server};
use crate::model::L7;

/// RUNS: packets of outstanding requests whose start is remembered.
const RUNS: usize = 8;
/// START_LINE: bytes of a start line.
const START_LINE: usize = 16384;
/// LENGTH_LINE: bytes of a content-length line.
const LENGTH_LINE: usize = 63;
/// HTTP1_CARRY: bytes of a line that are kept from one packet to the next.
const CARRY: usize = 32;

const HEAD: &str = "HEAD / HTTP/1.1\r\n\r\n";
const NO_BODY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n";

#[test]
fn packets_of_outstanding_requests() {
    with(|f| {
        for _ in 0..RUNS {
            f.request(GET.repeat(3));
        }
        f.response(OK.repeat(RUNS * 3));
        assert_l7(f, L7::seen(24, &[(200, 24)]));
        assert_eq!(f.total().untimed, 0);
    });
}

#[test]
fn one_packet_more_has_no_duration() {
    with(|f| {
        for _ in 0..=RUNS {
            f.request(GET);
        }
        f.response(OK.repeat(RUNS + 1));
        assert_l7(f, L7::seen(9, &[(200, 9)]));
        // The last two were put together, and their start is not known.
        assert_eq!(f.total().untimed, 2);
    });
}

#[test]
fn methods_of_outstanding_requests() {
    with(|f| {
        for _ in 0..RUNS / 2 {
            f.request(format!("{GET}{HEAD}"));
        }
        f.response(format!("{OK}{NO_BODY}").repeat(RUNS / 2));
        assert_l7(f, L7::seen(8, &[(200, 8)]));
    });
}

#[test]
fn one_method_more_is_lost() {
    with(|f| {
        for _ in 0..RUNS {
            f.request(GET);
        }
        f.request(HEAD);
        assert_l7(f, L7::seen(9, &[]).lost(lost(|l| l.pipeline = 1)));
        // What was remembered is answered, what was not stays open.
        f.response(OK.repeat(RUNS));
        assert_l7(f, L7::seen(9, &[(200, 8)]).lost(lost(|l| l.pipeline = 1)));
    });
}

fn start_line(f: &Flow, len: usize) {
    let pad = "x".repeat(len - "GET / HTTP/1.1".len());
    f.send_in(
        Client,
        1000,
        format!("GET /{pad} HTTP/1.1\r\nHost: a\r\n\r\n"),
    );
}

#[test]
fn start_line_as_long_as_can_be() {
    for first in [true, false] {
        with(|f| {
            let before = if first {
                0
            } else {
                f.request(GET);
                1
            };
            start_line(f, START_LINE);
            assert_l7(f, L7::seen(before + 1, &[]));
        });
    }
}

#[test]
fn start_line_too_long() {
    // One packet more than fits, since the bound is looked at once a packet.
    with(|f| {
        start_line(f, START_LINE + 1001);
        assert_l7(f, L7::default());
    });
    with(|f| {
        f.request(GET);
        start_line(f, START_LINE + 1001);
        assert_l7(f, L7::seen(1, &[]).lost(lost(|l| l.bound = 1)));
    });
}

#[test]
fn content_length_line() {
    let line = |len: usize| {
        let pad = " ".repeat(len - "Content-Length:5".len());
        format!("HTTP/1.1 200 OK\r\nContent-Length:{pad}5\r\n\r\nhello")
    };
    with(|f| {
        f.request(GET);
        f.response(line(LENGTH_LINE));
        assert_l7(f, L7::seen(1, &[(200, 1)]));
    });
    with(|f| {
        f.request(GET);
        f.response(line(LENGTH_LINE + 1));
        assert_l7(f, L7::seen(1, &[(0, 1)]).lost(lost(|l| l.malformed = 1)));
    });
}

#[test]
fn content_length_digits() {
    // Up to seven behind a blank are read at once, others one by one.
    let numbers = [
        "1",
        "09",
        "10",
        "123",
        "1234",
        "10000",
        "987654",
        "1234567",
        "9999999",
        "0000002",
        "00000002",
        "10000000",
        "12345678",
        "000123456789",
    ];
    for number in numbers {
        for blank in ["", " ", "  ", "\t"] {
            let body: u32 = number.parse().expect("a number");
            with(|f| {
                f.request(GET);
                f.response(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length:{blank}{number}\r\n\r\n"
                ));
                f.skip(Server, body - 1);
                assert_eq!(L7::of(f), L7::seen(1, &[]), "{number} but for a byte");
                f.response("x");
                assert_eq!(L7::of(f), L7::seen(1, &[(200, 1)]), "{number}");
                f.request(GET);
                f.response(OK);
                assert_eq!(L7::of(f), L7::seen(2, &[(200, 2)]), "{number}, and on");
            });
        }
    }
}

#[test]
fn content_length_line_cut() {
    let line = |pad: usize, len: usize| {
        let zeros = "0".repeat(len - "Content-Length:5".len() - pad);
        format!("Content-Length:{}{zeros}5\r\n\r\nhello", " ".repeat(pad))
    };
    let cut = |f: &Flow, line: &str, at: usize| {
        f.request(GET);
        f.response(format!("HTTP/1.1 200 OK\r\n{}", &line[..at]));
        f.response(&line[at..]);
    };
    // What can be carried over is shorter than what can be read whole.
    for pad in [0, 1, 10] {
        for at in 1..=CARRY + 4 {
            with(|f| {
                cut(f, &line(pad, CARRY - 1), at);
                assert_eq!(L7::of(f), L7::seen(1, &[(200, 1)]), "{pad} at {at}");
            });
        }
        with(|f| {
            cut(f, &line(pad, CARRY + 2), CARRY + 1);
            assert_l7(f, L7::seen(1, &[(0, 1)]).lost(lost(|l| l.bound = 1)));
        });
    }
}

#[test]
fn lines_of_a_block() {
    // More lines than are looked at in one block, with one that matters at each place.
    for before in 160..190 {
        with(|f| {
            f.request(GET);
            let empty = "a\n".repeat(before);
            f.response(format!("HTTP/1.1 200\n{empty}Content-Length: 2\n\nhi{OK}"));
            f.request(GET);
            f.response(OK);
            assert_eq!(
                (f.total().lost.unsolicited, f.total().requests.http1),
                (1, 2),
                "{before} lines: the second response follows the first"
            );
        });
    }
}
