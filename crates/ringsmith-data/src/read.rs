//! Rows of a file, streamed: JSON lines, JSON arrays, CSV and Parquet become JSON values.
//!
//! A bad row is a value ([`Fault`]). A damaged file is an error that names the file and the row, after the
//! rows before it were given.

mod csv;
mod json;
mod parquet;

use crate::ledger::Fault;
use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The most bytes a row may have, unless the caller says otherwise.
pub const ROW_LIMIT: usize = 16 << 20;

/// A row as a JSON value, or why it is none.
pub type Row = std::result::Result<Value, Fault>;

/// The rows of an open file. It ends after the first error.
pub type Rows = Box<dyn Iterator<Item = Result<Row>> + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Parquet,
}

/// Opens `path` and streams its rows; a row of more than `limit` bytes is a fault.
///
/// The format follows the file's name (`.jsonl`, `.ndjson`, `.json`, `.csv`, each also with `.gz`, and
/// `.parquet`); whether a JSON file is an array or lines is seen from its first byte.
/// A missing file, an unknown name and a file that is not what its name says are errors.
pub fn rows(path: &Path, limit: usize) -> Result<Rows> {
    let name = path.display().to_string();
    let lower = name.to_lowercase();
    let (stem, gzip) = match lower.strip_suffix(".gz") {
        Some(stem) => (stem, true),
        None => (lower.as_str(), false),
    };
    let format = match stem.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jsonl" | "ndjson" | "json") => Format::Json,
        Some("csv") => Format::Csv,
        Some("parquet") if !gzip => Format::Parquet,
        _ => bail!(
            "{name}: unknown format; known are .jsonl, .ndjson, .json and .csv (also with .gz) and .parquet"
        ),
    };
    let file = File::open(path).with_context(|| format!("cannot read {name}"))?;
    if file.metadata().with_context(|| format!("cannot read {name}"))?.is_dir() {
        bail!("{name} is a folder, not a file");
    }
    if format == Format::Parquet {
        return parquet::rows(file, name);
    }
    let raw: Box<dyn Read + Send> = if gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut input = BufReader::with_capacity(1 << 16, raw);
    skip_mark(&mut input).with_context(|| format!("{name}: row 1: damaged"))?;
    match format {
        Format::Csv => csv::rows(input, name, limit),
        _ => json::rows(input, name, limit),
    }
}

/// Skips a UTF-8 byte order mark.
fn skip_mark(input: &mut impl BufRead) -> std::io::Result<()> {
    if input.fill_buf()?.starts_with(b"\xEF\xBB\xBF") {
        input.consume(3);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Reason;
    use serde_json::json;
    use std::io::Write;
    use std::path::PathBuf;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (dir, path)
    }

    fn read(name: &str, bytes: &[u8]) -> Vec<Row> {
        let (_dir, path) = file(name, bytes);
        rows(&path, 128).unwrap().collect::<Result<_>>().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    }

    /// The good rows before the error, and the error's text.
    fn broken(name: &str, bytes: &[u8]) -> (usize, String) {
        let (_dir, path) = file(name, bytes);
        let mut good = 0;
        for row in rows(&path, 1 << 20).unwrap() {
            match row {
                Ok(row) => good += usize::from(row.is_ok()),
                Err(error) => {
                    let text = format!("{error:#}");
                    assert!(text.contains(name), "{text}");
                    return (good, text);
                }
            }
        }
        panic!("no error in {name}");
    }

    #[test]
    fn the_same_rows_from_every_json_form() {
        let rows = [json!({"a": 1}), json!({"a": "x, ] } \" \\ é"}), json!({"a": [[1], {"b": []}]})];
        let lines = rows.iter().map(|v| v.to_string()).collect::<Vec<_>>().join("\n");
        let array = serde_json::to_string(&rows).unwrap();
        let pretty = serde_json::to_string_pretty(&rows).unwrap();
        let spaced = lines.replace('\n', "\r\n\r\n") + "\r\n";
        for (name, text) in [
            ("a.jsonl", &lines),
            ("a.ndjson", &spaced),
            ("a.json", &lines),
            ("a.json", &array),
            ("a.jsonl", &pretty),
            ("a.JSON", &format!("\u{feff} {pretty} \n")),
        ] {
            let got: Vec<Value> = read(name, text.as_bytes()).into_iter().map(|r| r.unwrap()).collect();
            assert_eq!(got, rows, "{name} {text}");
            let name = format!("{name}.gz");
            let got: Vec<Value> =
                read(&name, &gzip(text.as_bytes())).into_iter().map(|r| r.unwrap()).collect();
            assert_eq!(got, rows, "{name}");
        }
        assert!(read("a.json", b" [ ] ").is_empty());
        assert!(read("a.jsonl", b"").is_empty());
    }

    #[test]
    fn a_bad_row_is_a_value_and_the_next_is_read() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(1000));
        let bytes = [b"{\"a\": \"\xff\"}\n{\"a\" 1}\n" as &[u8], long.as_bytes(), b"\n{\"a\": 2}"].concat();
        let array =
            [b"[{\"a\": \"\xff\"}, {\"a\" 1},\n" as &[u8], long.as_bytes(), b", {\"a\": 2}]"].concat();
        for got in [read("a.jsonl", &bytes), read("a.json", &array)] {
            let reasons: Vec<_> = got.iter().map(|r| r.as_ref().err().map(|f| f.reason)).collect();
            let expected =
                [Some(Reason::UnreadableUtf8), Some(Reason::NotJson), Some(Reason::TooLongLine), None];
            assert_eq!(reasons, expected);
            let evidence = &got[2].as_ref().unwrap_err().evidence;
            assert!(evidence.starts_with(&format!("{} bytes", long.len())), "{evidence}");
        }
    }

    #[test]
    fn damaged_files_name_the_file_and_the_row() {
        let (good, text) = broken("a.json", b"[{\"a\": 1}, {\"a\": 2}, {\"a\"");
        assert!(good == 2 && text.contains("row 3"), "{good} {text}");
        let (good, text) = broken("a.json", b"[{\"a\": 1}, {\"a\": 2}]]");
        assert!(good == 2 && text.contains("after"), "{good} {text}");
        let (good, text) = broken("a.json", b"[{\"a\": 1}}, 2]");
        assert!(good <= 1 && text.contains("row"), "{good} {text}");
        let text: String = (0..20_000u64).map(|i| format!("{{\"a\": {}}}\n", i * 7_919 % 10_007)).collect();
        let whole = gzip(text.as_bytes());
        let (good, text) = broken("a.jsonl.gz", &whole[..whole.len() / 2]);
        assert!(good > 100 && text.contains(&format!("row {}", good + 1)), "{good} {text}");
    }

    #[test]
    fn missing_and_unknown_files_are_named() {
        for name in ["no-such.jsonl", "notes.txt", "a.parquet.gz"] {
            let error = format!("{:#}", rows(Path::new(name), 64).err().unwrap());
            assert!(error.contains(name), "{error}");
        }
        let (_dir, path) = file("a.parquet", b"not parquet at all");
        assert!(format!("{:#}", rows(&path, 64).err().unwrap()).contains("a.parquet"));
        let (_dir, path) = file("a.json", b"{\n  \"data\": []\n}");
        assert!(format!("{:#}", rows(&path, 64).err().unwrap()).contains("a.json"));
    }

    #[test]
    fn csv_has_a_header_row() {
        let got = read("a.csv", b"q,a\n\"1, \"\"2\"\"\n3\",x\nshort\n\xff,y\nlast,z");
        assert_eq!(got[0].as_ref().unwrap(), &json!({"q": "1, \"2\"\n3", "a": "x"}));
        assert_eq!(got[1].as_ref().unwrap_err().reason, Reason::UnknownShape);
        assert_eq!(got[2].as_ref().unwrap_err().reason, Reason::UnreadableUtf8);
        assert_eq!(got[3].as_ref().unwrap()["a"], "z");
    }

    #[test]
    fn a_line_over_the_limit_is_told_by_its_size() {
        let line = format!("{{\"text\": \"{}\"}}\n", "x".repeat(ROW_LIMIT + 5));
        let (_dir, path) = file("a.jsonl", format!("{line}{{\"text\": \"y\"}}\n").as_bytes());
        let got: Vec<Row> = rows(&path, ROW_LIMIT).unwrap().collect::<Result<_>>().unwrap();
        let fault = got[0].as_ref().unwrap_err();
        assert!(fault.evidence.starts_with(&format!("{} bytes", line.len() - 1)), "{}", fault.evidence);
        assert_eq!(got[1].as_ref().unwrap()["text"], "y");
    }
}
