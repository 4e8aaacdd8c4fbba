// SPDX-License-Identifier: Apache-2.0

//! A service whose panics end here.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// A service that is called only where its panics are caught.
#[derive(Debug)]
pub(crate) struct Guarded<S> {
    service: S,
    has_panicked: bool,
}

impl<S> Guarded<S> {
    pub(crate) fn new(service: S) -> Self {
        Self { service, has_panicked: false }
    }

    /// What `call` returns; `None` if it panicked. The first panic is logged: the service is called again, and may panic
    /// with every scrape.
    pub(crate) fn call<T>(&mut self, call: impl FnOnce(&mut S) -> T) -> Option<T> {
        match catch_unwind(AssertUnwindSafe(|| call(&mut self.service))) {
            Ok(result) => Some(result),
            Err(payload) => {
                let text = nixl_telemetry_log::panic_text(payload);
                if !std::mem::replace(&mut self.has_panicked, true) {
                    nixl_telemetry_log::error!("scrape: the service has panicked: {text}; it goes on");
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_no_result_and_the_next_call_is() {
        let mut guarded = Guarded::new(1);
        assert_eq!(guarded.call(|_| -> u8 { panic!("on purpose") }), None);
        assert!(guarded.has_panicked);
        assert_eq!(guarded.call(|value| std::mem::replace(value, 2)), Some(1));
        assert_eq!(guarded.call(|value| *value), Some(2));
    }
}
