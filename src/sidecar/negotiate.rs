//! What of a page a client would rather have: RFC 9110, section 12.5.

use hyper::{
    HeaderMap, Request,
    header::{ACCEPT, ACCEPT_ENCODING},
};

use crate::read::prometheus::Format;
use crate::web::weighted::{Weighted, weighted};

/// The query by which OpenMetrics is asked for created timestamps.
const CREATED: &str = "created=true";

/// Whether this is said in the query, among other things or alone.
pub fn asks<B>(request: &Request<B>, what: &str) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|part| part == what)
}

/// How exactly an element of `Accept` says what it means.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Precision {
    Anything,
    AnyOfItsType,
    /// With so many parameters.
    Named(usize),
}

/// The format that the client wants most; of those that it wants alike the one that it names, and then
/// text. There is none that it is refused: it gets text where it wants nothing that there is.
///
/// OpenMetrics has created timestamps where the query says [`CREATED`].
pub fn format<B>(request: &Request<B>) -> Format {
    let created = asks(request, CREATED);
    let wanted: Vec<_> = weighted(request.headers(), ACCEPT).collect();
    let formats = [
        Format::Protobuf,
        Format::OpenMetrics { created },
        Format::Text,
    ];
    let best = formats.into_iter().filter_map(|format| {
        let content_type = format.content_type();
        let elements = wanted.iter();
        let (precision, weight) = elements
            .filter_map(|element| Some((precision(element, content_type)?, element.weight)))
            .max()?;
        let is_named = precision > Precision::AnyOfItsType;
        (weight > 0).then_some(((weight, is_named), format))
    });
    // The last one of equals.
    let best = best.max_by_key(|(rank, _)| *rank);
    best.map_or(Format::Text, |(_, format)| format)
}

/// Whether, and how exactly, an element means a content type. What is named must agree; only of escaped
/// names every kind does, since our names have nothing to escape.
fn precision(element: &Weighted, content_type: &str) -> Option<Precision> {
    let mut ours = content_type.split("; ");
    let name = ours.next()?;
    let ours: Vec<_> = ours.filter_map(|part| part.split_once('=')).collect();
    let mut parameters = element.parameters.iter();
    let agree = parameters.all(|(name, value)| {
        let is_ours = |(our_name, our_value): &(&str, &str)| {
            our_name.eq_ignore_ascii_case(name) && our_value.eq_ignore_ascii_case(value)
        };
        name.eq_ignore_ascii_case("escaping") || ours.iter().any(is_ours)
    });
    if !agree {
        return None;
    }
    if element.value.eq_ignore_ascii_case(name) {
        return Some(Precision::Named(element.parameters.len()));
    }
    match element.value.split_once('/')? {
        ("*", "*") => Some(Precision::Anything),
        (of, "*") => {
            let (own, _) = name.split_once('/')?;
            (own.eq_ignore_ascii_case(of)).then_some(Precision::AnyOfItsType)
        }
        _ => None,
    }
}

/// Whether the client takes gzip, and no less gladly than the page as it is.
pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    let (mut gzip, mut any, mut identity) = (None, None, None);
    for coding in weighted(headers, ACCEPT_ENCODING) {
        match coding.value.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => gzip = Some(coding.weight),
            "identity" => identity = Some(coding.weight),
            "*" => any = Some(coding.weight),
            _ => {}
        }
    }
    let gzip = gzip.or(any).unwrap_or(0);
    gzip > 0 && gzip >= identity.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, accept: &[&str]) -> Format {
        let mut request = Request::builder().uri(path);
        for value in accept {
            request = request.header(ACCEPT, *value);
        }
        format(&request.body(()).unwrap())
    }

    const OPEN_METRICS: Format = Format::OpenMetrics { created: false };

    /// What scrapers and others send, and what they get.
    #[test]
    fn scrapers_get_what_they_want_most() {
        let proto = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                     encoding=delimited";
        for (accept, expected) in [
            // Prometheus 2.42, as it is and with native histograms.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OPEN_METRICS,
            ),
            (
                "PROTO,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::Protobuf,
            ),
            // Prometheus 2.53, as it is and with created timestamps or native histograms.
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OPEN_METRICS,
            ),
            (
                "PROTO;q=0.5,application/openmetrics-text;version=1.0.0;q=0.4,application/openmetrics-text;version=0.0.1;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::Protobuf,
            ),
            // Prometheus 3, as it is, with created timestamps, and 3.0, which escapes everywhere.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OPEN_METRICS,
            ),
            (
                "PROTO;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::Protobuf,
            ),
            (
                "PROTO;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,*/*;q=0.1",
                Format::Protobuf,
            ),
            // scrape_protocols: [PrometheusText1.0.0, PrometheusText0.0.4, OpenMetricsText1.0.0]
            (
                "text/plain;version=1.0.0;escaping=underscores;q=0.6,text/plain;version=0.0.4;q=0.5,application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.4,*/*;q=0.3",
                Format::Text,
            ),
            // scrape_protocols: [OpenMetricsText0.0.1], which is no format of ours.
            (
                "application/openmetrics-text;version=0.0.1;q=0.6,*/*;q=0.5",
                Format::Text,
            ),
            // A browser, curl, and a client of Kubernetes.
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                Format::Text,
            ),
            ("*/*", Format::Text),
            ("application/json, */*", Format::Text),
        ] {
            assert_eq!(
                asked("/metrics", &[&accept.replace("PROTO", proto)]),
                expected,
                "{accept}"
            );
        }
    }

    #[test]
    fn weights_and_precision_decide_then_text() {
        for (accept, expected) in [
            ("application/openmetrics-text", OPEN_METRICS),
            (
                "Application/OpenMetrics-Text; Version=\"1.0.0\"; Charset=UTF-8",
                OPEN_METRICS,
            ),
            ("application/vnd.google.protobuf", Format::Protobuf),
            (
                "application/vnd.google.protobuf;encoding=compact-text",
                Format::Text,
            ),
            ("application/*", OPEN_METRICS),
            ("text/*", Format::Text),
            ("text/plain, application/openmetrics-text", Format::Text),
            ("application/openmetrics-text, text/plain", Format::Text),
            ("application/openmetrics-text, */*", OPEN_METRICS),
            ("application/openmetrics-text;q=0.9, */*", Format::Text),
            (
                "text/plain;q=0.1, application/openmetrics-text;q=0.101",
                OPEN_METRICS,
            ),
            // What is said more exactly holds, whatever its order and weight.
            (
                "application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text, application/vnd.google.protobuf;q=0.2",
                Format::Protobuf,
            ),
            (
                "*/*;q=0.5, application/*;q=0.1, application/openmetrics-text;q=0.2",
                Format::Text,
            ),
            // Nothing that there is, and nothing that means anything.
            ("image/png", Format::Text),
            ("text/plain;q=0", Format::Text),
            ("*/*;q=0", Format::Text),
            ("application/openmetrics-text;q=x", Format::Text),
            ("application/openmetrics-text;q=2", Format::Text),
            ("application/openmetrics-text;version", Format::Text),
            ("application", Format::Text),
            ("*", Format::Text),
            (",;,/;=\"", Format::Text),
            ("", Format::Text),
        ] {
            assert_eq!(asked("/metrics", &[accept]), expected, "{accept}");
        }
        assert_eq!(asked("/metrics", &[]), Format::Text);
        let split = ["text/plain;q=0.5", "application/openmetrics-text"];
        assert_eq!(asked("/metrics", &split), OPEN_METRICS);
    }

    #[test]
    fn created_timestamps_in_openmetrics_are_asked_for() {
        for (path, created) in [
            ("/metrics?created=true", true),
            ("/metrics?a=b&created=true", true),
            ("/metrics?created=false", false),
            ("/metrics?created", false),
            ("/metrics", false),
        ] {
            let format = asked(path, &["application/openmetrics-text"]);
            assert_eq!(format, Format::OpenMetrics { created }, "{path}");
        }
    }

    #[test]
    fn gzip_only_where_it_is_welcome() {
        for (header, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=1.0, *;q=0.5", true),
            ("br, GZIP ; Q=0.3", true),
            ("x-gzip", true),
            ("*", true),
            ("gzip;q=0.5, identity;q=0.2", true),
            ("", false),
            ("identity", false),
            ("gzip;q=0", false),
            ("gzip;q=0.000", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("gzip;q=x", false),
            ("gzip;q=0.2, identity", false),
            ("gzipped", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT_ENCODING, header.parse().unwrap());
            assert_eq!(accepts_gzip(&headers), expected, "{header}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }
}
