// SPDX-License-Identifier: Apache-2.0

//! How far the demo is, in words.

use std::time::Duration;

use nixl_telemetry_traffic::workload::Progress;

use crate::common::human;
use crate::common::progress::bar;

/// How far it is, if it ends after this time at the latest, and more that is known about it.
pub(crate) fn text(progress: &Progress, limit: Option<Duration>, more: &str) -> String {
    let rate = human::rate(progress.bytes, progress.elapsed);
    let done = human::count(progress.done);
    format!("{} {done} transfers  {rate}{more}", bar(fraction(progress, limit)))
}

/// How much of the transfers or of the time is over, whichever is nearer to its end.
fn fraction(progress: &Progress, limit: Option<Duration>) -> f64 {
    let of_transfers = progress.done as f64 / progress.total.max(1) as f64;
    let of_time = limit.map_or(0.0, |limit| progress.elapsed.as_secs_f64() / limit.as_secs_f64());
    of_transfers.max(of_time).min(1.0)
}
