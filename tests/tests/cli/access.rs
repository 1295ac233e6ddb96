//! Who the API lets the command line be: certificates, tokens, and what is never sent.

use tollgate_tests::process::{Served, run};

use super::{directory, exit, says, write};

/// A broker whose API wants to know who asks.
fn guarded() -> Served {
    let dir = directory();
    write(dir.path(), "operator.token", "0123456789abcdef0123\n");
    write(dir.path(), "acme.token", "acme-acme-acme-acme\n");
    write(dir.path(), "unknown.token", "nobody-nobody-nobody\n");
    let config = "[http]\ntls = true\noperator_token_file = \"operator.token\"\n\
                  [[http.tokens]]\ntenant = \"acme\"\nrole = \"client\"\nfile = \"acme.token\"\n";
    write(dir.path(), "guarded.toml", config);
    Served::start_in(dir, "127.0.0.1:0", &["--config", "guarded.toml"])
}

#[test]
fn a_certificate_or_a_token_says_who_asks() {
    let served = guarded();
    let operator = served.issue(&["--role", "operator", "--name", "ann"]);
    let acme = served.issue(&["--tenant", "acme"]);
    let api = format!("https://localhost:{}", served.http().port());
    let ca = "data/dev-ca/ca.pem";
    let list = |more: &[&str]| {
        let common = ["tenant", "list", "--api", &api];
        run(served.dir.path(), [&common[..], more].concat())
    };
    list(&["--certs", &operator]).ends_with(exit::OK);
    list(&["--ca", ca, "--token-file", "operator.token"]).ends_with(exit::OK);
    says(&list(&["--certs", &acme]).ends_with(exit::UNAUTHORISED), &["FORBIDDEN"]);
    let tenants = ["--ca", ca, "--token-file", "acme.token"];
    says(&list(&tenants).ends_with(exit::UNAUTHORISED), &["FORBIDDEN"]);
    let unknown = ["--ca", ca, "--token-file", "unknown.token"];
    says(&list(&unknown).ends_with(exit::UNAUTHORISED), &["UNAUTHORIZED"]);
    says(&list(&["--ca", ca]).ends_with(exit::UNAUTHORISED), &["UNAUTHORIZED"]);

    // A tenant may look at itself, and at nobody else.
    let usage = |tenant: &str| {
        let common = ["tenant", "usage", tenant, "--api", &api];
        run(served.dir.path(), [&common[..], &tenants].concat())
    };
    usage("acme").ends_with(exit::OK);
    says(&usage("globex").ends_with(exit::FAILURE), &["NOT_FOUND"]);
}

#[test]
fn what_is_not_trusted_or_not_readable_is_told() {
    let served = guarded();
    let dir = served.dir.path();
    let port = served.http().port();
    // Another authority.
    run(dir, ["cert", "init", "--dir", "other"]).ends_with(exit::OK);
    let api = format!("https://localhost:{port}");
    let list = |more: &[&str]| run(dir, [&["tenant", "list", "--api", &api], more].concat());
    let other = ["--ca", "other/ca.pem", "--token-file", "operator.token"];
    says(&list(&other).ends_with(exit::UNAUTHORISED), &["is not trusted"]);
    for (args, part) in [
        (&[][..], "--certs"),
        (&["--certs", "nowhere"], "nowhere"),
        (&["--ca", "missing.pem"], "missing.pem"),
        (&["--ca", "operator.token"], "operator.token"),
        (&["--ca", "other/ca.pem", "--token-file", "missing.token"], "missing.token"),
    ] {
        says(&list(args).ends_with(exit::USAGE), &[part]);
    }
    // A token does not leave the machine in the clear; nothing is sent to find that out.
    let open = ["tenant", "list", "--api", "http://192.0.2.1", "--token-file", "operator.token"];
    says(&run(dir, open).ends_with(exit::USAGE), &["https"]);
    let in_url = ["tenant", "list", "--api", "https://ann:secret@localhost"];
    says(&run(dir, in_url).ends_with(exit::USAGE), &["--token-file"]);
}
