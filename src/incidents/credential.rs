//! The credential of an incident check: from a file, or from the one Secret of the gate's namespace that is meant for it.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::ask::NoAnswer;
use crate::api::{
    CREDENTIALS_SECRET, CredentialForm, CredentialPlace, IncidentAuthentication, WrittenScheme,
};
use crate::cluster::{Cluster, cause};
use crate::files::read_regular_file;

/// The most bytes of a credential.
const CREDENTIAL_BYTES: usize = 16 << 10;
/// How long the API server may take for the Secret.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a request carries.
#[derive(Default)]
pub(super) struct Authenticated {
    pub(super) authorization: Option<HeaderValue>,
    /// A header that holds the credential alone.
    pub(super) header: Option<(HeaderName, HeaderValue)>,
}

/// Reads the credential, and puts it into its form.
pub(super) async fn authenticated(
    how: Option<&IncidentAuthentication>,
    cluster: Option<&Cluster>,
) -> Result<Authenticated, NoAnswer> {
    let Some(IncidentAuthentication { credential, form }) = how else {
        return Ok(Authenticated::default());
    };
    let (bytes, place) = match credential {
        CredentialPlace::File(path) => (of_file(path).await, format!("the file `{path}`")),
        CredentialPlace::SecretKey(key) => (
            of_secret(key, cluster).await,
            format!("the key `{key}` of the Secret `{CREDENTIALS_SECRET}`"),
        ),
    };
    let refused = |why: &str| NoAnswer::refused(format!("the credential in {place} {why}"));
    let bytes = bytes.map_err(|why| refused(&format!("cannot be read: {why}")))?;
    let text = String::from_utf8(bytes).map_err(|_| refused("is not UTF-8 text"))?;
    let text = text.trim();
    if text.is_empty() || text.len() > CREDENTIAL_BYTES {
        return Err(refused("is empty, or too long"));
    }
    let value = match form {
        CredentialForm::Header(_) => text.to_owned(),
        CredentialForm::Scheme(WrittenScheme::Bearer) => format!("Bearer {text}"),
        CredentialForm::Scheme(WrittenScheme::Token) => format!("Token token={text}"),
        CredentialForm::Scheme(WrittenScheme::Basic) if !text.contains(':') => {
            return Err(refused(
                "is not `user:password`, which the scheme `Basic` needs",
            ));
        }
        CredentialForm::Scheme(WrittenScheme::Basic) => format!("Basic {}", STANDARD.encode(text)),
    };
    let value = HeaderValue::try_from(value);
    let mut value = value.map_err(|_| refused("has characters that no header may carry"))?;
    value.set_sensitive(true);
    Ok(match form {
        CredentialForm::Scheme(_) => Authenticated {
            authorization: Some(value),
            header: None,
        },
        CredentialForm::Header(name) => Authenticated {
            authorization: None,
            header: Some((name.clone(), value)),
        },
    })
}

async fn of_file(path: &str) -> Result<Vec<u8>, String> {
    let path = path.to_owned();
    let limit = u64::try_from(CREDENTIAL_BYTES).unwrap_or_default();
    let read = spawn_blocking(move || read_regular_file(Path::new(&path), limit)).await;
    let read = read.map_err(|_| "a panic".to_owned())?;
    read.map_err(|error| error.to_string())
}

async fn of_secret(key: &str, cluster: Option<&Cluster>) -> Result<Vec<u8>, String> {
    let Some(cluster) = cluster else {
        return Err("there is no cluster to read it from; write `file` instead".to_owned());
    };
    let secrets: Api<Secret> = Api::namespaced(cluster.client(), cluster.namespace());
    let read = timeout(PATIENCE, secrets.get_opt(CREDENTIALS_SECRET)).await;
    let read = read.map_err(|_| "the API server did not answer in time".to_owned())?;
    let secret = read.map_err(|error| cause(&error))?.ok_or_else(|| {
        let namespace = cluster.namespace();
        format!("there is no such Secret in the namespace `{namespace}`")
    })?;
    let data = secret.data.unwrap_or_default();
    let value = data
        .get(key)
        .ok_or_else(|| "the Secret does not have it".to_owned())?;
    Ok(value.0.clone())
}
