// SPDX-License-Identifier: Apache-2.0

//! Which hosts a plugin fits, as far as the plugin tells.

use std::fmt;

use nixl_telemetry_event::{Generation, Layout};
use nixl_telemetry_loader::{Inspection, Upstream};

/// Whether a plugin works in a host, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    Yes(String),
    No(String),
    /// Nothing tells.
    Unknown(String),
}

impl Fit {
    /// `yes`, `no` or `unknown`.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Yes(_) => "yes",
            Self::No(_) => "no",
            Self::Unknown(_) => "unknown",
        }
    }
}

/// The reason.
impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Yes(why) | Self::No(why) | Self::Unknown(why)) = self;
        f.write_str(why)
    }
}

/// Whether a plugin fits a NIXL of this generation, by what its file says and, if it was loaded, by the API version it
/// then had.
pub(crate) fn fit(plugin: &Inspection, api: Option<u32>, host: Generation) -> Fit {
    if !plugin.exports_init {
        return Fit::No("it does not export nixl_telemetry_plugin_init".to_owned());
    }
    if plugin.negotiates {
        return Fit::Yes("made with this project's SDK: it adapts to the host it recognises".to_owned());
    }
    let layout = plugin.upstream.and_then(|upstream| upstream.layout);
    let api = layout.map(|layout| if layout == Layout::L56 { 1 } else { 2 }).or(api);
    if let Some(api) = api.filter(|api| *api != host.plugin_api()) {
        return Fit::No(format!("it has plugin API {api}, this host takes {} only", host.plugin_api()));
    }
    if host.has_batch_hooks() && plugin.batch_hooks() == Some(false) {
        return Fit::No("it has 3 virtual functions; this host calls 5 and crashes".to_owned());
    }
    match &plugin.upstream {
        Some(upstream) => fit_of_upstream(upstream, host),
        None => fit_of_stranger(plugin, api, host),
    }
}

fn fit_of_upstream(plugin: &Upstream, host: Generation) -> Fit {
    let Some(layout) = plugin.layout else {
        return Fit::Unknown("one of NIXL's own, of a release that is not known".to_owned());
    };
    if layout != host.layout() {
        return Fit::No(format!("it reads events as {}, this host writes {}", name(layout), name(host.layout())));
    }
    if plugin.releases.starts_with(host.as_str()) {
        return Fit::Yes(format!("it comes with NIXL {}", plugin.releases));
    }
    Fit::Unknown(format!("events and calls fit, but it needs libraries of NIXL {}", plugin.releases))
}

fn fit_of_stranger(plugin: &Inspection, api: Option<u32>, host: Generation) -> Fit {
    match api {
        None => Fit::Unknown("its API version is known once it is loaded".to_owned()),
        Some(1) => Fit::Yes("plugin API 1 has one event layout".to_owned()),
        Some(_) => {
            let made_for = match host.layout() {
                Layout::L16 => "1.3 or later",
                _ => host.releases(),
            };
            let hooks = if host.has_batch_hooks() && plugin.batch_hooks().is_none() {
                ", and only if it has 5 virtual functions"
            } else {
                ""
            };
            Fit::Unknown(format!("plugin API 2 has three event layouts: only if it was made for {made_for}{hooks}"))
        }
    }
}

fn name(layout: Layout) -> String {
    nixl_telemetry_loader::Form::Layout(layout).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An inspection with these findings, which cannot be written down as a literal outside of its crate.
    fn plugin(change: impl FnOnce(&mut Inspection)) -> Inspection {
        let mut plugin = Inspection::default();
        plugin.exports_init = true;
        change(&mut plugin);
        plugin
    }

    fn words(plugin: &Inspection, api: Option<u32>) -> [&'static str; 6] {
        Generation::ALL.map(|host| fit(plugin, api, host).word())
    }

    #[test]
    fn plugins_that_are_no_upstream_ones() {
        let check = |plugin: Inspection, api, expected: [&str; 6]| assert_eq!(words(&plugin, api), expected);
        let (yes, no, dark) = ("yes", "no", "unknown");
        check(Inspection::default(), None, [no; 6]);
        check(plugin(|it| it.negotiates = true), None, [yes; 6]);
        check(plugin(|_| ()), None, [dark; 6]);
        check(plugin(|it| it.slots = Some(3)), None, [dark, dark, dark, dark, dark, no]);
        check(plugin(|_| ()), Some(1), [yes, no, no, no, no, no]);
        check(plugin(|_| ()), Some(2), [no, dark, dark, dark, dark, dark]);
        check(plugin(|it| it.slots = Some(3)), Some(2), [no, dark, dark, dark, dark, no]);
        check(plugin(|_| ()), Some(7), [no; 6]);
        let hooks = plugin(|it| it.slots = Some(5));
        assert!(!fit(&hooks, Some(2), Generation::V1_5).to_string().contains("virtual functions"));
        assert!(fit(&plugin(|_| ()), Some(2), Generation::V1_5).to_string().contains("virtual functions"));
    }
}
