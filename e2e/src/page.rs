// SPDX-License-Identifier: Apache-2.0

//! What an exporter shows at `/metrics`.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use crate::Totals;

/// A page of metrics in Prometheus' text format.
#[derive(Clone, Debug)]
pub struct Page(String);

/// A sample: the labels of a series, and its value as it is written.
pub type Sample<'a> = (BTreeMap<&'a str, &'a str>, &'a str);

impl Page {
    /// What `http://127.0.0.1:port/metrics` shows; `None` if nobody answers, or not with a page.
    pub fn get(port: u16) -> Option<Self> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200").then(|| Self(body.to_owned()))
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The samples of this name, in their order. The values of labels must not need escaping.
    pub fn samples(&self, name: &str) -> Vec<Sample<'_>> {
        let lines = self.0.lines().filter_map(|line| line.strip_prefix(name));
        lines
            .filter_map(|rest| rest.strip_prefix('{')?.rsplit_once("} "))
            .map(|(all, value)| (labels(all), value))
            .collect()
    }

    /// What the metrics say of how often events happened, and of the sums of their values, by agent. Only distributions count
    /// events, so that of most kinds the number is known only where each event is worth 1.
    pub fn totals(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut totals = BTreeMap::<String, BTreeMap<String, u64>>::new();
        let mut add = |labels: &BTreeMap<&str, &str>, what: String, value: &str| {
            let value: u64 = value.parse().unwrap_or_else(|_| panic!("{what} is {value}"));
            // Families are there from the beginning, at 0.
            if value > 0 {
                *totals.entry(labels["agent_name"].to_owned()).or_default().entry(what).or_default() += value;
            }
        };
        for kind in nixl_telemetry_event::Kind::ALL {
            let name = kind.to_string();
            match name.strip_prefix("agent_err_") {
                Some(status) => {
                    let errors = self.samples("agent_errors_total");
                    let errors = errors.iter().filter(|(labels, _)| labels["status"] == status);
                    errors.for_each(|(labels, value)| add(labels, name.clone(), value));
                }
                None => {
                    let sums = self.samples(&format!("{name}_total"));
                    sums.iter().for_each(|(labels, value)| add(labels, name.clone(), value));
                }
            }
            let counts = self.samples(&format!("{name}_us_count"));
            counts.iter().for_each(|(labels, value)| add(labels, format!("{name}, times"), value));
        }
        totals
    }
}

/// What [`Page::totals`] has to be if this is what happened.
pub fn as_metrics(happened: &Totals) -> BTreeMap<String, BTreeMap<String, u64>> {
    let of_agent = |events: &BTreeMap<String, (u64, u64)>| {
        let mut metrics = BTreeMap::new();
        for (name, (count, sum)) in events {
            metrics.insert(name.clone(), *sum);
            if name == "agent_xfer_time" || name == "agent_xfer_post_time" {
                metrics.insert(format!("{name}, times"), *count);
            }
        }
        metrics.retain(|_, value| *value > 0);
        metrics
    };
    happened.iter().map(|(agent, events)| (agent.clone(), of_agent(events))).collect()
}

/// `name="value",…`.
fn labels(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.trim_end_matches('"').split("\",").filter_map(|pair| pair.split_once("=\""));
    pairs.collect()
}
