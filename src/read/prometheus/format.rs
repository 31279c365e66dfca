//! The formats that a scrape is answered in.

use super::Page;
use super::open_metrics::OpenMetrics;
use super::protobuf::Protobuf;
use super::text::Text;

/// A format of the exposition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.0 as text.
    OpenMetrics {
        /// Whether each counter and histogram has a further sample that says when it began at zero.
        /// Who does not know what that is for stores it as one more series.
        created: bool,
    },
    /// Messages of `io.prometheus.client.MetricFamily`, each behind its length.
    Protobuf,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics { .. } => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; \
                 encoding=delimited"
            }
        }
    }

    /// An empty page.
    pub(super) fn page(self) -> Box<dyn Page> {
        match self {
            Self::Text => Box::<Text>::default(),
            Self::OpenMetrics { created } => Box::new(OpenMetrics::new(created)),
            Self::Protobuf => Box::<Protobuf>::default(),
        }
    }
}
