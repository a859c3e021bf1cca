//! Costs of the kernel's hot paths: one step, one frame at the gate, one evidence record, one edge hop; and
//! verifying a segment.
//!
//! `cargo bench -p rspp-kernel`. The percentiles of `step` are printed after criterion's figures,
//! because a mean hides what a caller hears.

#![allow(missing_docs)] // criterion's macros make undocumented items
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, clippy::print_stdout)] // a bench reads the clock and prints

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{criterion_group, BatchSize, Criterion, Throughput};
use rspp_kernel::edge::bounds::{Bounds, EdgeSettings, Strategy};
use rspp_kernel::edge::buffer::EdgeBuffer;
use rspp_kernel::event::EventScope;
use rspp_kernel::evidence::record::{Body, Class, Marker, Record};
use rspp_kernel::evidence::ring::StageA;
use rspp_kernel::evidence::segment::{scan, BlockKind, Chain, MAGIC};
use rspp_kernel::fence::Verdict;
use rspp_kernel::input::{Event, Input};
use rspp_kernel::node::{Hook, HostedNode, NodeDeclaration, Responsiveness};
use rspp_kernel::plan::PlanTemplate;
use rspp_kernel::policy::TurnPolicy;
use rspp_kernel::session::{SessionKernel, Settings};

const WINDOW_US: u64 = 32_000;
/// Samples of the percentile run: enough for a stable 99.9th.
const SAMPLES: usize = 200_000;

fn kernel() -> SessionKernel {
    let policy_json = format!(r#"{{"budgets":{{"padding":"{}"}}}}"#, "x".repeat(2000));
    let plan = PlanTemplate::new("bench@v1", "graph/voice", "simple", &policy_json).expect("a template");
    let mut kernel = SessionKernel::new(Settings {
        session_id: String::from("bench"),
        policy: TurnPolicy::default(),
        plan,
        now_us: 0,
        wall_clock_ms: 0,
        evidence_capacity: 4096,
    });
    kernel.host(nodes()).expect("sound declarations");
    kernel.step(Input { now_us: 0, event: Event::Lease { epoch: 1, deadline_us: 1 << 60 } });
    kernel.step(Input { now_us: 0, event: Event::Start { resumed: false } });
    kernel
}

/// As many nodes as the graph of a voice pipeline has, each with every hook.
fn nodes() -> Vec<HostedNode> {
    let node = |index: usize| HostedNode {
        declaration: NodeDeclaration {
            node_id: format!("node-{index}"),
            scope: if index < 4 { EventScope::Session } else { EventScope::Turn },
            responsiveness: Responsiveness::Preemptible,
            buffers: true,
            hooks: Hook::ALL.to_vec(),
            inputs: Vec::new(),
            transforms: Vec::new(),
        },
        modality: None,
    };
    (0..11).map(node).collect()
}

fn drain(kernel: &mut SessionKernel) {
    kernel.drain_evidence(usize::MAX, |line| {
        black_box(line);
    });
}

/// A call in small: silence, speech, a turn that is interrupted by another, its end. Returns the input at `index`.
fn call(index: usize) -> Event<&'static str> {
    let turn = u32::try_from(index / 100 * 2 + 2).expect("few turns");
    match index % 100 {
        0 | 50 => Event::TextMessage { reference: turn },
        99 => Event::GenerationFinished { turn },
        place => {
            let permille = if (30..33).contains(&place) { 900 } else { 20 };
            Event::VoiceActivity { media_sample: index as u64 * 512, permille }
        }
    }
}

fn step(criterion: &mut Criterion) {
    let mut kernel = kernel();
    let mut now_us = 0;
    criterion.bench_function("step: voice activity window", |bencher| {
        bencher.iter(|| {
            now_us += WINDOW_US;
            let event = Event::VoiceActivity { media_sample: now_us, permille: 20 };
            black_box(kernel.step(Input { now_us, event }).len());
            if now_us % (1024 * WINDOW_US) == 0 {
                drain(&mut kernel);
            }
        });
    });
}

fn gate(criterion: &mut Criterion) {
    let mut kernel = kernel();
    kernel.step(Input { now_us: 0, event: Event::TextMessage { reference: 1 } });
    let mut sequence = 0;
    let mut frames = |kernel: &mut SessionKernel, count| {
        for _ in 0..count {
            sequence += 1;
            let verdict = kernel.frame(sequence, 1, 1, sequence, 480);
            debug_assert_eq!(verdict, Verdict::Pass);
            black_box(verdict);
        }
    };
    criterion.bench_function("gate: frame that passes and is recorded", |bencher| {
        bencher.iter_custom(|count| {
            let (mut spent, mut left) = (Duration::ZERO, count);
            while left > 0 {
                let some = left.min(1024);
                let start = Instant::now();
                frames(&mut kernel, some);
                spent += start.elapsed();
                kernel.drain_records(usize::MAX);
                left -= some;
            }
            spent
        });
    });
    assert_eq!(kernel.evidence_dropped(), 0, "every frame must be recorded");
    criterion.bench_function("evidence: 1024 frames as bytes", |bencher| {
        bencher.iter_batched_ref(
            || {
                let mut filled = kernel.clone();
                frames(&mut filled, 1024);
                filled
            },
            |filled| filled.drain_records(usize::MAX).len(),
            BatchSize::SmallInput,
        );
    });
}

fn evidence(criterion: &mut Criterion) {
    let mut stage = StageA::new(4096);
    let body = Body::Marker { name: Marker::LateEvent, value: 1 };
    let record = Record { at_us: 1, sequence: 0, epoch: 1, turn_epoch: 1, turn: 1, body };
    criterion.bench_function("evidence: append and take", |bencher| {
        bencher.iter(|| {
            black_box(stage.append(black_box(record), Class::Baseline));
            black_box(stage.pop())
        });
    });
}

fn edge(criterion: &mut Criterion) {
    let bounds = Bounds {
        max_items: 64,
        max_ms: 2000,
        max_bytes: 1 << 20,
        max_latency_ms: 2000,
        high_items: 48,
        low_items: 24,
        high_ms: 1500,
        low_ms: 500,
        max_block_ms: Some(1000),
    };
    let settings = EdgeSettings::data(Strategy::Block, bounds);
    let mut edge = EdgeBuffer::new(settings).expect("valid settings");
    criterion.bench_function("edge: one hop", |bencher| {
        bencher.iter(|| {
            black_box(edge.put(black_box(7_u64), 1, 20_000, 960));
            black_box(edge.get())
        });
    });
}

/// A day's segments must be verified at 200 MB/s; blocks of one flush at L0 are this long.
fn segment(criterion: &mut Criterion) {
    const BLOCKS: usize = 30_000;
    let mut chain = Chain::new([0; 16]);
    let mut data = MAGIC.to_vec();
    for number in 0..BLOCKS {
        let length = 150 + number * 7 % 200;
        let body: Vec<u8> =
            (0..length).map(|index| u8::try_from((index * 31 + number) % 256).unwrap_or(0)).collect();
        chain.frame(BlockKind::Records, &body, &mut data).expect("a short body");
    }
    let mut group = criterion.benchmark_group("segment");
    group.throughput(Throughput::Bytes(data.len() as u64));
    group.bench_function("verify", |bench| {
        bench.iter(|| {
            let found = scan(black_box(&data), None, false);
            assert!(found.damage.is_empty());
            found.whole
        });
    });
    group.finish();
}

fn percentiles() {
    let mut kernel = kernel();
    let mut nanoseconds = Vec::with_capacity(SAMPLES);
    let mut now_us = 0;
    for index in 0..SAMPLES {
        now_us += WINDOW_US;
        let input = Input { now_us, event: call(index) };
        let before = Instant::now();
        black_box(kernel.step(black_box(input)).len());
        nanoseconds.push(before.elapsed().as_nanos());
        if index % 256 == 0 {
            drain(&mut kernel);
        }
    }
    assert_eq!(kernel.evidence_dropped(), 0, "the run must not shed");
    nanoseconds.sort_unstable();
    for (name, place) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = ((SAMPLES - 1) as f64 * place) as usize;
        println!(
            "step over a call, two turns in 100 inputs, clock reading included: {name} {} ns",
            nanoseconds[index]
        );
    }
}

criterion_group!(benches, step, gate, evidence, edge, segment);

fn main() {
    if cfg!(debug_assertions) {
        println!("figures of a debug build mean nothing: run `cargo bench -p rspp-kernel`");
        std::process::exit(2);
    }
    benches();
    percentiles();
    Criterion::default().configure_from_args().final_summary();
}
