//! Quantiles of classic histograms, by the rule of Prometheus.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

/// A histogram as Prometheus has it: how many were at most so much.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(BTreeMap<Bound, f64>);

/// An upper bound in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bound(f64);

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Buckets {
    /// Adds the sample of a bucket, by its label `le`, which is left out if it is no number.
    pub fn add(&mut self, le: &str, count: f64) {
        if let Ok(bound) = le.parse() {
            *self.0.entry(Bound(bound)).or_default() += count;
        }
    }

    /// Adds all of another histogram with equal bounds.
    pub fn merge(&mut self, other: &Self) {
        for (bound, count) in &other.0 {
            *self.0.entry(*bound).or_default() += count;
        }
    }

    /// What came after an earlier reading. What is less than then began anew in between.
    pub fn since(&self, earlier: &Self) -> Self {
        let total = |buckets: &Self| buckets.0.values().last().copied().unwrap_or_default();
        if total(self) < total(earlier) {
            return self.clone();
        }
        let since = self.0.iter().map(|(bound, count)| {
            let before = earlier.0.get(bound).copied().unwrap_or_default();
            (*bound, count - before)
        });
        Self(since.collect())
    }

    /// As `histogram_quantile` of Prometheus (`bucketQuantile` in promql/quantile.go) estimates it,
    /// in seconds: values lie evenly in their bucket, the lowest of which begins at 0; beyond the
    /// last bound it is that bound. None, if there are no values, or no bucket for all.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let mut highest = 0.0f64;
        let buckets: Vec<(f64, f64)> = self
            .0
            .iter()
            .map(|(bound, count)| {
                // Between the samples of one scrape the counts went on.
                highest = highest.max(*count);
                (bound.0, highest)
            })
            .collect();
        let (last, finite) = buckets.split_last()?;
        if last.0 != f64::INFINITY || finite.is_empty() || last.1 == 0.0 {
            return None;
        }
        let rank = q * last.1;
        let Some(at) = finite.iter().position(|(_, count)| *count >= rank) else {
            return finite.last().map(|(bound, _)| *bound);
        };
        let (end, count) = finite[at];
        let (start, below) = match at {
            0 => (0.0, 0.0),
            at => finite[at - 1],
        };
        // An empty bucket has no quantile.
        Some(start + (end - start) * ((rank - below) / (count - below))).filter(|q| !q.is_nan())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buckets(counts: &[(&str, f64)]) -> Buckets {
        let mut buckets = Buckets::default();
        counts
            .iter()
            .for_each(|(le, count)| buckets.add(le, *count));
        buckets
    }

    #[test]
    fn where_there_is_none() {
        assert_eq!(buckets(&[]).quantile(0.5), None);
        assert_eq!(buckets(&[("1", 0.0), ("+Inf", 0.0)]).quantile(0.5), None);
        assert_eq!(buckets(&[("1", 1.0)]).quantile(0.5), None);
    }

    #[test]
    fn between_two_readings() {
        let before = buckets(&[("1", 1.0), ("+Inf", 4.0)]);
        let after = buckets(&[("1", 3.0), ("2", 5.0), ("+Inf", 9.0)]);
        let between = buckets(&[("1", 2.0), ("2", 5.0), ("+Inf", 5.0)]);
        assert_eq!(after.since(&before), between);
        assert_eq!(before.since(&after), before, "it began anew");
    }
}
