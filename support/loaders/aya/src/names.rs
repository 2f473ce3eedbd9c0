// SPDX-License-Identifier: Apache-2.0

//! Names of errors, program types and map types.

use aya_obj::ProgramSection;

/// Returns the name of an error's number, or the number as text.
pub fn errno(number: i32) -> String {
    macro_rules! names {
        ($($name:ident)*) => {
            match number {
                $(libc::$name => stringify!($name).to_string(),)*
                524 => "ENOTSUPP".to_string(), // of the kernel's include/linux/errno.h
                _ => number.to_string(),
            }
        };
    }
    names!(E2BIG EACCES EADDRINUSE EADDRNOTAVAIL EAFNOSUPPORT EAGAIN EALREADY EBADF EBADFD EBUSY
        ECHILD ECONNREFUSED EDEADLK EDESTADDRREQ EDOM EEXIST EFAULT EFBIG EHOSTUNREACH EIDRM EILSEQ
        EINPROGRESS EINTR EINVAL EIO EISCONN EISDIR ELOOP EMEDIUMTYPE EMFILE EMLINK EMSGSIZE
        ENAMETOOLONG ENETDOWN ENETUNREACH ENFILE ENOBUFS ENODATA ENODEV ENOENT ENOEXEC ENOKEY
        ENOLCK ENOLINK ENOMEM ENOMSG ENOPROTOOPT ENOSPC ENOSYS ENOTCONN ENOTDIR ENOTEMPTY ENOTSOCK
        ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EPROTO EPROTONOSUPPORT ERANGE EROFS ESPIPE
        ESRCH ESTALE ETIMEDOUT ETXTBSY EUCLEAN EXDEV)
}

/// Returns libbpf's name of a map type (the kernel's enum bpf_map_type), or its number.
pub fn map_type(number: u32) -> String {
    const NAMES: [&str; 35] = [
        "unspec",
        "hash",
        "array",
        "prog_array",
        "perf_event_array",
        "percpu_hash",
        "percpu_array",
        "stack_trace",
        "cgroup_array",
        "lru_hash",
        "lru_percpu_hash",
        "lpm_trie",
        "array_of_maps",
        "hash_of_maps",
        "devmap",
        "sockmap",
        "cpumap",
        "xskmap",
        "sockhash",
        "cgroup_storage",
        "reuseport_sockarray",
        "percpu_cgroup_storage",
        "queue",
        "stack",
        "sk_storage",
        "devmap_hash",
        "struct_ops",
        "ringbuf",
        "inode_storage",
        "task_storage",
        "bloom_filter",
        "user_ringbuf",
        "cgrp_storage",
        "arena",
        "insn_array",
    ];
    NAMES.get(number as usize).map_or_else(|| number.to_string(), |name| (*name).to_string())
}

/// Tells whether the kernel's name of a map is that of a map of an object: its first 15 bytes.
pub fn is_map(name: &str, of_kernel: &[u8]) -> bool {
    let name = name.as_bytes();
    &name[..name.len().min(15)] == of_kernel
}

/// Returns libbpf's name of a section's program type, and whether the rest of the section's name
/// is what the program attaches to.
pub fn program_type(section: &ProgramSection) -> (&'static str, bool) {
    match section {
        ProgramSection::KRetProbe
        | ProgramSection::KProbe
        | ProgramSection::UProbe { .. }
        | ProgramSection::URetProbe { .. } => ("kprobe", true),
        ProgramSection::TracePoint => ("tracepoint", true),
        ProgramSection::SocketFilter => ("socket_filter", false),
        ProgramSection::Xdp { .. } => ("xdp", false),
        ProgramSection::SkMsg => ("sk_msg", false),
        ProgramSection::SkSkbStream { .. } => ("sk_skb", false),
        ProgramSection::SockOps => ("sock_ops", false),
        ProgramSection::SchedClassifier => ("sched_cls", false),
        ProgramSection::CgroupSkb { .. } => ("cgroup_skb", false),
        ProgramSection::CgroupSockAddr { .. } => ("cgroup_sock_addr", false),
        ProgramSection::CgroupSysctl => ("cgroup_sysctl", false),
        ProgramSection::CgroupSockopt { .. } => ("cgroup_sockopt", false),
        ProgramSection::LircMode2 => ("lirc_mode2", false),
        ProgramSection::PerfEvent => ("perf_event", false),
        ProgramSection::RawTracePoint => ("raw_tracepoint", true),
        ProgramSection::Lsm { .. } | ProgramSection::LsmCgroup => ("lsm", true),
        ProgramSection::BtfTracePoint
        | ProgramSection::FEntry { .. }
        | ProgramSection::FExit { .. }
        | ProgramSection::Iter { .. } => ("tracing", true),
        ProgramSection::FlowDissector => ("flow_dissector", false),
        ProgramSection::Extension => ("ext", true),
        ProgramSection::SkLookup => ("sk_lookup", false),
        ProgramSection::SkReuseport { .. } => ("sk_reuseport", false),
        ProgramSection::CgroupSock { .. } => ("cgroup_sock", false),
        ProgramSection::CgroupDevice => ("cgroup_device", false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_their_names() {
        assert_eq!(errno(libc::EINVAL), "EINVAL");
        assert_eq!(errno(524), "ENOTSUPP");
        assert_eq!(errno(4000), "4000");
    }

    #[test]
    fn map_types_are_those_of_the_kernel() {
        use aya_obj::generated::bpf_map_type as kernel;
        assert_eq!(map_type(kernel::BPF_MAP_TYPE_RINGBUF as u32), "ringbuf");
        assert_eq!(map_type(kernel::BPF_MAP_TYPE_ARENA as u32), "arena");
        assert_eq!(map_type(999), "999");
    }

    #[test]
    fn the_kernel_knows_the_first_15_bytes_of_a_maps_name() {
        assert!(is_map("a_map_with_a_long_name", b"a_map_with_a_lo"));
        assert!(!is_map("events", b"event"));
    }
}
