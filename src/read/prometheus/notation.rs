//! What the two text formats have in common: how a sample's line is written.

use std::fmt::{Display, Write};

use super::lines::Line;

/// Text in the making.
#[derive(Default)]
pub struct Notation {
    out: String,
    /// The labels of the line at hand, as they stand between the braces.
    labels: String,
}

impl Notation {
    /// How many bytes of text are there to be taken.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// The text since it was last taken.
    pub fn take(&mut self) -> Vec<u8> {
        let capacity = self.out.capacity();
        std::mem::replace(&mut self.out, String::with_capacity(capacity)).into_bytes()
    }

    /// Writes a line of metadata, with a backslash before each of `special` in the text.
    pub fn metadata(&mut self, word: &str, name: &str, text: &str, special: &[char]) {
        self.put(&["# ", word, " ", name, " "]);
        escape(&mut self.out, text, special);
        self.out.push('\n');
    }

    /// Prepares the labels of the next samples.
    pub fn prepare(&mut self, line: &Line) {
        self.labels.clear();
        for (name, value) in &line.labels {
            if !self.labels.is_empty() {
                self.labels.push(',');
            }
            self.labels.push_str(name);
            self.labels.push_str("=\"");
            escape(&mut self.labels, value, &['\\', '\n', '"']);
            self.labels.push('"');
        }
        if !line.origin.is_empty() {
            for part in [",origin=\"", line.origin, "\""] {
                self.labels.push_str(part);
            }
        }
    }

    /// Writes a sample with the labels that were prepared.
    pub fn sample(&mut self, name: &str, suffix: &str, value: impl Display) {
        self.put(&[name, suffix]);
        if !self.labels.is_empty() {
            self.out.push('{');
            self.out.push_str(&self.labels);
            self.out.push('}');
        }
        // Writing to a string does not fail.
        let _ = writeln!(self.out, " {value}");
    }

    /// Writes the sample of a bucket, whose label `le` is behind those that were prepared.
    pub fn bucket(&mut self, name: &str, le: &str, count: impl Display) {
        let len = self.labels.len();
        if len > 0 {
            self.labels.push(',');
        }
        self.labels.push_str("le=\"");
        self.labels.push_str(le);
        self.labels.push('"');
        self.sample(name, "_bucket", count);
        self.labels.truncate(len);
    }

    pub fn put(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.push_str(part);
        }
    }
}

/// Appends `text` with a backslash before each of `special`, where a line's end is `n`.
fn escape(out: &mut String, text: &str, special: &[char]) {
    let mut rest = text;
    while let Some(at) = rest.find(special) {
        out.push_str(&rest[..at]);
        out.push('\\');
        out.push(match rest.as_bytes()[at] {
            b'\n' => 'n',
            byte => char::from(byte),
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}
