//! What the servers of plain HTTP have in common: the sidecar's, and the injector's of its own metrics.

pub mod http;
pub mod listen;
pub mod weighted;

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// A runtime that fits the server: one thread, and a small second one while pins are read.
///
/// # Errors
///
/// When the kernel refuses what it is made of.
pub fn runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .thread_stack_size(256 << 10)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
}

/// Waits for SIGTERM or SIGINT.
///
/// # Errors
///
/// When they cannot be listened to.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}
