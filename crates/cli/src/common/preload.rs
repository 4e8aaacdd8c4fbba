// SPDX-License-Identifier: Apache-2.0

//! The library that puts this collector into a NIXL.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::common::plugins;

/// The variable by which the dynamic linker is told of libraries that come first.
pub(crate) const VARIABLE: &str = "LD_PRELOAD";
const LIBRARY: &str = "libnixl_telemetry_preload.so";

/// The library, which comes with this program.
pub(crate) fn library() -> anyhow::Result<PathBuf> {
    let supply = plugins::supply(None)?;
    let found = supply.directories().iter().map(|directory| directory.join(LIBRARY)).find(|path| path.is_file());
    let Some(path) = found else {
        let searched: Vec<_> = supply.directories().iter().map(|directory| directory.display().to_string()).collect();
        bail!("{LIBRARY} is missing: expected it in {}", searched.join(" or "));
    };
    Ok(path)
}

/// What [`VARIABLE`] has to be, if these others are to be preloaded, too.
pub(crate) fn list(library: &Path, others: Option<&OsStr>) -> anyhow::Result<OsString> {
    if library.as_os_str().as_bytes().iter().any(|byte| matches!(byte, b' ' | b':')) {
        bail!("{} cannot be preloaded: expected a path without blanks and colons", library.display());
    }
    let mut list = library.as_os_str().to_owned();
    if let Some(others) = others.filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_comes_first() {
        let check = |others: Option<&str>, expected: &str| {
            assert_eq!(list(Path::new("/x/lib.so"), others.map(OsStr::new)).unwrap(), expected);
        };
        check(None, "/x/lib.so");
        check(Some(""), "/x/lib.so");
        check(Some("/y.so"), "/x/lib.so:/y.so");
        let error = list(Path::new("/a b/lib.so"), None).unwrap_err();
        assert_eq!(error.to_string(), "/a b/lib.so cannot be preloaded: expected a path without blanks and colons");
    }
}
