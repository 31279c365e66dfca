//! `linkerd-metricd diagnose`: whether the pipeline of a pod is whole.

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use tokio::time;

use super::source::{Source, SourceArgs};
use super::stat::Output;
use crate::cluster::client;
use crate::duration::duration;
use crate::read::diagnose::{BETWEEN, Diagnosis, Level, Tally, diagnose};
use crate::read::samples;

/// Whom to ask.
#[derive(Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    pub source: SourceArgs,

    /// Between the two scrapes that are compared: longer than a request takes [default: 1s]
    #[arg(long, short, value_name = "DURATION", value_parser = duration)]
    window: Option<Duration>,

    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Scrapes twice. Returns what there is to say, and whether all is well.
///
/// # Errors
/// If the source does not answer.
pub fn run(options: &Options) -> Result<(String, bool)> {
    let diagnosis = client::block_on(async {
        let source = options.source.open().await?;
        let first = tally(&source).await?;
        time::sleep(options.window.unwrap_or(BETWEEN)).await;
        let second = tally(&source).await?;
        Ok::<_, anyhow::Error>(diagnose(&first, &second))
    })??;
    let text = match options.output {
        Output::Table => list(&diagnosis),
        Output::Json => serde_json::to_string_pretty(&diagnosis)? + "\n",
    };
    Ok((text, diagnosis.whole))
}

async fn tally(source: &Source) -> Result<Tally> {
    let mut tally = Tally::default();
    let text = source.scrape().await?;
    samples::each(&text, |sample| tally.add(sample)).map_err(|e| e.context(source.name.clone()))?;
    Ok(tally)
}

/// The diagnosis as a list, with the signs of `check`.
fn list(diagnosis: &Diagnosis) -> String {
    let lines = diagnosis.findings.iter().map(|finding| {
        let sign = match finding.level {
            Level::Ok => "√",
            Level::Note => "‼",
            Level::Unsure => "?",
            Level::Lost => "×",
        };
        format!("{sign} {}\n    {}\n", finding.text, finding.subject)
    });
    let lines: String = lines.collect();
    format!("{lines}\n{}\n", diagnosis.verdict)
}
