//! What neither std nor nix can do: packet sockets, tun devices, asking for what TCX has, going
//! before others.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt,
};

/// A packet socket that gets every frame that arrives at the interface, and none that leaves it. What
/// it sends does not pass TC.
pub fn packet_socket(interface: &str) -> OwnedFd {
    let fd = sending_packet_socket(interface);
    set_packet_option(&fd, libc::PACKET_QDISC_BYPASS);
    fd
}

/// A [`packet_socket`] of which what it sends passes TC.
pub fn sending_packet_socket(interface: &str) -> OwnedFd {
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )
    .unwrap_or_else(|e| panic!("a packet socket: {e}"));
    setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20)).expect("SO_RCVBUFFORCE");
    set_packet_option(&fd, libc::PACKET_IGNORE_OUTGOING);
    let index = if_nametoindex(interface).unwrap_or_else(|e| panic!("{interface}: {e}"));
    // SAFETY: sockaddr_ll is plain data, for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = c_int::try_from(index).expect("an index");
    // SAFETY: the address is a sockaddr_ll of the length given and outlives the call.
    let result = unsafe {
        libc::bind(
            fd.as_raw_fd(),
            (&raw const address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "bind: {}", io::Error::last_os_error());
    fd
}

fn set_packet_option(fd: &OwnedFd, option: c_int) {
    let on: c_int = 1;
    // SAFETY: the value is an int of the length given and outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            option,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "packet option: {}", io::Error::last_os_error());
}

/// The ids of the programs that TCX has on an interface of the current namespace.
pub fn tcx_programs(interface: &str, egress: bool) -> Vec<u32> {
    use libbpf_sys::{BPF_TCX_EGRESS, BPF_TCX_INGRESS, bpf_prog_query_opts};

    let index = if_nametoindex(interface).unwrap_or_else(|e| panic!("{interface}: {e}"));
    let mut ids = [0; 64];
    let mut options = bpf_prog_query_opts {
        sz: size_of::<bpf_prog_query_opts>() as libbpf_sys::size_t,
        prog_ids: ids.as_mut_ptr(),
        ..bpf_prog_query_opts::default()
    };
    options.__bindgen_anon_1.count = ids.len() as u32;
    let hook = if egress {
        BPF_TCX_EGRESS
    } else {
        BPF_TCX_INGRESS
    };
    // SAFETY: the options say how many ids there is room for, and outlive the call.
    let result = unsafe { libbpf_sys::bpf_prog_query_opts(index as c_int, hook, &raw mut options) };
    if result == -libc::EINVAL {
        // A kernel without TCX has nothing there.
        return Vec::new();
    }
    assert_eq!(result, 0, "BPF_PROG_QUERY");
    // SAFETY: both members of the union are the same number.
    let count = unsafe { options.__bindgen_anon_1.count };
    ids[..count as usize].to_vec()
}

/// A new device of the current namespace without a link layer: what is routed to it is read from
/// the file, a packet each time, and what is written arrives.
pub fn tun(name: &str) -> File {
    let path = "/dev/net/tun";
    let file = File::options().read(true).write(true).open(path);
    let file = file.unwrap_or_else(|e| panic!("{path}: {e}"));
    // SAFETY: ifreq is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is an ifreq, as TUNSETIFF takes it, and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    assert_eq!(result, 0, "TUNSETIFF: {}", io::Error::last_os_error());
    file
}
