// SPDX-License-Identifier: Apache-2.0

//! The directory that all processes of a run share.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nixl_telemetry_sdk::warn;
use nixl_telemetry_shm::{NotPrivate, check_private};

/// Makes the directory, for its owner alone, if it is not there; warns if others may write into it. Returns it as seen
/// from the root, since the process may change its working directory.
///
/// # Errors
/// If it cannot be made, or is something else.
pub(crate) fn prepare(directory: &Path) -> io::Result<PathBuf> {
    let directory = std::path::absolute(directory)?;
    // An existing one is left as it is.
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    match check_private(&directory) {
        Ok(()) => {}
        Err(NotPrivate::Missing(error)) => return Err(error),
        Err(problem) => warn!("exporter prometheus_mp: {}: {problem}", directory.display()),
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    #[test]
    fn what_is_missing_is_made_and_what_is_there_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(prepare(&path).unwrap(), path);
        assert_eq!((mode(&path), mode(&folder.path().join("a"))), (0o700, 0o700));
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        prepare(&path).unwrap();
        assert_eq!(mode(&path), 0o777);
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(prepare(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(prepare(&file.join("below")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
