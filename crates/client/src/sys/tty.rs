//! The local terminal: size, modes, suspending ourselves.

use std::io::{self, IsTerminal as _};

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex, Termios, tcgetattr,
    tcgetwinsize,
};

use crate::remote::TerminalSize;

/// Returns whether standard input is a terminal.
#[must_use]
pub fn stdin_is_tty() -> bool {
    io::stdin().is_terminal()
}

/// Returns whether standard output is a terminal.
#[must_use]
pub fn stdout_is_tty() -> bool {
    io::stdout().is_terminal()
}

/// Returns whether standard error is a terminal.
#[must_use]
pub fn stderr_is_tty() -> bool {
    io::stderr().is_terminal()
}

/// Returns whether somebody sits at a terminal that can be asked, whatever the standard streams are.
#[must_use]
pub fn has_controlling() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Returns the size of the terminal on standard input; zeros where there is none.
#[must_use]
pub fn size() -> TerminalSize {
    tcgetwinsize(io::stdin()).map_or_else(
        |_| TerminalSize::default(),
        |size| TerminalSize {
            cols: size.ws_col,
            rows: size.ws_row,
            width_px: size.ws_xpixel,
            height_px: size.ws_ypixel,
        },
    )
}

/// Stops this process as `^Z` would; returns when it is continued.
///
/// # Errors
/// When the signal cannot be sent.
pub fn suspend() -> io::Result<()> {
    Ok(rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?)
}

/// Returns the modes of the terminal on standard input for the far one:
/// opcode of RFC 4254 §8 and value. Empty without a terminal.
#[must_use]
pub fn modes() -> Vec<(u8, u32)> {
    tcgetattr(io::stdin()).map_or_else(|_| Vec::new(), |termios| encode(&termios))
}

/// Special characters, by opcode.
const CHARACTERS: &[(u8, SpecialCodeIndex)] = &[
    (1, SpecialCodeIndex::VINTR),
    (2, SpecialCodeIndex::VQUIT),
    (3, SpecialCodeIndex::VERASE),
    (4, SpecialCodeIndex::VKILL),
    (5, SpecialCodeIndex::VEOF),
    (6, SpecialCodeIndex::VEOL),
    (7, SpecialCodeIndex::VEOL2),
    (8, SpecialCodeIndex::VSTART),
    (9, SpecialCodeIndex::VSTOP),
    (10, SpecialCodeIndex::VSUSP),
    (12, SpecialCodeIndex::VREPRINT),
    (13, SpecialCodeIndex::VWERASE),
    (14, SpecialCodeIndex::VLNEXT),
    #[cfg(target_os = "linux")]
    (16, SpecialCodeIndex::VSWTC),
    (18, SpecialCodeIndex::VDISCARD),
];

/// Input modes, by opcode.
const INPUT: &[(u8, InputModes)] = &[
    (30, InputModes::IGNPAR),
    (31, InputModes::PARMRK),
    (32, InputModes::INPCK),
    (33, InputModes::ISTRIP),
    (34, InputModes::INLCR),
    (35, InputModes::IGNCR),
    (36, InputModes::ICRNL),
    #[cfg(target_os = "linux")]
    (37, InputModes::IUCLC),
    (38, InputModes::IXON),
    (39, InputModes::IXANY),
    (40, InputModes::IXOFF),
    (41, InputModes::IMAXBEL),
    (42, InputModes::IUTF8),
];

/// Local modes, by opcode.
const LOCAL: &[(u8, LocalModes)] = &[
    (50, LocalModes::ISIG),
    (51, LocalModes::ICANON),
    #[cfg(target_os = "linux")]
    (52, LocalModes::XCASE),
    (53, LocalModes::ECHO),
    (54, LocalModes::ECHOE),
    (55, LocalModes::ECHOK),
    (56, LocalModes::ECHONL),
    (57, LocalModes::NOFLSH),
    (58, LocalModes::TOSTOP),
    (59, LocalModes::IEXTEN),
    (60, LocalModes::ECHOCTL),
    (61, LocalModes::ECHOKE),
    (62, LocalModes::PENDIN),
];

/// Output modes, by opcode.
const OUTPUT: &[(u8, OutputModes)] = &[
    (70, OutputModes::OPOST),
    #[cfg(target_os = "linux")]
    (71, OutputModes::OLCUC),
    (72, OutputModes::ONLCR),
    (73, OutputModes::OCRNL),
    (74, OutputModes::ONOCR),
    (75, OutputModes::ONLRET),
];

/// Control modes, by opcode.
const CONTROL: &[(u8, ControlModes)] = &[
    (90, ControlModes::CS7),
    (91, ControlModes::CS8),
    (92, ControlModes::PARENB),
    (93, ControlModes::PARODD),
];

/// Opcodes of the line speeds.
const INPUT_SPEED: u8 = 128;
const OUTPUT_SPEED: u8 = 129;

/// Value that says "this special character is off" (RFC 4254 §8).
const DISABLED: u32 = 255;

fn encode(termios: &Termios) -> Vec<(u8, u32)> {
    let mut modes =
        vec![(OUTPUT_SPEED, termios.output_speed()), (INPUT_SPEED, termios.input_speed())];
    modes.extend(CHARACTERS.iter().map(|(opcode, index)| {
        let value = termios.special_codes[*index];
        (*opcode, if value == VDISABLE { DISABLED } else { u32::from(value) })
    }));
    flags(&mut modes, INPUT, termios.input_modes);
    flags(&mut modes, LOCAL, termios.local_modes);
    flags(&mut modes, OUTPUT, termios.output_modes);
    // Character size is a field of two bits, not two flags.
    let size = termios.control_modes & ControlModes::CSIZE;
    modes.extend(CONTROL.iter().map(|(opcode, flag)| {
        let set = match *opcode {
            90 | 91 => size == *flag,
            _ => termios.control_modes.contains(*flag),
        };
        (*opcode, u32::from(set))
    }));
    modes
}

/// `_POSIX_VDISABLE` of this system.
const VDISABLE: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

fn flags<F>(modes: &mut Vec<(u8, u32)>, table: &[(u8, F)], set: F)
where
    F: Copy + PartialEq + std::ops::BitAnd<Output = F>,
{
    modes.extend(table.iter().map(|(opcode, flag)| (*opcode, u32::from(set & *flag == *flag))));
}

/// The controlling terminal and its settings at one time.
#[derive(Debug)]
pub struct SavedTerminal {
    terminal: std::fs::File,
    settings: Termios,
}

impl SavedTerminal {
    /// Remembers the settings of the controlling terminal; `None` without one.
    #[must_use]
    pub fn of_controlling() -> Option<Self> {
        let terminal = std::fs::File::options().read(true).write(true).open("/dev/tty").ok()?;
        let settings = tcgetattr(&terminal).ok()?;
        Some(Self { terminal, settings })
    }

    /// Puts the settings back if the terminal is still as we make it for a
    /// session or a question: no signals, no lines, no echo.
    ///
    /// A shell that has taken over by now has settings of its own, which keep
    /// signals on; these are left alone.
    pub fn restore_if_raw(&self) {
        let Ok(now) = tcgetattr(&self.terminal) else { return };
        let ours = LocalModes::ISIG | LocalModes::ICANON | LocalModes::ECHO;
        if !now.local_modes.intersects(ours) {
            let _ = rustix::termios::tcsetattr(
                &self.terminal,
                rustix::termios::OptionalActions::Now,
                &self.settings,
            );
        }
    }
}
