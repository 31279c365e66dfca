//! The names of pins, which nobody outside of the pin directory knows.

use crate::kernel::hook::{Hook, Owner, Place};

const EPOCH: &str = "linkerd_epoch_";
const REDIRECT: &str = "linkerd_redirect_";
/// The word of why nothing is attached.
pub const FAILURE: &str = "linkerd_failure";
/// The word of what is observed.
pub const OBSERVED: &str = "linkerd_observed";
/// What is added to the name of a pin on its way to becoming that name's.
pub const NEXT: &str = "_next";

/// The note that the loopback accepts local addresses because redirection needs that.
pub const REDIRECT_NOTE: &str = "linkerd_redirect_accept_local";
/// The link of the program that answers SO_ORIGINAL_DST, which goes with the other pinned links.
const ORIGINAL_LINK: &str = "linkerd_redirect_original_link_cgroup";

/// Which pinned link.
#[derive(Clone, Copy, Debug)]
pub enum LinkPin {
    /// The TCX link at a hook.
    Tcx(Place),
    /// The link of the program that answers SO_ORIGINAL_DST in a cgroup.
    Original,
}

impl LinkPin {
    /// The pin of a TCX link has the interface's index: bpffs allows no dot in a name, and the names
    /// of interfaces may have one.
    pub(super) fn name(self) -> String {
        let Self::Tcx(place) = self else {
            return ORIGINAL_LINK.into();
        };
        let prefix = match place.owner {
            Owner::Observer => "linkerd_",
            Owner::Redirect => REDIRECT,
        };
        format!("{prefix}{}_link_{}", place.hook.name(), place.ifindex)
    }
}

/// Whether this is the pin of an owner's link.
pub fn is_link(name: &str, owner: Owner) -> bool {
    name.contains("_link_") && is_redirects(name) == (owner == Owner::Redirect)
}

/// The pin of a program.
pub fn program(hook: Hook) -> String {
    format!("linkerd_{}", hook.name())
}

/// The pin of a program that is about to take the place of [`program`]. Interrupted runs may have
/// left some, and each may run somewhere: `number` tells them apart.
pub fn next_program(hook: Hook, number: u32) -> String {
    format!("{}_{number}{NEXT}", program(hook))
}

/// Whether this is the pin of a program that is about to take another's place.
pub fn is_next_program(name: &str) -> bool {
    let is_of = |hook| name.starts_with(&program(hook));
    name.ends_with(NEXT) && Hook::BOTH.into_iter().any(is_of)
}

/// Whether this is on its way to something else. What redirection has on its way is its own.
pub fn is_next(name: &str) -> bool {
    name.ends_with(NEXT) && !is_redirects(name)
}

/// The pin of an iterator over a map.
pub fn iterator(map: &str) -> String {
    format!("{map}_iter")
}

/// Whether this is the pin of a map.
pub fn is_map(name: &str) -> bool {
    name.ends_with("_map")
}

/// The name of a symbolic link that is about to lead to a pin of another epoch.
pub fn next_pointer() -> String {
    format!("linkerd_map{NEXT}")
}

/// The folder of a set of exported maps and their iterators.
pub fn epoch(number: u32) -> String {
    format!("{EPOCH}{number}")
}

/// The folder in which an epoch is filled, before it becomes visible as a whole.
pub fn next_epoch() -> String {
    format!("{EPOCH}{NEXT}")
}

/// The number of an epoch's folder.
pub fn epoch_number(name: &str) -> Option<u32> {
    name.strip_prefix(EPOCH)?.parse().ok()
}

/// Whether this is the folder of an epoch, or of what is about to be one.
pub fn is_epoch(name: &str) -> bool {
    name.starts_with(EPOCH)
}

/// The folder of the programs that redirect, and of what they are configured by.
pub fn redirect(number: u32) -> String {
    format!("{REDIRECT}{number}")
}

/// The folder in which programs that redirect are pinned, before it becomes visible as a whole.
pub fn next_redirect() -> String {
    format!("{REDIRECT}{NEXT}")
}

/// The number of a folder of programs that redirect.
pub fn redirect_number(name: &str) -> Option<u32> {
    name.strip_prefix(REDIRECT)?.parse().ok()
}

/// Whether this is a pin or folder of redirection.
pub fn is_redirects(name: &str) -> bool {
    name.starts_with(REDIRECT)
}

/// Whether a name in the pin directory is one of ours.
pub fn is_ours(name: &str) -> bool {
    is_epoch(name)
        || is_redirects(name)
        || name == FAILURE
        || name == OBSERVED
        || (name.starts_with("linkerd_")
            && (is_map(name)
                || name.ends_with("_map_iter")
                || name.ends_with(NEXT)
                || Hook::BOTH.iter().any(|&hook| {
                    name == program(hook) || name.starts_with(&format!("{}_link_", program(hook)))
                })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_names_are_ours() {
        for ours in [
            "linkerd_metrics_map",
            "linkerd_metrics_map_iter",
            "linkerd_ingress",
            "linkerd_ingress_3_next",
            "linkerd_egress_link_2",
            "linkerd_epoch_7",
            "linkerd_epoch__next",
            "linkerd_observed",
            "linkerd_redirect_1",
            "linkerd_redirect_map",
            "linkerd_redirect_egress_link_2",
        ] {
            assert!(is_ours(ours), "{ours}");
        }
        for other in ["tc", "cilium_lxc", "linkerd_ingress.old", "metrics_map"] {
            assert!(!is_ours(other), "{other}");
        }
    }
}
