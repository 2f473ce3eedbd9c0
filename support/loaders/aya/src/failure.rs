// SPDX-License-Identifier: Apache-2.0

//! The facts of a failure, from the library's errors.

use std::{error::Error, io};

use aya::{
    EbpfError,
    maps::{MapError, MapType},
    programs::{ProgramError, TracePointError},
    sys::is_map_supported,
};
use aya_obj::{
    KsymsError, ParseError, btf::BtfError, generated::bpf_map_type, relocation::RelocationError,
};

use crate::{
    btf::Btf,
    calls::MapCreate,
    names,
    protocol::{Failure, Map, Missing},
};

/// Returns the facts of an error that the library gave at this step.
pub fn from_error(step: &'static str, error: &(dyn Error + 'static)) -> Failure {
    Failure {
        step,
        errno: errno(error).map(names::errno),
        words: words(error),
        missing: missing(error),
        ..Failure::default()
    }
}

/// Returns the facts of an object that the library did not load.
///
/// `maps` are the maps that it made or tried to make. `btf` is the object's.
pub fn from_object(error: &EbpfError, maps: &[MapCreate], btf: &Btf) -> Failure {
    let step = match error {
        EbpfError::MapError(_) => "map",
        EbpfError::RelocationError(_) | EbpfError::KsymsError(_) => "relocate",
        EbpfError::BtfRelocationError(_) => "relocate",
        EbpfError::BtfError(BtfError::FileError { .. }) => "relocate", // the kernel's BTF
        EbpfError::BtfError(BtfError::LoadError { .. }) => "btf",
        _ => "open",
    };
    let mut failure = from_error(step, error);
    if let EbpfError::BtfRelocationError(_) = error {
        failure.missing = missing_type(&failure.words, btf);
    }
    if let EbpfError::MapError(error) = error {
        failure.map = map(error, maps);
        if let (Some(_), Some(last)) = (errno(error), maps.last()) {
            failure.type_supported = type_supported(last.map_type);
        }
    }
    failure
}

/// Returns what the library said, the cause first.
fn words(error: &(dyn Error + 'static)) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for outer in chain(error).map(line) {
        // Many errors repeat their cause at the end: "map error: failed to create map `a`".
        if let Some(above) = words.last_mut()
            && let Some(own) = above.strip_suffix(&outer)
        {
            match own.strip_suffix(": ") {
                Some(own) => *above = own.to_string(),
                None => continue, // as in "the system call returned EPERM"
            }
        }
        words.push(outer);
    }
    words.reverse();
    words
}

/// Returns an error's message as one line, without the verifier's log.
fn line(error: &(dyn Error + 'static)) -> String {
    let text = error.to_string();
    let own = text.split(". Verifier output:").next().unwrap_or_default();
    own.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Returns the number of the kernel's error at the end of a chain.
fn errno(error: &(dyn Error + 'static)) -> Option<i32> {
    let number = |part: &(dyn Error + 'static)| {
        // The first two stand for the error that they hold, and are not in the chain beside it.
        let found = match (part.downcast_ref(), part.downcast_ref()) {
            (Some(ProgramError::IOError(error)), _) => Some(error),
            (_, Some(MapError::IoError(error))) => Some(error),
            _ => part.downcast_ref::<io::Error>(),
        };
        found?.raw_os_error()
    };
    chain(error).filter_map(number).last()
}

fn missing(error: &(dyn Error + 'static)) -> Option<Missing> {
    let of = |kind, name: &str| Some(Missing { kind, name: name.to_string() });
    for part in chain(error) {
        if let Some(ParseError::InvalidProgramSection { section }) = part.downcast_ref() {
            return of("section", section);
        }
        if let Some(ParseError::NoBTF) = part.downcast_ref() {
            return of("object-btf", "");
        }
        if let Some(EbpfError::NoBTF) = part.downcast_ref() {
            return of("object-btf", "");
        }
        if let Some(BtfError::FileError { .. }) = part.downcast_ref() {
            return of("kernel-btf", "");
        }
        if let Some(RelocationError::UnresolvableSymbol { name }) = part.downcast_ref() {
            return of("ksym", name);
        }
        match part.downcast_ref() {
            Some(KsymsError::TypedKsymRequiresKernelBtf) => return of("kernel-btf", ""),
            Some(
                KsymsError::VariableNotFound { name }
                | KsymsError::IncompatibleVariableType { name },
            ) => return of("ksym", name),
            Some(
                KsymsError::FunctionNotFound { name }
                | KsymsError::IncompatibleFunctionSignature { name },
            ) => return of("kfunc", name),
            _ => {}
        }
    }
    None
}

/// Returns the type of the program that the kernel lacks. The library gives only its number.
fn missing_type(words: &[String], btf: &Btf) -> Option<Missing> {
    let number = words.iter().find_map(|words| {
        let (_, rest) = words.split_once("missing target BTF info for type `")?;
        rest.split('`').next()?.parse().ok()
    })?;
    let name = btf.string(btf.by_number(number)?.name);
    Some(Missing { kind: "type", name })
}

fn map(error: &MapError, maps: &[MapCreate]) -> Option<Map> {
    let (name, kind) = match error {
        MapError::CreateError { name, .. } => (name, None),
        MapError::Unsupported { name, map_type } => (name, Some(*map_type as u32)),
        _ => return None,
    };
    let known = maps.iter().rev().find(|map| names::is_map(name, &map.name));
    let kind = kind.or(known.map(|map| map.map_type));
    Some(Map {
        name: name.clone(),
        kind: kind.map(names::map_type).unwrap_or_default(),
        entries: known.map(|map| map.entries),
        ..Map::default()
    })
}

fn type_supported(map_type: u32) -> Option<bool> {
    let kind = MapType::try_from(bpf_map_type::try_from(map_type).ok()?).ok()?;
    is_map_supported(kind).ok()
}

/// Returns the facts of a program that the library did not load.
///
/// `target` is what the program attaches to.
pub fn from_program(error: &ProgramError, target: &str) -> Failure {
    let step = match error {
        ProgramError::LoadError { .. } => "load",
        ProgramError::Btf(_) | ProgramError::ExtensionError(_) => "target",
        _ => "load",
    };
    let mut failure = from_error(step, error);
    if let ProgramError::Btf(BtfError::UnknownBtfTypeName { .. }) = error {
        failure.missing = Some(Missing { kind: "target", name: target.to_string() });
    }
    failure
}

/// Returns the facts of a program that the library did not attach.
pub fn from_attach(error: &ProgramError, target: &str) -> Failure {
    let mut failure = from_error("attach", error);
    let absent = match error {
        ProgramError::TracePointError(TracePointError::FileError { io_error, .. }) => {
            io_error.kind() == io::ErrorKind::NotFound
        }
        ProgramError::SyscallError(_) | ProgramError::KProbeError(_) => {
            failure.errno.as_deref() == Some("ENOENT")
        }
        _ => false,
    };
    if absent && !target.is_empty() {
        failure.missing = Some(Missing { kind: "target", name: target.to_string() });
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_begin_with_the_cause() {
        let cause = ParseError::InvalidProgramSection { section: "tc".into() };
        let failure = from_error("open", &EbpfError::from(cause));
        assert_eq!(failure.words, ["invalid program section `tc`", "error parsing BPF object"]);
        let missing = failure.missing.unwrap();
        assert_eq!((missing.kind, missing.name.as_str()), ("section", "tc"));
    }

    #[test]
    fn an_error_that_passes_another_on_says_it_once() {
        let io_error = io::Error::from_raw_os_error(libc::EACCES);
        let failure = from_error("attach", &ProgramError::IOError(io_error));
        assert_eq!(failure.errno.as_deref(), Some("EACCES"));
        assert_eq!(failure.words, ["Permission denied (os error 13)"]);
    }

    #[test]
    fn the_log_of_the_verifier_is_not_among_the_words() {
        let error = ProgramError::LoadError {
            io_error: io::Error::from_raw_os_error(libc::EINVAL),
            verifier_log: aya_obj::VerifierLog::new("R0 !read_ok".into()),
        };
        let failure = from_program(&error, "");
        assert_eq!(failure.step, "load");
        let said = "the BPF_PROG_LOAD syscall returned Invalid argument (os error 22)";
        assert_eq!(failure.words, [said]);
    }
}
