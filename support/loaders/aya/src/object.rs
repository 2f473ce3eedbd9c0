// SPDX-License-Identifier: Apache-2.0

//! An object: what is in it, and what the library makes of it.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    sync::OnceLock,
};

use aya::{Btf as KernelBtf, Ebpf, EbpfLoader, VerifierLogLevel};
use aya_obj::Object;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionIndex};

use crate::{
    btf::Btf,
    calls, failure, log, names,
    protocol::{Failure, Listed, Map},
    values,
};

/// A program of an object.
pub struct Program {
    pub listed: Listed,
    /// The section's number, and the offset in it.
    place: (usize, u64),
}

pub struct Opened {
    pub path: String,
    pub programs: Vec<Program>,
    pub set: Vec<String>,
    pub map_sizes: Vec<String>,
    data: Vec<u8>,
    btf: Btf,
    values: Vec<(String, Vec<u8>)>,
    sizes: Vec<(String, u32)>,
    needs_kernel_btf: bool,
    loaded: Option<Result<Ebpf, Failure>>,
    /// What the library left out of the object to load it.
    pub note: Option<String>,
}

/// Why an object can't be opened.
pub enum Refusal {
    Failure(Box<Failure>),
    /// A line for the user, who gave a value that can't be right.
    Usage(String),
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl Opened {
    /// Reads an object, and notes the values for its variables and the sizes of its maps.
    pub fn new(
        path: &str,
        set: &BTreeMap<String, String>,
        map_sizes: &BTreeMap<String, u32>,
    ) -> Result<Self, Refusal> {
        let data = fs::read(path).map_err(|error| failure::from_error("open", &error))?;
        // The library does not tell what its parser says of a file that is not ELF.
        let file = object::File::parse(data.as_slice()).map_err(|error| Failure {
            step: "open",
            words: vec![error.to_string(), "error parsing ELF data".to_string()],
            ..Failure::default()
        })?;
        let parsed = Object::parse(&data)
            .map_err(|error| failure::from_error("open", &aya::EbpfError::from(error)))?;
        check_kind(&parsed, &file)?;
        let btf = file.section_by_name(".BTF").and_then(|section| section.data().ok());
        let btf = Btf::parse(btf.unwrap_or_default());
        let mut opened = Self {
            path: path.to_string(),
            programs: programs(&parsed, &file),
            set: Vec::new(),
            map_sizes: Vec::new(),
            btf,
            values: Vec::new(),
            sizes: Vec::new(),
            needs_kernel_btf: parsed.has_btf_relocations() || parsed.has_typed_ksyms(),
            loaded: None,
            note: None,
            data: Vec::new(),
        };
        opened.note_values(&parsed, &file, set)?;
        for (name, size) in map_sizes.iter().filter(|(name, _)| parsed.maps.contains_key(*name)) {
            opened.map_sizes.push(name.clone());
            opened.sizes.push((name.clone(), *size));
        }
        drop(file);
        opened.data = data;
        Ok(opened)
    }

    fn note_values(
        &mut self,
        parsed: &Object,
        file: &object::File<'_>,
        set: &BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        let data: HashSet<usize> = parsed
            .maps
            .values()
            .filter(|map| !map.data().is_empty())
            .map(aya_obj::Map::section_index)
            .collect();
        for (name, text) in set {
            let is_it = |symbol: &object::Symbol<'_, '_>| {
                symbol.name() == Ok(name.as_str())
                    && symbol.size() > 0
                    && symbol.section_index().is_some_and(|index| data.contains(&index.0))
            };
            let Some(symbol) = file.symbols().find(is_it) else { continue };
            let value =
                values::encode(&self.btf, self.btf.variable(name), symbol.size() as usize, text)
                    .map_err(|wrong| Refusal::Usage(format!("--set {name}={text}: {wrong}")))?;
            self.set.push(name.clone());
            self.values.push((name.clone(), value));
        }
        Ok(())
    }

    pub fn program(&self, name: &str) -> Option<&Program> {
        self.programs.iter().find(|program| program.listed.name == name)
    }

    /// Has the library load the object, unless it has; returns the maps that were made now.
    pub fn load(&mut self) -> Vec<Map> {
        // A lack of memory may be over.
        let is_final = |result: &Result<_, Failure>| match result {
            Ok(_) => true,
            Err(failure) => failure.errno.as_deref() != Some("ENOMEM"),
        };
        if self.loaded.as_ref().is_some_and(is_final) {
            return Vec::new();
        }
        let mut loader = EbpfLoader::new();
        loader.verifier_log_level(VerifierLogLevel::STATS);
        for (name, value) in &self.values {
            loader.override_global(name, value.as_slice(), true);
        }
        for (name, size) in &self.sizes {
            loader.map_max_entries(name, *size);
        }
        // The library would read it again for each object. Where it can't be read, it says so.
        if self.needs_kernel_btf
            && let Some(btf) = kernel_btf()
        {
            loader.btf(btf);
        }
        log::forget();
        calls::watch(calls::STATS);
        let result = loader.load(&self.data);
        let maps = calls::take().maps;
        self.note = log::without_btf();
        self.loaded = Some(result.map_err(|error| {
            let mut failure = failure::from_object(&error, &maps, &self.btf);
            failure.words.extend(self.note.clone());
            failure
        }));
        let Some(Ok(ebpf)) = &self.loaded else { return Vec::new() };
        let mut made: Vec<Map> = ebpf
            .maps()
            .map(|(name, _)| {
                let map = maps.iter().find(|m| m.errno == 0 && names::is_map(name, &m.name));
                Map {
                    name: name.to_string(),
                    kind: map.map(|m| names::map_type(m.map_type)).unwrap_or_default(),
                    entries: None,
                    memory_bytes: map.and_then(|m| m.memory_bytes),
                }
            })
            .collect();
        made.sort_by(|a, b| a.name.cmp(&b.name));
        made
    }

    /// Returns the object as `load` left it.
    pub fn loaded(&mut self) -> Result<&mut Ebpf, Box<Failure>> {
        match &mut self.loaded {
            Some(Ok(ebpf)) => Ok(ebpf),
            Some(Err(failure)) => Err(Box::new(failure.clone())),
            None => Err(Box::new(Failure { step: "open", ..Failure::default() })),
        }
    }
}

/// Refuses what the library opens, but is no object with programs for this kernel.
fn check_kind(parsed: &Object, file: &object::File<'_>) -> Result<(), Refusal> {
    let wrong = if file.architecture() != object::Architecture::Bpf {
        "it is an object file for another machine, not for eBPF"
    } else if file.is_little_endian() != cfg!(target_endian = "little") {
        "it has the other byte order"
    } else if parsed.programs.is_empty() {
        "it has no program"
    } else {
        return Ok(());
    };
    let words = vec![wrong.to_string()];
    Err(Failure { step: "open", words, ..Failure::default() }.into())
}

/// Returns the kernel's BTF, or None if it can't be read.
pub fn kernel_btf() -> Option<&'static KernelBtf> {
    static BTF: OnceLock<Option<KernelBtf>> = OnceLock::new();
    BTF.get_or_init(|| KernelBtf::from_sys_fs().ok()).as_ref()
}

/// Returns the programs in the order of the file.
fn programs(parsed: &Object, file: &object::File<'_>) -> Vec<Program> {
    let section_name = |index| {
        let section = file.section_by_index(SectionIndex(index)).ok()?;
        Some(section.name().ok()?.to_string())
    };
    let mut programs: Vec<Program> = parsed
        .programs
        .iter()
        .map(|(name, program)| {
            let section = section_name(program.section_index).unwrap_or_default();
            let (_, rest) = section.split_once('/').unwrap_or_default();
            let (type_name, names_target) = names::program_type(&program.section);
            Program {
                place: program.function_key(),
                listed: Listed {
                    name: name.clone(),
                    kind: type_name,
                    attach_to: if names_target { rest.to_string() } else { String::new() },
                    optional: false,
                    section: section.clone(),
                },
            }
        })
        .collect();
    programs.sort_by_key(|program| program.place);
    programs
}

/// Tells whether an object may have a function, so that it may have a program that calls it.
pub fn has_function(path: &str, name: &str) -> bool {
    fs::read(path).is_ok_and(|data| {
        object::File::parse(data.as_slice()).is_ok_and(|file| {
            file.symbols().any(|symbol| symbol.is_definition() && symbol.name() == Ok(name))
        })
    })
}
