//! What is to be counted of a connection: RFC 9113 and 7541, from the two streams and the order in
//! which their parts were seen. Header blocks are read by another's decoder.

use std::collections::BTreeMap;

use httlib_hpack::Decoder;
use metricd::abi::{GRPC_STATUS_DERIVED, GRPC_STATUS_NONE, protocol};

use super::wire::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PUSH_PROMISE,
    REFUSED_STREAM, RST_STREAM, WITH_PRIORITY,
};
use crate::flow::{Client, Role, Server};
use crate::kernel::Answer;
use crate::model::L7;
use kit::packets::http2::script::Field;

/// The header block at hand, and where it belongs.
struct Block {
    kind: u8,
    stream: u32,
    end: bool,
    bytes: Vec<u8>,
}

/// An open stream.
struct Stream {
    answer: Answer,
    /// Its final response has begun.
    answered: bool,
}

#[derive(Default)]
struct Side {
    decoder: Decoder<'static>,
    block: Option<Block>,
}

#[derive(Default)]
pub struct Model {
    sides: [Side; 2],
    open: BTreeMap<u32, Stream>,
    last: u32,
    without_resets: bool,
    pub l7: L7,
}

impl Model {
    /// One in which streams live on when they are reset.
    pub fn without_resets() -> Self {
        Self {
            without_resets: true,
            ..Self::default()
        }
    }

    /// Whole frames were seen.
    pub fn frames(&mut self, role: Role, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
            let (kind, flags) = (bytes[3], bytes[4]);
            let stream = u32::from_be_bytes(bytes[5..9].try_into().expect("four bytes"));
            let (payload, rest) = bytes[9..].split_at(len);
            self.frame(role, kind, flags, stream & (u32::MAX >> 1), payload);
            bytes = rest;
        }
    }

    fn frame(&mut self, role: Role, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let word = || u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
        match kind {
            DATA if role == Server && flags & END_STREAM != 0 => self.done(stream),
            HEADERS | PUSH_PROMISE => {
                let mut bytes = payload;
                if flags & PADDED != 0 {
                    bytes = &payload[1..payload.len() - usize::from(payload[0])];
                }
                if kind == PUSH_PROMISE {
                    bytes = &bytes[4..];
                } else if flags & WITH_PRIORITY != 0 {
                    bytes = &bytes[5..];
                }
                self.sides[role as usize].block = Some(Block {
                    kind,
                    stream,
                    end: flags & END_STREAM != 0,
                    bytes: bytes.to_vec(),
                });
            }
            CONTINUATION => {
                let block = self.sides[role as usize].block.as_mut();
                block.expect("a block").bytes.extend(payload);
            }
            RST_STREAM | GOAWAY if self.without_resets => {}
            RST_STREAM => self.abort(stream, role, word()),
            GOAWAY if role == Server => {
                let refused = self.open.split_off(&(word() + 1)).len() as u64;
                self.l7.in_flight -= refused;
                self.l7.aborted.refused += refused;
            }
            _ => {}
        }
        if matches!(kind, HEADERS | PUSH_PROMISE | CONTINUATION) && flags & END_HEADERS != 0 {
            self.block(role);
        }
    }

    fn block(&mut self, role: Role) {
        let side = &mut self.sides[role as usize];
        let mut block = side.block.take().expect("a block");
        let mut fields = Vec::new();
        let decoded = side.decoder.decode(&mut block.bytes, &mut fields);
        decoded.expect("a header block");
        match (block.kind, role) {
            (HEADERS, Client) => self.request(block.stream, &fields),
            (HEADERS, Server) => self.response(&block, &fields),
            _ => {}
        }
    }

    fn request(&mut self, stream: u32, fields: &[Field]) {
        if stream <= self.last {
            return;
        }
        self.last = stream;
        let content_type = field(fields, "content-type").unwrap_or_default();
        let rest = content_type.strip_prefix("application/grpc");
        let grpc = rest.is_some_and(|r| r.is_empty() || r.starts_with(['+', ';']));
        let answer = if grpc {
            self.l7.requests.grpc += 1;
            Answer::grpc(0, GRPC_STATUS_NONE)
        } else {
            self.l7.requests.http2 += 1;
            Answer::http2(0)
        };
        let answered = false;
        self.open.insert(stream, Stream { answer, answered });
        self.l7.in_flight += 1;
    }

    fn response(&mut self, block: &Block, fields: &[Field]) {
        let Some(stream) = self.open.get_mut(&block.stream) else {
            return;
        };
        if !stream.answered {
            let status = field(fields, ":status").expect("a status");
            let status = status.parse().expect("a status");
            if status < 200 {
                return;
            }
            stream.answered = true;
            stream.answer.status = status;
        }
        if stream.answer.protocol == protocol::GRPC
            && let Some(status) = field(fields, "grpc-status")
        {
            stream.answer.grpc_status = status.parse().expect("a status");
        }
        if block.end {
            self.done(block.stream);
        }
    }

    fn done(&mut self, stream: u32) {
        if let Some(mut stream) = self.open.remove(&stream) {
            let answer = &mut stream.answer;
            if answer.protocol == protocol::GRPC && answer.grpc_status == GRPC_STATUS_NONE {
                answer.grpc_status = GRPC_STATUS_DERIVED | derived(answer.status);
            }
            *self.l7.responses.entry(stream.answer).or_default() += 1;
            self.l7.in_flight -= 1;
        }
    }

    fn abort(&mut self, stream: u32, role: Role, code: u32) {
        if self.open.remove(&stream).is_none() {
            return;
        }
        self.l7.in_flight -= 1;
        let aborted = &mut self.l7.aborted;
        *match (role, code) {
            (Client, _) | (_, CANCEL) => &mut aborted.cancelled,
            (_, REFUSED_STREAM) => &mut aborted.refused,
            _ => &mut aborted.reset,
        } += 1;
    }
}

fn field(fields: &[Field], name: &str) -> Option<String> {
    let found = fields.iter().find(|f| f.0 == name.as_bytes());
    found.map(|f| String::from_utf8_lossy(&f.1).into_owned())
}

/// The status that clients of gRPC make of HTTP's.
fn derived(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}
