//! `bellwether-sim`: arguments, tracing, exit code; nothing else.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use bellwether_agent::journal;
use bellwether_hub::{cli, exec};
use bellwether_simulator::demo::{self, CLI, Fpga, Options};
use bellwether_simulator::{cuts, seeds};
use bellwether_world::cuts::{Pattern, Plan, UPDATES_MAX};
use bellwether_world::{Faults, Mutant};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// Fleets of the real device code.
#[derive(Parser)]
#[command(
    name = "bellwether-sim",
    version,
    after_help = "Examples:\n  bellwether-sim demo\n  bellwether-sim demo --once -o json\n  bellwether-sim demo --once --fpga rtl\n  bellwether-sim demo --devices 60 --data demo-data\n\n\
                  Exit codes: 0 every step happened, 1 one did not, 2 usage."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A hub and a fleet: two versions rolled out, one refused, one rolled back, a site that drifts;
    /// live until Ctrl-C.
    Demo {
        /// End after the story.
        #[arg(long)]
        once: bool,
        /// How many devices.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(4..=400))]
        devices: u16,
        /// What one site offloads its models to: `twin` (software), or `rtl` (the engine's Verilog, simulated: run
        /// `fpga/rtl/build sim` before).
        #[arg(long, value_enum, default_value = "twin")]
        fpga: Fpga,
        /// Directory for everything; it stays [default: a new temporary one, removed at the end].
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// `json` prints the outcome as one object on the last line.
        #[arg(long, short, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
        output: String,
    },
    /// Run seeds of the deterministic simulator: the shipped rules, brains and outboxes in virtual time,
    /// while networks lose and disks lose power.
    #[command(
        after_help = "Examples:\n  bellwether-sim run --seeds 1000 -o json\n  bellwether-sim run --seed 42 --timeline\n  \
                            bellwether-sim run --seed 42 --devices 3 --faults loss,power-cuts --timeline\n  \
                            bellwether-sim run --mutant ack-before-flush --seeds 200"
    )]
    Run {
        /// How many seeds.
        #[arg(long, default_value_t = 100, conflicts_with = "seed", value_parser = clap::value_parser!(u64).range(1..))]
        seeds: u64,
        /// The first seed.
        #[arg(long, default_value_t = 0, conflicts_with = "seed")]
        first: u64,
        /// This seed alone.
        #[arg(long)]
        seed: Option<u64>,
        /// Not what a seed draws, but this many devices.
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
        devices: Option<u16>,
        /// Not what a seed draws, but these faults: `none`, or a list such as `loss,power-cuts`.
        #[arg(long, value_name = "LIST", value_parser = seeds::faults)]
        faults: Option<Faults>,
        /// Not what a seed draws, but so long a time in which things break.
        #[arg(long, value_name = "MILLISECONDS")]
        chaos_ms: Option<u64>,
        /// Plant a bug: exit status 1 where it is found.
        #[arg(long, value_name = "BUG", value_parser = seeds::mutant)]
        mutant: Option<Mutant>,
        /// Print everything that happens in one seed.
        #[arg(long, requires = "seed")]
        timeline: bool,
        /// `json` prints the outcome as one object on the last line.
        #[arg(long, short, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
        output: String,
    },
    /// Cut the power of one device at every operation of its disk, in every pattern of what that leaves,
    /// and again at every operation of each recovery: each of its updates must end as without.
    #[command(
        after_help = "Examples:\n  bellwether-sim cuts -o json\n  bellwether-sim cuts --updates 20 --every-second\n  \
                            bellwether-sim cuts --update 3 --operation 17 --pattern torn --second 5\n  \
                            bellwether-sim cuts --mutant stage-without-sync\n\n\
                            Patterns: nothing, everything, half, scattered, torn."
    )]
    Cuts {
        /// How many updates.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=i64::from(UPDATES_MAX)))]
        updates: u32,
        /// What packages hold and what is drawn.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Cut every recovery again, and in every pattern: about five times the work.
        #[arg(long)]
        every_second: bool,
        /// This update alone, from 0, and everything that happens in it.
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["updates", "every_second"],
              value_parser = clap::value_parser!(u32).range(0..i64::from(UPDATES_MAX)))]
        update: Option<u32>,
        /// Cut it at this operation, from 0.
        #[arg(long, value_name = "NUMBER", requires_all = ["update", "pattern"])]
        operation: Option<u64>,
        /// What the cut leaves of what is under way.
        #[arg(long, requires = "operation", value_parser = cuts::pattern)]
        pattern: Option<Pattern>,
        /// Cut it again at this operation of the recovery.
        #[arg(long, value_name = "NUMBER", requires = "operation")]
        second: Option<u64>,
        /// What that leaves [default: as the seed draws it].
        #[arg(long, value_name = "PATTERN", requires = "second", value_parser = cuts::pattern)]
        second_pattern: Option<Pattern>,
        /// Plant a bug: exit status 1 where it is found.
        #[arg(long, value_name = "BUG", value_parser = seeds::mutant)]
        mutant: Option<Mutant>,
        /// `json` prints the outcome as one object on the last line.
        #[arg(long, short, value_name = "FORMAT", value_parser = ["text", "json"], default_value = "text")]
        output: String,
    },
}

fn main() -> ExitCode {
    if let Some(code) = exec::run_if_child().or_else(bellwether_agent::run_if_child) {
        return code;
    }
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == CLI) {
        words.remove(1);
        return cli::main_with(words);
    }
    let command = Arguments::parse().command;
    // In a simulated world every fault is meant.
    let quiet = if matches!(command, Command::Run { .. } | Command::Cuts { .. }) { "off" } else { "error" };
    let filter = EnvFilter::try_from_env("BELLWETHER_LOG").unwrap_or_else(|_| EnvFilter::new(quiet));
    let shown = tracing_subscriber::fmt::layer()
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(filter);
    tracing_subscriber::registry().with(shown).with(journal::layer()).init();
    let (what, done) = match command {
        Command::Demo { once, devices, fpga, data, output } => {
            let options = Options { once, json: output == "json", devices: devices.into(), fpga, data };
            ("the demo failed", tell(&options))
        }
        Command::Run { seeds, first, seed, devices, faults, chaos_ms, mutant, timeline, output } => {
            let (first, count) = seed.map_or((first, seeds), |seed| (seed, 1));
            let devices = devices.map(usize::from);
            let options = seeds::Options { first, count, devices, faults, chaos_ms, mutant, timeline };
            ("something did not hold", run_seeds(&options, output == "json"))
        }
        Command::Cuts {
            updates,
            seed,
            every_second,
            update,
            operation,
            pattern,
            second,
            second_pattern,
            mutant,
            output,
        } => {
            let plan = Plan { updates, seed, every_second, mutant };
            let way = update.map(|update| cuts::Way {
                update,
                first: operation.zip(pattern),
                second: second.map(|operation| (operation, second_pattern)),
            });
            ("something did not hold", run_cuts(plan, way, output == "json"))
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{what}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the outcome goes to standard output")]
fn run_seeds(options: &seeds::Options, json: bool) -> anyhow::Result<()> {
    let summary = seeds::run_all(options)?;
    if json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!(
            "{} seeds hold: {} steps, {:.0} virtual device hours, {} power cuts inside one of {} disk operations, {} commits, {:.1} s",
            summary.seeds,
            summary.steps,
            summary.virtual_device_hours,
            summary.cut_points,
            summary.disk_operations,
            summary.commits,
            summary.seconds
        );
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the outcome goes to standard output")]
fn run_cuts(plan: Plan, way: Option<cuts::Way>, json: bool) -> anyhow::Result<()> {
    if let Some(way) = way {
        for line in cuts::tell(plan, way)? {
            println!("{line}");
        }
        return Ok(());
    }
    let (summary, bad) = cuts::run_all(plan)?;
    let done = bad.map_or(Ok(()), |bad| cuts::fail(plan, &bad));
    let cuts::Summary { tally, patterns, seconds } = &summary;
    if json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        println!(
            "{} updates, {} operations of the disk, {} cuts in {patterns} patterns and {} second cuts; {} recoveries, {} bad; {seconds:.1} s",
            tally.updates, tally.operations, tally.cuts, tally.second_cuts, tally.recoveries, tally.bad
        );
    }
    done
}

#[expect(clippy::print_stdout, reason = "the outcome goes to standard output")]
fn tell(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(demo::run(options));
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    let outcome = outcome?;
    if options.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!(
            "{} devices run version 2; {} rows scored, {} collected; {} refused, {} rolled back; {} site alerted; {} s",
            outcome.running_v2,
            outcome.scored,
            outcome.rows_collected,
            outcome.refused,
            outcome.rolled_back,
            outcome.sites_alerted,
            outcome.seconds
        );
    }
    Ok(())
}
