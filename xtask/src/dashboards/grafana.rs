// SPDX-License-Identifier: Apache-2.0

//! A dashboard as Grafana 10 and later read it.

use nixl_telemetry_metrics::{FAMILIES, Family, Type};
use serde_json::{Value, json};

use super::layout::{Dashboard, Panel, Shows};

/// The JSON of a dashboard.
pub(super) fn dashboard(dashboard: &Dashboard) -> Value {
    json!({
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.description,
        "tags": ["nixl"],
        "id": null,
        "version": 1,
        "schemaVersion": 38,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-1h", "to": "now" },
        "timezone": "",
        "annotations": { "list": [alerts()] },
        "links": [{ "type": "dashboards", "tags": ["nixl"], "title": "NIXL", "asDropdown": true, "keepTime": true }],
        "templating": { "list": variables(dashboard) },
        "panels": panels(dashboard),
    })
}

/// The metrics an expression asks for.
pub(super) fn families(expression: &str) -> impl Iterator<Item = &'static Family> {
    expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter_map(|word| {
        let named = |name: &str| FAMILIES.iter().find(|family| family.name == name);
        let of_histogram = || ["_bucket", "_sum", "_count"].iter().find_map(|part| named(word.strip_suffix(part)?));
        named(word).or_else(of_histogram)
    })
}

/// Alerts that fire, as marks on every panel.
fn alerts() -> Value {
    json!({
        "name": "Alerts",
        "enable": true,
        "iconColor": "red",
        "datasource": datasource(),
        "expr": "ALERTS{alertname=~\"Nixl.+\",alertstate=\"firing\",job=~\"$job\"}",
        "titleFormat": "{{alertname}}",
        "textFormat": "{{agent_name}} {{instance}}",
    })
}

fn variables(dashboard: &Dashboard) -> Vec<Value> {
    let mut list =
        vec![json!({ "name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source" })];
    for name in ["job"].iter().chain(dashboard.variables) {
        // The job narrows what else can be chosen.
        let narrowed = if *name == "job" { String::new() } else { select(&["job"]) };
        let matchers: Vec<_> = [dashboard.matching, &narrowed].into_iter().filter(|text| !text.is_empty()).collect();
        let query = format!("label_values({}{{{}}}, {name})", dashboard.metric, matchers.join(","));
        // Of the other labels also series that lack them.
        let all = if *name == "job" { Value::Null } else { json!(".*") };
        list.push(json!({
            "name": name,
            "type": "query",
            "datasource": datasource(),
            "definition": query,
            "query": { "query": query, "refId": name },
            "refresh": 2,
            "sort": 7,
            "multi": true,
            "includeAll": true,
            "allValue": all,
            "current": { "selected": true, "text": ["All"], "value": ["$__all"] },
        }));
    }
    list
}

/// Matchers for what is chosen.
fn select(variables: &[&str]) -> String {
    variables.iter().map(|name| format!("{name}=~\"${name}\"")).collect::<Vec<_>>().join(",")
}

/// From left to right, and on below where there is no room.
fn panels(dashboard: &Dashboard) -> Vec<Value> {
    const COLUMNS: u8 = 24;
    let mut list = Vec::new();
    let mut y = 0;
    for (title, row) in dashboard.rows {
        let id = list.len() + 1;
        let place = json!({ "x": 0, "y": y, "w": COLUMNS, "h": 1 });
        list.push(
            json!({ "id": id, "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": [] }),
        );
        y += 1;
        let (mut x, mut height) = (0, 0);
        for panel in *row {
            if x + panel.width > COLUMNS {
                (x, y) = (0, y + height);
            }
            height = if is_number(&panel.shows) { 4 } else { 8 };
            let place = json!({ "x": x, "y": y, "w": panel.width, "h": height });
            list.push(self::panel(dashboard, panel, list.len() + 1, place));
            x += panel.width;
        }
        y += height;
    }
    list
}

fn panel(dashboard: &Dashboard, panel: &Panel, id: usize, place: Value) -> Value {
    let (targets, unit) = targets(dashboard, &panel.shows);
    let (kind, custom, options) = if is_number(&panel.shows) {
        let reduce = json!({ "calcs": ["lastNotNull"], "fields": "", "values": false });
        ("stat", json!({}), json!({ "reduceOptions": reduce, "colorMode": "none", "graphMode": "area" }))
    } else if let Shows::Heatmap(_) = panel.shows {
        let options = json!({
            "calculate": false,
            "yAxis": { "unit": "µs" },
            "color": { "mode": "scheme", "scheme": "Oranges", "steps": 64 },
            "cellGap": 1,
            "tooltip": { "show": true, "yHistogram": true },
        });
        ("heatmap", json!({}), options)
    } else {
        let legend =
            json!({ "displayMode": "table", "placement": "bottom", "calcs": ["mean", "max"], "showLegend": true });
        let options = json!({ "legend": legend, "tooltip": { "mode": "multi", "sort": "desc" } });
        ("timeseries", json!({ "fillOpacity": 10, "showPoints": "never" }), options)
    };
    json!({
        "id": id,
        "type": kind,
        "title": panel.title,
        "description": description(panel.note, &targets),
        "datasource": datasource(),
        "gridPos": place,
        "fieldConfig": { "defaults": { "unit": unit, "min": 0, "custom": custom }, "overrides": [] },
        "options": options,
        "targets": targets,
    })
}

const fn is_number(shows: &Shows) -> bool {
    matches!(shows, Shows::Number(..) | Shows::Growth(_))
}

/// The queries of a panel, and the unit of what they return.
fn targets(dashboard: &Dashboard, shows: &Shows) -> (Vec<Value>, &'static str) {
    let by = dashboard.by;
    let named = |word: &str| match word {
        whole if whole.contains("{{") => whole.to_owned(),
        word => [dashboard.legend, word].join(" ").trim_end().to_owned(),
    };
    let (queries, unit): (Vec<(String, String)>, _) = match shows {
        Shows::Rates(metrics) => {
            let query = |name| format!("<rate {name}>");
            let list = metrics.iter().map(|(name, word)| (query(name), named(word))).collect();
            (list, if unit_of(metrics[0].0) == "bytes" { "binBps" } else { "cps" })
        }
        Shows::Growth(metrics) => {
            let query = |name| format!("sum(increase({name}{{<select>}}[$__range]))");
            (metrics.iter().map(|(name, word)| (query(name), (*word).to_owned())).collect(), unit_of(metrics[0].0))
        }
        Shows::Values(metrics) => {
            let query = |name| format!("max by (<by>) ({name}{{<select>}})");
            (metrics.iter().map(|(name, word)| (query(name), named(word))).collect(), unit_of(metrics[0].0))
        }
        Shows::Quantiles(name) => {
            let buckets = format!("sum by (le, <by>) (rate({name}_bucket{{<select>}}[$__rate_interval]))");
            let quantile = |(q, word)| (format!("histogram_quantile({q}, {buckets})"), named(word));
            let mean = format!("<rate {name}_sum> / <rate {name}_count>");
            let quantiles = [("0.5", "p50"), ("0.9", "p90"), ("0.99", "p99")].map(quantile);
            (quantiles.into_iter().chain([(mean, named("mean"))]).collect(), unit_of(name))
        }
        Shows::Heatmap(name) => {
            let query = format!("sum by (le) (increase({name}_bucket{{<select>}}[$__rate_interval]))");
            (vec![(query, "{{le}}".to_owned())], "short")
        }
        Shows::Lines(lines, unit) => {
            (lines.iter().map(|(expression, word)| ((*expression).to_owned(), named(word))).collect(), *unit)
        }
        Shows::Number(expression, unit) => (vec![((*expression).to_owned(), String::new())], *unit),
    };
    let select = select(&[&["job"], dashboard.variables].concat());
    let format = if matches!(shows, Shows::Heatmap(_)) { "heatmap" } else { "time_series" };
    // One number for all of the time that is looked at needs no second one.
    let instant = matches!(shows, Shows::Growth(_));
    let target = |(id, (expression, legend)): (char, (String, String))| {
        json!({
            "refId": id,
            "datasource": datasource(),
            "expr": expand(&expression, &select, by),
            "legendFormat": legend,
            "format": format,
            "instant": instant,
            "range": !instant,
        })
    };
    (('A'..).zip(queries).map(target).collect(), unit)
}

/// Puts in what is longer, see [`layout`](super::layout).
fn expand(expression: &str, select: &str, by: &str) -> String {
    let mut text = String::new();
    let mut rest = expression;
    while let Some((before, (inside, after))) =
        rest.split_once('<').and_then(|(before, after)| Some((before, after.split_once('>')?)))
    {
        text.push_str(before);
        let rate = |name: &str| format!("(rate({name}{{{select}}}[$__rate_interval]))");
        text.push_str(&match inside.split_once(' ') {
            None if inside == "select" => select.to_owned(),
            None if inside == "by" => by.to_owned(),
            Some(("rate", name)) => format!("sum by ({by}) {}", rate(name)),
            Some(("total", name)) => format!("sum{}", rate(name)),
            _ => panic!("nothing is called <{inside}>"),
        });
        rest = after;
    }
    text + rest
}

/// The unit of a metric, as Grafana calls it.
fn unit_of(name: &str) -> &'static str {
    let family = FAMILIES.iter().find(|family| family.name == name);
    match family.unwrap_or_else(|| panic!("there is no metric {name}")).unit {
        Some("bytes") => "bytes",
        Some("us") => "µs",
        Some("seconds") => "s",
        _ => "short",
    }
}

/// The note, and what each metric is.
fn description(note: &str, targets: &[Value]) -> String {
    let mut parts: Vec<String> = if note.is_empty() { Vec::new() } else { vec![note.to_owned()] };
    for family in targets.iter().flat_map(|target| families(target["expr"].as_str().unwrap_or_default())) {
        let kind = match family.kind() {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        let part = format!("`{}` ({kind}): {}.", family.name, family.help);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join("\n\n")
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}
