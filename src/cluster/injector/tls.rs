//! The certificate, which others replace while we run.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use anyhow::{Context, Result, anyhow, ensure};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use x509_parser::parse_x509_certificate;

use super::metrics::Metrics;

/// An API server's client for webhooks offers HTTP/1.1 alone; others may choose HTTP/2.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificate and key in a folder. They are read at each handshake: the kubelet replaces what
/// it mounts by moving symbolic links, which can't be watched without a race.
pub struct Certificates {
    dir: PathBuf,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// What was read last, whether or not it made sense.
    files: Option<Files>,
    /// What made sense last.
    config: Option<Arc<ServerConfig>>,
    /// Why what was read last makes no sense.
    problem: Option<String>,
}

#[derive(PartialEq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Certificates {
    pub fn new(dir: PathBuf, metrics: Arc<Metrics>) -> Self {
        Self {
            dir,
            metrics,
            state: Mutex::default(),
        }
    }

    /// What a handshake is to be made with now. If the files can't be read, or make no sense, this
    /// is what made sense last.
    ///
    /// # Errors
    ///
    /// If there have been no files that made sense.
    pub fn current(&self) -> Result<Arc<ServerConfig>> {
        let mut state = self.state.lock().unwrap();
        let news = match Files::read(&self.dir) {
            Ok(files) if state.files.as_ref() == Some(&files) => None,
            Ok(files) => {
                let result = files.config();
                state.files = Some(files);
                Some(result)
            }
            Err(error) => Some(Err(error)),
        };
        match news {
            None => {}
            Some(Ok((config, expiry))) => {
                tracing::info!(dir = %self.dir.display(), "certificate loaded");
                self.metrics.certificate(expiry);
                state.config = Some(Arc::new(config));
                state.problem = None;
            }
            Some(Err(error)) => {
                let problem = format!("{error:#}");
                if state.problem.as_ref() != Some(&problem) {
                    tracing::warn!("certificate: {problem}");
                    self.metrics.certificate_failure();
                    state.problem = Some(problem);
                }
            }
        }
        state.config.clone().ok_or_else(|| {
            let problem = state.problem.as_deref().unwrap_or_default();
            anyhow!("no certificate: {problem}")
        })
    }
}

impl Files {
    fn read(dir: &Path) -> Result<Self> {
        let read = |name| {
            let path = dir.join(name);
            fs::read(&path).with_context(|| format!("read {}", path.display()))
        };
        Ok(Self {
            certificate: read("tls.crt")?,
            key: read("tls.key")?,
        })
    }

    /// Also when the certificate expires, in seconds since 1970.
    fn config(&self) -> Result<(ServerConfig, i64)> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .context("tls.crt is not PEM")?;
        ensure!(!chain.is_empty(), "tls.crt has no certificate");
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("tls.key has no key in PEM")?;
        let (_, leaf) = parse_x509_certificate(&chain[0]).context("tls.crt is no certificate")?;
        let expiry = leaf.validity().not_after.timestamp();
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("tls.crt with tls.key")?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
        Ok((config, expiry))
    }
}
