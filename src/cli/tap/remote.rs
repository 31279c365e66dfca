//! tap through the cluster: what tap shows on the pod's node, while it shows that.

#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::SignedDuration;

use super::TapArgs;
use super::show::{Output, is_request};
use crate::cluster::remote;
use crate::kernel::options::name;

/// How long tap runs on the node unless `--duration` says otherwise, so that a command that was
/// killed leaves nothing there.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Shows a pod's requests: those on standard output, on standard error what else is said there.
///
/// # Errors
/// If [`remote::follow`] fails.
pub fn run(pod: &str, args: &TapArgs) -> Result<()> {
    let lifetime = args.duration.unwrap_or(LIFETIME);
    let mut printed = 0;
    let mut last = String::new();
    let mut is_read = true;
    let flags = args.to_args(lifetime);
    remote::follow("tap", pod, &args.remote, flags, lifetime, |line| {
        if !is_request(line) {
            eprintln!("{line}");
            line.clone_into(&mut last);
            return Ok(ControlFlow::Continue(()));
        }
        match writeln!(io::stdout(), "{line}") {
            Ok(()) => printed += 1,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => is_read = false,
            Err(error) => return Err(error).context("write to standard output"),
        }
        Ok(match is_read {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        })
    })?;
    if is_read {
        match shown(&last) {
            Some(shown) if shown > printed => tracing::warn!(
                "{} of them did not come through the log: it is for fewer at a time",
                shown - printed
            ),
            Some(_) => {}
            None => eprintln!("{printed} requests shown; how many were dropped is not known"),
        }
    }
    Ok(())
}

/// How many the last line says that were shown.
fn shown(line: &str) -> Option<u64> {
    line.split_once(" requests shown")?.0.parse().ok()
}

impl TapArgs {
    /// The flags for tap on the node.
    fn to_args(&self, lifetime: Duration) -> Vec<String> {
        let lifetime = SignedDuration::try_from(lifetime).ok();
        let output = (self.output != Output::Default).then(|| name(self.output));
        let flags = [
            ("max", self.max.map(|max| max.to_string())),
            ("duration", lifetime.map(|lifetime| format!("{lifetime:#}"))),
            ("output", output),
        ];
        let given = self.filter.flags().into_iter().chain(flags);
        given
            .filter_map(|(flag, value)| Some(format!("--{flag}={}", value?)))
            .collect()
    }
}
