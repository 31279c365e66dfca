//! Segments cut anywhere, and sent again.

use super::block::{CONTENT_TYPE, Form, NEWEST, STATUS, Text, indexed, literal, named, plain};
use super::wire::{
    CANCEL, DEPENDENCY, END_STREAM, PADDED, WITH_PRIORITY, data, goaway, headers, headers_in,
    padded, push_promise, rst_stream, settings, settings_ack,
};
use super::{GET, OK, aborted, with};
use crate::flow::{Client, Flow, Role, Server};
use crate::model::L7;

/// Something of everything.
fn client() -> Vec<u8> {
    let grpc = literal(
        Form::Indexed,
        Text::huffman("content-type"),
        Text::huffman("application/grpc+proto"),
    );
    let grpc = [&[0x83, 0x86, 0x84][..], &grpc, &plain("te", "trailers")].concat();
    let again = [&[0x83, 0x86, 0x84][..], &indexed(NEWEST)].concat();
    [
        headers(1, END_STREAM, GET),
        headers(
            3,
            PADDED | WITH_PRIORITY,
            padded(5, [&DEPENDENCY, &grpc[..]].concat()),
        ),
        data(3, END_STREAM, "\0\0\0\0\x02hi"),
        headers_in(5, END_STREAM, &[&again[..2], &again[2..]]),
        headers(7, 0, GET),
        rst_stream(7, CANCEL),
        headers(9, END_STREAM, GET),
    ]
    .concat()
}

fn server() -> Vec<u8> {
    let teapot = named(Form::Indexed, STATUS, Text::huffman("418"));
    let kept = literal(
        Form::Indexed,
        Text::plain("grpc-status"),
        Text::huffman("14"),
    );
    let head = [
        &OK[..],
        &named(Form::Plain, CONTENT_TYPE, Text::plain("application/grpc")),
    ]
    .concat();
    [
        settings(&[(1, 4096), (5, 16384)]),
        settings_ack(),
        headers(1, 0, plain(":status", "103")),
        push_promise(1, 2, &GET),
        headers(3, 0, &head),
        headers(1, PADDED, padded(9, &teapot)),
        data(3, 0, "\0\0\0\0\x02ho"),
        data(1, PADDED | END_STREAM, padded(7, "body")),
        headers(
            3,
            END_STREAM,
            [&plain("grpc-message", "why")[..], &kept].concat(),
        ),
        headers_in(
            5,
            END_STREAM,
            &[&head[..5], &head[5..9], &head[9..], &indexed(NEWEST)],
        ),
        goaway(7, 0),
    ]
    .concat()
}

fn expected() -> L7 {
    let http = L7::http2(3, &[(418, 1)]).aborted(aborted(|a| {
        a.cancelled = 1;
        a.refused = 1;
    }));
    http.and(L7::grpc(2, &[((200, 14), 2)]))
}

/// Runs `test` with each number below `n`, on a connection of its own: each counts the same.
fn each(n: usize, test: impl Fn(&Flow, usize)) {
    for i in 0..n {
        with(|f| {
            test(f, i);
            assert_eq!(L7::of(f), expected(), "at {i}");
            f.close();
        });
    }
}

#[test]
fn client_cut_in_two_anywhere() {
    let client = client();
    each(client.len() + 1, |f, cut| {
        f.request(&client[..cut]);
        f.request(&client[cut..]);
        f.response(server());
    });
}

#[test]
fn server_cut_in_two_anywhere() {
    let server = server();
    each(server.len() + 1, |f, cut| {
        f.request(client());
        f.response(&server[..cut]);
        f.response(&server[cut..]);
    });
}

#[test]
fn every_size_of_segment() {
    each(80, |f, size| {
        f.send_in(Client, size + 1, client());
        f.send_in(Server, size + 1, server());
    });
}

/// Sends a stretch of the stream anew, from `start` on.
fn again(f: &Flow, role: Role, start: u32, all: &[u8], from: usize, to: usize) {
    f.send_at(role, start + from as u32, &all[from..to]);
}

#[test]
fn every_segment_twice() {
    for size in [1, 10, 50, 1000] {
        each(1, |f, _| {
            for (role, all) in [(Client, client()), (Server, server())] {
                let start = f.said[role as usize].get();
                for from in (0..all.len()).step_by(size) {
                    let to = (from + size).min(all.len());
                    again(f, role, start, &all, from, to);
                    again(f, role, start, &all, from, to);
                }
            }
        });
    }
}

#[test]
fn sent_again_in_other_sizes() {
    each(server().len(), |f, cut| {
        for (role, all) in [(Client, client()), (Server, server())] {
            let start = f.said[role as usize].get();
            let cut = cut.min(all.len());
            again(f, role, start, &all, 0, cut);
            again(f, role, start, &all, cut / 2, all.len());
            again(f, role, start, &all, 0, all.len());
        }
    });
}
