//! Attaching a program to a device's hook, and finding and removing what was attached.
//!
//! What was attached, and in which network namespace, is written into `linkerd_attachment_map`: a
//! clsact filter has no handle that could be pinned, and a pinned TCX link tells the index of its
//! device but not the namespace.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use libbpf_rs::query::LinkTypeInfo;
use libbpf_rs::{
    Link, MapCore, MapFlags, MapHandle, Program, TC_EGRESS, TC_INGRESS, TcAttachPoint, TcHook,
    TcHookBuilder,
};
use nix::errno::Errno;

use crate::abi::{AttachmentKey, AttachmentValue, Layout};
use crate::netns::Interface;
use crate::options::Way;
use crate::pins;
use crate::sys::{self, Hook};

/// The filter's handle: "mt". The priority is the first that takes it.
const HANDLE: u32 = 0x6d74;
/// Before all others where that is possible, since some end the walk.
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=16;

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
    fn key(ifindex: u32, hook: Hook) -> Vec<u8> {
        AttachmentKey {
            ifindex,
            egress: u32::from(hook == Hook::Egress),
        }
        .to_bytes()
    }

    fn get(&self, ifindex: u32, hook: Hook) -> Option<AttachmentValue> {
        let value = self.0.lookup(&Self::key(ifindex, hook), MapFlags::ANY);
        AttachmentValue::read(&mut value.ok()??.as_slice())
    }

    fn put(&self, ifindex: u32, hook: Hook, value: AttachmentValue) -> Result<()> {
        self.0
            .update(&Self::key(ifindex, hook), &value.to_bytes(), MapFlags::ANY)
            .context("record what is attached")
    }

    fn remove(&self, ifindex: u32, hook: Hook) {
        let _ = self.0.delete(&Self::key(ifindex, hook));
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
    pub pin_dir: &'a Path,
    /// `linkerd_attachment_map`
    pub records: &'a MapHandle,
    /// The namespace, by [`crate::netns::inode`].
    pub netns: u64,
}

impl Hooks<'_> {
    /// What of ours is attached to the hook now. A pin whose device is gone counts for nothing.
    pub fn find(&self, interface: &Interface, hook: Hook, program: BorrowedFd) -> Option<Attached> {
        let record = Records(self.records).get(interface.index, hook)?;
        if record.netns != self.netns {
            return None;
        }
        if record.priority != 0 {
            let priority = record.priority;
            let mut filter = filter(program, interface.index, hook, priority);
            let found = filter.query().ok() == Program::id_from_fd(program).ok();
            return found.then_some(Attached::Clsact { priority });
        }
        let path = self.pin_dir.join(pins::link(hook, interface.index));
        if !path.exists() {
            return None;
        }
        match Link::open(&path).ok()?.info().ok()?.info {
            LinkTypeInfo::Tcx(tcx) if tcx.ifindex == interface.index => Some(Attached::Tcx),
            _ => None,
        }
    }

    /// Attaches a program to the hook, without touching what others have there.
    pub fn attach(
        &self,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
        way: Way,
    ) -> Result<Attached> {
        let context = || format!("attach tc {} to {}", hook.name(), interface.name);
        if way != Way::Clsact {
            match self.attach_tcx(interface, hook, program) {
                // Older kernels don't know the attach type.
                Err(e) if way == Way::Auto && is(&e, Errno::EINVAL) => {}
                result => return result.with_context(|| format!("{} by tcx", context())),
            }
        }
        self.attach_clsact(interface, hook, program)
            .with_context(|| format!("{} by clsact", context()))
    }

    fn attach_tcx(
        &self,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
    ) -> Result<Attached> {
        let path = self.pin_dir.join(pins::link(hook, interface.index));
        let link = sys::tcx_attach(program, interface.index, hook)?;
        // A pin of a device that is gone, or of an earlier sandbox of the same pod.
        let _ = fs::remove_file(&path);
        sys::pin(std::os::fd::AsFd::as_fd(&link), &path)
            .with_context(|| format!("pin the link as {}", path.display()))?;
        let record = AttachmentValue {
            netns: self.netns,
            priority: 0,
            made_qdisc: 0,
        };
        Records(self.records).put(interface.index, hook, record)?;
        Ok(Attached::Tcx)
    }

    fn attach_clsact(
        &self,
        interface: &Interface,
        hook: Hook,
        program: BorrowedFd,
    ) -> Result<Attached> {
        let records = Records(self.records);
        let made = sys::clsact_create(interface.index).context(
            "make the clsact qdisc (the kernel needs CONFIG_NET_CLS_ACT and sch_ingress)",
        )?;
        // Made for the one hook, it is also the other's.
        let made = made
            || Hook::BOTH
                .iter()
                .filter_map(|&h| records.get(interface.index, h))
                .any(|record| record.netns == self.netns && record.made_qdisc != 0);
        let mut last = anyhow!("no priority was tried");
        for priority in PRIORITIES {
            // Before the filter, so that a --detach after a crash in between finds it.
            let record = AttachmentValue {
                netns: self.netns,
                priority,
                made_qdisc: u32::from(made),
            };
            records.put(interface.index, hook, record)?;
            match filter(program, interface.index, hook, priority).attach() {
                Ok(_) => return Ok(Attached::Clsact { priority }),
                Err(e) => last = e.into(),
            }
            // Another classifier, or somebody's filter of the same handle, has this priority.
            if !is(&last, Errno::EINVAL) && !is(&last, Errno::EEXIST) {
                break;
            }
        }
        records.remove(interface.index, hook);
        Err(last).context("add the filter (the kernel needs cls_bpf)")
    }

    /// Detaches exactly what [`Hooks::attach`] has attached. Returns a line for each.
    pub fn detach_all(&self, programs: &[(Hook, BorrowedFd)]) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for entry in fs::read_dir(self.pin_dir)
            .with_context(|| format!("list pin directory {}", self.pin_dir.display()))?
        {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                continue;
            };
            if !name.contains("_link_") || !pins::is_ours(name) {
                continue;
            }
            let link = Link::open(&path).with_context(|| format!("open {}", path.display()))?;
            // A link whose device is gone can't be detached any more, and need not be.
            if link.detach().is_ok() {
                done.push(format!("{name}: detached"));
            }
        }
        let records = Records(self.records);
        for ifindex in records.interfaces() {
            let mut made_qdisc = false;
            for &(hook, program) in programs {
                let Some(record) = records.get(ifindex, hook) else {
                    continue;
                };
                if record.netns != self.netns || record.priority == 0 {
                    continue;
                }
                made_qdisc |= record.made_qdisc != 0;
                let mut filter = filter(program, ifindex, hook, record.priority);
                if filter.query().ok() == Program::id_from_fd(program).ok() {
                    filter.detach().with_context(|| {
                        format!("detach tc {} of interface {ifindex}", hook.name())
                    })?;
                    done.push(format!("interface {ifindex} {}: detached", hook.name()));
                }
                records.remove(ifindex, hook);
            }
            // A qdisc that we made goes with our last filter, unless others have moved in.
            let empty = Hook::BOTH
                .iter()
                .all(|&hook| matches!(sys::clsact_has_filters(ifindex, hook), Ok(false)));
            if made_qdisc && empty {
                sys::clsact_destroy(ifindex)
                    .with_context(|| format!("remove the clsact qdisc of interface {ifindex}"))?;
                done.push(format!("interface {ifindex} clsact: removed"));
            }
        }
        Ok(done)
    }
}

fn filter(program: BorrowedFd, ifindex: u32, hook: Hook, priority: u32) -> TcHook {
    let point: TcAttachPoint = match hook {
        Hook::Ingress => TC_INGRESS,
        Hook::Egress => TC_EGRESS,
    };
    TcHookBuilder::new(program)
        .ifindex(ifindex as i32)
        .handle(HANDLE)
        .priority(priority)
        .hook(point)
}

/// Whether an error came from this errno.
fn is(error: &anyhow::Error, errno: Errno) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
            == Some(errno as i32)
    })
}
