// SPDX-License-Identifier: Apache-2.0

//! A plugin directory and what this program remembers about it.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nixl_telemetry_loader::file_name;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::common::plugins::check_name;

/// What was installed into a directory.
const MANIFEST: &str = ".nixl-telemetry-installed.json";
/// What a plugin replaced, before the exporter's name.
const KEPT: &str = ".nixl-telemetry-kept-";
/// What is being written.
const TEMPORARY: &str = ".nixl-telemetry-new-";

/// The version of the manifest this program writes, and the only one it reads.
const FORMAT: u32 = 1;

/// What was installed, by the exporter's name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    format: u32,
    pub(crate) plugins: BTreeMap<String, Entry>,
}

/// One installed plugin.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// What the file may hold: one thing, or two if replacing one by the other was interrupted.
    pub(crate) installed: Vec<Content>,
    /// What was there before, which is kept.
    pub(crate) replaced: Option<Content>,
}

/// The content of a file, told from any other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    size: u64,
    sha256: String,
}

/// What a plugin's file is, compared with what is remembered about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Gone.
    Absent,
    /// As it was installed.
    Ours,
    /// What was there before: replacing it, or putting it back, was interrupted.
    Original,
    /// Something else.
    Changed,
}

/// A directory of plugins.
#[derive(Debug)]
pub(crate) struct Folder<'a> {
    path: &'a Path,
}

/// Keeps every other `nixl-telemetry` from changing a directory.
#[derive(Debug)]
pub(crate) struct Lock {
    _directory: File,
}

impl Default for Manifest {
    fn default() -> Self {
        Self { format: FORMAT, plugins: BTreeMap::new() }
    }
}

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let sha256 = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        Self { size: bytes.len() as u64, sha256 }
    }
}

impl<'a> Folder<'a> {
    pub(crate) fn new(path: &'a Path) -> Self {
        Self { path }
    }

    /// Where exporter `name` lies, if it does.
    pub(crate) fn target(&self, name: &str) -> PathBuf {
        self.path.join(file_name(name))
    }

    /// Where what exporter `name` replaced is kept.
    pub(crate) fn kept(&self, name: &str) -> PathBuf {
        self.path.join(format!("{KEPT}{name}"))
    }

    /// # Errors
    /// If the directory does not exist, or somebody else works on it.
    pub(crate) fn lock(&self) -> anyhow::Result<Lock> {
        let directory = File::open(self.path).with_context(|| format!("cannot open {}", self.path.display()))?;
        match directory.try_lock() {
            Ok(()) => Ok(Lock { _directory: directory }),
            Err(TryLockError::WouldBlock) => {
                bail!("another nixl-telemetry is at work in {}: expected to be alone", self.path.display())
            }
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", self.path.display()))
            }
        }
    }

    /// What is remembered; nothing if nothing was ever installed.
    ///
    /// # Errors
    /// If the file cannot be read, or says what this program would not have written.
    pub(crate) fn manifest(&self) -> anyhow::Result<Manifest> {
        let path = self.path.join(MANIFEST);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Manifest::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let manifest: Manifest = serde_json::from_slice(&text)
            .with_context(|| format!("{} is not what this program writes", path.display()))?;
        if manifest.format != FORMAT {
            bail!("{} has format {}: expected {FORMAT}", path.display(), manifest.format);
        }
        for name in manifest.plugins.keys() {
            check_name(name).with_context(|| format!("{} is not what this program writes", path.display()))?;
        }
        Ok(manifest)
    }

    /// Remembers this from now on; nothing at all leaves no file behind.
    pub(crate) fn remember(&self, manifest: &Manifest) -> anyhow::Result<()> {
        let path = self.path.join(MANIFEST);
        let cannot = || format!("cannot write {}", path.display());
        if manifest.plugins.is_empty() {
            remove(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            return self.sync().with_context(cannot);
        }
        let mut text = serde_json::to_string_pretty(manifest).with_context(cannot)?;
        text.push('\n');
        let new = self.stage(text.as_bytes(), 0o644)?;
        self.put(new, &path)
    }

    /// The content of a file, or `None` if there is none.
    pub(crate) fn content(&self, path: &Path) -> anyhow::Result<Option<Content>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(Content::of(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// What became of an installed plugin.
    pub(crate) fn state(&self, name: &str, entry: &Entry) -> anyhow::Result<State> {
        Ok(match self.content(&self.target(name))? {
            None => State::Absent,
            Some(content) if entry.installed.contains(&content) => State::Ours,
            found if found == entry.replaced => State::Original,
            Some(_) => State::Changed,
        })
    }

    /// Writes a file that has no name yet that anybody looks for.
    pub(crate) fn stage(&self, bytes: &[u8], mode: u32) -> anyhow::Result<NamedTempFile> {
        let cannot = || format!("cannot write to {}", self.path.display());
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(self.path).with_context(cannot)?;
        file.write_all(bytes).with_context(cannot)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(mode)).with_context(cannot)?;
        file.as_file().sync_all().with_context(cannot)?;
        Ok(file)
    }

    /// Gives a staged file its name, in place of what had that name.
    pub(crate) fn put(&self, staged: NamedTempFile, path: &Path) -> anyhow::Result<()> {
        let cannot = || format!("cannot rename to {}", path.display());
        staged.persist(path).map_err(|error| error.error).with_context(cannot)?;
        self.sync().with_context(cannot)
    }

    /// Gives the file of exporter `name` a second name, under which it stays when it is replaced.
    pub(crate) fn keep(&self, name: &str) -> anyhow::Result<()> {
        let (target, kept) = (self.target(name), self.kept(name));
        let cannot = || format!("cannot keep {} as {}", target.display(), kept.display());
        if let Some(there) = self.content(&kept)? {
            if self.content(&target)? != Some(there) {
                bail!("{} is in the way: expected no such file, since nothing is remembered about it", kept.display());
            }
            return Ok(());
        }
        // Not every file system has second names for a file.
        if fs::hard_link(&target, &kept).is_err() {
            fs::copy(&target, &kept).with_context(cannot)?;
        }
        self.sync().with_context(cannot)
    }

    /// Gives what exporter `name` replaced its name back.
    pub(crate) fn put_back(&self, name: &str) -> anyhow::Result<()> {
        let (target, kept) = (self.target(name), self.kept(name));
        let cannot = || format!("cannot rename {} to {}", kept.display(), target.display());
        fs::rename(&kept, &target).with_context(cannot)?;
        self.sync().with_context(cannot)
    }

    /// Removes the file, if there is one.
    pub(crate) fn remove(&self, path: &Path) -> anyhow::Result<()> {
        remove(path).and_then(|()| self.sync()).with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Makes names that were given or taken survive a loss of power.
    fn sync(&self) -> io::Result<()> {
        File::open(self.path)?.sync_all()
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_as_it_was_written() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let mut manifest = Manifest::default();
        assert_eq!(folder.manifest().unwrap(), manifest);
        let entry = Entry { installed: vec![Content::of(b"new")], replaced: Some(Content::of(b"old")) };
        manifest.plugins.insert("csv".to_owned(), entry);
        folder.remember(&manifest).unwrap();
        assert_eq!(folder.manifest().unwrap(), manifest);
        folder.remember(&Manifest::default()).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_it_would_not_have_written_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: &str| {
            fs::write(root.path().join(MANIFEST), text).unwrap();
            let message = format!("{:#}", Folder::new(root.path()).manifest().unwrap_err());
            assert!(message.contains(MANIFEST) && message.contains(expected), "{message}");
        };
        check("", "is not what this program writes");
        check("{}", "missing field");
        check(r#"{"format": 2, "plugins": {}}"#, "has format 2: expected 1");
        check(r#"{"format": 1, "plugins": {}, "more": 1}"#, "unknown field");
        check(r#"{"format": 1, "plugins": {"../../x": {"installed": [], "replaced": null}}}"#, "is no exporter name");
    }

    #[test]
    fn the_state_follows_from_the_content() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let of = |bytes: &[u8]| Content::of(bytes);
        let entry = Entry { installed: vec![of(b"old"), of(b"new")], replaced: Some(of(b"original")) };
        assert_eq!(folder.state("csv", &entry).unwrap(), State::Absent);
        let table =
            [("old", State::Ours), ("new", State::Ours), ("original", State::Original), ("other", State::Changed)];
        for (text, state) in table {
            fs::write(folder.target("csv"), text).unwrap();
            assert_eq!(folder.state("csv", &entry).unwrap(), state, "{text}");
        }
        let entry = Entry { replaced: None, ..entry };
        fs::write(folder.target("csv"), "original").unwrap();
        assert_eq!(folder.state("csv", &entry).unwrap(), State::Changed);
    }

    #[test]
    fn only_one_works_on_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path());
        let first = folder.lock().unwrap();
        assert!(folder.lock().unwrap_err().to_string().contains("another nixl-telemetry is at work in"));
        drop(first);
        // A process that another test is starting may have it for a moment.
        assert!((0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            folder.lock().is_ok()
        }));
    }

    #[test]
    fn nothing_besides_looks_like_a_plugin() {
        for name in [MANIFEST, KEPT, TEMPORARY] {
            assert!(name.starts_with(".nixl-telemetry-"), "{name}");
        }
    }
}
