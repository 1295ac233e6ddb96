//! The command line, through the real binary: what it writes, what it says, how it ends.

use std::{fs, path::Path};

use tempfile::TempDir;
use tollgate_tests::process::{Ran, Served, run, run_with, tollgate};

#[path = "cli/access.rs"]
mod access;
#[path = "cli/batch.rs"]
mod batch;
#[path = "cli/cert.rs"]
mod cert;
#[path = "cli/doctor.rs"]
mod doctor;
#[path = "cli/job.rs"]
mod job;
#[path = "cli/live.rs"]
mod live;
#[path = "cli/tenant.rs"]
mod tenant;
#[path = "cli/topic.rs"]
mod topic;
#[path = "cli/tree.rs"]
mod tree;
#[path = "cli/worker.rs"]
mod worker;

/// The exit codes that the help documents.
mod exit {
    pub const OK: i32 = 0;
    pub const FAILURE: i32 = 1;
    pub const USAGE: i32 = 2;
    pub const UNREACHABLE: i32 = 4;
    pub const UNAUTHORISED: i32 = 5;
    pub const QUOTA: i32 = 6;
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn write(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("written");
}

/// Shows that people are told all of this.
#[track_caller]
fn says(ran: &Ran, parts: &[&str]) {
    for part in parts {
        assert!(ran.stderr.contains(part), "{:?} does not say {part:?}", ran.stderr);
    }
}

/// An address where nobody listens: taken, and given back.
fn nobody() -> String {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.local_addr().expect("an address").to_string()
}

#[test]
fn help_teaches_and_documents_the_exit_codes() {
    let dir = directory();
    let help = run(dir.path(), ["--help"]).ends_with(exit::OK).stdout;
    for part in ["tollgate serve", "cert issue", "Exit codes", "4  the broker cannot be reached"] {
        assert!(help.contains(part), "{help} has no {part:?}");
    }
    for command in ["serve", "demo", "batch run", "recipe list", "cert issue", "doctor"] {
        let args = command.split(' ').chain(["--help"]);
        assert!(!run(dir.path(), args).ends_with(exit::OK).stdout.is_empty(), "{command}");
    }
    run(dir.path(), ["--version"]).ends_with(exit::OK);
    run(dir.path(), ["completions", "bash"]).ends_with(exit::OK);
    run(dir.path(), ["no-such-command"]).ends_with(exit::USAGE);
    run(dir.path(), [] as [&str; 0]).ends_with(exit::USAGE);
}

#[test]
fn serve_says_where_it_is_and_makes_what_it_needs() {
    let served = Served::start(&[]);
    let ready = &served.ready;
    assert_eq!(ready["ready"], true);
    assert_eq!(ready["tenants"], 1);
    assert_eq!(ready["data_dir"], "data");
    for made in ["data/dev-ca/ca.pem", "data/dev-ca/server/cert.pem"] {
        assert!(served.dir.path().join(made).exists(), "{made} was made");
    }
    let acme = served.issue(&["--tenant", "acme"]);
    let echo = served.run(&acme, &["batch", "run", "--recipe", "echo", "--payload", "hello"]);
    assert!(echo.ends_with(exit::OK).stdout.contains("hello"));

    // A second one cannot have the same port, and says so.
    let other = directory();
    let listen = served.addr.to_string();
    let args = ["serve", "--listen", &listen, "--http", "off", "--data-dir", "data"];
    let ran = run(other.path(), args).ends_with(exit::FAILURE);
    says(&ran, &[&listen, "cannot listen"]);
}

#[test]
fn a_broker_without_a_terminal_speaks_to_people_too() {
    let served = Served::start(&["--log-level", "debug"]);
    let line = served.logs("ready");
    let line: serde_json::Value = serde_json::from_str(&line).expect("a log line is JSON");
    assert_eq!(line["level"], "INFO");
    let ran = run(served.dir.path(), ["serve", "--log-level", "loud=="]).ends_with(exit::USAGE);
    says(&ran, &["log.level"]);
}

#[test]
fn config_check_names_what_is_wrong_and_where() {
    let dir = directory();
    let check = |args: &[&str]| run(dir.path(), ["config", "check"].iter().chain(args));
    check(&[]).ends_with(exit::OK);
    let cases = [
        ("an unknown key", "[limits]\nconection_max = 3\n", "conection_max"),
        ("an unknown section", "[limit]\n", "limit"),
        ("a wrong type", "[limits]\nconnections_max = \"many\"\n", "connections_max"),
        ("not TOML", "[limits\n", "bad.toml"),
        ("out of range", "[limits]\nframe_bytes_max = 1\n", "frame_bytes_max"),
        ("no credit for workers", "[workers]\ncredit_max = 0\n", "workers.credit_max"),
        ("more credit than there is", "[workers]\ncredit_max = 65537\n", "65536"),
        ("no line before workers", "[workers]\nqueue_per_tenant_max = 0\n", "queue_per_tenant_max"),
        ("jobs on their way, none", "[jobs]\nin_flight_max = 0\n", "jobs.in_flight_max"),
        ("too many recipes", "[workers]\nrecipes_per_tenant_max = 4097\n", "4096"),
        ("a recipe for ever", "[workers]\nrecipe_ttl_ms = 2592000001\n", "workers.recipe_ttl_ms"),
        ("half of TLS", "[tls]\ncertificate = \"a.pem\"\n", "tls.key"),
        ("no such quota", "[tenancy.profiles.free]\nbytes = 1\n", "bytes"),
        ("a trust domain that is none", "[tls]\ntrust_domain = \"A b\"\n", "tls.trust_domain"),
        ("a level that is none", "[log]\nlevel = \"a=b=c\"\n", "log.level"),
    ];
    for (what, text, part) in cases {
        write(dir.path(), "bad.toml", text);
        let ran = check(&["--config", "bad.toml"]);
        assert_eq!(ran.code, exit::USAGE, "{what}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(part), "{what}: {:?} does not name {part:?}", ran.stderr);
    }
    says(&check(&["--config", "missing.toml"]).ends_with(exit::USAGE), &["missing.toml"]);
    // All of it at once: in the layers, and in what they say and name.
    write(dir.path(), "bad.toml", "x = 1\n[limits]\nconection_max = 3\ny = 2\n");
    let ran = check(&["--config", "bad.toml", "--set", "http.z=1"]).ends_with(exit::USAGE);
    says(&ran, &["4 mistakes", "`x`", "conection_max", "limits.y", "http.z"]);
    let text = "[limits]\nframe_bytes_max = 1\n[log]\nlevel = \"verbose\"\n\
                [tls]\ncrls = [\"no.crl\"]\ndeny = \"no.deny\"\ntrust_domain = \"A b\"\n\
                [http]\noperator_token_file = \"no.token\"\n\
                [[http.tokens]]\ntenant = \"acme\"\nrole = \"client\"\nfile = \"short.token\"\n\
                [upstreams.a]\nurl = \"https://127.0.0.1:1\"\ntls_roots = \"no.a.pem\"\n";
    write(dir.path(), "bad.toml", text);
    write(dir.path(), "short.token", "short");
    let ran = check(&["--config", "bad.toml"]).ends_with(exit::USAGE);
    for part in
        ["frame_bytes_max", "verbose", "no.crl", "no.deny", "trust_domain", "no.token", "no.a.pem"]
    {
        says(&ran, &[part, "short.token"]);
    }
    says(&check(&["--set", "limits.nothing=1"]).ends_with(exit::USAGE), &["nothing"]);
    let mut variable = tollgate(dir.path());
    variable.args(["config", "check"]).env("TOLLGATE_LIMITS__NOTHING", "1");
    says(&run_with(&mut variable, "").ends_with(exit::USAGE), &["TOLLGATE_LIMITS__NOTHING"]);
    // What is wrong is not started either.
    write(dir.path(), "bad.toml", "[limits]\nconection_max = 3\n");
    let serve = run(dir.path(), ["serve", "--config", "bad.toml"]).ends_with(exit::USAGE);
    says(&serve, &["conection_max"]);
    assert!(!dir.path().join("tollgate-data").exists(), "nothing was made");
}

#[test]
fn a_list_that_is_named_and_not_there_is_an_error() {
    let dir = directory();
    for set in ["tls.crls=[\"no.pem\"]", "tls.deny=no.pem"] {
        let args = ["serve", "--listen", "127.0.0.1:0", "--http", "off", "--set", set];
        says(&run(dir.path(), args).ends_with(exit::FAILURE), &["no.pem is not there"]);
        let args = ["config", "check", "--set", set];
        says(&run(dir.path(), args).ends_with(exit::USAGE), &["no.pem is not there"]);
    }
}

#[test]
fn flags_go_over_variables_over_the_file_over_the_default() {
    let dir = directory();
    let print = |variable: Option<&str>, args: &[&str]| {
        let mut command = tollgate(dir.path());
        command.args(["config", "print", "--output", "json"]).args(args);
        if let Some(value) = variable {
            command.env("TOLLGATE_LIMITS__CONNECTIONS_MAX", value);
        }
        let json = run_with(&mut command, "").ends_with(exit::OK).json();
        json["limits"]["connections_max"].as_u64().expect("a number")
    };
    assert_eq!(print(None, &[]), 4_096);
    // The name that is looked for when none is given.
    write(dir.path(), "tollgate.toml", "[limits]\nconnections_max = 1\n");
    assert_eq!(print(None, &[]), 1);
    assert_eq!(print(Some("2"), &[]), 2);
    assert_eq!(print(Some("2"), &["--set", "limits.connections_max=3"]), 3);
    // What is printed can be read.
    let printed = run(dir.path(), ["config", "print"]).ends_with(exit::OK).stdout;
    write(dir.path(), "printed.toml", &printed);
    run(dir.path(), ["config", "check", "--config", "printed.toml"]).ends_with(exit::OK);
    let again = run(dir.path(), ["config", "print", "--config", "printed.toml"]);
    assert_eq!(again.ends_with(exit::OK).stdout, printed);
}

#[test]
fn the_examples_of_configuration_are_good() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config");
    let config = examples.join("tollgate.toml");
    let dir = directory();
    let args = ["config", "check", "--config"].map(std::ffi::OsStr::new);
    run(dir.path(), args.into_iter().chain([config.as_os_str()])).ends_with(exit::OK);
}

#[test]
fn recipes_are_listed_for_people_and_for_programs() {
    let served = Served::start(&[]);
    let acme = served.issue(&["--tenant", "acme"]);
    let table = served.run(&acme, &["recipe", "list"]).ends_with(exit::OK).stdout;
    let json = served.run(&acme, &["recipe", "list", "--output", "json"]).ends_with(exit::OK);
    let json = json.json();
    let list = json.as_array().expect("a list");
    let names: Vec<_> = list.iter().filter_map(|r| r["name"].as_str()).collect();
    let seven = ["csv.profile", "delay", "echo", "fail", "json.validate", "panic", "sha256"];
    assert_eq!(names, seven);
    assert!(seven.iter().all(|name| table.contains(name)), "{table}");
}
