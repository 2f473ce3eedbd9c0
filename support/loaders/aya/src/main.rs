// SPDX-License-Identifier: Apache-2.0

//! loader-aya: loads eBPF programs as aya does, one at a time, and reports what came of it.
//!
//! It speaks the protocol of docs/loaders.md: requests come from standard input, and replies go to
//! descriptor 3.

// .cargo/config.toml turns on a feature that newer compilers have without it.
#![allow(stable_features)]

mod attach;
mod btf;
mod calls;
mod failure;
mod load;
mod log;
mod names;
mod object;
mod protocol;
mod values;

use std::{
    collections::HashSet,
    error::Error,
    fs::File,
    io::{self, BufRead as _, BufWriter, Write},
    os::fd::FromRawFd as _,
};

use crate::{
    object::{Opened, Refusal},
    protocol::{Log, Reply, Request},
};

/// The version of the library, which Cargo.toml pins. A test compares them.
const AYA_VERSION: &str = "0.16.0";
const REPLIES: i32 = 3;

struct Loader<W: Write> {
    replies: W,
    objects: Vec<String>,
    opened: Option<Opened>,
    /// The maps that were reported, by object and name.
    reported: HashSet<(String, String)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    log::keep();
    // SAFETY: no handler is installed, and this is the only thread. Rust's own handlers, which are
    // for overflows of the stack, would let the process go on after a signal of another process.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
    // SAFETY: nothing else in this process owns the descriptor that it was started with.
    let replies = unsafe { File::from_raw_fd(REPLIES) };
    let mut loader = Loader {
        replies: BufWriter::new(replies),
        objects: Vec::new(),
        opened: None,
        reported: HashSet::new(),
    };
    for line in io::stdin().lock().lines() {
        loader.answer(serde_json::from_str(&line?)?)?;
    }
    Ok(())
}

impl<W: Write> Loader<W> {
    fn answer(&mut self, request: Request) -> io::Result<()> {
        match request {
            Request::Start { objects } => {
                self.objects = objects;
                raise_locked_memory();
                let (loader, version) = (Some("aya"), Some(AYA_VERSION));
                self.reply(Reply { loader, version, done: true, ..Reply::default() })
            }
            Request::Open { object, set, map_sizes } => {
                self.opened = None; // closes the object that was open
                let reply = match Opened::new(&object, &set, &map_sizes) {
                    Ok(opened) => {
                        let reply = Reply {
                            programs: Some(
                                opened.programs.iter().map(|p| p.listed.clone()).collect(),
                            ),
                            set: opened.set.clone(),
                            map_sizes: opened.map_sizes.clone(),
                            ..Reply::default()
                        };
                        self.opened = Some(opened);
                        reply
                    }
                    Err(Refusal::Failure(failure)) => {
                        Reply { failure: Some(*failure), ..Reply::default() }
                    }
                    Err(Refusal::Usage(usage)) => Reply { usage: Some(usage), ..Reply::default() },
                };
                self.reply(Reply { done: true, ..reply })
            }
            Request::Load { program, log } => self.load(&program, log, false),
            Request::Attach { program } => self.load(&program, Log::Stats, true),
        }
    }

    fn load(&mut self, program: &str, log: Log, attach: bool) -> io::Result<()> {
        let Some(mut opened) = self.opened.take() else {
            return Err(io::Error::other("no object is open"));
        };
        for map in opened.load() {
            if self.reported.insert((opened.path.clone(), map.name.clone())) {
                self.reply(Reply { map: Some(map), ..Reply::default() })?;
            }
        }
        let result = load::run(&mut opened, &self.objects, program, log, attach);
        self.opened = Some(opened);
        self.reply(Reply { result: Some(result), done: true, ..Reply::default() })
    }

    fn reply(&mut self, reply: Reply) -> io::Result<()> {
        serde_json::to_writer(&mut self.replies, &reply)?;
        self.replies.write_all(b"\n")?;
        self.replies.flush()
    }
}

/// Lifts the limit of locked memory, which kernels before 5.11 charge maps and programs to.
fn raise_locked_memory() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the pointer leads to a whole rlimit. Without privileges it fails, and the kernel
    // refuses programs as well.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_that_of_the_library() {
        let manifest = include_str!("../Cargo.toml");
        assert!(manifest.contains(&format!("aya = \"={}\"", super::AYA_VERSION)));
    }
}
