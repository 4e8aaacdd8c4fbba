// SPDX-License-Identifier: Apache-2.0

//! The types settings have, and what their values look like.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::time::Duration;

use nixl_telemetry_sdk::{Dialect, Malformed, Millis, Value};
use percent_encoding::percent_decode_str;
use ureq::http::{HeaderName, HeaderValue, Uri, uri::PathAndQuery};

/// A value as OpenTelemetry reads it: an empty one is none.
#[derive(Debug)]
pub(super) struct Otel<T>(pub(super) Option<T>);

impl<T: Value> Value for Otel<T> {
    const TYPE: &'static str = T::TYPE;
    const EXPECTED: &'static str = T::EXPECTED;
    const UNIT: &'static str = T::UNIT;

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        if text.is_empty() { Ok(Self(None)) } else { T::from_env(text, dialect).map(|value| Self(Some(value))) }
    }

    fn show(text: &str) -> Cow<'_, str> {
        T::show(text)
    }
}

/// A URL that requests can go to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Endpoint(pub(super) Uri);

impl Endpoint {
    /// With the path of metrics added.
    pub(super) fn with_signal(self) -> Uri {
        let mut parts = self.0.into_parts();
        let path = parts.path_and_query.as_ref().map_or("", PathAndQuery::path).trim_end_matches('/').to_owned();
        let query = parts.path_and_query.as_ref().and_then(PathAndQuery::query);
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        parts.path_and_query = format!("{path}/v1/metrics{query}").parse().ok();
        Uri::from_parts(parts).expect("a path was added to a whole URL")
    }
}

impl Value for Endpoint {
    const TYPE: &'static str = "url";
    const EXPECTED: &'static str = "a URL that begins with http:// or https:// and names a host";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let uri: Option<Uri> = text.to_str().and_then(|text| text.trim().parse().ok());
        uri.filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        })
        .map(Self)
        .ok_or_else(Malformed::of::<Self>)
    }

    /// Without user, password and query, of what need not be a URL.
    fn show(text: &str) -> Cow<'_, str> {
        const HIDDEN: &str = "<secret>";
        let (address, query) = text.split_once('?').map_or((text, None), |(address, query)| (address, Some(query)));
        let (scheme, rest) = address.split_at(address.find("://").map_or(0, |colon| colon + 3));
        let (user, host) = rest.split_at(rest.rfind('@').unwrap_or(0));
        let user = if user.is_empty() { user } else { HIDDEN };
        let query = query.map_or(String::new(), |_| format!("?{HIDDEN}"));
        format!("{scheme}{user}{host}{query}").into()
    }
}

/// How requests are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Protobuf,
    Json,
}

impl Value for Protocol {
    const TYPE: &'static str = "word";
    const EXPECTED: &'static str = "http/protobuf or http/json";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        match text.to_str() {
            Some("http/protobuf") => Ok(Self::Protobuf),
            Some("http/json") => Ok(Self::Json),
            Some("grpc") => Err(Malformed::expected(
                "http/protobuf or http/json, since this exporter does not speak gRPC; if the rest of the process does, set \
                 OTEL_EXPORTER_OTLP_METRICS_PROTOCOL and OTEL_EXPORTER_OTLP_METRICS_ENDPOINT for this one",
            )),
            _ => Err(Malformed::of::<Self>()),
        }
    }
}

/// A word, in any case.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $expected:literal: $($word:literal => $variant:ident),+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name { $($variant),+ }

        impl Value for $name {
            const TYPE: &'static str = "word";
            const EXPECTED: &'static str = $expected;

            fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
                match text.to_str().map(str::to_ascii_lowercase).as_deref() {
                    $(Some($word) => Ok(Self::$variant),)+
                    _ => Err(Malformed::of::<Self>()),
                }
            }
        }
    };
}

words! {
    /// How requests are compressed.
    Compression, "gzip or none": "gzip" => Gzip, "none" => None
}
words! {
    /// When counts begin.
    Temporality, "cumulative, delta or lowmemory": "cumulative" => Cumulative, "delta" => Delta, "lowmemory" => LowMemory
}
words! {
    /// What buckets histograms have.
    Histograms, "explicit_bucket_histogram or base2_exponential_bucket_histogram":
        "explicit_bucket_histogram" => Explicit, "base2_exponential_bucket_histogram" => Exponential
}

/// OpenTelemetry's truth, which is only one word.
pub(super) struct Truth(pub(super) bool);

impl Value for Truth {
    const TYPE: &'static str = "bool";
    const EXPECTED: &'static str = "true or false";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        match text.to_str().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => Ok(Self(true)),
            Some("false") => Ok(Self(false)),
            _ => Err(Malformed::of::<Self>()),
        }
    }
}

/// A time that is neither zero nor for ever.
pub(super) struct Limit(pub(super) Duration);

impl Value for Limit {
    const TYPE: &'static str = "u64";
    const EXPECTED: &'static str = "milliseconds from 1 to 86400000";
    const UNIT: &'static str = "ms";

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        match Millis::from_env(text, dialect) {
            Ok(Millis(limit @ 1..=86_400_000)) => Ok(Self(Duration::from_millis(limit))),
            _ => Err(Malformed::of::<Self>()),
        }
    }
}

/// `name=value,…`, percent-decoded, as W3C's baggage has it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl Value for Pairs {
    const TYPE: &'static str = "pairs";
    const EXPECTED: &'static str = "name=value, separated by commas, values percent-encoded in UTF-8";

    fn from_env(text: &OsStr, _: Dialect) -> Result<Self, Malformed> {
        let text = text.to_str().ok_or_else(Malformed::of::<Self>)?;
        let decode = |text: &str| Some(percent_decode_str(text.trim()).decode_utf8().ok()?.into_owned());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some((decode(name).filter(|name| !name.is_empty())?, decode(value)?))
        };
        let pairs = text.split(',').filter(|text| !text.trim().is_empty());
        pairs.map(pair).collect::<Option<_>>().map(Self).ok_or_else(Malformed::of::<Self>)
    }
}

/// Headers of requests.
#[derive(Default, PartialEq)]
pub(super) struct Headers(pub(super) Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} headers", self.0.len())
    }
}

/// Those that the exporter sets itself, or the connection.
const TAKEN: [&str; 6] =
    ["connection", "content-encoding", "content-length", "content-type", "host", "transfer-encoding"];

impl Value for Headers {
    const TYPE: &'static str = "pairs";
    const EXPECTED: &'static str =
        "name=value, separated by commas, values percent-encoded, of headers that say nothing about body or connection";

    fn from_env(text: &OsStr, dialect: Dialect) -> Result<Self, Malformed> {
        let malformed = |_| Malformed::of::<Self>();
        let mut headers = Vec::new();
        for (name, value) in Pairs::from_env(text, dialect).map_err(malformed)?.0 {
            let name: HeaderName = name.parse().map_err(|_| Malformed::of::<Self>())?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| Malformed::of::<Self>())?;
            if TAKEN.contains(&name.as_str()) {
                return Err(Malformed::of::<Self>());
            }
            value.set_sensitive(true);
            headers.retain(|(known, _)| *known != name);
            headers.push((name, value));
        }
        Ok(Self(headers))
    }
}
