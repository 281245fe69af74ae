//! Training throughput as a whole process: forward + backward + AdamW on random tokens, the same presets and the
//! same step as the PyTorch baseline. `train_bench PRESET THREADS [STEPS]` prints one JSON line.

#[path = "../benches/preset/mod.rs"]
mod preset;

use preset::Step;
use std::time::Instant;

/// User and system seconds of this process.
fn cpu_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").expect("Linux's /proc");
    let sum: u64 = threads
        .filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("schedstat")).ok())
        .filter_map(|s| s.split(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(sum > 0, "no /proc/self/task/*/schedstat");
    sum as f64 / 1e9
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let name = args.first().map_or("tiny", String::as_str);
    let threads: usize = args.get(1).map_or(1, |t| t.parse().expect("a thread count"));
    let steps: usize = args.get(2).map_or(5, |t| t.parse().expect("a step count"));
    ringsmith_model::team::set_threads(threads);
    let mut bench = Step::new(name);
    let (mut wall, mut cpu, mut loss) = (Vec::new(), Vec::new(), 0.0);
    for step in 0..steps + 2 {
        let (clock, before) = (Instant::now(), cpu_seconds());
        loss = bench.run();
        if step >= 2 {
            wall.push(clock.elapsed().as_secs_f64());
            cpu.push(cpu_seconds() - before);
        }
    }
    wall.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let tokens = bench.batch.len() as f64;
    println!(
        "{{\"preset\": \"{name}\", \"threads\": {threads}, \"params_M\": {:.2}, \"tokens_per_s\": {:.0}, \"best_tokens_per_s\": {:.0}, \"tokens_per_cpu_s\": {:.0}, \"last_loss\": {loss:.4}}}",
        bench.model.num_params() as f64 / 1e6,
        tokens / wall[steps / 2],
        tokens / wall[0],
        tokens / cpu[steps / 2],
    );
}
