// SPDX-License-Identifier: Apache-2.0

//! What the commands that read ring files share.
//!
//! * [`reading`], [`selection`], [`since`]: which files, agents and events a call is about.
//! * [`once`]: what files hold now; [`backlog`]: which of their events were there at first.
//! * [`printer`]: events as [`text`], JSON or [`csv`], through an [`output`] in large pieces.
//! * [`remark`]: what is said about files, so that no event is lost in silence.

pub(crate) mod backlog;
pub(crate) mod csv;
pub(crate) mod once;
pub(crate) mod output;
pub(crate) mod printer;
pub(crate) mod reading;
pub(crate) mod remark;
pub(crate) mod selection;
pub(crate) mod since;
pub(crate) mod text;
pub(crate) mod value;
