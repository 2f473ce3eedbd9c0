// SPDX-License-Identifier: Apache-2.0

//! The bpf(2) calls that the library makes: what they ask for, and what the kernel answers.
//!
//! aya keeps the verifier's log only of programs that fail, and does not tell what it gives to the
//! kernel. All of its calls go through the C library's function `syscall`. This module defines that
//! function, so the linker takes this one. It passes each call on to the kernel, and changes three
//! things:
//!
//! - A program that the library loads without asking for a log is loaded with the log level that
//!   `watch` was given, and with a buffer of this module. If the library then repeats the refused
//!   call to get a log, it gets the one that is there.
//! - Nothing is pinned, and no pinned map is found.
//! - Programs, maps and BTF are noted, until `take` returns them.

use std::{
    collections::HashMap,
    ffi::{c_int, c_long},
    fs, ptr, slice,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_insn};

/// The size of the buffer for a log of statistics. It has a line for each function of a program.
const SHORT_LOG: usize = 1 << 20;
/// The size of the buffer for other logs. It is only address space until the kernel writes to it.
/// Kernels refuse a buffer of 1 GiB (`UINT_MAX >> 2` in the kernel's kernel/bpf/log.c).
const LONG_LOG: usize = 1 << 29;
/// The bit of the log level that asks for statistics alone: `BPF_LOG_STATS` of bpf_verifier.h.
pub const STATS: u32 = 4;

/// A call of BPF_PROG_LOAD.
pub struct ProgramLoad {
    pub instructions: Vec<bpf_insn>,
    /// The records of struct bpf_line_info and bpf_func_info, each with the size of one.
    pub line_info: (Vec<u8>, usize),
    pub func_info: (Vec<u8>, usize),
    /// The program's BTF as the kernel has it; empty if it has none.
    pub btf: Vec<u8>,
    pub seconds: f64,
    pub log: Vec<u8>,
    /// 0, or the error's number.
    pub errno: c_int,
}

/// A call of BPF_MAP_CREATE.
pub struct MapCreate {
    /// As the kernel has it: its first 15 bytes.
    pub name: Vec<u8>,
    pub map_type: u32,
    pub entries: u32,
    pub memory_bytes: Option<u64>,
    pub errno: c_int,
}

/// What `watch` saw.
#[derive(Default)]
pub struct Seen {
    pub programs: Vec<ProgramLoad>,
    pub maps: Vec<MapCreate>,
}

#[derive(Default)]
struct State {
    log_level: u32,
    seen: Seen,
    /// The BTF behind each descriptor that BPF_BTF_LOAD returned.
    btf: HashMap<u32, Vec<u8>>,
    /// Address and length of the instructions that the last call was refused with.
    refused: Option<(u64, u32)>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    // A panic of the library ends the process, so that a poisoned lock is never met.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins to note the library's calls, and has programs loaded with a log of this level.
pub fn watch(log_level: u32) {
    let mut guard = state();
    let state = guard.get_or_insert_with(State::default);
    state.log_level = log_level;
    state.seen = Seen::default();
    state.refused = None;
}

/// Returns what was noted since `watch`, in the order of the calls.
pub fn take() -> Seen {
    state().as_mut().map(|s| std::mem::take(&mut s.seen)).unwrap_or_default()
}

/// The C library's function: makes a system call, and returns -1 with `errno` set if it fails.
///
/// # Safety
///
/// As for the C library's: the arguments must be those of the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    let result = if number == libc::SYS_bpf && c == size_of::<bpf_attr>() {
        // SAFETY: the library gives a pointer to a whole attr.
        unsafe { bpf(a as u32, &mut *(b as *mut bpf_attr)) }
    } else {
        // SAFETY: as for this function.
        unsafe { raw(number, [a, b, c, d, e, f]) }
    };
    if (-4095..0).contains(&result) {
        // SAFETY: errno is this thread's.
        unsafe { *libc::__errno_location() = -result as c_int };
        return -1;
    }
    result as c_long
}

/// Makes a system call. The result is the kernel's: a negative number is an error's.
unsafe fn raw(number: c_long, arguments: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let result: isize;
    // SAFETY: as for the caller.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    // SAFETY: as for the caller.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a as isize => result,
            in("x1") b, in("x2") c, in("x3") d, in("x4") e, in("x5") f,
            options(nostack),
        );
    }
    result
}

fn kernel(command: u32, attr: &mut bpf_attr) -> isize {
    let pointer = ptr::from_mut(attr) as usize;
    // SAFETY: bpf(2) takes a pointer to a whole attr and its size.
    unsafe { raw(libc::SYS_bpf, [command as usize, pointer, size_of::<bpf_attr>(), 0, 0, 0]) }
}

fn bpf(command: u32, attr: &mut bpf_attr) -> isize {
    const PROG_LOAD: u32 = bpf_cmd::BPF_PROG_LOAD as u32;
    const MAP_CREATE: u32 = bpf_cmd::BPF_MAP_CREATE as u32;
    const BTF_LOAD: u32 = bpf_cmd::BPF_BTF_LOAD as u32;
    const OBJ_PIN: u32 = bpf_cmd::BPF_OBJ_PIN as u32;
    const OBJ_GET: u32 = bpf_cmd::BPF_OBJ_GET as u32;
    let mut guard = state();
    let Some(state) = guard.as_mut() else { return kernel(command, attr) };
    match command {
        PROG_LOAD => load(state, attr),
        MAP_CREATE => create_map(state, attr),
        BTF_LOAD => load_btf(state, attr),
        OBJ_PIN => 0,
        OBJ_GET => -(libc::ENOENT as isize),
        _ => kernel(command, attr),
    }
}

fn load(state: &mut State, attr: &bpf_attr) -> isize {
    // SAFETY: this is the part of the union for BPF_PROG_LOAD.
    let asked = unsafe { attr.__bindgen_anon_3 };
    let identity = (asked.insns, asked.insn_cnt);
    if state.refused == Some(identity)
        && asked.log_size > 0
        && let Some(refused) = state.seen.programs.last()
    {
        // The library wants the log of the call before.
        let room = asked.log_size as usize - 1;
        let log = printable(&refused.log, room);
        // SAFETY: the library's buffer has log_size bytes.
        unsafe {
            let buffer = asked.log_buf as *mut u8;
            ptr::copy_nonoverlapping(log.as_ptr(), buffer, log.len());
            *buffer.add(log.len()) = 0;
        }
        return -(refused.errno as isize);
    }
    let mut given = *attr;
    if asked.log_size > 0 {
        // A probe, which reads its own log.
        return kernel(bpf_cmd::BPF_PROG_LOAD as u32, &mut given);
    }
    let size = if state.log_level == STATS { SHORT_LOG } else { LONG_LOG };
    let Some(buffer) = Buffer::new(size) else { return -(libc::ENOMEM as isize) };
    // SAFETY: as above.
    let ours = unsafe { &mut given.__bindgen_anon_3 };
    ours.log_level = state.log_level;
    ours.log_buf = buffer.0 as u64;
    ours.log_size = buffer.1 as u32;
    let start = Instant::now();
    let result = kernel(bpf_cmd::BPF_PROG_LOAD as u32, &mut given);
    let seconds = start.elapsed().as_secs_f64();
    let errno = if result < 0 { -result as c_int } else { 0 };
    state.refused = (errno != 0 && errno != libc::EAGAIN).then_some(identity);
    // SAFETY: the library's pointers lead to as many records as it says.
    let (instructions, line_info, func_info) = unsafe {
        (
            slice::from_raw_parts(asked.insns as *const bpf_insn, asked.insn_cnt as usize).to_vec(),
            records(asked.line_info, asked.line_info_cnt, asked.line_info_rec_size),
            records(asked.func_info, asked.func_info_cnt, asked.func_info_rec_size),
        )
    };
    state.seen.programs.push(ProgramLoad {
        instructions,
        line_info,
        func_info,
        btf: state.btf.get(&asked.prog_btf_fd).cloned().unwrap_or_default(),
        seconds,
        log: buffer.text(),
        errno,
    });
    result
}

/// Returns the last bytes of a log that fit, as ASCII: the library takes no other bytes.
fn printable(log: &[u8], room: usize) -> Vec<u8> {
    let end = &log[log.len().saturating_sub(room)..];
    end.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }).collect()
}

unsafe fn records(address: u64, count: u32, size: u32) -> (Vec<u8>, usize) {
    if address == 0 {
        return (Vec::new(), 0);
    }
    // SAFETY: as for the caller.
    let all =
        unsafe { slice::from_raw_parts(address as *const u8, count as usize * size as usize) };
    (all.to_vec(), size as usize)
}

fn create_map(state: &mut State, attr: &mut bpf_attr) -> isize {
    let result = kernel(bpf_cmd::BPF_MAP_CREATE as u32, attr);
    // SAFETY: this is the part of the union for BPF_MAP_CREATE.
    let asked = unsafe { &attr.__bindgen_anon_1 };
    let name = asked.map_name.iter().map(|c| *c as u8).take_while(|c| *c != 0);
    state.seen.maps.push(MapCreate {
        name: name.collect(),
        map_type: asked.map_type,
        entries: asked.max_entries,
        memory_bytes: (result >= 0).then(|| memory_bytes(result)).flatten(),
        errno: if result < 0 { -result as c_int } else { 0 },
    });
    result
}

fn memory_bytes(descriptor: isize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok())
}

fn load_btf(state: &mut State, attr: &mut bpf_attr) -> isize {
    let result = kernel(bpf_cmd::BPF_BTF_LOAD as u32, attr);
    if let Ok(descriptor) = u32::try_from(result) {
        // SAFETY: this is the part of the union for BPF_BTF_LOAD, whose pointer leads to btf_size
        // bytes.
        let data = unsafe {
            let asked = &attr.__bindgen_anon_7;
            slice::from_raw_parts(asked.btf as *const u8, asked.btf_size as usize)
        };
        state.btf.insert(descriptor, data.to_vec());
    }
    result
}

/// A buffer for the verifier's log. Its pages come into being as the kernel writes to them.
struct Buffer(*mut u8, usize);

impl Buffer {
    fn new(size: usize) -> Option<Self> {
        // SAFETY: a new mapping touches no other memory.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        (address != libc::MAP_FAILED).then_some(Self(address.cast(), size))
    }

    fn text(&self) -> Vec<u8> {
        // SAFETY: the mapping lives as long as `self`, and ends the text with a 0.
        unsafe { std::ffi::CStr::from_ptr(self.0.cast()) }.to_bytes().to_vec()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: nothing points into the mapping any more.
        unsafe { libc::munmap(self.0.cast(), self.1) };
    }
}
