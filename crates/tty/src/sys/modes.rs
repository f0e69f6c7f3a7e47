//! Terminal modes: opcodes of RFC 4254 §8 from a terminal's settings, and into them.
//!
//! Both ends use one table, so that what one can say the other can do. What a
//! system does not know is not said, and left alone when it is heard.

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex as Code, Termios,
};

/// Returns the modes of a terminal with these settings, opcode and value.
#[must_use]
pub fn encode(termios: &Termios) -> Vec<(u8, u32)> {
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

/// Applies `modes`, opcode and value; what this system does not know is left alone.
pub fn apply(modes: &[(u8, u32)], termios: &mut Termios) {
    for (opcode, value) in modes {
        apply_one(*opcode, *value, termios);
    }
}

fn apply_one(opcode: u8, value: u32, termios: &mut Termios) {
    let on = value != 0;
    if let Some((_, code)) = CHARACTERS.iter().find(|(known, _)| *known == opcode) {
        let key = u8::try_from(value).unwrap_or(VDISABLE);
        let key = if value == DISABLED { VDISABLE } else { key };
        termios.special_codes[*code] = key;
        return;
    }
    if let Some((_, flag)) = INPUT.iter().find(|(known, _)| *known == opcode) {
        termios.input_modes.set(*flag, on);
    } else if let Some((_, flag)) = LOCAL.iter().find(|(known, _)| *known == opcode) {
        termios.local_modes.set(*flag, on);
    } else if let Some((_, flag)) = OUTPUT.iter().find(|(known, _)| *known == opcode) {
        termios.output_modes.set(*flag, on);
    } else {
        apply_control(opcode, value, termios);
    }
}

fn apply_control(opcode: u8, value: u32, termios: &mut Termios) {
    let on = value != 0;
    // A speed that is not known here changes nothing.
    let _ = match opcode {
        90 | 91 if on => {
            let size = if opcode == 90 { ControlModes::CS7 } else { ControlModes::CS8 };
            termios.control_modes.remove(ControlModes::CSIZE);
            termios.control_modes.insert(size);
            Ok(())
        }
        92 => {
            termios.control_modes.set(ControlModes::PARENB, on);
            Ok(())
        }
        93 => {
            termios.control_modes.set(ControlModes::PARODD, on);
            Ok(())
        }
        INPUT_SPEED => termios.set_input_speed(value),
        OUTPUT_SPEED => termios.set_output_speed(value),
        _ => Ok(()),
    };
}

/// Special characters, by opcode.
const CHARACTERS: &[(u8, Code)] = &[
    (1, Code::VINTR),
    (2, Code::VQUIT),
    (3, Code::VERASE),
    (4, Code::VKILL),
    (5, Code::VEOF),
    (6, Code::VEOL),
    (7, Code::VEOL2),
    (8, Code::VSTART),
    (9, Code::VSTOP),
    (10, Code::VSUSP),
    (12, Code::VREPRINT),
    (13, Code::VWERASE),
    (14, Code::VLNEXT),
    #[cfg(target_os = "linux")]
    (16, Code::VSWTC),
    (18, Code::VDISCARD),
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

/// `_POSIX_VDISABLE` of this system.
const VDISABLE: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

fn flags<F>(modes: &mut Vec<(u8, u32)>, table: &[(u8, F)], set: F)
where
    F: Copy + PartialEq + std::ops::BitAnd<Output = F>,
{
    modes.extend(table.iter().map(|(opcode, flag)| (*opcode, u32::from(set & *flag == *flag))));
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, grantpt, openpt, unlockpt};
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

    use super::*;

    /// Applies modes to a new terminal and returns its settings.
    fn applied(modes: &[(u8, u32)]) -> Termios {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let mut termios = tcgetattr(&master).unwrap();
        apply(modes, &mut termios);
        tcsetattr(&master, OptionalActions::Now, &termios).unwrap();
        tcgetattr(&master).unwrap()
    }

    #[test]
    fn keys_flags_and_speeds_reach_the_terminal() {
        let modes = [(3, 8), (1, 255), (53, 0), (42, 1), (70, 0), (129, 9600), (200, 1), (11, 3)];
        let termios = applied(&modes);
        assert_eq!(termios.special_codes[Code::VERASE], 8);
        assert_eq!(termios.special_codes[Code::VINTR], VDISABLE);
        assert!(!termios.local_modes.contains(LocalModes::ECHO));
        assert!(termios.local_modes.contains(LocalModes::ICANON));
        assert!(termios.input_modes.contains(InputModes::IUTF8));
        assert!(!termios.output_modes.contains(OutputModes::OPOST));
        assert_eq!(termios.output_speed(), 9600);
    }

    #[test]
    fn what_one_terminal_says_makes_another_one_say_the_same() {
        let unusual = [(1, 7), (2, 255), (30, 1), (35, 1), (51, 0), (60, 0), (74, 1)];
        let said = encode(&applied(&unusual));
        for mode in unusual {
            assert!(said.contains(&mode), "{mode:?} in {said:?}");
        }
        assert_eq!(encode(&applied(&said)), said);
    }
}
