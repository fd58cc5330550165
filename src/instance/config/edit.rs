//! Changing values in the file's text and nothing else.

use std::path::Path;

use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::key::{HOST, LISTS, NUMBERS, TEXTS};
use crate::error::{Error, Kind, Result};

/// Most parts of a dotted key.
const PARTS: usize = 16;

/// The text with these dotted keys set; it is still to be checked as a whole.
pub fn edit(text: &str, path: &Path, values: &[(&str, &str)]) -> Result<String> {
    let mut document: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| {
        let what = e.message().replace('\n', ", ");
        Error::new(Kind::Config, format!("{}: {what}", path.display()))
    })?;
    for (key, value) in values {
        let parts = parts(key)?;
        let Some((last, tables)) = parts.split_last() else {
            return Err(unknown(key));
        };
        let mut table: &mut dyn TableLike = document.as_table_mut();
        for part in tables {
            let item = table.entry(part).or_insert_with(toml_edit::table);
            table = item.as_table_like_mut().ok_or_else(|| {
                Error::new(Kind::InvalidArgument, format!("key {key}: {part} is not a table"))
            })?;
        }
        put(table, last, value_of(key, value)?);
    }
    Ok(document.to_string())
}

fn unknown(key: &str) -> Error {
    Error::new(Kind::InvalidArgument, format!("there is no key {key:?} that can be set"))
}

/// The parts of a dotted key that can be set.
fn parts(key: &str) -> Result<Vec<&str>> {
    let parts: Vec<&str> = key.split('.').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let known = match parts.as_slice() {
        [HOST, _, ..] => true,
        [table, name] => {
            NUMBERS.iter().any(|n| n.table == *table && n.key == *name)
                || TEXTS.contains(&key)
                || LISTS.contains(&key)
        }
        [_] => TEXTS.contains(&key),
        _ => false,
    };
    if !known || parts.len() > PARTS || !parts.iter().all(plain) {
        return Err(unknown(key));
    }
    Ok(parts)
}

/// The value meant by a text: TOML, or for keys that hold texts the text itself.
fn value_of(key: &str, text: &str) -> Result<Value> {
    let parsed = text.trim().parse::<Value>();
    if TEXTS.contains(&key) {
        return Ok(match parsed {
            Ok(value) if value.is_str() => value,
            _ => Value::from(text),
        });
    }
    match parsed {
        Ok(value) => Ok(value),
        Err(_) if key.starts_with(HOST) => Ok(Value::from(text)),
        Err(_) => {
            let text = format!("key {key}: {text:?} is not a value in TOML");
            Err(Error::new(Kind::InvalidArgument, text))
        }
    }
}

/// Sets a key; an old value's surroundings (the comment behind it) stay.
fn put(table: &mut dyn TableLike, key: &str, mut value: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        _ => {
            *value.decor_mut() = toml_edit::Decor::default();
            table.insert(key, Item::Value(value));
        }
    }
}
