// SPDX-License-Identifier: Apache-2.0

//! Where an installed NIXL is, with every place that was looked at.
//!
//! Nothing is loaded to find out.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// NIXL itself; the folder it lies in is what is looked for.
const LIBNIXL: &str = "libnixl.so";
const CAPI: &str = "libnixl_capi.so";

/// What a wheel puts into `site-packages`.
struct Wheel {
    /// Its name, as its metadata has it.
    name: &'static str,
    /// The folder of NIXL's libraries.
    libraries: &'static str,
    /// The folder of what it brings along for them, such as UCX.
    bundled: &'static str,
}

const WHEELS: [Wheel; 2] = [
    Wheel { name: "nixl_cu12", libraries: ".nixl_cu12.mesonpy.libs", bundled: "nixl_cu12.libs" },
    Wheel { name: "nixl_cu13", libraries: ".nixl_cu13.mesonpy.libs", bundled: "nixl_cu13.libs" },
];

/// Prints every folder in which this Python looks for installed packages, one per line.
const PYTHON_FOLDERS: &str = "\
import site, sysconfig
folders = [sysconfig.get_paths()['platlib'], *site.getsitepackages(), site.getusersitepackages()]
print('\\n'.join(dict.fromkeys(folders)))
";

/// The first NIXL there is, of the [`places`] it could be in.
///
/// It may lack the C API, as releases up to 0.10.0 do; [`Found::capi`] tells.
///
/// # Errors
///
/// [`FindError`] with every place that was looked at, and why there is none.
pub fn find(folder: Option<&Path>) -> Result<Found, FindError> {
    let mut looked = Vec::new();
    for place in places(folder) {
        match place.answer {
            Ok(found) => return Ok(found),
            Err(_) => looked.push(place),
        }
    }
    Err(FindError { places: looked })
}

/// Every place NIXL could be in, in the order in which they count; each is looked at when the iterator gets there.
///
/// With `folder`, that is this folder and no other. It holds `libnixl.so`, or it is a `site-packages` folder or an
/// unpacked wheel, which holds `.nixl_cu12.mesonpy.libs/libnixl.so` or the same of `cu13`, or it is a virtual
/// environment of Python.
///
/// Without, these are looked at:
///
/// 1. the virtual environment that is active, by the environment variable `VIRTUAL_ENV`,
/// 2. where `python3` has its packages, of the system and of the user,
/// 3. where the loader looks for libraries: `LD_LIBRARY_PATH`, then the cache of `ldconfig`.
pub fn places(folder: Option<&Path>) -> impl Iterator<Item = Place> {
    let origins: &[fn() -> Vec<Candidate>] = match folder {
        Some(_) => &[],
        None => &[virtual_environment, python_packages, loader_path, loader_cache],
    };
    look_at(folder.map(given).into_iter().flatten().chain(origins.iter().flat_map(|origin| origin())))
}

/// A NIXL that is installed: the folder of its `libnixl.so`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    folder: PathBuf,
}

impl Found {
    /// The folder of `libnixl.so`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// NIXL itself, `libnixl.so`, which tells by its symbols which generation it is.
    pub fn libnixl(&self) -> PathBuf {
        self.folder.join(LIBNIXL)
    }

    /// The C API, `libnixl_capi.so`, for [`Library::open`](crate::Library::open).
    ///
    /// # Errors
    ///
    /// [`NoCapi`] if there is none beside `libnixl.so`.
    pub fn capi(&self) -> Result<PathBuf, NoCapi> {
        Some(self.folder.join(CAPI)).filter(|path| path.is_file()).ok_or_else(|| NoCapi { folder: self.folder.clone() })
    }

    /// Where this NIXL looks for plugins, of backends and of telemetry exporters, if `NIXL_PLUGIN_DIR` is not set: the
    /// folder `plugins` beside `libnixl.so`.
    pub fn plugins(&self) -> PathBuf {
        self.folder.join("plugins")
    }

    /// The folders its libraries come from, for `LD_LIBRARY_PATH`.
    pub fn libraries(&self) -> Vec<PathBuf> {
        let bundled = self.wheel().map(|(packages, wheel)| packages.join(wheel.bundled));
        [self.folder.clone()].into_iter().chain(bundled).collect()
    }

    /// Name and version of its wheel, such as `nixl_cu12 1.5.1`, as the wheel's metadata states them; `None` if it does
    /// not lie in a wheel.
    ///
    /// For people. Builds of the same number differ, so what a NIXL can do is told by its symbols.
    pub fn version(&self) -> Option<String> {
        let (packages, wheel) = self.wheel()?;
        let entries = fs::read_dir(packages).ok()?;
        entries.flatten().find_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(wheel.name)?.strip_prefix('-')?;
            version.strip_suffix(".dist-info")?;
            let metadata = fs::read_to_string(entry.path().join("METADATA")).ok()?;
            let version = metadata.lines().find_map(|line| line.strip_prefix("Version:"))?;
            Some(format!("{} {}", wheel.name, version.trim()))
        })
    }

    /// The wheel it lies in, and where that is unpacked.
    fn wheel(&self) -> Option<(&Path, &'static Wheel)> {
        let name = self.folder.file_name()?;
        let wheel = WHEELS.iter().find(|wheel| name == OsStr::new(wheel.libraries))?;
        Some((self.folder.parent()?, wheel))
    }
}

/// A place that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What led there.
    pub origin: Origin,
    /// Where that is; `None` if it led nowhere.
    pub folder: Option<PathBuf>,
    /// The NIXL that is there, or why there is none.
    pub answer: Result<Found, String>,
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(folder) = &self.folder {
            write!(out, "{} ", folder.display())?;
        }
        write!(out, "({}): ", self.origin)?;
        match &self.answer {
            Ok(found) => write!(out, "NIXL in {}", found.folder.display()),
            Err(reason) => out.write_str(reason),
        }
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

/// No NIXL was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no NIXL found; looked at:{}", self.looked_at())]
pub struct FindError {
    /// Every place that was looked at, in order.
    pub places: Vec<Place>,
}

impl FindError {
    /// The places for a message: each on a line of its own, which begins with the line break and two spaces.
    pub fn looked_at(&self) -> String {
        self.places.iter().map(|place| format!("\n  {place}")).collect()
    }
}

/// A NIXL has no C API, so that it cannot be driven.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the NIXL in {} has no C API to drive it by: expected 0.10.1 or newer, with {CAPI} beside {LIBNIXL}",
    folder.display()
)]
pub struct NoCapi {
    /// The folder of its `libnixl.so`.
    pub folder: PathBuf,
}

/// A folder to look at, or why an origin has none.
type Candidate = (Origin, Result<PathBuf, String>);

/// Looks at each folder once.
fn look_at(candidates: impl Iterator<Item = Candidate>) -> impl Iterator<Item = Place> {
    let mut before = Vec::new();
    candidates.map(move |(origin, folder)| match folder {
        Ok(folder) => {
            let answer = if before.contains(&folder) { Err("looked at before".to_owned()) } else { look(&folder) };
            before.push(folder.clone());
            Place { origin, folder: Some(folder), answer }
        }
        Err(reason) => Place { origin, folder: None, answer: Err(reason) },
    })
}

/// Looks at one folder, and at what a wheel would have put below it.
fn look(folder: &Path) -> Result<Found, String> {
    let below = WHEELS.iter().map(|wheel| folder.join(wheel.libraries));
    let holders: Vec<PathBuf> = [folder.to_owned()].into_iter().chain(below).collect();
    let has = |name: &str| holders.iter().find(|holder| holder.join(name).is_file());
    match (has(LIBNIXL), has(CAPI)) {
        (Some(holder), _) => Ok(Found { folder: holder.clone() }),
        (None, Some(holder)) => Err(format!("{CAPI} is in {}, but no {LIBNIXL} beside it", holder.display())),
        (None, None) if !folder.is_dir() => Err("no such folder".to_owned()),
        (None, None) => {
            let [one, other] = WHEELS.map(|wheel| wheel.libraries);
            Err(format!("no {LIBNIXL}, neither there nor in {one} or {other}"))
        }
    }
}

fn given(folder: &Path) -> Vec<Candidate> {
    // Absolute, since it ends up in search paths; what does not exist is complained about as it was written.
    let folder = fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    if folder.join("pyvenv.cfg").is_file() {
        return environment(Origin::Folder, &folder);
    }
    if folder.file_name() == Some(OsStr::new(LIBNIXL)) && folder.is_file() {
        return vec![(Origin::Folder, Ok(folder.parent().map(Path::to_owned).unwrap_or_default()))];
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
    // Often not on the path of ordinary users.
    let cache = output("ldconfig", &["-p"]).or_else(|_| output("/sbin/ldconfig", &["-p"]));
    let folder = cache.and_then(|cache| in_loader_cache(&cache).ok_or_else(|| format!("its cache has no {LIBNIXL}")));
    vec![(Origin::LoaderCache, folder)]
}

/// The folder of NIXL in what `ldconfig -p` prints, in lines such as `name (libc6,x86-64) => /path/name`.
fn in_loader_cache(cache: &str) -> Option<PathBuf> {
    cache
        .lines()
        .filter(|line| line.split_whitespace().next() == Some(LIBNIXL))
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
    use std::iter;

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

    #[test]
    fn a_wheel_is_found_from_every_side() {
        for Wheel { name, libraries, bundled } in WHEELS {
            let packages = "lib/python3.12/site-packages";
            let root = tree(&[
                ("pyvenv.cfg", ""),
                (&format!("{packages}/{libraries}/{LIBNIXL}"), ""),
                (&format!("{packages}/{libraries}/{CAPI}"), ""),
                (
                    &format!("{packages}/{name}-1.5.1.dist-info/METADATA"),
                    "Metadata-Version: 2.1\nName: x\nVersion: 1.5.1\n",
                ),
            ]);
            let root = root.path().canonicalize().unwrap();
            let packages = root.join(packages);
            let holder = packages.join(libraries);
            for folder in [&root, &packages, &holder] {
                let found = find(Some(folder)).unwrap();
                assert_eq!(found.folder(), holder);
                assert_eq!(found.libnixl(), holder.join(LIBNIXL));
                assert_eq!(found.capi(), Ok(holder.join(CAPI)));
                assert_eq!(found.plugins(), holder.join("plugins"));
                assert_eq!(found.libraries(), [holder.clone(), packages.join(bundled)]);
                assert_eq!(found.version(), Some(format!("{name} 1.5.1")));
            }
        }
    }

    #[test]
    fn a_folder_that_is_no_wheel_has_neither_version_nor_bundle() {
        let root = tree(&[(LIBNIXL, ""), (CAPI, "")]);
        let folder = root.path().canonicalize().unwrap();
        let found = find(Some(root.path())).unwrap();
        assert_eq!(found.libnixl(), folder.join(LIBNIXL));
        assert_eq!(found.capi(), Ok(folder.join(CAPI)));
        assert_eq!(found.plugins(), folder.join("plugins"));
        assert_eq!(found.libraries(), [folder]);
        assert_eq!(found.version(), None);
    }

    #[test]
    fn a_nixl_may_lack_the_c_api() {
        let root = tree(&[(".nixl_cu12.mesonpy.libs/libnixl.so", "")]);
        let found = find(Some(root.path())).unwrap();
        let folder = root.path().canonicalize().unwrap().join(".nixl_cu12.mesonpy.libs");
        let error = found.capi().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "the NIXL in {} has no C API to drive it by: expected 0.10.1 or newer, with libnixl_capi.so beside \
                 libnixl.so",
                folder.display()
            )
        );
        assert_eq!(error, NoCapi { folder });
    }

    #[test]
    fn the_error_says_what_is_missing() {
        #[track_caller]
        fn check(folder: &Path, expected: &str) {
            let message = find(Some(folder)).unwrap_err().to_string();
            assert_eq!(message, format!("no NIXL found; looked at:\n  {expected}"));
        }
        check(Path::new("/nowhere/at/all"), "/nowhere/at/all (folder given): no such folder");
        let (empty, capi, environment) = (tree(&[]), tree(&[(CAPI, "")]), tree(&[("pyvenv.cfg", "")]));
        let [empty, capi, environment] = [&empty, &capi, &environment].map(|root| root.path());
        check(
            empty,
            &format!(
                "{} (folder given): no libnixl.so, neither there nor in .nixl_cu12.mesonpy.libs or \
                 .nixl_cu13.mesonpy.libs",
                empty.display()
            ),
        );
        check(
            capi,
            &format!("{0} (folder given): libnixl_capi.so is in {0}, but no libnixl.so beside it", capi.display()),
        );
        check(environment, &format!("(folder given): no python*/site-packages in {}/lib", environment.display()));
    }

    #[test]
    fn each_folder_is_looked_at_once_and_every_place_is_told() {
        let (empty, full) = (tree(&[]), tree(&[(LIBNIXL, "")]));
        let (empty, full) = (empty.path(), full.path());
        let candidates = [
            (Origin::VirtualEnvironment, Err("not set".to_owned())),
            (Origin::Python, Ok(empty.to_owned())),
            (Origin::LibraryPath, Ok(full.to_owned())),
            (Origin::LoaderCache, Ok(full.to_owned())),
        ];
        let told: Vec<String> = look_at(candidates.into_iter()).map(|place| place.to_string()).collect();
        let (empty, full) = (empty.display(), full.display());
        assert_eq!(
            told,
            [
                "(VIRTUAL_ENV): not set".to_owned(),
                format!(
                    "{empty} (python3): no libnixl.so, neither there nor in .nixl_cu12.mesonpy.libs or \
                     .nixl_cu13.mesonpy.libs"
                ),
                format!("{full} (LD_LIBRARY_PATH): NIXL in {full}"),
                format!("{full} (ldconfig): looked at before"),
            ]
        );
    }

    #[test]
    fn no_place_is_looked_at_before_its_turn() {
        let full = tree(&[(LIBNIXL, "")]);
        let first = (Origin::VirtualEnvironment, Ok(full.path().to_owned()));
        let rest = iter::once_with(|| panic!("the first one is enough"));
        let place = look_at(iter::once(first).chain(rest)).find(|place| place.answer.is_ok()).unwrap();
        assert_eq!(place.origin, Origin::VirtualEnvironment);
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
