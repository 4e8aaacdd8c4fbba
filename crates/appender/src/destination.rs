// SPDX-License-Identifier: Apache-2.0

use std::{num::NonZero, path::PathBuf};

use nixl_telemetry_sdk::{Agent, Error, PathTemplate, Setting, Settings};

use crate::{
    codec::Compression,
    file::{Form, LineFile, Rotation},
};

/// Where lines go, and when the file is rotated, before it is known for which agent and process.
#[derive(Clone, Debug)]
pub struct Destination {
    path: PathTemplate,
    rotation: Option<Rotation>,
    /// The setting that chose the path.
    setting: &'static str,
    /// What starts compressing. A pointer, so that an exporter that compresses nothing is not linked with it.
    start: Option<fn(&mut LineFile)>,
}

impl Destination {
    /// Out of three settings: the path, the size in bytes at which the file is rotated (0 never rotates), and how many rotated
    /// files are kept besides the current one.
    ///
    /// # Errors
    /// If one of them has no value or none that is allowed. The last is not looked at if the file is never rotated.
    pub fn from_settings(
        settings: &Settings,
        file: &'static Setting<PathTemplate>,
        max_size: &'static Setting<u64>,
        max_files: &'static Setting<u32>,
    ) -> Result<Self, Error> {
        let path = settings.get(file)?.value;
        let rotation = match NonZero::new(settings.get(max_size)?.value) {
            Some(max_size) => Some(Rotation { max_size, keep: settings.get(max_files)?.value, compression: None }),
            None => None,
        };
        Ok(Self { path, rotation, setting: file.name(), start: None })
    }

    /// Has rotated files compressed, by a thread of their own.
    pub fn compressed(mut self, compression: Compression) -> Self {
        self.rotation.iter_mut().for_each(|rotation| rotation.compression = Some(compression));
        self.start = Some(LineFile::start_compressing);
        self
    }

    pub(crate) fn path(&self, agent: &Agent) -> PathBuf {
        self.path.resolve(agent)
    }

    /// Opens the file of an agent of this process: as [`open`](Self::open), and what was rotated is compressed from now on.
    pub(crate) fn open_own(&self, agent: &Agent, form: Form) -> Result<LineFile, Error> {
        let mut file = self.open(agent, form)?;
        if let Some(start) = self.start {
            start(&mut file);
        }
        Ok(file)
    }

    /// Opens the file of an agent.
    pub(crate) fn open(&self, agent: &Agent, form: Form) -> Result<LineFile, Error> {
        let file = LineFile::open(self.path(agent), form, self.rotation);
        Ok(file.map_err(|error| format!("{}: {error}", self.setting))?)
    }
}
