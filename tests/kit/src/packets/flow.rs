//! One TCP connection fed to the programs, segment by segment and in any order.

use std::cell::Cell;
use std::net::IpAddr;

use metricd::abi::MetricValue;

use crate::packets::frame::{self, ACK, End, FIN, RST, SYN};
use crate::packets::kernel::{Kernel, Seen, Way};

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

pub use Role::{Client, Server};

impl Role {
    pub fn other(self) -> Self {
        match self {
            Client => Server,
            Server => Client,
        }
    }
}

/// Ends of a connection to the pod by IPv4.
pub fn ends(client_port: u16) -> [End; 2] {
    let end = |ip: [u8; 4], port| End {
        ip: IpAddr::from(ip),
        port,
    };
    [end([10, 0, 0, 2], client_port), end([10, 0, 0, 1], 80)]
}

/// The same by IPv6.
pub fn ends6(client_port: u16) -> [End; 2] {
    let end = |last, port| End {
        ip: IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last]),
        port,
    };
    [end(2, client_port), end(1, 80)]
}

pub struct Flow<'a> {
    pub kernel: &'a Kernel,
    /// By role.
    pub ends: [End; 2],
    pub inbound: bool,
    /// Initial sequence numbers. The stream's first byte is the next.
    pub isn: [u32; 2],
    /// How far each stream is, with the FIN.
    pub said: [Cell<u32>; 2],
    /// What had been counted before it.
    before: Seen,
}

impl<'a> Flow<'a> {
    /// Nothing said yet.
    pub fn new(kernel: &'a Kernel, ends: [End; 2]) -> Self {
        Self {
            kernel,
            ends,
            inbound: true,
            // Both wrap around soon.
            isn: [u32::MAX - 700, u32::MAX - 5000],
            said: Default::default(),
            before: Seen::of(kernel),
        }
    }

    /// What was counted since.
    pub fn seen(&self) -> Seen {
        Seen::of(self.kernel).since(&self.before)
    }

    /// The counters of all series since.
    pub fn total(&self) -> MetricValue {
        self.seen().total
    }

    /// With the handshake done: the pod is the server.
    pub fn open(kernel: &'a Kernel, client_port: u16) -> Self {
        let flow = Self::new(kernel, ends(client_port));
        flow.handshake();
        flow
    }

    /// The same, where the pod is the client.
    pub fn open_outbound(kernel: &'a Kernel, client_port: u16) -> Self {
        let mut flow = Self::new(kernel, ends(client_port));
        flow.inbound = false;
        flow.handshake();
        flow
    }

    pub fn handshake(&self) {
        self.syn();
        self.syn_ack();
        self.ack(Client);
    }

    pub fn syn(&self) {
        self.segment(Client, SYN, self.isn[0], b"");
    }

    pub fn syn_ack(&self) {
        self.segment(Server, SYN | ACK, self.isn[1], b"");
    }

    pub fn way(&self, role: Role) -> Way {
        if (role == Client) == self.inbound {
            Way::In
        } else {
            Way::Out
        }
    }

    /// The sequence number of a byte of the stream.
    pub fn seq(&self, role: Role, offset: u32) -> u32 {
        self.isn[role as usize].wrapping_add(1).wrapping_add(offset)
    }

    pub fn frame(&self, role: Role, flags: u8, seq: u32, payload: &[u8]) -> Vec<u8> {
        let other = role.other();
        let ack = if flags & ACK == 0 {
            0
        } else {
            self.seq(other, self.said[other as usize].get())
        };
        let (src, dst) = (self.ends[role as usize], self.ends[other as usize]);
        frame::tcp(src, dst, seq, ack, flags, payload)
    }

    /// Any segment, which does not move the stream on.
    pub fn segment(&self, role: Role, flags: u8, seq: u32, payload: &[u8]) {
        let frame = self.frame(role, flags, seq, payload);
        self.kernel.run(self.way(role), &frame);
    }

    /// Bytes of the stream from `offset`, be they new or not.
    pub fn send_at(&self, role: Role, offset: u32, payload: impl AsRef<[u8]>) {
        let payload = payload.as_ref();
        self.segment(role, ACK, self.seq(role, offset), payload);
        let said = &self.said[role as usize];
        said.set(said.get().max(offset + payload.len() as u32));
    }

    /// The next bytes of the stream in one segment.
    pub fn send(&self, role: Role, payload: impl AsRef<[u8]>) {
        self.send_at(role, self.said[role as usize].get(), payload.as_ref());
    }

    /// The next bytes of the stream, in segments of `size`.
    pub fn send_in(&self, role: Role, size: usize, payload: impl AsRef<[u8]>) {
        for part in payload.as_ref().chunks(size) {
            self.send(role, part);
        }
    }

    /// The next bytes of the stream pass the hook without being seen.
    pub fn skip(&self, role: Role, n: u32) {
        let said = &self.said[role as usize];
        said.set(said.get() + n);
    }

    pub fn request(&self, payload: impl AsRef<[u8]>) {
        self.send(Client, payload);
    }

    pub fn response(&self, payload: impl AsRef<[u8]>) {
        self.send(Server, payload);
    }

    pub fn ack(&self, role: Role) {
        let said = self.said[role as usize].get();
        self.segment(role, ACK, self.seq(role, said), b"");
    }

    pub fn fin(&self, role: Role) {
        self.fin_with(role, b"");
    }

    /// The stream's last bytes and its end in one segment.
    pub fn fin_with(&self, role: Role, payload: &[u8]) {
        let said = &self.said[role as usize];
        self.segment(role, FIN | ACK, self.seq(role, said.get()), payload);
        said.set(said.get() + payload.len() as u32 + 1);
    }

    pub fn rst(&self, role: Role) {
        let said = self.said[role as usize].get();
        self.segment(role, RST | ACK, self.seq(role, said), b"");
    }

    /// Ends the connection in order, by the client.
    pub fn close(&self) {
        self.fin(Client);
        self.fin(Server);
        self.ack(Client);
    }
}
