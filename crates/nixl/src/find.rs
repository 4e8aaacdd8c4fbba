// SPDX-License-Identifier: Apache-2.0

//! Where an installed NIXL is.
//!
//! Nothing is loaded to find out.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CAPI: &str = "libnixl_capi.so";
const LIBNIXL: &str = "libnixl.so";

/// Where the wheels keep their libraries, below `site-packages`, and what the wheel is called.
const WHEELS: [(&str, &str); 2] = [(".nixl_cu12.mesonpy.libs", "nixl_cu12"), (".nixl_cu13.mesonpy.libs", "nixl_cu13")];

/// Prints every folder in which this Python looks for installed packages, one per line.
const PYTHON_FOLDERS: &str = "\
import site, sysconfig
folders = [sysconfig.get_paths()['platlib'], *site.getsitepackages(), site.getusersitepackages()]
print('\\n'.join(dict.fromkeys(folders)))
";

/// Looks for a NIXL that has a C API: 0.10.1 or newer.
///
/// With `folder`, it is looked for there and nowhere else. The folder holds `libnixl_capi.so`, or it is a
/// `site-packages` folder or an unpacked wheel, which holds `.nixl_cu12.mesonpy.libs/libnixl_capi.so` or the same of
/// `cu13`.
///
/// Without, these are tried in order:
///
/// 1. the virtual environment that is active, by the environment variable `VIRTUAL_ENV`,
/// 2. where `python3` has its packages, of the system and of the user,
/// 3. where the loader looks for libraries: `LD_LIBRARY_PATH`, then the cache of `ldconfig`.
///
/// # Errors
///
/// [`FindError`] with every place that was looked at, and what was missing there.
pub fn find(folder: Option<&Path>) -> Result<Found, FindError> {
    match folder {
        Some(folder) => first([Ok((Origin::Folder, folder.to_owned()))]),
        None => first(virtual_environment().into_iter().chain(python_packages()).chain(loader_path())),
    }
}

/// A NIXL that is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    folder: PathBuf,
    origin: Origin,
    version: Option<String>,
}

impl Found {
    /// The C API, `libnixl_capi.so`, for [`Library::open`](crate::Library::open).
    pub fn capi(&self) -> PathBuf {
        self.folder.join(CAPI)
    }

    /// NIXL itself, `libnixl.so`, which lies beside the C API and tells by its symbols which generation it is.
    pub fn libnixl(&self) -> PathBuf {
        self.folder.join(LIBNIXL)
    }

    /// Where this NIXL looks for plugins, of backends and of telemetry exporters, if `NIXL_PLUGIN_DIR` is not set: the
    /// folder `plugins` beside `libnixl.so`.
    pub fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    /// What led to it.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The release, such as `1.5.1`, as the metadata of its wheel states it; `None` if it does not lie in a wheel.
    ///
    /// For people. Builds of the same number differ, so what a NIXL can do is told by its symbols.
    pub fn wheel_version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}

/// What led to a NIXL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The folder that was given.
    Folder,
    /// The active virtual environment of Python.
    VirtualEnvironment,
    /// The packages of `python3`.
    Python,
    /// `LD_LIBRARY_PATH`.
    LibraryPath,
    /// The cache of `ldconfig`.
    LoaderCache,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Origin::Folder => "folder given",
            Origin::VirtualEnvironment => "VIRTUAL_ENV",
            Origin::Python => "python3",
            Origin::LibraryPath => "LD_LIBRARY_PATH",
            Origin::LoaderCache => "ldconfig",
        })
    }
}

/// No NIXL was found that has a C API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no NIXL with a C API (0.10.1 or newer) found; looked at:{}", lines(.looked))]
pub struct FindError {
    /// Every place that was looked at, in order.
    pub looked: Vec<Looked>,
}

/// A place that was looked at in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// What led there.
    pub origin: Origin,
    /// The folder; `None` if the origin led to none.
    pub folder: Option<PathBuf>,
    /// What was missing.
    pub missing: String,
}

impl fmt::Display for Looked {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.folder {
            Some(folder) => write!(out, "{} ({}): {}", folder.display(), self.origin, self.missing),
            None => write!(out, "{}: {}", self.origin, self.missing),
        }
    }
}

fn lines(looked: &[Looked]) -> String {
    looked.iter().map(|place| format!("\n  {place}")).collect()
}

/// A folder to look at, or why an origin has none.
type Candidate = Result<(Origin, PathBuf), Looked>;

fn first(candidates: impl IntoIterator<Item = Candidate>) -> Result<Found, FindError> {
    let mut looked = Vec::new();
    for candidate in candidates {
        match candidate.and_then(|(origin, folder)| look(origin, folder)) {
            Ok(found) => return Ok(found),
            Err(place) => looked.push(place),
        }
    }
    Err(FindError { looked })
}

fn nowhere(origin: Origin, missing: impl Into<String>) -> Candidate {
    Err(Looked { origin, folder: None, missing: missing.into() })
}

/// Looks at one folder, and at what a wheel would have put below it.
fn look(origin: Origin, folder: PathBuf) -> Result<Found, Looked> {
    let below = WHEELS.map(|(libraries, _)| folder.join(libraries));
    let holders: Vec<&PathBuf> = [&folder].into_iter().chain(&below).collect();
    let has = |name: &str| holders.iter().copied().find(|holder| holder.join(name).is_file());
    let missing = match (has(CAPI), has(LIBNIXL)) {
        (Some(holder), _) if holder.join(LIBNIXL).is_file() => {
            return Ok(Found { folder: holder.clone(), origin, version: wheel_version(holder) });
        }
        (Some(holder), _) => format!("{CAPI} is in {}, but no {LIBNIXL} beside it", holder.display()),
        (None, Some(holder)) => {
            format!("{LIBNIXL} is in {}, but no {CAPI}; releases up to 0.10.0 have none", holder.display())
        }
        (None, None) if !folder.is_dir() => "no such folder".to_owned(),
        (None, None) => format!("no {CAPI}, neither there nor in {} or {}", WHEELS[0].0, WHEELS[1].0),
    };
    Err(Looked { origin, folder: Some(folder), missing })
}

/// The version of the wheel whose libraries are in `folder`: `…/nixl_cu12-*.dist-info/METADATA` says it.
fn wheel_version(folder: &Path) -> Option<String> {
    let (_, wheel) = WHEELS.iter().find(|(libraries, _)| folder.file_name() == Some(OsStr::new(libraries)))?;
    fs::read_dir(folder.parent()?)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            name.strip_prefix(wheel).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".dist-info"))
        })
        .find_map(|path| {
            let metadata = fs::read_to_string(path.join("METADATA")).ok()?;
            let version = metadata.lines().find_map(|line| line.strip_prefix("Version:"))?;
            Some(version.trim().to_owned())
        })
}

fn virtual_environment() -> Vec<Candidate> {
    let origin = Origin::VirtualEnvironment;
    let Some(root) = std::env::var_os("VIRTUAL_ENV").filter(|root| !root.is_empty()) else {
        return vec![nowhere(origin, "not set")];
    };
    let library = Path::new(&root).join("lib");
    let mut folders: Vec<PathBuf> = fs::read_dir(&library)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("site-packages")))
        .filter(|folder| folder.is_dir())
        .collect();
    folders.sort();
    if folders.is_empty() {
        return vec![nowhere(origin, format!("no python*/site-packages in {}", library.display()))];
    }
    folders.into_iter().map(|folder| Ok((origin, folder))).collect()
}

fn python_packages() -> Vec<Candidate> {
    let origin = Origin::Python;
    match output("python3", &["-c", PYTHON_FOLDERS]) {
        Ok(folders) => folders.lines().map(|folder| Ok((origin, PathBuf::from(folder)))).collect(),
        Err(reason) => vec![nowhere(origin, reason)],
    }
}

fn loader_path() -> Vec<Candidate> {
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut candidates: Vec<Candidate> = std::env::split_paths(&path)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| Ok((Origin::LibraryPath, folder)))
        .collect();
    if candidates.is_empty() {
        candidates.push(nowhere(Origin::LibraryPath, "not set"));
    }
    // Often not on the path of ordinary users.
    let cache = output("ldconfig", &["-p"]).or_else(|_| output("/sbin/ldconfig", &["-p"]));
    candidates.push(match cache {
        Ok(cache) => match in_loader_cache(&cache) {
            Some(folder) => Ok((Origin::LoaderCache, folder)),
            None => nowhere(Origin::LoaderCache, format!("its cache does not know {CAPI}")),
        },
        Err(reason) => nowhere(Origin::LoaderCache, reason),
    });
    candidates
}

/// The folder of the C API in what `ldconfig -p` prints, in lines such as `name (libc6,x86-64) => /path/name`.
fn in_loader_cache(cache: &str) -> Option<PathBuf> {
    cache
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(CAPI))
        .find_map(|line| Some(Path::new(line.split_once(" => ")?.1).parent()?.to_owned()))
}

/// What a program prints, or why it does not.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program} does not start: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} ended with {}", output.status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these empty files.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn a_folder_of_libraries_is_taken_as_it_is() {
        let root = tree(&[CAPI, LIBNIXL]);
        let found = find(Some(root.path())).unwrap();
        assert_eq!(found.capi(), root.path().join(CAPI));
        assert_eq!(found.libnixl(), root.path().join(LIBNIXL));
        assert_eq!(found.plugins(), root.path().join("plugins"));
        assert_eq!(found.wheel_version(), None);
        assert_eq!(found.origin(), Origin::Folder);
    }

    #[test]
    fn wheels_are_recognised_from_either_folder() {
        for (libraries, wheel) in WHEELS {
            let root = tree(&[&format!("{libraries}/{CAPI}"), &format!("{libraries}/{LIBNIXL}")]);
            let info = root.path().join(format!("{wheel}-1.5.1.dist-info"));
            fs::create_dir(&info).unwrap();
            fs::write(info.join("METADATA"), "Metadata-Version: 2.1\nName: x\nVersion: 1.5.1\n").unwrap();
            for folder in [root.path().to_owned(), root.path().join(libraries)] {
                let found = find(Some(&folder)).unwrap();
                assert_eq!(found.capi(), root.path().join(libraries).join(CAPI));
                assert_eq!(found.wheel_version(), Some("1.5.1"));
            }
        }
    }

    #[test]
    fn the_error_says_what_is_missing() {
        #[track_caller]
        fn check(files: &[&str], expected: &str) {
            let root = tree(files);
            let message = find(Some(root.path())).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(message.contains(&root.path().display().to_string()), "{message}");
        }
        check(&[], "no libnixl_capi.so");
        check(&[CAPI], "no libnixl.so beside it");
        check(&[".nixl_cu12.mesonpy.libs/libnixl.so"], "releases up to 0.10.0 have none");
        let message = find(Some(Path::new("/nowhere/at/all"))).unwrap_err().to_string();
        assert!(message.contains("\n  /nowhere/at/all (folder given): no such folder"), "{message}");
    }

    #[test]
    fn the_first_usable_candidate_wins_and_earlier_ones_are_told() {
        let (empty, full) = (tree(&[]), tree(&[CAPI, LIBNIXL]));
        let candidates = |last: &Path| {
            [
                nowhere(Origin::VirtualEnvironment, "not set"),
                Ok((Origin::Python, empty.path().to_owned())),
                Ok((Origin::LibraryPath, last.to_owned())),
            ]
        };
        let found = first(candidates(full.path())).unwrap();
        assert_eq!(found.origin(), Origin::LibraryPath);
        let looked = first(candidates(empty.path())).unwrap_err().looked;
        let origins: Vec<Origin> = looked.iter().map(|place| place.origin).collect();
        assert_eq!(origins, [Origin::VirtualEnvironment, Origin::Python, Origin::LibraryPath]);
    }

    #[test]
    fn the_loader_cache_is_read_by_exact_name() {
        let cache = "2 libs found in cache\n\
            \tlibnixl_capi.so.1 (libc6,x86-64) => /wrong/libnixl_capi.so.1\n\
            \tlibnixl_capi.so (libc6,x86-64) => /opt/nixl/lib/libnixl_capi.so\n";
        assert_eq!(in_loader_cache(cache), Some(PathBuf::from("/opt/nixl/lib")));
        assert_eq!(in_loader_cache("nothing\n"), None);
    }
}
