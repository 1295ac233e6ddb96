//! `tollgate cert issue`: a certificate for whoever connects.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context;
use clap::ValueEnum;
use tollgate_certs::{Identity, Issued};
use tollgate_protocol::id::TenantId;

use super::{CaArgs, days, valid_for};
use crate::cli::{
    exit::Usage,
    format::from_now,
    output::{self, Output, say},
};

/// What `cert issue` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tollgate cert issue --tenant acme --out certs/acme
  tollgate cert issue --tenant acme --role worker --name resize-1 --out certs/resize-1
  tollgate cert issue --role gateway --name eu --out certs/eu
  tollgate cert issue --ca ca --tenant acme --days 7 --output json --out certs/acme")]
pub(crate) struct Args {
    #[command(flatten)]
    ca: CaArgs,
    /// What its holder is
    #[arg(long, value_enum, default_value_t)]
    role: RoleArg,
    /// The tenant, for clients and workers
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// The holder's own name, which others than clients and workers must have
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long it is valid
    #[arg(long, value_name = "DAYS", default_value = "90", value_parser = days)]
    days: Duration,
    /// Where to write cert.pem, key.pem and ca.pem; what is there is renewed
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// What the holder of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum RoleArg {
    /// Submits work for its tenant
    #[default]
    Client,
    /// Serves recipes for its tenant
    Worker,
    /// Serves recipes for every tenant
    PlatformWorker,
    /// Acts for the tenants that list it
    Gateway,
    /// Uses the admin API
    Operator,
}

pub(super) fn run(args: &Args, output: Output) -> anyhow::Result<()> {
    let identity = identity(args.role, args.tenant.as_deref(), args.name.as_deref())?;
    let (_, authority) = args.ca.load()?;
    let issued = authority.issue(&identity, &valid_for(args.days))?;
    write(&issued, &args.out, &identity.spiffe_id(authority.domain()), output)
}

fn identity(role: RoleArg, tenant: Option<&str>, name: Option<&str>) -> anyhow::Result<Identity> {
    let wrong = |why: &dyn std::fmt::Display| Usage::error(why.to_string());
    let of_tenant = matches!(role, RoleArg::Client | RoleArg::Worker);
    let identity = match (tenant, name) {
        (Some(tenant), name) if of_tenant => {
            let tenant =
                TenantId::parse(tenant).map_err(|e| wrong(&format!("--tenant {tenant}: {e}")))?;
            match role {
                RoleArg::Client => Identity::client(tenant, name),
                _ => Identity::tenant_worker(tenant, name),
            }
        }
        (None, _) if of_tenant => return Err(wrong(&"this role needs --tenant")),
        (Some(_), _) => return Err(wrong(&"this role has no tenant: leave --tenant out")),
        (None, None) => return Err(wrong(&"this role needs --name")),
        (None, Some(name)) => match role {
            RoleArg::PlatformWorker => Identity::platform_worker(name),
            RoleArg::Gateway => Identity::gateway(name),
            _ => Identity::operator(name),
        },
    };
    identity.map_err(|e| wrong(&e))
}

/// Writes what was issued, and says what it is.
pub(super) fn write(
    issued: &Issued,
    out: &Path,
    holder: &str,
    output: Output,
) -> anyhow::Result<()> {
    issued.write(out).with_context(|| format!("cannot write to {}", out.display()))?;
    match output {
        Output::Table => {
            say!("issued {holder} to {}", out.display())?;
            say!("  serial {}", issued.serial)?;
            say!("  expires {}", from_now(issued.not_after, SystemTime::now()))?;
        }
        Output::Json => output::json(&serde_json::json!({
            "holder": holder,
            "dir": out,
            "serial": issued.serial,
            "not_after": jiff::Timestamp::try_from(issued.not_after)?.to_string(),
        }))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_has_what_it_needs_and_nothing_else() {
        let id = |role, tenant, name| {
            identity(role, tenant, name)
                .map(|i| i.spiffe_id(&tollgate_certs::TrustDomain::default()))
                .map_err(|e| e.to_string())
        };
        let of = |path: &str| Ok(format!("spiffe://tollgate.local/{path}"));
        assert_eq!(id(RoleArg::Client, Some("acme"), None), of("tenant/acme/client"));
        assert_eq!(id(RoleArg::Worker, Some("acme"), Some("w1")), of("tenant/acme/worker/w1"));
        assert_eq!(id(RoleArg::PlatformWorker, None, Some("w1")), of("worker/w1"));
        assert_eq!(id(RoleArg::Gateway, None, Some("eu")), of("gateway/eu"));
        assert_eq!(id(RoleArg::Operator, None, Some("ann")), of("operator/ann"));
        assert!(id(RoleArg::Client, None, Some("x")).is_err_and(|e| e.contains("--tenant")));
        assert!(id(RoleArg::Gateway, Some("acme"), Some("x")).is_err_and(|e| e.contains("out")));
        assert!(id(RoleArg::Operator, None, None).is_err_and(|e| e.contains("--name")));
        assert!(id(RoleArg::Client, Some("Acme"), None).is_err_and(|e| e.contains("Acme")));
    }
}
