// SPDX-License-Identifier: Apache-2.0

//! What the commands that read ring files share.

#[allow(dead_code, reason = "the commands come next")]
pub(crate) mod selection;
