//! Attaching a program to a device's hook, and finding and removing what was attached.
//!
//! What was attached, and in which network namespace, is written into `linkerd_attachment_map`: a
//! clsact filter has no handle that could be pinned, and a pinned TCX link tells the index of its
//! device but not the namespace.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, anyhow};
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{
    ErrorKind, Link, MapCore, MapFlags, MapHandle, TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHook,
    TcHookBuilder,
};
use nix::errno::Errno;

use crate::abi::{AttachmentKey, AttachmentValue, Layout};
use crate::kernel::hook::{Hook, Owner, Place};
use crate::kernel::netns::Interface;
use crate::kernel::options::Way;
use crate::kernel::pin_dir::{LinkPin, LockedPinDir, PinDir};
use crate::kernel::sys;

/// How many priorities are tried, from the first on: before all others where that is possible,
/// since some end the walk.
const PRIORITIES: u32 = 16;

/// What is attached to a hook of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    Tcx,
    Clsact { priority: u32 },
}

impl std::fmt::Display for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Attached::Tcx => f.write_str("tcx"),
            Attached::Clsact { priority } => write!(f, "clsact, priority {priority}"),
        }
    }
}

/// `linkerd_attachment_map`.
struct Records<'a>(&'a MapHandle);

impl Records<'_> {
    fn key(owner: Owner, ifindex: u32, hook: Hook) -> Vec<u8> {
        AttachmentKey {
            ifindex,
            egress: 2 * owner as u32 + u32::from(hook == Hook::Egress),
        }
        .to_bytes()
    }

    fn get(&self, owner: Owner, ifindex: u32, hook: Hook) -> Option<AttachmentValue> {
        let value = self
            .0
            .lookup(&Self::key(owner, ifindex, hook), MapFlags::ANY);
        AttachmentValue::read(&mut value.ok()??.as_slice())
    }

    /// What is recorded of both owners' programs on an interface.
    fn all(&self, ifindex: u32) -> impl Iterator<Item = AttachmentValue> {
        Owner::BOTH
            .into_iter()
            .flat_map(move |owner| Hook::BOTH.map(|hook| self.get(owner, ifindex, hook)))
            .flatten()
    }

    fn put(&self, owner: Owner, ifindex: u32, hook: Hook, value: AttachmentValue) -> Result<()> {
        let key = Self::key(owner, ifindex, hook);
        self.0
            .update(&key, &value.to_bytes(), MapFlags::ANY)
            .context("record what is attached")
    }

    fn remove(&self, owner: Owner, ifindex: u32, hook: Hook) {
        let _ = self.0.delete(&Self::key(owner, ifindex, hook));
    }

    fn interfaces(&self) -> BTreeSet<u32> {
        self.0
            .keys()
            .filter_map(|key| Some(AttachmentKey::read(&mut key.as_slice())?.ifindex))
            .collect()
    }
}

/// The hooks of a network namespace's devices, as one pin directory knows them.
pub struct Hooks<'a> {
    pub owner: Owner,
    pub dir: &'a PinDir,
    /// `linkerd_attachment_map`
    pub records: &'a MapHandle,
    /// The namespace, by [`crate::kernel::netns::inode`].
    pub netns: u64,
    /// Programs that are ours, by their ids.
    pub ours: Vec<u32>,
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

impl Hooks<'_> {
    /// What of ours is attached to the hook now. A pin whose device is gone counts for nothing.
    pub fn find(&self, ifindex: u32, hook: Hook) -> Option<Running> {
        let running = self.of(self.owner, ifindex, hook)?;
        let is_filter = running.attached != Attached::Tcx;
        (!is_filter || self.ours.contains(&running.program)).then_some(running)
    }

    /// What is recorded of an owner's program at a hook, if it is still there. Whose program a
    /// filter runs is not checked here.
    fn of(&self, owner: Owner, ifindex: u32, hook: Hook) -> Option<Running> {
        let record = Records(self.records).get(owner, ifindex, hook)?;
        if record.netns != self.netns {
            return None;
        }
        let running = |attached, program| Running {
            ifindex,
            hook,
            attached,
            program,
        };
        if record.priority != 0 {
            let priority = record.priority;
            let mut filter = filter(owner, self.records.as_fd(), ifindex, hook, priority);
            return Some(running(Attached::Clsact { priority }, filter.query().ok()?));
        }
        let path = self.dir.link_path(link(owner, ifindex, hook));
        if !path.exists() {
            return None;
        }
        let info = Link::open(&path).ok()?.info().ok()?;
        match info.info {
            LinkTypeInfo::Tcx(tcx) if tcx.ifindex == ifindex => {
                Some(running(Attached::Tcx, info.prog_id))
            }
            _ => None,
        }
    }

    /// What the other owner has attached that must come before ours.
    fn before(&self, ifindex: u32, hook: Hook) -> Option<Attached> {
        let first = Owner::first(ifindex, hook);
        if first == self.owner {
            return None;
        }
        Some(self.of(first, ifindex, hook)?.attached)
    }

    /// All that is attached in this namespace.
    pub fn all(&self) -> Vec<Running> {
        let interfaces = Records(self.records).interfaces();
        interfaces
            .into_iter()
            .flat_map(|ifindex| Hook::BOTH.map(|hook| self.find(ifindex, hook)))
            .flatten()
            .collect()
    }

    /// Puts another program in the place of the one that runs there, without a packet in between
    /// that sees none or both.
    pub fn switch(&self, running: &Running, program: BorrowedFd) -> Result<()> {
        let Running { ifindex, hook, .. } = *running;
        let switched = match running.attached {
            Attached::Tcx => Link::open(self.dir.link_path(link(self.owner, ifindex, hook)))
                .map_err(anyhow::Error::from)
                .and_then(|link| Ok(sys::link_update(link.as_fd(), program)?)),
            Attached::Clsact { priority } => filter(self.owner, program, ifindex, hook, priority)
                .replace(true)
                .attach()
                .map(drop)
                .map_err(anyhow::Error::from),
        };
        switched.with_context(|| {
            let hook = hook.name();
            format!("switch programs at tc {hook} of interface {ifindex}")
        })
    }

    /// Attaches a program to the hook, without touching what others have there. The link, if it takes
    /// one, is pinned in `dir`, whose hooks these are.
    pub fn attach(
        &self,
        dir: &LockedPinDir,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
        way: Way,
    ) -> Result<Attached> {
        let context = || format!("attach tc {} to {}", hook.name(), interface.name);
        if way != Way::Clsact {
            match self.attach_tcx(dir, interface, hook, program) {
                // Older kernels don't know the attach type.
                Err(e) if way == Way::Auto && is(&e, Errno::EINVAL) => {}
                result => return result.with_context(|| format!("{} by tcx", context())),
            }
        }
        self.attach_clsact(interface, hook, program)
            .with_context(|| format!("{} by clsact", context()))
    }

    /// The filter at a hook, to be queried or removed.
    fn filter(&self, ifindex: u32, hook: Hook, priority: u32) -> TcHook {
        // Any descriptor will do to query or remove a filter.
        filter(self.owner, self.records.as_fd(), ifindex, hook, priority)
    }

    fn attach_tcx(
        &self,
        dir: &LockedPinDir,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
    ) -> Result<Attached> {
        let records = Records(self.records);
        let pin = link(self.owner, interface.index, hook);
        // This removes the pin of a device that is gone, or of an earlier sandbox of this pod.
        dir.remove_link(pin);
        let record = AttachmentValue {
            netns: self.netns,
            priority: 0,
            made_qdisc: 0,
        };
        // The record is written before the link is made, for what a run that is killed in between
        // has pinned must be known: a program can't be attached twice.
        records.put(self.owner, interface.index, hook, record)?;
        let before = match self.before(interface.index, hook) {
            Some(Attached::Tcx) => {
                let first = Owner::first(interface.index, hook);
                let path = self.dir.link_path(link(first, interface.index, hook));
                Some(Link::open(path).context("open the link of what comes before")?)
            }
            _ => None,
        };
        let before = before.as_ref().map(AsFd::as_fd);
        let attached = sys::tcx_attach(program, interface.index, hook, before)
            .map_err(anyhow::Error::from)
            .and_then(|link| dir.pin_link(pin, link.as_fd()));
        if attached.is_err() {
            records.remove(self.owner, interface.index, hook);
        }
        attached?;
        Ok(Attached::Tcx)
    }

    fn attach_clsact(
        &self,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
    ) -> Result<Attached> {
        let records = Records(self.records);
        // The qdisc that was made for one hook serves the other hook, too.
        let made_before = records
            .all(interface.index)
            .any(|record| record.netns == self.netns && record.made_qdisc != 0);
        let made = made_before || !sys::clsact_exists(interface.index)?;
        let record = |priority| AttachmentValue {
            netns: self.netns,
            priority,
            made_qdisc: u32::from(made),
        };
        let first = match self.before(interface.index, hook) {
            Some(Attached::Clsact { priority }) => priority + 1,
            _ => 1,
        };
        // The record is written before the qdisc is made, so that a --detach after a crash in
        // between removes the qdisc.
        records.put(self.owner, interface.index, hook, record(first))?;
        sys::clsact_create(interface.index).context(
            "make the clsact qdisc (the kernel needs CONFIG_NET_CLS_ACT and sch_ingress)",
        )?;
        let mut last = anyhow!("no priority was tried");
        for priority in first..first + PRIORITIES {
            records.put(self.owner, interface.index, hook, record(priority))?;
            match filter(self.owner, program, interface.index, hook, priority).attach() {
                Ok(_) => return Ok(Attached::Clsact { priority }),
                Err(e) => last = e.into(),
            }
            // Another classifier, or somebody's filter with our handle, has this priority.
            if !is(&last, Errno::EINVAL) && !is(&last, Errno::EEXIST) {
                break;
            }
        }
        self.drop_clsact(interface.index, made)?;
        records.remove(self.owner, interface.index, hook);
        Err(last).context("add the filter (the kernel needs cls_bpf)")
    }

    /// Detaches exactly what [`Hooks::attach`] has attached. Returns a line for each hook and
    /// qdisc.
    pub fn detach_all(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for (name, path) in self.dir.links(self.owner)? {
            let link = Link::open(&path).with_context(|| format!("open {}", path.display()))?;
            // A link whose device is gone can't be detached any more, and need not be.
            if link.detach().is_ok() {
                done.push(format!("{name}: detached"));
            }
        }
        let records = Records(self.records);
        // The loopback, to which others may lead, comes last.
        for ifindex in records.interfaces().into_iter().rev() {
            let made_qdisc = records
                .all(ifindex)
                .any(|record| record.netns == self.netns && record.made_qdisc != 0);
            for hook in Hook::BOTH {
                let Some(record) = records.get(self.owner, ifindex, hook) else {
                    continue;
                };
                if record.netns != self.netns || record.priority == 0 {
                    continue;
                }
                let mut filter = self.filter(ifindex, hook, record.priority);
                if filter.query().is_ok_and(|id| self.ours.contains(&id)) {
                    filter.detach().with_context(|| {
                        format!("detach tc {} of interface {ifindex}", hook.name())
                    })?;
                    done.push(format!("interface {ifindex} {}: detached", hook.name()));
                }
            }
            if self.drop_clsact(ifindex, made_qdisc)? {
                done.push(format!("interface {ifindex} clsact: removed"));
            }
            // The records go last, so that another try finds what is left.
            for hook in Hook::BOTH {
                records.remove(self.owner, ifindex, hook);
            }
        }
        Ok(done)
    }

    /// A qdisc that we made goes with our last filter, unless others have moved in. Returns
    /// whether it went.
    fn drop_clsact(&self, ifindex: u32, made: bool) -> Result<bool> {
        let is_empty = |hook| matches!(sys::clsact_has_filters(ifindex, hook), Ok(false));
        let goes = made && sys::clsact_exists(ifindex)? && Hook::BOTH.into_iter().all(is_empty);
        if goes {
            sys::clsact_destroy(ifindex)
                .with_context(|| format!("remove the clsact qdisc of interface {ifindex}"))?;
        }
        Ok(goes)
    }
}

fn link(owner: Owner, ifindex: u32, hook: Hook) -> LinkPin {
    LinkPin::Tcx(Place {
        owner,
        ifindex,
        hook,
    })
}

fn filter(owner: Owner, program: BorrowedFd, ifindex: u32, hook: Hook, priority: u32) -> TcHook {
    let point: TcAttachPoint = match hook {
        Hook::Ingress => TC_INGRESS,
        Hook::Egress => TC_EGRESS,
    };
    TcHookBuilder::new(program)
        .ifindex(ifindex as i32)
        .handle(owner.handle())
        .priority(priority)
        .hook(point)
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
