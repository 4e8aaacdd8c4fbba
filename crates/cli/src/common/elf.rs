// SPDX-License-Identifier: Apache-2.0

//! What a shared library defines, read without loading it.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use object::read::elf::ElfFile64;
use object::{Endianness, Object as _, ObjectSymbol as _};

/// The names, mangled, that a library offers to others.
pub(crate) fn defined_symbols(path: &Path) -> anyhow::Result<HashSet<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = ElfFile64::<Endianness>::parse(&*bytes)
        .map_err(|error| anyhow!("{} is no 64-bit ELF file: {error}", path.display()))?;
    let defined = file.dynamic_symbols().filter(|symbol| !symbol.is_undefined());
    Ok(defined.filter_map(|symbol| Some(symbol.name().ok()?.to_owned())).collect())
}
