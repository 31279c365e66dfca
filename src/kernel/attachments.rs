//! What is written down of what is attached: `linkerd_attachment_map`.
//!
//! A clsact filter has no handle that could be pinned, and a pinned TCX link tells the index of its
//! device but not the namespace. So what was attached, and in which network namespace, is recorded.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result};
use libbpf_rs::{MapCore, MapFlags, MapHandle};

use crate::abi::{AttachmentKey, AttachmentValue, Layout};
use crate::kernel::hook::{Hook, Owner, Place};
use crate::kernel::maps::ATTACHMENTS;
use crate::kernel::pin_dir::PinDir;

/// The records of a pin directory.
pub struct Attachments(MapHandle);

impl Attachments {
    /// Opens the pinned map.
    ///
    /// # Errors
    /// If the map can't be opened, or is not ours.
    pub fn open(dir: &PinDir) -> Result<Self> {
        Ok(Self(dir.map(ATTACHMENTS)?))
    }

    /// The record of a place.
    pub fn get(&self, place: Place) -> Option<AttachmentValue> {
        let value = self.0.lookup(&key(place), MapFlags::ANY);
        AttachmentValue::read(&mut value.ok()??.as_slice())
    }

    /// What is recorded of both owners' programs on an interface.
    pub fn of_interface(&self, ifindex: u32) -> impl Iterator<Item = AttachmentValue> {
        let of = move |owner| {
            Hook::BOTH.map(|hook| {
                self.get(Place {
                    owner,
                    ifindex,
                    hook,
                })
            })
        };
        Owner::BOTH.into_iter().flat_map(of).flatten()
    }

    /// The interfaces of which there are records, in any namespace.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        self.0
            .keys()
            .filter_map(|key| Some(AttachmentKey::read(&mut key.as_slice())?.ifindex))
            .collect()
    }

    /// The inodes of the network namespaces where filters were attached.
    pub fn filtered_namespaces(&self) -> BTreeSet<u64> {
        self.0
            .keys()
            .filter_map(|key| self.0.lookup(&key, MapFlags::ANY).ok()?)
            .filter_map(|value| AttachmentValue::read(&mut value.as_slice()))
            .filter(|record| record.priority != 0)
            .map(|record| record.netns)
            .collect()
    }

    /// Records what is attached at a place.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn put(&self, place: Place, value: AttachmentValue) -> Result<()> {
        self.0
            .update(&key(place), &value.to_bytes(), MapFlags::ANY)
            .context("record what is attached")
    }

    /// Removes the record of a place, if there is one.
    pub fn remove(&self, place: Place) {
        let _ = self.0.delete(&key(place));
    }
}

impl AsFd for Attachments {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn key(place: Place) -> Vec<u8> {
    AttachmentKey {
        ifindex: place.ifindex,
        egress: 2 * place.owner as u32 + u32::from(place.hook == Hook::Egress),
    }
    .to_bytes()
}
