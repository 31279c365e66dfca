//! What is not HTTP/1 is never taken for it.

use metricd::abi::LostValue;

use super::{GET, OK, assert_l7, with};
use crate::flow::{Client, Flow, Server};
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
        for lines in ["\r\n", "\r\n\r\n", "\n\r\n"] {
            let all = [lines.as_bytes(), what, request].concat();
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
}

/// A header of version 2 of the PROXY protocol.
fn proxy2(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).expect("a length").to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [signature, &[version_command, family][..], &len, rest].concat()
}

/// PROXY_LINE of bpf/http/http1/first.h.
const PROXY_LINE: usize = 107;

fn proxy1(len: usize) -> Vec<u8> {
    format!(
        "PROXY UNKNOWN {}\r\n",
        "f".repeat(len - "PROXY UNKNOWN \r\n".len())
    )
    .into()
}

/// Headers as haproxy's doc/proxy-protocol.txt has them.
fn proxy_headers() -> Vec<Vec<u8>> {
    // A type-length-value that looks like a request: PP2_TYPE_AUTHORITY.
    let tlv = [&[2, 0, GET.len() as u8][..], GET.as_bytes()].concat();
    vec![
        b"PROXY TCP4 198.51.100.7 10.250.11.2 56324 80\r\n".to_vec(),
        b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 80\r\n".to_vec(),
        b"PROXY UNKNOWN\r\n".to_vec(),
        proxy1(PROXY_LINE),
        proxy2(0x21, 0x11, &[9; 12]),
        proxy2(0x21, 0x21, &[b'\n'; 36]),
        proxy2(0x21, 0x31, &[b'/'; 216]),
        proxy2(0x21, 0x11, &[&[9; 12], &tlv[..]].concat()),
        proxy2(0x20, 0, b""),
        proxy2(0x20, 0, &tlv),
    ]
}

/// What is behind a header of the PROXY protocol is as if the header were not there.
#[test]
fn behind_the_proxy_protocol() {
    let http2 = [&PREFACE[..], &settings(&[]), &http2::get(1)].concat();
    let whats = [
        (GET.as_bytes(), (1, 0, 0)),
        (&http2, (0, 1, 0)),
        (&CLIENT_HELLO, (0, 0, 1)),
        (b"EHLO example.org\r\n", (0, 0, 0)),
    ];
    for header in proxy_headers() {
        for (what, counted) in whats {
            let all = [&header, what].concat();
            let check = |f: &Flow, how: &str| {
                let requests = L7::of(f).requests;
                let seen = (requests.http1, requests.http2, f.total().tls);
                let text = String::from_utf8_lossy(&all);
                assert_eq!(seen, counted, "{text:?} {how}");
                assert_eq!(L7::of(f).lost, LostValue::default(), "{text:?} {how}");
            };
            for cut in 0..all.len() {
                with(|f| {
                    f.request(&all[..cut]);
                    f.request(&all[cut..]);
                    check(f, &format!("cut at {cut}"));
                });
            }
            with(|f| {
                f.send_in(Client, 1, &all);
                check(f, "byte by byte");
            });
            // From behind.
            with(|f| {
                f.send_at(Client, 20, &all[20.min(all.len())..]);
                f.send_at(Client, 0, &all[..20.min(all.len())]);
                check(f, "from behind");
            });
        }
    }
}

#[test]
fn almost_the_proxy_protocol() {
    let mut others = vec![
        proxy1(PROXY_LINE + 1),
        b"PROXY TCP".to_vec(),
        b"proxy TCP4 198.51.100.7 10.250.11.2 56324 80\r\n".to_vec(),
        b"PROXY\tTCP4 198.51.100.7 10.250.11.2 56324 80\r\n".to_vec(),
        b"PROXY 198.51.100.7 10.250.11.2 56324 80\r\n".to_vec(),
        proxy2(0x11, 0x11, &[9; 12]),
        proxy2(0x31, 0x11, &[9; 12]),
        proxy2(0x22, 0x11, &[9; 12]),
    ];
    for at in 0..12 {
        let mut header = proxy2(0x21, 0x11, &[9; 12]);
        header[at] ^= 0x40;
        others.push(header);
    }
    for other in others {
        let all = [&other, GET.as_bytes()].concat();
        for size in [1, 3, 1000] {
            with(|f| {
                f.send_in(Client, size, &all);
                f.response(OK);
                assert_eq!(L7::of(f), L7::default(), "{other:?} by {size}");
            });
        }
    }
    // A method that begins as the header does.
    for method in ["PROXY", "PROX", "PROXYING", "PROPFIND", "P"] {
        let request = format!("{method} / HTTP/1.1\r\n\r\n");
        for size in [1, 3, 1000] {
            with(|f| {
                f.send_in(Client, size, &request);
                assert_l7(f, L7::seen(1, &[]));
            });
        }
    }
    // The server of another protocol speaks first behind the header.
    with(|f| {
        f.request("PROXY TCP4 198.51.100.7 10.250.11.2 56324 25\r\n");
        f.response("220 mail.example.org ESMTP\r\n");
        f.request(GET);
        assert_l7(f, L7::default());
    });
}
