//! The calls that have not returned, read by a thread of its own: the only one that
//! keeps capabilities, and the only one that may wait for another process.
//!
//! Invariant: whoever asks waits at most [`ANSWER_WITHIN`]. Reading the memory of a
//! process can take as long as that process waits for it, such as for a page of a file
//! on a server that is gone; a snapshot of just that moment must not.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::dump::DUMPS_MAX;
use crate::{
    event::{
        Attached, Event, Kind,
        capture::{self, DataKept},
        syscall::{self, Abi},
        wire::{
            ATTACHMENT_WAIT_CHANNEL, LATE_NS, Reading, STRING_BYTES_MAX, SYSCALL_ATTACHMENTS_MAX,
            attachment_flag, attachment_part, capability_sets, flag, reading, when,
        },
    },
    loss::Missing,
    privacy::Masker,
    privilege::{self, CapabilitySet, Kept},
    probe::{self, SlotLister, UnfinishedCall},
};

/// The name of the thread.
pub const UNFINISHED_THREAD: &str = "unfinished";

/// How long a snapshot waits for its calls that have not returned. Ten thousand take
/// a tenth of a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// What reading these calls needs.
pub struct UnfinishedSetup {
    /// Lists the slots.
    pub lister: SlotLister,
    /// When the hooks were attached.
    pub attached_ns: u64,
    /// The recorder's own process.
    pub own_pid: u32,
    /// The ABI of the host's calls.
    pub native: Abi,
    /// The capabilities the thread keeps.
    pub keeps: CapabilitySet,
}

/// Asks the thread.
pub struct UnfinishedReader {
    requests: SyncSender<Request>,
    /// The answer that did not come in time: as long as the thread has not let go of
    /// it, it is busy.
    overdue: Mutex<Option<Receiver<Answer>>>,
}

struct Request {
    moment_ns: u64,
    answer: SyncSender<Answer>,
}

enum Answer {
    /// The calls as the slots have them, at once.
    Listed(Vec<OwnedEvent>),
    /// What belongs to each of them, and the calls from before the recording.
    Read(Vec<Vec<Attachment>>, Vec<OwnedEvent>),
    /// They could not be listed.
    Failed(String),
}

/// Place of the argument, flags, bytes.
type Attachment = (u8, u8, Vec<u8>);

/// The calls that had not returned at a moment.
#[derive(Default)]
pub(super) struct Unfinished {
    pub(super) events: Vec<OwnedEvent>,
    /// What is not there, and why.
    pub(super) missing: Option<Missing>,
}

impl UnfinishedReader {
    /// Starts the thread, which first gives up what it does not need, and then lists
    /// the calls that are running already. Answers what it kept.
    pub fn start(setup: UnfinishedSetup) -> io::Result<(UnfinishedReader, Kept)> {
        let (requests, asked) = sync_channel(DUMPS_MAX);
        let (tell, told) = sync_channel(1);
        thread::Builder::new().name(UNFINISHED_THREAD.to_string()).spawn(move || {
            // Whoever started it waits for this.
            let _ = tell.send(privilege::keep_to_read(setup.keeps));
            Reader::new(setup).run(asked);
        })?;
        let kept = told.recv().map_err(|_| io::Error::other("a thread ended at once"))?;
        Ok((UnfinishedReader { requests, overdue: Mutex::default() }, kept))
    }

    /// The calls that had not returned at `moment_ns`, as many as can be had `within` this
    /// time, or [`ANSWER_WITHIN`].
    pub(super) fn ask(&self, moment_ns: u64, within: Duration) -> Unfinished {
        self.ask_within(moment_ns, within.min(ANSWER_WITHIN))
    }

    fn ask_within(&self, moment_ns: u64, within: Duration) -> Unfinished {
        let until = Instant::now() + within;
        if self.is_overdue() {
            return Unfinished::none("an earlier snapshot still waits for them");
        }
        // Room for all there is to say: the thread never waits for us.
        let (answer, answers) = sync_channel(2);
        match self.requests.try_send(Request { moment_ns, answer }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Unfinished::none("too many snapshots wait for them");
            }
            Err(TrySendError::Disconnected(_)) => return Unfinished::none(GONE),
        }
        let mut events = Vec::new();
        loop {
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Answer::Listed(listed)) => events = listed,
                Ok(Answer::Read(attached, before)) => {
                    for (event, attached) in events.iter_mut().zip(attached) {
                        event.attached = attached;
                    }
                    events.extend(before);
                    return Unfinished { events, missing: None };
                }
                Ok(Answer::Failed(why)) => return Unfinished::none(&why),
                Err(RecvTimeoutError::Disconnected) => return Unfinished::cut(events, GONE),
                Err(RecvTimeoutError::Timeout) => {
                    let overdue = self.overdue.lock();
                    *overdue.unwrap_or_else(PoisonError::into_inner) = Some(answers);
                    return Unfinished::cut(events, "a process could not be read in time");
                }
            }
        }
    }

    fn is_overdue(&self) -> bool {
        let mut overdue = self.overdue.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(answers) = &*overdue {
            match answers.try_recv() {
                Ok(_) => {}
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => *overdue = None,
            }
        }
        false
    }
}

const GONE: &str = "the thread that reads them has ended: see the recorder's log";

impl Unfinished {
    fn none(why: &str) -> Unfinished {
        let what = "calls that have not returned".to_string();
        Unfinished { events: Vec::new(), missing: Some(Missing { what, why: why.to_string() }) }
    }

    /// Without what had not come.
    fn cut(events: Vec<OwnedEvent>, why: &str) -> Unfinished {
        if events.is_empty() {
            return Unfinished::none(why);
        }
        let what = "strings and wait channels of calls that have not returned, and calls from \
                    before the recording"
            .to_string();
        Unfinished { events, missing: Some(Missing { what, why: why.to_string() }) }
    }
}

/// The thread's side.
struct Reader {
    setup: UnfinishedSetup,
    /// Calls that began before the recording, as far as they may still run.
    before: HashMap<u32, UnfinishedCall>,
}

impl Reader {
    fn new(setup: UnfinishedSetup) -> Reader {
        let before = probe::calls_before_recording(setup.own_pid);
        Reader { setup, before: before.into_iter().map(|call| (call.tid, call)).collect() }
    }

    /// Answers until nobody can ask any more.
    fn run(mut self, asked: Receiver<Request>) {
        for request in asked {
            // Whoever asked may have gone on without it.
            let send = |answer| drop(request.answer.try_send(answer));
            let listed = match probe::unfinished_calls(&self.setup.lister) {
                Ok(listed) => listed,
                Err(error) => {
                    send(Answer::Failed(error.to_string()));
                    continue;
                }
            };
            let moment_ns = request.moment_ns;
            let wanted: Vec<UnfinishedCall> = listed
                .iter()
                .filter(|call| call.entry_ns <= moment_ns && call.pid != self.setup.own_pid)
                .copied()
                .collect();
            let native = self.setup.native;
            let event = |call: &UnfinishedCall| {
                OwnedEvent::of_call(call, moment_ns, moment_ns - call.entry_ns, native, 0)
            };
            send(Answer::Listed(wanted.iter().map(event).collect()));
            let attached = self.attached(&wanted);
            let before = self.older_than_recording(&listed, moment_ns);
            send(Answer::Read(attached, before));
        }
    }

    /// What belongs to each call. It was read while the threads ran on: where the slot
    /// has changed since, it may belong to another call, and is dropped.
    fn attached(&self, calls: &[UnfinishedCall]) -> Vec<Vec<Attachment>> {
        let native = self.setup.native;
        let mut attached: Vec<_> = calls.iter().map(|call| attachments(call, native)).collect();
        if attached.iter().all(Vec::is_empty) {
            return attached;
        }
        let again = probe::unfinished_calls(&self.setup.lister).unwrap_or_default();
        let again: HashMap<u32, UnfinishedCall> =
            again.into_iter().map(|call| (call.tid, call)).collect();
        for (call, attached) in calls.iter().zip(&mut attached) {
            if again.get(&call.tid) != Some(call) {
                attached.clear();
            }
        }
        attached
    }

    /// The calls from before the recording that still run.
    fn older_than_recording(
        &mut self,
        listed: &[UnfinishedCall],
        moment_ns: u64,
    ) -> Vec<OwnedEvent> {
        for call in listed {
            // It has a slot, so it has returned since and made another call.
            self.before.remove(&call.tid);
        }
        self.before.retain(|_, call| call.still_running());
        // Whoever has a slot by now was between two calls a moment ago.
        for call in probe::unfinished_calls(&self.setup.lister).unwrap_or_default() {
            self.before.remove(&call.tid);
        }
        let native = self.setup.native;
        let age_ns = moment_ns.saturating_sub(self.setup.attached_ns);
        let event = |call: &UnfinishedCall| {
            let flags = flag::BEFORE_RECORDING;
            let mut event = OwnedEvent::of_call(call, moment_ns, age_ns, native, flags);
            event.attached = attachments(call, native);
            event
        };
        self.before.values().map(event).collect()
    }
}

/// An event that owns its bytes.
pub(super) struct OwnedEvent {
    pid: u32,
    tid: u32,
    ts_ns: u64,
    flags: u16,
    numbers: Vec<u64>,
    attached: Vec<Attachment>,
}

impl OwnedEvent {
    /// Without what belongs to it.
    fn of_call(
        call: &UnfinishedCall,
        moment_ns: u64,
        age_ns: u64,
        native: Abi,
        flags: u16,
    ) -> OwnedEvent {
        let compat = if call.compat { flag::COMPAT } else { 0 };
        let row = syscall::lookup(abi_of(call, native), call.nr);
        let count = row.map_or(call.args.len(), |row| row.args_of(&call.args).len());
        let mut numbers = vec![call.nr.cast_unsigned(), 0, age_ns];
        numbers.extend(call.args.iter().take(count));
        OwnedEvent {
            pid: call.pid,
            tid: call.tid,
            ts_ns: moment_ns,
            flags: flag::UNFINISHED | compat | flags | late(age_ns),
            numbers,
            attached: Vec::new(),
        }
    }

    /// Without the secrets in its strings.
    pub(super) fn mask(&mut self, masker: &mut Masker, native: Abi) {
        let event = self.as_event();
        let Some(masked) = masker.event(&event, native) else { return };
        let own =
            |attached: &Attached<'_>| (attached.index, attached.flags, attached.bytes.to_vec());
        self.attached = masked.attached().iter().map(own).collect();
    }

    pub(super) fn as_event(&self) -> Event<'_> {
        let mut event = Event::new(Kind::Syscall, self.ts_ns);
        (event.pid, event.tid, event.flags) = (self.pid, self.tid, self.flags);
        for number in &self.numbers {
            event.push_number(*number);
        }
        for (index, flags, bytes) in &self.attached {
            event.attach(Attached { index: *index, flags: *flags, bytes });
        }
        event
    }
}

/// What a call points to is read long after it was entered.
fn late(age_ns: u64) -> u16 {
    if age_ns > LATE_NS { flag::LATE } else { 0 }
}

fn abi_of(call: &UnfinishedCall, native: Abi) -> Abi {
    if call.compat { native.compat().unwrap_or(native) } else { native }
}

/// What a call points to, as far as the program wrote it, and where in the kernel it
/// waits.
fn attachments(call: &UnfinishedCall, native: Abi) -> Vec<Attachment> {
    let abi = abi_of(call, native);
    let row = syscall::lookup(abi, call.nr);
    let args = row.map(|row| row.args_of(&call.args)).unwrap_or_default();
    let mut attached: Vec<Attachment> = Vec::new();
    let readings = capture::readings(args, abi, DataKept::default());
    // What the kernel is to write is not there yet, and what it is to change is as it was.
    let given = readings
        .into_iter()
        .filter(|(_, reading)| reading.when == when::ALWAYS || reading.when >= when::ENTERED);
    for (arg, reading) in given.take(SYSCALL_ATTACHMENTS_MAX) {
        let base = attached.iter().rfind(|(index, ..)| *index == arg);
        let base = base.map(|(_, _, bytes)| bytes.as_slice());
        let Some((pointer, bytes)) = place_of(call, arg, &reading, base) else { continue };
        let read = match reading.kind {
            reading::STRING | reading::FOLLOW_STRING => read_string(call.pid, pointer),
            _ if reading.when >= when::ENTERED => {
                let most = reading.bytes_max.min(reading.element_bytes);
                let read = read_part(call.pid, pointer, bytes, most);
                read.map(|(flags, bytes)| (flags | attachment_flag::ENTERED, bytes))
            }
            _ => read_part(call.pid, pointer, bytes, reading.bytes_max),
        };
        let (flags, bytes) = read.unwrap_or_else(|_| (attachment_flag::UNREADABLE, Vec::new()));
        attached.push((attachment_part(arg, reading.part), flags, bytes));
    }
    attached.extend(wait_channel(call).map(|name| (ATTACHMENT_WAIT_CHANNEL, 0, name)));
    attached
}

/// Where something lies and how many bytes it has, as the kernel programs find out; `base`
/// is the structure it follows.
fn place_of(
    call: &UnfinishedCall,
    arg: u8,
    reading: &Reading,
    base: Option<&[u8]>,
) -> Option<(u64, u64)> {
    let word = |place: u8| call.args.get(usize::from(place)).copied().unwrap_or_default();
    let half = |bytes: &[u8], at: usize| {
        Some(u64::from(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?)))
    };
    let at_user = |pointer: u64| {
        let bytes = read_memory(call.pid, pointer, 4).ok()?;
        half(&bytes, 0)
    };
    let mut pointer = word(arg);
    let count = match reading.kind {
        reading::ARGUMENT => word(reading.count_at) & u64::from(u32::MAX),
        reading::INSIDE => at_user(pointer.wrapping_add(u64::from(reading.count_at)))?,
        reading::POINTED => at_user(word(reading.count_at))?,
        reading::BITS => (word(reading.count_at) & u64::from(u32::MAX)).div_ceil(64),
        reading::VERSION => match capability_sets(at_user(word(reading.count_at))? as u32) {
            0 => return None,
            sets => u64::from(sets),
        },
        reading::FOLLOW | reading::FOLLOW_STRING => {
            let (base, at) = (base?, usize::from(reading.pointer_at));
            let high = if reading.narrow == 0 { half(base, at + 4)? } else { 0 };
            pointer = half(base, at)? | high << 32;
            half(base, usize::from(reading.count_at))?
        }
        _ => 1,
    };
    (pointer != 0).then_some((pointer, count * u64::from(reading.element_bytes)))
}

/// The function of the kernel a thread waits in; `None` when it does not wait.
fn wait_channel(call: &UnfinishedCall) -> Option<Vec<u8>> {
    let path = format!("/proc/{}/task/{}/wchan", call.pid, call.tid);
    let name = fs::read(path).ok()?;
    (!name.is_empty() && name != b"0").then_some(name)
}

/// Reads a string of another process up to its NUL, as the kernel's programs do: what
/// ends with the memory and not with a NUL is no string.
fn read_string(pid: u32, pointer: u64) -> io::Result<(u8, Vec<u8>)> {
    string_of(read_memory(pid, pointer, STRING_BYTES_MAX)?)
}

/// The string at the beginning of up to [`STRING_BYTES_MAX`] bytes.
fn string_of(mut bytes: Vec<u8>) -> io::Result<(u8, Vec<u8>)> {
    let flags = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => {
            bytes.truncate(end);
            0
        }
        None if bytes.len() == STRING_BYTES_MAX => {
            bytes.truncate(STRING_BYTES_MAX - 1);
            attachment_flag::CUT
        }
        None => return Err(io::ErrorKind::UnexpectedEof.into()),
    };
    Ok((flags, bytes))
}

/// Reads `bytes` bytes of another process, of which `bytes_max` are kept.
fn read_part(pid: u32, pointer: u64, bytes: u64, bytes_max: u16) -> io::Result<(u8, Vec<u8>)> {
    let kept = bytes.min(u64::from(bytes_max)) as usize;
    let found = read_memory(pid, pointer, kept)?;
    if found.len() < kept {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((if bytes > kept as u64 { attachment_flag::CUT } else { 0 }, found))
}

/// Reads memory of another process, less where it ends before. `/proc/PID/mem`
/// gives what `process_vm_readv` gives, without an unsafe call.
fn read_memory(pid: u32, pointer: u64, length: usize) -> io::Result<Vec<u8>> {
    let memory = File::open(format!("/proc/{pid}/mem"))?;
    let mut bytes = vec![0; length];
    let read = memory.read_at(&mut bytes, pointer)?;
    bytes.truncate(read);
    if read == 0 && length > 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    /// A reader whose thread is the test.
    fn reader() -> (UnfinishedReader, Receiver<Request>) {
        let (requests, asked) = sync_channel(1);
        (UnfinishedReader { requests, overdue: Mutex::default() }, asked)
    }

    fn call() -> OwnedEvent {
        let call =
            UnfinishedCall { pid: 7, tid: 8, entry_ns: 1, nr: 0, args: [0; 6], compat: false };
        OwnedEvent::of_call(&call, 9, 8, Abi::X86_64, 0)
    }

    fn why(unfinished: &Unfinished) -> String {
        let missing = unfinished.missing.as_ref().map(|row| format!("{}: {}", row.what, row.why));
        missing.unwrap_or_default()
    }

    /// A dump read the memory of other processes itself: one that hung, on a file of a
    /// server that was gone, held it for good, and after eight of them none was left.
    #[test]
    fn a_thread_that_hangs_costs_a_wait_and_then_none() {
        let (reader, asked) = reader();
        let first = reader.ask_within(9, SOON);
        assert_eq!(first.events.len(), 0);
        assert!(why(&first).contains("in time"), "{}", why(&first));
        // It still hangs: nobody waits for it again.
        let again = reader.ask_within(9, Duration::from_secs(3600));
        assert!(why(&again).contains("still waits"), "{}", why(&again));
        // It answers at last, and is asked again.
        drop(asked.recv());
        let next = reader.ask_within(9, SOON);
        assert!(why(&next).contains("in time"), "{}", why(&next));
    }

    #[test]
    fn what_was_listed_is_kept_when_reading_hangs() {
        let (reader, asked) = reader();
        let (cut, _hangs) = thread::scope(|scope| {
            let hanging = scope.spawn(move || {
                let request = asked.recv().ok();
                if let Some(request) = &request {
                    let _ = request.answer.try_send(Answer::Listed(vec![call()]));
                }
                (request, asked)
            });
            (reader.ask_within(9, Duration::from_millis(500)), hanging.join().ok())
        });
        assert_eq!((cut.events.len(), cut.events[0].tid), (1, 8));
        assert!(why(&cut).starts_with("strings and wait channels"), "{}", why(&cut));
    }

    #[test]
    fn a_full_queue_and_an_ended_thread_are_said() {
        let (reader, asked) = reader();
        let (answer, _answers) = sync_channel(2);
        assert!(reader.requests.try_send(Request { moment_ns: 1, answer }).is_ok());
        let full = reader.ask_within(9, SOON);
        assert!(why(&full).contains("too many"), "{}", why(&full));
        drop(asked);
        let gone = reader.ask_within(9, SOON);
        assert_eq!(why(&gone), format!("calls that have not returned: {GONE}"));
    }

    /// The end of the memory was taken for the end of the string.
    #[test]
    fn a_string_ends_with_a_nul_or_is_none() {
        assert_eq!(string_of(b"/x\0y".to_vec()).unwrap(), (0, b"/x".to_vec()));
        assert_eq!(string_of(b"\0".to_vec()).unwrap(), (0, Vec::new()));
        assert!(string_of(b"/x".to_vec()).is_err());
        assert!(string_of(Vec::new()).is_err());
        let mut longest = vec![b'x'; STRING_BYTES_MAX];
        let (flags, cut) = string_of(longest.clone()).unwrap();
        assert_eq!((flags, cut.len()), (attachment_flag::CUT, STRING_BYTES_MAX - 1));
        longest[STRING_BYTES_MAX - 1] = 0;
        assert_eq!(string_of(longest).unwrap().0, 0);
    }

    #[test]
    fn each_call_gets_what_belongs_to_it() {
        let (reader, asked) = reader();
        let got = thread::scope(|scope| {
            scope.spawn(move || {
                let request = asked.recv().unwrap();
                let path = vec![(1, 0, b"/x".to_vec())];
                let listed = Answer::Listed(vec![call(), call()]);
                request.answer.try_send(listed).ok().unwrap();
                let read = Answer::Read(vec![Vec::new(), path], vec![call()]);
                request.answer.try_send(read).ok().unwrap();
            });
            reader.ask_within(9, Duration::from_secs(60))
        });
        assert!(got.missing.is_none());
        let attached: Vec<usize> = got.events.iter().map(|event| event.attached.len()).collect();
        assert_eq!(attached, [0, 1, 0]);
    }
}
