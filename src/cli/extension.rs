//! What makes the command line an extension of Linkerd's: `linkerd metricd …` runs
//! `linkerd-metricd …` (EXTENSIONS.md of linkerd2).

use std::ffi::OsString;
use std::io::{self, Write};

use anyhow::Result;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser};
use clap_complete::Shell;

use crate::cluster::client::{self, ClusterArgs};
use crate::cluster::sidecars;

/// What the Linkerd CLI asks for, to learn whether `linkerd check` is to run our `check`: on
/// clusters where there is a namespace with our label, not always.
pub const METADATA: &str = r#"{"name":"linkerd-metricd","checks":"cluster"}"#;

/// Flags that may have a value, as all of Go's may: the Linkerd CLI always gives them one.
const SWITCHES: [&str; 4] = ["--pre", "--ebpf", "--proxy", "--verbose"];

/// The subcommand that ignores flags it does not know: newer Linkerds may pass more of them.
const LENIENT: &str = "check";

/// Parses the command line, or says what is wrong with it and ends the process.
pub fn parse<P: Parser>(args: impl Iterator<Item = OsString>) -> P {
    let mut args: Vec<OsString> = args.filter_map(switch).collect();
    loop {
        let error = match P::try_parse_from(&args) {
            Ok(parsed) => return parsed,
            Err(error) => error,
        };
        match unknown(&args, &error) {
            Some(at) => drop(args.remove(at)),
            None => error.exit(),
        }
    }
}

/// A switch without its value; nothing, if that says no.
fn switch(arg: OsString) -> Option<OsString> {
    let given = arg.to_str().and_then(|arg| arg.split_once('='));
    match given {
        Some((flag, "true")) if SWITCHES.contains(&flag) => Some(flag.into()),
        Some((flag, "false")) if SWITCHES.contains(&flag) => None,
        _ => Some(arg),
    }
}

/// The place of a flag that is to be ignored.
fn unknown(args: &[OsString], error: &clap::Error) -> Option<usize> {
    if error.kind() != ErrorKind::UnknownArgument || args.get(1)? != LENIENT {
        return None;
    }
    let ContextValue::String(flag) = error.get(ContextKind::InvalidArg)? else {
        return None;
    };
    args.iter().position(|arg| {
        let arg = arg.to_string_lossy();
        let rest = arg.strip_prefix(flag.as_str());
        let is_short = flag.len() == 2 && flag.starts_with('-');
        rest.is_some_and(|rest| is_short || rest.is_empty() || rest.starts_with('='))
    })
}

/// Whose version to print, and how.
#[derive(Args, Clone, Debug)]
pub struct VersionOptions {
    /// Print this command line's version only
    #[arg(long)]
    client: bool,

    /// Print the version numbers only
    #[arg(long)]
    short: bool,

    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Prints this version, and the one on the cluster.
///
/// # Errors
/// If it can't be printed. What the cluster does not tell is "unavailable", as Linkerd has it.
pub fn version(options: &VersionOptions) -> Result<()> {
    let mut out = io::stdout().lock();
    let mut print = |what: &str, version: &str| match options.short {
        true => writeln!(out, "{version}"),
        false => writeln!(out, "{what} version: {version}"),
    };
    print("Client", env!("CARGO_PKG_VERSION"))?;
    if options.client {
        return Ok(());
    }
    let asked = client::block_on(async {
        let client = options.cluster.client().await?;
        sidecars::version(&client).await
    })?;
    let version = asked.unwrap_or_else(|error| {
        tracing::warn!("{error:#}");
        "unavailable".into()
    });
    print("Server", &version)?;
    Ok(())
}

/// Prints what a shell reads to complete the command line.
///
/// # Errors
/// If it can't be printed.
pub fn complete<P: CommandFactory>(shell: Shell) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut P::command(), "linkerd-metricd", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Subcommand;

    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Subcommand)]
    enum Command {
        Check {
            #[arg(long, short)]
            output: Option<String>,
            #[arg(long)]
            proxy: bool,
        },
        Other,
    }

    fn cli(words: &str) -> Cli {
        parse(words.split(' ').map(OsString::from))
    }

    #[test]
    fn check_ignores_what_it_does_not_know() {
        for words in [
            "x check --output=json",
            "x check --new=1 --output=json",
            "x check --output=json --newer value",
            "x check -q --output=json",
            "x check -qr --new --new --output=json",
        ] {
            let Command::Check { output, .. } = cli(words).command else {
                panic!("{words}");
            };
            assert_eq!(output.as_deref(), Some("json"), "{words}");
        }
    }

    #[test]
    fn switches_may_have_values() {
        for (words, expected) in [
            ("x check", false),
            ("x check --proxy", true),
            ("x check --proxy=true", true),
            ("x check --proxy=false", false),
        ] {
            let Command::Check { proxy, .. } = cli(words).command else {
                panic!("{words}");
            };
            assert_eq!(proxy, expected, "{words}");
        }
    }

    #[test]
    fn others_do_not() {
        let args: Vec<OsString> = ["x", "other", "--new"].map(OsString::from).into();
        let error = Cli::try_parse_from(&args).err().unwrap();
        assert_eq!(unknown(&args, &error), None);
        assert!(matches!(cli("x other").command, Command::Other));
    }
}
