//! The console: its modes, its size, and the keys that people press at it.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use tokio::io::ReadBuf;
use tokio::sync::mpsc;
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Console::{
    CONSOLE_MODE, CONSOLE_SCREEN_BUFFER_INFO, ENABLE_ECHO_INPUT, ENABLE_LINE_INPUT,
    ENABLE_PROCESSED_INPUT, ENABLE_VIRTUAL_TERMINAL_INPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING,
    ENABLE_WINDOW_INPUT, GetConsoleMode, GetConsoleOutputCP, GetConsoleScreenBufferInfo,
    GetStdHandle, INPUT_RECORD, KEY_EVENT, ReadConsoleInputW, ReadConsoleW, STD_OUTPUT_HANDLE,
    SetConsoleMode, SetConsoleOutputCP, SetStdHandle, WINDOW_BUFFER_SIZE_EVENT,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, INFINITE, SetEvent, WaitForMultipleObjects,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::signals::tell_resized;

/// Opens the console for reading, whatever standard input is.
///
/// # Errors
/// There is none.
pub(super) fn input() -> io::Result<File> {
    // Its modes are changed through it, which takes both.
    File::options().read(true).write(true).open("CONIN$")
}

/// Opens the console for writing, whatever standard output is.
///
/// # Errors
/// There is none.
pub(super) fn output() -> io::Result<File> {
    File::options().read(true).write(true).open("CONOUT$")
}

/// Returns columns and rows of the window; `None` without a console.
pub(super) fn size() -> Option<(u16, u16)> {
    let console = output().ok()?;
    let mut info = MaybeUninit::<CONSOLE_SCREEN_BUFFER_INFO>::uninit();
    // SAFETY: the handle is open, and the structure is read only if the call has filled it in.
    let info = unsafe {
        if GetConsoleScreenBufferInfo(handle(&console), info.as_mut_ptr()) == 0 {
            return None;
        }
        info.assume_init()
    };
    let window = info.srWindow;
    let length = |from: i16, to: i16| u16::try_from(i32::from(to) - i32::from(from) + 1).ok();
    Some((length(window.Left, window.Right)?, length(window.Top, window.Bottom)?))
}

/// Modes of the console, which are put back as they were when this is dropped.
#[derive(Debug)]
pub(super) struct Modes {
    input: Option<(File, CONSOLE_MODE)>,
    output: Option<(File, CONSOLE_MODE)>,
    code_page: Option<u32>,
}

/// The code page of UTF-8.
const UTF_8: u32 = 65001;

impl Modes {
    /// Has keys handed over one by one, without echo.
    ///
    /// # Errors
    /// There is no console.
    pub(super) fn single_keys() -> io::Result<Self> {
        let console = input()?;
        let before = mode(&console)?;
        let lines = ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT | ENABLE_PROCESSED_INPUT;
        set_mode(&console, before & !lines)?;
        Ok(Self { input: Some((console, before)), output: None, code_page: None })
    }

    /// Has control sequences understood and keys handed over as such, changes of the size
    /// reported, and text taken as UTF-8.
    ///
    /// # Errors
    /// There is no console, or it is older than control sequences.
    pub(super) fn with_sequences() -> io::Result<Self> {
        let mut modes = Self { input: None, output: None, code_page: None };
        let console = output()?;
        let before = mode(&console)?;
        set_mode(&console, before | ENABLE_VIRTUAL_TERMINAL_PROCESSING)?;
        modes.output = Some((console, before));
        // SAFETY: plain calls on plain values.
        unsafe {
            let before = GetConsoleOutputCP();
            if SetConsoleOutputCP(UTF_8) != 0 {
                modes.code_page = Some(before);
            }
        }
        let console = input()?;
        let before = mode(&console)?;
        set_mode(&console, before | ENABLE_VIRTUAL_TERMINAL_INPUT | ENABLE_WINDOW_INPUT)?;
        modes.input = Some((console, before));
        Ok(modes)
    }
}

impl Drop for Modes {
    fn drop(&mut self) {
        // Nothing sensible can be done about a failure on the way out.
        if let Some((console, before)) = &self.input {
            let _ = set_mode(console, *before);
        }
        if let Some((console, before)) = &self.output {
            let _ = set_mode(console, *before);
        }
        if let Some(before) = self.code_page {
            // SAFETY: a plain call on a plain value.
            unsafe { SetConsoleOutputCP(before) };
        }
    }
}

fn handle(file: &File) -> HANDLE {
    file.as_raw_handle()
}

fn mode(console: &File) -> io::Result<CONSOLE_MODE> {
    let mut mode = 0;
    // SAFETY: the handle is open and the pointer valid for the call.
    match unsafe { GetConsoleMode(handle(console), &raw mut mode) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(mode),
    }
}

fn set_mode(console: &File, mode: CONSOLE_MODE) -> io::Result<()> {
    // SAFETY: the handle is open.
    match unsafe { SetConsoleMode(handle(console), mode) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// What is typed, read by a thread only while somebody waits for it.
///
/// Where the console edits lines, whole lines come; else keys, as control sequences if that is
/// switched on.
#[derive(Debug)]
pub(super) struct Keys {
    ask: std::sync::mpsc::Sender<()>,
    typed: mpsc::UnboundedReceiver<io::Result<Zeroizing<Vec<u8>>>>,
    asked: bool,
    /// What did not fit into the reader's buffer.
    rest: Zeroizing<Vec<u8>>,
    stop: Arc<Event>,
}

impl Keys {
    /// Starts to read a console.
    ///
    /// # Errors
    /// The system has no event or thread left.
    pub(super) fn of(console: File) -> io::Result<Self> {
        let (ask, asked) = std::sync::mpsc::channel();
        let (tell, typed) = mpsc::unbounded_channel();
        let stop = Arc::new(Event::new()?);
        let mut reader = Reader { console, stop: stop.clone(), half: None };
        thread::Builder::new().name("console".into()).spawn(move || {
            while asked.recv().is_ok() {
                let Some(typed) = reader.read().transpose() else { return };
                if tell.send(typed).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, typed, asked: false, rest: Zeroizing::default(), stop })
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            if !self.asked {
                // A thread that is gone has said why, or its end is the end of input.
                self.asked = self.ask.send(()).is_ok();
            }
            match ready!(self.typed.poll_recv(cx)) {
                Some(typed) => self.rest = typed?,
                None => return Poll::Ready(Ok(())),
            }
            self.asked = false;
        }
        let n = buf.remaining().min(self.rest.len());
        buf.put_slice(self.rest.get(..n).unwrap_or_default());
        let mut rest = self.rest.split_off(n);
        std::mem::swap(&mut *self.rest, &mut rest);
        rest.zeroize();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.stop.set();
    }
}

/// The thread's side.
struct Reader {
    console: File,
    stop: Arc<Event>,
    /// The first half of a character whose second has not come yet.
    half: Option<u16>,
}

/// Records or characters read at a time.
const AT_A_TIME: usize = 256;
const ROOM: u32 = 256;

/// The key that ends input where lines are edited.
const CTRL_Z: u16 = 0x1a;

impl Reader {
    /// Waits for something typed; `None` when told to stop, nothing at the end of input.
    fn read(&mut self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        loop {
            let handles = [handle(&self.console), self.stop.0.as_raw_handle()];
            // SAFETY: both handles are open for as long as `self` lives.
            let which = unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 0, INFINITE) };
            match which {
                WAIT_OBJECT_0 => {}
                _ if which == WAIT_OBJECT_0 + 1 => return Ok(None),
                _ => return Err(io::Error::last_os_error()),
            }
            let edits_lines = mode(&self.console)? & ENABLE_LINE_INPUT != 0;
            let units = if edits_lines { self.line()? } else { self.keys()? };
            if edits_lines && matches!(units.first(), None | Some(&CTRL_Z)) {
                return Ok(Some(Zeroizing::default()));
            }
            let text = self.text(&units);
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
    }

    /// Reads a line, or a part of a long one.
    fn line(&self) -> io::Result<Zeroizing<Vec<u16>>> {
        let mut units = Zeroizing::new(vec![0u16; AT_A_TIME]);
        let mut read = 0;
        // SAFETY: the handle is open, and the buffer as long as is said.
        let done = unsafe {
            ReadConsoleW(
                handle(&self.console),
                units.as_mut_ptr().cast(),
                ROOM,
                &raw mut read,
                std::ptr::null(),
            )
        };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        units.truncate(usize::try_from(read).unwrap_or(0));
        Ok(units)
    }

    /// Reads the keys that are there, and tells of a new size.
    fn keys(&self) -> io::Result<Zeroizing<Vec<u16>>> {
        let mut records = [INPUT_RECORD::default(); AT_A_TIME];
        let mut read = 0;
        // SAFETY: the handle is open, and the buffer as long as is said.
        let done = unsafe {
            ReadConsoleInputW(handle(&self.console), records.as_mut_ptr(), ROOM, &raw mut read)
        };
        if done == 0 {
            return Err(io::Error::last_os_error());
        }
        let mut units = Zeroizing::new(Vec::with_capacity(AT_A_TIME));
        for record in records.iter().take(usize::try_from(read).unwrap_or(0)) {
            if u32::from(record.EventType) == WINDOW_BUFFER_SIZE_EVENT {
                tell_resized();
            }
            if u32::from(record.EventType) != KEY_EVENT {
                continue;
            }
            // SAFETY: the type tells which part of the union is meant; of the character both
            // parts are numbers.
            let (key, unit) = unsafe {
                let key = record.Event.KeyEvent;
                (key, key.uChar.UnicodeChar)
            };
            let is_down = key.bKeyDown != 0;
            // A character composed with Alt and digits comes when Alt is let go.
            let is_typed = is_down || key.wVirtualKeyCode == ALT;
            // Ctrl-Space is the character zero; other keys with a zero have none.
            let has_unit = unit != 0 || (is_down && key.wVirtualKeyCode == SPACE);
            if is_typed && has_unit {
                units.extend(std::iter::repeat_n(unit, usize::from(key.wRepeatCount.max(1))));
            }
        }
        Ok(units)
    }

    /// Returns UTF-16 as UTF-8; half a character waits for its other half.
    fn text(&mut self, units: &[u16]) -> Zeroizing<Vec<u8>> {
        let mut text = Zeroizing::new(Vec::with_capacity(units.len() * 3 + 3));
        let mut push = |c: char| text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        for &unit in units {
            let first = self.half.take();
            if first.is_none() && (0xd800..0xdc00).contains(&unit) {
                self.half = Some(unit);
                continue;
            }
            char::decode_utf16(first.into_iter().chain([unit]))
                .for_each(|c| push(c.unwrap_or(char::REPLACEMENT_CHARACTER)));
        }
        text
    }
}

/// `VK_MENU` and `VK_SPACE`.
const ALT: u16 = 0x12;
const SPACE: u16 = 0x20;

/// Something to wait for that is set once.
#[derive(Debug)]
struct Event(OwnedHandle);

impl Event {
    fn new() -> io::Result<Self> {
        // SAFETY: no name and no attributes; the result is checked and then owned by nobody else.
        unsafe {
            let event = CreateEventW(std::ptr::null(), 1, 0, std::ptr::null());
            if event.is_null() {
                return Err(io::Error::last_os_error());
            }
            Ok(Self(OwnedHandle::from_raw_handle(event)))
        }
    }

    fn set(&self) {
        // SAFETY: the handle is open.
        unsafe { SetEvent(self.0.as_raw_handle()) };
    }
}

/// Closes standard output for good: whoever reads it sees its end.
pub(super) fn close_stdout() {
    // SAFETY: the handle is the process' own, and nobody uses it after it has been replaced.
    unsafe {
        let stdout = GetStdHandle(STD_OUTPUT_HANDLE);
        SetStdHandle(STD_OUTPUT_HANDLE, std::ptr::null_mut());
        if !stdout.is_null() {
            CloseHandle(stdout);
        }
    }
}
