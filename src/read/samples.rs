//! Prometheus' text format (version 0.0.4), one sample after the other.
//!
//! Nothing is kept: a scrape of 100,000 lines takes no more memory than what is made of it.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use anyhow::{Context, Result, bail};

/// One line of the text format, or what would be one.
#[derive(Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub value: f64,
}

impl<'a> Sample<'a> {
    pub fn new(
        name: &'a str,
        labels: impl Iterator<Item = (&'a str, &'a str)>,
        value: f64,
    ) -> Self {
        Self {
            name,
            labels: labels.map(|(name, value)| (name, value.into())).collect(),
            value,
        }
    }

    /// The value of a label; empty, if the sample does not have the label.
    pub fn label(&self, name: &str) -> &str {
        let mut labels = self.labels.iter();
        labels
            .find(|(of, _)| *of == name)
            .map_or("", |(_, value)| value)
    }

    /// The sample of a line, which may end with a timestamp; none, if it is empty or a comment.
    fn parse(line: &'a str) -> Result<Option<Self>> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let end = line
            .find(|c: char| c == '{' || c.is_whitespace())
            .context("a name, and nothing behind it")?;
        let (name, rest) = line.split_at(end);
        let mut labels = Vec::new();
        let rest = match rest.strip_prefix('{') {
            Some(rest) => parse_labels(rest, &mut labels)?,
            None => rest,
        };
        let value = rest.split_whitespace().next().context("no value")?;
        let value = value
            .parse()
            .with_context(|| format!("the value {value} is no number"))?;
        Ok(Some(Self {
            name,
            labels,
            value,
        }))
    }
}

/// Calls `take` with each sample of a text.
///
/// # Errors
/// With the number of the line, if a line is not in the text format.
pub fn each(text: &str, mut take: impl FnMut(&Sample)) -> Result<()> {
    for (number, line) in text.lines().enumerate() {
        let sample = Sample::parse(line)
            .with_context(|| format!("line {} is not Prometheus' text format", number + 1))?;
        sample.iter().for_each(&mut take);
    }
    Ok(())
}

/// Takes `name="value",…}` off the front.
fn parse_labels<'a>(
    mut rest: &'a str,
    labels: &mut Vec<(&'a str, Cow<'a, str>)>,
) -> Result<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok(rest);
        }
        let (name, quoted) = rest.split_once("=\"").context("a label without a value")?;
        let (value, after) = unquote(quoted)?;
        labels.push((name.trim(), value));
        rest = after;
    }
}

/// What stands before the closing quote, unescaped, and what stands behind the quote.
fn unquote(text: &str) -> Result<(Cow<'_, str>, &str)> {
    let end = text
        .find(['"', '\\'])
        .context("a label's value has no end")?;
    if text.as_bytes()[end] == b'"' {
        return Ok((text[..end].into(), &text[end + 1..]));
    }
    let mut value = text[..end].to_owned();
    let mut rest = text[end..].char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => return Ok((value.into(), &text[end + at + 1..])),
            '\\' => match rest.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            c => value.push(c),
        }
    }
    bail!("a label's value has no end")
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::{Encoder, GaugeVec, Opts, Registry, TextEncoder};
    use proptest::prelude::*;

    #[test]
    fn all_that_a_line_can_be() {
        let sample = |line| Sample::parse(line).unwrap().unwrap();
        let plain = sample("up 1");
        assert_eq!((plain.name, plain.value), ("up", 1.0));
        assert_eq!(plain.label("x"), "");
        let full = sample(r#"a{b="/users/{id}",c="q\"\\\n",} +Inf 1700000000000"#);
        assert_eq!(full.label("b"), "/users/{id}");
        assert_eq!(full.label("c"), "q\"\\\n");
        assert_eq!(full.value, f64::INFINITY);
        assert!(sample("a{} NaN").value.is_nan());
        for none in ["", "  ", "# HELP a b", "#"] {
            assert_eq!(Sample::parse(none).unwrap(), None);
        }
    }

    #[test]
    fn what_is_none_says_where() {
        for (bad, why) in [
            ("<html>", "nothing behind it"),
            ("a b", "the value b is no number"),
            ("a{b} 1", "a label without a value"),
            ("a{b=\"c} 1", "has no end"),
            ("a{b=\"c\\", "has no end"),
            ("a{b=\"c\"}", "no value"),
        ] {
            let error = each(&format!("up 1\n{bad}\n"), |_| {}).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.starts_with("line 2 is not"), "{error}");
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_the_encoder_writes_is_read(values in proptest::collection::vec(".*", 3), value: f64) {
            let gauge = GaugeVec::new(Opts::new("g", "h"), &["a", "b", "c"]).unwrap();
            let labels: Vec<&str> = values.iter().map(String::as_str).collect();
            gauge.with_label_values(&labels).set(value);
            let registry = Registry::new();
            registry.register(Box::new(gauge)).unwrap();
            let mut text = Vec::new();
            TextEncoder.encode(&registry.gather(), &mut text).unwrap();
            // The format's lines end with \n alone.
            let text = String::from_utf8(text).unwrap();
            let mut read = 0;
            each(&text, |sample| {
                read += 1;
                assert_eq!(sample.value.to_bits(), value.to_bits());
                for (name, value) in ["a", "b", "c"].iter().zip(&labels) {
                    assert_eq!(sample.label(name), *value);
                }
            }).unwrap();
            prop_assert_eq!(read, 1);
        }

        #[test]
        fn anything_else_is_no_panic(text in ".*") {
            let _ = each(&text, |_| {});
        }
    }
}
