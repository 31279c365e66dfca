//! Removing exactly what was attached.

use std::os::fd::AsFd;

use anyhow::{Context, Result};
use libbpf_rs::Link;

use crate::kernel::attached::Hooks;
use crate::kernel::clsact;
use crate::kernel::hook::{Hook, Place};

impl Hooks<'_> {
    /// Detaches exactly what [`Hooks::attach`] has attached. Returns a line for each hook and
    /// qdisc.
    ///
    /// # Errors
    /// With what can't be detached; what is left stays known, for another try.
    pub fn detach_all(&self) -> Result<Vec<String>> {
        let mut done = self.detach_links()?;
        // The loopback, to which others may lead, comes last.
        for ifindex in self.records.interfaces().into_iter().rev() {
            done.extend(self.detach_filters(ifindex)?);
        }
        Ok(done)
    }

    fn detach_links(&self) -> Result<Vec<String>> {
        let mut done = Vec::new();
        for (name, path) in self.dir.links(self.owner)? {
            let link = Link::open(&path).with_context(|| format!("open {}", path.display()))?;
            // A link whose device is gone can't be detached any more, and need not be.
            if link.detach().is_ok() {
                done.push(format!("{name}: detached"));
            }
        }
        Ok(done)
    }

    /// Detaches the filters at an interface, with the qdisc if that was made for them.
    fn detach_filters(&self, ifindex: u32) -> Result<Vec<String>> {
        let places = Hook::BOTH.map(|hook| self.place(ifindex, hook));
        let made_qdisc = self.made_qdisc(ifindex);
        let mut done = Vec::new();
        for place in places {
            if self.detach_filter(place)? {
                done.push(format!(
                    "interface {ifindex} {}: detached",
                    place.hook.name()
                ));
            }
        }
        if clsact::drop_qdisc(ifindex, made_qdisc)? {
            done.push(format!("interface {ifindex} clsact: removed"));
        }
        // The records go last, so that another try finds what is left.
        for place in places {
            self.records.remove(place);
        }
        Ok(done)
    }

    /// Detaches the filter that is recorded of a place, if it runs a program of ours. Returns whether
    /// it did.
    fn detach_filter(&self, place: Place) -> Result<bool> {
        let Some(record) = self.records.get(place) else {
            return Ok(false);
        };
        if record.netns != self.netns || record.priority == 0 {
            return Ok(false);
        }
        let mut filter = clsact::filter(place, self.records.as_fd(), record.priority);
        let is_ours = filter.query().is_ok_and(|id| self.ours.contains(&id));
        if is_ours {
            let Place { ifindex, hook, .. } = place;
            filter
                .detach()
                .with_context(|| format!("detach tc {} of interface {ifindex}", hook.name()))?;
        }
        Ok(is_ours)
    }
}
