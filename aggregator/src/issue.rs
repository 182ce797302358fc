//! The commands that create an authority and issue certificates.

use anyhow::Context as _;
use clap::Args;
use event_shipping::tls::{
    AUTHORITY_VALIDITY_DAYS, Authority, CERTIFICATE_VALIDITY_DAYS, Subject, development_authority,
};
use std::path::PathBuf;

/// The longest validity: ten years.
const MAX_VALIDITY_DAYS: i64 = 3_650;

#[derive(Args)]
pub(crate) struct CreateAuthority {
    /// The directory for ca.pem and ca.key; must not exist or be empty. Keep it from edges.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days until the authority expires, 1 to 3650.
    #[arg(long, default_value_t = AUTHORITY_VALIDITY_DAYS, value_parser = clap::value_parser!(u32).range(1..=MAX_VALIDITY_DAYS))]
    days: u32,
}

#[derive(Args)]
pub(crate) struct IssueEdge {
    /// The edge's node number, as in its settings: 1 to 65535.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    node: u16,
    #[command(flatten)]
    issue: Issue,
}

#[derive(Args)]
pub(crate) struct Issue {
    /// The directory of ca.pem and ca.key [default: `authority` next to --out].
    #[arg(long, value_name = "DIR")]
    authority: Option<PathBuf>,
    /// The directory for the certificate, its key and ca.pem; must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Days until the certificate expires, 1 to 3650.
    #[arg(long, default_value_t = CERTIFICATE_VALIDITY_DAYS, value_parser = clap::value_parser!(u32).range(1..=MAX_VALIDITY_DAYS))]
    days: u32,
}

impl CreateAuthority {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        Authority::create(&self.out, self.days)?;
        println!(
            "{}: ca.pem and ca.key; copy neither this directory nor ca.key to an edge",
            self.out.display()
        );
        Ok(())
    }
}

impl IssueEdge {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        self.issue.run(&Subject::Edge(vec![self.node]))
    }
}

impl Issue {
    pub(crate) fn run_for_aggregator(&self) -> anyhow::Result<()> {
        self.run(&Subject::Aggregator)
    }

    fn run(&self, subject: &Subject) -> anyhow::Result<()> {
        let next_to_out = || development_authority(&self.out);
        let dir = self.authority.clone().unwrap_or_else(next_to_out);
        let authority = Authority::open(&dir).context(
            "no authority to issue the certificate; name its directory with --authority, or create one: \
             aggregator create-authority --out DIR",
        )?;
        let certificate = authority.issue(subject, self.days, &self.out)?;
        println!(
            "{}: certificate of {subject}, {} days, SHA-256 fingerprint {}",
            self.out.display(),
            self.days,
            certificate.fingerprint()
        );
        Ok(())
    }
}
