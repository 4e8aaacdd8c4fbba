// SPDX-License-Identifier: Apache-2.0

//! `nixl-telemetry install` and `uninstall`: plugins into a NIXL, and exactly out of it again.
//!
//! `.nixl-telemetry-installed.json` in NIXL's plugin directory remembers what was installed and what that replaced. A
//! file that is not as it was installed is never removed unless somebody insists.
//!
//! At every moment the directory holds, under each name, one whole plugin or none: a process that starts a NIXL while
//! this works finds the old one or the new one. The names of what lies there besides do not begin with
//! `libtelemetry_exporter_`, because releases 0.9.0 to 1.0.1 load everything that does.

#[expect(clippy::module_inception, reason = "one file a command")]
pub(crate) mod install;
pub(crate) mod manifest;
pub(crate) mod uninstall;

use crate::common::terminal::print;

/// Does one job after the other, up to the first that fails, and returns what there is to say about them.
///
/// # Errors
/// What the job failed with, below `failed` of it. What was done before is said by then.
fn in_turn<J>(
    jobs: &[J],
    failed: impl Fn(&J) -> String,
    mut done: impl FnMut(&J) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut said = String::new();
    for (index, job) in jobs.iter().enumerate() {
        match done(job) {
            Ok(words) => said.push_str(&words),
            Err(error) => {
                print(&said)?;
                let left = jobs.len() - index - 1;
                let rest = if left > 0 { format!("; {left} more were not tried") } else { String::new() };
                return Err(error.context(format!("{}{rest}", failed(job))));
            }
        }
    }
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_fails_ends_it_and_those_after_it_are_counted() {
        #[track_caller]
        fn check(jobs: &[u8], expected: &str, tried: &[u8]) {
            let mut seen = Vec::new();
            let outcome = in_turn(
                jobs,
                |job| format!("{job} was not done"),
                |&job| {
                    seen.push(job);
                    if job == 0 { Err(anyhow::anyhow!("of nothing")) } else { Ok(format!("{job}: done\n")) }
                },
            );
            let words = outcome.unwrap_or_else(|error| format!("{error:#}"));
            assert_eq!((words.as_str(), &seen[..]), (expected, tried));
        }
        check(&[], "", &[]);
        check(&[1, 2], "1: done\n2: done\n", &[1, 2]);
        check(&[1, 0], "0 was not done: of nothing", &[1, 0]);
        check(&[1, 0, 2, 3], "0 was not done; 2 more were not tried: of nothing", &[1, 0]);
    }
}
