// SPDX-License-Identifier: Apache-2.0

//! Which journals a call is about.

use std::fs;
use std::path::{Path, PathBuf};

/// The journals that were named and those in the directories that were named, each once; and what is wrong with the others.
pub(crate) fn journals(paths: &[PathBuf]) -> (Vec<PathBuf>, Vec<String>) {
    let (mut all, mut known, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for path in paths {
        let found = if path.is_dir() {
            nixl_telemetry_host::journals(path)
        } else {
            // A link is one's own, and refused when it is opened.
            fs::symlink_metadata(path).map(|_| vec![path.clone()])
        };
        match found {
            Ok(found) => {
                for journal in found {
                    let place = place(&journal);
                    if !known.contains(&place) {
                        known.push(place);
                        all.push(journal);
                    }
                }
            }
            Err(error) => problems.push(format!("cannot read {}: {error}", path.display())),
        }
    }
    (all, problems)
}

/// The same for all ways to a file but links at their end.
///
/// A journal may not be opened twice at the same time by one process, which would lose its lock.
fn place(path: &Path) -> PathBuf {
    let (parent, name) = (path.parent().filter(|parent| !parent.as_os_str().is_empty()), path.file_name());
    let parent = fs::canonicalize(parent.unwrap_or(Path::new(".")));
    parent.ok().zip(name).map_or_else(|| path.to_owned(), |(parent, name)| parent.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_journal_once_in_order() {
        let root = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = root.path().join(name);
            fs::write(&path, "").unwrap();
            path
        };
        let (second, first, other) = (file("b.journal"), file("a.journal"), file("other"));
        let link = root.path().join("link");
        std::os::unix::fs::symlink(root.path(), &link).unwrap();
        let absent = root.path().join("absent");
        let (found, problems) =
            journals(&[second.clone(), root.path().to_owned(), link.join("a.journal"), other.clone(), absent.clone()]);
        assert_eq!(found, [second, first, other]);
        assert_eq!(problems, [format!("cannot read {}: No such file or directory (os error 2)", absent.display())]);
    }
}
