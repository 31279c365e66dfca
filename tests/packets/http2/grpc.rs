//! gRPC: what makes a request one, and where its status is.

use metricd::abi::GRPC_STATUS_DERIVED;

use super::block::{CONTENT_TYPE, FORMS, Form, NEWEST, Text, indexed, literal, named, plain};
use super::wire::{END_STREAM, PADDED, data, headers, padded};
use super::{GET, NO_CONTENT, OK, answer, assert_l7, exchange, with};
use crate::flow::{Client, Flow, Server};
use crate::model::L7;

/// A status that is made of HTTP's.
fn derived(status: u8) -> u8 {
    GRPC_STATUS_DERIVED | status
}

/// A block that opens a request with this content-type.
fn post(content_type: Text) -> Vec<u8> {
    [
        &[0x83, 0x86, 0x84][..],
        &named(Form::Plain, CONTENT_TYPE, content_type),
    ]
    .concat()
}

fn call(stream: u32) -> Vec<u8> {
    let content_type = Text::huffman("application/grpc");
    [
        headers(stream, 0, post(content_type)),
        data(stream, END_STREAM, "\0\0\0\0\x02hi"),
    ]
    .concat()
}

/// Headers and a message, but no trailers.
fn message(stream: u32) -> Vec<u8> {
    let content_type = named(Form::Indexed, CONTENT_TYPE, Text::plain("application/grpc"));
    let head = headers(stream, 0, [&OK[..], &content_type].concat());
    [head, data(stream, 0, "\0\0\0\0\x02hi")].concat()
}

#[test]
fn unary_call() {
    for size in [1, 10, 1000] {
        with(|f| {
            f.send_in(Client, size, call(1));
            assert_l7(f, L7::grpc(1, &[]));
            f.send_in(Server, size, message(1));
            assert_l7(f, L7::grpc(1, &[]));
            f.send_in(Server, size, answer(1, plain("grpc-status", "0")));
            assert_l7(f, L7::grpc(1, &[((200, 0), 1)]));
            assert_eq!(f.total().untimed, 0);
        });
    }
}

#[test]
fn content_types() {
    let grpc = [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc+json",
        "application/grpc;charset=utf-8",
        "application/grpc+",
        "Application/gRPC",
        "APPLICATION/GRPC+PROTO",
        "application/GRPC;x",
    ];
    let others = [
        "application/grpc-web",
        "application/grpc-web+proto",
        "application/grpcx",
        "APPLICATION/GRPCX",
        "APPLICATION/GRPC-WEB",
        "APPLICATION/GRP",
        "application/grp",
        "application/json",
        "xapplication/grpc",
        "application/grpc/x",
        "",
        "a",
    ];
    let exchange = |content_type: &str, block: Vec<u8>, expected: L7| {
        for size in [1, 1000] {
            with(|f| {
                f.send_in(Client, size, answer(1, &block));
                f.response(answer(1, OK));
                assert_eq!(L7::of(f), expected, "{content_type}: {block:x?}");
            });
        }
    };
    let blocks = |content_type| {
        let mut all = Vec::new();
        for form in FORMS {
            for value in Text::each(content_type) {
                let name = Text("content-type".as_bytes(), form == Form::Never);
                all.push([&GET[..], &named(form, CONTENT_TYPE, value)].concat());
                all.push([&GET[..], &literal(form, name, value)].concat());
            }
        }
        all
    };
    for content_type in grpc {
        for block in blocks(content_type) {
            exchange(content_type, block, L7::grpc(1, &[((200, derived(2)), 1)]));
        }
    }
    for content_type in others {
        for block in blocks(content_type) {
            exchange(content_type, block, L7::http2(1, &[(200, 1)]));
        }
    }
}

#[test]
fn content_type_by_dynamic_index() {
    with(|f| {
        let kept = named(
            Form::Indexed,
            CONTENT_TYPE,
            Text::huffman("application/grpc"),
        );
        f.request(answer(1, [&GET[..], &kept].concat()));
        f.request(answer(3, [&GET[..], &indexed(NEWEST)].concat()));
        let other = named(Form::Indexed, NEWEST, Text::plain("text/html"));
        f.request(answer(5, [&GET[..], &other].concat()));
        f.request(answer(7, [&GET[..], &indexed(NEWEST)].concat()));
        f.request(answer(9, [&GET[..], &indexed(NEWEST + 1)].concat()));
        assert_l7(f, L7::grpc(3, &[]).and(L7::http2(2, &[])));
    });
}

#[test]
fn only_a_request_has_a_protocol() {
    // A response's content-type, and a request's trailers, change nothing.
    with(|f| {
        let kept = named(Form::Plain, CONTENT_TYPE, Text::plain("application/grpc"));
        f.request(headers(1, 0, GET));
        f.request(answer(1, &kept));
        f.response(answer(1, [&OK[..], &kept].concat()));
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}

/// Calls, each ended by the trailers that `end` makes of a status.
fn all_statuses(f: &Flow, end: impl Fn(&str) -> Vec<u8>) {
    let mut expected = Vec::new();
    for status in 0..=16 {
        let stream = 2 * u32::from(status) + 1;
        let block = end(&status.to_string());
        f.request(call(stream));
        f.response(message(stream));
        f.response(answer(stream, &block));
        expected.push(((200, status), 1));
        let seen = L7::of(f);
        assert_eq!(
            seen,
            L7::grpc(stream as u64 / 2 + 1, &expected),
            "{block:x?}"
        );
    }
}

#[test]
fn statuses_in_each_form() {
    for form in FORMS {
        for name in Text::each("grpc-status") {
            for huffman in [false, true] {
                with(|f| {
                    let end = |status: &str| {
                        let value = Text(status.as_bytes(), huffman);
                        literal(form, name, value)
                    };
                    all_statuses(f, end);
                });
            }
        }
    }
}

#[test]
fn statuses_by_dynamic_index() {
    with(|f| {
        let mut blocks = vec![plain("a", "b")];
        for status in 0..=16 {
            let text = status.to_string();
            let value = Text(text.as_bytes(), status % 2 == 0);
            blocks.push(literal(Form::Indexed, Text::huffman("grpc-status"), value));
        }
        // All are kept by a push, so that no response has two.
        f.request(call(1));
        f.response(super::wire::push_promise(1, 2, &blocks.concat()));
        for status in 0..=16_u8 {
            let stream = 2 * u32::from(status) + 3;
            f.request(call(stream));
            f.response(headers(stream, 0, OK));
            f.response(answer(stream, indexed(NEWEST + 16 - usize::from(status))));
        }
        let expected: Vec<_> = (0..=16).map(|status| ((200, status), 1)).collect();
        assert_l7(f, L7::grpc(18, &expected));
        // By its name.
        for form in [Form::Plain, Form::Never] {
            for value in Text::each("7") {
                let stream = f.total().requests.grpc as u32 * 2 + 1;
                f.request(call(stream));
                f.response(headers(stream, 0, OK));
                f.response(answer(stream, named(form, NEWEST + 3, value)));
            }
        }
        let answers = f.seen().answers;
        assert_eq!(answers[&crate::kernel::Answer::grpc(200, 7)], 5);
    });
}

#[test]
fn trailers_only() {
    for (status, grpc_status) in [("0", 0), ("5", 5), ("16", 16)] {
        for value in Text::each(status) {
            with(|f| {
                let name = Text::huffman("grpc-status");
                let field = literal(Form::Indexed, name, value);
                let message = plain("grpc-message", "not found");
                f.request(call(1));
                f.response(answer(1, [&OK[..], &field, &message].concat()));
                f.request(call(3));
                f.response(answer(3, [&OK[..], &indexed(NEWEST), &message].concat()));
                assert_l7(f, L7::grpc(2, &[((200, grpc_status), 2)]));
            });
        }
    }
}

#[test]
fn without_a_status() {
    with(|f| {
        // From what stands between, which knows no gRPC.
        f.request([call(1), call(3), call(5)].concat());
        f.response(answer(1, plain(":status", "503")));
        f.response([message(3), data(3, END_STREAM, "")].concat());
        f.response([message(5), answer(5, plain("x", "grpc-status"))].concat());
        let answers = [((200, derived(2)), 2), ((503, derived(14)), 1)];
        assert_l7(f, L7::grpc(3, &answers));
    });
}

#[test]
fn statuses_that_clients_derive() {
    for (http, grpc) in [
        (200, 2),
        (204, 2),
        (302, 2),
        (399, 2),
        (400, 13),
        (401, 16),
        (402, 2),
        (403, 7),
        (404, 12),
        (405, 2),
        (428, 2),
        (429, 14),
        (430, 2),
        (500, 2),
        (501, 2),
        (502, 14),
        (503, 14),
        (504, 14),
        (505, 2),
    ] {
        with(|f| {
            f.request([call(1), call(3), call(5), super::get(7)].concat());
            let head = plain(":status", &http.to_string());
            // By END_STREAM, by DATA, by trailers that say nothing; and with a status after all.
            f.response(answer(1, &head));
            f.response([headers(3, 0, &head), data(3, END_STREAM, "x")].concat());
            let trailers = answer(5, plain("x", "y"));
            f.response([headers(5, 0, &head), trailers].concat());
            // One that is not gRPC's has none.
            f.response(answer(7, &head));
            let answers = [((http, derived(grpc)), 3)];
            assert_l7(f, L7::grpc(3, &answers).and(L7::http2(1, &[(http, 1)])));
            f.request(call(9));
            f.response([headers(9, 0, &head), answer(9, plain("grpc-status", "5"))].concat());
            let answers = [((http, derived(grpc)), 3), ((http, 5), 1)];
            assert_l7(f, L7::grpc(4, &answers).and(L7::http2(1, &[(http, 1)])));
        });
    }
}

#[test]
fn names_that_are_almost_it() {
    let names = [
        "grpc-statu",
        "grpc-status-details-bin",
        "grpc-message",
        "grpc-statuS",
        "rpc-status",
    ];
    for name in names {
        for name in Text::each(name) {
            with(|f| {
                let field = literal(Form::Indexed, name, Text::plain("13"));
                let status = plain("grpc-status", "3");
                f.request([call(1), call(3)].concat());
                f.response(
                    [
                        message(1),
                        answer(1, [&field[..], &status, &field].concat()),
                    ]
                    .concat(),
                );
                f.response([message(3), answer(3, indexed(NEWEST))].concat());
                assert_l7(f, L7::grpc(2, &[((200, 3), 1), ((200, derived(2)), 1)]));
            });
        }
    }
}

#[test]
fn statuses_that_are_none() {
    for status in [
        "", "17", "99", "255", "256", "-1", "1x", "x", "16e", "10a", "100000",
    ] {
        for value in Text::each(status) {
            with(|f| {
                let field = literal(Form::Plain, Text::plain("grpc-status"), value);
                f.request(call(1));
                f.response([message(1), answer(1, field)].concat());
                let answers: Vec<_> = f.seen().answers.into_iter().collect();
                let [(answer, 1)] = answers[..] else {
                    panic!("{status}: {answers:?}");
                };
                assert_eq!(answer.status, 200);
                let kept = answer.grpc_status;
                assert!(
                    kept == derived(2) || kept.to_string() == status,
                    "{status}: {answer:?}"
                );
            });
        }
    }
}

#[test]
fn streams_both_ways() {
    with(|f| {
        f.request(headers(1, 0, post(Text::plain("application/grpc"))));
        f.response(headers(1, 0, OK));
        for i in 0..50 {
            f.request(data(1, PADDED, padded(i, "\0\0\0\0\x02hi")));
            f.response(data(1, 0, "\0\0\0\0\x02ho"));
        }
        assert_l7(f, L7::grpc(1, &[]));
        f.response(answer(1, plain("grpc-status", "4")));
        f.request(data(1, END_STREAM, ""));
        assert_l7(f, L7::grpc(1, &[((200, 4), 1)]));
    });
}

#[test]
fn beside_http() {
    with(|f| {
        f.request([call(1), super::get(3), call(5), super::get(7)].concat());
        f.response([message(5), message(1), answer(7, OK)].concat());
        f.response([answer(1, plain("grpc-status", "1")), answer(3, NO_CONTENT)].concat());
        f.response(answer(5, plain("grpc-status", "5")));
        exchange(f, 9);
        let grpc = L7::grpc(2, &[((200, 1), 1), ((200, 5), 1)]);
        assert_l7(f, grpc.and(L7::http2(3, &[(200, 1), (204, 2)])));
    });
}
