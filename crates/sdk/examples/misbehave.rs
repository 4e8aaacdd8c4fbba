// SPDX-License-Identifier: Apache-2.0

//! An exporter that panics where `NIXL_TELEMETRY_MISBEHAVE` says, for the tests of what a host goes through with it.

#![forbid(unsafe_code)]

use nixl_telemetry_sdk::{Agent, Batch, Error, Exporter, Setting, Settings, export_plugin};

static WHERE: Setting<String> = Setting::required("NIXL_TELEMETRY_MISBEHAVE", "open, export, flush or drop.");

struct Misbehave(String);

impl Misbehave {
    fn panic_in(&self, here: &str) {
        assert_ne!(self.0, here, "misbehaving in {here}");
    }
}

impl Exporter for Misbehave {
    fn open(_: &Agent, settings: &Settings) -> Result<Self, Error> {
        let misbehave = Self(settings.get(&WHERE)?.value);
        misbehave.panic_in("open");
        Ok(misbehave)
    }

    fn export(&mut self, _: &Batch<'_>) -> Result<(), Error> {
        self.panic_in("export");
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.panic_in("flush");
        Ok(())
    }
}

impl Drop for Misbehave {
    fn drop(&mut self) {
        self.panic_in("drop");
    }
}

export_plugin!("misbehave", Misbehave);
