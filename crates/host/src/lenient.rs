// SPDX-License-Identifier: Apache-2.0

//! Reading settings under the policy of [`ON_ERROR`].

use nixl_telemetry_log::{error, warn};
use nixl_telemetry_settings::{Error as SettingError, Found, Setting, Settings, Value};

use crate::Error;
use crate::settings::{ON_ERROR, OnError};

/// The settings of one agent. What is malformed either is an error, or is logged and keeps its default.
pub(crate) struct Lenient<'a> {
    agent: &'a str,
    settings: Settings,
    policy: Option<OnError>,
}

impl<'a> Lenient<'a> {
    pub(crate) fn new(agent: &'a str, settings: Settings) -> Self {
        Self { agent, settings, policy: None }
    }

    /// The settings, without the file if that cannot be used.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What happens on errors. Looked up when it is first needed: an agent without errors does not touch it.
    pub(crate) fn policy(&mut self) -> OnError {
        if let Some(policy) = self.policy {
            return policy;
        }
        // An unusable file is complained about by whoever needed it; the policy is then what the environment says.
        let found = match self.settings.get(&ON_ERROR) {
            Err(SettingError::ReadFile { .. } | SettingError::ParseFile { .. }) => {
                self.settings.clone().without_file().get(&ON_ERROR)
            }
            found => found,
        };
        let policy = match found {
            Ok(found) => found.value,
            Err(refused) => {
                error!("agent {}: {refused}; taken as degrade", self.agent);
                OnError::Degrade
            }
        };
        *self.policy.insert(policy)
    }

    /// The value of a setting with a default.
    pub(crate) fn get<T: Value>(&mut self, setting: &Setting<T>) -> Result<T, Error> {
        match self.find(setting)? {
            Some(found) => Ok(found.value),
            None => Ok(self.settings.get(setting)?.value),
        }
    }

    /// The value of a setting, or its default, if it has one.
    pub(crate) fn find<T: Value>(&mut self, setting: &Setting<T>) -> Result<Option<Found<T>>, Error> {
        let refused = match self.settings.find(setting) {
            Ok(found) => {
                if let Some(warning) = found.as_ref().and_then(|found| found.warning.as_ref()) {
                    warn!("agent {}: {warning}", self.agent);
                }
                return Ok(found);
            }
            Err(refused) => refused,
        };
        if self.policy() == OnError::Fail {
            return Err(refused.into());
        }
        if matches!(refused, SettingError::ReadFile { .. } | SettingError::ParseFile { .. }) {
            error!("agent {}: {refused}; the file is ignored", self.agent);
            self.settings = self.settings.clone().without_file();
            return self.find(setting);
        }
        let default = setting.describe().default.unwrap_or("not set");
        error!("agent {}: {refused}; taken as {default}", self.agent);
        Ok(Settings::empty().find(setting)?)
    }
}
