//! How many round trips pass before the prompt: the slope between two delays.
//!
//! A slope takes out everything that does not grow with the distance (key
//! exchange arithmetic, starting processes, a busy machine), so this counts
//! rather than times. Prints the number; DESIGN §4 says what it should be.
//!
//! What it cannot show is what Nagle's algorithm costs on a real link: the
//! relay's kernel acknowledges at once. OpenSSH, which keeps the algorithm on
//! until the session starts, comes out at 9 here and at 12 between namespaces.

use std::time::{Duration, Instant};

use e2e::{Mode, World, in_modes};

/// One-way delays in milliseconds; far enough apart that noise of some tens of
/// milliseconds changes the result by a small part of one round trip.
const NEAR: u64 = 25;
const FAR: u64 = 325;

in_modes!(everywhere, the_prompt_takes_few_round_trips);
#[expect(clippy::print_stdout, reason = "the number is the point of this test")]
fn the_prompt_takes_few_round_trips(mode: Mode) {
    let world = World::new(mode);
    let login = world.relay_login();
    let link = mode.is_link().then(|| world.relay_link());
    let best_of_three = |one_way| {
        let delay = Duration::from_millis(one_way);
        login.set_delay(delay);
        if let Some(link) = &link {
            link.set_delay(delay);
        }
        (0..3).map(|_| time_to_prompt(&world)).min().expect("three runs")
    };
    let (near, far) = (best_of_three(NEAR), best_of_three(FAR));
    let round_trips = far.saturating_sub(near).as_secs_f64() * 1000.0 / (2 * (FAR - NEAR)) as f64;
    println!("time to prompt in round trips, {mode:?}: {round_trips:.2} ({near:?}, {far:?})");
    if let Some(link) = &link {
        assert!(link.passed() > 0, "the session goes through the relay");
        // The TCP carrier has a handshake of its own, which UDP has not.
        let wanted = if mode.is_tcp() { 10 } else { 9 };
        let limit = f64::from(wanted) + 0.5;
        assert!(round_trips < limit, "{round_trips:.2} round trips; {wanted} are wanted");
    } else {
        // OpenSSH takes 9; if the relay were broken this would be far off.
        assert!((5.0..12.0).contains(&round_trips), "{round_trips:.2} round trips");
    }
}

fn time_to_prompt(world: &World) -> Duration {
    let start = Instant::now();
    let mut shell = world.pty([] as [&str; 0]).start();
    shell.expect_prompt();
    let taken = start.elapsed();
    shell.line("exit 0");
    shell.assert_ends(0);
    taken
}
