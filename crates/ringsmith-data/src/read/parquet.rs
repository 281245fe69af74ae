//! Parquet, row by row, nested lists and groups included.

use super::{Row, Rows};
use anyhow::{Context, Result};
use parquet::file::reader::SerializedFileReader;
use parquet::record::Field;
use serde_json::{Map, Value};
use std::fs::File;

pub(super) fn rows(file: File, name: String) -> Result<Rows> {
    let reader = SerializedFileReader::new(file).with_context(|| format!("{name} is not Parquet"))?;
    let mut rows = reader.into_iter().enumerate();
    let mut broken = false;
    Ok(Box::new(std::iter::from_fn(move || {
        let (i, row) = if broken { None } else { rows.next() }?;
        broken = row.is_err();
        Some(row.with_context(|| format!("{name}: row {}: damaged", i + 1)).map(|row| {
            let fields = row.get_column_iter();
            Row::Ok(Value::Object(fields.map(|(key, field)| (key.clone(), value(field))).collect()))
        }))
    })))
}

fn value(field: &Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(v) => Value::from(*v),
        Field::Byte(v) => Value::from(*v),
        Field::Short(v) => Value::from(*v),
        Field::Int(v) => Value::from(*v),
        Field::Long(v) => Value::from(*v),
        Field::UByte(v) => Value::from(*v),
        Field::UShort(v) => Value::from(*v),
        Field::UInt(v) => Value::from(*v),
        Field::ULong(v) => Value::from(*v),
        Field::Float(v) => Value::from(*v),
        Field::Double(v) => Value::from(*v),
        Field::Str(v) => Value::from(v.as_str()),
        // Writers that leave out the string annotation store text as bytes.
        Field::Bytes(v) => Value::from(String::from_utf8_lossy(v.data())),
        Field::Group(row) => {
            Value::Object(row.get_column_iter().map(|(key, field)| (key.clone(), value(field))).collect())
        }
        Field::ListInternal(list) => Value::Array(list.elements().iter().map(value).collect()),
        Field::MapInternal(map) => Value::Object(
            map.entries()
                .iter()
                .map(|(key, field)| {
                    let key = match value(key) {
                        Value::String(text) => text,
                        other => other.to_string(),
                    };
                    (key, value(field))
                })
                .collect::<Map<String, Value>>(),
        ),
        // Dates, times, decimals and half floats, as Parquet prints them.
        other => Value::from(other.to_string()),
    }
}
