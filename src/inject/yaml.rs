//! YAML as Kubernetes reads it, which is 1.1 in parts: `yes` is true and `0644` is 420.

use anyhow::{Result, bail};
use serde_json::Value;

/// The documents of a stream. In one string again, they are the stream.
///
/// Like Kubernetes' own reader, it knows nothing of YAML but the line that begins with `---`.
pub fn documents(stream: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut begin, mut at) = (0, 0);
    for line in stream.split_inclusive('\n') {
        if is_separator(line) && at > begin {
            documents.push(&stream[begin..at]);
            begin = at;
        }
        at += line.len();
    }
    if at > begin {
        documents.push(&stream[begin..]);
    }
    documents
}

/// Whether a text begins with the line that separates documents.
pub fn is_separator(text: &str) -> bool {
    text.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

/// Reads a document; null if there is nothing in it.
///
/// # Errors
/// If it is no YAML, or nothing that JSON can say.
pub fn parse(document: &str) -> Result<Value> {
    // What does not begin with a mapping may be nothing but comments.
    let is_content = |line: &str| !is_separator(line) && !line.trim_start().starts_with('#');
    if !document
        .lines()
        .any(|line| is_content(line) && !line.trim().is_empty())
    {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        with_snippet: false,
    };
    Ok(serde_saphyr::from_str_with_options(document, options)?)
}

/// Writes a document.
///
/// # Errors
/// If it would be read as something else.
pub fn print(value: &Value) -> Result<String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: true };
    let mut text = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut text, value, options)?;
    if parse(&text)? == *value {
        return Ok(text);
    }
    // JSON is YAML, too.
    let json = format!("{value:#}\n");
    if parse(&json)? != *value {
        bail!("it can't be written as YAML");
    }
    Ok(json)
}
