// SPDX-License-Identifier: Apache-2.0

use std::path::Path;
use std::sync::Arc;

use nixl_telemetry_event::Generation;

use crate::guard::Caught;
use crate::library::Loaded;
use crate::{CreateError, Exporter, Form, Inspection, LoadError, SearchPath, search};

/// A loaded plugin: a handle that can be cloned, shared and sent.
///
/// All handles of one file, however they came about, share one initialised plugin: `init` is called for the first,
/// `fini` when the last is gone. Every [`Exporter`] holds one, so that `fini` never comes before the last of them is
/// deleted. The library itself stays in memory for as long as the process lives, as with NIXL since 1.0.1.
#[derive(Clone, Debug)]
pub struct Plugin {
    loaded: Arc<Loaded>,
    /// What it was made for, as far as nothing about it tells.
    presumed: Generation,
}

impl Plugin {
    /// Loads the plugin in this file.
    ///
    /// The library is opened as NIXL opens it: all its symbols are resolved at once, and none of them become visible
    /// to others. Then [`Form::Rich`] is negotiated with a plugin that knows how; any other is initialised as NIXL
    /// would.
    ///
    /// Waits while another thread initialises or finalises the same plugin. A plugin must not load itself from within
    /// its `init`.
    ///
    /// # Errors
    /// Every [`LoadError`] but [`InvalidName`](LoadError::InvalidName) and [`NotFound`](LoadError::NotFound).
    pub fn load(path: impl AsRef<Path>) -> Result<Self, LoadError> {
        // The layout of most releases, and no hooks.
        Ok(Self { loaded: Loaded::load(path.as_ref())?, presumed: Generation::V1_3 })
    }

    /// Loads the exporter of this name: the first file [`SearchPath::find`] finds.
    ///
    /// # Errors
    /// Every [`LoadError`]. A file that is found and does not load is an error; no other directory is tried then.
    pub fn find(name: &str, path: &SearchPath) -> Result<Self, LoadError> {
        Self::load(path.find(name)?)
    }

    /// The same plugin, presumed to be made for this generation of NIXL where nothing about it tells: for a host that is
    /// itself in a NIXL, whose plugins are there because they are made for it. `None` presumes nothing.
    ///
    /// A NIXL of the first plugin API loads no plugin of the second, and says nothing about any.
    #[must_use]
    pub fn presumed_for(self, generation: Option<Generation>) -> Self {
        let presumed = generation.filter(|generation| generation.plugin_api() == 2).unwrap_or(self.presumed);
        Self { presumed, ..self }
    }

    /// The file, by its absolute path without symbolic links.
    ///
    /// It is the path under which the file was first opened since it was last initialised.
    pub fn path(&self) -> &Path {
        &self.loaded.path
    }

    /// The exporter's name: `csv` for `libtelemetry_exporter_csv.so`, the whole file name for any other.
    pub fn name(&self) -> &str {
        let path = self.path();
        search::name_of(path).or_else(|| path.file_name()?.to_str()).unwrap_or_default()
    }

    /// The name the plugin gives itself, which no host reads on its way; empty if it gives none.
    pub fn declared_name(&self) -> String {
        self.loaded.declared().0
    }

    /// The version the plugin gives itself, which no host reads on its way; empty if it gives none.
    pub fn version(&self) -> String {
        self.loaded.declared().1
    }

    /// The plugin API version: 1 for NIXL up to 1.0.1, 2 for later ones, or the one that was negotiated.
    pub fn api_version(&self) -> u32 {
        self.loaded.api_version
    }

    /// The form in which its exporters are given events.
    ///
    /// Negotiated plugins get [`Form::Rich`], plugins of API version 1 get L56. API version 2 covers three layouts:
    /// NIXL's own exporters are recognised by their symbols; every other plugin is given what the generation has that it
    /// is [presumed](Self::presumed_for) to be made for, and L16, the layout of 1.3 and later, without such a presumption.
    /// A foreign plugin made for 1.1 or 1.2 would misread that, and nothing about it could tell.
    pub fn form(&self) -> Form {
        self.loaded.form.unwrap_or(Form::Layout(self.presumed.layout()))
    }

    /// Whether its exporters are told where a batch begins and ends: only if something proves that they can be, or the
    /// plugin is [presumed](Self::presumed_for) to be made for a NIXL that would do so without proof.
    pub fn has_batch_hooks(&self) -> bool {
        self.loaded.batch_hooks.unwrap_or(self.presumed.has_batch_hooks())
    }

    /// What the file said about itself before it was loaded.
    pub fn inspection(&self) -> &Inspection {
        &self.loaded.inspection
    }

    /// Creates an exporter for the agent of this name, which NIXL never leaves empty.
    ///
    /// `max_events` is the number of events the caller may hand over at once, NIXL's `NIXL_TELEMETRY_BUFFER_SIZE`;
    /// plugins use it for sizing. May be called from several threads at once, as NIXL does.
    ///
    /// # Errors
    /// If the plugin creates none; it stays usable.
    pub fn create_exporter(&self, agent: &str, max_events: u64) -> Result<Exporter, CreateError> {
        match self.loaded.create(agent, max_events) {
            Ok(Some(raw)) => Ok(Exporter::new(raw, self.clone())),
            Ok(None) => Err(CreateError::Null),
            Err(Caught::BindFailed(what)) => Err(CreateError::BindFailed(what)),
            Err(Caught::Threw(what)) => Err(CreateError::Threw(what)),
        }
    }
}
