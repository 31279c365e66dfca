//! Every form in which a field can come: RFC 7541 sections 5 and 6.

use super::block::{
    CONTENT_TYPE, FORMS, Form, NEWEST, STATUS, Text, indexed, literal, named, plain,
};
use super::wire::{END_STREAM, headers};
use super::{GET, OK, answer, assert_l7, exchange, get, with};
use crate::flow::{Flow, Server};
use crate::kernel::{Answer, Kernel};
use crate::model::L7;

/// Answers requests on streams of their own, each block with the status given.
fn statuses(f: &Flow, blocks: &[(Vec<u8>, u16)]) {
    let mut expected = L7::default();
    for (i, (block, status)) in blocks.iter().enumerate() {
        let stream = 2 * i as u32 + 1;
        f.request(get(stream));
        f.response(answer(stream, block));
        expected.requests.http2 += 1;
        *expected
            .responses
            .entry(Answer::http2(*status))
            .or_default() += 1;
        assert_eq!(L7::of(f), expected, "{status}: {block:x?}");
    }
}

#[test]
fn static_statuses() {
    let all = [200, 204, 206, 304, 400, 404, 500];
    let blocks: Vec<_> = (0..).map(|i| indexed(STATUS + i)).zip(all).collect();
    with(|f| statuses(f, &blocks));
}

/// Like `with`, where there is room for many statuses.
fn with_many(test: impl FnOnce(&Flow)) {
    let kernel = Kernel::load(&["--connections", "4", "--map-size", "1024"]);
    let flow = Flow::open(&kernel, 40000);
    super::start(&flow);
    test(&flow);
}

#[test]
fn names_of_other_statuses() {
    for form in FORMS {
        for huffman in [false, true] {
            with_many(|f| {
                let block = |status: u16| {
                    let text = status.to_string();
                    let value = Text(text.as_bytes(), huffman);
                    (named(form, STATUS + usize::from(status) % 7, value), status)
                };
                statuses(f, &(200..600).step_by(7).map(block).collect::<Vec<_>>());
            });
        }
    }
}

#[test]
fn each_status() {
    with_many(|f| {
        let block = |status: u16| {
            let text = status.to_string();
            (
                named(Form::Plain, 8, Text(text.as_bytes(), status < 400)),
                status,
            )
        };
        statuses(f, &(200..600).map(block).collect::<Vec<_>>());
    });
}

#[test]
fn literal_names() {
    for form in FORMS {
        for name in Text::each(":status") {
            let mut blocks = Vec::new();
            for status in [200, 299, 301, 404, 451, 503, 599] {
                for value in Text::each(&status.to_string()) {
                    blocks.push((literal(form, name, value), status));
                    if form == Form::Indexed {
                        blocks.push((indexed(NEWEST), status));
                    }
                }
            }
            with(|f| statuses(f, &blocks));
        }
    }
}

#[test]
fn names_by_dynamic_index() {
    let mut blocks = vec![(
        literal(Form::Indexed, Text::plain(":status"), Text::plain("200")),
        200,
    )];
    for form in FORMS {
        for (i, value) in Text::each("429").into_iter().enumerate() {
            blocks.push((named(form, NEWEST + i, value), 429));
        }
    }
    with(|f| statuses(f, &blocks));
}

#[test]
fn among_other_fields() {
    let names = [
        "a",
        "status",
        ":statu",
        ":statusx",
        "x-status",
        "Status",
        "grpc-statu",
        "date",
    ];
    let mut blocks = Vec::new();
    for form in FORMS {
        for name in names {
            for text in [Text::plain(name), Text::huffman(name)] {
                let other = literal(form, text, Text::plain("404"));
                blocks.push(([&other[..], &OK, &other].concat(), 200));
            }
        }
    }
    with(|f| statuses(f, &blocks));
}

#[test]
fn lengths_of_names_and_values() {
    // One byte of length, two and three.
    for len in [
        0, 1, 5, 30, 31, 32, 33, 63, 126, 127, 128, 254, 255, 256, 2000, 20000,
    ] {
        for huffman in [false, true] {
            let long = vec![b'w'; len];
            let long = Text(&long, huffman);
            let fields = [
                literal(Form::Plain, Text::plain("a"), long),
                literal(Form::Indexed, long, Text::huffman("200")),
                plain(":status", "418"),
                named(Form::Never, 33, long),
            ]
            .concat();
            for size in [1, 100, 3000] {
                if size == 1 && len > 300 {
                    continue;
                }
                with(|f| {
                    f.request(get(1));
                    f.send_in(Server, size, answer(1, &fields));
                    exchange(f, 3);
                    let expected = L7::http2(2, &[(204, 1), (418, 1)]);
                    assert_eq!(L7::of(f), expected, "{len} {huffman} by {size}");
                });
            }
        }
    }
}

#[test]
fn integers_longer_than_they_need_be() {
    // 127 and nothing, with as many bytes as decoders take.
    for zeros in 0..4 {
        with(|f| {
            f.request(get(1));
            let mut block = plain(":status", "418");
            block.extend([0, 1, b'a', 127]);
            block.extend(vec![0x80; zeros]);
            block.push(0);
            block.extend([b'v'; 127]);
            f.response(answer(1, block));
            exchange(f, 3);
            assert_eq!(L7::of(f), L7::http2(2, &[(204, 1), (418, 1)]), "{zeros}");
        });
    }
}

#[test]
fn statuses_that_are_none() {
    for status in [
        "", "2", "20", "2000", "abc", "2 0", "20x", "20a", "-20", "099", "600",
    ] {
        for value in Text::each(status) {
            with(|f| {
                f.request(get(1));
                f.response(answer(1, named(Form::Plain, STATUS, value)));
                exchange(f, 3);
                // Unknown, or as it stands there, but no other.
                let responses = f.seen().answers;
                let as_is = status.parse().unwrap_or(0);
                let found = [0, as_is].map(|s| responses.contains_key(&Answer::http2(s)));
                assert!(found.contains(&true), "{status}: {responses:?}");
                assert_eq!(responses[&Answer::http2(204)], 1);
            });
        }
    }
    with(|f| {
        f.request(get(1));
        f.response(answer(1, plain("server", "a")));
        assert_l7(f, L7::http2(1, &[(0, 1)]));
    });
}

#[test]
fn every_static_field_of_a_request() {
    // By index, by name and in each form: none is a response's.
    with(|f| {
        let mut block = GET.to_vec();
        for index in 1..=61 {
            block.extend(indexed(index));
            for form in FORMS {
                block.extend(named(form, index, Text::huffman("value")));
            }
        }
        for (i, part) in [&block[..], &GET].iter().enumerate() {
            f.request(headers(2 * i as u32 + 1, END_STREAM, part));
            f.response(answer(2 * i as u32 + 1, OK));
        }
        assert_l7(f, L7::http2(2, &[(200, 2)]));
    });
}

#[test]
fn content_type_of_the_static_table_is_not_grpc() {
    with(|f| {
        f.request(answer(1, [&GET[..], &indexed(CONTENT_TYPE)].concat()));
        f.response(answer(1, OK));
        assert_l7(f, L7::http2(1, &[(200, 1)]));
    });
}
