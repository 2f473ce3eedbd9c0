// SPDX-License-Identifier: Apache-2.0

//! Loads one program, and tells what came of it.

use std::collections::BTreeMap;

use aya::{
    Btf as KernelBtf,
    programs::{Program, ProgramError, ProgramFd},
    sys::is_program_supported,
};
use aya_obj::generated::bpf_insn;

use crate::{
    attach,
    btf::{Btf, records},
    calls::{self, ProgramLoad},
    failure,
    object::{self, Opened},
    protocol::{Failure, Line, Log, Missing, Outcome},
};

/// Does the same with each type of program, which has a method of this name but no trait.
macro_rules! each_type {
    ($program:expr, $p:ident => $body:expr) => {
        match $program {
            Program::KProbe($p) => $body,
            Program::UProbe($p) => $body,
            Program::TracePoint($p) => $body,
            Program::SocketFilter($p) => $body,
            Program::ReusePortSocketFilter($p) => $body,
            Program::Xdp($p) => $body,
            Program::SkMsg($p) => $body,
            Program::SkSkb($p) => $body,
            Program::CgroupSockAddr($p) => $body,
            Program::SockOps($p) => $body,
            Program::SchedClassifier($p) => $body,
            Program::CgroupSkb($p) => $body,
            Program::CgroupSysctl($p) => $body,
            Program::CgroupSockopt($p) => $body,
            Program::LircMode2($p) => $body,
            Program::PerfEvent($p) => $body,
            Program::RawTracePoint($p) => $body,
            Program::Lsm($p) => $body,
            Program::LsmCgroup($p) => $body,
            Program::BtfTracePoint($p) => $body,
            Program::FEntry($p) => $body,
            Program::FExit($p) => $body,
            Program::FlowDissector($p) => $body,
            Program::Extension($p) => $body,
            Program::SkLookup($p) => $body,
            Program::SkReuseport($p) => $body,
            Program::CgroupSock($p) => $body,
            Program::CgroupDevice($p) => $body,
            Program::Iter($p) => $body,
        }
    };
}

/// Loads a program of an object that `Opened::load` was called for, and unloads it.
///
/// `objects` are those with the functions that `freplace` programs replace. With `attach`, it is
/// attached and detached in between.
pub fn run(opened: &mut Opened, objects: &[String], name: &str, log: Log, attach: bool) -> Outcome {
    let Some(program) = opened.program(name) else {
        let words = vec![format!("the object has no program {name}")];
        return failed(Failure { step: "open", words, ..Failure::default() });
    };
    let listed = program.listed.clone();
    let target = listed.attach_to.as_str();
    let (path, note) = (opened.path.clone(), opened.note.clone());
    let ebpf = match opened.loaded() {
        Ok(ebpf) => ebpf,
        Err(failure) => return failed(*failure),
    };
    let needs = match needs(ebpf.program(name), target, &path, objects) {
        Ok(needs) => needs,
        Err(failure) => return failed(*failure),
    };
    let Some(program) = ebpf.program_mut(name) else {
        return failed(Failure { step: "open", ..Failure::default() });
    };
    calls::watch(log.level());
    let result = load(program, target, &needs);
    let seen = calls::take().programs.pop();
    let mut outcome = outcome(seen.as_ref(), log);
    outcome.note = note;
    let mut held = None;
    match result {
        Ok(()) => {
            outcome.loaded = true;
            if let Ok(info) = program.info() {
                outcome.translated_bytes = info.size_translated();
                outcome.jited_bytes = Some(info.size_jitted());
                outcome.memory_bytes = info.memory_locked().ok();
            }
            if attach {
                match attach::attach(program, &listed.section, target) {
                    Ok(attached) => {
                        outcome.attached = attached.is_some().then_some(true);
                        held = attached;
                    }
                    Err(error) => {
                        outcome.attached = Some(false);
                        outcome.failure = Some(failure::from_attach(&error, target));
                    }
                }
            }
        }
        Err(error) => {
            let mut failure = failure::from_program(&error, target);
            // The verifier, where the kernel comes to it, ends its log with a line of statistics.
            if failure.errno.as_deref() == Some("EINVAL") && outcome.log.is_empty() {
                failure.type_supported = is_program_supported(program.prog_type()).ok();
            }
            outcome.failure = Some(failure);
        }
    }
    // This detaches it as well. It fails if the program was not loaded.
    let _ = each_type!(program, p => p.unload());
    drop(held);
    outcome
}

fn failed(failure: Failure) -> Outcome {
    Outcome { failure: Some(failure), ..Outcome::default() }
}

/// What the library wants to be given with a program.
enum Needs {
    Nothing,
    KernelBtf(&'static KernelBtf),
    /// The program whose function an extension replaces, and the object that keeps it loaded.
    Target(ProgramFd, #[expect(dead_code, reason = "it keeps the program's maps")] Box<Opened>),
}

fn needs(
    program: Option<&Program>,
    target: &str,
    path: &str,
    objects: &[String],
) -> Result<Needs, Box<Failure>> {
    match program {
        Some(
            Program::Lsm(_)
            | Program::LsmCgroup(_)
            | Program::BtfTracePoint(_)
            | Program::FEntry(_)
            | Program::FExit(_)
            | Program::Iter(_),
        ) => object::kernel_btf().map(Needs::KernelBtf).ok_or_else(|| {
            let error = KernelBtf::from_sys_fs().err();
            error.map(|error| Box::new(failure::from_error("target", &error))).unwrap_or_default()
        }),
        Some(Program::Extension(_)) => find_target(target, path, objects),
        _ => Ok(Needs::Nothing),
    }
}

/// Finds and loads the first program that has a function, in the object itself or in another.
fn find_target(function: &str, path: &str, objects: &[String]) -> Result<Needs, Box<Failure>> {
    let others = objects.iter().map(String::as_str).filter(|other| *other != path);
    for object in std::iter::once(path).chain(others) {
        if function.is_empty() || !object::has_function(object, function) {
            continue;
        }
        let opened = Opened::new(object, &BTreeMap::new(), &BTreeMap::new());
        let Ok(mut opened) = opened else { continue };
        opened.load();
        let names: Vec<String> = opened.programs.iter().map(|p| p.listed.name.clone()).collect();
        for (i, name) in names.iter().enumerate() {
            let target = opened.programs[i].listed.attach_to.clone();
            let Ok(ebpf) = opened.loaded() else { break };
            let needs = match ebpf.program(name) {
                Some(Program::Extension(_)) | None => continue,
                other => needs(other, &target, object, &[]),
            };
            let (Ok(needs), Some(program)) = (needs, ebpf.program_mut(name)) else { continue };
            calls::watch(calls::STATS);
            let result = load(program, &target, &needs);
            let seen = calls::take().programs.pop();
            let has =
                result.is_ok() && seen.is_some_and(|seen| functions(&seen).contains(function));
            let descriptor = program.fd().and_then(|fd| Ok(fd.try_clone()?));
            if let (true, Ok(descriptor)) = (has, descriptor) {
                return Ok(Needs::Target(descriptor, Box::new(opened)));
            }
            let _ = each_type!(program, p => p.unload());
        }
    }
    let name = function.to_string();
    let words = vec![format!("no program of the given objects has a function {function}")];
    let missing = Some(Missing { kind: "target-program", name });
    Err(Box::new(Failure { step: "target", words, missing, ..Failure::default() }))
}

/// Returns the names of a program's functions.
fn functions(seen: &ProgramLoad) -> std::collections::HashSet<String> {
    let btf = Btf::parse(&seen.btf);
    let name = |record: Vec<u32>| Some(btf.string(btf.by_number(*record.get(1)?)?.name));
    records(&seen.func_info).into_iter().filter_map(name).collect()
}

fn load(program: &mut Program, target: &str, needs: &Needs) -> Result<(), ProgramError> {
    match (program, needs) {
        (Program::Lsm(p), Needs::KernelBtf(btf)) => p.load(target, btf),
        (Program::LsmCgroup(p), Needs::KernelBtf(btf)) => p.load(target, btf),
        (Program::BtfTracePoint(p), Needs::KernelBtf(btf)) => p.load(target, btf),
        (Program::FEntry(p), Needs::KernelBtf(btf)) => p.load(target, btf),
        (Program::FExit(p), Needs::KernelBtf(btf)) => p.load(target, btf),
        (Program::Iter(p), Needs::KernelBtf(btf)) => p.load(target, btf),
        (Program::Extension(p), Needs::Target(fd, _)) => p.load(fd.try_clone()?, target),
        (Program::KProbe(p), _) => p.load(),
        (Program::UProbe(p), _) => p.load(),
        (Program::TracePoint(p), _) => p.load(),
        (Program::SocketFilter(p), _) => p.load(),
        (Program::ReusePortSocketFilter(p), _) => p.load(),
        (Program::Xdp(p), _) => p.load(),
        (Program::SkMsg(p), _) => p.load(),
        (Program::SkSkb(p), _) => p.load(),
        (Program::CgroupSockAddr(p), _) => p.load(),
        (Program::SockOps(p), _) => p.load(),
        (Program::SchedClassifier(p), _) => p.load(),
        (Program::CgroupSkb(p), _) => p.load(),
        (Program::CgroupSysctl(p), _) => p.load(),
        (Program::CgroupSockopt(p), _) => p.load(),
        (Program::LircMode2(p), _) => p.load(),
        (Program::PerfEvent(p), _) => p.load(),
        (Program::RawTracePoint(p), _) => p.load(),
        (Program::FlowDissector(p), _) => p.load(),
        (Program::SkLookup(p), _) => p.load(),
        (Program::SkReuseport(p), _) => p.load(),
        (Program::CgroupSock(p), _) => p.load(),
        (Program::CgroupDevice(p), _) => p.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

/// Returns what the call that loads a program tells.
fn outcome(seen: Option<&ProgramLoad>, log: Log) -> Outcome {
    let Some(seen) = seen else { return Outcome::default() };
    Outcome {
        seconds: Some(seen.seconds),
        log: String::from_utf8_lossy(&seen.log).into_owned(),
        instructions: Some(seen.instructions.len()),
        calls: calls_of(&seen.instructions),
        line_info: (log != Log::Stats).then(|| lines(seen)),
        ..Outcome::default()
    }
}

/// Returns the numbers of the functions that each function calls, or None for a single function.
///
/// The kernel numbers functions in the order of the code; each begins where a call or a pointer
/// leads to.
fn calls_of(instructions: &[bpf_insn]) -> Option<Vec<Vec<usize>>> {
    const CALL: u8 = 0x85; // BPF_JMP | BPF_CALL
    const LOAD: u8 = 0x18; // BPF_LD | BPF_DW | BPF_IMM
    let target = |(i, insn): (usize, &bpf_insn)| {
        let leads = match (insn.code, insn.src_reg()) {
            (CALL, 1) => true, // BPF_PSEUDO_CALL
            (LOAD, 4) => true, // BPF_PSEUDO_FUNC
            _ => false,
        };
        leads.then(|| i.wrapping_add_signed(insn.imm as isize + 1))
    };
    let mut starts: Vec<usize> = instructions.iter().enumerate().filter_map(target).collect();
    starts.push(0);
    starts.sort_unstable();
    starts.dedup();
    if starts.len() == 1 {
        return None;
    }
    let mut calls = vec![Vec::new(); starts.len()];
    for (i, insn) in instructions.iter().enumerate() {
        if let Some(Ok(callee)) = target((i, insn)).map(|at| starts.binary_search(&at)) {
            let caller = starts.partition_point(|start| *start <= i) - 1;
            if !calls[caller].contains(&callee) {
                calls[caller].push(callee);
            }
        }
    }
    Some(calls)
}

fn lines(seen: &ProgramLoad) -> Vec<Line> {
    let btf = Btf::parse(&seen.btf);
    let line = |record: Vec<u32>| match record[..] {
        [insn, file, text, place, ..] => Some(Line {
            insn,
            file: btf.string(file),
            line: place >> 10, // the rest is the column
            text: btf.string(text),
        }),
        _ => None,
    };
    records(&seen.line_info).into_iter().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insn(code: u8, source: u8, imm: i32) -> bpf_insn {
        let mut insn = bpf_insn { code, _bitfield_1: Default::default(), off: 0, imm };
        insn.set_src_reg(source);
        insn
    }

    #[test]
    fn functions_are_numbered_in_the_order_of_the_code() {
        let exit = insn(0x95, 0, 0);
        assert_eq!(calls_of(&[exit]), None);
        // main calls the third function twice; the third calls a helper and the second.
        let program = [
            insn(0x85, 1, 3),
            insn(0x85, 1, 2),
            exit,
            exit,
            insn(0x85, 0, 5),
            insn(0x85, 1, -3),
            exit,
        ];
        assert_eq!(calls_of(&program), Some(vec![vec![2], vec![], vec![1]]));
    }
}
