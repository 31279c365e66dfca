//! `GET /metrics`, and the whole of what is answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::machine::process::PATIENCE;

pub fn get(at: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Ok(whole(head, body))
}

/// The body without its framing; it must be all there.
fn whole(head: &str, body: &str) -> String {
    let head = head.to_ascii_lowercase();
    let header = |name| head.lines().find_map(|line| line.strip_prefix(name));
    if let Some(length) = header("content-length: ") {
        assert_eq!(length.parse(), Ok(body.len()), "{head}");
        return body.to_owned();
    }
    assert_eq!(header("transfer-encoding: "), Some("chunked"), "{head}");
    let (mut rest, mut whole) = (body, String::new());
    loop {
        let (size, after) = rest.split_once("\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        whole += &after[..size];
        rest = after[size..].strip_prefix("\r\n").expect("a chunk's end");
        if size == 0 {
            return whole;
        }
    }
}
