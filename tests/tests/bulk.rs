//! Much data: every byte, in order, once.

use std::fs::File;

use e2e::{Mode, Pattern, Stdin, World, in_modes};

const SIZE: u64 = 100 << 20;

in_modes!(everywhere, a_hundred_mebibytes_arrive_at_the_server);
fn a_hundred_mebibytes_arrive_at_the_server(mode: Mode) {
    let world = World::new(mode);
    let target = world.path("uploaded");
    let pattern = Pattern::new(1, SIZE);
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::Pattern(pattern.clone()));
    run.command([format!("cat > {}", target.display())]).output().assert_prints("");
    pattern.assert_equals("upload", File::open(target).expect("the uploaded file"));
}

in_modes!(everywhere, a_hundred_mebibytes_arrive_at_the_client);
fn a_hundred_mebibytes_arrive_at_the_client(mode: Mode) {
    let world = World::new(mode);
    let pattern = Pattern::new(2, SIZE);
    let source = world.path("source");
    let mut file = File::create(&source).expect("a file of the world");
    std::io::copy(&mut pattern.clone(), &mut file).expect("room for the file");
    let run = world.ssh([] as [&str; 0]).command([format!("cat {}", source.display())]).output();
    run.assert_status(0);
    pattern.assert_equals("download", run.stdout.as_slice());
}

in_modes!(everywhere, a_hundred_mebibytes_go_there_and_back_at_once);
fn a_hundred_mebibytes_go_there_and_back_at_once(mode: Mode) {
    let world = World::new(mode);
    let pattern = Pattern::new(3, SIZE);
    let input = world.path("input");
    let mut file = File::create(&input).expect("a file of the world");
    std::io::copy(&mut pattern.clone(), &mut file).expect("room for the file");
    let output = world.path("output");
    let run = world.ssh([] as [&str; 0]).stdin(Stdin::File(input)).stdout(output.clone());
    run.command(["cat"]).output().assert_status(0);
    pattern.assert_equals("echo", File::open(output).expect("the client's output"));
}

in_modes!(everywhere, a_reader_that_goes_away_ends_the_session);
fn a_reader_that_goes_away_ends_the_session(mode: Mode) {
    let world = World::new(mode);
    let client = world.client_script();
    // `head` leaves; the client gets EPIPE, the far `yes` must not run for ever.
    let line = format!("'{}' {} yes | head -n 1", client.display(), e2e::HOST);
    let run = world.program("sh").command(["-c", &line]).output();
    run.assert_status(0);
    assert_eq!(run.out(), "y\n");
    world.wait_until_nothing_runs();
}
