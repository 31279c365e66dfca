//! Every hint leads somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[test]
fn every_hint_has_a_section() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_to_string(root.join("docs/checks.md")).unwrap();
    let sections: BTreeSet<&str> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let mut hints = BTreeSet::new();
    for entry in fs::read_dir(root.join("tests/check/golden")).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        for after in text.split("docs/checks.md#").skip(1) {
            let end = after.find([' ', '"']).unwrap();
            hints.insert(after[..end].to_owned());
        }
    }
    for hint in &hints {
        assert!(sections.contains(hint.as_str()), "no section {hint}");
    }
    assert!(hints.len() > 10, "{hints:?}");
}
