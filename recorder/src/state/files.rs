//! Open files, as lsof prints them.

use std::io::{self, Write};

use serde::ser::SerializeMap as _;

use super::{HostState, Object, printable, write_object, write_table};
use crate::{
    context::{Descriptors, OpenFile, Tables, ThreadFacts},
    event::{
        File,
        address::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX},
    },
    export::{file_name, put_bytes},
};

/// `S_IFMT` and what it says, include/uapi/linux/stat.h, as lsof calls it.
const TYPE_MASK: u32 = 0o170_000;
const TYPES: [(u32, &str); 6] = [
    (0o100_000, "REG"),
    (0o040_000, "DIR"),
    (0o020_000, "CHR"),
    (0o060_000, "BLK"),
    (0o010_000, "FIFO"),
    (0o140_000, "SOCK"),
];

/// A row: the descriptor, or what else the process has of files.
struct OpenRow<'a> {
    tid: u32,
    facts: &'a ThreadFacts,
    /// `None` for the working directory.
    fd: Option<i32>,
    open: &'a OpenFile,
}

impl HostState {
    /// Working directories and descriptors, process by process. What a thread has of its
    /// own follows that of its process.
    fn open_files(&self) -> impl Iterator<Item = OpenRow<'_>> {
        self.processes.tables().flat_map(|Tables { tid, facts, files, directory }| {
            let row = move |fd, open| OpenRow { tid, facts, fd, open };
            let files = files.into_iter().flat_map(Descriptors::iter);
            let files = files.map(move |(fd, open)| row(Some(fd), open));
            directory.map(move |open| row(None, open)).into_iter().chain(files)
        })
    }

    pub(super) fn write_files(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<Vec<String>> = self
            .open_files()
            .filter_map(|row| {
                let file = row.open.file()?;
                let mark = if self.is_uncertain(row.open.as_of_ns) { "?" } else { "" };
                let fd = row.fd.map_or("cwd".to_string(), |fd| format!("{fd}{}", access(&file)));
                Some(vec![
                    printable(&row.facts.comm),
                    whose(&row),
                    format!("{fd}{mark}"),
                    kind(&file).to_string(),
                    device(&file),
                    file.head.inode.to_string(),
                    printable(&file_name(&file)),
                ])
            })
            .collect();
        write_table(&["COMMAND", "PID", "FD", "TYPE", "DEVICE", "NODE", "NAME"], &rows, out)
    }

    pub(super) fn write_files_json(&self, out: &mut dyn Write) -> io::Result<()> {
        for row in self.open_files() {
            if let Some(file) = row.open.file() {
                write_object(out, |object| self.open_file(&row, &file, object))?;
            }
        }
        Ok(())
    }

    fn open_file(
        &self,
        row: &OpenRow<'_>,
        file: &File<'_>,
        object: &mut Object<'_, '_>,
    ) -> Result<(), serde_json::Error> {
        object.serialize_entry("pid", &row.facts.pid)?;
        if row.tid != row.facts.pid {
            object.serialize_entry("tid", &row.tid)?;
        }
        put_bytes(object, "comm", &row.facts.comm, false)?;
        match row.fd {
            Some(fd) => object.serialize_entry("fd", &fd)?,
            None => object.serialize_entry("fd", "cwd")?,
        }
        put_bytes(object, "file", &file.name(), false)?;
        if let Some(socket) = file.socket().filter(|socket| socket.head.family != 0) {
            put_bytes(object, "socket", &socket.name(file.head.inode), false)?;
        }
        object.serialize_entry("type", kind(file))?;
        object.serialize_entry("device", &device(file))?;
        object.serialize_entry("inode", &file.head.inode)?;
        if row.fd.is_some() {
            object.serialize_entry("access", access(file))?;
            object.serialize_entry("close_on_exec", &row.open.close_on_exec)?;
        }
        if self.is_uncertain(row.open.as_of_ns) {
            object.serialize_entry("uncertain", &true)?;
        }
        Ok(())
    }
}

/// The process, and the thread where it is not that of the process.
fn whose(row: &OpenRow<'_>) -> String {
    match row.facts.pid {
        pid if pid == row.tid => pid.to_string(),
        pid => format!("{pid}/{}", row.tid),
    }
}

/// `r`, `w` or `u` for both, from the flags of the open file.
fn access(file: &File<'_>) -> &'static str {
    match file.head.open_flags & 3 {
        0 => "r",
        1 => "w",
        _ => "u",
    }
}

/// Major and minor number.
fn device(file: &File<'_>) -> String {
    format!("{},{}", file.head.device >> 20, file.head.device & 0xf_ffff)
}

fn kind(file: &File<'_>) -> &'static str {
    match file.socket().map(|socket| socket.head.family) {
        Some(AF_UNIX) => return "unix",
        Some(AF_INET) => return "IPv4",
        Some(AF_INET6) => return "IPv6",
        Some(AF_NETLINK) => return "netlink",
        _ => {}
    }
    let kind = file.head.mode & TYPE_MASK;
    TYPES.iter().find(|(number, _)| *number == kind).map_or("a_inode", |(_, name)| name)
}
