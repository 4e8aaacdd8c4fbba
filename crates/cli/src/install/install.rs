// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry install`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::error::ErrorKind;
use nixl_telemetry_loader::{Inspection, PLUGIN_DIR, SearchPath};
use nixl_telemetry_nixl::Found;
use nixl_telemetry_settings::Settings;

use crate::common::end::{End, Outcome, usage};
use crate::common::host::Judgement;
use crate::common::nixl;
use crate::common::terminal::{Style, complain, print};
use crate::common::{elf, help, plugins};
use crate::install::in_turn;
use crate::install::manifest::{Content, Entry, Folder, Manifest, State};
use crate::plugin::fit::{Fit, fit};

/// Put exporters of this project into a NIXL
///
/// They go into NIXL's plugin directory, where NIXL finds them by name: NIXL_TELEMETRY_EXPORTER=csv. What is installed is
/// remembered there, and `uninstall` takes exactly that away again. Installing what is installed changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = help::after(EXAMPLES, &[&[&PLUGIN_DIR]]))]
pub(crate) struct Arguments {
    /// Exporters to install; all of this project's, if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    nixl: nixl::Choice,
    /// Where the plugins to install lie, instead of beside this program and in ../lib/nixl-telemetry
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// The name to install the one exporter under
    #[arg(long = "as", value_name = "NAME")]
    alias: Option<String>,
    /// Replace an exporter that is not of this program, and keep it; `uninstall` puts it back
    #[arg(long)]
    replace: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry install                           every exporter NIXL has none of, into the NIXL of this environment
  nixl-telemetry install prometheus --replace      in place of NIXL's own, which uninstall puts back
  nixl-telemetry install csv --nixl /opt/venv
  nixl-telemetry install csv --as prometheus --replace --dry-run";

/// The exporters of this project: what else lies beside the program, an example say, is installed by name only.
const EXPORTERS: [&str; 11] =
    ["csv", "flight", "jsonl", "nats", "otlp", "parquet", "postgres", "prometheus", "prometheus_mp", "sqlite", "tee"];

/// Names NIXL has itself, so that it never looks for their files.
const BUILT_IN: [&str; 2] = ["BUFFER", "NOP"];

/// What is to be done for one exporter.
#[derive(Debug)]
struct Job {
    /// Its name once it is installed.
    name: String,
    source: PathBuf,
    bytes: Vec<u8>,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There is nothing of this name.
    Install,
    /// There is, or was, an earlier one of ours.
    Update,
    /// There is one that is not ours.
    Replace,
    /// This very one is installed.
    Nothing,
    /// This very file is there, and is not ours to remove.
    NotOurs,
    /// Another one is there, which nobody asked to replace.
    Left,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    if arguments.alias.is_some() && arguments.names.len() != 1 {
        usage(ErrorKind::WrongNumberOfValues, "--as NAME names one exporter: expected exactly one NAME to install");
    }
    let nixl = arguments.nixl.find()?;
    let judgement = Judgement::of(&elf::defined_symbols(&nixl.libnixl())?);
    if !judgement.is_host() {
        bail!("{} is of no generation that takes plugins: {}", nixl.libnixl().display(), judgement.words());
    }
    let plugins = nixl.plugins();
    let folder = Folder::new(&plugins);
    let _lock = folder.lock()?;
    let mut manifest = folder.manifest()?;
    let jobs = plan(arguments, &folder, &manifest)?;
    for job in &jobs {
        if let Some(host) = judgement.generation()
            && let Fit::No(reason) = fit(&inspect(&job.source)?, None, host)
        {
            complain(Style::Odd, "warning", &format!("{} does not fit NIXL {host}: {reason}", job.source.display()));
        }
    }
    let said = in_turn(
        &jobs,
        |job| format!("{} was not installed", job.name),
        |job| {
            if !arguments.dry_run {
                apply(&folder, &mut manifest, job)?;
            }
            Ok(job.words(&folder, arguments.dry_run))
        },
    )?;
    print(&said)?;
    if !arguments.dry_run {
        advise(&jobs, &nixl)?;
    }
    Ok(End::Done)
}

/// Everything that can be known to go wrong does so here, before anything is changed.
fn plan(arguments: &Arguments, folder: &Folder<'_>, manifest: &Manifest) -> anyhow::Result<Vec<Job>> {
    let supply = plugins::supply(arguments.from.as_deref())?;
    let is_named = !arguments.names.is_empty();
    let names = if is_named { arguments.names.clone() } else { all(&supply)? };
    let mut jobs: Vec<Job> = Vec::new();
    for name in names {
        let source = supply.find(&name)?;
        let name = arguments.alias.clone().unwrap_or(name);
        if jobs.iter().any(|job| job.name == name) {
            continue;
        }
        let other = match (arguments.replace, is_named) {
            (true, _) => Other::Replaced,
            (false, true) => Other::InTheWay,
            (false, false) => Other::Left,
        };
        jobs.push(job(folder, manifest, name, source, other)?);
    }
    Ok(jobs)
}

fn all(supply: &SearchPath) -> anyhow::Result<Vec<String>> {
    let there = supply.list();
    let ours = EXPORTERS.into_iter().filter(|name| there.iter().any(|plugin| plugin.name == *name));
    let names: Vec<String> = ours.map(str::to_owned).collect();
    if names.is_empty() {
        let looked: String = supply.directories().iter().map(|path| format!("\n  {}", path.display())).collect();
        bail!("there is nothing to install; `--from DIR` says where plugins lie; looked into:{looked}");
    }
    Ok(names)
}

fn job(folder: &Folder<'_>, manifest: &Manifest, name: String, source: PathBuf, other: Other) -> anyhow::Result<Job> {
    plugins::check_name(&name)?;
    if BUILT_IN.contains(&name.as_str()) {
        bail!("{name} is built into NIXL, which would never look for its file: expected another name");
    }
    if !inspect(&source)?.exports_init {
        bail!("{} is no telemetry plugin: it does not export nixl_telemetry_plugin_init", source.display());
    }
    let bytes = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let target = folder.target(&name);
    let (new, there) = (Content::of(&bytes), folder.content(&target)?);
    let remembered = match manifest.plugins.get(&name) {
        Some(entry) => Some((entry, folder.state(&name, entry)?)),
        None => None,
    };
    let step = match remembered {
        Some((entry, State::Ours)) if entry.installed == [new.clone()] => Step::Nothing,
        Some((_, State::Ours | State::Absent)) => Step::Update,
        Some((_, State::Changed)) => bail!(
            "{} was changed since it was installed; `nixl-telemetry uninstall {name}` with --force or --forget first",
            target.display()
        ),
        None if there.is_none() => Step::Install,
        None if there == Some(new) => Step::NotOurs,
        None | Some((_, State::Original)) => match other {
            Other::Replaced => Step::Replace,
            Other::Left => Step::Left,
            Other::InTheWay => {
                bail!("{} is there and is not of this program: --replace replaces and keeps it", target.display())
            }
        },
    };
    Ok(Job { name, source, bytes, step })
}

/// Does one job, or leaves everything as it was.
fn apply(folder: &Folder<'_>, manifest: &mut Manifest, job: &Job) -> anyhow::Result<()> {
    if matches!(job.step, Step::Nothing | Step::NotOurs | Step::Left) {
        return Ok(());
    }
    let (before, target) = (manifest.clone(), folder.target(&job.name));
    let staged = folder.stage(&job.bytes, 0o755)?;
    let new = Content::of(&job.bytes);
    let old = manifest.plugins.get(&job.name);
    let replaced = match job.step {
        Step::Replace => folder.content(&target)?,
        _ => old.and_then(|old| old.replaced.clone()),
    };
    let earlier = old.filter(|_| job.step == Step::Update).map(|old| old.installed.clone()).unwrap_or_default();
    if job.step == Step::Replace {
        folder.keep(&job.name)?;
    }
    // Remembered first: whatever happens next, the file is known for ours, or for what it was.
    let installed = earlier.into_iter().chain([new.clone()]).collect();
    manifest.plugins.insert(job.name.clone(), Entry { installed, replaced: replaced.clone() });
    if let Err(error) = folder.remember(manifest).and_then(|()| folder.put(staged, &target)) {
        *manifest = before;
        // Should this fail, too, the directory is as before but for a file that says more than is true.
        let undone = folder.remember(manifest).and_then(|()| match job.step {
            Step::Replace => folder.remove(&folder.kept(&job.name)),
            _ => Ok(()),
        });
        return match undone {
            Ok(()) => Err(error),
            Err(also) => Err(error.context(format!("and cannot take back what was done ({also:#})"))),
        };
    }
    manifest.plugins.insert(job.name.clone(), Entry { installed: vec![new], replaced });
    folder.remember(manifest)
}

/// What becomes of a file of the same name that is not ours.
#[derive(Clone, Copy, Debug)]
enum Other {
    Replaced,
    /// Who asked for everything gets what is to be had without touching it.
    Left,
    /// Who named it has to say what is wanted.
    InTheWay,
}

impl Job {
    fn words(&self, folder: &Folder<'_>, dry_run: bool) -> String {
        let (name, target) = (&self.name, folder.target(&self.name));
        let would = if dry_run { "would have been " } else { "" };
        let source = self.source.display();
        let target = target.display();
        match self.step {
            Step::Install => format!("{name}: {would}installed: {source} -> {target}\n"),
            Step::Update => format!("{name}: {would}updated: {source} -> {target}\n"),
            Step::Replace => {
                let kept = folder.kept(name);
                format!("{name}: {would}replaced: {source} -> {target}, what was there kept as {}\n", kept.display())
            }
            Step::Nothing => format!("{name}: already installed: {target}\n"),
            Step::Left => {
                format!("{name}: not installed, NIXL has its own: {target}; --replace replaces and keeps it\n")
            }
            Step::NotOurs => format!("{name}: already there, though not installed by nixl-telemetry: {target}\n"),
        }
    }
}

/// What to do next.
fn advise(jobs: &[Job], nixl: &Found) -> anyhow::Result<()> {
    if let Some(found) = Settings::process().find(&PLUGIN_DIR)? {
        let (name, instead) = (PLUGIN_DIR.name(), found.value);
        let message = format!(
            "{name} is set ({}): NIXL looks into {} and not into {}",
            found.origin,
            instead.display(),
            nixl.plugins().display()
        );
        complain(Style::Odd, "warning", &message);
    }
    let jobs: Vec<_> = jobs.iter().filter(|job| job.step != Step::Left).collect();
    if let [job, ..] = jobs[..] {
        let program = env::args().next().unwrap_or_else(|| "nixl-telemetry".to_owned());
        let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
        print(&format!(
            "\nuse:    NIXL_TELEMETRY_ENABLE=y NIXL_TELEMETRY_EXPORTER={} and the exporter's own settings\n\
             undo:   {program} uninstall {} --nixl {}\n",
            job.name,
            names.join(" "),
            nixl.folder().display()
        ))?;
    }
    Ok(())
}

fn inspect(file: &Path) -> anyhow::Result<Inspection> {
    nixl_telemetry_loader::inspect(file).with_context(|| format!("{} is no plugin", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exporters_are_those_of_the_workspace() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../exporters");
        let mut folders: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        folders.sort();
        assert_eq!(EXPORTERS.map(str::to_owned).to_vec(), folders);
    }
}
