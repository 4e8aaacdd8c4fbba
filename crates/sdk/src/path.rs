// SPDX-License-Identifier: Apache-2.0

use std::path::{self, Path, PathBuf};

use crate::Error;

/// A path that a setting of this name has, as it leads to the same place whatever directory the process changes to.
///
/// For every path that is used after [`Exporter::open`](crate::Exporter::open).
///
/// # Errors
/// If the path is empty, or the process' directory is gone. Names the setting and its value.
pub fn absolute(setting: &str, path: &Path) -> Result<PathBuf, Error> {
    path::absolute(path).map_err(|error| format!("{setting} is {}: {error}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_same_place() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute("DIR", Path::new("a/b")).unwrap(), here.join("a/b"));
        assert_eq!(absolute("DIR", Path::new("/a")).unwrap(), Path::new("/a"));
        let error = absolute("DIR", Path::new("")).unwrap_err().to_string();
        assert!(error.starts_with("DIR is : "), "{error}");
    }
}
