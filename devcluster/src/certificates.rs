//! The certificates of a cluster: one authority, and a certificate for each part.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::run::{self, Result};

/// An authority that lives as long as its cluster.
#[derive(Debug)]
pub struct Authority {
    /// Its certificate, as PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// Where the system has no randomness.
    pub fn new() -> Result<Self> {
        let mut params = params("bedplate-devcluster", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = key()?;
        let certificate = params.self_signed(&key).map_err(text)?.pem();
        Ok(Self { certificate, issuer: Issuer::new(params, key) })
    }

    /// A certificate for the user `name` in `groups`, and for a server on `addresses` and `names`: its PEM and its key's.
    ///
    /// # Errors
    /// Where a name is no DNS name.
    pub fn issue(
        &self,
        name: &str,
        groups: &[&str],
        addresses: &[Ipv4Addr],
        names: &[&str],
    ) -> Result<(String, String)> {
        let mut params = params(name, groups);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = addresses.iter().map(|ip| SanType::IpAddress(IpAddr::V4(*ip))).collect();
        for name in names {
            params.subject_alt_names.push(SanType::DnsName((*name).try_into().map_err(text)?));
        }
        let key = key()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(text)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// The same, written to `NAME.crt` and `NAME.key` in `folder`.
    ///
    /// # Errors
    /// As [`Authority::issue`], and where the folder cannot be written to.
    pub fn write(&self, folder: &Path, file: &str, name: &str, groups: &[&str], addresses: &[Ipv4Addr]) -> Result<()> {
        let names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let (certificate, key) =
            self.issue(name, groups, addresses, if addresses.is_empty() { &[] } else { &names })?;
        write(&folder.join(format!("{file}.crt")), &certificate)?;
        write(&folder.join(format!("{file}.key")), &key)
    }
}

/// Writes a file.
///
/// # Errors
/// Where it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(run::file("write", path))
}

/// A key and its public half, as PEM: signs the tokens of service accounts.
///
/// # Errors
/// Where the system has no randomness.
pub fn signing_key() -> Result<(String, String)> {
    let key = key()?;
    Ok((key.serialize_pem(), key.public_key_pem()))
}

fn key() -> Result<KeyPair> {
    KeyPair::generate().map_err(text)
}

fn text(error: impl std::fmt::Display) -> String {
    format!("certificate: {error}")
}

fn params(name: &str, groups: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Kubernetes: the common name is the user, each organisation a group.
    params.distinguished_name.push(DnType::CommonName, name);
    for group in groups {
        params.distinguished_name.push(DnType::OrganizationName, *group);
    }
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::hours(1);
    params.not_after = now + time::Duration::days(30);
    params
}
