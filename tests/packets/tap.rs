//! Super-packets of 64 KB, for which BPF_PROG_TEST_RUN has no room: the programs are attached to a
//! tap device of a network namespace of its own. What is written to it arrives there; what leaves
//! goes through a packet socket.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::thread;

use metricd::kernel::hook::Hook;
use metricd::kernel::sys::tcx_attach;
use nix::net::if_::if_nametoindex;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::flow::{Client, Flow, Role, Server, ends};
use crate::frame::{ACK, SYN};
use crate::kernel::{Kernel, Way, program_fd};

const DEVICE: &str = "tap0";
/// Bytes of struct virtio_net_hdr.
const VIRTIO: usize = 10;
/// Bytes of TCP payload in a segment of what `feed` makes.
const SEGMENT: usize = 1448;

pub struct Tap<'a> {
    kernel: &'a Kernel,
    file: File,
    socket: OwnedFd,
    index: u32,
    _links: [OwnedFd; 2],
}

/// Runs `test` in a network namespace of its own, with the kernel's programs attached. Does
/// nothing on kernels without TCX, where the other tests' packets must do.
pub fn with(kernel: &Kernel, test: impl FnOnce(&Tap) + Send) {
    thread::scope(|scope| {
        // A thread of its own: the namespace is the thread's.
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare");
            // Nothing but what is fed: no neighbour discovery.
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").expect("sysctl");
            let file = tap();
            let up = Command::new("ip")
                .args(["link", "set", DEVICE, "up"])
                .status();
            assert!(up.expect("ip").success());
            let index = if_nametoindex(DEVICE).expect("an index");
            let links = [(Way::In, Hook::Ingress), (Way::Out, Hook::Egress)]
                .map(|(way, hook)| tcx_attach(program_fd(kernel, way), index, hook, None));
            let [Ok(ingress), Ok(egress)] = links else {
                println!("no TCX");
                return;
            };
            test(&Tap {
                kernel,
                file,
                socket: packet_socket(),
                index,
                _links: [ingress, egress],
            });
        });
        inside
            .join()
            .unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
}

/// The same with a connection whose handshake is done.
pub fn with_flow(test: impl FnOnce(&Tap, &Flow) + Send) {
    let kernel = Kernel::load(&["--connections", "64"]);
    with(&kernel, |tap| {
        let flow = Flow::new(tap.kernel(), ends(40000));
        let say = |role, flags, seq| {
            let frame = flow.frame(role, flags, seq, b"");
            tap.feed(flow.way(role), &frame, SEGMENT);
        };
        say(Client, SYN, flow.isn[0]);
        say(Server, SYN | ACK, flow.isn[1]);
        say(Client, ACK, flow.seq(Client, 0));
        test(tap, &flow);
    });
}

/// The next bytes of a stream in one super-packet.
pub fn feed(tap: &Tap, flow: &Flow, role: Role, payload: impl AsRef<[u8]>) {
    let payload = payload.as_ref();
    let said = &flow.said[role as usize];
    let frame = flow.frame(role, ACK, flow.seq(role, said.get()), payload);
    tap.feed(flow.way(role), &frame, SEGMENT);
    said.set(said.get() + payload.len() as u32);
}

impl Tap<'_> {
    pub fn kernel(&self) -> &Kernel {
        self.kernel
    }

    /// Feeds a TCP super-packet by IPv4, of segments of `size` bytes.
    pub fn feed(&self, way: Way, frame: &[u8], size: usize) {
        const HEADERS: usize = 14 + 20 + 32;
        let segments = (frame.len() - HEADERS).div_ceil(size).max(1);
        let mut packet = if segments > 1 {
            // The checksum is still to be made; TCP by IPv4; where the headers and TCP's begin.
            let words = [HEADERS as u16, size as u16, 34, 16].map(u16::to_ne_bytes);
            [&[1, 1][..], &words.concat()].concat()
        } else {
            vec![0; VIRTIO]
        };
        packet.extend(frame);
        match way {
            Way::In => {
                let n = (&self.file)
                    .write(&packet)
                    .expect("write to the tap device");
                assert_eq!(n, packet.len());
            }
            Way::Out => send(&self.socket, self.index, &packet),
        }
        let bytes = frame.len() + (segments - 1) * HEADERS;
        self.kernel.fed(way, segments as u64, bytes as u64);
    }
}

/// A new device of the current namespace, whose frames come with a struct virtio_net_hdr.
fn tap() -> File {
    let path = "/dev/net/tun";
    let file = File::options().read(true).write(true).open(path);
    let file = file.unwrap_or_else(|e| panic!("{path}: {e}"));
    // SAFETY: ifreq is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
        *to = from as libc::c_char;
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: the request is an ifreq, as TUNSETIFF takes it, and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "TUNSETIFF: {}", io::Error::last_os_error());
    file
}

/// A packet socket that only sends.
fn packet_socket() -> OwnedFd {
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .expect("a packet socket");
    let on: libc::c_int = 1;
    // SAFETY: the value is an int of the length given and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "PACKET_VNET_HDR: {}", io::Error::last_os_error());
    fd
}

fn send(socket: &OwnedFd, index: u32, packet: &[u8]) {
    // SAFETY: sockaddr_ll is plain data, for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    address.sll_ifindex = index as i32;
    // SAFETY: the packet and the address have the lengths given and outlive the call.
    let n = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    assert_eq!(n, packet.len() as isize, "{}", io::Error::last_os_error());
}
