//! What is fed to the programs: a few conversations, and how they are cut into packets. Written to a
//! file as lines of text, so that a finding can be read, changed and replayed.

use std::fmt::{self, Write};
use std::ops::Range;

use crate::flow::{Client, Role, Server};

/// By role, what is said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversation {
    pub inbound: bool,
    pub v6: bool,
    /// Without it the connection is older than the programs.
    pub handshake: bool,
    pub streams: [Vec<u8>; 2],
}

/// A packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment {
    pub conversation: usize,
    pub role: Role,
    /// Of the stream.
    pub bytes: Range<usize>,
    pub flags: u8,
    /// Added to the sequence number, and to that of the acknowledgement.
    pub shift: [u32; 2],
    /// Bytes of payload in each of the packets it stands for; whether the kernel knows how many.
    pub gso: Option<(usize, bool)>,
    /// Bytes of the frame that are there.
    pub cut: Option<usize>,
    /// Bytes of the frame that are others.
    pub faults: Vec<(usize, u8)>,
}

impl Segment {
    pub fn new(conversation: usize, role: Role, bytes: Range<usize>) -> Self {
        Self {
            conversation,
            role,
            bytes,
            flags: crate::frame::ACK,
            shift: [0; 2],
            gso: None,
            cut: None,
            faults: Vec::new(),
        }
    }

    /// Whether it is what TCP would send.
    pub fn is_sound(&self) -> bool {
        self.flags == crate::frame::ACK
            && self.shift == [0; 2]
            && self.cut.is_none()
            && self.faults.is_empty()
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// Faults may be anywhere in a frame: nobody knows which connections there are.
    pub wild: bool,
    /// The programs tell routes apart.
    pub routes: bool,
    pub conversations: Vec<Conversation>,
    pub segments: Vec<Segment>,
}

impl Input {
    pub fn parse(text: &str) -> Self {
        let mut input = Self::default();
        for line in text.lines() {
            let mut words = line.split(' ');
            let kind = words.next().unwrap_or_default();
            let rest: Vec<&str> = words.collect();
            match kind {
                "wild" => input.wild = true,
                "routes" => input.routes = true,
                "conversation" => input.conversations.push(Conversation {
                    inbound: rest.contains(&"inbound"),
                    v6: rest.contains(&"v6"),
                    handshake: rest.contains(&"handshake"),
                    ..Conversation::default()
                }),
                "client" | "server" => {
                    let last = input.conversations.last_mut().expect("a conversation");
                    last.streams[usize::from(kind == "server")] = unescape(&rest.join(" "));
                }
                "segment" => input.segments.push(segment(&rest)),
                _ => {}
            }
        }
        input
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wild {
            writeln!(f, "wild")?;
        }
        if self.routes {
            writeln!(f, "routes")?;
        }
        for c in &self.conversations {
            let way = if c.inbound { "inbound" } else { "outbound" };
            let ip = if c.v6 { "v6" } else { "v4" };
            let handshake = if c.handshake { " handshake" } else { "" };
            writeln!(f, "conversation {way} {ip}{handshake}")?;
            writeln!(f, "client {}", escape(&c.streams[0]))?;
            writeln!(f, "server {}", escape(&c.streams[1]))?;
        }
        for s in &self.segments {
            let (role, bytes) = (format!("{:?}", s.role).to_lowercase(), &s.bytes);
            write!(
                f,
                "segment {} {role} {}..{}",
                s.conversation, bytes.start, bytes.end
            )?;
            if s.flags != crate::frame::ACK {
                write!(f, " flags={}", s.flags)?;
            }
            if s.shift != [0; 2] {
                write!(f, " shift={},{}", s.shift[0], s.shift[1])?;
            }
            if let Some((size, known)) = s.gso {
                write!(f, " gso={size},{}", u8::from(known))?;
            }
            if let Some(cut) = s.cut {
                write!(f, " cut={cut}")?;
            }
            for (at, byte) in &s.faults {
                write!(f, " fault={at},{byte}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn segment(words: &[&str]) -> Segment {
    let number = |word: &str| word.parse::<usize>().expect("a number");
    let role = if words[1] == "client" { Client } else { Server };
    let (from, to) = words[2].split_once("..").expect("a range");
    let mut segment = Segment::new(number(words[0]), role, number(from)..number(to));
    for word in &words[3..] {
        let (name, value) = word.split_once('=').expect("name=value");
        let (a, b) = value.split_once(',').unwrap_or((value, "0"));
        let (a, b) = (number(a), number(b));
        match name {
            "flags" => segment.flags = a as u8,
            "shift" => segment.shift = [a as u32, b as u32],
            "gso" => segment.gso = Some((a, b == 1)),
            "cut" => segment.cut = Some(a),
            "fault" => segment.faults.push((a, b as u8)),
            _ => panic!("what is {name}?"),
        }
    }
    segment
}

/// Bytes as they are in a string of Rust.
pub fn escape(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b' '..=b'~' => out.push(*byte as char),
            _ => write!(out, "\\x{byte:02x}").expect("a string takes all"),
        }
    }
    out
}

pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        out.push(match (byte, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                rest = tail;
                let digits = [*high, *low];
                let digits = std::str::from_utf8(&digits).expect("two digits");
                u8::from_str_radix(digits, 16).expect("two digits")
            }
            (b'\\', [_, tail @ ..]) => {
                rest = tail;
                b'\\'
            }
            _ => *byte,
        });
    }
    out
}
