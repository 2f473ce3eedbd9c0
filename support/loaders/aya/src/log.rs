// SPDX-License-Identifier: Apache-2.0

//! The library's warnings.

use std::sync::{Mutex, PoisonError};

use ::log::{LevelFilter, Log, Metadata, Record};

struct Warnings(Mutex<Vec<String>>);

static WARNINGS: Warnings = Warnings(Mutex::new(Vec::new()));

impl Log for Warnings {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
    }

    fn flush(&self) {}
}

/// Begins to keep the library's warnings.
pub fn keep() {
    // It fails only if it was done before.
    let _ = ::log::set_logger(&WARNINGS);
    ::log::set_max_level(LevelFilter::Warn);
}

/// Drops the warnings that were kept.
pub fn forget() {
    WARNINGS.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Returns the warning that the object was loaded without its BTF, as one line.
pub fn without_btf() -> Option<String> {
    let warnings = WARNINGS.0.lock().unwrap_or_else(PoisonError::into_inner);
    let warning = warnings.iter().find(|text| text.starts_with("object BTF couldn't be loaded"))?;
    warning.split(". Verifier output:").next().map(str::to_string)
}
