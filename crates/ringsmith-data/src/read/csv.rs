//! CSV with a header row; every value is a string.

use super::{Row, Rows};
use crate::ledger::{Fault, Reason};
use anyhow::{Context, Result};
use csv::{ByteRecord, ReaderBuilder};
use serde_json::{Map, Value};
use std::io::Read;

pub(super) fn rows(input: impl Read + Send + 'static, name: String, limit: usize) -> Result<Rows> {
    let mut reader = ReaderBuilder::new().flexible(true).from_reader(input);
    let header: Vec<String> = reader
        .headers()
        .with_context(|| format!("{name}: the header row is damaged"))?
        .iter()
        .map(str::to_owned)
        .collect();
    let records = reader.into_byte_records().enumerate();
    Ok(Box::new(records.map(move |(i, record)| {
        let record = record.with_context(|| format!("{name}: row {}: damaged", i + 1))?;
        Ok(row(&header, &record, limit))
    })))
}

fn row(header: &[String], record: &ByteRecord, limit: usize) -> Row {
    if record.as_slice().len() > limit {
        return Err(Fault::new(Reason::TooLongLine, format!("{} bytes", record.as_slice().len())));
    }
    if record.len() != header.len() {
        let evidence = format!("{} fields, the header has {}", record.len(), header.len());
        return Err(Fault::new(Reason::UnknownShape, evidence));
    }
    let mut object = Map::new();
    for (key, value) in header.iter().zip(record) {
        let value = std::str::from_utf8(value)
            .map_err(|error| Fault::new(Reason::UnreadableUtf8, format!("column {key}: {error}")))?;
        object.insert(key.clone(), Value::from(value));
    }
    Ok(Value::Object(object))
}
