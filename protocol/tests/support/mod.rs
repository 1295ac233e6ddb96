//! What the suites share: a model of the format made by serde, values for it, named vectors.

// Every suite uses a part of it.
#![allow(dead_code)]

pub mod arbitrary;
pub mod model;
pub mod spec;
pub mod vectors;

/// A frame with its prefix.
pub fn with_prefix(frame: &[u8]) -> Vec<u8> {
    let len = u32::try_from(frame.len()).expect("test frames are short");
    [&len.to_be_bytes(), frame].concat()
}

/// Keeps a fuzz target's seeds as they are committed, or writes them under `UPDATE_VECTORS=1`.
pub fn seeds<'a>(target: &str, seeds: impl IntoIterator<Item = (&'a str, Vec<u8>)>) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/__fuzz__")
        .join(target)
        .join("corpus");
    for (name, bytes) in seeds {
        let file = folder.join(name);
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            std::fs::create_dir_all(&folder).expect("the corpus is writable");
            std::fs::write(&file, &bytes).expect("the corpus is writable");
        }
        let found = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(found == bytes, "{} is no longer the vector of its name", file.display());
    }
}
