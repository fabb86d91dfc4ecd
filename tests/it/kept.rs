//! Goal: what a savepoint holds of hidden output is there for whoever goes on from it, whatever job started over the same
//! output before. Method: processes that are killed, at any moment; notes as a kill at a rare moment leaves them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use millrace_tests::guests::Guest;
use millrace_tests::jobs::{all_files, as_text, wait_until};
use millrace_tests::postgres::Server;
use millrace_tests::running::Place;

use crate::durable::{assert_same, expected, sorted};
use crate::running::{MIDDLE, NEVER, REST, go_on_from, go_on_from_latest, in_the_middle, parallel};

fn hidden(place: &Place, suffix: &str) -> Vec<String> {
    let mut files = all_files(&place.output());
    files.retain(|file| file.ends_with(suffix));
    files
}

fn notes(place: &Place) -> Vec<String> {
    hidden(place, ".kept")
}

/// Another job begins over the same output, and is killed before it has committed anything.
fn start_anew(place: &Place, arguments: Vec<String>) {
    let job = in_the_middle(place, 1, arguments);
    job.kill();
    assert!(sorted(&place.output()).is_empty());
}

/// A job that was killed behind a savepoint of the state that it was in.
fn savepoint_and_kill(place: &Place) -> PathBuf {
    let job = in_the_middle(place, 2, place.checkpoints(NEVER));
    let savepoint = place.path("savepoint");
    place.tell(&["savepoint", "durable", "--to", as_text(&savepoint)]);
    job.kill();
    savepoint
}

fn assert_goes_on(place: &Place, savepoint: &Path) {
    go_on_from(place, as_text(savepoint), 3);
    assert_same(&sorted(&place.output()), &expected());
    assert!(notes(place).is_empty() && hidden(place, ".inprogress").is_empty());
}

#[test]
fn a_job_that_begins_anew_leaves_a_savepoint_what_it_holds() {
    for (durable, cancelled) in [(true, false), (true, true), (false, false), (false, true)] {
        let place = Place::new();
        let options = || match durable {
            true => place.checkpoints(NEVER),
            false => Vec::new(),
        };
        let job = in_the_middle(&place, 2, options());
        let (first, second) = (place.path("first"), place.path("second"));
        place.tell(&["savepoint", "durable", "--to", as_text(&first)]);
        place.tell(&["savepoint", "durable", "--to", as_text(&second)]);
        assert_eq!(notes(&place).len(), 2);
        match cancelled {
            true => {
                place.tell(&["cancel", "durable"]);
                assert_eq!(job.end().0, Some(5));
            }
            false => job.kill(),
        }
        for _ in 0..2 {
            start_anew(&place, options());
        }
        // Of a process that ends by itself there is nothing else.
        assert_eq!(notes(&place).len(), 2);
        assert_goes_on(&place, &second);
    }
}

/// It goes back behind its savepoint, and would throw away what that holds.
#[test]
fn a_job_that_goes_on_from_a_checkpoint_leaves_a_savepoint_what_it_holds() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints("20ms"));
    wait_until("a checkpoint", || {
        !place.wait_for("running")["last_checkpoint"].is_null()
    });
    job.kill();
    let mut arguments = parallel(2, place.checkpoints(NEVER));
    arguments.push("--restore=latest".to_owned());
    let job = place.start("durable", &arguments, &MIDDLE);
    place.wait_for("running");
    wait_until("rows behind the checkpoint", || {
        !hidden(&place, ".inprogress").is_empty()
    });
    let savepoint = place.path("savepoint");
    place.tell(&["savepoint", "durable", "--to", as_text(&savepoint)]);
    job.kill();
    let job = place.start("durable", &arguments, &MIDDLE);
    place.wait_for("running");
    job.kill();
    assert_goes_on(&place, &savepoint);
}

#[test]
fn behind_the_next_checkpoint_nothing_is_kept() {
    let place = Place::new();
    let job = in_the_middle(&place, 2, place.checkpoints("300ms"));
    for number in 0..3 {
        place.tell(&["savepoint", "durable", "--to", &place.text(&format!("s{number}"))]);
    }
    wait_until("a checkpoint", || notes(&place).is_empty());
    job.kill();
    go_on_from_latest(&place, 3);
    assert_same(&sorted(&place.output()), &expected());
    assert!(notes(&place).is_empty());
}

/// Whatever the moment of a kill: what there is a savepoint of can be gone on with, and of what there is none nothing stays.
#[test]
fn a_kill_while_a_savepoint_is_being_written() {
    let (mut written, mut unwritten) = (0, 0);
    for round in 0..8_u64 {
        let place = Place::new();
        let job = in_the_middle(&place, 2, place.checkpoints(NEVER));
        let savepoint = place.path("savepoint");
        std::thread::scope(|scope| {
            let command = scope.spawn(|| place.cli(&["savepoint", "durable", "--to", as_text(&savepoint)]));
            wait_until("the savepoint begins", || {
                !notes(&place).is_empty() || savepoint.exists() || command.is_finished()
            });
            std::thread::sleep(Duration::from_micros(round * round * 2_000));
            job.kill();
            command.join().expect("no panic");
        });
        let is_there = savepoint.join("manifest.json").is_file();
        start_anew(&place, place.checkpoints(NEVER));
        if is_there {
            written += 1;
            assert_goes_on(&place, &savepoint);
        } else {
            unwritten += 1;
            assert!(notes(&place).is_empty(), "{:?}", notes(&place));
        }
    }
    println!("{written} savepoints were written before the kill, {unwritten} were not");
}

/// Between the savepoint and the commit of what it holds, too.
#[test]
fn a_kill_behind_the_savepoint_of_a_stop() {
    let mut uncommitted = 0;
    for round in 0..6_u64 {
        let place = Place::new();
        let job = in_the_middle(&place, 2, Vec::new());
        let savepoint = place.path("savepoint");
        std::thread::scope(|scope| {
            let command = scope.spawn(|| place.cli(&["stop", "durable", "--savepoint", as_text(&savepoint)]));
            wait_until("the savepoint", || savepoint.join("manifest.json").is_file());
            std::thread::sleep(Duration::from_micros(round * 400));
            job.kill();
            command.join().expect("no panic");
        });
        if sorted(&place.output()).is_empty() {
            uncommitted += 1;
            start_anew(&place, Vec::new());
        }
        assert_goes_on(&place, &savepoint);
    }
    println!("{uncommitted} of 6 were killed before anything was committed");
}

/// What a kill leaves between a savepoint and the note that it is written: the next start notes it, and then it may be moved.
#[test]
fn a_note_that_was_not_completed_is_completed_by_the_next_start() {
    let place = Place::new();
    let savepoint = savepoint_and_kill(&place);
    let note = place.output().join(&notes(&place)[0]);
    let complete = std::fs::read_to_string(&note).expect("a note");
    let begun = complete.replace("\"written\":true", "\"written\":false");
    assert_ne!(begun, complete);
    std::fs::write(&note, begun).expect("a note");
    start_anew(&place, Vec::new());
    assert_eq!(std::fs::read_to_string(&note).expect("a note"), complete);
    let moved = place.path("moved");
    std::fs::rename(&savepoint, &moved).expect("a savepoint may be moved");
    start_anew(&place, Vec::new());
    assert_goes_on(&place, &moved);
}

/// Nobody can tell whether it was moved. A start says what it keeps; whoever removes the note gives it up.
#[test]
fn what_a_deleted_savepoint_held_goes_with_its_note() {
    let place = Place::new();
    let savepoint = savepoint_and_kill(&place);
    std::fs::remove_dir_all(&savepoint).expect("a savepoint");
    let output = format!("--param=output={}", as_text(&place.output()));
    let guest = as_text(Guest::Flows.path());
    let run = place.cli(&["run", "--param=kind=durable", "--param=rows=100", &output, guest]);
    let messages = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{messages}");
    let kept = format!("sink `facts`: what savepoint `{}` holds", savepoint.display());
    assert!(messages.contains(&kept), "{messages}");
    assert_eq!(notes(&place).len(), 1);
    std::fs::remove_file(place.output().join(&notes(&place)[0])).expect("a note");
    for part in all_files(&place.output()).iter().filter(|file| !file.starts_with('.')) {
        std::fs::remove_file(place.output().join(part)).expect("a part");
    }
    place.start("durable", &[], &REST).succeed();
    assert_same(&sorted(&place.output()), &expected());
    assert!(hidden(&place, ".inprogress").is_empty());
}

/// Transactions that are prepared stay prepared, and others of the same sink are rolled back.
#[test]
fn transactions_that_a_savepoint_holds_stay_prepared() {
    let database = Server::shared().database("kept_job");
    let url = database.url();
    let place = Place::new();
    let middle = [&MIDDLE[..], &[("postgres", url.as_str())]].concat();
    let prepared = || database.query("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()");
    let start = |rows: &[(&str, &str)], arguments: &[String]| place.start("durable", arguments, rows);
    let tell_savepoint = |name: &str| {
        place.wait_for("running");
        wait_until("rows in a transaction", || {
            place.tell(&["savepoint", "durable", "--to", &place.text(name)]);
            let is_there = !prepared().is_empty();
            if !is_there {
                std::fs::remove_dir_all(place.path(name)).expect("a savepoint");
            }
            is_there
        });
    };
    let job = start(&middle, &parallel(2, place.checkpoints(NEVER)));
    tell_savepoint("savepoint");
    let held = prepared();
    job.kill();
    for _ in 0..2 {
        let job = start(&middle, &parallel(1, Vec::new()));
        place.wait_for("running");
        job.kill();
        assert_eq!(prepared(), held);
    }
    let mut arguments = parallel(3, place.checkpoints("100ms"));
    arguments.push(format!("--from={}", place.text("savepoint")));
    start(&[&REST[..], &[("postgres", url.as_str())]].concat(), &arguments).succeed();
    assert!(prepared().is_empty());
    let rows = database.query("SELECT * FROM facts");
    let (mut rows, mut expected) = (rows, expected());
    rows.sort();
    expected.sort();
    assert_eq!(rows.len(), expected.len());
    assert_eq!(database.query("SELECT count(*) FROM millrace_savepoints"), ["0"]);
}
