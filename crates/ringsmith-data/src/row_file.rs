//! The row file: packed rows on disk, written once as a stream, read at random through a memory map.
//!
//! ```text
//! "RINGROWS"  version u32  length u32  rows u64  index u64  digest [u8; 32]
//! row: check u32, documents u32, then each: source u16, tokens u32, ids u32 x tokens, mask u8 x tokens
//! index: names u32, then each: bytes u32, text; offset u64 of every row and of the index
//! ```
//! All numbers are little-endian. `digest` is of the header's numbers and the index, `check` of its row.

use crate::row::{Row, Sample};
use anyhow::{Context, Result, anyhow, bail, ensure};
use memmap2::Mmap;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"RINGROWS";
const VERSION: u32 = 1;
const HEADER: usize = 64;

/// Writes a row file row by row. Until [`RowWriter::finish`] the file does not open.
pub struct RowWriter {
    path: PathBuf,
    out: BufWriter<File>,
    length: u32,
    offsets: Vec<u64>,
    at: u64,
}

impl RowWriter {
    /// Starts a file of rows of at most `length` tokens.
    pub fn create(path: &Path, length: usize) -> Result<RowWriter> {
        let length = u32::try_from(length).context("a row's length must fit 32 bits")?;
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut writer =
            RowWriter { path: path.into(), out: BufWriter::new(file), length, offsets: vec![], at: 0 };
        writer.write(&[0; HEADER])?;
        Ok(writer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.at += bytes.len() as u64;
        self.out.write_all(bytes).with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Appends a row.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        let tokens: usize = row.docs.iter().map(|doc| doc.tokens.len()).sum();
        assert!(tokens <= self.length as usize, "a row of {tokens} tokens in a file of {}", self.length);
        let mut bytes = Vec::with_capacity(4 + 6 * row.docs.len() + 5 * tokens);
        bytes.extend((row.docs.len() as u32).to_le_bytes());
        for doc in &row.docs {
            assert_eq!(doc.tokens.len(), doc.mask.len(), "tokens and mask of a document");
            bytes.extend(doc.source.to_le_bytes());
            bytes.extend((doc.tokens.len() as u32).to_le_bytes());
            bytes.extend(doc.tokens.iter().flat_map(|token| token.to_le_bytes()));
            bytes.extend(&doc.mask);
        }
        self.offsets.push(self.at);
        self.write(&check(&bytes))?;
        self.write(&bytes)
    }

    /// Writes the index with the source names and makes the file complete on disk.
    pub fn finish(mut self, sources: &[String]) -> Result<()> {
        let index = self.at;
        let mut bytes = Vec::new();
        bytes.extend((sources.len() as u32).to_le_bytes());
        for name in sources {
            bytes.extend((name.len() as u32).to_le_bytes());
            bytes.extend(name.as_bytes());
        }
        self.offsets.push(index);
        bytes.extend(self.offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        self.write(&bytes)?;
        let mut header = MAGIC.to_vec();
        header.extend(VERSION.to_le_bytes());
        header.extend(self.length.to_le_bytes());
        header.extend((self.offsets.len() as u64 - 1).to_le_bytes());
        header.extend(index.to_le_bytes());
        let digest = digest(&header, &bytes);
        header.extend(digest);
        (|| {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(&header)?;
            self.out.flush()?;
            self.out.get_ref().sync_all()
        })()
        .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

fn digest(header: &[u8], index: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(header).update(index).finalize().as_bytes()
}

fn check(row: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(row).as_bytes();
    [a, b, c, d]
}

/// An open row file.
pub struct RowFile {
    path: PathBuf,
    map: Mmap,
    length: usize,
    offsets: Vec<u64>,
    sources: Vec<String>,
}

impl RowFile {
    /// Opens a finished file. A file that is cut short or whose header or index is damaged is an error that
    /// names it; a row's own bytes are checked when it is read.
    pub fn open(path: &Path) -> Result<RowFile> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        // SAFETY: a row file is complete and immutable once it carries its header; bytes that another
        // program changes under the map are data only and are checked against their digests.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))?;
        RowFile::parse(path, map).with_context(|| format!("{} is not a whole row file", path.display()))
    }

    fn parse(path: &Path, map: Mmap) -> Result<RowFile> {
        ensure!(map.len() >= HEADER, "{} bytes are too few", map.len());
        ensure!(&map[..8] == MAGIC, "it does not begin with RINGROWS");
        let mut header = Cursor(&map[8..32]);
        let (version, length) = (header.u32()?, header.u32()? as usize);
        ensure!(version == VERSION, "it has version {version}, this program reads {VERSION}");
        let (rows, start) = (header.u64()? as usize, header.u64()? as usize);
        let index = map.get(start..).context("it is cut short")?;
        ensure!(
            start >= HEADER && digest(&map[..32], index) == map[32..HEADER],
            "it is cut short or damaged"
        );
        let mut index = Cursor(index);
        let sources = (0..index.u32()?)
            .map(|_| {
                let bytes = index.u32()? as usize;
                Ok(String::from_utf8(index.take(bytes)?.to_vec())?)
            })
            .collect::<Result<_>>()?;
        let offsets: Vec<u64> = (0..=rows).map(|_| index.u64()).collect::<Result<_>>()?;
        let ordered = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        ensure!(ordered && offsets[rows] == start as u64, "its offsets are damaged");
        Ok(RowFile { path: path.into(), map, length, offsets, sources })
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The most tokens a row may have.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The names that the samples' `source` numbers stand for.
    pub fn sources(&self) -> &[String] {
        &self.sources
    }

    /// Row `i`, which must be below [`RowFile::len`]. The error names the file and the row (from 1).
    pub fn get(&self, i: usize) -> Result<Row> {
        let bytes = &self.map[self.offsets[i] as usize..self.offsets[i + 1] as usize];
        self.row(bytes).with_context(|| format!("{}: row {} is damaged", self.path.display(), i + 1))
    }

    fn row(&self, bytes: &[u8]) -> Result<Row> {
        let (sum, bytes) = bytes.split_at_checked(4).context("too short")?;
        ensure!(check(bytes) == sum, "its check does not match");
        let mut cursor = Cursor(bytes);
        let docs = (0..cursor.u32()?)
            .map(|_| {
                let source = cursor.u16()?;
                let tokens = cursor.u32()? as usize;
                let ids = cursor.take(tokens.checked_mul(4).context("too many tokens")?)?;
                let ids = ids.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]]));
                Ok(Sample { tokens: ids.collect(), mask: cursor.take(tokens)?.to_vec(), source })
            })
            .collect::<Result<_>>()?;
        if !cursor.0.is_empty() {
            bail!("{} bytes are left over", cursor.0.len());
        }
        Ok(Row { docs })
    }
}

/// Reads numbers off the front of some bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(|| anyhow!("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let sample = |n: u32, source| Sample {
            tokens: (0..n).map(|i| i * 70_001).collect(),
            mask: (0..n).map(|i| (i % 4) as u8).collect(),
            source,
        };
        vec![
            Row { docs: vec![sample(5, 0), sample(3, 1)] },
            Row::default(),
            Row { docs: vec![sample(8, 1), sample(0, 0)] },
        ]
    }

    fn write(path: &Path) -> Vec<u8> {
        let mut writer = RowWriter::create(path, 8).unwrap();
        for row in rows() {
            writer.push(&row).unwrap();
        }
        writer.finish(&["gsm8k".into(), "ünï".into()]).unwrap();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn rows_come_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        write(&path);
        let file = RowFile::open(&path).unwrap();
        assert_eq!((file.len(), file.length(), file.is_empty()), (3, 8, false));
        assert_eq!(file.sources(), ["gsm8k", "ünï"]);
        for i in [2, 0, 1, 2] {
            assert_eq!(file.get(i).unwrap(), rows()[i]);
        }
    }

    #[test]
    fn any_cut_and_any_changed_byte_is_noticed_and_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        let whole = write(&path);
        let read = || -> Result<()> {
            let file = RowFile::open(&path)?;
            (0..file.len()).try_for_each(|i| file.get(i).map(drop))
        };
        read().unwrap();
        for end in 0..whole.len() {
            std::fs::write(&path, &whole[..end]).unwrap();
            let error = format!("{:#}", read().unwrap_err());
            assert!(error.contains("a.rows"), "{end}: {error}");
        }
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            let error = format!("{:#}", read().expect_err(&format!("byte {at}")));
            assert!(error.contains("a.rows"), "{at}: {error}");
        }
        let missing = format!("{:#}", RowFile::open(&dir.path().join("b.rows")).err().unwrap());
        assert!(missing.contains("b.rows"), "{missing}");
    }

    #[test]
    fn an_unfinished_file_does_not_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.rows");
        let mut writer = RowWriter::create(&path, 8).unwrap();
        writer.push(&rows()[0]).unwrap();
        drop(writer);
        assert!(RowFile::open(&path).is_err());
    }
}
