// SPDX-License-Identifier: Apache-2.0

//! `cargo xtask dashboards`: writes the Grafana dashboards in `deploy/grafana`.
//!
//! [`layout`] says which panels there are, and [`grafana`] how a panel is written. Names, descriptions and units come from
//! the table of metrics, so that no panel asks for a metric that does not exist.

mod grafana;
mod layout;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Outcome;

/// Runs the task, which takes no arguments.
pub(crate) fn run(mut arguments: impl Iterator<Item = String>) -> Outcome {
    if let Some(argument) = arguments.next() {
        return Err(format!("dashboards takes no argument, not {argument:?}"));
    }
    for (path, dashboard) in all() {
        fs::write(&path, text(&dashboard)).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Each dashboard, and where it belongs.
fn all() -> impl Iterator<Item = (PathBuf, Value)> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let folder = workspace.join("deploy/grafana");
    layout::DASHBOARDS.iter().map(move |dashboard| {
        let file = format!("{}.json", dashboard.uid);
        (folder.join(file), grafana::dashboard(dashboard))
    })
}

fn text(dashboard: &Value) -> String {
    format!("{dashboard:#}\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nixl_telemetry_metrics::FAMILIES;

    use super::*;

    fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
        dashboard["panels"].as_array().unwrap().iter()
    }

    fn strings<'a>(values: &'a Value, field: &'a str) -> impl Iterator<Item = &'a str> {
        values.as_array().into_iter().flatten().map(move |value| value[field].as_str().unwrap())
    }

    #[test]
    fn the_files_are_what_the_layout_makes() {
        for (path, dashboard) in all() {
            let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(file == text(&dashboard), "{} is old: `cargo xtask dashboards` writes it", path.display());
        }
        assert_eq!(fs::read_dir(all().next().unwrap().0.parent().unwrap()).unwrap().count(), all().count());
    }

    #[test]
    fn each_is_what_grafana_reads() {
        let mut uids = BTreeSet::new();
        for (_, dashboard) in all() {
            assert!(uids.insert(dashboard["uid"].as_str().unwrap().to_owned()));
            assert!(dashboard["uid"].as_str().unwrap().len() <= 40);
            assert!(dashboard["schemaVersion"].as_u64() >= Some(38) && dashboard["id"].is_null());
            let variables: Vec<_> = strings(&dashboard["templating"]["list"], "name").collect();
            assert_eq!(variables[..2], ["datasource", "job"]);
            let mut ids = BTreeSet::new();
            for panel in panels(&dashboard) {
                let title = panel["title"].as_str().unwrap();
                assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
                if panel["type"] == "row" {
                    continue;
                }
                assert_eq!(panel["datasource"]["uid"], "${datasource}");
                assert!(!panel["description"].as_str().unwrap().is_empty(), "{title} says nothing");
                assert!(!panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap().is_empty(), "{title}");
                let expressions: Vec<_> = strings(&panel["targets"], "expr").collect();
                assert!(!expressions.is_empty(), "{title} asks nothing");
                for expression in expressions {
                    assert!(!expression.contains('<'), "{title}: {expression}");
                    for word in expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
                        let is_metric = word.starts_with("agent_") && word != "agent_name" || word.starts_with("nixl_");
                        assert!(!is_metric || grafana::families(word).count() == 1, "{title}: there is no {word}");
                    }
                    for word in expression.split('$').skip(1) {
                        let word: String = word.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                        let built_in = ["__rate_interval", "__range"].contains(&word.as_str());
                        assert!(built_in || variables.contains(&word.as_str()), "{title}: ${word} in {expression}");
                    }
                }
                let ids: BTreeSet<_> = strings(&panel["targets"], "refId").collect();
                assert_eq!(ids.len(), panel["targets"].as_array().unwrap().len(), "{title}");
            }
        }
    }

    #[test]
    fn panels_lie_side_by_side() {
        for (_, dashboard) in all() {
            let mut taken = BTreeSet::new();
            for panel in panels(&dashboard) {
                let [x, y, w, h] = ["x", "y", "w", "h"].map(|name| panel["gridPos"][name].as_u64().unwrap());
                assert!(x + w <= 24 && w > 0 && h > 0, "{}", panel["title"]);
                for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                    assert!(taken.insert(cell), "{} lies on another panel", panel["title"]);
                }
            }
        }
    }

    #[test]
    fn every_metric_is_in_the_overview() {
        let (_, overview) = all().next().unwrap();
        let shown: BTreeSet<_> = panels(&overview)
            .flat_map(|panel| strings(&panel["targets"], "expr"))
            .flat_map(grafana::families)
            .map(|family| family.name)
            .collect();
        let missing: Vec<_> = FAMILIES.iter().map(|family| family.name).filter(|name| !shown.contains(name)).collect();
        assert_eq!(missing, [""; 0]);
    }
}
