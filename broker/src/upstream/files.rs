//! The files that an upstream's section names: read whole, with a bound.

use std::{fs, io::Read, path::Path};

use super::error::Problem;

/// The content of a regular file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    let wrong = |source| Problem::File { path: path.to_owned(), source };
    // A pipe would block the thread for good.
    if !fs::metadata(path).map_err(wrong)?.is_file() {
        return Err(content(path, "not a regular file"));
    }
    let mut bytes = Vec::new();
    let mut file = fs::File::open(path).map_err(wrong)?.take(FILE_BYTES_MAX + 1);
    file.read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(content(path, &format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

/// The first line of a file, without its end; never empty.
pub(super) fn first_line(path: &Path) -> Result<String, Problem> {
    let text = String::from_utf8(read(path)?).map_err(|_| content(path, "not UTF-8"))?;
    match text.lines().next().map(str::trim_end) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(content(path, "its first line is empty")),
    }
}

pub(super) fn content(path: &Path, problem: &str) -> Problem {
    Problem::Content { path: path.to_owned(), problem: problem.to_owned() }
}

/// Room for every root certificate that there is.
const FILE_BYTES_MAX: u64 = 4 << 20;
