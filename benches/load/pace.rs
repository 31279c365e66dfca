//! When requests are to start: at a fixed rate, whether those before were answered or not.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc::UnboundedSender;

/// Gives the workers in turn the moments at which their requests are to start, `rate` a second for
/// `length` in all. A worker that is late finds them in its queue: latencies are counted from these
/// moments, so that they grow (no coordinated omission).
pub async fn pace(rate: u32, length: Duration, workers: &[UnboundedSender<Instant>]) -> Result<()> {
    let requests = (f64::from(rate) * length.as_secs_f64()) as u64;
    let interval = Duration::from_secs(1) / rate;
    let start = Instant::now();
    let mut timer = every(interval)?;
    let mut workers = workers.iter().cycle();
    let mut due = 0;
    for number in 1..=requests {
        while due < number {
            let mut expirations = [0; 8];
            timer.read_exact(&mut expirations).await?;
            due += u64::from_ne_bytes(expirations);
        }
        let intended = start + interval * u32::try_from(number)?;
        // A worker that is gone has failed, and its error ends the run.
        let _ = workers.next().context("no worker")?.send(intended);
    }
    Ok(())
}

/// Says how often it has expired when it is read. tokio's own timers wake up at whole milliseconds.
fn every(interval: Duration) -> Result<Receiver> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).context("make a timer")?;
    let expiration = Expiration::Interval(TimeSpec::from_duration(interval));
    timer
        .set(expiration, TimerSetTimeFlags::empty())
        .context("set a timer")?;
    // Like a pipe: a file that is waited for and read.
    Ok(Receiver::from_owned_fd_unchecked(timer.into())?)
}
