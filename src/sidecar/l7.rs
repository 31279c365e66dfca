//! What a proxy of this pod has recorded.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use tokio::task;

use crate::kernel::options::ReadBy;
use crate::read::prometheus::Proxied;
use crate::read::proxy;

/// Reads the proxy's file off the reactor.
pub struct Proxy {
    file: Option<PathBuf>,
    read: ReadBy,
    /// Why the file was not readable last time, which is logged once.
    reason: Mutex<Option<String>>,
}

impl Proxy {
    pub fn new(file: Option<PathBuf>, read: ReadBy) -> Self {
        Self {
            file,
            read,
            reason: Mutex::default(),
        }
    }

    /// What the file holds now.
    pub async fn read(&self) -> Proxied {
        let (file, read) = (self.file.clone()?, self.read);
        let result = match task::spawn_blocking(move || proxy::read(&file, read)).await {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(error)) => Err((error.reason(), error.to_string())),
            Err(error) => Err(("reading the proxy's file failed".into(), error.to_string())),
        };
        let mut last = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match result {
            Ok(snapshot) => {
                if last.take().is_some() {
                    tracing::info!("what the proxy records can be read now");
                }
                Ok(snapshot)
            }
            Err((reason, line)) => {
                if last.as_ref() != Some(&reason) {
                    tracing::warn!("{line}");
                    *last = Some(reason.clone());
                }
                Err(reason)
            }
        })
    }
}
