//! Headers in which a client says what it would rather have: RFC 9110, sections 5.6 and 12.4.2.

use hyper::HeaderMap;
use hyper::header::HeaderName;

/// An element of such a header.
pub struct Weighted<'a> {
    pub value: &'a str,
    pub parameters: Vec<(&'a str, String)>,
    /// From 0, for what the client does not want, to 1000. A weight that is no weight is taken for 0.
    pub weight: u16,
}

/// The elements of all headers of this name. What is no text is left out.
pub fn weighted(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = Weighted<'_>> {
    let values = headers.get_all(name).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| split(value, ','))
        .filter(|element| !element.is_empty())
        .map(element)
}

fn element(text: &str) -> Weighted<'_> {
    let mut parts = split(text, ';');
    let mut element = Weighted {
        value: parts.next().unwrap_or_default(),
        parameters: Vec::new(),
        weight: 1000,
    };
    for part in parts.filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (name, value) = (name.trim(), unquote(value.trim()));
        if name.eq_ignore_ascii_case("q") {
            element.weight = thousandths(&value).unwrap_or(0);
        } else {
            element.parameters.push((name, value));
        }
    }
    element
}

/// Splits at a separator that is not within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(move |c| {
        let is_separator = c == separator && !quoted;
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            _ => {}
        }
        is_separator
    });
    parts.map(str::trim)
}

/// What stands between quotes, without its backslashes; what is not in quotes as it is.
fn unquote(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    let Some(inner) = inner else {
        return text.to_owned();
    };
    let mut escaped = false;
    let is_content = |c: &char| {
        escaped = *c == '\\' && !escaped;
        !escaped
    };
    inner.chars().filter(is_content).collect()
}

/// A weight as it is written, from 0 to 1 with three decimals at most.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|b| b.is_ascii_digit());
    let decimals: u16 = format!("{decimals:0<3}")
        .parse()
        .ok()
        .filter(|_| is_number)?;
    match (whole, decimals) {
        ("0", decimals) => Some(decimals),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::ACCEPT;

    use super::*;

    #[test]
    fn elements_of_all_headers_with_their_parameters() {
        let mut headers = HeaderMap::new();
        for value in [
            "a/b;x=1;q=0.5, c ; Y = \"2,\\\"\\\\;\" ;q=\"0.25\",,",
            "d;Q=0",
            ";;=",
        ] {
            headers.append(ACCEPT, value.parse().unwrap());
        }
        let elements: Vec<_> = weighted(&headers, ACCEPT)
            .map(|e| (e.value, e.parameters, e.weight))
            .collect();
        let of = |name, value: &str| vec![(name, value.to_owned())];
        assert_eq!(
            elements,
            [
                ("a/b", of("x", "1"), 500),
                ("c", of("Y", "2,\"\\;"), 250),
                ("d", vec![], 0),
                ("", of("", ""), 1000),
            ]
        );
    }

    #[test]
    fn weights() {
        for (text, weight) in [
            ("1", Some(1000)),
            ("1.", Some(1000)),
            ("1.000", Some(1000)),
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.3", Some(300)),
            ("0.75", Some(750)),
            ("0.001", Some(1)),
            ("", None),
            (".5", None),
            ("0.0001", None),
            ("1.001", None),
            ("2", None),
            ("-0.1", None),
            ("0.+1", None),
            ("nan", None),
        ] {
            assert_eq!(thousandths(text), weight, "{text}");
        }
    }
}
