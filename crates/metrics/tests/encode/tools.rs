// SPDX-License-Identifier: Apache-2.0

//! What Prometheus' own readers make of our documents.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use nixl_telemetry_metrics::encode::Format;
use nixl_telemetry_testkit::{prometheus, python, require};

use crate::read_text::{self, Sample};
use crate::samples;

/// What a program says of a document on its standard input.
fn output(command: &mut Command, document: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().expect("it is piped").write_all(document).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn prometheus_client_reads_what_is_written() {
    let Some(python) = require("prometheus_client_reads_what_is_written", python(&["prometheus-client==0.26.0"]))
    else {
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/encode/read.py");
    for (format, name) in [(Format::Text, "text"), (Format::OpenMetrics, "openmetrics")] {
        let document = samples::document(format);
        let Output { status, stdout, stderr } = output(Command::new(&python).arg(&script).arg(name), &document);
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));

        let (mut theirs, mut unknown) = (Vec::new(), BTreeSet::new());
        for line in String::from_utf8(stdout).unwrap().lines() {
            let (kind, name, labels, value): (String, String, BTreeMap<String, String>, String) =
                serde_json::from_str(line).unwrap();
            if kind == "unknown" {
                unknown.insert(name.clone());
            }
            theirs.push(Sample { name, labels: labels.into_iter().collect(), value });
        }
        let document = document.strip_suffix(b"# EOF\n").unwrap_or(&document);
        let mut ours = read_text::samples(document);
        for sample in ours.iter_mut().chain(&mut theirs) {
            sample.labels.sort();
            sample.value = sample.value.parse::<f64>().unwrap().to_string();
        }
        ours.sort();
        theirs.sort();
        assert!(ours.len() > 100);
        assert_eq!(ours, theirs);
        let expected: &[&str] = match format {
            Format::OpenMetrics => &["agent_xfer_post_time_total", "agent_xfer_time_total"],
            _ => &[],
        };
        assert!(unknown.iter().eq(expected), "{unknown:?}");
    }
}

#[test]
fn promtool_finds_no_fault_but_with_names() {
    let Some(promtool) = require("promtool_finds_no_fault_but_with_names", prometheus("promtool")) else { return };
    let output = output(Command::new(promtool).args(["check", "metrics"]), &samples::document(Format::Text));
    let said = String::from_utf8(output.stderr).unwrap();
    // 3 says that it would have chosen other names; they are NIXL's.
    assert_eq!(output.status.code(), Some(3), "{said}");
    let remarks = ["agent_xfer_post_time_us", "agent_xfer_time_us"]
        .map(|name| format!("{name} metric names should not contain abbreviated units"));
    assert!(said.lines().eq(remarks), "{said}");
}
