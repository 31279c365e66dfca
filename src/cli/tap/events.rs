//! From the events of the ring buffer to requests: heads and ends that belong together.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};

use super::hpack::{Field, Table};
use crate::abi::{Layout, TapEnd, TapHead, protocol, tap_kind};

/// Heads of a connection that wait for their ends.
const PENDING: usize = 4096;
/// Connections that something is remembered of.
const CONNECTIONS: usize = 16384;

/// RFC 9113 section 6.2.
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;

/// What is known of a request's head. `None` is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub method: Option<String>,
    pub authority: Option<String>,
    pub path: Option<String>,
    /// Only the path's beginning is known.
    pub is_cut: bool,
    is_grpc: bool,
}

/// A request that has ended.
#[derive(Clone, Debug)]
pub struct Request {
    /// Connections are numbered as they are first seen.
    pub connection: u64,
    /// The request's stream, or its number in the connection; `None` if it is not known which.
    pub number: Option<u32>,
    pub head: Head,
    /// The end of one request, whatever its count says.
    pub end: TapEnd,
}

#[derive(Default)]
struct Connection {
    number: u64,
    /// The event that last was about it.
    used: u64,
    table: Table,
    /// Heads by the number of their request.
    heads: BTreeMap<u32, Head>,
    /// A HEADERS frame of which a part has come.
    cut: Option<(TapHead, Vec<u8>)>,
}

/// Puts events together.
#[derive(Default)]
pub struct Events {
    connections: HashMap<(u64, u32), Connection>,
    seen: u64,
    numbered: u64,
}

impl Events {
    /// Takes an event, and hands on the requests that it is the end of.
    pub fn take(&mut self, event: &[u8], mut ended: impl FnMut(Request)) {
        let mut bytes = event;
        match event.first() {
            Some(&tap_kind::HEAD) => {
                if let Some(head) = TapHead::read(&mut bytes) {
                    self.head(head, bytes);
                }
            }
            Some(&tap_kind::REST) => {
                if let Some(rest) = TapHead::read(&mut bytes) {
                    self.rest(&rest, bytes);
                }
            }
            Some(&tap_kind::END) => {
                if let Some(end) = TapEnd::read(&mut bytes) {
                    self.end(end, &mut ended);
                }
            }
            _ => {}
        }
    }

    fn connection(&mut self, id: (u64, u32)) -> &mut Connection {
        self.seen += 1;
        if self.connections.len() >= CONNECTIONS && !self.connections.contains_key(&id) {
            self.forget();
        }
        let connection = self.connections.entry(id).or_insert_with(|| {
            self.numbered += 1;
            Connection {
                number: self.numbered - 1,
                ..Connection::default()
            }
        });
        connection.used = self.seen;
        connection
    }

    /// Gives up the half of the connections that was silent for longer.
    fn forget(&mut self) {
        let mut used: Vec<u64> = self.connections.values().map(|c| c.used).collect();
        let (_, &mut median, _) = used.select_nth_unstable(CONNECTIONS / 2);
        self.connections.retain(|_, c| c.used > median);
    }

    fn head(&mut self, head: TapHead, data: &[u8]) {
        let connection = self.connection((head.opened_ns, head.slot));
        connection.settle();
        if head.protocol == protocol::HTTP1 {
            connection.put(head.request, http1(data, head.len as usize));
        } else if (head.there < head.len) && data.len() == head.there as usize {
            connection.cut = Some((head, data.to_vec()));
        } else {
            connection.block(&head, data);
        }
    }

    fn rest(&mut self, rest: &TapHead, data: &[u8]) {
        let connection = self.connection((rest.opened_ns, rest.slot));
        let Some((head, mut block)) = connection.cut.take() else {
            return;
        };
        // The padding's length is known once it has been read.
        let left = (head.len as usize).saturating_sub(block.len());
        let pad = match head.flags & FLAG_PADDED {
            0 => 0,
            _ => block.first().copied().unwrap_or_default().into(),
        };
        // Else there was another packet between.
        let follows = rest.len as usize == left || rest.len as usize + pad == left;
        if follows && head.request == rest.request {
            block.extend(data);
            if rest.there < rest.len && data.len() == rest.there as usize {
                connection.cut = Some((head, block));
                return;
            }
        }
        connection.block(&head, &block);
    }

    fn end(&mut self, mut end: TapEnd, ended: &mut impl FnMut(Request)) {
        let connection = self.connection((end.opened_ns, end.slot));
        connection.settle();
        let count = std::mem::replace(&mut end.count, 1);
        for i in 0..count {
            let (number, head) = connection.ended(&end, i);
            if head.is_grpc && end.protocol == protocol::HTTP2 {
                end.protocol = protocol::GRPC;
            }
            ended(Request {
                connection: connection.number,
                number,
                head,
                end,
            });
        }
    }
}

impl Connection {
    /// Takes what there is of a frame that was cut, of which nothing more comes.
    fn settle(&mut self) {
        if let Some((head, block)) = self.cut.take() {
            self.block(&head, &block);
        }
    }

    /// The payload of a HEADERS frame, or its beginning.
    fn block(&mut self, frame: &TapHead, payload: &[u8]) {
        let block = unpadded(frame, payload).unwrap_or_default();
        let fields = self.table.decode(frame.inserted, block);
        if frame.is_new != 0 {
            self.put(frame.request, http2(fields));
        }
    }

    fn put(&mut self, request: u32, head: Head) {
        self.heads.insert(request, head);
        if self.heads.len() > PENDING {
            self.heads.pop_first();
        }
    }

    /// Which of those that an end is about is the `i`th, and what is known of its head.
    fn ended(&mut self, end: &TapEnd, i: u32) -> (Option<u32>, Head) {
        if end.protocol != protocol::HTTP1 && end.request == 0 {
            return match self.heads.pop_first() {
                Some((number, head)) => (Some(number), head),
                None => (None, Head::default()),
            };
        }
        let number = end.request.wrapping_add(i);
        let head = self.heads.remove(&number).unwrap_or_default();
        if end.protocol == protocol::HTTP1 {
            // The ends of the requests before this one were dropped.
            self.heads = self.heads.split_off(&number);
        }
        (Some(number), head)
    }
}

/// What of a HEADERS frame's payload is the header block, RFC 9113 section 6.2.
fn unpadded<'a>(frame: &TapHead, payload: &'a [u8]) -> Option<&'a [u8]> {
    let mut block = payload;
    let mut end = frame.len as usize;
    if frame.flags & FLAG_PADDED != 0 {
        let (pad, rest) = block.split_first()?;
        end = end.checked_sub(usize::from(*pad))?;
        block = rest;
    }
    if frame.flags & FLAG_PRIORITY != 0 {
        block = block.get(5..)?;
    }
    let before = payload.len() - block.len();
    Some(&block[..block.len().min(end.checked_sub(before)?)])
}

fn http2(fields: Vec<Field>) -> Head {
    let mut head = Head::default();
    for Field { name, value } in fields {
        let text = || Some(String::from_utf8_lossy(&value).into_owned());
        match &name[..] {
            b":method" => head.method = text(),
            b":authority" => head.authority = text(),
            b":path" => head.path = text(),
            b"content-type" => head.is_grpc = is_grpc(&value),
            _ => {}
        }
    }
    head
}

/// Whether a content type is one of gRPC, as hpack_grpc of bpf/http/hpack.h has it.
fn is_grpc(content_type: &[u8]) -> bool {
    content_type
        .split_at_checked(b"application/grpc".len())
        .is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(b"application/grpc")
                && matches!(rest.first(), None | Some(b'+' | b';'))
        })
}

/// The head in a request line of `len` bytes, which is 0 if the length is not known: RFC 9112
/// section 3.
fn http1(line: &[u8], len: usize) -> Head {
    let is_whole = line.len() == len;
    let line = String::from_utf8_lossy(line);
    let Some((method, rest)) = line.split_once(' ') else {
        return Head::default();
    };
    let (path, is_cut) = match rest.rsplit_once(' ') {
        Some((path, _)) if is_whole => (path, false),
        // A part of the version, or more than it.
        Some((path, version))
            if "HTTP/1.".starts_with(version) || version.starts_with("HTTP/1.") =>
        {
            (path, false)
        }
        _ => (rest, true),
    };
    Head {
        method: Some(method.to_owned()),
        path: Some(path.to_owned()),
        is_cut,
        ..Head::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types_of_grpc() {
        for (content_type, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("APPLICATION/gRPC;x", true),
            ("application/grpc-web", false),
            ("application/grpcx", false),
            ("application/grp", false),
            ("application/grp\u{e9}", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(content_type.as_bytes()), expected, "{content_type}");
        }
    }
}
