use std::path::PathBuf;
use std::process::Command;

use execs::Counter;

/// The object: bpfmatrix names its folder in the guest; `cargo test` runs in the project's.
fn object() -> PathBuf {
    let folder = std::env::var_os("BPFMATRIX_OBJECTS").unwrap_or_else(|| "bpf".into());
    PathBuf::from(folder).join("execs.bpf.o")
}

#[test]
fn programs_of_a_child_are_counted() {
    let counter = Counter::new(&object()).unwrap();
    // The shell starts true in its place, so that one process starts two programs.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec /bin/true"])
        .spawn()
        .unwrap();
    child.wait().unwrap();
    assert_eq!(counter.count(child.id()).unwrap(), 2);
}

#[test]
fn a_process_that_starts_none_has_zero() {
    let counter = Counter::new(&object()).unwrap();
    assert_eq!(counter.count(std::process::id()).unwrap(), 0);
}
