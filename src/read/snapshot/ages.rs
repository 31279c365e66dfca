//! What whoever reads again and again knows of the entries of a snapshot: [`crate::read::history`].

use std::time::Duration;

/// Of each entry, by its place in the snapshot's list of that name.
#[derive(Debug, Default)]
pub struct Ages {
    /// When the maps were made.
    pub made: Option<Duration>,
    pub metrics: Vec<Age>,
    pub requests: Vec<Age>,
    pub asked: Vec<Age>,
    pub aborted: Vec<Age>,
    pub latency: Vec<Age>,
    pub handshake: Vec<Age>,
    pub dns: Vec<Age>,
}

/// What is known of one entry. By default it changes, and is of nobody knows when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// A time since the Unix epoch, before all that the entry counts: nothing was counted then.
    pub created: Option<Duration>,
    /// Whether it has not changed for so long that it need not be shown.
    pub is_idle: bool,
}

impl Ages {
    /// How many entries need not be shown.
    pub fn idle(&self) -> usize {
        let requests = [&self.metrics, &self.requests, &self.asked, &self.aborted];
        let further = [&self.latency, &self.handshake, &self.dns];
        let ages = requests.into_iter().chain(further).flatten();
        ages.filter(|age| age.is_idle).count()
    }
}
