//! Filters at the clsact qdisc, which kernels before TCX have.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHook, TcHookBuilder};

use crate::kernel::hook::{Hook, Place};
use crate::kernel::sys;

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
    let is_empty = |hook| matches!(sys::clsact_has_filters(ifindex, hook), Ok(false));
    let goes = made && sys::clsact_exists(ifindex)? && Hook::BOTH.into_iter().all(is_empty);
    if goes {
        sys::clsact_destroy(ifindex)
            .with_context(|| format!("remove the clsact qdisc of interface {ifindex}"))?;
    }
    Ok(goes)
}
