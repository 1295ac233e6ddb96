//! What a run leaves in a directory: the report as JSON and HTML, and a histogram a file.

use std::{fs, io, path::Path};

use super::{Report, hgrm, html};

/// Makes the directory before the load begins: one that cannot be written to is found out then.
///
/// # Errors
/// What the file system says.
pub fn prepare(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let probe = dir.join(".tollgate-loadgen");
    fs::write(&probe, b"")?;
    fs::remove_file(probe)
}

impl Report {
    /// Writes `report.json`, `report.html`, and a `.hgrm` for each tenant of each phase.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("report.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(dir.join("report.html"), html::page(self))?;
        for named in &self.histograms {
            let name = format!("{}.hgrm", file_name(&named.name));
            fs::write(dir.join(name), hgrm::text(&named.histogram))?;
        }
        Ok(())
    }
}

/// A name without what file systems do not take.
fn file_name(name: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    name.chars().map(plain).collect()
}
