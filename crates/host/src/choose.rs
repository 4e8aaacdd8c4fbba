// SPDX-License-Identifier: Apache-2.0

//! From the settings to the exporters.

use std::sync::Arc;

use nixl_telemetry_event::Generation;
use nixl_telemetry_loader::{CreateError, Plugin, SearchPath};
use nixl_telemetry_log::{error, info, warn};
use nixl_telemetry_settings::Found;

use crate::buffer::Buffer;
use crate::lenient::Lenient;
use crate::outlet::Outlet;
use crate::settings::{DIR, EXPORTER, OnError};
use crate::{Error, Nop, Sink};

/// The exporter that discards.
const NOP: &str = "NOP";
/// NIXL's exporter into a ring file.
const BUFFER: &str = "BUFFER";

/// An exporter that somebody wishes for, and in which words.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    name: String,
    setting: &'static str,
    words: String,
}

/// What every exporter of an agent is created with.
pub(crate) struct Context {
    pub(crate) agent: Arc<str>,
    pub(crate) buffer_size: u64,
    /// Where plugins are; `None` for where the settings say.
    pub(crate) search_path: Option<SearchPath>,
    /// The release whose ring files are written.
    pub(crate) generation: Generation,
    /// Whether what is dropped is an event.
    pub(crate) reports_drops: bool,
    /// Whether the program has sinks of its own, so that none has to be made up.
    pub(crate) has_sinks: bool,
    /// Whether there is no going on without one of them: then an address that is taken is an error like any other.
    pub(crate) needs_all: bool,
}

/// The exporters the settings choose, each with its problem if it is unavailable.
pub(crate) fn choose(context: Context, lenient: &mut Lenient<'_>) -> Result<Vec<(Outlet, Option<String>)>, Error> {
    let wishes = wishes(&context, lenient)?;
    wishes.into_iter().map(|wish| fulfil(&context, lenient, wish)).collect()
}

fn wishes(context: &Context, lenient: &mut Lenient<'_>) -> Result<Vec<Wish>, Error> {
    if let Some(found) = lenient.find(&EXPORTER)? {
        let wishes = named(&context.agent, &found);
        if !wishes.is_empty() {
            return Ok(wishes);
        }
    }
    // Being set is enough, even to nothing.
    if let Some(Found { origin, .. }) = lenient.find(&DIR)? {
        let words = format!("is set ({origin}) and chooses {BUFFER}");
        return Ok(vec![Wish { name: BUFFER.to_owned(), setting: DIR.name(), words }]);
    }
    if context.has_sinks {
        return Ok(Vec::new());
    }
    info!("agent {}: {} is not set: events are discarded", context.agent, EXPORTER.name());
    Ok(vec![Wish { name: NOP.to_owned(), setting: EXPORTER.name(), words: "is not set".to_owned() }])
}

fn named(agent: &str, found: &Found<String>) -> Vec<Wish> {
    let mut wishes: Vec<Wish> = Vec::new();
    for name in found.value.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let words = format!("names {name:?} ({})", found.origin);
        if wishes.iter().any(|wish| wish.name == name) {
            warn!("agent {agent}: {} {words} twice; it is fed once", EXPORTER.name());
        } else {
            wishes.push(Wish { name: name.to_owned(), setting: EXPORTER.name(), words });
        }
    }
    wishes
}

/// The exporter, or the place of one that cannot be had.
fn fulfil(context: &Context, lenient: &mut Lenient<'_>, wish: Wish) -> Result<(Outlet, Option<String>), Error> {
    let agent = &context.agent;
    let outlet = |sink, problem| (Outlet::new(Arc::clone(agent), wish.name.clone(), sink), problem);
    let (cause, is_taken) = match create(context, lenient, &wish.name) {
        Ok(sink) => return Ok(outlet(Some(sink), None)),
        Err(Refusal::Taken(cause)) => (cause, true),
        Err(Refusal::Broken(cause)) => (cause, false),
    };
    let name = wish.name.clone();
    let error = Error::Exporter { name, setting: wish.setting, wish: wish.words.clone(), cause: cause.clone() };
    // That another process of the node already serves the address is no mistake: NIXL 1.5 goes on, too.
    if is_taken && !context.needs_all {
        warn!("agent {agent}: {error}; its events are dropped");
    } else if lenient.policy() == OnError::Fail {
        return Err(error);
    } else {
        error!("agent {agent}: {error}; its events are dropped");
    }
    Ok(outlet(None, Some(cause)))
}

/// Why there is no exporter.
enum Refusal {
    /// The address it serves is taken.
    Taken(String),
    /// Anything else.
    Broken(String),
}

fn create(context: &Context, lenient: &mut Lenient<'_>, name: &str) -> Result<Box<dyn Sink>, Refusal> {
    match name {
        NOP => return Ok(Box::new(Nop)),
        BUFFER => {
            return match Buffer::create(context, lenient) {
                Ok(buffer) => Ok(Box::new(buffer)),
                Err(cause) => Err(Refusal::Broken(cause)),
            };
        }
        _ => {}
    }
    let path = match &context.search_path {
        Some(path) => path.clone(),
        None => {
            SearchPath::from_settings(lenient.settings(), None).map_err(|error| Refusal::Broken(error.to_string()))?
        }
    };
    let plugin = Plugin::find(name, &path).map_err(|error| Refusal::Broken(error.to_string()))?;
    match plugin.create_exporter(&context.agent, context.buffer_size) {
        Ok(exporter) => Ok(Box::new(exporter)),
        Err(error @ CreateError::BindFailed(_)) => Err(Refusal::Taken(error.to_string())),
        Err(error) => Err(Refusal::Broken(format!("{}: {error}", plugin.path().display()))),
    }
}
