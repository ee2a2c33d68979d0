//! Runs scenarios in one cluster and prints a line for each.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use super::Cluster;

/// How many scenarios run at the same time.
const AT_ONCE: usize = 3;

pub struct Scenario {
    pub number: u8,
    /// What holds, as a sentence.
    pub holds: &'static str,
    pub run: fn(&Cluster),
    /// It changes something that the others need: nodes, replicas, the API server.
    pub alone: bool,
    /// It takes minutes and runs only with `--long`.
    pub long: bool,
}

impl Scenario {
    fn line(&self) -> String {
        format!("scenario {}: {}", self.number, self.holds)
    }

    fn is_wanted(&self, filters: &[String]) -> bool {
        let line = self.line();
        filters.is_empty() || filters.iter().any(|filter| line.contains(filter))
    }

    /// Whether it passed.
    fn run(&self, cluster: &Cluster) -> bool {
        let began = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| (self.run)(cluster))).is_ok();
        let how = if passed { "passed" } else { "FAILED" };
        println!("{}: {how} ({:.0?})", self.line(), began.elapsed());
        if !passed {
            println!("  logs: {}", cluster.keep_logs(self.number).display());
        }
        passed
    }
}

pub fn run(scenarios: &[Scenario]) -> ExitCode {
    let (flags, filters): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|arg| arg.starts_with('-'));
    let long = flags.iter().any(|flag| flag == "--long");
    let wanted = scenarios
        .iter()
        .filter(|scenario| (long || !scenario.long) && scenario.is_wanted(&filters));
    let (alone, together): (Vec<_>, Vec<_>) = wanted.partition(|scenario| scenario.alone);
    if alone.is_empty() && together.is_empty() {
        println!("no scenario fits {filters:?}");
        return ExitCode::FAILURE;
    }
    let began = Instant::now();
    let cluster = Cluster::start(filters.is_empty());
    println!("the cluster is ready ({:.0?})", began.elapsed());
    let waiting = Mutex::new(VecDeque::from(together));
    let next = || waiting.lock().unwrap().pop_front();
    let mut failed = thread::scope(|scope| {
        let work = || {
            let mut failed = 0;
            while let Some(scenario) = next() {
                failed += usize::from(!scenario.run(&cluster));
            }
            failed
        };
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let counts = workers.into_iter().map(|worker| worker.join().unwrap());
        counts.sum::<usize>()
    });
    for scenario in alone {
        failed += usize::from(!scenario.run(&cluster));
    }
    println!("{failed} failed, in all {:.0?}", began.elapsed());
    match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
