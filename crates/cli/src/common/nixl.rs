// SPDX-License-Identifier: Apache-2.0

//! Where NIXL is, with every place that was looked at.
//!
//! Other than for driving NIXL, no C API is needed here, which releases up to 0.10.0 do not have: plugins can be put
//! into those, too. Nothing is loaded to find out.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use nixl_telemetry_nixl::Origin;

/// NIXL itself; the folder it lies in is what is searched for.
const LIBNIXL: &str = "libnixl.so";
const CAPI: &str = "libnixl_capi.so";

/// How a wheel calls the folder of its libraries, its own name, and the folder of what it brings along.
const WHEELS: [(&str, &str, &str); 2] = [
    (".nixl_cu12.mesonpy.libs", "nixl_cu12", "nixl_cu12.libs"),
    (".nixl_cu13.mesonpy.libs", "nixl_cu13", "nixl_cu13.libs"),
];

/// Prints every folder in which this Python looks for installed packages, one per line.
const PYTHON_FOLDERS: &str = "\
import site, sysconfig
folders = [sysconfig.get_paths()['platlib'], *site.getsitepackages(), site.getusersitepackages()]
print('\\n'.join(dict.fromkeys(folders)))
";

/// Which NIXL a command is about.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Choice {
    /// Where NIXL is: the folder of libnixl.so, a site-packages folder, or a virtual environment
    ///
    /// Without it: the active virtual environment, the packages of python3, LD_LIBRARY_PATH, the cache of ldconfig; the
    /// first that has one.
    #[arg(long, value_name = "DIR")]
    pub(crate) nixl: Option<PathBuf>,
}

/// A NIXL that is installed: the folder of its `libnixl.so`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nixl {
    folder: PathBuf,
}

/// A place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// What led there.
    pub(crate) origin: Origin,
    /// Where that is; `None` if it led nowhere.
    pub(crate) folder: Option<PathBuf>,
    /// The NIXL that is there, or why there is none.
    pub(crate) answer: Result<Nixl, String>,
}

impl Nixl {
    /// The folder of `libnixl.so`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// `libnixl.so`.
    pub(crate) fn library(&self) -> PathBuf {
        self.folder.join(LIBNIXL)
    }

    /// The C API, if this release has one.
    pub(crate) fn capi(&self) -> Option<PathBuf> {
        Some(self.folder.join(CAPI)).filter(|path| path.is_file())
    }

    /// Where it looks for plugins unless `NIXL_PLUGIN_DIR` says otherwise.
    pub(crate) fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    /// The folders its libraries come from, for `LD_LIBRARY_PATH`.
    pub(crate) fn libraries(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.clone()];
        if let (Some((_, _, bundled)), Some(packages)) = (self.wheel(), self.folder.parent()) {
            folders.push(packages.join(bundled));
        }
        folders
    }

    /// Name and version of the wheel, as its metadata states them; `None` if it does not lie in a wheel.
    pub(crate) fn version(&self) -> Option<String> {
        let (_, wheel, _) = self.wheel()?;
        let entries = fs::read_dir(self.folder.parent()?).ok()?;
        let metadata = entries.flatten().map(|entry| entry.path()).find(|path| {
            let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
            name.strip_prefix(wheel).is_some_and(|rest| rest.starts_with('-') && rest.ends_with(".dist-info"))
        })?;
        let text = fs::read_to_string(metadata.join("METADATA")).ok()?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version:"))?;
        Some(format!("{wheel} {}", version.trim()))
    }

    fn wheel(&self) -> Option<&'static (&'static str, &'static str, &'static str)> {
        WHEELS.iter().find(|(libraries, ..)| self.folder.file_name() == Some(OsStr::new(libraries)))
    }
}

/// Every place NIXL could be in, in the order in which they count; with a folder given, that one only.
pub(crate) fn places(choice: &Choice) -> Vec<Place> {
    let candidates = match &choice.nixl {
        Some(folder) => given(folder),
        None => [virtual_environment(), python_packages(), loader_path(), loader_cache()].concat(),
    };
    let mut places: Vec<Place> = Vec::new();
    for (origin, folder) in candidates {
        let (folder, answer) = match folder {
            Ok(folder) if places.iter().any(|place| place.folder.as_ref() == Some(&folder)) => {
                (Some(folder), Err("looked at before".to_owned()))
            }
            Ok(folder) => {
                let answer = look(&folder);
                (Some(folder), answer)
            }
            Err(reason) => (None, Err(reason)),
        };
        places.push(Place { origin, folder, answer });
    }
    places
}

/// The first NIXL there is.
///
/// # Errors
/// If there is none, with every place that was looked at.
pub(crate) fn find(choice: &Choice) -> anyhow::Result<Nixl> {
    let places = places(choice);
    if let Some(nixl) = places.iter().find_map(|place| place.answer.as_ref().ok()) {
        return Ok(nixl.clone());
    }
    let looked: String = places.iter().map(|place| format!("\n  {place}")).collect();
    bail!("no NIXL found; `--nixl DIR` says where it is; looked at:{looked}")
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(folder) = &self.folder {
            write!(f, "{} ", folder.display())?;
        }
        let answer = match &self.answer {
            Ok(nixl) => format!("NIXL in {}", nixl.folder.display()),
            Err(reason) => reason.clone(),
        };
        write!(f, "({}): {answer}", self.origin)
    }
}

/// A folder to look at, or why an origin has none.
type Candidate = (Origin, Result<PathBuf, String>);

fn look(folder: &Path) -> Result<Nixl, String> {
    let below = WHEELS.iter().map(|(libraries, ..)| folder.join(libraries));
    let mut holders = [folder.to_owned()].into_iter().chain(below);
    match holders.find(|holder| holder.join(LIBNIXL).is_file()) {
        Some(folder) => Ok(Nixl { folder }),
        None if !folder.is_dir() => Err("no such folder".to_owned()),
        None => Err(format!("no {LIBNIXL}, neither there nor in {} or {}", WHEELS[0].0, WHEELS[1].0)),
    }
}

fn given(folder: &Path) -> Vec<Candidate> {
    // Absolute, since it ends up in search paths; what does not exist is complained about as it was written.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if folder.join("pyvenv.cfg").is_file() {
        return environment(Origin::Folder, &folder);
    }
    vec![(Origin::Folder, Ok(folder))]
}

fn virtual_environment() -> Vec<Candidate> {
    let origin = Origin::VirtualEnvironment;
    match std::env::var_os("VIRTUAL_ENV").filter(|root| !root.is_empty()) {
        Some(root) => environment(origin, Path::new(&root)),
        None => vec![(origin, Err("not set".to_owned()))],
    }
}

/// The packages of a virtual environment.
fn environment(origin: Origin, root: &Path) -> Vec<Candidate> {
    let library = root.join("lib");
    let entries = fs::read_dir(&library).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> =
        entries.map(|entry| entry.path().join("site-packages")).filter(|folder| folder.is_dir()).collect();
    folders.sort();
    if folders.is_empty() {
        return vec![(origin, Err(format!("no python*/site-packages in {}", library.display())))];
    }
    folders.into_iter().map(|folder| (origin, Ok(folder))).collect()
}

fn python_packages() -> Vec<Candidate> {
    let origin = Origin::Python;
    match output("python3", &["-c", PYTHON_FOLDERS]) {
        Ok(folders) => folders.lines().map(|folder| (origin, Ok(PathBuf::from(folder)))).collect(),
        Err(reason) => vec![(origin, Err(reason))],
    }
}

fn loader_path() -> Vec<Candidate> {
    let origin = Origin::LibraryPath;
    let path = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| !folder.as_os_str().is_empty());
    let candidates: Vec<Candidate> = folders.map(|folder| (origin, Ok(folder))).collect();
    if candidates.is_empty() { vec![(origin, Err("not set".to_owned()))] } else { candidates }
}

fn loader_cache() -> Vec<Candidate> {
    let origin = Origin::LoaderCache;
    // Often not on the path of ordinary users.
    let cache = output("ldconfig", &["-p"]).or_else(|_| output("/sbin/ldconfig", &["-p"]));
    let folder = cache.and_then(|cache| in_loader_cache(&cache).ok_or_else(|| format!("its cache has no {LIBNIXL}")));
    vec![(origin, folder)]
}

/// The folder of NIXL in what `ldconfig -p` prints, in lines such as `name (libc6,x86-64) => /path/name`.
fn in_loader_cache(cache: &str) -> Option<PathBuf> {
    let line = cache.lines().find(|line| line.split_whitespace().next() == Some(LIBNIXL))?;
    Some(Path::new(line.split_once(" => ")?.1).parent()?.to_owned())
}

/// What a program prints, or why it does not.
fn output(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).output().map_err(|error| format!("{program} does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{program} ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files in it.
    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn found(folder: &Path) -> Result<Nixl, String> {
        places(&Choice { nixl: Some(folder.to_owned()) }).pop().unwrap().answer
    }

    #[test]
    fn a_wheel_is_found_from_every_side() {
        for (libraries, wheel, bundled) in WHEELS {
            let packages = "lib/python3.12/site-packages";
            let root = tree(&[
                ("pyvenv.cfg", ""),
                (&format!("{packages}/{libraries}/{LIBNIXL}"), ""),
                (&format!("{packages}/{wheel}-1.5.1.dist-info/METADATA"), "Name: x\nVersion: 1.5.1\n"),
            ]);
            let root = root.path().canonicalize().unwrap();
            let packages = root.join(packages);
            for folder in [&root, &packages, &packages.join(libraries)] {
                let nixl = found(folder).unwrap();
                assert_eq!(nixl.library(), packages.join(libraries).join(LIBNIXL));
                assert_eq!(nixl.libraries(), [packages.join(libraries), packages.join(bundled)]);
                assert_eq!(nixl.version(), Some(format!("{wheel} 1.5.1")));
                assert_eq!(nixl.capi(), None);
            }
        }
    }

    #[test]
    fn a_folder_that_is_no_wheel_has_neither_version_nor_bundle() {
        let root = tree(&[(LIBNIXL, ""), (CAPI, "")]);
        let nixl = found(root.path()).unwrap();
        assert_eq!(nixl.libraries(), [root.path().canonicalize().unwrap()]);
        assert_eq!(nixl.version(), None);
        assert_eq!(nixl.capi(), Some(nixl.folder().join(CAPI)));
    }

    #[test]
    fn what_is_missing_is_said() {
        let check = |folder: &Path, expected: &str| {
            let error = find(&Choice { nixl: Some(folder.to_owned()) }).unwrap_err().to_string();
            assert!(error.contains(&format!("{} (folder given): {expected}", folder.display())), "{error}");
        };
        check(Path::new("/nowhere/at/all"), "no such folder");
        let empty = tree(&[]);
        check(&empty.path().canonicalize().unwrap(), "no libnixl.so, neither there nor in");
        let environment = tree(&[("pyvenv.cfg", "")]);
        assert!(found(environment.path()).unwrap_err().starts_with("no python*/site-packages in "));
    }

    #[test]
    fn the_loader_cache_is_read_by_exact_name() {
        let cache = "2 libs found in cache\n\
            \tlibnixl.so.1 (libc6,x86-64) => /wrong/libnixl.so.1\n\
            \tlibnixl.so (libc6,x86-64) => /opt/nixl/lib/libnixl.so\n";
        assert_eq!(in_loader_cache(cache), Some(PathBuf::from("/opt/nixl/lib")));
        assert_eq!(in_loader_cache("nothing\n"), None);
    }
}
