//! Routes: what is made of a path, by whatever way it comes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::flow::{Client, Flow};
use crate::http1_property::config;
use crate::http2::block::{NEWEST, Text, indexed, named};
use crate::http2::wire::{END_STREAM, headers};
use crate::http2::{answer, get, start};
use crate::kernel::{Kernel, Shared};

/// Of bpf/http/route.h and bpf/layout/abi.h: bytes of a path as it comes, and of what is made of it.
const RAW: usize = 256;
const TEXT: usize = 128;

/// A static index of a name.
const PATH: usize = 4;

fn is_id(segment: &str) -> bool {
    let count = |f: fn(&char) -> bool| segment.chars().filter(f).count();
    let (digits, dashes) = (count(char::is_ascii_digit), count(|c| *c == '-'));
    let letters = count(char::is_ascii_hexdigit) - digits;
    let only = digits + dashes + letters == segment.len();
    let number = letters == 0;
    let hex = letters > 0 && digits > 0 && segment.len() >= 8;
    let uuid = dashes == 4 && segment.len() == 36;
    !segment.is_empty() && only && ((dashes == 0 && (number || hex)) || uuid)
}

/// The route of a path, by other means than the kernel's; that of anything else is empty.
fn route(path: &str) -> String {
    if !path.starts_with('/') {
        return String::new();
    }
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut text = String::new();
    for (i, segment) in path.split('/').enumerate() {
        if i > 0 {
            text.push('/');
        }
        if text.len() + segment.len() > TEXT {
            return "other".into();
        }
        text.push_str(if is_id(segment) { "{id}" } else { segment });
    }
    text
}

fn load(routes: &str) -> Kernel {
    Kernel::load(&["--routes", routes, "--connections", "64"])
}

/// What both versions make of paths. The first goes by HTTP/1, the others by HTTP/2: plain,
/// Huffman-coded, and by reference to that.
fn play(kernel: &Kernel, paths: &[String]) -> [BTreeMap<String, u64>; 2] {
    let f = Flow::open(kernel, Shared::port());
    for path in paths {
        f.request(format!("GET {path} HTTP/1.1\r\n\r\n"));
        f.response("HTTP/1.1 204 No Content\r\n\r\n");
    }
    f.rst(Client);
    let f = Flow::open(kernel, Shared::port());
    start(&f);
    for (i, path) in paths.iter().enumerate() {
        let field = |text| named(crate::http2::block::Form::Indexed, PATH, text);
        let blocks = [
            field(Text::plain(path)),
            field(Text::huffman(path)),
            indexed(NEWEST),
        ];
        for (j, block) in blocks.iter().enumerate() {
            let stream = (6 * i + 2 * j + 1) as u32;
            f.request(headers(
                stream,
                END_STREAM,
                [&[0x82, 0x86][..], block].concat(),
            ));
            f.response(answer(stream, [0x88]));
        }
    }
    f.rst(Client);
    kernel.routes()
}

fn expected(paths: &[String]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for path in paths {
        *all.entry(route(path)).or_default() += 4;
    }
    all
}

#[test]
fn templates() {
    for (path, template) in [
        ("/", "/"),
        ("/users/7", "/users/{id}"),
        ("/users/7/", "/users/{id}/"),
        ("/users/7/orders/42?page=2", "/users/{id}/orders/{id}"),
        ("/users/007a", "/users/007a"),
        ("/o/0123456789abcdef", "/o/{id}"),
        ("/o/0123456789ABCDEF#f", "/o/{id}"),
        ("/o/deadbeef", "/o/deadbeef"),
        ("/o/1234abc", "/o/1234abc"),
        ("/o/550e8400-e29b-41d4-a716-446655440000", "/o/{id}"),
        ("/o/2024-01-02", "/o/2024-01-02"),
        ("/v1/things", "/v1/things"),
        (
            "/helloworld.Greeter/SayHello",
            "/helloworld.Greeter/SayHello",
        ),
        ("//1//2", "//{id}//{id}"),
        ("*", ""),
        ("?x=1", ""),
        ("example.org:443", ""),
    ] {
        assert_eq!(route(path), template);
        let kernel = load("4");
        let paths = [path.to_string()];
        let [asked, answered] = play(&kernel, &paths);
        assert_eq!(asked, expected(&paths), "{path}");
        assert_eq!(answered, asked, "{path}");
    }
}

/// The forms of a request target: RFC 9112 section 3.2.
#[test]
fn targets() {
    let long = format!("http://{}/a", "x".repeat(240));
    for (method, target, expected) in [
        ("GET", "http://example.org/users/7?x=/y", "/users/{id}"),
        ("GET", "HTTPS://user@[::1]:8443/users/7/", "/users/{id}/"),
        ("GET", "http://a/b://c/d", "/b://c/d"),
        ("GET", &long, "/a"),
        ("GET", "http://example.org", "/"),
        ("GET", "http://example.org?x=/y", "/"),
        ("GET", "https://example.org:80#/y", "/"),
        ("GET", "http:/users/7", ""),
        ("GET", "ftp://example.org/users/7", ""),
        ("OPTIONS", "*", ""),
        ("CONNECT", "example.org:443", ""),
    ] {
        let kernel = load("4");
        let f = Flow::open(&kernel, Shared::port());
        f.request(format!("{method} {target} HTTP/1.1\r\n\r\n"));
        f.response("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        f.rst(Client);
        let [asked, answered] = kernel.routes();
        assert_eq!(asked, [(expected.to_string(), 1)].into(), "{target}");
        assert_eq!(answered, asked, "{target}");
    }
}

#[test]
fn no_more_than_asked_for() {
    let kernel = load("3");
    let paths: Vec<String> = ["/a", "/b", "/c", "/d", "/e", "/a"]
        .map(String::from)
        .into();
    let [asked, answered] = play(&kernel, &paths);
    let counts = [("/a", 8), ("/b", 4), ("/c", 4), ("other", 8)];
    assert_eq!(asked, counts.map(|(r, n)| (r.to_string(), n)).into());
    assert_eq!(answered, asked);
}

#[test]
fn bounds() {
    for (len, text) in [(TEXT, true), (TEXT + 1, false)] {
        let kernel = load("4");
        let paths = [format!("/{}", "x".repeat(len - 1))];
        let [asked, _] = play(&kernel, &paths);
        let route = if text { paths[0].as_str() } else { "other" };
        assert_eq!(asked, [(route.to_string(), 4)].into());
    }
    // A query that goes on beyond what is read of a path, and a path that does.
    let kernel = load("4");
    let paths = [format!("/a?{}", "x".repeat(RAW)), "/1".repeat(RAW / 2 + 1)];
    let [asked, _] = play(&kernel, &paths);
    assert_eq!(
        asked,
        [("/a".to_string(), 4), ("other".to_string(), 4)].into()
    );
}

#[test]
fn path_that_is_cut() {
    let kernel = load("4");
    let f = Flow::open(&kernel, Shared::port());
    let path = "/a/path/that/is/longer/than/what/is/carried/over";
    f.send_in(Client, 40, format!("GET {path} HTTP/1.1\r\n\r\n"));
    f.response("HTTP/1.1 204 No Content\r\n\r\n");
    f.rst(Client);
    let [asked, answered] = kernel.routes();
    assert_eq!(asked, [("unknown".to_string(), 1)].into());
    assert_eq!(answered, asked);
}

#[test]
fn pipelined() {
    let kernel = load("9");
    let f = Flow::open(&kernel, Shared::port());
    let paths = ["/a", "/b", "/a", "/c"];
    let requests = paths.map(|p| format!("GET {p} HTTP/1.1\r\n\r\n"));
    f.request(requests.concat());
    f.response("HTTP/1.1 204 No Content\r\n\r\n".repeat(4));
    f.rst(Client);
    let [asked, answered] = kernel.routes();
    let counts = [("/a", 2), ("/b", 1), ("/c", 1)];
    assert_eq!(asked, counts.map(|(r, n)| (r.to_string(), n)).into());
    assert_eq!(answered, asked);
}

#[test]
fn off() {
    let kernel = load("0");
    let f = Flow::open(&kernel, Shared::port());
    start(&f);
    f.request(get(1));
    f.response(answer(1, [0x88]));
    f.rst(Client);
    assert!(
        crate::kernel::entries::<u64, u32>(&kernel.skel().maps.linkerd_route_index_map).is_empty()
    );
}

proptest! {
    #![proptest_config(config(8))]

    #[test]
    fn any_path(paths in prop::collection::vec("/(([0-9]{1,9}|[0-9a-f]{6,10}|[!-~&&[^/?# ]]{0,12})/){0,6}[!-~&&[^ ]]{0,20}", 1..40)) {
        let kernel = load("4000");
        let [asked, answered] = play(&kernel, &paths);
        prop_assert_eq!(&asked, &expected(&paths));
        prop_assert_eq!(answered, asked);
    }
}
