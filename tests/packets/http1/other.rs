//! What is not HTTP/1 is never taken for it.

use metricd::abi::LostValue;

use super::{GET, OK, assert_l7, with};
use crate::flow::{Client, Server};
use crate::http2;
use crate::http2::wire::{PREFACE, settings};
use crate::model::L7;

/// A ClientHello's record header and the first bytes of the handshake message.
const CLIENT_HELLO: [u8; 11] = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[test]
fn first_bytes_of_other_protocols() {
    let others: [&[u8]; 17] = [
        b"GET key\r\n",
        b"get key\r\n",
        b"get / http/1.1\r\n",
        b"helo example.org\r\n",
        b"user anonymous\r\n",
        b"ping\r\n",
        b"{\"id\": 1}\n",
        b"*\x03\0\0\x01 and so on, in binary\n",
        b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n",
        b"PING\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET /\r\n",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"EHLO example.org\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ];
    for bytes in others {
        for size in [1, 2, 1000] {
            with(|f| {
                f.send_in(Client, size, bytes);
                // Too late: it is decided.
                f.request(GET);
                f.response(OK);
                assert_l7(f, L7::default());
            });
        }
    }
}

#[test]
fn server_speaks_first() {
    with(|f| {
        f.response("220 mail.example.org ESMTP\r\n");
        f.request("EHLO a\r\n");
        f.request(GET);
        assert_l7(f, L7::default());
    });
}

#[test]
fn tls_cut_anywhere() {
    for cut in 0..CLIENT_HELLO.len() {
        with(|f| {
            f.request(&CLIENT_HELLO[..cut]);
            f.request(&CLIENT_HELLO[cut..]);
            f.request([0x14, 3, 3, 0, 1, 1]);
            assert_eq!(f.total().tls, 1, "cut at {cut}");
            assert_l7(f, L7::default());
        });
    }
    with(|f| {
        f.send_in(Client, 1, CLIENT_HELLO);
        f.send_in(Server, 1, CLIENT_HELLO);
        assert_eq!(f.total().tls, 1);
    });
}

#[test]
fn almost_tls() {
    for (at, byte) in [(0, 0x17), (1, 2), (5, 2)] {
        with(|f| {
            let mut hello = CLIENT_HELLO;
            hello[at] = byte;
            f.request(hello);
            assert_eq!(f.total().tls, 0);
            assert_l7(f, L7::default());
        });
    }
}

/// An empty line may come before a request, and before nothing else, however it is cut.
#[test]
fn behind_an_empty_line() {
    let http2 = [&PREFACE[..], &settings(&[]), &http2::get(1)].concat();
    let request = GET.as_bytes();
    for (what, requests) in [(&http2[..], 0), (&CLIENT_HELLO[..], 0), (request, 2)] {
        let all = [b"\r\n", what, request].concat();
        for cut in 0..all.len() {
            with(|f| {
                f.request(&all[..cut]);
                f.request(&all[cut..]);
                assert_eq!(L7::of(f).requests.http1, requests, "cut at {cut}");
                let others = (L7::of(f).requests.http2, f.total().tls);
                assert_eq!(others, (0, 0), "cut at {cut}");
                assert_eq!(L7::of(f).lost, LostValue::default(), "cut at {cut}");
            });
        }
    }
}
