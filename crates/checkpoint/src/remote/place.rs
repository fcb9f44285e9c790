//! URLs of stores. Pure but for the environment, which has the credentials.

use std::str::FromStr;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, RetryConfig};

use super::told::Service;
use super::{Arc, Bucket, MultipartStore, ObjectStore, Remote};
use crate::error::{Error, Result};
use crate::store::Access;

/// A service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    S3,
    Google,
    Azure,
}

/// Schemes of URLs.
const SCHEMES: [(&str, Kind); 6] = [
    ("s3", Kind::S3),
    ("s3a", Kind::S3),
    ("gs", Kind::Google),
    ("az", Kind::Azure),
    ("abfs", Kind::Azure),
    ("abfss", Kind::Azure),
];

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    kind: Kind,
    bucket: String,
    prefix: String,
}

/// Reads `s3://bucket/prefix`.
fn parse(url: &str) -> std::result::Result<Place, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let Some((_, kind)) = SCHEMES.iter().find(|(known, _)| *known == scheme) else {
        let known: Vec<&str> = SCHEMES.iter().map(|(known, _)| *known).collect();
        return Err(format!("`{scheme}` is no scheme of an object store: give one of {}", known.join(", ")));
    };
    let (authority, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let bucket = if *kind == Kind::Azure { authority.split('@').next().unwrap_or_default() } else { authority };
    // Said without the URL, which has a secret in it.
    if bucket.contains(['@', ':']) || rest.contains(['?', '#']) {
        return Err(
            "a URL of checkpoints is a bucket and a prefix; credentials are read from the environment".to_owned()
        );
    }
    if bucket.is_empty() {
        return Err(format!("a bucket is missing: give {scheme}://BUCKET/PREFIX"));
    }
    let prefix = Path::parse(prefix.trim_matches('/')).map_err(|error| format!("{url}: {error}"))?;
    Ok(Place { kind: *kind, bucket: bucket.to_owned(), prefix: prefix.to_string() })
}

/// Opens the store at a URL. Asks nothing of the service yet.
pub(crate) fn open(url: &str, access: &Access) -> Result<Remote> {
    let patience = access.patience;
    let place = parse(url).map_err(Error::Input)?;
    // Whoever uses this crate may have chosen another one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    let retry = RetryConfig { backoff, max_retries: usize::MAX, retry_timeout: patience };
    let service = |name: String, credentials, endpoint| {
        let bucket = place.bucket.clone();
        Service { name, bucket, credentials, endpoint, patience }
    };
    let bucket = match place.kind {
        Kind::S3 => {
            let builder = configured(AmazonS3Builder::new(), access, "AWS_", AmazonS3Builder::with_config)
                .with_url(url)
                .with_retry(retry);
            let address = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
            let region = builder.get_config_value(&AmazonS3ConfigKey::Region);
            let amazon = || format!("Amazon S3 in {}", region.as_deref().unwrap_or("us-east-1"));
            let service = service(
                address.unwrap_or_else(amazon),
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the role of the pod",
                "AWS_ENDPOINT_URL and AWS_REGION",
            );
            bucket(builder.build(), service)
        }
        Kind::Google => bucket(
            configured(GoogleCloudStorageBuilder::new(), access, "GOOGLE_", GoogleCloudStorageBuilder::with_config)
                .with_url(url)
                .with_retry(retry)
                .build(),
            service(
                "Google Cloud Storage".to_owned(),
                "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS, or the service account of the pod",
                "the network of the pod",
            ),
        ),
        Kind::Azure => bucket(
            configured(MicrosoftAzureBuilder::new(), access, "AZURE_", MicrosoftAzureBuilder::with_config)
                .with_url(url)
                .with_retry(retry)
                .build(),
            service(
                "Azure Blob Storage".to_owned(),
                "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the identity of the pod",
                "AZURE_STORAGE_ACCOUNT_NAME",
            ),
        ),
    };
    Ok(Remote::new(bucket?, place.prefix, url.trim_end_matches('/').to_owned()))
}

/// Sets what the environment says, as `from_env` of these builders does: each variable with this beginning that is known.
fn configured<B, K: FromStr>(builder: B, access: &Access, begin: &str, set: fn(B, K, String) -> B) -> B {
    let ours = access.environment.iter().filter(|(name, _)| name.starts_with(begin));
    ours.fold(builder, |builder, (name, value)| match name.to_ascii_lowercase().parse() {
        Ok(key) => set(builder, key, value.clone()),
        Err(_) => builder,
    })
}

fn bucket<S: ObjectStore + MultipartStore>(built: object_store::Result<S>, service: Service) -> Result<Bucket> {
    let objects = Arc::new(built.map_err(|error| Error::Input(service.told(&error).to_string()))?);
    Ok(Bucket { multipart: Arc::clone(&objects) as _, objects, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_bucket_and_a_prefix() {
        let place =
            |kind, bucket: &str, prefix: &str| Ok(Place { kind, bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        assert_eq!(parse("s3://ckpt/team/run-7/"), place(Kind::S3, "ckpt", "team/run-7"));
        assert_eq!(parse("gs://ckpt"), place(Kind::Google, "ckpt", ""));
        let azure = parse("abfss://container@account.dfs.core.windows.net/run-7");
        assert_eq!(azure, place(Kind::Azure, "container", "run-7"));
    }

    #[test]
    fn what_is_no_place_for_checkpoints_is_told_and_a_secret_is_not_repeated() {
        let told = |url: &str| parse(url).unwrap_err();
        let all = ["http://x/y", "s3:///run", "s3://AKIA:hush@ckpt/run", "az://c/run?sig=hush", "s3://ckpt/a//b"];
        let text = all.map(told).join("\n");
        assert!(!text.contains("hush"));
        insta::assert_snapshot!(text, @r#"
        `http` is no scheme of an object store: give one of s3, s3a, gs, az, abfs, abfss
        a bucket is missing: give s3://BUCKET/PREFIX
        a URL of checkpoints is a bucket and a prefix; credentials are read from the environment
        a URL of checkpoints is a bucket and a prefix; credentials are read from the environment
        s3://ckpt/a//b: Path "a//b" contained empty path segment
        "#);
    }
}
