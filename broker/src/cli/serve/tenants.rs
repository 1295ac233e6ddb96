//! The tenants of a first start: a broker without any would turn everybody away.

use std::{fs, io::Write};

use anyhow::Context;
use tollgate_broker::Config;

/// Whether the file of tenants was made just now.
#[derive(Debug, Clone, Copy)]
pub(super) struct TenantsMade(pub bool);

/// The file that is made: one tenant, and everything else that can be set as comments.
const SAMPLE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/config/tenants.toml"));

/// With no file of tenants configured, takes the one in the data directory, and makes it there
/// when it is missing. One that is configured is never made: its absence is a mistake.
pub(super) fn when_needed(config: &mut Config) -> anyhow::Result<TenantsMade> {
    let (None, Some(dir)) = (&config.tenancy.tenants_file, &config.data_dir) else {
        return Ok(TenantsMade(false));
    };
    let path = dir.join("tenants.toml");
    let make = || -> std::io::Result<bool> {
        fs::create_dir_all(dir)?;
        match fs::File::create_new(&path) {
            Ok(mut file) => {
                file.write_all(SAMPLE.as_bytes())?;
                file.sync_all().map(|()| true)
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(e) => Err(e),
        }
    };
    let made = make().with_context(|| format!("cannot make {}", path.display()))?;
    config.tenancy.tenants_file = Some(path);
    Ok(TenantsMade(made))
}

#[cfg(test)]
mod tests {
    use tollgate_broker::tenancy::TenantsFile;

    use super::*;

    #[test]
    fn the_sample_is_a_good_file_with_one_tenant_even_when_all_of_it_is_used() {
        let file = TenantsFile::parse(SAMPLE).expect("good");
        assert_eq!(file.tenants.len(), 1);
        let example = SAMPLE.split_once("with its default:\n").expect("the commented part").1;
        let bare = |line: &str| line.trim_start_matches('#').trim_start().to_owned();
        let example: Vec<String> = example.lines().map(bare).collect();
        let file = TenantsFile::parse(&example.join("\n")).expect("good");
        assert!(file.profiles.contains_key("small"));
        let (_, globex) = file.tenants.first_key_value().expect("globex");
        let defaults = tollgate_broker::tenancy::Settings::default();
        assert_eq!(globex.quotas, defaults.quotas);
        assert_eq!((globex.concurrency, globex.weight), (defaults.concurrency, defaults.weight));
    }

    #[test]
    fn it_is_made_once_and_never_where_one_is_configured() {
        let dir = tempfile::tempdir().expect("a directory");
        let data_dir = Some(dir.path().join("data"));
        let config = Config { data_dir, ..Config::default() };
        let mut first = config.clone();
        assert!(when_needed(&mut first).expect("made").0);
        assert!(first.tenancy.tenants_file.as_ref().is_some_and(|path| path.exists()));
        assert!(!when_needed(&mut config.clone()).expect("found").0);
        let mut configured = config;
        configured.tenancy.tenants_file = Some("/no/such/file".into());
        assert!(!when_needed(&mut configured).expect("left alone").0);
    }
}
