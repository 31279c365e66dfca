//! Certificates, in a folder that the kubelet could have mounted.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SerialNumber, date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate for `localhost`, and its key.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// One that expires at the end of 2039.
    pub fn pair(&self, serial: u64) -> Pair {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(2040, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A folder whose files are replaced as the kubelet does it (AtomicWriter in
/// k8s.io/kubernetes/pkg/volume/util): they are links by way of `..data`, itself a link, which is
/// moved.
pub struct Mount {
    dir: PathBuf,
    versions: u32,
}

impl Mount {
    pub fn new(dir: &Path, pair: &Pair) -> Self {
        fs::create_dir(dir).unwrap();
        let mut mount = Self {
            dir: dir.into(),
            versions: 0,
        };
        mount.swap(pair);
        for name in ["tls.crt", "tls.key"] {
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
        mount
    }

    pub fn swap(&mut self, pair: &Pair) {
        let old = fs::read_link(self.dir.join("..data")).ok();
        self.versions += 1;
        let version = format!("..2026_01_10_09_00_00.{}", self.versions);
        let files = self.dir.join(&version);
        fs::create_dir(&files).unwrap();
        fs::write(files.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(files.join("tls.key"), &pair.key).unwrap();
        symlink(&version, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.dir.join(old)).unwrap();
        }
    }
}
