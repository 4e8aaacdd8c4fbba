// SPDX-License-Identifier: Apache-2.0

//! The document about metrics has the table of families as it is.

use nixl_telemetry_metrics::{FAMILIES, Type};

#[test]
fn docs_metrics_md_has_every_family() {
    let mut table = String::from("| metric | type | what it means |\n|---|---|---|\n");
    for family in &FAMILIES {
        let kind = match family.kind() {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        table.push_str(&format!("| `{}` | {kind} | {} |\n", family.name, family.help));
    }
    let document = include_str!("../../../docs/metrics.md");
    assert!(document.contains(&table), "docs/metrics.md lacks this table:\n{table}");
    assert_eq!(FAMILIES.iter().filter(|family| family.is_of_agent()).count(), 18, "as the document says");
}
