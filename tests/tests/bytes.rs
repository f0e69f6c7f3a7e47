//! The program's bytes at the client's terminal: all of them, and nothing else.

use e2e::{Mode, Pattern, World, in_modes};

const BEGIN: &str = "<<<BEGIN>>>";
const END: &str = "<<<END>>>";

in_modes!(everywhere, a_clipboard_of_five_mebibytes_arrives_unchanged);
fn a_clipboard_of_five_mebibytes_arrives_unchanged(mode: Mode) {
    let osc52 = [b"\x1b]52;c;".as_slice(), &base64(1, 5 << 20), b"\x07"].concat();
    assert_unchanged(mode, &osc52);
}

in_modes!(everywhere, colours_and_images_arrive_unchanged);
fn colours_and_images_arrive_unchanged(mode: Mode) {
    let mut output = Vec::new();
    for n in 0..20_000_u32 {
        let (r, g, b) = (n % 256, n / 7 % 256, n / 31 % 256);
        output.extend(format!("\x1b[38;2;{r};{g};{b}m\x1b[48:2::{b}:{g}:{r}m\u{2588}").bytes());
    }
    // The kitty graphics protocol: chunks of at most 4096 bytes in APC strings.
    let image = base64(2, 1 << 20);
    for chunk in image.chunks(4096) {
        output.extend_from_slice(b"\x1b_Gf=100,a=T,m=1;");
        output.extend_from_slice(chunk);
        output.extend_from_slice(b"\x1b\\");
    }
    output.extend_from_slice(b"\x1b_Gm=0;\x1b\\");
    // Sixels: DCS, raster attributes, palette, data, ST.
    output.extend_from_slice(b"\x1bPq\"1;1;600;600#0;2;100;0;0");
    for n in 0..100_000_u32 {
        let sixel = char::from(u8::try_from(63 + n % 64).expect("a printable byte"));
        output.extend(format!("#{}{sixel}!14{sixel}$-", n % 256).bytes());
    }
    output.extend_from_slice(b"\x1b\\");
    // Neither UTF-8 nor sense: queries, 8-bit controls, NUL, DEL, halves of sequences.
    output.extend_from_slice(b"\x9b0c\xff\xfe\x00\x7f\xc3\x28\x1b[");
    output.extend_from_slice(b"\x1b[?1049h\x1b[?2026h\x1b[?2004h\x1b]8;;http://x\x1b\\");
    assert_unchanged(mode, &output);
}

in_modes!(everywhere, any_bytes_at_all_arrive_unchanged);
fn any_bytes_at_all_arrive_unchanged(mode: Mode) {
    assert_unchanged(mode, &Pattern::new(6, 4 << 20).bytes());
}

in_modes!(everywhere, a_million_lines_arrive_through_the_terminal);
fn a_million_lines_arrive_through_the_terminal(mode: Mode) {
    let world = World::new(mode);
    let command = format!("printf '{BEGIN}'; seq 1000000; printf '{END}'");
    let screen = world.pty(["-t"]).command([command]).start().assert_ends(0);
    let expected: Vec<u8> = (1..=1_000_000).flat_map(|n| format!("{n}\r\n").into_bytes()).collect();
    assert_same(between_markers(&screen), &expected);
}

/// Prints `output` in a remote terminal that does not touch it, and checks what comes out here.
fn assert_unchanged(mode: Mode, output: &[u8]) {
    let world = World::new(mode);
    let file = world.write("output", output);
    let command = format!("stty -opost; printf '{BEGIN}'; cat {}; printf '{END}'", file.display());
    let screen = world.pty(["-t"]).command([command]).start().assert_ends(0);
    assert_same(between_markers(&screen), output);
}

fn between_markers(screen: &[u8]) -> &[u8] {
    let find = |needle: &str| {
        let windows = &mut screen.windows(needle.len());
        windows.position(|window| window == needle.as_bytes()).expect("the marker is on the screen")
    };
    &screen[find(BEGIN) + BEGIN.len()..find(END)]
}

fn assert_same(got: &[u8], expected: &[u8]) {
    let same = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let (got_len, expected_len) = (got.len(), expected.len());
    assert!(
        same == expected_len && got_len == expected_len,
        "differs at byte {same}; {got_len} bytes arrived, {expected_len} were printed"
    );
}

/// Returns `len` bytes of base64's alphabet.
fn base64(seed: u64, len: u64) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes = Pattern::new(seed, len).bytes();
    bytes.into_iter().map(|byte| ALPHABET[usize::from(byte % 64)]).collect()
}
