//! Processes of the machine, as `/proc` shows them: who belongs to a world, and ending them.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// One process, as it was when looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// Its command line, words joined by blanks.
    pub command: String,
}

impl Process {
    /// Sends `signal`; a process that is gone already is no error.
    pub fn signal(&self, signal: Signal) {
        send(self.pid, signal);
    }

    /// Returns whether its program file is called `name`.
    #[must_use]
    pub fn is_program(&self, name: &str) -> bool {
        let program = self.command.split(' ').next().unwrap_or_default();
        program.rsplit('/').next() == Some(name)
    }
}

/// Sends `signal` to `pid`; a process that is gone already is no error.
pub(crate) fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // ESRCH: it ended by itself, which is as good.
        let _ = kill_process(pid, signal);
    }
}

/// Returns every live process whose environment contains one of `marks` (`NAME=value`).
pub(crate) fn marked(marks: &[&str]) -> Vec<Process> {
    let is_marked = |pid: i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|entry| marks.iter().any(|m| m.as_bytes() == entry))
    };
    all().into_iter().filter(|process| is_marked(process.pid)).collect()
}

/// Returns every live descendant of `root`, without `root` itself.
pub(crate) fn descendants(root: i32) -> Vec<Process> {
    let all = all();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for process in all.iter().filter(|process| process.parent == parent) {
            parents.push(process.pid);
            found.push(process.clone());
        }
    }
    found
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc can be listed");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(look).collect()
}

fn look(pid: i32) -> Option<Process> {
    let parent = stat(pid)?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
    Some(Process { pid, parent, command })
}

/// Returns the parent of a process that lives; a zombie only waits to be collected.
fn stat(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // "pid (name, which may hold anything) state parent …"
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (state != "Z" && state != "X").then_some(parent)
}
