//! Whether the API server can trust what the injector shows it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use rustls::CertificateError::{BadSignature, ExpiredContext, NotValidYetContext, UnknownIssuer};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{Error, RootCertStore};

use crate::cluster::check::report::{Outcome, Problem, error, warning};

/// Sooner than that, it is time to see to another: Linkerd's own limit.
const SOON: Duration = Duration::from_secs(60 * 24 * 3600);

/// What the injector has, and what the API server is to verify it by.
pub struct Certificate {
    /// Its own, and what is between that and an authority.
    chain: Vec<CertificateDer<'static>>,
    verifier: Arc<WebPkiServerVerifier>,
    host: ServerName<'static>,
}

impl Certificate {
    /// Reads both PEMs.
    ///
    /// # Errors
    /// If one is not of certificates.
    pub fn read(pem: &[u8], authorities: &[u8], host: &str) -> Result<Self> {
        let bundle = "read the webhook's caBundle";
        let mut roots = RootCertStore::empty();
        for authority in certificates(authorities).context(bundle)? {
            roots.add(authority).context(bundle)?;
        }
        let provider = ring::default_provider().into();
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider);
        Ok(Self {
            chain: certificates(pem).context("read the injector's tls.crt")?,
            verifier: verifier.build().context(bundle)?,
            host: ServerName::try_from(host.to_owned())?,
        })
    }

    /// Whether it is for this host, from one of the authorities, and valid now.
    pub fn is_valid(&self) -> Outcome {
        self.verify(SystemTime::now()).map_err(|e| {
            Problem::Error(match e {
                Error::InvalidCertificate(ExpiredContext { not_after, .. }) => {
                    format!("it was valid until {}", date(not_after))
                }
                Error::InvalidCertificate(NotValidYetContext { not_before, .. }) => {
                    format!("it is valid from {} on", date(not_before))
                }
                Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
                    "it is not from an authority in the webhook's caBundle".into()
                }
                e => e.to_string(),
            })
        })
    }

    /// Whether it is valid for some time to come.
    pub fn lasts(&self) -> Outcome {
        match self.verify(SystemTime::now() + SOON) {
            Err(Error::InvalidCertificate(ExpiredContext { not_after, .. })) => {
                warning(format!("it is valid until {}", date(not_after)))
            }
            Err(e) => error(e.to_string()),
            Ok(()) => Ok(()),
        }
    }

    fn verify(&self, at: SystemTime) -> Result<(), Error> {
        let since = at.duration_since(SystemTime::UNIX_EPOCH);
        let now = UnixTime::since_unix_epoch(since.unwrap_or_default());
        let (own, between) = self.chain.split_first().expect("none is refused");
        let verified = self
            .verifier
            .verify_server_cert(own, between, &self.host, &[], now);
        verified.map(drop)
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if all.is_empty() {
        bail!("there is no certificate in it");
    }
    Ok(all)
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|e| e.to_string(), |at| at.to_string())
}
