//! `tollgate cert init`: a new authority in a directory.

use std::path::PathBuf;

use tollgate_certs::{Authority, TrustDomain};

use crate::cli::output::{self, Output, say};

/// What `cert init` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  tollgate cert init --dir ca --trust-domain example.org

Writes ca.pem, which brokers and clients trust, ca.key, which nobody else may read, and crl.pem, a
list of revocations (tls.crls) that is empty so far. Whoever has the key can let anyone in: keep it off
the brokers.")]
pub(crate) struct Args {
    /// Where to; nothing there is ever overwritten
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The realm of all its identities; brokers have it as tls.trust_domain
    #[arg(long, value_name = "NAME", default_value_t)]
    trust_domain: TrustDomain,
    /// What the authority is called
    #[arg(long, value_name = "NAME", default_value = "Tollgate authority")]
    common_name: String,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let authority = Authority::create(&args.common_name, &args.trust_domain)?;
    authority.save(&args.dir)?;
    // The list is there before anyone is on it: a broker takes a missing one for a mistake.
    authority.revoke(&args.dir, &[])?;
    let dir = args.dir.display();
    match output {
        Output::Table => {
            say!("made an authority for spiffe://{} in {dir}", args.trust_domain)?;
            say!("  {dir}/ca.pem  to trust it")?;
            say!("  {dir}/ca.key  to issue with: keep it to yourself")?;
            say!("  {dir}/crl.pem  for tls.crls: nothing is revoked so far")?;
        }
        Output::Json => output::json(&serde_json::json!({
            "dir": args.dir,
            "trust_domain": args.trust_domain.as_str(),
        }))?,
    }
    Ok(())
}
