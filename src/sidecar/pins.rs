//! The pinned maps as many scrapes at once see them.

use std::{
    path::PathBuf,
    sync::{self, Arc, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{sync::Mutex, task};

use crate::abi::{Counters, Info};
use crate::kernel::maps;
use crate::kernel::options::ReadBy;
use crate::kernel::pin_dir::PinDir;
use crate::read::history::{History, Moment};
use crate::read::prometheus::Reading;
use crate::read::records::Way;
use crate::read::snapshot::{self, Snapshot};
use crate::read::unreadable::Unreadable;

/// When this many snapshots are being sent at once, further scrapes get one that may be [`STALE`]:
/// each snapshot is as large as the maps.
const CROWD: usize = 4;
const STALE: Duration = Duration::from_secs(1);

/// Reads the pins off the reactor, one reading at a time.
pub struct Pins {
    dir: PinDir,
    read: ReadBy,
    /// What earlier readings have found. It is held while the pins are read: a reading goes on when the
    /// scrape that has asked for it is given up, and the next one waits for it.
    history: Arc<sync::Mutex<History>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The snapshots that are still being sent, with when their reading was begun, oldest first.
    sending: Vec<(Instant, Weak<Snapshot>)>,
    /// What the log has said already.
    log: Log,
}

impl Pins {
    /// Of series that do not change it is said that they are idle after `show_idle`, or never if that is 0.
    pub fn new(dir: PinDir, read: ReadBy, show_idle: Duration) -> Self {
        Self {
            dir,
            read,
            history: Arc::new(sync::Mutex::new(History::new(show_idle))),
            state: Mutex::default(),
        }
    }

    /// What the maps hold now. A scrape that has waited for its turn may share a snapshot with
    /// another one, but, except in a [`CROWD`], gets none whose reading was begun before it asked.
    pub async fn read(&self) -> Reading {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(snapshot) = state.shared(asked) {
            return Ok(snapshot);
        }
        let begun = Instant::now();
        let (dir, read) = (self.dir.clone(), self.read);
        let history = self.history.clone();
        let result = off_reactor(move || {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Moment::now();
            let mut snapshot = Snapshot::read(&dir, read)?;
            history.learn(&mut snapshot, now);
            Ok(snapshot)
        })
        .await;
        state.log.result(&result);
        match result {
            Ok(snapshot) => {
                let snapshot = Arc::new(snapshot);
                state.sending.push((begun, Arc::downgrade(&snapshot)));
                Ok(snapshot)
            }
            Err(error) => Err(error.reason()),
        }
    }

    /// Checks that the pins could be read.
    ///
    /// # Errors
    ///
    /// Why the pins can't be read, and what to do about it.
    pub async fn probe(&self) -> Result<(), Unreadable> {
        let (dir, read) = (self.dir.clone(), self.read);
        off_reactor(move || snapshot::probe(&dir, read)).await
    }
}

impl State {
    /// A snapshot of another scrape that is as good as one that is read anew.
    fn shared(&mut self, asked: Instant) -> Option<Arc<Snapshot>> {
        self.sending
            .retain(|(_, snapshot)| snapshot.strong_count() > 0);
        let (begun, snapshot) = self.sending.last()?;
        let crowd = self.sending.len() >= CROWD && begun.elapsed() < STALE;
        (*begun >= asked || crowd).then(|| snapshot.upgrade())?
    }
}

async fn off_reactor<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Unreadable> + Send + 'static,
) -> Result<T, Unreadable> {
    match task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Unreadable::Io {
            path: PathBuf::new(),
            tried: "reading",
            error: error.into(),
        }),
    }
}

/// What the log was last told, so that what does not change is said once.
#[derive(Default)]
struct Log {
    /// Why the pins were not readable last time.
    reason: Option<String>,
    /// The overflow counters of last time.
    overflow: [u64; 4],
    /// The layout of last time.
    layout: u32,
    /// How the maps were read last time.
    way: Option<Way>,
}

impl Log {
    fn result(&mut self, result: &Result<Snapshot, Unreadable>) {
        match result {
            Ok(snapshot) => {
                if self.reason.take().is_some() {
                    tracing::info!("the pinned maps can be read now");
                }
                if self.way.replace(snapshot.way) != Some(snapshot.way) {
                    tracing::info!(read = snapshot.way.label(), "reading the pinned maps");
                }
                let info = &snapshot.info;
                if std::mem::replace(&mut self.layout, info.layout) != info.layout
                    && let Some(line) = info.news()
                {
                    tracing::warn!("{line}");
                }
                if let Some(line) = self.overflow(&snapshot.info, &snapshot.counters) {
                    tracing::warn!("{line}");
                }
            }
            Err(error) => {
                let reason = error.reason();
                if self.reason.as_ref() != Some(&reason) {
                    tracing::warn!("{error}");
                    self.reason = Some(reason);
                }
            }
        }
    }

    /// What to say when maps have overflowed since last time.
    fn overflow(&mut self, info: &Info, counters: &Counters) -> Option<String> {
        let now = [
            (maps::METRICS, counters.metrics_overflow),
            (maps::REQUESTS, counters.requests_overflow),
            (maps::LATENCY, counters.latency_overflow),
            (maps::HANDSHAKE, counters.handshake_overflow),
        ];
        let before = std::mem::replace(&mut self.overflow, now.map(|(_, count)| count));
        let risen: Vec<&str> = now
            .iter()
            .zip(before)
            .filter(|((_, now), before)| now > before)
            .map(|((map, _), _)| *map)
            .collect();
        (!risen.is_empty()).then(|| {
            format!(
                "{} full: what did not fit is counted under other; raise the annotation \
                 linkerd.io/ebpf-metric-map-size (now {})",
                risen.join(", "),
                info.metrics_capacity
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_shared_only_when_as_fresh_or_in_a_crowd() {
        let mut state = State::default();
        let mut kept = Vec::new();
        let before = Instant::now();
        for _ in 1..CROWD {
            let snapshot = Arc::new(Snapshot::default());
            state
                .sending
                .push((Instant::now(), Arc::downgrade(&snapshot)));
            kept.push(snapshot);
            assert!(state.shared(before).is_some());
            assert!(state.shared(Instant::now()).is_none());
        }
        let last = Arc::new(Snapshot::default());
        state.sending.push((Instant::now(), Arc::downgrade(&last)));
        let shared = state.shared(Instant::now()).unwrap();
        assert!(Arc::ptr_eq(&shared, &last));
        drop((kept, last, shared));
        assert!(state.shared(before).is_none());
        assert!(state.sending.is_empty());
    }

    #[test]
    fn overflow_is_said_once_per_rise() {
        let info = Info {
            metrics_capacity: 1024,
            ..Info::default()
        };
        let mut counters = Counters::default();
        let mut log = Log::default();
        assert_eq!(log.overflow(&info, &counters), None);
        counters.metrics_overflow = 3;
        let line = log.overflow(&info, &counters).unwrap();
        assert!(line.contains("linkerd.io/ebpf-metric-map-size (now 1024)"));
        assert!(line.starts_with("linkerd_metrics_map full"));
        assert_eq!(log.overflow(&info, &counters), None);
        counters.requests_overflow = 1;
        counters.handshake_overflow = 1;
        let line = log.overflow(&info, &counters).unwrap();
        assert!(line.starts_with("linkerd_requests_map, linkerd_handshake_map full"));
        // Maps that were made anew begin at zero.
        assert_eq!(log.overflow(&info, &Counters::default()), None);
        counters = Counters {
            metrics_overflow: 1,
            ..Counters::default()
        };
        assert!(log.overflow(&info, &counters).is_some());
    }
}
