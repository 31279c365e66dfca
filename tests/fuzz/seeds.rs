//! Conversations with sense, to begin with: those that the tests make up, and a few more.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::flow::{Client, Role, Server};
use crate::http1::exchange;
use crate::http2::block::{Text, plain};
use crate::http2::stretches::talk;
use crate::http2::wire::{
    END_STREAM, PREFACE, data, goaway, headers, push_promise, rst_stream, settings, settings_ack,
};
use crate::input::{Conversation, Input, Segment};

type Turns = Vec<(Role, Vec<u8>)>;

/// One conversation, each turn a packet or, where it is large, several.
fn input(turns: Turns) -> Input {
    let mut conversation = Conversation {
        inbound: true,
        handshake: true,
        ..Conversation::default()
    };
    let mut segments = Vec::new();
    for (role, bytes) in turns {
        let stream = &mut conversation.streams[role as usize];
        for part in bytes.chunks(1448) {
            let from = stream.len();
            stream.extend(part);
            segments.push(Segment::new(0, role, from..stream.len()));
        }
    }
    Input {
        conversations: vec![conversation],
        segments,
        ..Input::default()
    }
}

fn one<S: Strategy>(runner: &mut TestRunner, strategy: S) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

/// A seed, another one each time.
pub fn seed(runner: &mut TestRunner) -> Input {
    match one(runner, 0u8..8) {
        0..4 => input(one(runner, talk()).stretches()),
        4..7 => http1(runner),
        _ => {
            let mut all = fixed();
            let at = one(runner, 0..all.len());
            input(all.swap_remove(at))
        }
    }
}

fn http1(runner: &mut TestRunner) -> Input {
    let groups = one(runner, vec(vec(exchange(), 1..3), 1..4));
    let mut turns = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let mut said = [Vec::new(), Vec::new()];
        for (j, exchange) in group.iter().enumerate() {
            said[0].extend(exchange.request());
            said[1].extend(exchange.response(i + 1 == groups.len() && j + 1 == group.len()));
        }
        let [asked, answered] = said;
        turns.extend([(Client, asked), (Server, answered)]);
    }
    input(turns)
}

/// What the random ones hardly come by.
fn fixed() -> Vec<Turns> {
    let get = [0x82, 0x86, 0x84];
    let start = [&PREFACE[..], &settings(&[(4, 65535)])].concat();
    let upgrade = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                   Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    let switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                     Upgrade: h2c\r\n\r\n";
    let kept = crate::http2::block::literal(
        crate::http2::block::Form::Indexed,
        Text::huffman("grpc-status"),
        Text::plain("5"),
    );
    let grpc = [&get[..], &plain("content-type", "application/grpc")].concat();
    let open: Vec<u8> = (0..140).flat_map(|i| headers(2 * i + 1, 1, get)).collect();
    let same: Vec<u8> = (0..9).flat_map(|i| headers(256 * i + 1, 1, get)).collect();
    let text = |text: &str| text.as_bytes().to_vec();
    vec![
        vec![
            (Client, text(upgrade)),
            (
                Server,
                [
                    text(switching),
                    settings(&[]),
                    headers(1, END_STREAM, [0x88]),
                ]
                .concat(),
            ),
            (
                Client,
                [start.clone(), settings_ack(), headers(3, 1, get)].concat(),
            ),
            (Server, headers(3, END_STREAM, [0x89])),
        ],
        vec![
            (
                Client,
                [
                    &start[..],
                    &headers(1, END_STREAM, &grpc),
                    &headers(3, 0, get),
                ]
                .concat(),
            ),
            (
                Server,
                [
                    settings(&[]),
                    push_promise(1, 2, &get),
                    headers(1, 0, [0x88]),
                    data(1, 0, b"\0\0\0\0\x02hi"),
                    headers(1, END_STREAM, kept),
                    rst_stream(3, 7),
                ]
                .concat(),
            ),
            (
                Client,
                [headers(5, 1, get), rst_stream(5, 8), headers(7, 1, get)].concat(),
            ),
            (Server, goaway(5, 0)),
        ],
        // More streams than there are places, and more with the same place.
        vec![
            (Client, [start.clone(), open].concat()),
            (Server, [settings(&[]), headers(3, 1, [0x88])].concat()),
        ],
        vec![
            (Client, [start, same].concat()),
            (Server, headers(257, 1, [0x88])),
        ],
        vec![
            (Client, text("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n")),
            (Server, text("HTTP/1.1 200 OK\r\n\r\n")),
            (Client, text("GET / HTTP/1.1\r\n\r\n")),
        ],
        vec![
            (Client, text("\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03")),
            (Server, text("\x16\x03\x03\0\x7a\x02")),
        ],
        vec![
            (
                Client,
                text(
                    "POST / HTTP/1.1\r\nExpect: 100-continue\r\nTransfer-Encoding: gzip, chunked\
                      \r\n\r\n",
                ),
            ),
            (Server, text("HTTP/1.1 100 Continue\r\n\r\n")),
            (
                Client,
                text("5;a=\"b\"\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n"),
            ),
            (Server, text("HTTP/1.0 200 OK\r\n\r\nto the end")),
        ],
        vec![
            (Server, text("220 mail.example.org ESMTP\r\n")),
            (Client, text("EHLO a\r\n")),
        ],
    ]
}
