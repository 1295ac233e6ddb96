use std::fs;

use super::*;

fn nothing() -> std::iter::Empty<(String, String)> {
    std::iter::empty()
}

fn variable(name: &str, value: &str) -> [(String, String); 1] {
    [(name.to_owned(), value.to_owned())]
}

/// A file that is there, so that no file of the working directory is read.
fn args(dir: &tempfile::TempDir, toml: &str) -> Args {
    let path = dir.path().join("t.toml");
    fs::write(&path, toml).expect("written");
    Args { config: Some(path), ..Args::default() }
}

#[track_caller]
fn refused(args: &Args, variables: &[(String, String)], parts: &[&str]) {
    let e = args.load_with(variables.to_vec()).expect_err("must be refused");
    assert!(e.is::<Usage>(), "{e:?}");
    let text = e.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[test]
fn flags_go_over_variables_over_the_file_over_defaults() {
    let dir = tempfile::tempdir().expect("a directory");
    let toml = "listen = \"127.0.0.1:1\"\ndata_dir = \"file\"\n[limits]\nmtu_max = 1400\n";
    let mut args = args(&dir, toml);
    let config = args.load_with(nothing()).expect("good");
    assert_eq!(config.listen.port(), 1);
    assert_eq!(config.limits.mtu_max, 1_400);
    assert_eq!(config.limits.streams_max, Config::default().limits.streams_max);

    let env = variable("TOLLGATE_LISTEN", "127.0.0.1:2");
    assert_eq!(args.load_with(env.clone()).expect("good").listen.port(), 2);
    args.listen = Some("127.0.0.1:3".parse().expect("an address"));
    args.set = vec!["limits.mtu_max=1300".into(), "log.level=warn,quinn=debug".into()];
    let config = args.load_with(env).expect("good");
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.data_dir, Some("file".into()));
    assert_eq!(config.limits.mtu_max, 1_300);
    assert_eq!(config.log.level, "warn,quinn=debug");
}

#[test]
fn variables_reach_sections_lists_and_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let vars = [
        ("TOLLGATE_LIMITS__FRAME_BYTES_MAX", "4194304"),
        ("TOLLGATE_TLS__ROOTS", "a.pem,b.pem"),
        ("TOLLGATE_TENANCY__GATEWAY_DEFAULT__CONNECTIONS", "7"),
        ("TOLLGATE_LIMITS__SEGMENTATION_OFFLOAD", "false"),
        ("TOLLGATE_TLS__TRUST_DOMAIN", "example.org"),
        // Not ours to judge.
        ("TOLLGATE_PORT_4433_UDP", "udp://10.0.0.1:4433"),
        ("TOLLGATE_SERVICE_HOST", "10.0.0.1"),
        ("TOLLGATE_CERTS", "certs/acme"),
        ("PATH", "/bin"),
    ];
    let vars = vars.map(|(k, v)| (k.to_owned(), v.to_owned()));
    let config = args(&dir, "").load_with(vars).expect("good");
    assert_eq!(config.limits.frame_bytes_max, 4 << 20);
    assert_eq!(config.tls.roots, [PathBuf::from("a.pem"), "b.pem".into()]);
    assert!(!config.limits.segmentation_offload);
    assert_eq!(config.tls.trust_domain, "example.org");
}

#[test]
fn a_key_that_does_not_exist_is_named_with_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = |toml| args(&dir, toml);
    refused(&a("[limits]\nmtu_maximum = 1"), &[], &["t.toml", "`limits.mtu_maximum`", "`mtu_max`"]);
    refused(&a("listn = \"x\""), &[], &["`listn`", "`listen`"]);
    refused(&a(""), &variable("TOLLGATE_LISTN", "x"), &["TOLLGATE_LISTN", "`listn`"]);
    let gateway = "[tenancy.gateways.eu]\nconections = 1";
    refused(&a(gateway), &[], &["`tenancy.gateways.eu.conections`", "`connections`"]);
    let mut set = a("");
    set.set = vec!["limit.mtu_max=1".into()];
    refused(&set, &[], &["--set limit.mtu_max=1", "`limit`"]);
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = |toml| args(&dir, toml);
    refused(&a("[limits]\nmtu_max = \"big\""), &[], &["t.toml", "limits.mtu_max"]);
    refused(&a("listen = \"nowhere\""), &[], &["t.toml", "listen"]);
    refused(&a("listen ="), &[], &["t.toml", "line 1"]);
    refused(&a(""), &variable("TOLLGATE_RUNTIME__THREADS", "many"), &["TOLLGATE_RUNTIME__THREADS"]);
    refused(&a("[limits]\nmtu_max = 9000"), &[], &["limits.mtu_max = 9000", "6553"]);
    let mut format = a("");
    format.log_format = Some("xml".into());
    refused(&format, &[], &["--log-format", "xml"]);
    let missing = Args { config: Some("/no/such/file.toml".into()), ..Args::default() };
    refused(&missing, &[], &["/no/such/file.toml"]);
}

#[test]
fn gateways_have_names_of_their_users_choice() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = args(&dir, "[tenancy.gateways.Edge-1]\nconnections = 3").load_with(nothing());
    let config = config.expect("good");
    assert!(config.tenancy.gateways.contains_key("Edge-1"), "{:?}", config.tenancy.gateways);
}

#[test]
fn what_differs_is_named() {
    let a = Config::default();
    let mut b = a.clone();
    b.limits.mtu_max = 1_400;
    b.tls.key = Some("k".into());
    assert_eq!(differing(&a, &b), ["limits.mtu_max", "tls.key"]);
    assert!(differing(&a, &a).is_empty());
}

#[test]
fn the_sample_file_shows_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config/tollgate.toml");
    let text = fs::read_to_string(&path).expect("the sample");
    let sample = Args { config: Some(path), ..Args::default() };
    let config = sample.load_with(nothing()).expect("good");
    let as_a_process = {
        let mut config = Config::default();
        config.http.enabled = true;
        config
    };
    assert_eq!(differing(&config, &as_a_process), [""; 0]);
    for key in keys::all() {
        let name = key.rsplit('.').next().expect("a name");
        let shown = |line: &str| line.trim_start_matches('#').contains(&format!("{name} = "));
        assert!(text.lines().any(shown), "the sample does not show `{key}`");
    }
}

/// The lines of the sample's upstream, as they would be without their comment signs.
fn sample_upstream() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/config/tollgate.toml");
    let text = fs::read_to_string(path).expect("the sample");
    let from = text.find("#[upstreams.").expect("an upstream");
    let lines = text[from..].lines().take_while(|line| line.starts_with('#'));
    lines.map(|line| format!("{}\n", &line[1..])).collect()
}

#[test]
fn the_sample_shows_every_key_of_an_upstream() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = sample_upstream();
    let config = args(&dir, &text).load_with(nothing()).expect("good");
    let (name, upstream) = config.upstreams.iter().next().expect("one");
    let recipe = upstream.recipes.keys().next().expect("a recipe");
    assert!(recipe.contains('.'), "a name of two words stays one: {recipe}");
    assert_eq!(name, "reports");
    for key in keys::of_upstreams() {
        let shown = |part: &str| {
            part.trim_start_matches([' ', '#', '{', ',']).starts_with(&format!("{key} = "))
        };
        let parts = text.lines().flat_map(|line| line.split([',', '{']));
        assert!(
            parts.filter(|part| part.contains(" = ")).any(shown),
            "the sample does not show `{key}`"
        );
    }
}

#[test]
fn a_key_of_an_upstream_that_does_not_exist_is_named_with_its_place() {
    let dir = tempfile::tempdir().expect("a directory");
    let a = |toml: &str| args(&dir, &format!("[upstreams.reports]\nurl = \"http://h\"\n{toml}"));
    refused(&a("urll = 1"), &[], &["`upstreams.reports.urll`", "`url`"]);
    refused(
        &a("[upstreams.reports.breaker]\nopen = 1"),
        &[],
        &["`upstreams.reports.breaker.open`"],
    );
    let recipe = "[upstreams.reports.recipes.\"a.b\"]\nmetod = \"GET\"";
    refused(&a(recipe), &[], &["`upstreams.reports.recipes.a.b.metod`", "`method`"]);
    refused(&a("[upstreams.reports.recipes.r]\nmethod = \"TRACE\""), &[], &["TRACE"]);
    refused(&a("headers = { Authorization = \"Bearer x\" }"), &[], &["Authorization", "a file"]);
    refused(&a("headers = { x = { fiel = \"a\" } }"), &[], &["t.toml"]);
    refused(&a("concurrency_max = 0"), &[], &["upstreams.reports.concurrency_max", "1 to 65536"]);
    refused(
        &args(&dir, "[upstreams.x]\nconcurrency_max = 1"),
        &[],
        &["upstreams.x.url: must be set"],
    );
}

#[test]
fn a_schema_in_the_configuration_stays_as_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "[upstreams.a]\nurl = \"http://h\"\n[upstreams.a.recipes.r.schema]\n\"$ref\" = \"#/$defs/T.x\"\n\
                [upstreams.a.recipes.r.schema.\"$defs\".\"T.x\"]\ntype = \"integer\"\nminimum = 3\n";
    let config = args(&dir, text).load_with(nothing()).expect("good");
    let expected = serde_json::json!({
        "$ref": "#/$defs/T.x", "$defs": {"T.x": {"type": "integer", "minimum": 3}},
    });
    assert_eq!(config.upstreams["a"].recipes["r"].schema, Some(expected));
}
