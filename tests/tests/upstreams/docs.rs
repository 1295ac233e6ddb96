//! The walk through docs/upstreams.md, as it stands: the service, the broker, the commands.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tollgate_tests::process::{Served, binary, run_with};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The example's service. Killed when dropped.
struct Reports(Child);

impl Drop for Reports {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Commands of the page's blocks of shell, each with the text that it is said to show.
fn examples() -> Vec<(String, String)> {
    let page = fs::read_to_string(repository().join("docs/upstreams.md")).expect("the page");
    let block = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut examples = Vec::new();
    let mut command = String::new();
    for line in block.expect("a block of shell").lines() {
        match line.strip_prefix("# ") {
            None => line.clone_into(&mut command),
            Some(shown) => examples.push((std::mem::take(&mut command), shown.to_owned())),
        }
    }
    examples
}

#[test]
fn the_walk_through_does_what_it_says() {
    let mut python = Command::new("python3");
    python.arg(repository().join("examples/upstream/reports.py")).args(["--port", "0"]);
    let mut child = python.stdout(Stdio::piped()).spawn().expect("python3 runs");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("piped");
    let reports = Reports(child);
    BufReader::new(stdout).read_line(&mut line).expect("readable");
    let url = line.trim().strip_prefix("listening on ").expect("an address");

    let dir = tempfile::tempdir().expect("a directory");
    let config = repository().join("examples/upstream/tollgate.toml");
    let config = fs::read_to_string(config).expect("the configuration");
    let config = config.replace("http://127.0.0.1:9000", url);
    fs::write(dir.path().join("tollgate.toml"), config).expect("written");
    let served = Served::start_in(dir, "127.0.0.1:0", &[]);
    let certs = served.issue(&["--tenant", "acme"]);

    let examples = examples();
    assert!(examples.len() >= 5, "{examples:?}");
    for (command, shown) in examples {
        let tollgate = binary().display().to_string();
        let script = command.replacen("tollgate", &tollgate, 1).replace("certs/acme", &certs);
        let mut bash = Command::new("bash");
        bash.current_dir(served.dir.path()).args(["-c", &script]);
        bash.env("TOLLGATE_ADDR", served.addr.to_string()).env("NO_COLOR", "1");
        let ran = run_with(&mut bash, "");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert!(said.contains(&shown), "{command}\n{said}");
    }
    drop(reports);
}
