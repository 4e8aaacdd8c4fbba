// SPDX-License-Identifier: Apache-2.0

//! What the process is, for the receiver: the resource all its metrics belong to.

use std::path::Path;
use std::{env, process};

/// Attributes of a resource, each once, in the order of their names.
pub(crate) type Attributes = Vec<(String, String)>;

/// The resource of this process on a machine of this name: what can be seen, then what `OTEL_RESOURCE_ATTRIBUTES` says, then
/// `OTEL_SERVICE_NAME`; what comes later counts.
pub(crate) fn resource(hostname: &str, given: &[(String, String)], service_name: Option<&str>) -> Attributes {
    let seen = [
        ("host.name", hostname.to_owned()),
        ("process.pid", process::id().to_string()),
        ("service.instance.id", instance(hostname)),
        ("service.name", format!("unknown_service:{}", executable())),
        ("telemetry.sdk.language", "rust".into()),
        ("telemetry.sdk.name", "nixl-telemetry".into()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").into()),
    ];
    let seen = seen.map(|(name, value)| (name.to_owned(), value));
    let named = service_name.map(|name| ("service.name".to_owned(), name.to_owned()));
    let all = seen.iter().chain(given).chain(&named);
    let attributes: std::collections::BTreeMap<_, _> = all.cloned().collect();
    attributes.into_iter().collect()
}

fn executable() -> String {
    let path = env::current_exe().ok();
    let name = path.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "unknown".into())
}

/// Tells this process from others of the same name, on this machine and elsewhere; the same for its whole life.
fn instance(hostname: &str) -> String {
    // The time since boot at which the process began: without it a number would come back with another process.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in brackets may hold anything; what follows it are fields from the third on, of which this is the 22nd.
    let began = stat.rsplit_once(") ").and_then(|(_, fields)| fields.split(' ').nth(19)).unwrap_or("0");
    format!("{hostname}:{}:{began}", process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(attributes: &'a Attributes, name: &str) -> Vec<&'a str> {
        attributes.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    #[test]
    fn what_is_said_counts_more_than_what_is_seen() {
        let seen = resource("vm", &[], None);
        assert!(get(&seen, "service.name")[0].starts_with("unknown_service:telemetry_exporter_otlp"), "{seen:?}");
        assert_eq!(get(&seen, "host.name"), ["vm"]);
        let began = get(&seen, "service.instance.id")[0].rsplit_once(':').unwrap().1;
        assert!(began.parse::<u64>().unwrap() > 0, "{seen:?}");

        let given = [("service.name", "vllm"), ("host.name", "node-7"), ("deployment.environment.name", "test")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let said = resource("vm", &given, None);
        assert_eq!(get(&said, "service.name"), ["vllm"]);
        assert_eq!(get(&said, "host.name"), ["node-7"]);
        assert_eq!(get(&said, "deployment.environment.name"), ["test"]);
        assert_eq!(get(&resource("vm", &given, Some("decode")), "service.name"), ["decode"]);
    }
}
