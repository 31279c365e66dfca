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
    if parse(&text).is_ok_and(|read| read == *value) {
        return Ok(text);
    }
    // JSON is YAML, too.
    let json = format!("{value:#}\n");
    if parse(&json)? != *value {
        bail!("it can't be written as YAML");
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_make_up_the_stream() {
        for (stream, count) in [
            ("", 0),
            ("a: 1", 1),
            ("---\na: 1\n---\n", 2),
            ("# x\n---\na: |\n  ---\n--- # y\nb: 2\n---", 4),
            ("a: '---'\n----\n---x\n", 1),
            ("a: 1\r\n---\r\nb: 2\r\n", 2),
        ] {
            let documents = documents(stream);
            assert_eq!(documents.concat(), stream);
            assert_eq!(documents.len(), count, "{stream:?}");
        }
    }

    #[test]
    fn nothing_but_comments_is_nothing() {
        for nothing in ["", "\n", "---\n", "--- # a\n\n  # b\n"] {
            assert_eq!(parse(nothing).unwrap(), Value::Null);
        }
    }

    #[test]
    fn it_is_read_as_kubernetes_reads_it() {
        let text = "a: 0644\nb: yes\nc: 'yes'\nd: &x {e: off}\nf: {<<: *x, g: 1}\nh: 1_000\n";
        let value = json!({
            "a": 420, "b": true, "c": "yes", "d": {"e": false}, "f": {"e": false, "g": 1}, "h": 1000,
        });
        assert_eq!(parse(text).unwrap(), value);
        for bad in ["a: [", "a: 1\na: 2", "a: *x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    /// So it takes another library than the one for our own files.
    #[test]
    fn serde_yaml_reads_it_otherwise() {
        let text = "a: 0644\nb: yes\nd: &x {e: off}\nf: {<<: *x, g: 1}\nh: 1_000\n";
        let value = json!({
            "a": "0644", "b": "yes", "d": {"e": "off"}, "f": {"<<": {"e": "off"}, "g": 1}, "h": "1_000",
        });
        assert_eq!(serde_yaml::from_str::<Value>(text).unwrap(), value);
        let twice = serde_yaml::from_str::<Value>("a: 1\na: 2").unwrap();
        assert_eq!(twice, json!({"a": 2}));
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for text in [
            "",
            " ",
            "yes",
            "No",
            "on",
            "y",
            "n",
            "~",
            "null",
            "null ",
            "0644",
            "0o17",
            "1e3",
            "1_000",
            ".5",
            "0x1f",
            "-",
            "---",
            "- a",
            "a: b",
            "#",
            "a #b",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{",
            "[",
            "a\nb",
            "a\nb\n\n",
            " a\nb",
            "\ta",
            "a\tb",
            "\r\n",
            "\u{1}",
            "é",
            "\u{feff}",
            "'",
            "\"",
            "\n",
            "<<",
            "=",
            ".inf",
            ".NaN",
            "1:20",
            "2001-01-01",
            "true",
            "TRUE",
            "a\u{2028}b",
            "\u{85}",
            "$(A)",
        ] {
            for value in [
                json!({"a": text}),
                json!([text]),
                json!({text: [{"b": text}]}),
            ] {
                assert_eq!(parse(&print(&value).unwrap()).unwrap(), value, "{text:?}");
            }
        }
    }
}
