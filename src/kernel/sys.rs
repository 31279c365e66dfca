//! The only `unsafe` code: system calls and libbpf functions that no crate wraps.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::kernel::hook::Hook;

fn tcx(hook: Hook) -> libbpf_sys::bpf_attach_type {
    match hook {
        Hook::Ingress => libbpf_sys::BPF_TCX_INGRESS,
        Hook::Egress => libbpf_sys::BPF_TCX_EGRESS,
    }
}

fn check(ret: i32) -> io::Result<i32> {
    if ret < 0 {
        Err(io::Error::from_raw_os_error(-ret))
    } else {
        Ok(ret)
    }
}

/// Attaches a program at the head of a device's TCX hook, or right behind another link there
/// (kernel 6.6). The link lasts as long as its descriptor or a pin. Older kernels answer EINVAL.
pub fn tcx_attach(
    program: BorrowedFd,
    ifindex: u32,
    hook: Hook,
    behind: Option<BorrowedFd>,
) -> io::Result<OwnedFd> {
    let mut opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags: libbpf_sys::BPF_F_BEFORE,
        ..Default::default()
    };
    if let Some(link) = behind {
        opts.flags = libbpf_sys::BPF_F_AFTER | libbpf_sys::BPF_F_LINK;
        opts.__bindgen_anon_1.tcx.relative_fd = link.as_raw_fd() as u32;
    }
    // SAFETY: opts is initialised and outlives the call, which only reads it.
    let fd = check(unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, tcx(hook), &opts)
    })?;
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program of the kind `BPF_CGROUP_GETSOCKOPT` to a cgroup (kernel 5.7). The link lasts as long
/// as its descriptor or a pin.
pub fn cgroup_attach(program: BorrowedFd, cgroup: BorrowedFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptors are open, and no options are given.
    let fd = check(unsafe {
        libbpf_sys::bpf_link_create(
            program.as_raw_fd(),
            cgroup.as_raw_fd(),
            libbpf_sys::BPF_CGROUP_GETSOCKOPT,
            std::ptr::null(),
        )
    })?;
    // SAFETY: the descriptor was made by the call above and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program into the place of the one that a link has, atomically (kernel 6.6 for TCX,
/// 5.7 for a cgroup).
pub fn link_update(link: BorrowedFd, program: BorrowedFd) -> io::Result<()> {
    // SAFETY: the descriptors are open, and no options are given.
    check(unsafe {
        libbpf_sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), std::ptr::null())
    })
    .map(drop)
}

/// Pins a map, program or link at a path on a bpffs.
pub fn pin(object: BorrowedFd, path: &Path) -> io::Result<()> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), c_path.as_ptr()) }).map(drop)
}

/// Gives up all capabilities of this thread, for good. A process of one thread has none then.
pub fn drop_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: two words for each set.
    const VERSION: u32 = 0x2008_0522;
    let mut header: [u32; 2] = [VERSION, 0];
    let none: [u32; 6] = [0; 6];
    // SAFETY: header and data have the layout of that version, and outlive the call, which reads
    // the data and may write the header's version.
    let result =
        unsafe { nix::libc::syscall(nix::libc::SYS_capset, header.as_mut_ptr(), none.as_ptr()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    nix::sys::prctl::set_no_new_privs().map_err(Into::into)
}

/// Makes sure that a device has a clsact qdisc. Returns whether it had none.
pub fn clsact_create(ifindex: u32) -> io::Result<bool> {
    let mut hook = clsact_hook(ifindex);
    // SAFETY: hook is initialised and outlives the call.
    match check(unsafe { libbpf_sys::bpf_tc_hook_create(&mut hook) }) {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Removes a device's clsact qdisc with all its filters.
pub fn clsact_destroy(ifindex: u32) -> io::Result<()> {
    let mut hook = clsact_hook(ifindex);
    // SAFETY: hook is initialised and outlives the call.
    check(unsafe { libbpf_sys::bpf_tc_hook_destroy(&mut hook) }).map(drop)
}

fn clsact_hook(ifindex: u32) -> libbpf_sys::bpf_tc_hook {
    libbpf_sys::bpf_tc_hook {
        sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
        ifindex: ifindex as i32,
        attach_point: libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS,
        ..Default::default()
    }
}

/// The rules of a table of iptables, as the kernel has them: struct ipt_entry one after the other. The
/// table must be there.
pub fn iptables_entries(table: &str, ipv6: bool) -> io::Result<Vec<u8>> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

    /// From linux/netfilter_ipv4/ip_tables.h, with equal numbers for IPv6: struct ipt_getinfo,
    /// whose last two words are the number of entries and their size, and the head of struct
    /// ipt_get_entries.
    const GET_INFO: i32 = 64;
    const GET_ENTRIES: i32 = 65;
    const NAME: usize = 32;
    const INFO: usize = NAME + 13 * 4;
    const HEAD: usize = NAME + 8;

    let (family, level) = match ipv6 {
        false => (AddressFamily::Inet, nix::libc::SOL_IP),
        true => (AddressFamily::Inet6, nix::libc::SOL_IPV6),
    };
    let socket = socket(
        family,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::Raw,
    )?;
    let ask = |option: i32, buffer: &mut [u8]| {
        let mut len = buffer.len() as nix::libc::socklen_t;
        // SAFETY: the buffer is as long as is said, and outlives the call, which writes into it.
        let result = unsafe {
            let to = buffer.as_mut_ptr().cast();
            nix::libc::getsockopt(socket.as_raw_fd(), level, option, to, &mut len)
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let mut info = [0; INFO];
    info[..table.len()].copy_from_slice(table.as_bytes());
    ask(GET_INFO, &mut info)?;
    let size = info[INFO - 4..].try_into().map_or(0, u32::from_ne_bytes);
    let mut entries = vec![0; HEAD + size as usize];
    entries[..table.len()].copy_from_slice(table.as_bytes());
    entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
    ask(GET_ENTRIES, &mut entries)?;
    Ok(entries.split_off(HEAD))
}
