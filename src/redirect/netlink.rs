//! Requests to rtnetlink(7), each answered by an acknowledgement.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
/// Makes it anew, or fails with EEXIST: `NLM_F_CREATE | NLM_F_EXCL`.
pub const CREATE: u16 = 0x400 | 0x200;
const NLMSG_ERROR: u16 = 2;
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

    /// Has the kernel do it, in the network namespace that the thread is in.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn send(mut self) -> io::Result<()> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        send(socket.as_raw_fd(), &self.0, MsgFlags::empty())?;
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
}
