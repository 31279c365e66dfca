//! How a connection is recognised: by the client's preface, RFC 9113 section 3.4.

use super::wire::{END_STREAM, PREFACE, data, frame, goaway, headers, settings, settings_ack};
use super::{GET, OK, answer, assert_l7, exchange, fresh, get};
use crate::flow::{Client, Server};
use crate::model::L7;

fn client() -> Vec<u8> {
    [&PREFACE[..], &settings(&[(2, 0)]), &get(1)].concat()
}

#[test]
fn preface_cut_anywhere() {
    for cut in 0..=client().len() {
        fresh(|f| {
            f.request(&client()[..cut]);
            f.request(&client()[cut..]);
            f.response([settings(&[]), settings_ack(), answer(1, OK)].concat());
            assert_eq!(L7::of(f), L7::http2(1, &[(200, 1)]), "at {cut}");
        });
    }
}

#[test]
fn preface_in_pieces() {
    for size in 1..30 {
        fresh(|f| {
            f.send_in(Client, size, client());
            f.send_in(Server, size, [settings(&[]), answer(1, OK)].concat());
            assert_eq!(L7::of(f), L7::http2(1, &[(200, 1)]), "by {size}");
        });
    }
}

#[test]
fn preface_sent_twice_and_again() {
    fresh(|f| {
        f.send_at(Client, 0, &PREFACE[..10]);
        f.send_at(Client, 0, &PREFACE[..10]);
        f.send_at(Client, 0, PREFACE);
        f.send_at(Client, 5, &client()[5..]);
        f.response([settings(&[]), answer(1, OK)].concat());
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}

#[test]
fn server_speaks_first() {
    // It may send SETTINGS, and more, as soon as there is a connection.
    let update = frame(8, 0, 0, [0, 0, 1, 0]);
    let all = [settings(&[(3, 128), (4, 65536)]), update].concat();
    for cut in 0..=all.len() {
        fresh(|f| {
            f.response(&all[..cut]);
            f.request(&client()[..20]);
            f.response(&all[cut..]);
            f.request(&client()[20..]);
            f.response([settings_ack(), answer(1, OK)].concat());
            exchange(f, 3);
            let expected = L7::http2(2, &[(200, 1), (204, 1)]);
            assert_eq!(L7::of(f), expected, "at {cut}");
        });
    }
    for size in [1, 2, 9] {
        fresh(|f| {
            f.send_in(Server, size, &all);
            f.send_in(Client, size, client());
            f.send_in(Server, size, answer(1, OK));
            assert_l7(f, L7::http2(1, &[(200, 1)]));
        });
    }
}

#[test]
fn server_says_all_before_the_client() {
    fresh(|f| {
        f.response([settings(&[]), goaway(0, 2)].concat());
        f.request([&PREFACE[..], &settings(&[])].concat());
        f.close();
        assert_l7(f, L7::default());
    });
}

#[test]
fn almost_a_preface() {
    for at in 0..PREFACE.len() {
        for size in [1, 1000] {
            fresh(|f| {
                let mut bytes = client();
                bytes[at] ^= 1;
                f.send_in(Client, size, &bytes);
                f.response([settings(&[]), answer(1, OK)].concat());
                f.request(get(3));
                assert_eq!(L7::of(f).requests.total(), 0, "at {at} by {size}");
                assert_eq!(f.seen().responses, [].into());
            });
        }
    }
}

#[test]
fn frames_without_a_preface() {
    fresh(|f| {
        f.request([settings(&[]), get(1)].concat());
        f.response([settings(&[]), answer(1, OK)].concat());
        f.request(PREFACE);
        f.request(get(3));
        assert_l7(f, L7::default());
    });
}

#[test]
fn server_first_with_something_else() {
    let others: [&[u8]; 5] = [
        b"220 mail.example.org ESMTP\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x4a\0\0\0\x0a8.0.36\0",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\0",
    ];
    for bytes in others {
        for size in [1, 1000] {
            fresh(|f| {
                f.send_in(Server, size, bytes);
                f.request("EHLO a\r\n");
                f.response(bytes);
                f.request([&PREFACE[..], &get(1)].concat());
                f.response(answer(1, OK));
                assert_l7(f, L7::default());
            });
        }
    }
}

#[test]
fn client_does_not_know_it() {
    // Settings are an HTTP/2 server's, but what comes in answer is something else.
    for size in [1, 1000] {
        fresh(|f| {
            f.send_in(Server, size, settings(&[(3, 100)]));
            f.send_in(Client, size, "GET /\r\n\r\n");
            f.response([headers(1, 0, OK), data(1, END_STREAM, "x")].concat());
            f.request([&PREFACE[..], &headers(1, END_STREAM, GET)].concat());
            assert_l7(f, L7::default());
        });
    }
}
