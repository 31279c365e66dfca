//! What a connection turned out to carry, which is told of each once.

use metricd::abi::DecidedValue;

use crate::flow::{Client, Flow, Role, Server, ends};
use crate::frame::{ACK, PSH, RST, SYN};
use crate::http2::wire::{PREFACE, settings};
use crate::kernel::Shared;

const GET: &str = "GET / HTTP/1.1\r\n\r\n";
const CLIENT_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc";

/// Who says what, one after the other.
type Said<'a> = &'a [(Role, &'a [u8])];

/// A connection of which one thing is known.
macro_rules! one {
    ($decision:ident) => {
        DecidedValue {
            $decision: 1,
            ..DecidedValue::default()
        }
    };
}

/// Of the connection, which ends now, this was told once.
#[track_caller]
fn ends_as(flow: &Flow, what: &str, expected: DecidedValue) {
    flow.rst(Client);
    let total = flow.total();
    assert_eq!((total.opened, total.active), (1, 0), "{what}");
    let tls = u64::from(expected == DecidedValue::default());
    assert_eq!((total.decided, total.tls), (expected, tls), "{what}");
}

#[test]
fn by_the_first_bytes() {
    let http2 = [&PREFACE[..], &settings(&[])].concat();
    let frames = settings(&[]);
    let long = format!("GET /{} HTTP/1.1", "a".repeat(20_000));
    let (get, proxied) = (GET.as_bytes(), format!("PROXY UNKNOWN\r\n{GET}"));
    let cases: [(&str, Said, DecidedValue); 12] = [
        ("HTTP/1", &[(Client, get)], one!(http1)),
        (
            "in pieces",
            &[(Client, b"G"), (Client, &get[1..])],
            one!(http1),
        ),
        ("proxied", &[(Client, proxied.as_bytes())], one!(http1)),
        ("HTTP/2", &[(Client, &http2)], one!(http2)),
        (
            "HTTP/2, and the server first",
            &[(Server, &frames), (Client, &http2)],
            one!(http2),
        ),
        ("TLS", &[(Client, CLIENT_HELLO)], DecidedValue::default()),
        (
            "a server that speaks first",
            &[(Server, b"220 example.org\r\n"), (Client, b"EHLO a\r\n")],
            one!(server_first),
        ),
        (
            "no request",
            &[(Client, b"*1\r\n$4\r\nPING\r\n")],
            one!(not_http),
        ),
        (
            "a line without end",
            &[(Client, long.as_bytes())],
            one!(bound),
        ),
        ("nothing", &[], one!(never)),
        ("a part of a method", &[(Client, b"GE")], one!(never)),
        ("a part of an answer", &[(Server, b"\0")], one!(never)),
    ];
    for (what, said, expected) in cases {
        for later in [false, true] {
            let kernel = Shared::get();
            let flow = Flow::open(&kernel, Shared::port());
            for (role, bytes) in said {
                flow.send_in(*role, 1000, bytes);
            }
            if later && expected != one!(never) {
                // It is decided already, whatever comes.
                for bytes in [get, CLIENT_HELLO, b"* * *\r\n"] {
                    flow.request(bytes);
                    flow.response(bytes);
                }
            }
            ends_as(&flow, what, expected);
            kernel.check();
        }
    }
}

#[test]
fn of_a_connection_that_is_older_than_the_programs() {
    let kernel = Shared::get();
    let flow = Flow::new(&kernel, ends(Shared::port()));
    flow.request(GET);
    flow.response("HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(flow.total().decided, one!(midstream));
    assert_eq!(flow.total().lost.midstream, 1);
    ends_as(&flow, "midstream", one!(midstream));
    kernel.check();
}

/// Only one end has ever been seen.
#[test]
fn of_what_never_opens() {
    let kernel = Shared::get();
    let flow = Flow::new(&kernel, ends(Shared::port()));
    flow.segment(Client, SYN, flow.isn[0], b"");
    flow.segment(Server, RST | ACK, 0, b"");
    assert_eq!(flow.total().decided, one!(never));
    kernel.check();
    let flow = Flow::new(&kernel, ends(Shared::port()));
    flow.segment(Client, PSH | ACK, flow.isn[0], GET.as_bytes());
    ends_as(&flow, "one end", one!(midstream));
    kernel.check();
}
