// SPDX-License-Identifier: Apache-2.0

//! What the commands that read ring files share.

pub(crate) mod selection;
