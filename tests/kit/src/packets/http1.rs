//! Random requests and responses.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A request, or a final response with those before it.
type Bytes = Vec<u8>;

fn chunked(sizes: &[usize]) -> Bytes {
    let mut body = Vec::new();
    for (i, size) in sizes.iter().enumerate() {
        let extension = if i % 2 == 1 { ";a=b" } else { "" };
        body.extend(format!("{size:x}{extension}\r\n").bytes());
        body.extend(b"GET / HTTP/1.1\r\n".iter().cycle().take(*size));
        body.extend(b"\r\n");
    }
    body.extend(b"0\r\n");
    if sizes.len() == 1 {
        body.extend(b"Trailer: 1\r\nContent-Length: 7\r\n");
    }
    body.extend(b"\r\n");
    body
}

#[derive(Clone, Debug)]
enum Framing {
    None,
    Length(usize),
    Chunked(Vec<usize>),
}

impl Framing {
    /// The rest of a message from its fields on.
    fn write(&self, out: &mut Bytes, body: bool) {
        let bytes = match self {
            Framing::None => {
                out.extend(b"\r\n");
                Vec::new()
            }
            Framing::Length(n) => {
                out.extend(format!("Content-Length: {n}\r\n\r\n").bytes());
                b"HTTP/1.1 200 OK\r\n\r\n"
                    .iter()
                    .copied()
                    .cycle()
                    .take(*n)
                    .collect()
            }
            Framing::Chunked(sizes) => {
                out.extend(b"transfer-encoding: chunked\r\n\r\n");
                chunked(sizes)
            }
        };
        if body {
            out.extend(bytes);
        }
    }
}

fn framing() -> impl Strategy<Value = Framing> {
    prop_oneof![
        Just(Framing::None),
        (0usize..700).prop_map(Framing::Length),
        vec(1usize..200, 0..4).prop_map(Framing::Chunked),
    ]
}

#[derive(Clone, Debug)]
pub struct Exchange {
    method: &'static str,
    asked: Framing,
    request_pad: usize,
    interim: usize,
    status: u16,
    answered: Framing,
    response_pad: usize,
}

impl Exchange {
    pub fn request(&self) -> Bytes {
        let mut out = format!("{} /path HTTP/1.1\r\n", self.method).into_bytes();
        pad(&mut out, self.request_pad);
        self.asked.write(&mut out, true);
        out
    }

    pub fn response(&self, last: bool) -> Bytes {
        let mut out =
            b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".repeat(self.interim);
        out.extend(format!("HTTP/1.1 {} Reason\r\n", self.status).bytes());
        pad(&mut out, self.response_pad);
        let bodiless = self.method == "HEAD" || matches!(self.status, 204 | 304);
        match &self.answered {
            Framing::None if last && !bodiless => {
                out.extend(b"\r\nuntil it closes HTTP/1.1 404 Not Found\r\n\r\n");
            }
            Framing::None => Framing::Length(0).write(&mut out, !bodiless),
            framing => framing.write(&mut out, !bodiless),
        }
        out
    }
}

/// A header line that does not matter.
fn pad(out: &mut Bytes, len: usize) {
    if len > 0 {
        out.extend(b"X-Pad: ");
        out.extend(vec![b'v'; len]);
        out.extend(b"\r\n");
    }
}

pub fn exchange() -> impl Strategy<Value = Exchange> {
    (
        select(vec!["GET", "HEAD", "POST", "PUT", "OPTIONS"]),
        framing(),
        prop_oneof![Just(0usize), 0usize..40, 0usize..1500],
        0usize..3,
        select(vec![200u16, 204, 304, 404, 500, 503]),
        framing(),
        prop_oneof![Just(0usize), 0usize..40, 0usize..1500],
    )
        .prop_map(
            |(method, asked, request_pad, interim, status, answered, response_pad)| Exchange {
                method,
                asked,
                request_pad,
                interim,
                status,
                answered,
                response_pad,
            },
        )
}
