// SPDX-License-Identifier: Apache-2.0

use std::path::PathBuf;

/// Why a plugin could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The name could not be part of a plugin's file name; the disk was not looked at.
    #[error(
        "{name:?} is no exporter name: expected letters, digits, '_', '-' and '.', beginning with a letter, a digit \
         or '_'"
    )]
    InvalidName {
        /// The name as it was given.
        name: String,
    },
    /// No directory holds a plugin of this name.
    #[error("no exporter {name:?}: {} is not in {}", crate::file_name(.name), list(.searched))]
    NotFound {
        /// The name as it was given.
        name: String,
        /// Every directory that was looked at, in order.
        searched: Vec<PathBuf>,
    },
    /// The file is no shared object this process could load.
    #[error("{} is no plugin: {what}", .path.display())]
    NotASharedObject {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: String,
    },
    /// The dynamic linker refused, mostly over a library or symbol that is missing.
    #[error("cannot load {}: {message}", .path.display())]
    Dlopen {
        /// The file.
        path: PathBuf,
        /// The dynamic linker's words.
        message: String,
    },
    /// A library, but no telemetry plugin.
    #[error("{} is no telemetry plugin: it does not export nixl_telemetry_plugin_init", .path.display())]
    NoInit {
        /// The file.
        path: PathBuf,
    },
    /// The plugin declined by returning null.
    #[error("{} failed to initialise: nixl_telemetry_plugin_init returned null", .path.display())]
    InitNull {
        /// The file.
        path: PathBuf,
    },
    /// The plugin threw an exception out of `init` or `negotiate`.
    #[error("{} failed to initialise: {what}", .path.display())]
    InitThrew {
        /// The file.
        path: PathBuf,
        /// What the exception says.
        what: String,
    },
    /// The plugin speaks a plugin API this crate does not know.
    #[error("{} has plugin API version {got}: expected {expected}", .path.display())]
    ApiVersion {
        /// The file.
        path: PathBuf,
        /// The version in the plugin object.
        got: u32,
        /// The versions it could have been.
        expected: &'static str,
    },
    /// The plugin object has no function that creates exporters.
    #[error("{} cannot create exporters: its plugin object has a null create function", .path.display())]
    NullCreate {
        /// The file.
        path: PathBuf,
    },
}

/// Why a plugin created no exporter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// It returned null. Upstream's plugins do so after writing the reason to NIXL's log.
    #[error("the plugin returned no exporter (its own log line says why)")]
    Null,
    /// It threw `nixlTelemetryBindFailed`: its address is taken. NIXL 1.5 goes on without telemetry then.
    #[error("the plugin could not bind its address: {0}")]
    BindFailed(String),
    /// It threw something else: `what()`, or the name of the type if that is no `std::exception`.
    #[error("the plugin threw: {0}")]
    Threw(String),
}

fn list(searched: &[PathBuf]) -> String {
    match searched {
        [] => "any directory, since there is none to look in".to_owned(),
        [one] => one.display().to_string(),
        _ => {
            let all: Vec<_> = searched.iter().map(|directory| directory.display().to_string()).collect();
            format!("any of {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_found_lists_every_directory() {
        let check = |searched: &[&str], message: &str| {
            let error =
                LoadError::NotFound { name: "csv".to_owned(), searched: searched.iter().map(PathBuf::from).collect() };
            assert_eq!(error.to_string(), message);
        };
        let start = "no exporter \"csv\": libtelemetry_exporter_csv.so is not in";
        check(&[], &format!("{start} any directory, since there is none to look in"));
        check(&["/a"], &format!("{start} /a"));
        check(&["/a", "/b c", "d"], &format!("{start} any of /a, /b c, d"));
    }
}
