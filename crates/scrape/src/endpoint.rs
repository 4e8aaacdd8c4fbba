// SPDX-License-Identifier: Apache-2.0

//! What exporters share that are scraped: the settings of their endpoint, and what it says of itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use nixl_telemetry_metrics::{Labels, encode::Encoder};
use nixl_telemetry_settings::{Setting, Settings};

use crate::{Options, Stats, WebConfig, WebConfigError};

/// The port: NIXL's own setting.
pub static PORT: Setting<u16> =
    Setting::new("NIXL_TELEMETRY_PROMETHEUS_PORT", "9090", "Port at which metrics are served.");

/// Who can reach it: NIXL's own setting.
pub static LOCAL: Setting<bool> =
    Setting::new("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "false", "Whether only this machine can reach it.");

/// How it is protected.
pub static WEB_CONFIG: Setting<PathBuf> = Setting::optional(
    "NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG",
    "File with TLS, users and headers of the endpoint, as Prometheus' own exporters take it (--web.config.file).",
);

/// Why an endpoint cannot be as it is set.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A setting is wrong.
    #[error(transparent)]
    Setting(#[from] nixl_telemetry_settings::Error),
    /// The file it names is wrong.
    #[error("NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG: {0}")]
    WebConfig(#[from] WebConfigError),
}

/// Where and how to serve, as the settings say: at all addresses of this machine or at its loopback, of IPv4, and of IPv6 if
/// it has that.
///
/// # Errors
/// If a setting is wrong, or the file it names.
pub fn options(settings: &Settings) -> Result<Options, EndpointError> {
    let port = settings.get(&PORT)?.value;
    let hosts: [IpAddr; 2] = if settings.get(&LOCAL)?.value {
        [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
    } else {
        [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
    };
    let web = match settings.find(&WEB_CONFIG)? {
        Some(file) => WebConfig::load(file.value)?,
        None => WebConfig::default(),
    };
    Ok(Options { web, ..Options::new(hosts.map(|host| SocketAddr::new(host, port))) })
}

/// Writes what a server says of itself: the metrics NIXL's has, under their names, and what it refused.
pub fn write_stats(stats: &Stats, encoder: &mut Encoder<'_>) {
    let none = Labels::in_order([]).expect("no label is a wrong one");
    let mut counter = |name, help, value| encoder.counter(name, help, None, &none, value);
    counter("exposer_transferred_bytes_total", "Transferred bytes to metrics services", stats.body_bytes());
    counter("exposer_scrapes_total", "Number of times metrics were scraped", stats.scrapes());
    counter(
        "nixl_telemetry_exporter_rejected_connections_total",
        "Connections refused, or closed while idle, because there were too many",
        stats.rejected_connections(),
    );
    counter(
        "nixl_telemetry_exporter_bad_requests_total",
        "Requests that were none, too large or too slow, and TLS handshakes that failed",
        stats.bad_requests(),
    );
    counter(
        "nixl_telemetry_exporter_authentication_failures_total",
        "Requests without the name and password of a user",
        stats.authentication_failures(),
    );
    let latencies = stats.latencies();
    let quantiles = [(0.5, latencies.p50), (0.9, latencies.p90), (0.99, latencies.p99)]
        .map(|(fraction, micros)| (fraction, micros.map_or(0, u64::from)));
    // A quantile of nothing is left out.
    let quantiles = if latencies.count == 0 { &[][..] } else { &quantiles };
    let help = "Latencies of serving scrape requests, in microseconds";
    encoder.summary("exposer_request_latencies", help, &none, quantiles, latencies.sum, latencies.count);
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_metrics::encode::Format;

    use super::*;

    fn addresses(pairs: &[(&str, &str)]) -> Vec<String> {
        let options = options(&Settings::from_pairs(pairs.iter().copied())).unwrap();
        options.addresses.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn addresses_are_those_of_nixl_and_ipv6() {
        assert_eq!(addresses(&[]), ["0.0.0.0:9090", "[::]:9090"]);
        let set = [("NIXL_TELEMETRY_PROMETHEUS_PORT", "0x1f90"), ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "yes")];
        assert_eq!(addresses(&set), ["127.0.0.1:8080", "[::1]:8080"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, message) in [
            ("NIXL_TELEMETRY_PROMETHEUS_PORT", "65536", "NIXL_TELEMETRY_PROMETHEUS_PORT is \"65536\" (environment)"),
            ("NIXL_TELEMETRY_PROMETHEUS_LOCAL", "maybe", "NIXL_TELEMETRY_PROMETHEUS_LOCAL is \"maybe\" (environment)"),
            (
                "NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG",
                "/nowhere",
                "NIXL_TELEMETRY_PROMETHEUS_WEB_CONFIG: cannot read the web configuration /nowhere: ",
            ),
        ] {
            let error = options(&Settings::from_pairs([(name, value)])).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn a_server_that_did_nothing_says_so() {
        let mut text = Vec::new();
        let mut encoder = Encoder::new(Format::Text, &mut text);
        write_stats(&Stats::new(), &mut encoder);
        encoder.finish();
        let text = String::from_utf8(text).unwrap();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "exposer_transferred_bytes_total 0",
                "exposer_scrapes_total 0",
                "nixl_telemetry_exporter_rejected_connections_total 0",
                "nixl_telemetry_exporter_bad_requests_total 0",
                "nixl_telemetry_exporter_authentication_failures_total 0",
                "exposer_request_latencies_count 0",
                "exposer_request_latencies_sum 0",
            ]
        );
    }
}
