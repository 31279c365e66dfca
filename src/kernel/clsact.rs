//! Filters at the clsact qdisc, which kernels before TCX have.

use std::io;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHook, TcHookBuilder};
use nix::sys::socket::SockProtocol;

use crate::kernel::hook::{Hook, Place};
use crate::kernel::netlink::Message;
use crate::kernel::sys;

/// `TC_H_CLSACT` of linux/pkt_sched.h, and the handle of a qdisc there.
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;

/// The parent of the hook's filters: `TC_H_CLSACT` and `TC_H_MIN_…` of linux/pkt_sched.h.
fn parent(hook: Hook) -> u32 {
    match hook {
        Hook::Ingress => 0xffff_fff2,
        Hook::Egress => 0xffff_fff3,
    }
}

/// struct tcmsg of linux/rtnetlink.h, in native byte order: family, interface, handle, parent, info.
fn tcmsg(ifindex: u32, handle: u32, parent: u32) -> Vec<u8> {
    [0, ifindex, handle, parent, 0]
        .map(u32::to_ne_bytes)
        .concat()
}

/// Whether a device's hook has any filter, whoever owns it.
fn has_filters(ifindex: u32, hook: Hook) -> io::Result<bool> {
    const RTM_GETTFILTER: u16 = 46;
    let request = Message::listing(RTM_GETTFILTER, &tcmsg(ifindex, 0, parent(hook)));
    Ok(!request.list(SockProtocol::NetlinkRoute)?.is_empty())
}

/// Whether a device has a clsact qdisc, or a qdisc of the kind "ingress", which takes clsact's place.
///
/// # Errors
/// What the kernel answers to a list of qdiscs.
pub fn exists(ifindex: u32) -> io::Result<bool> {
    const RTM_GETQDISC: u16 = 38;
    let qdiscs =
        Message::listing(RTM_GETQDISC, &tcmsg(0, 0, 0)).list(SockProtocol::NetlinkRoute)?;
    let ours = tcmsg(ifindex, CLSACT_HANDLE, CLSACT);
    // All of struct tcmsg but the family in front and the number of users behind.
    Ok(qdiscs
        .iter()
        .any(|qdisc| qdisc.get(4..16) == Some(&ours[4..16])))
}

/// The filter of a place. Any descriptor will do for the program to query or remove the filter.
pub fn filter(place: Place, program: BorrowedFd, priority: u32) -> TcHook {
    let point: TcAttachPoint = match place.hook {
        Hook::Ingress => TC_INGRESS,
        Hook::Egress => TC_EGRESS,
    };
    TcHookBuilder::new(program)
        .ifindex(place.ifindex as i32)
        .handle(place.owner.handle())
        .priority(priority)
        .hook(point)
}

/// Removes the qdisc that we `made` once our last filter is gone, unless others have moved in.
/// Returns whether it went.
///
/// # Errors
/// If the qdisc can't be looked at or removed.
pub fn drop_qdisc(ifindex: u32, made: bool) -> Result<bool> {
    let is_empty = |hook| matches!(has_filters(ifindex, hook), Ok(false));
    let goes = made && exists(ifindex)? && Hook::BOTH.into_iter().all(is_empty);
    if goes {
        sys::clsact_destroy(ifindex)
            .with_context(|| format!("remove the clsact qdisc of interface {ifindex}"))?;
    }
    Ok(goes)
}
