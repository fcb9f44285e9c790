//! Certificates for real: made, and read.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::{GeneralName, ParsedExtension};

use super::rotation::Mint;
use super::{Error, Facts, Pair, Time};

/// Clocks differ: a certificate is valid a while before it was made, but not so long that a short one looked old.
const fn earlier(life: u64) -> u64 {
    let part = life / 10;
    if part < 3600 { part } else { 3600 }
}

/// Makes ECDSA P-256 keys and certificates.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rcgen;

impl Mint for Rcgen {
    fn authority(&mut self, now: Time, life: u64) -> Result<Pair, Error> {
        let fail = |error: rcgen::Error| Error::Issue { names: "an authority".to_owned(), why: error.to_string() };
        let key = KeyPair::generate().map_err(fail)?;
        // Two authorities have to be told apart by their name.
        let end: String = key.public_key_raw().iter().rev().take(8).map(|byte| format!("{byte:02x}")).collect();
        let mut params = params(&format!("bedplate-webhook-authority-{end}"), now, now + life);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).map_err(fail)?.pem();
        pair(certificate, key.serialize_pem(), "the authority just made")
    }

    fn serving(&mut self, authority: &Pair, names: &[String], now: Time, until: Time) -> Result<Pair, Error> {
        let fail = |error: rcgen::Error| Error::Issue { names: names.join(", "), why: error.to_string() };
        let signer = KeyPair::from_pem(&authority.key).map_err(fail)?;
        let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signer).map_err(fail)?;
        let mut params = params("bedplate-webhook", now, until);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(fail)?),
            });
        }
        let key = KeyPair::generate().map_err(fail)?;
        let certificate = params.signed_by(&key, &issuer).map_err(fail)?.pem();
        pair(certificate, key.serialize_pem(), "the certificate just made")
    }
}

fn params(name: &str, now: Time, until: Time) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |time: Time| OffsetDateTime::UNIX_EPOCH + Duration::seconds(i64::try_from(time).unwrap_or(i64::MAX / 4));
    params.not_before = at(now.saturating_sub(earlier(until.saturating_sub(now))));
    params.not_after = at(until);
    params
}

/// A certificate, or a chain with it in front, and its key; `what` names it in errors.
///
/// # Errors
/// PEM or DER that is none.
pub fn pair(certificate: String, key: String, what: &str) -> Result<Pair, Error> {
    let facts = facts(&certificate, what)?;
    Ok(Pair { certificate, key, facts })
}

/// What the first certificate of a PEM text says.
fn facts(pem: &str, what: &str) -> Result<Facts, Error> {
    let fail = |why: String| Error::Unreadable { what: what.to_owned(), why };
    let (_, pem) =
        x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|error| fail(format!("no PEM: {error}")))?;
    if pem.label != "CERTIFICATE" {
        return Err(fail(format!("expected a CERTIFICATE, found a {}", pem.label)));
    }
    let certificate = pem.parse_x509().map_err(|error| fail(format!("no X.509 certificate: {error}")))?;
    let common_name = |name: &x509_parser::x509::X509Name<'_>| {
        name.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or_default().to_owned()
    };
    let seconds = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let names = names.flatten().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    });
    Ok(Facts {
        id: common_name(certificate.subject()),
        issuer: common_name(certificate.issuer()),
        from: seconds(certificate.validity().not_before),
        until: seconds(certificate.validity().not_after),
        names: names.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_says_what_was_wanted() {
        let authority = Rcgen.authority(1_800_000_000, 1000).unwrap();
        let names = ["webhook.bedplate-system.svc".to_owned(), "127.0.0.1".to_owned()];
        let serving = Rcgen.serving(&authority, &names, 1_800_000_000, 1_800_000_500).unwrap();
        assert_eq!(serving.facts.names, names);
        assert_eq!(serving.facts.issuer, authority.facts.id);
        assert_eq!((authority.facts.from, authority.facts.until), (1_800_000_000 - 100, 1_800_001_000));
        assert_eq!(serving.facts.until, 1_800_000_500);
        assert_ne!(Rcgen.authority(1_800_000_000, 1000).unwrap().facts.id, authority.facts.id);
        assert!(!format!("{serving:?}").contains("PRIVATE"), "a key has no place in a log");
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        let told = |text: &str| pair(text.to_owned(), String::new(), "tls.crt").unwrap_err().to_string();
        assert!(told("").starts_with("tls.crt: no PEM"), "{}", told(""));
        assert!(told(&key).contains("expected a CERTIFICATE, found a PRIVATE KEY"), "{}", told(&key));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(told(broken).contains("no X.509 certificate"), "{}", told(broken));
    }
}
