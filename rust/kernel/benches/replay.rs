//! Speed of a replay: ten minutes of a call run again and judged, as a multiple of real time.
//!
//! `cargo bench -p rspp-kernel --bench replay`. The contract of the product is 1,000 times real time on
//! one core.

#![allow(missing_docs)] // criterion's macros make undocumented items
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, clippy::print_stdout)] // a bench reads the clock and prints

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{criterion_group, Criterion};
use rspp_kernel::evidence::codec::Entry;
use rspp_kernel::input::{Event, Input, Transcript};
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::replay::Replay;
use rspp_kernel::session::{SessionKernel, Settings};

const MINUTES: u64 = 10;
const TICK_US: u64 = 4_000;
/// Caller and agent speak in turn, ten seconds together.
const ROUND_US: u64 = 10_000_000;

fn kernel() -> SessionKernel {
    let policy_json = format!(r#"{{"budgets":{{"padding":"{}"}}}}"#, "x".repeat(2000));
    SessionKernel::new(Settings {
        session_id: String::from("bench"),
        policy: TurnPolicy::default(),
        plan: PlanTemplate::new("bench@v1", "graph/voice", "simple", &policy_json).expect("a template"),
        now_us: 0,
        wall_clock_ms: 0,
        evidence_capacity: 4096,
    })
}

/// A call at the pace of real ones: a window every 32 ms, a frame every 20 ms while the agent speaks,
/// a renewed lease every second.
fn record() -> (Vec<Entry>, SessionKernel) {
    let (mut kernel, mut entries, mut sequence) = (kernel(), Vec::new(), 0);
    kernel.step(Input { now_us: 0, event: Event::Lease { epoch: 1, deadline_us: 4_000_000 } });
    kernel.step(Input { now_us: 0, event: Event::Start { resumed: false } });
    for now_us in (TICK_US..MINUTES * 60_000_000).step_by(4_000) {
        let mut step = |event| {
            kernel.step(Input { now_us, event });
        };
        let place_us = now_us % ROUND_US;
        if now_us % 32_000 == 0 {
            let permille = if place_us < 2_000_000 { 900 } else { 20 };
            step(Event::VoiceActivity { media_sample: now_us / 1000 * 16, permille });
        }
        if place_us == 2_200_000 {
            let utterance = u32::try_from(now_us / ROUND_US + 1).expect("a few");
            let (words, backchannel, complete, probe) = (5, false, true, true);
            step(Event::Transcript(Transcript {
                utterance,
                revision: 0,
                words,
                backchannel,
                complete,
                probe,
            }));
        }
        if now_us % 1_000_000 == 0 {
            step(Event::Lease { epoch: 1, deadline_us: now_us + 4_000_000 });
        }
        if kernel.next_deadline_us().is_some_and(|due_us| due_us <= now_us) {
            kernel.step(Input { now_us, event: Event::Tick });
        }
        let turn = kernel.turn();
        if turn == 0 {
            sequence = 0;
        } else if place_us >= 9_000_000 {
            kernel.step(Input { now_us, event: Event::GenerationFinished { turn } });
        } else if now_us % 20_000 == 0 {
            kernel.frame(now_us, turn, 1, sequence, 480);
            sequence += 1;
        }
        entries.extend(std::iter::from_fn(|| kernel.take_entry()));
    }
    (entries, kernel)
}

fn run(entries: &[Entry], recorded: &SessionKernel) -> Replay {
    let mut replay = Replay::new(kernel());
    replay
        .feed(entries.iter().copied(), |label| recorded.word(label), |place| recorded.provenance(place))
        .expect("room");
    replay.finish();
    replay
}

fn replay(criterion: &mut Criterion) {
    let (entries, recorded) = record();
    criterion.bench_function("replay: ten minutes of a call", |bencher| {
        bencher.iter(|| black_box(run(black_box(&entries), &recorded).compared()));
    });
}

fn speed() {
    let (entries, recorded) = record();
    let before = Instant::now();
    let replay = run(&entries, &recorded);
    let took = before.elapsed();
    assert!(replay.found().listed().is_empty(), "{:?}", replay.found().listed().first());
    assert!(replay.kernel().turn_state() == recorded.turn_state() && replay.gap().is_none());
    println!(
        "{} records of {MINUTES} minutes with {} inputs in {took:?}: {:.0} times real time",
        replay.compared(),
        replay.inputs(),
        Duration::from_secs(MINUTES * 60).as_secs_f64() / took.as_secs_f64()
    );
}

criterion_group!(benches, replay);

fn main() {
    if cfg!(debug_assertions) {
        println!("figures of a debug build mean nothing: run `cargo bench -p rspp-kernel`");
        std::process::exit(2);
    }
    benches();
    speed();
    Criterion::default().configure_from_args().final_summary();
}
