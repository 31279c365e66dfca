//! HTTP/1.1 messages of every shape: the test plays both ends, so it knows what was said, and what
//! had been said when.

use std::net::Shutdown;

use crate::client::{Pair, drain, reset};
use crate::fixture::{Family, Pod, Shape};
use crate::observed::{Connections, Http};

/// Not a well-known port: what is HTTP is found by what is said.
const PORT: u16 = 9000;

const GET: &str = "GET /a HTTP/1.1\r\nHost: pod\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NOT_FOUND: &str = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
/// A body that tries to be mistaken for something else.
const DECOY: &str = "\r\n\r\nGET /no HTTP/1.1\r\nHost: no\r\n\r\nHTTP/1.1 500 No\r\n\r\n0\r\n\r\n";

struct Exchange {
    pod: Pod,
    pair: Pair,
}

impl Exchange {
    fn begin() -> Self {
        let pod = Pod::measured(Shape::Plain, &[]);
        let pair = pod.pair(PORT);
        Self { pod, pair }
    }

    fn says(&mut self, request: impl AsRef<[u8]>, response: impl AsRef<[u8]>) {
        self.pair.client_says(request);
        self.pair.server_says(response);
    }

    /// An ordinary exchange, to show that the ones before have been understood to their end.
    fn and_goes_on(&mut self) {
        self.says(GET, NOT_FOUND);
    }

    #[track_caller]
    fn shows(&self, expected: Http) {
        expected.assert_in(&self.pod.settled(|_| true), PORT);
    }

    /// Closes it, and compares.
    #[track_caller]
    fn ends_with(self, expected: Http) {
        let one_byte = self.pair.said_one_byte;
        self.pair.close();
        let scrape = self.pod.ended();
        expected.assert_in(&scrape, PORT);
        Connections::closed("fin", 1)
            .sent_again_in(&self.pod, &scrape, PORT, one_byte)
            .assert_in(&scrape, PORT);
    }

    /// Has the server close it, and compares.
    #[track_caller]
    fn server_ends_with(self, expected: Http) {
        self.pair.close_server_first();
        let scrape = self.pod.ended();
        expected.assert_in(&scrape, PORT);
        Connections::closed("fin", 1).assert_in(&scrape, PORT);
    }
}

fn chunked(chunks: &[&str]) -> String {
    let mut body = String::new();
    for chunk in chunks {
        body += &format!("{:x};name=\"value\"\r\n{chunk}\r\n", chunk.len());
    }
    body + "0\r\nTrailer: GET / HTTP/1.1\r\n\r\n"
}

#[test]
fn in_flight_between_request_and_response() {
    let mut e = Exchange::begin();
    e.shows(Http::default());
    e.pair.client_says(GET);
    e.shows(Http::requests(1).in_flight(1));
    e.pair.server_says(&OK[..20]);
    e.shows(Http::requests(1).in_flight(1));
    e.pair.server_says(&OK[20..]);
    e.shows(Http::requests(1).response("200", 1));
    e.ends_with(Http::requests(1).response("200", 1));
}

#[test]
fn one_byte_per_segment() {
    for family in [Family::V4, Family::V6] {
        let pod = Pod::measured(Shape::Frames, &[]);
        let pair = pod.pair_over(family, PORT);
        let mut e = Exchange { pod, pair };
        let post = format!(
            "POST /b HTTP/1.1\r\nHost: pod\r\nContent-Length: {}\r\n\r\n{DECOY}",
            DECOY.len()
        );
        let chunks = format!(
            "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            chunked(&["a", DECOY])
        );
        let said = [GET, OK, &post, &chunks, GET, NOT_FOUND].map(str::len);
        e.pair.client_spells(GET);
        e.pair.server_spells(OK);
        e.pair.client_spells(&post);
        e.pair.server_spells(&chunks);
        e.pair.client_spells(GET);
        e.pair.server_spells(NOT_FOUND);
        let frames = e.pod.hook.interface("eth0").recv_packets;
        let bytes = (said[0] + said[2] + said[4]) as u64;
        assert!(frames > bytes, "{bytes} bytes in {frames} frames");
        e.ends_with(
            Http::requests(3)
                .response("200", 1)
                .response("503", 1)
                .response("404", 1),
        );
    }
}

#[test]
fn heads_cut_anywhere() {
    let mut e = Exchange::begin();
    for cut in 1..GET.len() {
        e.pair.client_says(&GET[..cut]);
        e.pair.client_says(&GET[cut..]);
        e.pair.server_says(OK);
    }
    for cut in 1..OK.len() {
        e.pair.client_says(GET);
        e.pair.server_says(&OK[..cut]);
        e.pair.server_says(&OK[cut..]);
    }
    let n = (GET.len() + OK.len() - 2) as u64;
    e.ends_with(Http::requests(n).response("200", n));
}

#[test]
fn long_heads() {
    let mut e = Exchange::begin();
    let mut padding = String::new();
    for i in 0..200 {
        padding += &format!("X-Padding-{i}: {}\r\n", "x".repeat(i));
    }
    let target = "/".repeat(4000);
    let request = format!("PUT {target} HTTP/1.1\r\n{padding}Content-Length: 2\r\n\r\nab");
    let response = format!("HTTP/1.1 200 OK\r\n{padding}Content-Length: 2\r\n{padding}\r\nab");
    for _ in 0..5 {
        e.says(&request, &response);
    }
    e.and_goes_on();
    e.ends_with(Http::requests(6).response("200", 5).response("404", 1));
}

#[test]
fn head_has_no_body_in_its_answer() {
    let mut e = Exchange::begin();
    e.says(
        "HEAD /a HTTP/1.1\r\nHost: pod\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
    );
    e.and_goes_on();
    e.says(
        "HEAD /a HTTP/1.1\r\nHost: pod\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    e.and_goes_on();
    e.ends_with(Http::requests(4).response("200", 2).response("404", 2));
}

#[test]
fn no_content_and_not_modified_have_no_body() {
    let mut e = Exchange::begin();
    e.says(GET, "HTTP/1.1 204 No Content\r\n\r\n");
    e.and_goes_on();
    e.says(
        GET,
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n",
    );
    e.and_goes_on();
    e.ends_with(
        Http::requests(4)
            .response("204", 1)
            .response("304", 1)
            .response("404", 2),
    );
}

#[test]
fn header_names_in_any_case_and_spacing() {
    let mut e = Exchange::begin();
    e.says(
        "POST / HTTP/1.1\r\nhOST: pod\r\nCONTENT-LENGTH:2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\ncontent-length: \t 2 \t\r\n\r\nab",
    );
    e.says(
        "POST / HTTP/1.1\r\nX-Content-Length: 50\r\nContent-Lengths: 50\r\ntransfer-ENCODING:  Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        "HTTP/1.1 201 Created\r\nTRANSFER-encoding:chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    );
    // A reason phrase may be empty.
    e.says(GET, "HTTP/1.1 299 \r\nContent-Length: 0\r\n\r\n");
    e.and_goes_on();
    e.ends_with(
        Http::requests(4)
            .response("200", 1)
            .response("201", 1)
            .response("299", 1)
            .response("404", 1),
    );
}

#[test]
fn bodies_that_look_like_messages() {
    let mut e = Exchange::begin();
    let head = format!("Content-Length: {}\r\n\r\n", DECOY.len());
    let request = format!("POST / HTTP/1.1\r\nHost: pod\r\n{head}");
    let response = format!("HTTP/1.1 200 OK\r\n{head}");
    // In the head's packet, in one of its own, and split.
    e.says(request.clone() + DECOY, response.clone() + DECOY);
    e.pair.client_says(&request);
    e.pair.client_says(DECOY);
    e.pair.server_says(&response);
    e.pair.server_says(DECOY);
    e.pair.client_says(&request);
    e.pair.client_says(&DECOY[..4]);
    e.pair.client_says(&DECOY[4..]);
    e.pair.server_says(&response);
    e.pair.server_says(&DECOY[..4]);
    e.pair.server_says(&DECOY[4..]);
    e.and_goes_on();
    e.ends_with(Http::requests(4).response("200", 3).response("404", 1));
}

#[test]
fn large_bodies_both_ways() {
    let mut e = Exchange::begin();
    let body = DECOY.repeat((3 << 20) / DECOY.len());
    let head = format!("Content-Length: {}\r\n\r\n", body.len());
    for _ in 0..3 {
        e.says(
            format!("PUT / HTTP/1.1\r\nHost: pod\r\n{head}{body}"),
            format!("HTTP/1.1 200 OK\r\n{head}{body}"),
        );
    }
    e.and_goes_on();
    e.ends_with(Http::requests(4).response("200", 3).response("404", 1));
}

#[test]
fn chunks_both_ways() {
    let mut e = Exchange::begin();
    let large = DECOY.repeat(1000);
    let body = chunked(&["a", DECOY, &large, "bc"]);
    let request = format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    let response = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
    e.says(&request, &response);
    e.and_goes_on();
    // Every packet ends somewhere else in a chunk, a size or a trailer.
    for piece in request.as_bytes()[..300].chunks(7) {
        e.pair.client_says(piece);
    }
    e.pair.client_says(&request[300..]);
    for piece in response.as_bytes()[..300].chunks(3) {
        e.pair.server_says(piece);
    }
    e.pair.server_says(&response[300..]);
    e.and_goes_on();
    e.ends_with(Http::requests(4).response("200", 2).response("404", 2));
}

#[test]
fn chunked_bodies_cut_anywhere() {
    let mut e = Exchange::begin();
    let body = chunked(&["a", "bc"]);
    let head = "Transfer-Encoding: chunked\r\n\r\n";
    for cut in 1..body.len() {
        e.pair.client_says(format!("PUT / HTTP/1.1\r\n{head}"));
        e.pair.client_says(&body[..cut]);
        e.pair.client_says(&body[cut..]);
        e.pair.server_says(format!("HTTP/1.1 200 OK\r\n{head}"));
        e.pair.server_says(&body[..cut]);
        e.pair.server_says(&body[cut..]);
    }
    let n = body.len() as u64 - 1;
    e.ends_with(Http::requests(n).response("200", n));
}

#[test]
fn a_body_that_ends_with_the_connection() {
    for version in ["1.0", "1.1"] {
        let mut e = Exchange::begin();
        e.says(GET, format!("HTTP/{version} 200 OK\r\n\r\n{DECOY}"));
        e.shows(Http::requests(1).in_flight(1));
        e.pair.server_says(DECOY);
        e.pair.close_server_first();
        Http::requests(1)
            .response("200", 1)
            .assert_in(&e.pod.ended(), PORT);
    }
}

#[test]
fn http_1_0_kept_alive() {
    let mut e = Exchange::begin();
    for _ in 0..3 {
        e.says(
            "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        );
    }
    e.ends_with(Http::requests(3).response("200", 3));
}

#[test]
fn interim_responses_before_the_final_one() {
    let mut e = Exchange::begin();
    e.pair
        .client_says("POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    e.pair.server_says("HTTP/1.1 100 Continue\r\n\r\n");
    e.shows(Http::requests(1).in_flight(1));
    e.pair.client_says("hello");
    e.pair.server_says(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n",
    );
    e.shows(Http::requests(1).in_flight(1));
    e.pair.server_says(OK);
    e.and_goes_on();
    // All in one packet.
    e.says(
        GET,
        format!("HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n{OK}"),
    );
    e.and_goes_on();
    e.ends_with(Http::requests(4).response("200", 2).response("404", 2));
}

/// The client asks whether it may send its body, and is told no: no body comes.
#[test]
fn expectation_failed() {
    let mut e = Exchange::begin();
    e.says(
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    e.ends_with(Http::requests(1).response("417", 1));
}

/// The same, and the connection goes on.
#[test]
fn expectation_failed_and_the_connection_kept() {
    let mut e = Exchange::begin();
    e.says(
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n",
        "HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n",
    );
    e.and_goes_on();
    e.says(GET.replace("GET", "patch"), OK);
    e.and_goes_on();
    e.ends_with(
        Http::requests(4)
            .response("200", 1)
            .response("404", 2)
            .response("413", 1),
    );
}

/// The server gives up on an idle connection, and says so.
#[test]
fn a_timeout_of_an_idle_connection() {
    let mut e = Exchange::begin();
    e.says(GET, OK);
    e.pair
        .server_says("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n");
    e.server_ends_with(Http::requests(1).response("200", 1));
}

/// A load balancer says who the client is, in haproxy's two forms.
#[test]
fn behind_the_proxy_protocol() {
    let text = &b"PROXY TCP4 198.51.100.7 203.0.113.1 56324 9000\r\n"[..];
    let binary =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc6\x33\x64\x07\xcb\0\x71\x01\xdc\x04\x23\x28";
    for header in [text, binary] {
        let mut e = Exchange::begin();
        e.pair.client_spells(header);
        e.says(GET, OK);
        e.and_goes_on();
        e.ends_with(Http::requests(2).response("200", 1).response("404", 1));
    }
}

#[test]
fn an_answer_before_the_request_has_ended() {
    let mut e = Exchange::begin();
    e.pair
        .client_says("POST / HTTP/1.1\r\nContent-Length: 1000\r\n\r\nhello");
    e.pair
        .server_says("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
    e.shows(Http::requests(1).response("413", 1));
    e.pair.client_says(format!("{:995}", DECOY));
    e.and_goes_on();
    e.ends_with(Http::requests(2).response("413", 1).response("404", 1));
}

#[test]
fn an_upgraded_connection_is_no_longer_http() {
    let mut e = Exchange::begin();
    e.and_goes_on();
    e.says(
        "GET /ws HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    for _ in 0..3 {
        e.says(GET, OK);
        e.pair.server_says(DECOY);
    }
    e.ends_with(Http::requests(2).response("101", 1).response("404", 1));
}

#[test]
fn an_upgrade_that_is_declined() {
    let mut e = Exchange::begin();
    e.says(
        "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        OK,
    );
    e.and_goes_on();
    e.ends_with(Http::requests(2).response("200", 1).response("404", 1));
}

#[test]
fn a_tunnel_is_no_longer_http() {
    let mut e = Exchange::begin();
    let connect = "CONNECT pod:443 HTTP/1.1\r\nHost: pod:443\r\n\r\n";
    e.says(connect, "HTTP/1.1 407 Who?\r\nContent-Length: 2\r\n\r\nno");
    e.says(connect, "HTTP/1.1 200 Connection Established\r\n\r\n");
    for _ in 0..3 {
        e.says(GET, OK);
    }
    e.ends_with(Http::requests(2).response("407", 1).response("200", 1));
}

#[test]
fn pipelined_and_answered_one_by_one() {
    let mut e = Exchange::begin();
    e.pair.client_says(GET.repeat(3));
    e.shows(Http::requests(3).in_flight(3));
    e.pair.server_says(OK);
    e.shows(Http::requests(3).response("200", 1).in_flight(2));
    e.pair.client_says(GET);
    e.pair.server_says(format!("{NOT_FOUND}{OK}"));
    e.shows(
        Http::requests(4)
            .response("200", 2)
            .response("404", 1)
            .in_flight(1),
    );
    e.pair.server_says(OK);
    e.ends_with(Http::requests(4).response("200", 3).response("404", 1));
}

/// Within the published bound of eight changes of method, HEAD and GET may be mixed.
#[test]
fn pipelined_with_different_methods() {
    let mut e = Exchange::begin();
    let head = "HEAD / HTTP/1.1\r\nHost: pod\r\n\r\n";
    let post = "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    let headless = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    for _ in 0..10 {
        e.pair
            .client_says([head, GET, post, head, head, GET].concat());
        e.pair
            .server_says([headless, NOT_FOUND, OK, headless, headless, NOT_FOUND].concat());
    }
    e.ends_with(Http::requests(60).response("200", 40).response("404", 20));
}

#[test]
fn a_request_that_is_reset() {
    let mut e = Exchange::begin();
    e.and_goes_on();
    e.pair.client_says(GET.repeat(3));
    e.pair.server_says(OK);
    reset(e.pair.server);
    let scrape = e.pod.ended();
    Http::requests(4)
        .response("200", 1)
        .response("404", 1)
        .aborted("rst", 2)
        .assert_in(&scrape, PORT);
    Connections::closed("rst", 1).assert_in(&scrape, PORT);
}

#[test]
fn a_request_whose_client_resets() {
    let mut e = Exchange::begin();
    e.pair.client_says(GET);
    e.pair.server_says(&OK[..30]);
    reset(e.pair.client);
    let scrape = e.pod.ended();
    Http::requests(1).aborted("rst", 1).assert_in(&scrape, PORT);
    Connections::closed("rst", 1).assert_in(&scrape, PORT);
}

#[test]
fn a_request_that_is_never_answered() {
    let mut e = Exchange::begin();
    e.pair.client_says(GET);
    e.server_ends_with(Http::requests(1).aborted("fin", 1));
}

#[test]
fn a_response_that_is_cut_short() {
    let mut e = Exchange::begin();
    e.says(GET, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    e.pair.close_server_first();
    Http::requests(1)
        .aborted("fin", 1)
        .assert_in(&e.pod.ended(), PORT);
}

/// The client has said all it will; the answer still comes.
#[test]
fn a_client_that_closes_its_half_first() {
    let mut e = Exchange::begin();
    e.pair.client_says(GET);
    e.pair.client.shutdown(Shutdown::Write).expect("shutdown");
    assert!(drain(&mut e.pair.server).is_empty());
    e.shows(Http::requests(1).in_flight(1));
    e.pair.server_says(OK);
    e.server_ends_with(Http::requests(1).response("200", 1));
}

#[test]
fn empty_lines_before_a_request() {
    let mut e = Exchange::begin();
    e.and_goes_on();
    e.says(format!("\r\n\r\n{GET}"), OK);
    e.pair.client_spells("\r\n");
    e.says(GET, OK);
    e.ends_with(Http::requests(3).response("200", 2).response("404", 1));
}

/// Whatever looks a little like HTTP but is not: no request, no guess.
#[test]
fn other_protocols() {
    let pod = Pod::measured(Shape::Plain, &[]);
    let talks: [&[(&str, &str)]; 7] = [
        // Redis, inline and framed
        &[
            ("GET key\r\n", "$5\r\nvalue\r\n"),
            ("SET key 1\r\n", "+OK\r\n"),
        ],
        &[("*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n", "$5\r\nvalue\r\n")],
        // memcached
        &[("get key\r\n", "END\r\n")],
        // SMTP: the server speaks first
        &[("", "220 pod ESMTP\r\n"), ("HELO me\r\n", "250 pod\r\n")],
        // RTSP and SIP have HTTP's form and another name
        &[(
            "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
            "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n",
        )],
        &[("INVITE sip:a@b SIP/2.0\r\n\r\n", "SIP/2.0 200 OK\r\n\r\n")],
        // Binary
        &[(
            "\0\0\0\x14ftyp\u{1}\u{2}",
            "\u{1}\u{2}HTTP/1.1 200 OK\r\n\r\n",
        )],
    ];
    for (port, talk) in (PORT..).zip(talks) {
        let mut pair = pod.pair(port);
        for (question, answer) in talk {
            pair.client_says(question);
            pair.server_says(answer);
        }
        pair.close();
    }
    let scrape = pod.ended();
    for (port, talk) in (PORT..).zip(talks) {
        let served = Http {
            lost: Default::default(),
            ..Http::of(&scrape, port)
        };
        assert_eq!(served, Http::default(), "{talk:?}");
        Connections::closed("fin", 1).assert_in(&scrape, port);
    }
}

/// A server that breaks the protocol: no status is invented, and the loss is shown.
#[test]
fn an_answer_that_is_not_http() {
    let mut e = Exchange::begin();
    e.and_goes_on();
    e.says(GET, "what?\r\n\r\n");
    e.pair.close();
    let observed = Http::of(&e.pod.ended(), PORT);
    assert_eq!(observed.requests, 2);
    assert_eq!(observed.responses.get("404"), Some(&1));
    let labelled = observed
        .responses
        .keys()
        .all(|s| s == "404" || s == "unknown");
    assert!(labelled, "{observed:?}");
    assert_eq!(observed.lost.values().sum::<u64>(), 1, "{observed:?}");
}

/// The programs come when the connection is there already: nothing is guessed, and it is said.
#[test]
fn a_connection_older_than_the_programs() {
    let mut pod = Pod::new(Shape::Plain);
    let mut pair = pod.pair(PORT);
    pair.client_says(GET);
    pod.attach(&[]);
    pod.start();
    pair.server_says(OK);
    pair.client_says(GET);
    pair.server_says(OK);
    pair.close();
    let mut pair = pod.pair(PORT);
    pair.client_says(GET);
    pair.server_says(NOT_FOUND);
    pair.close();
    let scrape = pod.ended();
    let observed = Http::of(&scrape, PORT);
    assert_eq!(observed.responses.get("404"), Some(&1));
    assert_eq!(observed.responses.get("200"), None, "{observed:?}");
    assert_eq!(observed.lost.get("midstream"), Some(&1), "{observed:?}");
}
