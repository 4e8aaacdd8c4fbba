// SPDX-License-Identifier: Apache-2.0

//! What may be set: OpenTelemetry's own variables, and how they make a [`Config`].
//!
//! Of a pair such as `OTEL_EXPORTER_OTLP_METRICS_TIMEOUT` and `OTEL_EXPORTER_OTLP_TIMEOUT` the first counts, if it is not
//! empty.

mod values;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

use nixl_telemetry_sdk::metrics::{AGENT_LABEL, HISTOGRAM_BUCKETS, LABELS};
use nixl_telemetry_sdk::{Describe, Dialect, Error, Millis, Setting, Settings, Value, absolute};
use ureq::http::{HeaderName, HeaderValue, Uri};

pub(crate) use self::values::{Compression, Histograms, Protocol, Temporality};
use self::values::{Endpoint, Headers, Limit, Otel, Pairs, Truth};
use crate::resource::{Attributes, resource};

/// How the process pushes. Agents of which it is the same share a worker.
#[derive(Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) endpoint: Uri,
    pub(crate) protocol: Protocol,
    /// Secret, so that the configuration has no `Debug`.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) compression: Compression,
    /// For one request.
    pub(crate) timeout: Duration,
    pub(crate) certificate: Option<PathBuf>,
    /// Certificate and key.
    pub(crate) client: Option<(PathBuf, PathBuf)>,
    pub(crate) temporality: Temporality,
    pub(crate) histograms: Histograms,
    pub(crate) resource: Attributes,
    pub(crate) interval: Duration,
    pub(crate) shutdown_timeout: Duration,
}

pub(crate) static SETTINGS: &[&dyn Describe] = &[
    &ENDPOINT,
    &METRICS_ENDPOINT,
    &PROTOCOL,
    &METRICS_PROTOCOL,
    &HEADERS,
    &METRICS_HEADERS,
    &COMPRESSION,
    &METRICS_COMPRESSION,
    &TIMEOUT,
    &METRICS_TIMEOUT,
    &CERTIFICATE,
    &METRICS_CERTIFICATE,
    &CLIENT_CERTIFICATE,
    &METRICS_CLIENT_CERTIFICATE,
    &CLIENT_KEY,
    &METRICS_CLIENT_KEY,
    &TEMPORALITY,
    &HISTOGRAMS,
    &INTERVAL,
    &EXPORT_TIMEOUT,
    &RESOURCE_ATTRIBUTES,
    &SERVICE_NAME,
    &DISABLED,
    &SHUTDOWN_TIMEOUT,
    &HISTOGRAM_BUCKETS,
    &LABELS,
    &AGENT_LABEL,
];

static ENDPOINT: Setting<Otel<Endpoint>> = Setting::new(
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "http://localhost:4318",
    "Where the receiver is; /v1/metrics is added to the path.",
);
static METRICS_ENDPOINT: Setting<Otel<Endpoint>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "The same for metrics, whose path is taken as it is.");
static PROTOCOL: Setting<Otel<Protocol>> = Setting::new(
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "http/protobuf",
    "Encoding: http/protobuf or http/json. grpc is not supported.",
);
static METRICS_PROTOCOL: Setting<Otel<Protocol>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "The same for metrics.");
static HEADERS: Setting<Otel<Headers>> = Setting::optional(
    "OTEL_EXPORTER_OTLP_HEADERS",
    "Headers sent with each request, such as api-key=abc,x-scope-orgid=7; values are percent-decoded.",
)
.secret();
static METRICS_HEADERS: Setting<Otel<Headers>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "The same for metrics.").secret();
static COMPRESSION: Setting<Otel<Compression>> =
    Setting::new("OTEL_EXPORTER_OTLP_COMPRESSION", "none", "Compression of requests: gzip or none.");
static METRICS_COMPRESSION: Setting<Otel<Compression>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "The same for metrics.");
static TIMEOUT: Setting<Otel<Limit>> = Setting::new(
    "OTEL_EXPORTER_OTLP_TIMEOUT",
    "10000",
    "Time a request may take, from its name's look-up to its answer.",
);
static METRICS_TIMEOUT: Setting<Otel<Limit>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "The same for metrics.");
static CERTIFICATE: Setting<Otel<PathBuf>> = Setting::optional(
    "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "File of certificates in PEM that vouch for the receiver, in place of the system's.",
);
static METRICS_CERTIFICATE: Setting<Otel<PathBuf>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "The same for metrics.");
static CLIENT_CERTIFICATE: Setting<Otel<PathBuf>> = Setting::optional(
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
    "File of the certificate this side shows, and those it derives from, in PEM; needs the key.",
);
static METRICS_CLIENT_CERTIFICATE: Setting<Otel<PathBuf>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "The same for metrics.");
static CLIENT_KEY: Setting<Otel<PathBuf>> =
    Setting::optional("OTEL_EXPORTER_OTLP_CLIENT_KEY", "File of its private key in PEM.");
static METRICS_CLIENT_KEY: Setting<Otel<PathBuf>> =
    Setting::optional("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "The same for metrics.");
static TEMPORALITY: Setting<Otel<Temporality>> = Setting::new(
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
    "cumulative",
    "Whether counts begin with the agent, cumulative, or with the last export, delta; lowmemory is delta, but for what the \
     exporter counts of itself.",
);
static HISTOGRAMS: Setting<Otel<Histograms>> = Setting::new(
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
    "explicit_bucket_histogram",
    "Buckets of histograms: explicit_bucket_histogram, with the bounds of NIXL_TELEMETRY_HISTOGRAM_BUCKETS_US, or \
     base2_exponential_bucket_histogram, of scale 3.",
);
static INTERVAL: Setting<Otel<Limit>> =
    Setting::new("OTEL_METRIC_EXPORT_INTERVAL", "60000", "Time from one export to the next.");
static EXPORT_TIMEOUT: Setting<Otel<Limit>> =
    Setting::new("OTEL_METRIC_EXPORT_TIMEOUT", "30000", "Time an export may take, if that is less than a request may.");
static RESOURCE_ATTRIBUTES: Setting<Otel<Pairs>> = Setting::optional(
    "OTEL_RESOURCE_ATTRIBUTES",
    "Attributes of the process, such as service.name=vllm,k8s.pod.name=prefill-0; values are percent-decoded.",
);
static SERVICE_NAME: Setting<Otel<String>> =
    Setting::optional("OTEL_SERVICE_NAME", "The attribute service.name; counts more than the one above.");
static DISABLED: Setting<Otel<Truth>> =
    Setting::new("OTEL_SDK_DISABLED", "false", "With true nothing is counted and nothing sent.");
static SHUTDOWN_TIMEOUT: Setting<Millis> = Setting::new(
    "NIXL_TELEMETRY_OTLP_SHUTDOWN_TIMEOUT",
    "2000",
    "Time the end of an agent may wait for its last export.",
)
.check("milliseconds from 0 to 60000", |limit| limit.0 <= 60_000);

impl Config {
    /// The configuration of a process on this machine; `None` if it is not to push.
    ///
    /// # Errors
    /// Names the setting, its value and what was expected.
    pub(crate) fn new(settings: &Settings, hostname: &str) -> Result<Option<Self>, Error> {
        if get(settings, &DISABLED)?.0 {
            return Ok(None);
        }
        let endpoint = match find(settings, &METRICS_ENDPOINT)? {
            Some(endpoint) => endpoint.0,
            None => get(settings, &ENDPOINT)?.with_signal(),
        };
        // They are read again for each connection.
        let file = |of_metrics: &'static Setting<Otel<PathBuf>>, of_all: &'static Setting<Otel<PathBuf>>| {
            let path: Option<PathBuf> = either(settings, of_metrics, of_all)?;
            path.map(|path| absolute(of_all.name(), &path)).transpose()
        };
        let certificate = file(&METRICS_CLIENT_CERTIFICATE, &CLIENT_CERTIFICATE)?;
        let key = file(&METRICS_CLIENT_KEY, &CLIENT_KEY)?;
        let client = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(both(&CLIENT_KEY, &CLIENT_CERTIFICATE)),
            (None, Some(_)) => return Err(both(&CLIENT_CERTIFICATE, &CLIENT_KEY)),
        };
        let given = find(settings, &RESOURCE_ATTRIBUTES)?.unwrap_or_default().0;
        let service_name = find(settings, &SERVICE_NAME)?;
        let timeout = pick(settings, &METRICS_TIMEOUT, &TIMEOUT)?.0;
        Ok(Some(Self {
            endpoint,
            protocol: pick(settings, &METRICS_PROTOCOL, &PROTOCOL)?,
            headers: either(settings, &METRICS_HEADERS, &HEADERS)?.unwrap_or_default().0,
            compression: pick(settings, &METRICS_COMPRESSION, &COMPRESSION)?,
            timeout: timeout.min(get(settings, &EXPORT_TIMEOUT)?.0),
            certificate: file(&METRICS_CERTIFICATE, &CERTIFICATE)?,
            client,
            temporality: get(settings, &TEMPORALITY)?,
            histograms: get(settings, &HISTOGRAMS)?,
            resource: resource(hostname, &given, service_name.as_deref()),
            interval: get(settings, &INTERVAL)?.0,
            shutdown_timeout: settings.get(&SHUTDOWN_TIMEOUT)?.value.duration(),
        }))
    }

    /// Where requests go, for people: without what may be secret.
    pub(crate) fn shown_endpoint(&self) -> String {
        let (scheme, host) = (self.endpoint.scheme_str().unwrap_or_default(), self.endpoint.host().unwrap_or_default());
        let port = self.endpoint.port().map_or(String::new(), |port| format!(":{port}"));
        format!("{scheme}://{host}{port}{}", self.endpoint.path())
    }
}

fn both(missing: &Setting<Otel<PathBuf>>, given: &Setting<Otel<PathBuf>>) -> Error {
    format!("{} is not set, but {} is: expected both or neither", missing.name(), given.name()).into()
}

fn find<T: Value>(settings: &Settings, setting: &Setting<Otel<T>>) -> Result<Option<T>, Error> {
    Ok(settings.find(setting)?.and_then(|found| found.value.0))
}

/// The value for metrics, or else the one for all signals.
fn either<T: Value>(
    settings: &Settings,
    metrics: &Setting<Otel<T>>,
    any: &Setting<Otel<T>>,
) -> Result<Option<T>, Error> {
    match find(settings, metrics)? {
        Some(value) => Ok(Some(value)),
        None => find(settings, any),
    }
}

/// The value of a setting that has a default.
fn get<T: Value>(settings: &Settings, setting: &Setting<Otel<T>>) -> Result<T, Error> {
    match find(settings, setting)? {
        Some(value) => Ok(value),
        // It is set, and empty.
        None => Ok(T::from_env(OsStr::new(setting.describe().default.unwrap_or_default()), Dialect::Current)?),
    }
}

/// [`either`] of two of which the one for all signals has a default.
fn pick<T: Value>(settings: &Settings, metrics: &Setting<Otel<T>>, any: &Setting<Otel<T>>) -> Result<T, Error> {
    match find(settings, metrics)? {
        Some(value) => Ok(value),
        None => get(settings, any),
    }
}

#[cfg(test)]
mod tests {
    use nixl_telemetry_sdk::markdown_table;

    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Option<Config>, String> {
        let pairs = pairs.iter().map(|(name, value)| (format!("OTEL_{name}"), *value));
        Config::new(&Settings::from_pairs(pairs), "vm").map_err(|error| error.to_string())
    }

    fn good(pairs: &[(&str, &str)]) -> Config {
        config(pairs).unwrap().expect("it is on")
    }

    #[test]
    fn the_readme_has_the_settings_as_they_are() {
        let table = markdown_table(SETTINGS);
        let readme = include_str!("../README.md");
        assert!(readme.contains(&table), "exporters/otlp/README.md lacks this table:\n{table}");
    }

    #[test]
    fn defaults_are_opentelemetrys() {
        let config = good(&[]);
        assert_eq!(config.endpoint, "http://localhost:4318/v1/metrics");
        assert_eq!((config.protocol, config.compression), (Protocol::Protobuf, Compression::None));
        assert_eq!((config.temporality, config.histograms), (Temporality::Cumulative, Histograms::Explicit));
        let seconds = [config.timeout, config.interval, config.shutdown_timeout].map(|time| time.as_secs());
        assert_eq!(seconds, [10, 60, 2]);
        assert!(config.headers.is_empty() && config.certificate.is_none() && config.client.is_none());
        // What is empty is not set.
        let empty: Vec<(&str, &str)> = SETTINGS
            .iter()
            .filter_map(|setting| setting.describe().name.strip_prefix("OTEL_"))
            .map(|name| (name, ""))
            .collect();
        assert_eq!(empty.len(), 23);
        assert!(good(&empty) == config);
    }

    #[test]
    fn endpoints_have_paths() {
        for (general, metrics, expected) in [
            ("http://c:4318", "", "http://c:4318/v1/metrics"),
            ("http://c:4318/", "", "http://c:4318/v1/metrics"),
            ("https://c/otlp//", "", "https://c/otlp/v1/metrics"),
            ("https://c/otlp?key=7", "", "https://c/otlp/v1/metrics?key=7"),
            ("http://c:4318", "http://m/", "http://m/"),
            ("", "http://m:1/x", "http://m:1/x"),
            ("http://[::1]:4318", "", "http://[::1]:4318/v1/metrics"),
        ] {
            let config = good(&[("EXPORTER_OTLP_ENDPOINT", general), ("EXPORTER_OTLP_METRICS_ENDPOINT", metrics)]);
            assert_eq!(config.endpoint, expected);
        }
        let secret = good(&[("EXPORTER_OTLP_ENDPOINT", "https://me:hunter2@c:1/x?key=hunter2")]);
        assert_eq!(secret.shown_endpoint(), "https://c:1/x/v1/metrics");
    }

    #[test]
    fn what_is_said_of_metrics_counts_more() {
        let config = good(&[
            ("EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
            ("EXPORTER_OTLP_HEADERS", "a=1"),
            ("EXPORTER_OTLP_METRICS_HEADERS", "Api-Key = a%20b%3Dc ,x=,, x=2"),
            ("EXPORTER_OTLP_TIMEOUT", "1"),
            ("EXPORTER_OTLP_METRICS_TIMEOUT", "2000"),
            ("EXPORTER_OTLP_METRICS_COMPRESSION", "gzip"),
            ("EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
            ("METRIC_EXPORT_TIMEOUT", "1500"),
            ("RESOURCE_ATTRIBUTES", "service.name=x,a=%C3%A9"),
            ("SERVICE_NAME", "vllm"),
        ]);
        assert_eq!((config.protocol, config.compression), (Protocol::Json, Compression::Gzip));
        assert_eq!((config.temporality, config.timeout.as_millis()), (Temporality::LowMemory, 1500));
        let headers: Vec<_> =
            config.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers, [("api-key", "a b=c"), ("x", "2")]);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert!(config.resource.contains(&pair("service.name", "vllm")) && config.resource.contains(&pair("a", "é")));
    }

    #[test]
    fn files_stay_where_they_are_if_the_process_goes_elsewhere() {
        let here = std::env::current_dir().unwrap();
        let names = ["CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"];
        for signal in ["", "METRICS_"] {
            let names = names.map(|name| format!("EXPORTER_OTLP_{signal}{name}"));
            let config = good(&[(&names[0], "ca"), (&names[1], "c"), (&names[2], "k")]);
            assert_eq!(config.certificate, Some(here.join("ca")));
            assert_eq!(config.client, Some((here.join("c"), here.join("k"))));
        }
    }

    #[test]
    fn it_can_be_disabled() {
        assert!(config(&[("SDK_DISABLED", "TRUE")]).unwrap().is_none());
        assert!(config(&[("SDK_DISABLED", "False")]).unwrap().is_some());
    }

    #[test]
    fn bad_values_are_named() {
        for (name, value, message) in [
            ("EXPORTER_OTLP_ENDPOINT", "localhost:4318", "is \"localhost:4318\" (environment): expected a URL"),
            ("EXPORTER_OTLP_METRICS_ENDPOINT", "ftp://c", "is \"ftp://c\" (environment): expected a URL"),
            ("EXPORTER_OTLP_PROTOCOL", "grpc", "this exporter does not speak gRPC"),
            ("EXPORTER_OTLP_COMPRESSION", "zstd", "expected gzip or none"),
            ("EXPORTER_OTLP_TIMEOUT", "0", "is \"0\" (environment): expected milliseconds from 1 to 86400000"),
            ("METRIC_EXPORT_INTERVAL", "1m", "is \"1m\" (environment): expected milliseconds"),
            ("EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "x", "expected cumulative, delta or lowmemory"),
            ("EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "x", "expected explicit_bucket_histogram or"),
            ("RESOURCE_ATTRIBUTES", "x", "is \"x\" (environment): expected name=value"),
            ("SDK_DISABLED", "1", "is \"1\" (environment): expected true or false"),
            ("EXPORTER_OTLP_CLIENT_KEY", "/k", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is not set, but"),
        ] {
            let error = config(&[(name, value)]).err().unwrap();
            assert!(error.contains(&format!("OTEL_{name}")) && error.contains(message), "{error}");
        }
        for (value, shown) in [
            ("htps://me:hunter2@c:1/x", "htps://<secret>@c:1/x"),
            ("me:hunter2@c?hunter2", "<secret>@c?<secret>"),
            ("http://me:hunter@2@:1", "http://<secret>@:1"),
            ("ftp://c/x?hunter2=?hunter2", "ftp://c/x?<secret>"),
        ] {
            let error = config(&[("EXPORTER_OTLP_ENDPOINT", value)]).err().unwrap();
            assert!(error.contains(&format!("_ENDPOINT is \"{shown}\" (environment)")), "{error}");
        }
        for value in ["hunter2", "a b=hunter2", "a=hunter2%0A", "Content-Type=hunter2"] {
            let error = config(&[("EXPORTER_OTLP_HEADERS", value)]).err().unwrap();
            assert!(error.contains("OTEL_EXPORTER_OTLP_HEADERS") && !error.contains("hunter2"), "{error}");
        }
    }
}
