//! What of ours is attached to the hooks of a network namespace's devices.

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::AsFd;

use libbpf_rs::Link;
use libbpf_rs::query::LinkTypeInfo;

use crate::kernel::attachments::Attachments;
use crate::kernel::clsact;
use crate::kernel::hook::{Hook, Owner, Place};
use crate::kernel::pin_dir::{LinkPin, PinDir};

/// In which way a program is attached to a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    Tcx,
    Clsact { priority: u32 },
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Attached::Tcx => f.write_str("tcx"),
            Attached::Clsact { priority } => write!(f, "clsact, priority {priority}"),
        }
    }
}

/// A hook that a program of ours runs at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub ifindex: u32,
    pub hook: Hook,
    pub attached: Attached,
    /// The program's id.
    pub program: u32,
}

/// The hooks of a network namespace's devices, as one pin directory knows them.
pub struct Hooks<'a> {
    pub owner: Owner,
    pub dir: &'a PinDir,
    pub records: &'a Attachments,
    /// The namespace, by [`crate::kernel::netns::inode`].
    pub netns: u64,
    /// Programs that are ours, by their ids.
    pub ours: Vec<u32>,
}

impl Hooks<'_> {
    /// What of ours is attached to the hook now. A pin whose device is gone counts for nothing.
    pub fn find(&self, ifindex: u32, hook: Hook) -> Option<Running> {
        let running = self.at(self.place(ifindex, hook))?;
        let is_filter = running.attached != Attached::Tcx;
        (!is_filter || self.ours.contains(&running.program)).then_some(running)
    }

    /// All that is attached in this namespace.
    pub fn all(&self) -> Vec<Running> {
        let interfaces = self.records.interfaces();
        interfaces
            .into_iter()
            .flat_map(|ifindex| Hook::BOTH.map(|hook| self.find(ifindex, hook)))
            .flatten()
            .collect()
    }

    /// The interfaces that anything is attached to, by their indexes.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        self.all().iter().map(|running| running.ifindex).collect()
    }

    /// The owner's place at a hook.
    pub(super) fn place(&self, ifindex: u32, hook: Hook) -> Place {
        Place {
            owner: self.owner,
            ifindex,
            hook,
        }
    }

    /// What the other owner has attached that must come before what is at this place, and where.
    pub(super) fn before(&self, place: Place) -> Option<(Place, Attached)> {
        let owner = Owner::first(place.ifindex, place.hook);
        if owner == self.owner {
            return None;
        }
        let first = Place { owner, ..place };
        Some((first, self.at(first)?.attached))
    }

    /// Whether we have made an interface's clsact qdisc.
    pub(super) fn made_qdisc(&self, ifindex: u32) -> bool {
        self.records
            .of_interface(ifindex)
            .any(|record| record.netns == self.netns && record.made_qdisc != 0)
    }

    /// What is recorded of a place, if it is still there. Whose program a filter runs is not checked
    /// here.
    fn at(&self, place: Place) -> Option<Running> {
        let record = self.records.get(place)?;
        if record.netns != self.netns {
            return None;
        }
        let (attached, program) = match record.priority {
            0 => (Attached::Tcx, self.linked(place)?),
            priority => {
                let mut filter = clsact::filter(place, self.records.as_fd(), priority);
                (Attached::Clsact { priority }, filter.query().ok()?)
            }
        };
        Some(Running {
            ifindex: place.ifindex,
            hook: place.hook,
            attached,
            program,
        })
    }

    /// The program of the pinned link.
    fn linked(&self, place: Place) -> Option<u32> {
        let path = self.dir.link_path(LinkPin::Tcx(place));
        if !path.exists() {
            return None;
        }
        let info = Link::open(&path).ok()?.info().ok()?;
        match info.info {
            LinkTypeInfo::Tcx(tcx) if tcx.ifindex == place.ifindex => Some(info.prog_id),
            _ => None,
        }
    }
}
