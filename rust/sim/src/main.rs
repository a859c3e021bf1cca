//! `rspp-sim`: many seeded worlds around the real kernel, or all short histories of one.
//!
//! One thread: nothing here is shared, and nothing in the kernel (`rust/kernel/tests/unshared.rs`).

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros)] // the command reads its arguments and prints
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod agent;
mod caller;
mod control;
mod end;
mod explore;
mod fault;
mod fingerprint;
mod host;
mod journal;
mod lease;
mod monitor;
mod moving;
mod playout;
mod queue;
mod reached;
mod rng;
mod shell;
mod store;
mod twin;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use reached::Reached;
use world::World;

const HOUR_US: u64 = 3_600_000_000;
/// Lines that a failure is told with.
const TOLD: usize = 60;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    match words[..] {
        [] => simulate(0, 20),
        ["--seconds", seconds] => number(seconds).map_or_else(usage, |seconds| simulate(0, seconds)),
        ["--seconds", seconds, "--from", first] => match (number(seconds), number(first)) {
            (Some(seconds), Some(first)) => simulate(first, seconds),
            _ => usage(),
        },
        ["--depth", depth] => depth.parse().map_or_else(|_| usage(), explore),
        ["--seed", seed] => number(seed).map_or_else(usage, tell),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: rspp-sim [--seconds N [--from SEED] | --seed N | --depth N]");
    ExitCode::from(2)
}

fn commit() -> String {
    let asked = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let hash = asked.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    if hash.trim().is_empty() {
        String::from("unknown")
    } else {
        hash.trim().to_owned()
    }
}

/// Seconds that this thread has had a core, which other programs on the machine do not change.
fn on_core() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanoseconds: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(Duration::from_nanos(nanoseconds).as_secs_f64())
}

/// Runs one seed after the other for so long; a failure ends it.
fn simulate(first: u64, seconds: u64) -> ExitCode {
    let began = Instant::now();
    let budget = Duration::from_secs(seconds);
    let (mut reached, mut seed) = (Reached::default(), first);
    let (mut session_us, mut takeovers, mut turns, mut frames, mut records, mut steps) = (0, 0, 0, 0, 0, 0);
    let (mut stints, mut whole, mut compared) = (0, 0, 0);
    while began.elapsed() < budget || seed == first {
        let outcome = World::new(seed, false).run();
        if outcome.failure.is_some() {
            return tell(seed);
        }
        reached.add(&outcome.reached);
        session_us += outcome.session_us;
        takeovers += outcome.takeovers;
        turns += outcome.turns;
        frames += outcome.frames;
        records += outcome.records;
        steps += outcome.steps;
        stints += outcome.stints;
        whole += outcome.whole;
        compared += outcome.compared;
        seed += 1;
    }
    #[allow(clippy::cast_precision_loss)] // figures for people
    let (hours, spent) =
        (session_us as f64 / HOUR_US as f64, on_core().unwrap_or_else(|| began.elapsed().as_secs_f64()));
    println!("seeds {first} to {}, commit {}", seed - 1, commit());
    println!(
        "{hours:.1} session-hours in {spent:.1} s of a core: {:.0} per core-hour",
        hours / spent * 3600.0
    );
    println!("{turns} turns, {takeovers} takeovers, {steps} steps, {frames} frames, {records} records");
    println!("{stints} runtimes replayed, {whole} of them to the end: {compared} records, all the same");
    for (place, text) in reached::PLACES {
        println!("{:>9}  {text}", reached.count(*place));
    }
    let missing = reached.missing();
    if missing.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("error: never reached: {}", missing.join("; "));
    eprintln!("hint: give it more time: rspp-sim --seconds 60");
    ExitCode::FAILURE
}

/// Tries every interleaving of so many operations.
fn explore(depth: u8) -> ExitCode {
    let began = Instant::now();
    match explore::explore(depth) {
        Ok(visited) => {
            let (states, transitions) = (visited.states, visited.transitions);
            let spent = began.elapsed().as_secs_f64();
            println!(
                "depth {depth}: {states} states, {transitions} transitions in {spent:.1} s, A1 to A11 hold"
            );
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("error: {fault}\ncommit {}", commit());
            ExitCode::FAILURE
        }
    }
}

/// Runs one seed and tells what happened.
fn tell(seed: u64) -> ExitCode {
    let outcome = World::new(seed, true).run();
    let Some(failure) = outcome.failure else {
        println!("seed {seed}: no rule was broken");
        return ExitCode::SUCCESS;
    };
    let from = outcome.told.len().saturating_sub(TOLD);
    for line in &outcome.told[from..] {
        eprintln!("{line}");
    }
    eprintln!("error: {failure}");
    eprintln!("seed {seed}, commit {}; again with: rspp-sim --seed {seed}", commit());
    ExitCode::FAILURE
}
