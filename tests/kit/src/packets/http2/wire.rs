//! Frames as bytes: RFC 9113 sections 3.4, 4.1 and 6.

pub const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 0x01;
pub const END_STREAM: u8 = 0x01;
pub const END_HEADERS: u8 = 0x04;
pub const PADDED: u8 = 0x08;
/// The flag of HEADERS, not the frame.
pub const WITH_PRIORITY: u8 = 0x20;

pub const NO_ERROR: u32 = 0;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

pub fn data(stream: u32, flags: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    frame(DATA, flags, stream, body)
}

/// A header block in one frame.
pub fn headers(stream: u32, flags: u8, block: impl AsRef<[u8]>) -> Vec<u8> {
    frame(HEADERS, flags | END_HEADERS, stream, block)
}

/// A header block in as many frames as there are parts.
pub fn headers_in(stream: u32, flags: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        let kind = if i == 0 { HEADERS } else { CONTINUATION };
        let first = if i == 0 { flags } else { 0 };
        let last = if i + 1 == parts.len() { END_HEADERS } else { 0 };
        out.extend(frame(kind, first | last, stream, part));
    }
    out
}

/// What a padded frame has for a payload; its flag is the caller's.
pub fn padded(pad: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let mut out = vec![pad];
    out.extend(payload.as_ref());
    // Anything but zeros: it is not to be read.
    out.extend(vec![0x88; pad as usize]);
    out
}

/// A stream dependency and a weight.
pub const DEPENDENCY: [u8; 5] = [0x80, 0, 0, 1, 0x88];

pub fn settings(parameters: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in parameters {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, payload)
}

pub fn settings_ack() -> Vec<u8> {
    frame(SETTINGS, ACK, 0, [])
}

pub fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, code.to_be_bytes())
}

pub fn goaway(last: u32, code: u32) -> Vec<u8> {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend(code.to_be_bytes());
    payload.extend(b"debug data");
    frame(GOAWAY, 0, 0, payload)
}

pub fn push_promise(stream: u32, promised: u32, block: &[u8]) -> Vec<u8> {
    let payload = [&promised.to_be_bytes(), block].concat();
    frame(PUSH_PROMISE, END_HEADERS, stream, payload)
}
