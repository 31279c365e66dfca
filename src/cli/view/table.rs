//! Columns of text.

#![forbid(unsafe_code)]

use std::fmt::Write;

/// What is shown where there is nothing to show.
pub const NONE: &str = "-";

/// Rows of as many cells as there are headings, padded to the widest; but for the first `left` ones
/// to the right, since they are numbers.
pub fn render(headings: &[&str], rows: &[Vec<String>], left: usize) -> String {
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(i, heading)| {
            let cells = rows.iter().map(|row| row[i].chars().count());
            cells.chain([heading.len()]).max().unwrap_or_default()
        })
        .collect();
    let mut text = String::new();
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).into()).collect();
    for row in [&headings].into_iter().chain(rows) {
        let mut line = String::new();
        for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
            // Writing to a string does not fail.
            let _ = match i < left {
                true => write!(line, "{cell:width$}   "),
                false => write!(line, "{cell:>width$}   "),
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A share in percent, as `linkerd viz stat` has it.
pub fn percent(share: Option<f64>) -> String {
    share.map_or(NONE.into(), |share| format!("{:.2}%", share * 100.0))
}

/// Seconds, with a digit more than a histogram's bucket is worth below 10 ms.
pub fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => NONE.into(),
        Some(s) if s < 0.000_999_5 => format!("{:.0}µs", s * 1e6),
        Some(s) if s < 0.009_95 => format!("{:.1}ms", s * 1e3),
        Some(s) if s < 9.9995 => format!("{:.0}ms", s * 1e3),
        Some(s) => format!("{s:.1}s"),
    }
}

/// Bytes, by the thousand.
pub fn bytes(bytes: f64) -> String {
    for (unit, size) in [("GB", 1e9), ("MB", 1e6), ("kB", 1e3)] {
        if bytes >= size {
            return format!("{:.1}{unit}", bytes / size);
        }
    }
    format!("{bytes:.0}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let rows = [
            vec!["µs".into(), "1".into()],
            vec!["b".into(), "100".into()],
        ];
        assert_eq!(
            render(&["NAME", "N"], &rows, 1),
            "NAME     N\nµs       1\nb      100\n"
        );
    }

    #[test]
    fn numbers() {
        assert_eq!(percent(Some(0.9876)), "98.76%");
        assert_eq!(percent(None), "-");
        for (seconds, text) in [
            (0.00025, "250µs"),
            (0.000_999_9, "1.0ms"),
            (0.00123, "1.2ms"),
            (0.25, "250ms"),
            (1.5, "1500ms"),
            (12.34, "12.3s"),
        ] {
            assert_eq!(latency(Some(seconds)), text);
        }
        assert_eq!(bytes(12.0), "12B");
        assert_eq!(bytes(12_345.0), "12.3kB");
        assert_eq!(bytes(7.0e9), "7.0GB");
    }
}
