// SPDX-License-Identifier: Apache-2.0

//! What a plugin file says about itself, read without loading it.

mod upstream;

use core::fmt;
use std::{fs, io, path::Path};

use nixl_telemetry_abi::raw;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _, ObjectSegment as _, ObjectSymbol as _};

pub use upstream::Upstream;

use crate::Form;

/// Name of a `uint32_t` a plugin may export to say how many virtual functions its exporters have:
/// `nixl_telemetry_plugin_slots`, 3 or 5.
///
/// Nothing in a stripped plugin tells whether its exporters have `onBatchBegin` and `onBatchEnd`, and to call what is
/// not there is a crash. This says so: in C++ `extern "C" const uint32_t nixl_telemetry_plugin_slots = 5;` with default
/// visibility. NIXL does not look for it.
pub const SLOTS_SYMBOL: &str = "nixl_telemetry_plugin_slots";

/// Virtual functions of an exporter that has the batch hooks.
pub(crate) const SLOTS_WITH_HOOKS: u32 = 5;

/// What a plugin file says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The name other libraries would ask for it by.
    pub soname: Option<String>,
    /// The libraries it needs, in the order they are loaded.
    pub needed: Vec<String>,
    /// The linker's build ID, in hexadecimal.
    pub build_id: Option<String>,
    /// The language it seems to be written in.
    pub language: Language,
    /// The compilers that took part, as they name themselves; empty if that was stripped.
    pub compilers: Vec<String>,
    /// Whether it exports `nixl_telemetry_plugin_init`, without which it is no plugin.
    pub exports_init: bool,
    /// Whether it exports `nixl_telemetry_plugin_fini`.
    pub exports_fini: bool,
    /// Whether it exports `nixl_telemetry_plugin_negotiate`, by which it asks for [`Form::Rich`].
    pub negotiates: bool,
    /// The symbols of NIXL it needs, mangled; it loads only where `needed` or the process provides them.
    pub undefined_nixl: Vec<String>,
    /// The number of virtual functions of its exporters, where something tells it.
    pub slots: Option<u32>,
    /// Which of NIXL's own plugins it is, if it is one.
    pub upstream: Option<Upstream>,
}

/// The language a plugin seems to be written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// Compiled by rustc.
    Rust,
    /// Uses the C++ runtime.
    Cxx,
    /// A C compiler left its name, and nothing of C++ is in it.
    C,
    /// Nothing tells.
    #[default]
    Unknown,
}

/// Why a file could not be inspected. Neither message names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file cannot be read.
    #[error("cannot be read: {cause}")]
    Read {
        /// What the system said. Part of the message, so that one line tells all, and therefore no source.
        cause: io::Error,
    },
    /// The file is no shared object that this process could load.
    #[error("{what}")]
    NotASharedObject {
        /// What it is instead.
        what: String,
    },
}

/// Reads a plugin file without loading it, so that no code of it runs.
///
/// # Errors
/// If the file cannot be read, or is no shared object for this machine.
pub fn inspect(path: impl AsRef<Path>) -> Result<Inspection, InspectError> {
    let path = path.as_ref();
    let metadata = fs::metadata(path).map_err(|cause| InspectError::Read { cause })?;
    if metadata.is_dir() {
        return Err(not("a directory"));
    }
    // Reading a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(not("not a regular file"));
    }
    inspect_bytes(&fs::read(path).map_err(|cause| InspectError::Read { cause })?)
}

/// Does what [`inspect`] does with the content of a file.
///
/// # Promise
/// Never panics, whatever the bytes.
///
/// # Errors
/// If the bytes are no shared object for this machine.
pub fn inspect_bytes(bytes: &[u8]) -> Result<Inspection, InspectError> {
    check_loadable(bytes)?;
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(damaged)?;
    let mut inspection = Inspection {
        build_id: file.build_id().ok().flatten().map(hex),
        compilers: compilers(&file),
        ..Inspection::default()
    };
    read_dynamic(&file, bytes, &mut inspection)?;
    read_symbols(&file, &mut inspection);
    inspection.language = guess_language(&file, &inspection);
    Ok(inspection)
}

impl Inspection {
    /// The events it will be given, where the file alone tells. Otherwise the API version decides that its
    /// `nixl_telemetry_plugin_init` returns: L56 for 1, for 2 what the plugin is
    /// [presumed](crate::Plugin::presumed_for) to be made for, or L16.
    pub fn form(&self) -> Option<Form> {
        if self.negotiates {
            return Some(Form::Rich);
        }
        self.upstream.and_then(|upstream| upstream.layout).map(Form::Layout)
    }

    /// Whether its exporters have `onBatchBegin` and `onBatchEnd`; `None` where nothing tells, in which case they are
    /// not called but for what the plugin is [presumed](crate::Plugin::presumed_for) to be made for.
    pub fn batch_hooks(&self) -> Option<bool> {
        if self.negotiates {
            return Some(true);
        }
        self.slots.map(|slots| slots >= SLOTS_WITH_HOOKS)
    }
}

/// `Rust`, `C++`, `C` or `unknown`.
impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rust => "Rust",
            Self::Cxx => "C++",
            Self::C => "C",
            Self::Unknown => "unknown",
        })
    }
}

fn not(what: impl Into<String>) -> InspectError {
    InspectError::NotASharedObject { what: what.into() }
}

fn damaged(error: object::Error) -> InspectError {
    not(format!("a damaged ELF file: {error}"))
}

/// Checks what the dynamic linker checks, and what would crash the process if it did not: a file cut short is mapped
/// in full, and the first touch behind its end is a bus error.
fn check_loadable(bytes: &[u8]) -> Result<(), InspectError> {
    match bytes {
        [] => return Err(not("an empty file")),
        [0x7f, b'E', b'L', b'F', class, order, ..] if (*class, *order) == (elf::ELFCLASS64.0, elf::ELFDATA2LSB.0) => {}
        [0x7f, b'E', b'L', b'F', ..] => return Err(not("an ELF file of another word size or byte order")),
        _ => return Err(not("not an ELF file")),
    }
    let header = FileHeader64::<Endianness>::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let machine = header.e_machine(endian);
    if machine != MACHINE {
        return Err(not(format!("made for {}: expected {}", machine_name(machine), machine_name(MACHINE))));
    }
    match header.e_type(endian) {
        elf::ET_DYN => {}
        elf::ET_EXEC => return Err(not("a program")),
        elf::ET_REL => return Err(not("an object file that was not linked")),
        elf::ET_CORE => return Err(not("a core dump")),
        other => return Err(not(format!("an ELF file of unknown type {}", other.0))),
    }
    let length = bytes.len() as u64;
    for segment in header.program_headers(endian, bytes).map_err(damaged)? {
        if segment.p_type(endian) == elf::PT_LOAD
            && segment.p_offset(endian).checked_add(segment.p_filesz(endian)).is_none_or(|end| end > length)
        {
            return Err(not(format!("cut short: it has {length} bytes and a segment that ends behind them")));
        }
    }
    Ok(())
}

#[cfg(target_arch = "x86_64")]
const MACHINE: elf::Machine = elf::EM_X86_64;
#[cfg(target_arch = "aarch64")]
const MACHINE: elf::Machine = elf::EM_AARCH64;

fn machine_name(machine: elf::Machine) -> String {
    match machine {
        elf::EM_X86_64 => "x86-64".to_owned(),
        elf::EM_AARCH64 => "AArch64".to_owned(),
        elf::EM_PPC64 => "PowerPC".to_owned(),
        elf::EM_RISCV => "RISC-V".to_owned(),
        other => format!("machine {}", other.0),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The texts of `.comment`, each once, but for the linker's.
fn compilers(file: &ElfFile64<'_>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let comment = file.section_by_name(".comment").and_then(|section| section.data().ok()).unwrap_or_default();
    for text in comment.split(|&byte| byte == 0).filter(|text| !text.is_empty()) {
        let text = String::from_utf8_lossy(text).into_owned();
        if !text.starts_with("Linker: ") && !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

fn read_dynamic(file: &ElfFile64<'_>, bytes: &[u8], inspection: &mut Inspection) -> Result<(), InspectError> {
    let (endian, sections) = (file.endian(), file.elf_section_table());
    let Some((entries, strings)) = sections.dynamic(endian, bytes).map_err(damaged)? else { return Ok(()) };
    let strings = sections.strings(endian, bytes, strings).map_err(damaged)?;
    let text = |entry: &elf::Dyn64<Endianness>| {
        let text = strings.get(entry.val32(endian)?).ok()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    for entry in entries {
        match entry.tag(endian) {
            elf::DT_NULL => break,
            elf::DT_NEEDED => inspection.needed.extend(text(entry)),
            elf::DT_SONAME => inspection.soname = text(entry),
            // Programs are linked like shared objects nowadays, but the dynamic linker refuses to open them.
            elf::DT_FLAGS_1 if entry.val(endian) & elf::DF_1_PIE.0 != 0 => return Err(not("a program")),
            _ => {}
        }
    }
    Ok(())
}

fn read_symbols(file: &ElfFile64<'_>, inspection: &mut Inspection) {
    let mut evidence = upstream::Evidence::default();
    let mut marker = None;
    for symbol in file.dynamic_symbols() {
        let Ok(name) = symbol.name() else { continue };
        if symbol.is_undefined() {
            if name.contains("nixl") {
                inspection.undefined_nixl.push(name.to_owned());
            }
            evidence.undefined(name);
            continue;
        }
        match name {
            raw::INIT_SYMBOL => inspection.exports_init = true,
            raw::FINI_SYMBOL => inspection.exports_fini = true,
            raw::NEGOTIATE_SYMBOL => inspection.negotiates = true,
            SLOTS_SYMBOL => marker = read_u32(file, symbol.address()),
            _ => evidence.defined(name, symbol.size()),
        }
    }
    inspection.upstream = evidence.upstream();
    inspection.slots = marker.or(evidence.slots());
}

/// The number at this address, as the file has it before any relocation.
fn read_u32(file: &ElfFile64<'_>, address: u64) -> Option<u32> {
    file.segments().find_map(|segment| segment.data_range(address, 4).ok().flatten()).and_then(|bytes| {
        let bytes: &[u8; 4] = bytes.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    })
}

fn guess_language(file: &ElfFile64<'_>, inspection: &Inspection) -> Language {
    if inspection.compilers.iter().any(|compiler| compiler.starts_with("rustc ")) {
        return Language::Rust;
    }
    // Stripping takes the names of compilers away; these stay.
    let needs = |library: &str| inspection.needed.iter().any(|needed| needed.starts_with(library));
    let uses =
        |prefix: &str| file.dynamic_symbols().any(|symbol| symbol.name().is_ok_and(|name| name.starts_with(prefix)));
    if needs("libstdc++.") || needs("libc++.") || uses("_ZN") || uses("__gxx_personality") {
        return Language::Cxx;
    }
    if inspection.compilers.is_empty() { Language::Unknown } else { Language::C }
}
