//! The notice that the link is away: on a terminal, in time, and without a trace.

use e2e::{HOST, Mode, World, in_modes, wait_until};

/// Paints a screen with attributes, and a second one when told to go on.
const PROGRAM: &str = r"stty -opost -echo
printf '\033[H\033[2J\033[1;44mtitle\033[K\033[m\r\n\033[31mred\033[m \342\224\200\342\224\200 text\r\n'
printf 'third row\033[5;10H\033[7mhere'
while [ ! -e GO ]; do sleep 0.1; done
printf ' and on\r\nthe end'";

/// Where [`PROGRAM`] leaves the cursor: what a terminal answers when asked.
const PLACE: &str = "\x1b[5;14R";

/// What is typed into the outage: where nothing happens nobody misses anything. The program
/// neither reads nor shows it.
const KEY: &str = "k";

/// Shown early, so that the test need not wait for long.
const SOON: [&str; 3] = ["-t", "-o", "UdpReconnectTimeout=4"];

fn program(world: &World) -> String {
    PROGRAM.replace("GO", &world.path("go").display().to_string())
}

/// What a cell looks like: its character, its colours as far as they show, and its lines.
type Looks = (char, Option<avt::Color>, Option<avt::Color>, [bool; 3]);

/// What a terminal of the usual size shows after these bytes, and its cursor.
fn shown(bytes: &[u8]) -> (Vec<Looks>, avt::Cursor) {
    let mut terminal = avt::Terminal::new(80, 24).expect("a terminal has a size");
    terminal.feed(&*String::from_utf8_lossy(bytes));
    let screen = terminal.screen();
    let cells = (0..24).filter_map(|row| screen.line(row)).flat_map(|line| line.cells());
    let looks = cells.map(|cell| {
        let (pen, is_blank) = (cell.pen(), cell.char() == ' ');
        let foreground = if is_blank { None } else { pen.foreground() };
        let lines = [pen.is_underline(), pen.is_strikethrough(), pen.is_inverse()];
        (cell.char(), foreground, pen.background(), lines)
    });
    (looks.collect(), terminal.cursor())
}

in_modes!(link, a_long_outage_is_told_and_leaves_no_trace);
fn a_long_outage_is_told_and_leaves_no_trace(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let mut client = world.pty(SOON).command([program(&world)]).start();
    client.expect("here");
    let plain = client.received();
    relay.cut();
    client.send(KEY);
    client.expect("\x1b[6n");
    client.send(PLACE);
    client.expect("last contact with");
    client.expect("^D leaves");
    assert_ne!(shown(&client.received()), shown(&plain));
    relay.mend();
    client.expect("title");
    world.write("go", "");
    let whole = client.assert_ends(0);
    let expected = [&plain[..], b" and on\r\nthe end"].concat();
    let end = whole.windows(7).rposition(|window| window == b"the end").expect("its end") + 7;
    assert_eq!(shown(&whole[..end]), shown(&expected));
}

in_modes!(link, the_exit_key_leaves_while_the_notice_is_shown);
fn the_exit_key_leaves_while_the_notice_is_shown(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let options = ["-t", "-o", "UdpReconnectTimeout=4", "-o", "UdpReconnectExitKey=^x"];
    let mut client = world.pty(options).command([program(&world)]).start();
    client.expect("here");
    let plain = client.received();
    relay.cut();
    client.send(KEY);
    client.expect("\x1b[6n");
    client.send(PLACE);
    client.expect("^X leaves");
    client.send("\x18");
    let whole = client.assert_ends(255);
    let end = whole.windows(10).rposition(|window| window == b"Connection").expect("its end");
    assert_eq!(shown(&whole[..end]), shown(&plain), "taken away before we say good-bye");
}

in_modes!(link, a_terminal_that_cannot_say_where_its_cursor_is_shows_no_notice);
fn a_terminal_that_cannot_say_where_its_cursor_is_shows_no_notice(mode: Mode) {
    for (term, question) in [("xterm", &b"\x1b[6n"[..]), ("dumb", b"")] {
        let world = World::new(mode);
        let relay = world.relay_link();
        let client = world.pty(SOON).env("TERM", term);
        let mut client = client.command([program(&world)]).start();
        client.expect("here");
        let plain = client.received();
        relay.cut();
        client.send(KEY);
        // As long as the terminal is waited for, and then some.
        std::thread::sleep(std::time::Duration::from_secs(8));
        relay.mend();
        world.write("go", "");
        client.expect("the end");
        let expected = [&plain[..], question, b" and on\r\nthe end"].concat();
        assert!(client.received().starts_with(&expected), "{term}");
        client.assert_ends(0);
    }
}

in_modes!(link, output_that_goes_into_a_file_holds_no_byte_of_a_notice);
fn output_that_goes_into_a_file_holds_no_byte_of_a_notice(mode: Mode) {
    let world = World::new(mode);
    let relay = world.relay_link();
    let (script, file) = (world.client_script(), world.path("file"));
    let line = format!(
        "{} -o UdpReconnectTimeout=4 -tt {HOST} '{}' > {}",
        script.display(),
        program(&world).replace('\'', "'\\''"),
        file.display()
    );
    let mut client = world.program_pty("sh").command(["-c", &line]).start();
    let content = || std::fs::read(&file).unwrap_or_default();
    wait_until("the program runs", || content().ends_with(b"here"));
    let plain = content();
    relay.cut();
    client.send(KEY);
    std::thread::sleep(std::time::Duration::from_secs(8));
    relay.mend();
    world.write("go", "");
    client.assert_ends(0);
    assert_eq!(content(), [&plain[..], b" and on\r\nthe end"].concat());
}
