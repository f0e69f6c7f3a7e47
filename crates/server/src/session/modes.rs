//! Terminal modes: opcodes of RFC 4254 §8 put into a terminal's settings.

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OutputModes, SpecialCodeIndex as Code, Termios,
};

/// Applies `modes`, opcode and value; what this system does not know is left alone.
pub(crate) fn apply(modes: &[(u8, u32)], termios: &mut Termios) {
    for (opcode, value) in modes {
        apply_one(*opcode, *value, termios);
    }
}

fn apply_one(opcode: u8, value: u32, termios: &mut Termios) {
    let on = value != 0;
    if let Some((_, code)) = CODES.iter().find(|(known, _)| *known == opcode) {
        // 255 switches a key off (RFC 4254 §8); Linux writes that as 0.
        let key = u8::try_from(value).ok().filter(|key| *key != 255).unwrap_or(0);
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
    let result = match opcode {
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
        128 => termios.set_input_speed(value),
        129 => termios.set_output_speed(value),
        _ => Ok(()),
    };
    if result.is_err() {
        tracing::debug!(opcode, value, "terminal speed is not known here");
    }
}

/// VDSUSP, VFLUSH and VSTATUS are not known to Linux.
const CODES: [(u8, Code); 15] = [
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
    (16, Code::VSWTC),
    (18, Code::VDISCARD),
];

const INPUT: [(u8, InputModes); 13] = [
    (30, InputModes::IGNPAR),
    (31, InputModes::PARMRK),
    (32, InputModes::INPCK),
    (33, InputModes::ISTRIP),
    (34, InputModes::INLCR),
    (35, InputModes::IGNCR),
    (36, InputModes::ICRNL),
    (37, InputModes::IUCLC),
    (38, InputModes::IXON),
    (39, InputModes::IXANY),
    (40, InputModes::IXOFF),
    (41, InputModes::IMAXBEL),
    (42, InputModes::IUTF8),
];

const LOCAL: [(u8, LocalModes); 13] = [
    (50, LocalModes::ISIG),
    (51, LocalModes::ICANON),
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

const OUTPUT: [(u8, OutputModes); 6] = [
    (70, OutputModes::OPOST),
    (71, OutputModes::OLCUC),
    (72, OutputModes::ONLCR),
    (73, OutputModes::OCRNL),
    (74, OutputModes::ONOCR),
    (75, OutputModes::ONLRET),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_flags_and_speeds_reach_the_terminal() {
        let (_master, slave) = crate::sys::pty::open().unwrap();
        let modes = [(3, 8), (1, 255), (53, 0), (42, 1), (70, 0), (129, 9600), (200, 1), (11, 3)];
        slave.change_modes(|termios| apply(&modes, termios)).unwrap();
        slave
            .change_modes(|termios| {
                assert_eq!(termios.special_codes[Code::VERASE], 8);
                assert_eq!(termios.special_codes[Code::VINTR], 0);
                assert!(!termios.local_modes.contains(LocalModes::ECHO));
                assert!(termios.local_modes.contains(LocalModes::ICANON));
                assert!(termios.input_modes.contains(InputModes::IUTF8));
                assert!(!termios.output_modes.contains(OutputModes::OPOST));
                assert_eq!(termios.output_speed(), 9600);
            })
            .unwrap();
    }
}
