// SPDX-License-Identifier: Apache-2.0

//! The dashboards of `deploy/grafana`, as questions to a [`Prometheus`](crate::prometheus::Prometheus).

use std::fs;

use nixl_telemetry_testkit::workspace_root;
use serde_json::Value;

/// The expressions of all panels of a dashboard, with everything chosen.
///
/// # Panics
/// If there is no such dashboard.
pub fn panels(name: &str) -> Vec<String> {
    let dashboard = read(name);
    let panels = dashboard["panels"].as_array().into_iter().flatten();
    panels.flat_map(|panel| expressions(&panel["targets"])).collect()
}

/// The expressions of its annotations, in the same way.
///
/// # Panics
/// If there is no such dashboard.
pub fn annotations(name: &str) -> Vec<String> {
    expressions(&read(name)["annotations"]["list"])
}

fn read(name: &str) -> Value {
    let path = workspace_root().join("deploy/grafana").join(name).with_extension("json");
    let text = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expressions(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|target| fill_in(target["expr"].as_str().expect("an expression"))).collect()
}

fn fill_in(expression: &str) -> String {
    let times = ["$__rate_interval", "$__range"];
    let filled = times.iter().fold(expression.to_owned(), |text, name| text.replace(name, "1m"));
    let labels = ["$job", "$agent_name", "$hostname", "$local_rank"];
    labels.iter().fold(filled, |text, name| text.replace(name, ".*"))
}
