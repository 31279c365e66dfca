//! `linkerd-metricd inject` and `uninject`, on the streams in `manifests`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use metricd::cluster::inject::manifests::{Change, change_text};
use serde_json::Value;

use crate::golden;

fn manual() -> Change {
    Change::Inject(Box::default())
}

/// The documents, as Kubernetes would read them.
fn objects(text: &str) -> Vec<Value> {
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    let objects: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options).unwrap();
    objects
}

#[test]
fn streams_are_golden() {
    for (name, path) in golden::files("manifests") {
        let text = fs::read_to_string(&path).unwrap();
        for (how, change) in [("annotate", Change::Annotate), ("inject", manual())] {
            let (after, report) = change_text(&text, &change).unwrap();
            golden::check(&format!("{name}.{how}.yaml"), &after);
            golden::check(&format!("{name}.{how}.txt"), &report);
        }
    }
}

/// The YAML files in a folder and those below it.
fn manifests(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.is_dir() {
        true => manifests(&path),
        false => vec![path],
    };
    let mut all: Vec<PathBuf> = paths.flat_map(of).collect();
    all.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    all
}

/// The examples, too.
#[test]
fn what_is_injected_can_be_taken_out_again() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["tests/inject/manifests", "examples"];
    for path in folders
        .iter()
        .flat_map(|folder| manifests(&root.join(folder)))
    {
        let path = path.display();
        let text = fs::read_to_string(path.to_string()).unwrap();
        // Asking the webhook is taken back whoever has asked.
        let (bare, _) = change_text(&text, &Change::Uninject).unwrap();
        for (change, before) in [(manual(), &text), (Change::Annotate, &bare)] {
            let (injected, _) = change_text(&text, &change).unwrap();
            let (back, _) = change_text(&injected, &Change::Uninject).unwrap();
            assert_eq!(objects(&back), objects(before), "{path}");
            let (twice, _) = change_text(&injected, &change).unwrap();
            assert_eq!(twice, injected, "{path}");
        }
    }
}

#[test]
fn what_has_no_pods_stays_as_it_is() {
    let text = "# first\n---\nkind:   ConfigMap # odd\ndata: {a: 0644, b: 'yes'}\n---\n\n--- # end\nkind: List\nitems: []\n";
    for change in [Change::Annotate, manual(), Change::Uninject] {
        assert_eq!(change_text(text, &change).unwrap().0, text);
    }
}

fn run(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_linkerd-metricd"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn the_command_reads_standard_input_and_files() {
    let (name, path) = golden::files("manifests").remove(0);
    let text = fs::read_to_string(&path).unwrap();
    for args in [["inject", "-"], ["inject", path.to_str().unwrap()]] {
        let output = run(&args, &text);
        assert!(output.status.success());
        golden::check(
            &format!("{name}.annotate.yaml"),
            &String::from_utf8(output.stdout).unwrap(),
        );
        golden::check(
            &format!("{name}.annotate.txt"),
            &String::from_utf8(output.stderr).unwrap(),
        );
    }
    let output = run(
        &["inject", "--manual", "--image", "example.org/m:7", "-"],
        &text,
    );
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(stdout.contains("image: example.org/m:7\n"), "{stdout}");
    let output = run(&["uninject", "-"], &stdout);
    assert_eq!(
        objects(&String::from_utf8(output.stdout).unwrap()),
        objects(&text)
    );
}

#[test]
fn the_command_says_what_is_wrong() {
    for (args, input, problem) in [
        (&["inject", "-"][..], "a: [", "standard input: document 1: "),
        (
            &["inject", "-"],
            "kind: A\n---\na: {",
            "standard input: document 2: ",
        ),
        (&["inject", "/no/such"], "", "read /no/such: No such file"),
        (
            &["inject", "--manual", "-"],
            "kind: Pod\nmetadata: {name: x}\nspec: {containers: {}}",
            "Pod/x: pod.spec.containers: not a list",
        ),
        (
            &["inject", "--manual", "--image", "No:1:2", "-"],
            "",
            "image: \"No:1:2\" is not an image's name",
        ),
        (&["inject", "--image", "a", "-"], "", "--manual"),
        (&["inject"], "", "<FILE>"),
    ] {
        let output = run(args, input);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(output.stdout.is_empty());
        assert!(stderr.contains(problem), "{args:?}: {stderr}");
    }
}
