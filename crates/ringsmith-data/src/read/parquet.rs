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

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use serde_json::json;
    use std::sync::Arc;

    /// Two rows with a number, bytes that hold text, and a list of messages; the second list is empty.
    fn write() -> Vec<u8> {
        let schema = "message row {
            optional int64 n;
            required binary raw;
            required group messages (LIST) {
                repeated group list {
                    required group element {
                        required binary role (UTF8);
                        optional binary content (UTF8);
                    }
                }
            }
        }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut out = Vec::new();
        let properties = Arc::new(WriterProperties::builder().build());
        let mut writer = SerializedFileWriter::new(&mut out, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[7], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        let bytes = |text: &str| ByteArray::from(text);
        for (values, levels, repeats) in [
            (vec![bytes("r1"), bytes("é")], None, None),
            (vec![bytes("user"), bytes("assistant")], Some(vec![1, 1, 0]), Some(vec![0, 1, 0])),
            (vec![bytes("Q")], Some(vec![2, 1, 0]), Some(vec![0, 1, 0])),
        ] {
            let mut column = group.next_column().unwrap().unwrap();
            let (levels, repeats) = (levels.as_deref(), repeats.as_deref());
            column.typed::<ByteArrayType>().write_batch(&values, levels, repeats).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        out
    }

    #[test]
    fn nested_rows_become_json_and_a_cut_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let whole = write();
        std::fs::write(&path, &whole).unwrap();
        let read = || -> Result<Vec<Value>> {
            rows(File::open(&path)?, "a.parquet".into())?.map(|row| Ok(row?.unwrap())).collect()
        };
        let messages = json!([{"role": "user", "content": "Q"}, {"role": "assistant", "content": null}]);
        let expected = [
            json!({"n": 7, "raw": "r1", "messages": messages}),
            json!({"n": null, "raw": "é", "messages": []}),
        ];
        assert_eq!(read().unwrap(), expected);
        for end in [0, 3, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&path, &whole[..end]).unwrap();
            assert!(format!("{:#}", read().unwrap_err()).contains("a.parquet"), "{end}");
        }
    }
}
