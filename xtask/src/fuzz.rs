// SPDX-License-Identifier: Apache-2.0

//! `cargo xtask fuzz`: builds the targets of `fuzz/` with the fuzzer's instruments, which the stable compiler has, and runs
//! them for a while.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// What makes the compiler tell the fuzzer where the program goes.
const INSTRUMENTS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                           -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
                           -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares \
                           --cfg fuzzing";

/// What a run is asked for.
struct Request {
    targets: Vec<String>,
    seconds: u32,
    keep: bool,
}

/// Runs the task: `fuzz [--seconds N] [--keep] [TARGET…]`.
pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Outcome {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace").join("fuzz");
    let known = targets(&folder)?;
    let request = parse(arguments, &known)?;
    let programs = build(&folder)?;
    for target in &request.targets {
        let (corpus, found) = (folder.join("corpus").join(target), programs.join("found").join(target));
        fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
        let mut fuzzer = Command::new(programs.join(target));
        fuzzer.arg("-max_len=8192").arg("-timeout=10").arg("-rss_limit_mb=1024");
        if request.keep {
            // What of all that was found adds something goes to the corpus.
            fuzzer.arg("-merge=1").arg(&corpus).arg(&found);
        } else {
            fuzzer.arg(format!("-max_total_time={}", request.seconds));
            fuzzer.arg(format!("-artifact_prefix={}/", programs.display())).arg(&found).arg(&corpus);
        }
        let status = fuzzer.status().map_err(|error| format!("{target} does not start: {error}"))?;
        if !status.success() {
            return Err(format!("{target} found something: {status}; the input lies in {}", programs.display()));
        }
    }
    Ok(())
}

/// One for each file in `targets`.
fn targets(folder: &Path) -> Result<Vec<String>, String> {
    let targets = folder.join("targets");
    let entries = fs::read_dir(&targets).map_err(|error| format!("{}: {error}", targets.display()))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut names: Vec<_> = paths.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort();
    Ok(names)
}

fn parse(mut arguments: impl Iterator<Item = String>, known: &[String]) -> Result<Request, String> {
    let mut request = Request { targets: Vec::new(), seconds: 60, keep: false };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seconds" => {
                let seconds = arguments.next().unwrap_or_default();
                request.seconds =
                    seconds.parse().map_err(|_| format!("--seconds {seconds:?}: expected a number of seconds"))?;
            }
            "--keep" => request.keep = true,
            target if known.iter().any(|known| known == target) => request.targets.push(argument),
            other => return Err(format!("{other:?}: expected --seconds N, --keep or one of {}", known.join(", "))),
        }
    }
    if request.targets.is_empty() {
        request.targets = known.to_vec();
    }
    Ok(request)
}

/// Where the programs are.
fn build(folder: &Path) -> Result<PathBuf, String> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let host = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let target = folder.join("target");
    let status = Command::new(cargo)
        // A target of its own keeps the instruments away from build scripts.
        .args(["build", "--quiet", "--release", "--target", &host, "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .env("RUSTFLAGS", INSTRUMENTS)
        .status()
        .map_err(|error| format!("cannot build the fuzz targets: cargo does not start: {error}"))?;
    if !status.success() {
        return Err(format!("cannot build the fuzz targets: cargo ended with {status}"));
    }
    Ok(target.join(host).join("release"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for() {
        let known = ["a".to_owned(), "b".to_owned()];
        let parse = |words: &[&str]| parse(words.iter().map(|&word| word.to_owned()), &known);
        let request = parse(&[]).unwrap();
        assert_eq!((request.targets.len(), request.seconds, request.keep), (2, 60, false));
        let request = parse(&["--seconds", "5", "b", "--keep"]).unwrap();
        assert_eq!((request.targets, request.seconds, request.keep), (vec!["b".to_owned()], 5, true));
        assert_eq!(parse(&["c"]).err().unwrap(), r#""c": expected --seconds N, --keep or one of a, b"#);
        assert_eq!(parse(&["--seconds", "x"]).err().unwrap(), r#"--seconds "x": expected a number of seconds"#);
    }
}
