//! Passwords from files: never from the command line, which other users of the machine can see.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Failure;

/// Largest password file in bytes.
const FILE_BYTES: u64 = 4096;

/// Reads a password; `-` is standard input. One line end at its end is not part of it.
pub fn read(path: &Path) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(FILE_BYTES + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes))
    };
    let name = path.display();
    read.map_err(|e| Failure::new(format_args!("cannot read password file {name}: {e}")))?;
    if bytes.len() as u64 > FILE_BYTES {
        let text = format!("password file {name} is longer than {FILE_BYTES} bytes");
        return Err(Failure::new(text));
    }
    let mut password = String::from_utf8(bytes)
        .map_err(|_| Failure::new(format_args!("password file {name} is not UTF-8 text")))?;
    if password.ends_with('\n') {
        password.pop();
        if password.ends_with('\r') {
            password.pop();
        }
    }
    Ok(password)
}
