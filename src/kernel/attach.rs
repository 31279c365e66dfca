//! Attaching a program to a device's hook, and putting another in its place.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, anyhow};
use libbpf_rs::{ErrorKind, Link};
use nix::errno::Errno;

use crate::abi::AttachmentValue;
use crate::kernel::attached::{Attached, Hooks, Running};
use crate::kernel::clsact;
use crate::kernel::hook::{Hook, Place};
use crate::kernel::interfaces::Interface;
use crate::kernel::options::Way;
use crate::kernel::pin_dir::{LinkPin, LockedPinDir};
use crate::kernel::sys;

/// How many priorities are tried, from the first on: before all others where that is possible,
/// since some end the walk.
const PRIORITIES: u32 = 16;

impl Hooks<'_> {
    /// Attaches a program to the hook, without touching what others have there. The link, if it takes
    /// one, is pinned in `dir`, whose hooks these are.
    ///
    /// # Errors
    /// With what was tried.
    pub fn attach(
        &self,
        dir: &LockedPinDir,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
        way: Way,
    ) -> Result<Attached> {
        let place = self.place(interface.index, hook);
        let what = format!("attach tc {} to {}", hook.name(), interface.name);
        let by_tcx = || {
            self.attach_tcx(dir, place, program)
                .with_context(|| format!("{what} by tcx"))
        };
        let by_clsact = || {
            self.attach_clsact(place, program)
                .with_context(|| format!("{what} by clsact"))
        };
        match way {
            Way::Tcx => by_tcx(),
            Way::Clsact => by_clsact(),
            Way::Auto => match by_tcx() {
                // Older kernels don't know the attach type.
                Err(e) if is(&e, Errno::EINVAL) => by_clsact(),
                result => result,
            },
        }
    }

    /// Puts another program in the place of the one that runs there, without a packet in between
    /// that sees none or both.
    ///
    /// # Errors
    /// If the kernel refuses; then the program that was there goes on.
    pub fn switch(&self, running: &Running, program: BorrowedFd) -> Result<()> {
        let place = self.place(running.ifindex, running.hook);
        let switched = match running.attached {
            Attached::Tcx => Link::open(self.dir.link_path(LinkPin::Tcx(place)))
                .map_err(anyhow::Error::from)
                .and_then(|link| Ok(sys::link_update(link.as_fd(), program)?)),
            Attached::Clsact { priority } => clsact::filter(place, program, priority)
                .replace(true)
                .attach()
                .map(drop)
                .map_err(anyhow::Error::from),
        };
        switched.with_context(|| {
            let Place { ifindex, hook, .. } = place;
            format!(
                "switch programs at tc {} of interface {ifindex}",
                hook.name()
            )
        })
    }

    fn attach_tcx(
        &self,
        dir: &LockedPinDir,
        place: Place,
        program: BorrowedFd,
    ) -> Result<Attached> {
        let pin = LinkPin::Tcx(place);
        // This removes the pin of a device that is gone, or of an earlier sandbox of this pod.
        dir.remove_link(pin);
        // The record is written before the link is made, for what a run that is killed in between
        // has pinned must be known: a program can't be attached twice.
        self.records.put(place, self.record(0, false))?;
        let before = self.link_before(place)?;
        let before = before.as_ref().map(AsFd::as_fd);
        let attached = sys::tcx_attach(program, place.ifindex, place.hook, before)
            .map_err(anyhow::Error::from)
            .and_then(|link| dir.pin_link(pin, link.as_fd()));
        if attached.is_err() {
            self.records.remove(place);
        }
        attached.map(|()| Attached::Tcx)
    }

    /// The link of what must come before, if that has one.
    fn link_before(&self, place: Place) -> Result<Option<Link>> {
        let Some((first, Attached::Tcx)) = self.before(place) else {
            return Ok(None);
        };
        Link::open(self.dir.link_path(LinkPin::Tcx(first)))
            .map(Some)
            .context("open the link of what comes before")
    }

    fn attach_clsact(&self, place: Place, program: BorrowedFd) -> Result<Attached> {
        let Place { ifindex, .. } = place;
        // The qdisc that was made for one hook serves the other hook, too.
        let made = self.made_qdisc(ifindex) || !clsact::exists(ifindex)?;
        let first = match self.before(place) {
            Some((_, Attached::Clsact { priority })) => priority + 1,
            _ => 1,
        };
        // The record is written before the qdisc is made, so that a --detach after a crash in
        // between removes the qdisc.
        self.records.put(place, self.record(first, made))?;
        sys::clsact_create(ifindex).context(
            "make the clsact qdisc (the kernel needs CONFIG_NET_CLS_ACT and sch_ingress)",
        )?;
        let mut added = Err(anyhow!("no priority was tried"));
        for priority in first..first + PRIORITIES {
            self.records.put(place, self.record(priority, made))?;
            added = add_filter(place, program, priority);
            if !added.as_ref().is_err_and(is_taken) {
                break;
            }
        }
        if added.is_err() {
            clsact::drop_qdisc(ifindex, made)?;
            self.records.remove(place);
        }
        added.context("add the filter (the kernel needs cls_bpf)")
    }

    fn record(&self, priority: u32, made_qdisc: bool) -> AttachmentValue {
        AttachmentValue {
            netns: self.netns,
            priority,
            made_qdisc: u32::from(made_qdisc),
        }
    }
}

fn add_filter(place: Place, program: BorrowedFd, priority: u32) -> Result<Attached> {
    clsact::filter(place, program, priority).attach()?;
    Ok(Attached::Clsact { priority })
}

/// Whether another classifier, or somebody's filter with our handle, has the priority that was
/// tried.
fn is_taken(error: &anyhow::Error) -> bool {
    is(error, Errno::EINVAL) || is(error, Errno::EEXIST)
}

/// Whether an error came from this errno.
fn is(error: &anyhow::Error, errno: Errno) -> bool {
    error.chain().any(|cause| {
        let own = cause.downcast_ref::<std::io::Error>();
        let libbpf = cause.downcast_ref::<libbpf_rs::Error>();
        own.and_then(std::io::Error::raw_os_error) == Some(errno as i32)
            || libbpf.is_some_and(|error| match errno {
                Errno::EEXIST => error.kind() == ErrorKind::AlreadyExists,
                Errno::EINVAL => error.kind() == ErrorKind::InvalidInput,
                _ => false,
            })
    })
}
