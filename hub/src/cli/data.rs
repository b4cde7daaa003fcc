//! Collected rows: what there is, and bringing it home.

use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};

use bellwether_protocol::id::{DeviceId, ModelName, ModelRef};
use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use super::Context;
use super::failure::{Exit, Failure};
use crate::api::types::{ExportFormat, ExportQuery, PartitionView};
use crate::date::{BadDate, Date};

#[derive(Debug, Subcommand)]
pub(super) enum DataCommand {
    /// What was collected, by model, version and day
    List,
    /// Write rows to a file or to stdout, each once
    #[command(
        after_help = "Examples:\n  bellwether data export --model digits:3 --since 2026-11-01 --to rows.ndjson\n  \
                            bellwether data export --model digits --device gw-1 --format csv\n  \
                            bellwether data export --format parquet --to rows.tar && tar xf rows.tar\n\n\
                            Parquet files lie in folders by model, version and date, as DuckDB, Spark and pandas\n\
                            read them. Days are those of UTC on which the hub took the rows."
    )]
    Export(Box<Export>),
}

#[derive(Debug, Args)]
pub(super) struct Export {
    /// NAME or NAME:VERSION
    #[arg(long, value_name = "NAME[:VERSION]", value_parser = model)]
    model: Option<Which>,
    /// From this day on
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    since: Option<Date>,
    /// Through this day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    until: Option<Date>,
    /// Only this device; not with parquet
    #[arg(long, value_name = "ID")]
    device: Option<DeviceId>,
    /// Only devices of this site; not with parquet
    #[arg(long)]
    site: Option<String>,
    /// How rows are written; parquet is a tar archive of the files
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// The file to write; `-` is stdout
    #[arg(long, value_name = "FILE", default_value = "-")]
    to: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Ndjson,
    Csv,
    Parquet,
}

/// A model, or one version of it.
#[derive(Clone, Debug)]
struct Which {
    name: ModelName,
    version: Option<u32>,
}

fn model(text: &str) -> Result<Which, String> {
    let read = if text.contains(':') {
        text.parse().map(|ModelRef { name, version }| Which { name, version: Some(version.number()) })
    } else {
        text.parse().map(|name| Which { name, version: None })
    };
    read.map_err(|bad| bad.to_string())
}

fn day(text: &str) -> Result<Date, BadDate> {
    text.parse()
}

pub(super) async fn run(context: &Context, command: DataCommand) -> Result<Exit, Failure> {
    match command {
        DataCommand::List => list(context).await,
        DataCommand::Export(given) => export(context, *given).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let collected = context.client.collected().await?;
    let place = |one: &PartitionView| format!("{}:{} {}", one.model, one.version, one.date);
    context.output.list(
        &collected.items,
        &[
            ("VERSION", &|one: &PartitionView| format!("{}:{}", one.model, one.version)),
            ("DATE", &|one| one.date.clone()),
            ("ROWS", &|one| one.rows.to_string()),
            ("BYTES", &|one| one.bytes.to_string()),
            ("FILES", &|one| one.files.to_string()),
        ],
        place,
        "no file of collected rows; what devices sample is in the policy of a version",
    )?;
    if context.output.for_people() && collected.waiting_rows > 0 {
        eprintln!("{} rows are not in a file yet; an export has them too", collected.waiting_rows);
    }
    Ok(Exit::Ok)
}

async fn export(context: &Context, given: Export) -> Result<Exit, Failure> {
    let Export { model, since, until, device, site, format, to, force } = given;
    let to_stdout = to.as_os_str() == "-";
    if to_stdout && format == Format::Parquet && io::stdout().is_terminal() {
        return Err(Failure::new(Exit::Usage, "a terminal cannot show an archive").next("name a file: --to rows.tar"));
    }
    // Before anything is fetched; it counts again when the file gets its name.
    if !to_stdout && !force && to.exists() {
        return Err(taken(&to));
    }
    let query = ExportQuery {
        version: model.as_ref().and_then(|which| which.version),
        model: model.map(|which| which.name.to_string()),
        from: since.map(|day| day.to_string()),
        until: until.map(|day| day.to_string()),
        device: device.map(|id| id.to_string()),
        site,
        format: Some(match format {
            Format::Ndjson => ExportFormat::Ndjson,
            Format::Csv => ExportFormat::Csv,
            Format::Parquet => ExportFormat::Parquet,
        }),
    };
    let mut response = context.client.export(&query).await?;
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("exporting {spinner} {bytes} {bytes_per_sec}") {
        bar.set_style(style);
    }
    let written = if to_stdout {
        copy(&mut response, &mut io::stdout().lock(), Path::new("stdout"), &bar).await
    } else {
        save(&mut response, &to, force, &bar).await
    };
    bar.finish_and_clear();
    if written? == 0 {
        eprintln!("no row fits; see what there is: bellwether data list");
    } else if !to_stdout {
        eprintln!("{} is written", to.display());
    }
    Ok(Exit::Ok)
}

/// Writes under a temporary name beside the file, which gets its name once it is whole.
async fn save(response: &mut reqwest::Response, to: &Path, force: bool, bar: &ProgressBar) -> Result<u64, Failure> {
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|fault| Failure::file(folder, &fault))?;
    let bytes = copy(response, file.as_file_mut(), to, bar).await?;
    file.as_file().sync_all().map_err(|fault| Failure::file(to, &fault))?;
    let named = if force { file.persist(to) } else { file.persist_noclobber(to) };
    match named {
        Ok(_) => Ok(bytes),
        Err(fault) if fault.error.kind() == io::ErrorKind::AlreadyExists => Err(taken(to)),
        Err(fault) => Err(Failure::file(to, &fault.error)),
    }
}

/// Passes the answer on piece by piece; how many bytes it had.
async fn copy(
    response: &mut reqwest::Response,
    out: &mut impl Write,
    name: &Path,
    bar: &ProgressBar,
) -> Result<u64, Failure> {
    let broken = |fault: reqwest::Error| {
        Failure::error(format!("the export broke off: {fault}")).next("the hub's log says why; then try again")
    };
    let mut bytes = 0;
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        bytes += piece.len() as u64;
        match out.write_all(&piece) {
            Ok(()) => bar.inc(piece.len() as u64),
            // Whoever reads has had enough, as `head` does.
            Err(fault) if fault.kind() == io::ErrorKind::BrokenPipe => return Ok(bytes),
            Err(fault) => return Err(Failure::file(name, &fault)),
        }
    }
    match out.flush() {
        Err(fault) if fault.kind() != io::ErrorKind::BrokenPipe => Err(Failure::file(name, &fault)),
        _ => Ok(bytes),
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new(Exit::Conflict, format!("{} exists already", path.display()))
        .next("choose another name, or pass --force")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_and_days_are_read_strictly() {
        assert_eq!(model("digits").unwrap().version, None);
        assert_eq!(model("digits:3").unwrap().version, Some(3));
        for bad in ["", "../x", "digits:", "digits:0", "digits:1:2"] {
            assert!(model(bad).is_err(), "{bad}");
        }
        assert_eq!(day("2026-11-24").unwrap().to_string(), "2026-11-24");
        assert!(day("yesterday").unwrap_err().to_string().contains("2026-11-24"));
    }
}
