//! What checks have found, in the formats of Linkerd's own `check` (pkg/healthcheck of linkerd2), so
//! that people and the Linkerd CLI read it as they read Linkerd's.

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;

use crate::cluster::client::explain;

/// What the remedies of all checks are described in.
const HINTS: &str = "docs/checks.md#";

/// How to write it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Every check.
    #[value(alias = "basic")]
    Table,
    /// What did not succeed.
    Short,
    /// One object, once all is done.
    Json,
}

/// What is wrong, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It works, but not as it should.
    Warning(String),
    Error(String),
}

/// What a check comes to.
pub type Outcome = Result<(), Problem>;

/// An error of a text.
///
/// # Errors
/// Always.
pub fn error<T>(text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Error(text.into()))
}

/// A warning of a text.
///
/// # Errors
/// Always.
pub fn warning<T>(text: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Warning(text.into()))
}

impl From<anyhow::Error> for Problem {
    fn from(error: anyhow::Error) -> Self {
        Self::Error(format!("{error:#}"))
    }
}

impl From<kube::Error> for Problem {
    fn from(error: kube::Error) -> Self {
        Self::Error(explain(error))
    }
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Warning,
    Error,
}

#[derive(Serialize)]
struct Check {
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    result: Status,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Category {
    category_name: &'static str,
    checks: Vec<Check>,
}

#[derive(Serialize)]
struct Whole<'a> {
    success: bool,
    categories: &'a [Category],
}

/// Takes in checks as they end. Tables are written as they grow, JSON at the end.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    output: Output,
    /// Whether the signs are coloured, as on a terminal.
    color: bool,
    success: bool,
    warned: bool,
    categories: Vec<Category>,
    /// The last category whose heading was written.
    heading: Option<&'static str>,
    written: io::Result<()>,
}

impl<'a> Report<'a> {
    pub fn new(out: &'a mut dyn Write, output: Output, color: bool) -> Self {
        Self {
            out,
            output,
            color,
            success: true,
            warned: false,
            categories: Vec::new(),
            heading: None,
            written: Ok(()),
        }
    }

    /// What is added from here on belongs to this category.
    pub fn category(&mut self, category_name: &'static str) {
        self.categories.push(Category {
            category_name,
            checks: Vec::new(),
        });
    }

    /// Adds a check to the category. `hint` is the section of docs/checks.md that helps. Returns what
    /// the check has found; `None` if that was an error.
    pub fn add<T>(
        &mut self,
        description: impl Into<String>,
        hint: &str,
        outcome: Result<T, Problem>,
    ) -> Option<T> {
        let (found, result, error) = match outcome {
            Ok(found) => (Some(found), Status::Success, None),
            Err(Problem::Warning(text)) => (None, Status::Warning, Some(text)),
            Err(Problem::Error(text)) => (None, Status::Error, Some(text)),
        };
        self.success &= !matches!(result, Status::Error);
        self.warned |= matches!(result, Status::Warning);
        let check = Check {
            description: description.into(),
            hint: error.is_some().then(|| format!("{HINTS}{hint}")),
            error,
            result,
        };
        let is_shown = match self.output {
            Output::Table => true,
            Output::Short => check.error.is_some(),
            Output::Json => false,
        };
        if is_shown && self.written.is_ok() {
            self.written = self.write(&check);
        }
        if let Some(category) = self.categories.last_mut() {
            category.checks.push(check);
        }
        found
    }

    /// Whether no check has failed so far.
    pub fn success(&self) -> bool {
        self.success
    }

    /// Writes what is still to be written, with `line` above the last one. Returns whether all
    /// checks have succeeded, or only warned.
    ///
    /// # Errors
    /// If something could not be written.
    pub fn finish(self, line: Option<&str>) -> io::Result<bool> {
        self.written?;
        if self.output == Output::Json {
            let whole = Whole {
                success: self.success,
                categories: &self.categories,
            };
            serde_json::to_writer_pretty(&mut *self.out, &whole)?;
            writeln!(self.out)?;
            return Ok(self.success);
        }
        if self.output == Output::Table || !self.success || self.warned {
            writeln!(self.out)?;
        }
        if let Some(line) = line {
            writeln!(self.out, "{line}")?;
        }
        let status = match self.success {
            true => Status::Success,
            false => Status::Error,
        };
        let sign = sign(status, self.color);
        writeln!(self.out, "Status check results are {sign}")?;
        Ok(self.success)
    }

    fn write(&mut self, check: &Check) -> io::Result<()> {
        let category = self.categories.last().map(|c| c.category_name);
        if let Some(name) = category
            && self.heading != category
        {
            if self.heading.is_some() {
                writeln!(self.out)?;
            }
            writeln!(self.out, "{name}\n{}", "-".repeat(name.len()))?;
            self.heading = category;
        }
        let sign = sign(check.result, self.color);
        writeln!(self.out, "{sign} {}", check.description)?;
        if let Some(error) = &check.error {
            writeln!(self.out, "    {error}")?;
        }
        if let Some(hint) = &check.hint {
            writeln!(self.out, "    see {hint} for hints")?;
        }
        self.out.flush()
    }
}

fn sign(status: Status, color: bool) -> String {
    let (sign, code) = match status {
        Status::Success => ('√', 32),
        Status::Warning => ('‼', 33),
        Status::Error => ('×', 31),
    };
    match color {
        true => format!("\x1b[{code};1m{sign}\x1b[0m"),
        false => sign.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: Output, color: bool, fill: impl FnOnce(&mut Report)) -> (bool, String) {
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, output, color);
        fill(&mut report);
        let success = report.finish(None).unwrap();
        (success, String::from_utf8(out).unwrap())
    }

    fn all_three(report: &mut Report) {
        report.category("first");
        report.add("is well", "well", Ok(()));
        report.category("second");
        report.add::<()>("is so-so", "so-so", warning("not quite"));
        report.add::<()>("is ill", "ill", error("broken:\nin two"));
    }

    #[test]
    fn as_a_table() {
        let (success, text) = written(Output::Table, false, all_three);
        assert!(!success);
        assert_eq!(
            text,
            "first\n-----\n√ is well\n\nsecond\n------\n‼ is so-so\n    not quite\n    see \
             docs/checks.md#so-so for hints\n× is ill\n    broken:\nin two\n    see \
             docs/checks.md#ill for hints\n\nStatus check results are ×\n"
        );
    }

    #[test]
    fn short_shows_what_is_wrong() {
        let (_, text) = written(Output::Short, false, all_three);
        assert!(text.starts_with("second\n------\n‼ is so-so\n"), "{text}");
        assert!(
            text.ends_with(" for hints\n\nStatus check results are ×\n"),
            "{text}"
        );
        let (success, text) = written(Output::Short, false, |report| {
            report.category("first");
            report.add("is well", "well", Ok(()));
        });
        assert!(success);
        assert_eq!(text, "Status check results are √\n");
    }

    #[test]
    fn a_warning_is_a_success() {
        let (success, text) = written(Output::Short, false, |report| {
            report.category("first");
            report.add::<()>("is so-so", "so-so", warning("not quite"));
        });
        assert!(success);
        assert!(text.ends_with("\n\nStatus check results are √\n"), "{text}");
    }

    #[test]
    fn as_json() {
        let (success, text) = written(Output::Json, false, all_three);
        assert!(!success);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "success": false,
                "categories": [
                    {
                        "categoryName": "first",
                        "checks": [{"description": "is well", "result": "success"}],
                    },
                    {
                        "categoryName": "second",
                        "checks": [
                            {
                                "description": "is so-so",
                                "hint": "docs/checks.md#so-so",
                                "error": "not quite",
                                "result": "warning",
                            },
                            {
                                "description": "is ill",
                                "hint": "docs/checks.md#ill",
                                "error": "broken:\nin two",
                                "result": "error",
                            },
                        ],
                    },
                ],
            })
        );
    }

    #[test]
    fn a_terminal_gets_colours() {
        let (_, text) = written(Output::Table, true, all_three);
        assert!(text.contains("\x1b[32;1m√\x1b[0m is well"), "{text:?}");
    }
}
