// SPDX-License-Identifier: Apache-2.0

//! What a client wants: the format, and whether compressed.

use nixl_telemetry_metrics::encode::Format;

/// How much a client wants something: how closely it named it, then how it rates it, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    closeness: u8,
    quality: u16,
}

/// The format of those `offered` that the values of `Accept` rate best.
///
/// What is named precisely counts for a format, then `text/*`, then `*/*`. Of two rated the same the one that was named
/// more closely is taken, then the one offered first. If none is acceptable, as well as without the header, it is the one
/// offered first: whoever sends nonsense may still be able to read.
pub(crate) fn format<'a>(accept: impl Iterator<Item = &'a str> + Clone, offered: &[Format]) -> Format {
    let best = offered
        .iter()
        .rev()
        .filter_map(|&format| {
            let ranges = accept.clone().flat_map(|value| value.split(',')).filter_map(Range::parse);
            let found = ranges.filter_map(|range| range.matches(format)).max()?;
            (found.quality > 0).then_some((found.quality, found.closeness, format))
        })
        // Of equals the last, hence offered backwards.
        .max_by_key(|&(quality, closeness, _)| (quality, closeness));
    best.map_or(offered.first().copied().unwrap_or(Format::Text), |(_, _, format)| format)
}

/// Whether the values of `Accept-Encoding` allow gzip.
pub(crate) fn gzip<'a>(accept_encoding: impl Iterator<Item = &'a str>) -> bool {
    let mut found = Match { closeness: 0, quality: 0 };
    for coding in accept_encoding.flat_map(|value| value.split(',')) {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let closeness = match name.trim() {
            "*" => 0,
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => 1,
            _ => continue,
        };
        if let Some(quality) = quality(parameters) {
            found = found.max(Match { closeness, quality });
        }
    }
    found.quality > 0
}

/// One element of `Accept`.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    parameters: &'a str,
    quality: u16,
}

impl<'a> Range<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (range, parameters) = text.split_once(';').unwrap_or((text, ""));
        let (kind, subtype) = range.trim().split_once('/')?;
        Some(Self { kind, subtype, parameters, quality: quality(parameters)? })
    }

    fn matches(&self, format: Format) -> Option<Match> {
        let (kind, subtype) = match format {
            Format::Text => ("text", "plain"),
            Format::OpenMetrics => ("application", "openmetrics-text"),
            Format::Protobuf => ("application", "vnd.google.protobuf"),
        };
        let closeness = match (self.kind, self.subtype) {
            ("*", "*") => 0,
            (own, "*") if own.eq_ignore_ascii_case(kind) => 1,
            (own, sub) if own.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => {
                self.has_parameters_of(format).then_some(2)?
            }
            _ => return None,
        };
        Some(Match { closeness, quality: self.quality })
    }

    fn has_parameters_of(&self, format: Format) -> bool {
        match format {
            Format::Text => matches!(parameter(self.parameters, "version"), None | Some("0.0.4")),
            // 0.0.1 is what drafts said, and Prometheus still lists; it reads 1.0.0 as well.
            Format::OpenMetrics => matches!(parameter(self.parameters, "version"), None | Some("1.0.0" | "0.0.1")),
            Format::Protobuf => {
                parameter(self.parameters, "proto") == Some("io.prometheus.client.MetricFamily")
                    && parameter(self.parameters, "encoding") == Some("delimited")
            }
        }
    }
}

/// The value of a parameter, without quotes.
fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// The parameter `q` in thousandths, 1000 without one; `None` if it is no number from 0 to 1.
fn quality(parameters: &str) -> Option<u16> {
    let Some(value) = parameter(parameters, "q") else { return Some(1000) };
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let fraction = format!("{fraction:0<3}").parse().ok()?;
    match (whole, fraction) {
        ("0", fraction) => Some(fraction),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_format_they_rate_best() {
        let prometheus_2_42 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;\
                               q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_2_42_histograms = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                                          encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,\
                                          application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;\
                                          q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                            escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let prometheus_3_histograms = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                                       encoding=delimited;escaping=allow-utf-8;q=0.7,\
                                       application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
                                       application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;\
                                       escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
        for (accept, expected) in [
            (prometheus_2_42, Format::OpenMetrics),
            (prometheus_2_42_histograms, Format::Protobuf),
            (prometheus_3, Format::OpenMetrics),
            (prometheus_3_histograms, Format::Protobuf),
            (browser, Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            ("complete nonsense", Format::Text),
            (";;,,/;q=,=", Format::Text),
            ("image/png", Format::Text),
            ("text/*", Format::Text),
            ("application/*", Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("APPLICATION/OpenMetrics-Text; Version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text; version=0.0.1", Format::OpenMetrics),
            // A version nobody here writes; then nothing is acceptable.
            ("application/openmetrics-text; version=2.0.0", Format::Text),
            ("application/openmetrics-text; version=2.0.0, text/plain;q=0.1", Format::Text),
            // Named is wanted more than any.
            ("*/*, application/openmetrics-text", Format::OpenMetrics),
            // Named with less than any.
            ("text/plain;q=0.2, */*", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.3, text/plain;q=0.300", Format::Text),
            ("application/openmetrics-text;q=0.301, text/plain;q=0.3", Format::OpenMetrics),
            // What is named with 0 is not wanted, though everything is.
            ("text/plain;q=0, */*;q=0.1", Format::OpenMetrics),
            ("text/plain;q=0, application/openmetrics-text;q=0, */*;q=0.1", Format::Protobuf),
            ("*/*;q=0", Format::Text),
            // Qualities that are none.
            ("application/openmetrics-text;q=2", Format::Text),
            ("application/openmetrics-text;q=1.001", Format::Text),
            ("application/openmetrics-text;q=0.1234", Format::Text),
            ("application/openmetrics-text;q=-1", Format::Text),
            ("application/openmetrics-text;q=1.000", Format::OpenMetrics),
            // Messages that are not delimited, or others.
            ("application/vnd.google.protobuf", Format::Text),
            ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text", Format::Text),
        ] {
            assert_eq!(format([accept].into_iter(), &Format::ALL), expected, "{accept}");
        }
    }

    #[test]
    fn only_what_is_offered_is_given() {
        let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.9,\
                      application/openmetrics-text;q=0.5,*/*;q=0.1";
        assert_eq!(format([accept].into_iter(), &[Format::Text, Format::OpenMetrics]), Format::OpenMetrics);
        assert_eq!(format([accept].into_iter(), &[Format::Text]), Format::Text);
        assert_eq!(format(["*/*"].into_iter(), &[Format::OpenMetrics, Format::Text]), Format::OpenMetrics);
    }

    #[test]
    fn several_headers_are_one_list() {
        let accept = ["text/plain;q=0.5", "application/openmetrics-text"];
        assert_eq!(format(accept.into_iter(), &Format::ALL), Format::OpenMetrics);
        assert_eq!(format(std::iter::empty(), &Format::ALL), Format::Text);
        assert!(gzip(["br", "gzip;q=0.5"].into_iter()));
    }

    #[test]
    fn gzip_is_used_when_it_is_allowed() {
        for (accept, expected) in [
            ("gzip", true),
            ("GZIP", true),
            ("gzip, deflate, br", true),
            ("deflate;q=0.5, gzip;q=0.1", true),
            ("*", true),
            ("", false),
            ("identity", false),
            ("deflate", false),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("*;q=0", false),
            ("gzip;q=many", false),
        ] {
            assert_eq!(gzip([accept].into_iter()), expected, "{accept}");
        }
    }
}
