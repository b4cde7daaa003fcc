//! Rows on their way out: read file by file, filtered, each once, written piece by piece.

use std::collections::BTreeMap;
use std::io::{self, Write as _};

use bellwether_protocol::id::{DeviceId, ModelName, Version};
use bytes::Bytes;
use serde::ser::{SerializeMap as _, Serializer as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::files::{Files, Listed};
use super::place::Place;
use super::{Collected, Fault, parquet};
use crate::api::types::{ExportFormat, RowView, TensorValues};
use crate::date::Date;

/// Bytes gathered before they are sent.
const PIECE_BYTES: usize = 64 * 1024;
/// Columns of CSV; times in milliseconds since 1970.
const CSV_HEAD: &str = "device,site,model,version,at_ms,taken_at_ms,reason,outbox,sequence,inputs,outputs\r\n";

/// Which rows go out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) model: Option<ModelName>,
    pub(crate) version: Option<Version>,
    pub(crate) from: Option<Date>,
    pub(crate) until: Option<Date>,
    pub(crate) device: Option<DeviceId>,
    pub(crate) site: Option<String>,
}

impl Filter {
    /// Whether rows in this place may fit.
    pub(crate) fn covers(&self, place: &Place) -> bool {
        self.model.as_ref().is_none_or(|name| *name == place.model.name)
            && self.version.is_none_or(|version| version == place.model.version)
            && self.from.is_none_or(|from| place.date >= from)
            && self.until.is_none_or(|until| place.date <= until)
    }

    fn fits(&self, row: &Collected) -> bool {
        self.device.as_ref().is_none_or(|device| row.device == device.as_str())
            && self.site.as_ref().is_none_or(|site| row.site.as_ref() == Some(site))
    }
}

/// What is exported.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) files: Files,
    /// The files, in the order in which they go out.
    pub(crate) listed: Vec<Listed>,
    pub(crate) filter: Filter,
    pub(crate) format: ExportFormat,
}

impl Job {
    /// Sends everything, or the fault that ended it. Blocks; call it where that is allowed, inside a
    /// runtime. Whoever no longer listens ends it too.
    pub(crate) fn run(self, out: Sender<io::Result<Bytes>>) {
        let mut pieces = Pieces { out, gathered: Vec::with_capacity(PIECE_BYTES), gone: false };
        let outcome = match self.format {
            ExportFormat::Ndjson | ExportFormat::Csv => self.rows(&mut pieces),
            ExportFormat::Parquet => self.archive(&mut pieces),
        };
        let outcome = outcome.and_then(|()| pieces.flush().map_err(|fault| Fault::Broken(fault.to_string())));
        if let Err(fault) = outcome
            && !pieces.gone
        {
            tracing::error!(%fault, "an export broke off");
            drop(pieces.out.blocking_send(Err(io::Error::other(fault.to_string()))));
        }
    }

    fn rows(&self, out: &mut Pieces) -> Result<(), Fault> {
        let broken = |fault: io::Error| Fault::Broken(fault.to_string());
        if self.format == ExportFormat::Csv {
            out.write_all(CSV_HEAD.as_bytes()).map_err(broken)?;
        }
        let mut seen = Seen::default();
        for Listed { path, .. } in &self.listed {
            // A file that is gone was beyond what is kept.
            let Some(bytes) = Handle::current().block_on(self.files.read(path))? else { continue };
            let damaged = |cause: String| Fault::Damaged { path: path.to_string(), cause };
            let (model, signature, rows) = parquet::read(bytes).map_err(|fault| damaged(fault.to_string()))?;
            for row in rows {
                if self.filter.fits(&row) && seen.is_new(&row) {
                    self.row(&row.view(&model, &signature), out).map_err(broken)?;
                }
            }
        }
        Ok(())
    }

    fn row(&self, row: &RowView, out: &mut Pieces) -> io::Result<()> {
        if self.format == ExportFormat::Csv {
            return out.write_all(csv(row)?.as_bytes());
        }
        serde_json::to_writer(&mut *out, row)?;
        out.write_all(b"\n")
    }

    fn archive(&self, out: &mut Pieces) -> Result<(), Fault> {
        let broken = |fault: io::Error| Fault::Broken(fault.to_string());
        let mut archive = tar::Builder::new(out);
        for Listed { path, written_ms, .. } in &self.listed {
            let Some(bytes) = Handle::current().block_on(self.files.read(path))? else { continue };
            // The GNU form, for a path may be longer than the 100 bytes of the older one.
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(u64::try_from(written_ms / 1000).unwrap_or_default());
            archive.append_data(&mut header, format!("collected/{path}"), bytes.as_ref()).map_err(broken)?;
        }
        archive.into_inner().map(drop).map_err(broken)
    }
}

/// One line of CSV (RFC 4180).
fn csv(row: &RowView) -> io::Result<String> {
    let cells = [
        row.device.clone(),
        row.site.clone().unwrap_or_default(),
        row.model.clone(),
        row.version.to_string(),
        row.at_ms.to_string(),
        row.taken_at_ms.to_string(),
        row.reason.clone(),
        row.outbox.clone(),
        row.sequence.to_string(),
        by_name(&row.inputs)?,
        by_name(&row.outputs)?,
    ];
    let quoted = cells.map(|cell| {
        let plain = !cell.contains(['"', ',', '\r', '\n']);
        if plain { cell } else { format!("\"{}\"", cell.replace('"', "\"\"")) }
    });
    Ok(quoted.join(",") + "\r\n")
}

/// `{"image":[0.5,1.0]}`: the elements of each tensor under its name.
fn by_name(tensors: &[TensorValues]) -> io::Result<String> {
    let mut text = Vec::new();
    let mut json = serde_json::Serializer::new(&mut text);
    let mut map = json.serialize_map(Some(tensors.len()))?;
    for tensor in tensors {
        map.serialize_entry(&tensor.name, &tensor.data)?;
    }
    map.end()?;
    String::from_utf8(text).map_err(io::Error::other)
}

/// Gathers what is written and sends it on.
struct Pieces {
    out: Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
    /// Nobody listens any more.
    gone: bool,
}

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.gathered, Vec::with_capacity(PIECE_BYTES));
        self.out.blocking_send(Ok(piece.into())).map_err(|_| {
            self.gone = true;
            io::ErrorKind::BrokenPipe.into()
        })
    }
}

/// The rows that went out already: a bit each, in blocks, for the numbers of one outbox lie close.
/// Only files copied back by hand, after a restore, can hold a row twice.
#[derive(Debug, Default)]
struct Seen {
    outboxes: BTreeMap<(String, String), BTreeMap<i64, [u64; 4]>>,
}

impl Seen {
    /// Remembers the row; false if it went out before.
    fn is_new(&mut self, row: &Collected) -> bool {
        let (block, bit) = (row.sequence.div_euclid(256), row.sequence.rem_euclid(256));
        let blocks = self.outboxes.entry((row.device.clone(), row.outbox.clone())).or_default();
        let words = blocks.entry(block).or_default();
        let word = usize::try_from(bit / 64).ok().and_then(|word| words.get_mut(word));
        word.is_none_or(|word| {
            let mask = 1_u64 << (bit % 64);
            let is_new = *word & mask == 0;
            *word |= mask;
            is_new
        })
    }
}

#[cfg(test)]
mod tests {
    use bellwether_hub_core::collect::Row;
    use bellwether_protocol::time::Millis;
    use tokio::sync::mpsc;

    use super::super::fixtures::{DAY, Place as Home, row};
    use super::super::place::FilePath;
    use super::*;

    async fn exported(home: &Home, filter: Filter, format: ExportFormat) -> io::Result<Vec<u8>> {
        let files = home.files.clone();
        let mut listed = files.list().await.unwrap();
        listed.retain(|listed| filter.covers(&listed.path.place));
        let (out, mut pieces) = mpsc::channel(1);
        tokio::task::spawn_blocking(move || Job { files, listed, filter, format }.run(out));
        let mut all = Vec::new();
        while let Some(piece) = pieces.recv().await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }

    async fn sequences(home: &Home, filter: Filter) -> Vec<u64> {
        let text = exported(home, filter, ExportFormat::Ndjson).await.unwrap();
        let rows = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        rows.map(|line| serde_json::from_slice::<RowView>(line).unwrap().sequence).collect()
    }

    async fn filled() -> Home {
        let home = Home::new();
        let next_day = Millis(DAY.0 + 24 * 3600 * 1000);
        home.add([row("a", 1, "digits:1", DAY), row("b", 2, "digits:1", DAY), row("a", 3, "digits:2", DAY)]);
        home.add([Row { site: Some("\"Köln\", 2\n".to_owned()), ..row("c", 4, "digits:2", next_day) }]);
        home.seal().await;
        home
    }

    #[tokio::test]
    async fn filters_choose_rows() {
        let home = filled().await;
        let all = Filter::default();
        assert_eq!(sequences(&home, all.clone()).await, [1, 2, 3, 4]);
        assert_eq!(sequences(&home, Filter { version: "2".parse().ok(), ..all.clone() }).await, [3, 4]);
        assert_eq!(sequences(&home, Filter { from: "2026-11-25".parse().ok(), ..all.clone() }).await, [4]);
        assert_eq!(sequences(&home, Filter { until: "2026-11-24".parse().ok(), ..all.clone() }).await, [1, 2, 3]);
        assert_eq!(sequences(&home, Filter { device: "a".parse().ok(), ..all.clone() }).await, [1, 3]);
        assert_eq!(sequences(&home, Filter { site: Some("Lyon".to_owned()), ..all.clone() }).await, [1, 2, 3]);
        assert_eq!(sequences(&home, Filter { model: "faces".parse().ok(), ..all }).await, [] as [u64; 0]);
    }

    #[tokio::test]
    async fn a_row_that_two_files_hold_goes_out_once() {
        let home = filled().await;
        // As if a folder had been copied back after a restore.
        home.add([row("a", 1, "digits:1", DAY), row("a", 0, "digits:1", DAY), row("a", 300, "digits:1", DAY)]);
        home.seal().await;
        let mut found = sequences(&home, Filter::default()).await;
        found.sort_unstable();
        assert_eq!(found, [0, 1, 2, 3, 4, 300]);
    }

    #[tokio::test]
    async fn csv_quotes_what_would_break_a_line() {
        let home = filled().await;
        let text = exported(&home, Filter { device: "c".parse().ok(), ..Filter::default() }, ExportFormat::Csv).await;
        let outbox = "07".repeat(16);
        let line = format!(
            "c,\"\"\"Köln\"\", 2\n\",digits,2,1795564800000,1795564800000,turn,{outbox},4,\
             \"{{\"\"image\"\":[0.5,1.0]}}\",\"{{\"\"class\"\":[4]}}\"\r\n"
        );
        assert_eq!(String::from_utf8(text.unwrap()).unwrap(), format!("{CSV_HEAD}{line}"));
    }

    #[tokio::test]
    async fn the_archive_holds_the_files_where_they_lie() {
        let home = filled().await;
        let bytes = exported(&home, Filter::default(), ExportFormat::Parquet).await.unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned());
        let inside: Vec<FilePath> =
            paths.map(|path| path.strip_prefix("collected/").unwrap().parse().unwrap()).collect();
        let listed = home.files.list().await.unwrap();
        assert_eq!(inside, listed.into_iter().map(|listed| listed.path).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_damaged_file_ends_the_export_with_a_fault_instead_of_silently_short() {
        let home = filled().await;
        let path = home.files.list().await.unwrap()[0].path.clone();
        home.files.put(&path, Bytes::from_static(b"PAR1 nonsense PAR1")).await.unwrap();
        assert!(exported(&home, Filter::default(), ExportFormat::Ndjson).await.is_err());
    }
}
