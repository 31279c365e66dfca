//! Segments cut anywhere, sent again and out of order.

use super::{GET, NOT_FOUND, OK, assert_l7, with};
use crate::flow::{Client, Flow, Server};
use crate::model::L7;

const POST: &str = "POST /a/path?with=query HTTP/1.1\r\nHost: example.org\r\nContent-Type: text/plain\r\nX-Long: 0123456789012345678901234567890123456789\r\nContent-Length: 22\r\n\r\nGET / HTTP/1.1\r\nA: b\r\n";
const CHUNKED: &str = "HTTP/1.1 201 Created\r\nX-Long: 0123456789012345678901234567890123456789\r\nTransfer-Encoding: gzip, compress, and-more, and-more, chunked\r\nContent-Type: text/html\r\n\r\n6;ext=1\r\n\r\n0\r\n\r\r\n1\r\nx\r\n0\r\nTrailer: yes\r\n\r\n";

/// Runs `test` with each number below `n`, on a connection of its own: each counts the same.
fn each(n: usize, expected: &L7, test: impl Fn(&Flow, usize)) {
    for i in 0..n {
        with(|f| {
            test(f, i);
            assert_eq!(L7::of(f), *expected, "at {i}");
        });
    }
}

#[test]
fn request_cut_in_two_anywhere() {
    let expected = L7::seen(2, &[(200, 1), (404, 1)]);
    each(POST.len() + 1, &expected, |f, cut| {
        f.request(&POST[..cut]);
        f.request(&POST[cut..]);
        f.response(OK);
        f.request(GET);
        f.response(NOT_FOUND);
    });
}

#[test]
fn response_cut_in_two_anywhere() {
    let expected = L7::seen(2, &[(201, 1), (404, 1)]);
    each(CHUNKED.len() + 1, &expected, |f, cut| {
        f.request(GET);
        f.response(&CHUNKED[..cut]);
        f.response(&CHUNKED[cut..]);
        f.request(GET);
        f.response(NOT_FOUND);
    });
}

#[test]
fn one_byte_a_segment() {
    with(|f| {
        f.send_in(Client, 1, POST.repeat(3));
        f.send_in(Server, 1, format!("{CHUNKED}{OK}{CHUNKED}"));
        assert_l7(f, L7::seen(3, &[(200, 1), (201, 2)]));
    });
}

#[test]
fn every_size_of_segment() {
    let expected = L7::seen(3, &[(200, 1), (201, 2)]);
    each(100, &expected, |f, size| {
        f.send_in(Client, size + 1, POST.repeat(3));
        f.send_in(Server, size + 1, format!("{CHUNKED}{OK}{CHUNKED}"));
    });
}

#[test]
fn head_of_8_kb() {
    let mut request = "GET / HTTP/1.1\r\n".to_string();
    let mut response = "HTTP/1.1 200 OK\r\n".to_string();
    for i in 0..42 {
        request += &format!("X-Header-{i}: {}\r\n", "v".repeat(180));
        response += &format!("Set-Cookie: {i}={}\r\n", "v".repeat(180));
    }
    request += "Content-Length: 2\r\n\r\nhi";
    response += "Content-Length: 2\r\n\r\nhi";
    assert!(request.len() > 8000 && response.len() > 8000);
    for size in [1, 511, 512, 513, 1448, 3500] {
        with(|f| {
            f.send_in(Client, size, request.repeat(2));
            f.send_in(Server, size, response.repeat(2));
            assert_l7(f, L7::seen(2, &[(200, 2)]));
        });
    }
}

#[test]
fn lengths_around_a_block() {
    // The end of the head, and every line's, at each place of the blocks it is read in.
    for of_client in [true, false] {
        let expected = L7::seen(2, &[(200, 2)]);
        each(70, &expected, |f, i| {
            let pad = "v".repeat(440 + i);
            let tail = format!("X: {pad}\r\nContent-Length: 2\r\n\r\nhi");
            let (request, response) = if of_client {
                (format!("GET / HTTP/1.1\r\n{tail}"), OK.to_string())
            } else {
                (GET.to_string(), format!("HTTP/1.1 200 OK\r\n{tail}"))
            };
            f.request(request.repeat(2));
            f.response(response.repeat(2));
        });
    }
}

#[test]
fn many_short_lines() {
    with(|f| {
        let lines = "a:\r\n".repeat(800);
        f.request(format!(
            "GET / HTTP/1.1\r\n{lines}Content-Length: 2\r\n\r\nhi{GET}"
        ));
        f.response(format!(
            "HTTP/1.1 200 OK\n{}Content-Length: 2\n\nhi",
            "a:\n".repeat(900)
        ));
        f.response(OK);
        assert_l7(f, L7::seen(2, &[(200, 2)]));
    });
}

#[test]
fn long_start_lines() {
    with(|f| {
        f.send_in(
            Client,
            1000,
            format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(8000)),
        );
        f.send_in(
            Server,
            10,
            format!(
                "HTTP/1.1 200 {}\r\nContent-Length: 0\r\n\r\n",
                "x".repeat(2000)
            ),
        );
        assert_l7(f, L7::seen(1, &[(200, 1)]));
    });
}

#[test]
fn every_segment_twice() {
    with(|f| {
        let requests = POST.repeat(2);
        for (i, part) in requests.as_bytes().chunks(50).enumerate() {
            f.send_at(Client, i as u32 * 50, part);
            f.send_at(Client, i as u32 * 50, part);
        }
        let responses = CHUNKED.repeat(2);
        for (i, part) in responses.as_bytes().chunks(50).enumerate() {
            f.send_at(Server, i as u32 * 50, part);
            f.send_at(Server, i as u32 * 50, part);
        }
        assert_l7(f, L7::seen(2, &[(201, 2)]));
        let total = f.total();
        assert_eq!(total.recv.retransmits, requests.len().div_ceil(50) as u64);
        assert_eq!(total.sent.retransmits, responses.len().div_ceil(50) as u64);
    });
}

#[test]
fn sent_again_in_other_sizes() {
    let expected = L7::seen(1, &[(201, 1)]);
    each(POST.len() - 1, &expected, |f, cut| {
        // Up to somewhere, then all of it from the beginning.
        f.send_at(Client, 0, &POST.as_bytes()[..cut + 1]);
        f.send_at(Client, 0, POST.as_bytes());
        let cut = (cut + 1).min(CHUNKED.len());
        f.send_at(Server, 0, &CHUNKED.as_bytes()[..cut]);
        f.send_at(Server, 0, CHUNKED.as_bytes());
        f.send_at(Server, cut as u32 / 2, &CHUNKED.as_bytes()[cut / 2..]);
    });
}

#[test]
fn late_head_of_a_request_with_a_body() {
    with(|f| {
        let head = POST.len() - 22;
        f.send_at(Client, head as u32 + 10, &POST.as_bytes()[head + 10..]);
        f.send_at(Client, head as u32, &POST.as_bytes()[head..head + 10]);
        f.send_at(Client, 0, &POST.as_bytes()[..head]);
        f.response(OK);
        f.request(GET);
        f.response(OK);
        assert_l7(f, L7::seen(2, &[(200, 2)]));
        assert_eq!(f.total().recv.retransmits, 0);
    });
}

#[test]
fn reordered_body() {
    with(|f| {
        f.request(GET);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n";
        f.response(head);
        let at = head.len() as u32;
        for i in [1, 0, 2, 4, 5, 3, 9, 8, 7, 6] {
            f.send_at(Server, at + i * 300, [b'x'; 300]);
        }
        assert_l7(f, L7::seen(1, &[(200, 1)]));
        f.request(GET);
        f.response(NOT_FOUND);
        assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
    });
}
