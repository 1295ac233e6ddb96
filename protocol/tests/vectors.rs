//! The golden files in `vectors/`: every frame decodes from them and encodes back into them, byte
//! for byte. `UPDATE_VECTORS=1` writes them anew; a change of bytes is a change of the protocol.

mod support;

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Once};

use serde_json::{Value, json};
use support::{model::hex, model::unhex, vectors, with_prefix};
use tollgate_protocol::{BrokerFrame, ClientFrame, DispatchFrame, WorkerFrame, encode};

/// A vector: its name, its bytes with the prefix, and what `vectors.json` says about it.
struct Vector {
    name: String,
    wire: Vec<u8>,
    about: Value,
}

impl Vector {
    fn new(direction: &str, name: &str, frame: &[u8], value: &Value) -> Self {
        let (name, wire) = (format!("{direction}_{name}"), with_prefix(frame));
        let about =
            json!({"name": name, "direction": direction, "hex": hex(&wire), "frame": value});
        Vector { name, wire, about }
    }
}

fn all() -> Vec<Vector> {
    let value = |x: serde_json::Result<Value>| x.expect("every model is JSON");
    let mut all = Vec::new();
    for (name, frame) in vectors::client() {
        all.push(Vector::new("client", name, &frame.bytes(), &value(serde_json::to_value(&frame))));
    }
    all.push(Vector::new("broker", "alive", &[], &Value::Null));
    for (name, frame) in vectors::broker() {
        all.push(Vector::new("broker", name, &frame.bytes(), &value(serde_json::to_value(&frame))));
    }
    for (name, frame) in vectors::work::worker() {
        all.push(Vector::new("worker", name, &frame.bytes(), &value(serde_json::to_value(&frame))));
    }
    for (name, frame) in vectors::work::dispatch() {
        let json = value(serde_json::to_value(&frame));
        all.push(Vector::new("dispatch", name, &frame.bytes(), &json));
    }
    all
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// Thirty-two bytes a line.
fn lines(wire: &[u8]) -> String {
    wire.chunks(32).map(|line| hex(line) + "\n").collect()
}

/// Writes the files when asked to, before anything is read from them.
fn update() {
    static ONCE: Once = Once::new();
    if std::env::var_os("UPDATE_VECTORS").is_none() {
        return;
    }
    ONCE.call_once(|| {
        let index: Vec<Value> = all().into_iter().map(|v| v.about).collect();
        let index = serde_json::to_string_pretty(&index).expect("values are JSON") + "\n";
        fs::write(folder().join("vectors.json"), index).expect("vectors/ is writable");
        for v in all() {
            let file = folder().join(v.name + ".hex");
            fs::write(file, lines(&v.wire)).expect("vectors/ is writable");
        }
    });
}

#[test]
fn the_files_hold_these_vectors_and_no_others() {
    update();
    for v in all() {
        let file = folder().join(format!("{}.hex", v.name));
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(unhex(&text), v.wire, "{} has changed", v.name);
    }
    let found = fs::read_to_string(folder().join("vectors.json")).expect("vectors.json is there");
    let found: Vec<Value> = serde_json::from_str(&found).expect("vectors.json is JSON");
    for (found, v) in found.iter().zip(all()) {
        assert_eq!(*found, v.about, "vectors.json has changed");
    }
    assert_eq!(found.len(), all().len());
    let files: BTreeSet<_> = fs::read_dir(folder())
        .expect("vectors/ is there")
        .map(|f| f.expect("a file").file_name().into_string().expect("names are ASCII"))
        .collect();
    let expected: BTreeSet<_> = all()
        .into_iter()
        .map(|v| v.name + ".hex")
        .chain(["vectors.json", "README.md"].map(String::from))
        .collect();
    assert_eq!(files, expected);
}

fn on_file(direction: &str, name: &str) -> Vec<u8> {
    update();
    let file = folder().join(format!("{direction}_{name}.hex"));
    unhex(&fs::read_to_string(file).expect("the vector is there"))
}

#[test]
fn every_client_vector_decodes_to_its_value_and_back() {
    for (name, model) in vectors::client() {
        let wire = on_file("client", name);
        model.with(|expected| {
            assert_eq!(ClientFrame::decode(&wire[4..]), Ok(expected.clone()), "{name}");
            let mut out = Vec::new();
            encode(&expected, &mut out);
            assert_eq!(out, wire, "{name}");
        });
    }
}

#[test]
fn every_broker_vector_decodes_to_its_value_and_back() {
    assert_eq!(BrokerFrame::decode(&on_file("broker", "alive")[4..]), Ok(BrokerFrame::Alive));
    for (name, model) in vectors::broker() {
        let wire = on_file("broker", name);
        model.with(|expected| {
            assert_eq!(BrokerFrame::decode(&wire[4..]), Ok(expected.clone()), "{name}");
            let mut out = Vec::new();
            encode(&expected, &mut out);
            assert_eq!(out, wire, "{name}");
        });
    }
}

#[test]
fn every_vector_of_a_worker_decodes_to_its_value_and_back() {
    for (name, model) in vectors::work::worker() {
        let wire = on_file("worker", name);
        model.with(|expected| {
            assert_eq!(WorkerFrame::decode(&wire[4..]), Ok(expected.clone()), "{name}");
            let mut out = Vec::new();
            encode(&expected, &mut out);
            assert_eq!(out, wire, "{name}");
        });
    }
}

#[test]
fn every_vector_to_a_worker_decodes_to_its_value_and_back() {
    assert_eq!(DispatchFrame::decode(&on_file("broker", "alive")[4..]), Ok(DispatchFrame::Alive));
    for (name, model) in vectors::work::dispatch() {
        let wire = on_file("dispatch", name);
        model.with(|expected| {
            assert_eq!(DispatchFrame::decode(&wire[4..]), Ok(expected.clone()), "{name}");
            let mut out = Vec::new();
            encode(&expected, &mut out);
            assert_eq!(out, wire, "{name}");
        });
    }
}

#[test]
fn no_cut_of_a_vector_is_taken_for_a_frame() {
    for (name, model) in vectors::client() {
        let whole = model.bytes();
        for cut in 0..whole.len() {
            assert!(ClientFrame::decode(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
    for (name, model) in vectors::broker() {
        let whole = model.bytes();
        for cut in 1..whole.len() {
            assert!(BrokerFrame::decode(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
    for (name, model) in vectors::work::worker() {
        let whole = model.bytes();
        for cut in 0..whole.len() {
            assert!(WorkerFrame::decode(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
    for (name, model) in vectors::work::dispatch() {
        let whole = model.bytes();
        for cut in 1..whole.len() {
            assert!(DispatchFrame::decode(&whole[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

#[test]
fn bytes_after_a_vector_are_refused() {
    for (name, model) in vectors::client() {
        let more = [model.bytes(), vec![0]].concat();
        assert!(ClientFrame::decode(&more).is_err(), "{name}");
    }
    for (name, model) in vectors::broker() {
        let more = [model.bytes(), vec![0]].concat();
        assert!(BrokerFrame::decode(&more).is_err(), "{name}");
    }
    for (name, model) in vectors::work::worker() {
        let more = [model.bytes(), vec![0]].concat();
        assert!(WorkerFrame::decode(&more).is_err(), "{name}");
    }
    for (name, model) in vectors::work::dispatch() {
        let more = [model.bytes(), vec![0]].concat();
        assert!(DispatchFrame::decode(&more).is_err(), "{name}");
    }
}
