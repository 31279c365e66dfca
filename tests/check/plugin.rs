//! What the Linkerd CLI and shells ask of an extension.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::golden::{binary, output, stderr, stdout};

#[test]
fn metadata() {
    let output = output(binary().arg("_extension-metadata"));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    // As the file is called: cli/cmd/check_extensions.go of linkerd2 compares them.
    assert_eq!(json["name"], "linkerd-metricd");
    assert_eq!(json["checks"], "cluster");
    assert!(output.status.success());
}

#[test]
fn the_linkerd_clis_own_words_get_one_object() {
    let words = "check --as-group=[] --linkerd-namespace=linkerd --verbose=false --proxy=false \
                 --wait=5m0s --output=json --api-addr= --cni-namespace=linkerd-cni --newer=flag";
    let output = output(binary().args(words.split_whitespace()));
    let json: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(json["success"], false);
    let check = &json["categories"][0]["checks"][0];
    assert_eq!(check["description"], "can initialize the client");
    let error = check["error"].as_str().unwrap();
    assert!(
        error.contains("--kubeconfig") && error.contains("$KUBECONFIG"),
        "{error}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn flags_that_exclude_each_other() {
    let output = output(binary().args(["check", "--pre", "--proxy"]));
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("mutually exclusive"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn versions() {
    let ours = env!("CARGO_PKG_VERSION");
    for (words, expected) in [
        (
            "version",
            format!("Client version: {ours}\nServer version: unavailable\n"),
        ),
        ("version --client", format!("Client version: {ours}\n")),
        ("version --client --short", format!("{ours}\n")),
        ("version --short", format!("{ours}\nunavailable\n")),
    ] {
        let output = output(binary().args(words.split(' ')));
        assert_eq!(stdout(&output), expected, "{words}");
        assert!(output.status.success());
    }
}

/// Bash itself completes by it.
#[test]
fn completion() {
    let path = Path::new(env!("CARGO_BIN_EXE_linkerd-metricd"));
    let script = "source <(linkerd-metricd completion bash); COMP_WORDS=(linkerd-metricd che); \
                  COMP_CWORD=1; _linkerd__metricd linkerd-metricd che linkerd-metricd; \
                  echo \"${COMPREPLY[@]}\"";
    let completed = Command::new("bash")
        .args(["-c", script])
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", path.parent().unwrap().display()),
        )
        .output()
        .unwrap();
    assert_eq!(stdout(&completed), "check\n", "{}", stderr(&completed));
    for shell in ["zsh", "fish"] {
        let output = output(binary().args(["completion", shell]));
        assert!(stdout(&output).contains("linkerd-metricd"), "{shell}");
    }
    // A reader that has seen enough.
    let mut child = binary()
        .args(["completion", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(!stderr(&output).contains("panicked"), "{}", stderr(&output));
    assert!(fs::exists(path).unwrap());
}
