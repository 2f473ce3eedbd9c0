//! Counts how often each process starts a program.

use std::io;
use std::path::Path;

use aya::maps::{HashMap, MapData, MapError};
use aya::programs::TracePoint;
use aya::{Ebpf, EbpfError};

/// Counts until it is dropped.
pub struct Counter(Ebpf);

impl Counter {
    /// Loads the program of the object file, and attaches it.
    pub fn new(object: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        remove_memlock()?;
        let mut ebpf = Ebpf::load_file(object)?;
        let program: &mut TracePoint = ebpf
            .program_mut("on_exec")
            .ok_or("the object has no program on_exec")?
            .try_into()?;
        program.load()?;
        program.attach("sched", "sched_process_exec")?;
        Ok(Self(ebpf))
    }

    /// Returns how many programs the process has started since `new`.
    pub fn count(&self, pid: u32) -> Result<u64, EbpfError> {
        let map = self.0.map("execs").expect("the object has the map execs");
        let execs: HashMap<&MapData, u32, u64> = HashMap::try_from(map)?;
        match execs.get(&pid, 0) {
            Err(MapError::KeyNotFound) => Ok(0),
            count => Ok(count?),
        }
    }
}

/// Before Linux 5.11, maps and programs count as locked memory, which is limited.
fn remove_memlock() -> io::Result<()> {
    let all = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &all) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
