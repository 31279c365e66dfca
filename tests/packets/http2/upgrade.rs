//! From HTTP/1.1 to HTTP/2 by `Upgrade: h2c`, RFC 7540 section 3.2: the request made so is stream 1.

use super::block::plain;
use super::wire::{CANCEL, END_STREAM, PREFACE, data, headers, rst_stream, settings, settings_ack};
use super::{NOT_FOUND, OK, aborted, answer, assert_l7, exchange, fresh};
use crate::flow::{Client, Server};
use crate::model::L7;

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
const SWITCH: &str =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

fn switch() -> Vec<u8> {
    [SWITCH.as_bytes(), &settings(&[(3, 100)])].concat()
}

fn preface() -> Vec<u8> {
    [&PREFACE[..], &settings(&[]), &settings_ack()].concat()
}

#[test]
fn answered_behind_the_preface() {
    for size in [1, 2, 7, 31, 1000] {
        fresh(|f| {
            f.send_in(Client, size, REQUEST);
            assert_l7(f, L7::seen(1, &[]));
            f.send_in(Server, size, switch());
            assert_l7(f, L7::seen(1, &[]));
            f.send_in(Client, size, preface());
            f.send_in(
                Server,
                size,
                [headers(1, 0, NOT_FOUND), settings_ack()].concat(),
            );
            assert_l7(f, L7::seen(1, &[]));
            f.send_in(Server, size, data(1, END_STREAM, "hello"));
            assert_l7(f, L7::seen(1, &[(404, 1)]));
            exchange(f, 3);
            assert_l7(f, L7::seen(1, &[(404, 1)]).and(L7::http2(1, &[(204, 1)])));
            assert_eq!(f.total().untimed, 0);
        });
    }
}

#[test]
fn answered_with_the_switch() {
    let all = [switch(), headers(1, 0, OK), data(1, END_STREAM, "hello")].concat();
    for cut in 0..=all.len() {
        fresh(|f| {
            f.request(REQUEST);
            f.response(&all[..cut]);
            f.response(&all[cut..]);
            f.request(preface());
            exchange(f, 3);
            let expected = L7::seen(1, &[(200, 1)]).and(L7::http2(1, &[(204, 1)]));
            assert_eq!(L7::of(f), expected, "at {cut}");
        });
    }
}

#[test]
fn preface_before_the_answer_has_begun() {
    // Other streams are answered before the first.
    fresh(|f| {
        f.request(REQUEST);
        f.response(switch());
        f.request(preface());
        for stream in [3, 5, 7] {
            exchange(f, stream);
        }
        f.response(
            [
                headers(1, 0, OK),
                data(1, 0, "x"),
                answer(1, plain("a", "b")),
            ]
            .concat(),
        );
        assert_l7(f, L7::seen(1, &[(200, 1)]).and(L7::http2(3, &[(204, 3)])));
    });
}

#[test]
fn request_with_a_body() {
    let body = "PRI * HTTP/2.0\r\n\r\n";
    let request = REQUEST.replace("GET", "POST").replace(
        "Host: a\r\n",
        &format!("Host: a\r\nContent-Length: {}\r\n", body.len()),
    );
    for size in [1, 1000] {
        fresh(|f| {
            f.send_in(Client, size, format!("{request}{body}"));
            f.send_in(Server, size, switch());
            f.send_in(Client, size, preface());
            f.send_in(Server, size, answer(1, OK));
            exchange(f, 3);
            assert_l7(f, L7::seen(1, &[(200, 1)]).and(L7::http2(1, &[(204, 1)])));
        });
    }
}

#[test]
fn not_the_first_request() {
    fresh(|f| {
        f.request("GET / HTTP/1.1\r\n\r\n");
        f.response("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        f.request(REQUEST);
        f.response([switch(), answer(1, NOT_FOUND)].concat());
        f.request(preface());
        exchange(f, 3);
        let http1 = L7::seen(2, &[(200, 1), (404, 1)]);
        assert_l7(f, http1.and(L7::http2(1, &[(204, 1)])));
    });
}

#[test]
fn not_accepted() {
    fresh(|f| {
        f.request(REQUEST);
        f.response("HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi");
        f.request("GET / HTTP/1.1\r\n\r\n");
        f.response("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        assert_l7(f, L7::seen(2, &[(200, 1), (404, 1)]));
    });
}

#[test]
fn to_something_else() {
    fresh(|f| {
        f.request(REQUEST.replace("Upgrade: h2c", "Upgrade: h2c, websocket"));
        f.response(SWITCH.replace("h2c", "websocket"));
        f.response([settings(&[]), answer(1, NOT_FOUND)].concat());
        f.request(preface());
        exchange(f, 3);
        assert_l7(f, L7::seen(1, &[(101, 1)]));
    });
}

#[test]
fn spelling() {
    for name in ["upgrade: h2c", "UPGRADE:h2c", "Upgrade: \th2c  "] {
        fresh(|f| {
            f.request(REQUEST.replace("Upgrade: h2c", name));
            f.response(SWITCH.replace("Upgrade: h2c", name));
            f.response([settings(&[]), answer(1, NOT_FOUND)].concat());
            f.request(preface());
            exchange(f, 3);
            let expected = L7::seen(1, &[(404, 1)]).and(L7::http2(1, &[(204, 1)]));
            assert_eq!(L7::of(f), expected, "{name}");
        });
    }
}

#[test]
fn reset() {
    fresh(|f| {
        f.request(REQUEST);
        f.response(switch());
        f.request([preface(), rst_stream(1, CANCEL)].concat());
        f.response(answer(1, OK));
        exchange(f, 3);
        let http1 = L7::seen(1, &[]).aborted(aborted(|a| a.cancelled = 1));
        assert_l7(f, http1.and(L7::http2(1, &[(204, 1)])));
    });
}

#[test]
fn ends_without_an_answer() {
    fresh(|f| {
        f.request(REQUEST);
        f.response([switch(), headers(1, 0, OK)].concat());
        f.request(preface());
        f.close();
        assert_l7(f, L7::seen(1, &[]).aborted(aborted(|a| a.fin = 1)));
    });
    fresh(|f| {
        f.request(REQUEST);
        f.response(SWITCH);
        f.close();
        assert_l7(f, L7::seen(1, &[]).aborted(aborted(|a| a.fin = 1)));
    });
}
