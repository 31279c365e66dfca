//! What a proxy calls.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::Request;
use crate::error::{Error, FILE, SLOTS};
use crate::layout::MAX_SLOTS;
use crate::place::Open;

/// How many series a new file has room for if [`SLOTS`] is not set.
pub const DEFAULT_SLOTS: usize = 1024;

/// How often [`Recorder::run_sync_loop`] looks.
const SYNC_EVERY: Duration = Duration::from_secs(2);

/// Adds requests up where the sidecar reads them. Clones share one recorder.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    /// `None` records nothing, ever.
    path: Option<PathBuf>,
    slots: usize,
    open: ArcSwapOption<Open>,
    /// Requests that came while nothing was open.
    missed: AtomicU64,
}

impl Recorder {
    /// Opens a file, or makes one with room for `slots` series (1 to 65,536, 336 bytes each).
    ///
    /// # Errors
    ///
    /// If there is nothing to record into: with what to do about it.
    pub fn open(path: impl Into<PathBuf>, slots: usize) -> Result<Self, Error> {
        let recorder = Self::waiting(path.into(), slots)?;
        recorder.sync()?;
        Ok(recorder)
    }

    /// Opens or makes the file that METRICD_L7_FILE and METRICD_L7_SLOTS name. A proxy goes on if
    /// that fails: what is wrong is logged, and [`Self::run_sync_loop`] tries again.
    pub fn from_env() -> Self {
        match Self::try_from_env() {
            Ok(recorder) => recorder,
            Err(error) => {
                tracing::warn!("requests are not recorded: {error}");
                Self::disabled()
            }
        }
    }

    fn try_from_env() -> Result<Self, Error> {
        let Some(path) = env::var_os(FILE) else {
            return Err(Error::Unset);
        };
        let slots = match env::var(SLOTS) {
            Ok(slots) => match slots.parse() {
                Ok(number) => number,
                Err(_) => return Err(Error::NoNumber { slots }),
            },
            Err(_) => DEFAULT_SLOTS,
        };
        let recorder = Self::waiting(path.into(), slots)?;
        if let Err(error) = recorder.sync() {
            tracing::warn!("requests are not recorded yet: {error}");
        }
        Ok(recorder)
    }

    /// A recorder that records nothing.
    pub fn disabled() -> Self {
        Self(Arc::new(Inner {
            path: None,
            slots: 0,
            open: ArcSwapOption::empty(),
            missed: AtomicU64::new(0),
        }))
    }

    fn waiting(path: PathBuf, slots: usize) -> Result<Self, Error> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(Error::Slots { slots });
        }
        Ok(Self(Arc::new(Inner {
            path: Some(path),
            slots,
            open: ArcSwapOption::empty(),
            missed: AtomicU64::new(0),
        })))
    }

    /// Counts a request that has ended. This takes no lock, allocates nothing, does not wait, and
    /// is done on return: there is nothing to flush.
    pub fn record(&self, request: &Request) {
        match &*self.0.open.load() {
            Some(open) if !open.table.is_lost() => open.table.add(request),
            _ => drop(self.0.missed.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether requests are recorded at the moment.
    pub fn is_recording(&self) -> bool {
        let open = self.0.open.load();
        open.as_ref().is_some_and(|open| !open.table.is_lost())
    }

    /// Opens what there is to record into if nothing is open, or if another file has taken its place,
    /// and says there how many requests were missed.
    ///
    /// # Errors
    ///
    /// If there is nothing to record into. Requests are then counted as missed, until there is a
    /// table.
    pub fn sync(&self) -> Result<(), Error> {
        let Some(path) = &self.0.path else {
            return Ok(());
        };
        let open = match self.0.open.load_full() {
            Some(open) if open.is_at(path) => open,
            _ => {
                let opened = Open::at(path, self.0.slots).map(Arc::new);
                self.0.open.store(opened.as_ref().ok().cloned());
                opened?
            }
        };
        match self.0.missed.swap(0, Ordering::Relaxed) {
            0 => {}
            missed => open.table.add_missed(missed),
        }
        Ok(())
    }

    /// Does [`Self::sync`] again and again on a thread of its own, which ends with the process. What is
    /// recorded is shared memory and needs no sending; this is for files that come later, or are
    /// replaced.
    ///
    /// # Errors
    /// If the thread can't be had.
    pub fn sync_in_background(&self) -> Result<(), Error> {
        let Some(path) = self.0.path.clone() else {
            return Ok(());
        };
        let recorder = self.clone();
        let thread = thread::Builder::new().name("metricd-l7".into());
        let started = thread.spawn(move || {
            let mut was = recorder.is_recording();
            loop {
                thread::sleep(SYNC_EVERY);
                was = recorder.look(was);
            }
        });
        let tried = "start a thread that looks after";
        match started {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::Io { tried, path, error }),
        }
    }

    /// Does [`Self::sync`] again and again, for a task of its own. Opening files may wait for a
    /// disk, so files are opened where the runtime lets tasks block, and never on the runtime's own
    /// threads.
    #[cfg(feature = "tokio")]
    pub async fn run_sync_loop(self) {
        if self.0.path.is_none() {
            return;
        }
        let mut ticks = tokio::time::interval(SYNC_EVERY);
        let mut was = self.is_recording();
        loop {
            ticks.tick().await;
            let recorder = self.clone();
            match tokio::task::spawn_blocking(move || recorder.look(was)).await {
                Ok(is) => was = is,
                // The runtime has ended.
                Err(_) => return,
            }
        }
    }

    /// Looks once whether there is something to record into, and logs what has changed since it was or
    /// was not recording. Returns whether it is now.
    fn look(&self, was: bool) -> bool {
        match self.sync() {
            Ok(()) if !was => tracing::info!("requests are recorded"),
            Err(error) if was => tracing::warn!("requests are not recorded: {error}"),
            _ => {}
        }
        self.is_recording()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;
    use crate::{Protocol, Snapshot};

    fn request(status: u16) -> Request {
        Request {
            src: "10.1.0.1".parse().unwrap(),
            dst: "10.1.0.2:80".parse().unwrap(),
            protocol: Protocol::Http1,
            status,
            grpc_status: None,
            duration: Duration::from_millis(1),
            sent: 1,
            received: 2,
        }
    }

    fn total(snapshot: &Snapshot) -> u64 {
        snapshot.series.iter().map(|series| series.requests).sum()
    }

    #[test]
    fn it_goes_on_where_another_has_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        for round in 1..=3 {
            // The size is the first one's to say.
            let recorder = Recorder::open(&path, 10 * round).unwrap();
            recorder.record(&request(200));
            let snapshot = Snapshot::read(&path).unwrap();
            assert_eq!(total(&snapshot), round as u64);
            assert_eq!(snapshot.slots, 10);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn all_who_make_it_at_once_have_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| Recorder::open(&path, 100).unwrap().record(&request(200)));
            }
        });
        assert_eq!(total(&Snapshot::read(&path).unwrap()), 16);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_comes_before_there_is_a_folder_is_counted_as_missed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume/l7");
        let error = Recorder::open(&path, 10).err().unwrap().to_string();
        assert!(error.contains("there is no folder"), "{error}");
        assert!(
            error.ends_with("mount the volume that metricd reads"),
            "{error}"
        );
        let recorder = Recorder::waiting(path.clone(), 10).unwrap();
        for _ in 0..3 {
            recorder.record(&request(200));
            recorder.sync().unwrap_err();
        }
        assert!(!recorder.is_recording());
        fs::create_dir(folder.path().join("volume")).unwrap();
        recorder.sync().unwrap();
        recorder.record(&request(200));
        recorder.sync().unwrap();
        let snapshot = Snapshot::read(&path).unwrap();
        assert_eq!((total(&snapshot), snapshot.missed), (1, 3));
    }

    #[test]
    fn a_file_that_is_replaced_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        let recorder = Recorder::open(&path, 10).unwrap();
        recorder.record(&request(200));
        fs::remove_file(&path).unwrap();
        recorder.sync().unwrap();
        recorder.record(&request(404));
        let snapshot = Snapshot::read(&path).unwrap();
        assert_eq!(snapshot.series[0].key.unwrap().status, 404);
        assert_eq!(total(&snapshot), 1);
        fs::rename(&path, folder.path().join("other")).unwrap();
        Recorder::open(&path, 10).unwrap().record(&request(503));
        recorder.sync().unwrap();
        recorder.record(&request(503));
        assert_eq!(total(&Snapshot::read(&path).unwrap()), 2);
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn the_loop_finds_what_comes_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume/l7");
        let recorder = Recorder::waiting(path.clone(), 10).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            tokio::spawn(recorder.clone().run_sync_loop());
            tokio::task::yield_now().await;
            assert!(!recorder.is_recording());
            fs::create_dir(folder.path().join("volume")).unwrap();
            let mut waited = 0;
            while !recorder.is_recording() && waited < 200 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                waited += 1;
            }
            assert!(recorder.is_recording());
            // There is nothing for it to do, ever.
            Recorder::disabled().run_sync_loop().await;
        });
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l7");
        let file = folder.path().join("good");
        Recorder::open(&file, 10).unwrap();
        let good = fs::read(&file).unwrap();
        let mut other_version = good.clone();
        other_version[8] += 1;
        for (content, problem) in [
            (&b"precious"[..], "is too short for a table"),
            (&[b'x'; 5000], "is not a table"),
            (&good[..good.len() - 8], "is a damaged table"),
            (&other_version, "of version 2"),
        ] {
            fs::write(&path, content).unwrap();
            let error = Recorder::open(&path, 10).err().unwrap().to_string();
            assert!(error.contains(problem), "{error}");
            let reason = Snapshot::read(&path).unwrap_err().reason();
            assert!(reason.contains(problem), "{reason}");
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(Recorder::open(&path, 10).is_err());
        let reason = Snapshot::read(&path).unwrap_err().reason();
        assert_eq!(reason, "the proxy's file is not a file");
        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let reason = Snapshot::read(&pipe).unwrap_err().reason();
        assert_eq!(reason, "the proxy's file is not a file");
        let reason = Snapshot::read(&folder.path().join("none"))
            .unwrap_err()
            .reason();
        assert_eq!(reason, "no proxy has recorded anything yet");
    }

    #[test]
    fn sizes_that_can_not_be() {
        for slots in [0, MAX_SLOTS + 1] {
            let error = Recorder::open("/nowhere/l7", slots)
                .err()
                .unwrap()
                .to_string();
            assert!(error.contains("1 to 65536 are"), "{error}");
        }
    }
}
