// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry uninstall`.

use std::path::Path;

use anyhow::bail;

use crate::common::end::{End, Outcome};
use crate::common::nixl;
use crate::common::terminal::print;
use crate::install::in_turn;
use crate::install::manifest::{Entry, Folder, Manifest, State};

/// Take exporters out of a NIXL that `install` put there
///
/// Only what is as it was installed is removed, and what it replaced is put back. If nothing is left of this program,
/// NIXL's plugin directory is as it was before.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Exporters to take out; all that are installed, if none is named
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    nixl: nixl::Choice,
    /// Remove an exporter even if its file was changed since it was installed
    #[arg(long)]
    force: bool,
    /// Leave a file that was changed since it was installed, and only forget about it and what it replaced
    #[arg(long, conflicts_with = "force")]
    forget: bool,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLES: &str = "\
Examples:
  nixl-telemetry uninstall                         everything that was installed
  nixl-telemetry uninstall csv --nixl /opt/venv";

/// What is to be done for one exporter.
#[derive(Debug)]
struct Job {
    name: String,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Remove the file.
    Remove,
    /// Give what it replaced its name back.
    PutBack,
    /// Leave the file, and remove what is kept, if anything is.
    Forget,
}

pub(crate) fn run(arguments: &Arguments) -> Outcome {
    let nixl = arguments.nixl.find()?;
    let plugins = nixl.plugins();
    let folder = Folder::new(&plugins);
    let _lock = folder.lock()?;
    let mut manifest = folder.manifest()?;
    let jobs = plan(arguments, &folder, &manifest, &plugins)?;
    let mut said = in_turn(
        &jobs,
        |job| format!("{} was not uninstalled", job.name),
        |job| {
            if !arguments.dry_run {
                apply(&folder, &mut manifest, job)?;
            }
            Ok(job.words(&folder, arguments.dry_run))
        },
    )?;
    if jobs.is_empty() {
        said = format!("nothing of nixl-telemetry is installed in {}\n", plugins.display());
    }
    print(&said)?;
    Ok(End::Done)
}

/// Everything that can be known to go wrong does so here, before anything is changed.
fn plan(arguments: &Arguments, folder: &Folder<'_>, manifest: &Manifest, plugins: &Path) -> anyhow::Result<Vec<Job>> {
    let installed: Vec<String> = manifest.plugins.keys().cloned().collect();
    let names = if arguments.names.is_empty() { installed.clone() } else { arguments.names.clone() };
    let mut jobs: Vec<Job> = Vec::new();
    for name in names {
        let Some(entry) = manifest.plugins.get(&name) else {
            let installed = if installed.is_empty() {
                "nothing is".to_owned()
            } else {
                format!("there is {}", installed.join(", "))
            };
            bail!("{name:?} was not installed into {} by nixl-telemetry: {installed}", plugins.display());
        };
        if jobs.iter().all(|job| job.name != name) {
            jobs.push(Job { step: step(arguments, folder, &name, entry)?, name });
        }
    }
    Ok(jobs)
}

fn step(arguments: &Arguments, folder: &Folder<'_>, name: &str, entry: &Entry) -> anyhow::Result<Step> {
    let state = folder.state(name, entry)?;
    if state == State::Original {
        return Ok(Step::Forget);
    }
    let (target, kept) = (folder.target(name), folder.kept(name));
    if state == State::Changed {
        if arguments.forget {
            return Ok(Step::Forget);
        }
        if !arguments.force {
            let then = if entry.replaced.is_some() { " and puts back what was there before" } else { "" };
            bail!(
                "{} was changed since it was installed: --force removes it all the same{then}, --forget leaves it and \
                 only forgets that it was installed",
                target.display()
            );
        }
    }
    if entry.replaced.is_none() {
        return Ok(Step::Remove);
    }
    if folder.content(&kept)? != entry.replaced {
        if arguments.force {
            return Ok(Step::Remove);
        }
        bail!(
            "{}, which {} replaced, is gone or was changed: --force removes {name} without putting anything back",
            kept.display(),
            target.display()
        );
    }
    Ok(Step::PutBack)
}

/// Does one job. Interrupted at any point, it can be repeated.
fn apply(folder: &Folder<'_>, manifest: &mut Manifest, job: &Job) -> anyhow::Result<()> {
    match job.step {
        Step::Remove => folder.remove(&folder.target(&job.name))?,
        Step::PutBack => folder.put_back(&job.name)?,
        Step::Forget => {}
    }
    let entry = manifest.plugins.remove(&job.name);
    if job.step == Step::Forget && entry.is_some_and(|entry| entry.replaced.is_some()) {
        folder.remove(&folder.kept(&job.name))?;
    }
    folder.remember(manifest)
}

impl Job {
    fn words(&self, folder: &Folder<'_>, dry_run: bool) -> String {
        let (name, target) = (&self.name, folder.target(&self.name));
        let would = if dry_run { "would have been " } else { "" };
        let target = target.display();
        match self.step {
            Step::Remove => format!("{name}: {would}removed: {target}\n"),
            Step::PutBack => format!("{name}: {would}removed, and what was there before put back: {target}\n"),
            Step::Forget => format!("{name}: {would}forgotten; the file stays as it is: {target}\n"),
        }
    }
}
