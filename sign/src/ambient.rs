//! Tokens that a pipeline or a cluster provides.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::client::{Asked, ServiceClient};
use crate::error::SignError;
use crate::token::IdentityToken;

/// The audience of tokens for Sigstore.
pub(crate) const AUDIENCE: &str = "sigstore";
/// Where a token is projected into a Pod, as cosign expects it.
const PROJECTED: &str = "/var/run/sigstore/cosign/oidc-token";

/// A token that the surroundings provide.
#[derive(Clone, PartialEq, Eq)]
pub enum AmbientIdentity {
    /// GitHub Actions gives one for each request.
    GithubActions {
        /// Where it is asked for.
        url: String,
        /// What allows the job to ask.
        bearer: String,
    },
    /// GitLab CI puts it into the variable `SIGSTORE_ID_TOKEN`.
    Gitlab(String),
    /// Kubernetes projects it into a file of the Pod.
    Projected(PathBuf),
}

#[derive(Deserialize)]
struct Given {
    value: String,
}

impl AmbientIdentity {
    /// What the environment provides; `None` on a person's own machine.
    pub fn detect(
        variable: impl Fn(&str) -> Option<String>,
        exists: impl Fn(&Path) -> bool,
    ) -> Option<AmbientIdentity> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let url = variable("ACTIONS_ID_TOKEN_REQUEST_URL");
        if let (Some(url), Some(bearer)) = (url, variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")) {
            return Some(AmbientIdentity::GithubActions { url, bearer });
        }
        if let Some(token) = variable("SIGSTORE_ID_TOKEN") {
            return Some(AmbientIdentity::Gitlab(token));
        }
        let projected = Path::new(PROJECTED);
        exists(projected).then(|| AmbientIdentity::Projected(projected.to_owned()))
    }

    /// Gets the token. `read` reads a file as text.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn token(
        &self,
        client: &dyn ServiceClient,
        read: impl FnOnce(&Path) -> Result<String, String>,
    ) -> Result<IdentityToken, SignError> {
        match self {
            AmbientIdentity::Gitlab(token) => IdentityToken::parse(token),
            AmbientIdentity::Projected(file) => {
                IdentityToken::parse(&read(file).map_err(SignError::Unusable)?)
            }
            AmbientIdentity::GithubActions { url, bearer } => {
                let odd = || {
                    SignError::Unusable("`ACTIONS_ID_TOKEN_REQUEST_URL` is not a URL".to_owned())
                };
                let mut url = Url::parse(url).map_err(|_| odd())?;
                url.query_pairs_mut().append_pair("audience", AUDIENCE);
                let asked = Asked {
                    client,
                    what: "token service of GitHub Actions",
                    url: &url,
                };
                let given: Given = asked.json(&asked.get(Some(bearer)).await?)?;
                IdentityToken::parse(&given.value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn detected(variables: &[(&str, &str)], has_file: bool) -> Option<AmbientIdentity> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let variable = |name: &str| variables.get(name).map(|it| (*it).to_owned());
        AmbientIdentity::detect(variable, |_| has_file)
    }

    #[test]
    fn the_token_of_a_pipeline_or_a_pod_is_found() {
        let github = [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://t.example/?a=b"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
        ];
        assert!(matches!(
            detected(&github, true),
            Some(AmbientIdentity::GithubActions { .. })
        ));
        let gitlab = [("SIGSTORE_ID_TOKEN", "t")];
        assert!(matches!(
            detected(&gitlab, true),
            Some(AmbientIdentity::Gitlab(_))
        ));
        assert!(matches!(
            detected(&[], true),
            Some(AmbientIdentity::Projected(_))
        ));
        assert!(detected(&[("SIGSTORE_ID_TOKEN", "")], false).is_none());
        assert!(detected(&github[..1], false).is_none());
    }
}
