//! Clients of cloud stores, set up from the variables of the environment that their own tools use.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{ObjectStore, RetryConfig};

use super::Failure;
use crate::codes;
use crate::storage::place::{Cloud, Service};

/// How long a request is repeated when the store does not answer or is overloaded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// Some seconds.
    Little,
    /// Some minutes: a checkpoint that comes late is better than a job that fails.
    Much,
}

impl Patience {
    fn retries(self) -> RetryConfig {
        match self {
            Patience::Little => RetryConfig {
                max_retries: 2,
                retry_timeout: Duration::from_secs(10),
                ..RetryConfig::default()
            },
            Patience::Much => RetryConfig::default(),
        }
    }
}

pub(super) fn client(url: &str, cloud: &Cloud, patience: Patience) -> Result<Arc<dyn ObjectStore>, Failure> {
    let Cloud { bucket, .. } = cloud;
    let retries = patience.retries();
    let built = match cloud.service {
        Service::S3 => {
            let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket).with_retry(retries);
            // Whoever names an endpoint without encryption means it.
            let plain = |name: &&str| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://"));
            let endpoints = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
            if endpoints.iter().any(plain) {
                builder = builder.with_allow_http(true);
            }
            builder.build().map(|client| Arc::new(client) as Arc<dyn ObjectStore>)
        }
        Service::Google => GoogleCloudStorageBuilder::from_env()
            .with_bucket_name(bucket)
            .with_retry(retries)
            .build()
            .map(|client| Arc::new(client) as Arc<dyn ObjectStore>),
        Service::Azure => MicrosoftAzureBuilder::from_env()
            .with_container_name(bucket)
            .with_retry(retries)
            .build()
            .map(|client| Arc::new(client) as Arc<dyn ObjectStore>),
    };
    built.map_err(|error| Failure {
        code: codes::URL,
        reason: format!("the settings for `{url}` in the environment do not do: {error}"),
    })
}
