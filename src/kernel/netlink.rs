//! Requests to netlink(7): what changes something is acknowledged, what asks for a list gets one.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Flags of a request that makes something anew, or fails with EEXIST: `NLM_F_CREATE | NLM_F_EXCL`.
pub const CREATE: u16 = 0x400 | 0x200;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// struct nlmsghdr, and the error in front of it in an answer.
const HEADER: usize = 16;

/// A message in the making: struct nlmsghdr, a header of its kind, and attributes.
pub struct Message(Vec<u8>);

impl Message {
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | NLM_F_ACK | flags).to_ne_bytes());
        bytes.extend([0; 8]); // sequence, port
        bytes.extend(header);
        Self(bytes)
    }

    /// A message that asks for a list.
    pub fn listing(kind: u16, header: &[u8]) -> Self {
        let mut message = Self::new(kind, 0, header);
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.0[6..8].copy_from_slice(&flags.to_ne_bytes());
        message
    }

    pub fn number(self, kind: u16, value: u32) -> Self {
        self.nested(kind, |mut message| {
            message.0.extend(value.to_ne_bytes());
            message
        })
    }

    /// An attribute of attributes.
    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.0.len();
        self.0.extend([0; 2]);
        self.0.extend(kind.to_ne_bytes());
        let mut message = fill(self);
        let len = (message.0.len() - start) as u16;
        message.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        message.0.resize(message.0.len().next_multiple_of(4), 0);
        message
    }

    /// Has the kernel do what the message asks for, in the network namespace that the thread is in.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn send(self) -> io::Result<()> {
        let socket = self.ask(SockProtocol::NetlinkRoute)?;
        let mut answer = [0; 4096];
        let n = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let kind = answer[4..6].try_into().map_or(0, u16::from_ne_bytes);
        let errno = answer[HEADER..HEADER + 4].try_into();
        let errno = errno.map_or(0, i32::from_ne_bytes);
        match (n >= HEADER + 4 && kind == NLMSG_ERROR, errno) {
            (true, 0) => Ok(()),
            (true, errno) => Err(io::Error::from_raw_os_error(-errno)),
            (false, _) => Err(io::Error::other(
                "the kernel's answer is no acknowledgement",
            )),
        }
    }

    /// All that a part of the kernel has of what the message asks for, in the network namespace that
    /// the thread is in: the content of each answer, which is a header of its kind and attributes.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn list(self, part: SockProtocol) -> io::Result<Vec<Vec<u8>>> {
        let socket = self.ask(part)?;
        let mut listed = Vec::new();
        let mut answer = vec![0; 64 << 10];
        loop {
            let n = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            let mut messages = &answer[..n];
            while messages.len() >= HEADER {
                let word = |at: usize| {
                    messages[at..at + 4]
                        .try_into()
                        .map_or(0, u32::from_ne_bytes)
                };
                let len = (word(0) as usize).clamp(HEADER, messages.len());
                match (word(4) & 0xffff) as u16 {
                    NLMSG_DONE => return Ok(listed),
                    NLMSG_ERROR if messages.len() >= HEADER + 4 => {
                        let errno = word(HEADER).cast_signed();
                        return Err(io::Error::from_raw_os_error(-errno));
                    }
                    _ => listed.push(messages[HEADER..len].to_vec()),
                }
                messages = messages.get(len.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn ask(mut self, protocol: SockProtocol) -> io::Result<OwnedFd> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        let (family, flags) = (AddressFamily::Netlink, SockFlag::SOCK_CLOEXEC);
        let socket = socket(family, SockType::Raw, flags, protocol)?;
        send(socket.as_raw_fd(), &self.0, MsgFlags::empty())?;
        Ok(socket)
    }
}

/// The attributes in `bytes`, each with its kind: struct rtattr of linux/rtnetlink.h. They end where one is
/// cut short.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Without the flags that an attribute's kind may have: NLA_TYPE_MASK of linux/netlink.h.
    const KIND: u16 = 0x3fff;
    std::iter::from_fn(move || {
        let half = |at: usize| Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let (len, kind) = (usize::from(half(0)?), half(2)?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let message = Message::listing(1, &[])
            .number(7, 8)
            .nested(0x8009, |inner| {
                inner.nested(1, |mut text| {
                    text.0.extend(b"abc");
                    text
                })
            });
        let bytes = &message.0[HEADER..];
        let read: Vec<_> = attributes(bytes).collect();
        assert_eq!(read[0], (7, &8u32.to_ne_bytes()[..]));
        assert_eq!(read[1].0, 9);
        assert_eq!(
            attributes(read[1].1).collect::<Vec<_>>(),
            [(1, &b"abc"[..])]
        );
        assert_eq!(read.len(), 2);
        for cut in 0..bytes.len() {
            assert!(attributes(&bytes[..cut]).count() < 2);
        }
        // One that says to be shorter than its own head.
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }
}
