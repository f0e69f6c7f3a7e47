//! Terminal modes of a pty request, as RFC 4254 §8 numbers them.
//!
//! Unknown modes and speeds are left alone: a pty has no line to slow down.

use russh::Pty;
use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex as Code, Termios,
};

/// Applies one mode.
pub(crate) fn set(termios: &mut Termios, mode: Pty, value: u32) {
    if let Some(code) = special_code(mode) {
        // 255 is the wire's "no such character"; 0 is the kernel's.
        let value = u8::try_from(value).unwrap_or(255);
        termios.special_codes[code] = if value == 255 { 0 } else { value };
    } else if let Some(flag) = input(mode) {
        termios.input_modes.set(flag, value != 0);
    } else if let Some(flag) = local(mode) {
        termios.local_modes.set(flag, value != 0);
    } else if let Some(flag) = output(mode) {
        termios.output_modes.set(flag, value != 0);
    } else if let Some(flag) = control(mode) {
        // CS7 and CS8 are two values of one field.
        if flag.intersects(ControlModes::CSIZE) {
            if value != 0 {
                termios.control_modes.remove(ControlModes::CSIZE);
                termios.control_modes.insert(flag);
            }
        } else {
            termios.control_modes.set(flag, value != 0);
        }
    }
}

fn special_code(mode: Pty) -> Option<Code> {
    Some(match mode {
        Pty::VINTR => Code::VINTR,
        Pty::VQUIT => Code::VQUIT,
        Pty::VERASE => Code::VERASE,
        Pty::VKILL => Code::VKILL,
        Pty::VEOF => Code::VEOF,
        Pty::VEOL => Code::VEOL,
        Pty::VEOL2 => Code::VEOL2,
        Pty::VSTART => Code::VSTART,
        Pty::VSTOP => Code::VSTOP,
        Pty::VSUSP => Code::VSUSP,
        Pty::VREPRINT => Code::VREPRINT,
        Pty::VWERASE => Code::VWERASE,
        Pty::VLNEXT => Code::VLNEXT,
        Pty::VDISCARD => Code::VDISCARD,
        _ => return None,
    })
}

fn input(mode: Pty) -> Option<InputModes> {
    Some(match mode {
        Pty::IGNPAR => InputModes::IGNPAR,
        Pty::PARMRK => InputModes::PARMRK,
        Pty::INPCK => InputModes::INPCK,
        Pty::ISTRIP => InputModes::ISTRIP,
        Pty::INLCR => InputModes::INLCR,
        Pty::IGNCR => InputModes::IGNCR,
        Pty::ICRNL => InputModes::ICRNL,
        Pty::IXON => InputModes::IXON,
        Pty::IXANY => InputModes::IXANY,
        Pty::IXOFF => InputModes::IXOFF,
        Pty::IMAXBEL => InputModes::IMAXBEL,
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        Pty::IUTF8 => InputModes::IUTF8,
        _ => return None,
    })
}

fn local(mode: Pty) -> Option<LocalModes> {
    Some(match mode {
        Pty::ISIG => LocalModes::ISIG,
        Pty::ICANON => LocalModes::ICANON,
        Pty::ECHO => LocalModes::ECHO,
        Pty::ECHOE => LocalModes::ECHOE,
        Pty::ECHOK => LocalModes::ECHOK,
        Pty::ECHONL => LocalModes::ECHONL,
        Pty::NOFLSH => LocalModes::NOFLSH,
        Pty::TOSTOP => LocalModes::TOSTOP,
        Pty::IEXTEN => LocalModes::IEXTEN,
        Pty::ECHOCTL => LocalModes::ECHOCTL,
        Pty::ECHOKE => LocalModes::ECHOKE,
        Pty::PENDIN => LocalModes::PENDIN,
        _ => return None,
    })
}

fn output(mode: Pty) -> Option<OutputModes> {
    Some(match mode {
        Pty::OPOST => OutputModes::OPOST,
        Pty::ONLCR => OutputModes::ONLCR,
        Pty::OCRNL => OutputModes::OCRNL,
        Pty::ONOCR => OutputModes::ONOCR,
        Pty::ONLRET => OutputModes::ONLRET,
        _ => return None,
    })
}

fn control(mode: Pty) -> Option<ControlModes> {
    Some(match mode {
        Pty::CS7 => ControlModes::CS7,
        Pty::CS8 => ControlModes::CS8,
        Pty::PARENB => ControlModes::PARENB,
        Pty::PARODD => ControlModes::PARODD,
        _ => return None,
    })
}
