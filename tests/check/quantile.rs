//! Quantiles of histograms, beside Prometheus' own.

use std::fmt::Write;
use std::process::Command;

use metricd::cli::view::quantile::Buckets;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

const BOUNDS: [&str; 5] = ["0.0001", "0.005", "0.3", "1", "+Inf"];
const QUANTILES: [f64; 7] = [0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 1.0];

/// Prometheus itself computes the same, to the last bit.
#[test]
fn as_prometheus_has_it() {
    let mut runner = proptest::test_runner::TestRunner::default();
    let mut test = String::from("rule_files: []\ntests:\n- interval: 1m\n  input_series:\n");
    let mut expected = String::from("  promql_expr_test:\n");
    for number in 0..100 {
        let strategy = proptest::collection::vec(prop_oneof![Just(0u32), 0..1000u32], 5);
        let counts = strategy.new_tree(&mut runner).unwrap().current();
        let mut cumulative = 0;
        let mut histogram = Buckets::default();
        for (le, count) in BOUNDS.iter().zip(&counts) {
            cumulative += count;
            histogram.add(le, f64::from(cumulative));
            let series = format!("h_bucket{{number=\"{number}\", le=\"{le}\"}}");
            writeln!(test, "  - {{series: '{series}', values: '{cumulative}x1'}}").unwrap();
        }
        for q in QUANTILES {
            let expr = format!("histogram_quantile({q}, h_bucket{{number=\"{number}\"}})");
            let value = histogram
                .quantile(q)
                .map_or(".nan".into(), |v| v.to_string());
            writeln!(
                expected,
                "  - {{expr: '{expr} >= 0', eval_time: 1m, exp_samples: [{}]}}",
                match histogram.quantile(q) {
                    Some(_) => format!("{{labels: '{{number=\"{number}\"}}', value: {value}}}"),
                    None => String::new(),
                }
            )
            .unwrap();
        }
    }
    let file = std::env::temp_dir().join(format!("metricd-quantiles-{}.yml", std::process::id()));
    test += &expected;
    std::fs::write(&file, &test).unwrap();
    let checked = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output();
    std::fs::remove_file(&file).unwrap();
    let checked = checked.expect("promtool, of Debian's package prometheus");
    let said = [checked.stdout, checked.stderr].concat();
    assert!(
        checked.status.success(),
        "{}\n{test}",
        String::from_utf8_lossy(&said)
    );
}
