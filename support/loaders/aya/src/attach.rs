// SPDX-License-Identifier: Apache-2.0

//! Attaches a loaded program to what its section names. Where the section leaves that to the
//! project, it is attached to something that every guest has.

use std::{
    any::Any,
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use aya::{
    maps::{Map, MapData, SockMap},
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError, TcAttachType, XdpMode,
        perf_event::{PerfEventConfig, PerfEventScope, SamplePolicy, SoftwareEvent},
        tc::qdisc_add_clsact,
        uprobe::{UProbeAttachLocation, UProbeScope},
    },
};
use aya_obj::{
    EbpfSectionKind, Map as MapObject,
    generated::bpf_map_type,
    maps::{LegacyMap, bpf_map_def},
};
use object::{Object as _, ObjectSegment as _};

/// The loopback device's number in each network namespace (LOOPBACK_IFINDEX of the kernel).
const LOOPBACK: u32 = 1;
/// How long the CPU clock runs between two events, in nanoseconds.
const PERIOD: u64 = 1_000_000;

/// What must stay while a program is attached: a socket, or a cgroup.
pub struct Held(#[expect(dead_code, reason = "it is for its end alone")] Option<Box<dyn Any>>);

impl Held {
    fn some(thing: impl Any) -> Self {
        Self(Some(Box::new(thing)))
    }
}

/// A new cgroup, which no process is in.
pub struct Cgroup(PathBuf, File);

impl Cgroup {
    fn new() -> io::Result<Self> {
        let folder = format!("/sys/fs/cgroup/loader-aya.{}", std::process::id());
        let folder = PathBuf::from(folder);
        fs::create_dir(&folder)?;
        let opened = File::open(&folder).inspect_err(|_| {
            let _ = fs::remove_dir(&folder);
        })?;
        Ok(Self(folder, opened))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Attaches a program, until the program is unloaded.
///
/// Returns None if only the project knows what to attach it to.
pub fn attach(
    program: &mut Program,
    section: &str,
    target: &str,
) -> Result<Option<Held>, ProgramError> {
    let mode = CgroupAttachMode::Single;
    let in_cgroup = |cgroup: Cgroup| Ok(Some(Held::some(cgroup)));
    match program {
        Program::KProbe(_) | Program::RawTracePoint(_) if target.is_empty() => return Ok(None),
        Program::KProbe(p) => {
            let (function, offset) = target.split_once('+').unwrap_or((target, "0"));
            match number(offset) {
                Some(offset) => p.attach(function, offset)?,
                None => p.attach(target, 0)?,
            };
        }
        Program::UProbe(p) => {
            let (file, function) = target.rsplit_once(':').unwrap_or(("", ""));
            if file.is_empty() && target.is_empty() {
                let own = Path::new("/proc/self/exe");
                let point = UProbeAttachLocation::AbsoluteOffset(entry_offset(own)?);
                p.attach([point], own, UProbeScope::CallingProcess)?;
            } else if Path::new(file).is_file() {
                p.attach([function], file, UProbeScope::AllProcesses)?;
            } else {
                return Ok(None); // the guest has no files of the project but the objects
            }
        }
        Program::TracePoint(p) => {
            let Some((category, name)) = target.split_once('/') else { return Ok(None) };
            p.attach(category, name)?;
        }
        Program::RawTracePoint(p) => {
            p.attach(target)?;
        }
        Program::BtfTracePoint(p) => {
            p.attach()?;
        }
        Program::FEntry(p) => {
            p.attach()?;
        }
        Program::FExit(p) => {
            p.attach()?;
        }
        Program::Lsm(p) => {
            p.attach()?;
        }
        Program::Iter(p) => {
            p.attach()?;
        }
        Program::Extension(p) => {
            p.attach()?;
        }
        Program::Xdp(p) => {
            if section.contains('/') {
                return Ok(None); // it goes into a CPU map or a device map
            }
            p.attach(LOOPBACK, XdpMode::Skb)?;
        }
        Program::SchedClassifier(p) => {
            // Kernels before 6.6 need it. It is there if another program was attached before.
            let _ = qdisc_add_clsact(LOOPBACK);
            p.attach(LOOPBACK, TcAttachType::Ingress)?;
        }
        Program::PerfEvent(p) => {
            let config = PerfEventConfig::Software(SoftwareEvent::CpuClock);
            let scope = PerfEventScope::AllProcessesOneCpu { cpu: 0 };
            p.attach(config, scope, SamplePolicy::Period(PERIOD), false)?;
        }
        Program::SkLookup(p) => {
            p.attach(File::open("/proc/self/ns/net")?)?;
        }
        Program::FlowDissector(p) => {
            p.attach(File::open("/proc/self/ns/net")?)?;
        }
        Program::SkMsg(p) => {
            let sockets = sockets()?;
            p.attach(sockets.fd())?;
            return Ok(Some(Held::some(sockets)));
        }
        Program::SkSkb(p) => {
            let sockets = sockets()?;
            p.attach(sockets.fd())?;
            return Ok(Some(Held::some(sockets)));
        }
        Program::SocketFilter(p) => {
            let socket = socket(false)?;
            p.attach(&socket)?;
            return Ok(Some(Held::some(socket)));
        }
        Program::ReusePortSocketFilter(p) => {
            let socket = socket(true)?;
            p.attach(&socket)?;
            return Ok(Some(Held::some(socket)));
        }
        Program::SkReuseport(p) => {
            let socket = socket(true)?;
            p.attach(&socket)?;
            return Ok(Some(Held::some(socket)));
        }
        Program::CgroupSkb(p) => {
            let kind = if section.starts_with("cgroup_skb/egress") {
                CgroupSkbAttachType::Egress
            } else {
                CgroupSkbAttachType::Ingress
            };
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, kind, mode)?;
            return in_cgroup(cgroup);
        }
        Program::CgroupSockAddr(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, mode)?;
            return in_cgroup(cgroup);
        }
        Program::CgroupSock(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, mode)?;
            return in_cgroup(cgroup);
        }
        Program::CgroupSockopt(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, mode)?;
            return in_cgroup(cgroup);
        }
        Program::CgroupSysctl(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, mode)?;
            return in_cgroup(cgroup);
        }
        Program::CgroupDevice(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, mode)?;
            return in_cgroup(cgroup);
        }
        Program::SockOps(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1, mode)?;
            return in_cgroup(cgroup);
        }
        Program::LsmCgroup(p) => {
            let cgroup = Cgroup::new()?;
            p.attach(&cgroup.1)?;
            return in_cgroup(cgroup);
        }
        Program::LircMode2(_) => return Ok(None),
    }
    Ok(Some(Held(None)))
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Returns the offset in an executable file of its entry point.
fn entry_offset(path: &Path) -> io::Result<u64> {
    let data = fs::read(path)?;
    let file = object::File::parse(data.as_slice()).map_err(io::Error::other)?;
    let entry = file.entry();
    let offset = file.segments().find_map(|segment| {
        let (start, size) = segment.file_range();
        let within = entry.checked_sub(segment.address())?;
        (within < size).then_some(start + within)
    });
    offset.ok_or_else(|| io::Error::other("the entry point is in no segment"))
}

fn sockets() -> Result<SockMap<MapData>, ProgramError> {
    let object = MapObject::Legacy(LegacyMap {
        def: bpf_map_def {
            map_type: bpf_map_type::BPF_MAP_TYPE_SOCKMAP as u32,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            ..bpf_map_def::default()
        },
        inner_def: None,
        section_index: 0,
        section_kind: EbpfSectionKind::Maps,
        symbol_index: None,
        data: Vec::new(),
    });
    let data = MapData::create(object, "sockets", None)?;
    Ok(SockMap::try_from(Map::SockMap(data))?)
}

fn socket(reuse_port: bool) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointer, and its result is a new descriptor.
    let socket = unsafe {
        match libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) {
            -1 => return Err(io::Error::last_os_error()),
            descriptor => OwnedFd::from_raw_fd(descriptor),
        }
    };
    let on: libc::c_int = 1;
    // SAFETY: the pointer leads to an int, and the size is that of an int.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_REUSEPORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if reuse_port && result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}
