//! Who signs: a key, a token, the surroundings' token, or a person with a browser.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderValue;
use jiff::Timestamp;
use promotion_gate_core::attest::{Anchor, PublicKey, TrustRoot};
use promotion_gate_core::gate::{Approver, DEFAULT_TRUST_ROOT, Digest, Identity, TrustRoots};
use promotion_gate_sign::{
    AmbientIdentity, BrowserSignIn, IdentityToken, PlannedSigner, ServiceAnswer, ServiceClient,
    ServiceRequest, SignError, SignedBundle, SigningIdentity, SigningKey, SigningPlan,
    SigningServices,
};
use url::Url;

use super::SIGN_IN;
use super::terminal::password;
use crate::config::{Config, variable};
use crate::files::read_file;
use crate::oci::web::{Asked, Web};
use crate::text::line;

/// The largest key, token or configuration.
const MAXIMUM_FILE: u64 = 1 << 20;

// Who signs, and where.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct SignerArgs {
    /// Sign with a private key: PKCS#8 (PEM), or a key of `cosign generate-key-pair` (password from COSIGN_PASSWORD)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Sign with this identity token (a JWT of an OpenID Connect provider), or the one in this file, which is read again when it expires
    #[arg(long, value_name = "TOKEN|FILE", conflicts_with = "key")]
    identity_token: Option<String>,
    /// The services that sign: a `SigningConfig` (v0.2); the public-good instance of Sigstore when absent
    #[arg(long, value_name = "FILE")]
    signing_config: Option<PathBuf>,
    /// The `trusted_root.json` that belongs to the services; the one that the policies name when absent
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
}

/// Everything that signs.
pub(in crate::cli) struct Signing {
    services: SigningServices,
    client: Services,
    source: Source,
    identity: SigningIdentity,
    plan: SigningPlan,
    root: Arc<TrustRoot>,
}

/// Where the identity comes from.
enum Source {
    Key,
    Token,
    /// A file, into which a new token may be written: the kubelet does that with the token of a service account.
    File(PathBuf),
    Ambient(AmbientIdentity),
    Browser,
}

impl Source {
    /// Says which file holds the token that expired.
    fn named(&self, error: SignError) -> SignError {
        match (self, error) {
            (Source::File(file), SignError::Expired(why)) => in_file(file, why),
            (_, error) => error,
        }
    }
}

impl Signing {
    pub(in crate::cli) async fn prepare(
        args: &SignerArgs,
        config: &Config,
        (known, named): (&TrustRoots, &BTreeSet<String>),
        is_unattended: bool,
    ) -> anyhow::Result<Signing> {
        let now = Timestamp::now();
        let services = match &args.signing_config {
            Some(file) => {
                let json = read(file)?;
                SigningServices::parse(&format!("`{}`", file.display()), &json, now)?
            }
            None => SigningServices::public_good(now)?,
        };
        let root = args.root(known, named)?;
        let client = Services::new(config)?;
        let (source, identity) = args.identity(&services, &client, is_unattended).await?;
        let plan = SigningPlan::new(&services, &identity, now);
        let plan = plan.map_err(|error| source.named(error))?;
        Ok(Signing {
            services,
            client,
            source,
            identity,
            plan,
            root,
        })
    }

    pub(in crate::cli) fn plan(&self) -> &SigningPlan {
        &self.plan
    }

    pub(in crate::cli) fn origin(&self) -> &str {
        &self.services.origin
    }

    pub(in crate::cli) fn approver(&self) -> Approver {
        Approver {
            identity: match &self.plan.signer {
                PlannedSigner::Key(key) => Identity::Key(key.clone()),
                PlannedSigner::Identity(identity) => Identity::Certificate {
                    issuer: identity.issuer.clone(),
                    name: identity.name.clone(),
                },
            },
            root: Arc::clone(&self.root),
            is_logged: self.plan.is_logged(),
            is_timed: self.plan.has_time,
        }
    }

    /// The anchor under which the gate verifies what is signed here.
    pub(in crate::cli) fn anchor(&self) -> anyhow::Result<Anchor> {
        Ok(match &self.identity {
            SigningIdentity::Token(_) => Anchor::Root(Arc::clone(&self.root)),
            SigningIdentity::Key(key) => Anchor::Key {
                key: Arc::new(PublicKey::from_pem(&key.public_pem())?),
                root: Some(Arc::clone(&self.root)),
            },
        })
    }

    /// Signs. A token that expired while the person was reading is renewed where that is possible, for the same identity.
    pub(in crate::cli) async fn sign(
        &mut self,
        what: (&[u8], &Digest),
    ) -> anyhow::Result<SignedBundle> {
        let now = Timestamp::now();
        let (plan, identity) = (&self.plan, &self.identity);
        let signed = plan
            .sign(&self.client, identity, what, &self.root, now)
            .await;
        let expired = match signed {
            Err(SignError::Expired(why)) => why,
            other => return Ok(other?),
        };
        let token = match &self.source {
            Source::Key | Source::Token => bail!("{expired}"),
            Source::File(file) => token_in(file)?,
            Source::Ambient(ambient) => ambient.token(&self.client, read_text).await?,
            Source::Browser => sign_in(&self.services, &self.client).await?,
        };
        let now = Timestamp::now();
        let identity = SigningIdentity::Token(Box::new(token));
        let plan = SigningPlan::new(&self.services, &identity, now);
        let plan = plan.map_err(|error| self.source.named(error))?;
        if plan.signer != self.plan.signer {
            let again = match &self.source {
                Source::File(file) => format!("the token in `{}` is now of", file.display()),
                _ => "you signed in again as".to_owned(),
            };
            bail!(
                "{again} {}, and what was shown was for {}; nothing was signed",
                line(&plan.signer.to_string()),
                line(&self.plan.signer.to_string())
            );
        }
        self.identity = identity;
        let (plan, identity) = (&self.plan, &self.identity);
        let signed = plan
            .sign(&self.client, identity, what, &self.root, now)
            .await;
        Ok(signed.map_err(|error| self.source.named(error))?)
    }
}

impl SignerArgs {
    fn root(&self, known: &TrustRoots, named: &BTreeSet<String>) -> anyhow::Result<Arc<TrustRoot>> {
        if let Some(file) = &self.trust_root {
            let name = file.display().to_string();
            return Ok(Arc::new(TrustRoot::parse(&name, &read(file)?)?));
        }
        // What the public-good services sign is verified by their own root.
        let is_private = self.signing_config.is_some();
        let configured = named.iter().filter(|_| is_private);
        let configured = configured.clone().find_map(|name| known.get(name));
        let default = configured.or_else(|| known.get(DEFAULT_TRUST_ROOT));
        let root =
            default.context("the configuration has no trust root; name one with `--trust-root`")?;
        Ok(Arc::clone(root))
    }

    async fn identity(
        &self,
        services: &SigningServices,
        client: &Services,
        is_unattended: bool,
    ) -> anyhow::Result<(Source, SigningIdentity)> {
        if let Some(file) = &self.key {
            let pem = String::from_utf8(read(file)?);
            let pem = pem.with_context(|| format!("`{}` is not UTF-8 text", file.display()))?;
            let key = SigningKey::from_pem(&pem, password)?;
            return Ok((Source::Key, SigningIdentity::Key(Box::new(key))));
        }
        let (source, token) = if let Some(given) = &self.identity_token {
            given_token(given)?
        } else if let Some(ambient) = AmbientIdentity::detect(variable, Path::is_file) {
            let token = ambient.token(client, read_text).await?;
            (Source::Ambient(ambient), token)
        } else if is_unattended && !std::io::stderr().is_terminal() {
            bail!(
                "there is no identity to sign with: give `--key` or `--identity-token`; a job of GitHub Actions has one with `permissions: {{id-token: write}}`, and a job of GitLab with `id_tokens: {{SIGSTORE_ID_TOKEN: {{aud: sigstore}}}}`"
            );
        } else {
            (Source::Browser, sign_in(services, client).await?)
        };
        Ok((source, SigningIdentity::Token(Box::new(token))))
    }
}

/// The token that is given, or the one in the file that is named.
fn given_token(given: &str) -> anyhow::Result<(Source, IdentityToken)> {
    let file = Path::new(given);
    // A token is never the name of a file that exists, and it never begins like a path.
    let is_path = ["/", "./", "../", "~"]
        .iter()
        .any(|it| given.starts_with(it));
    if is_path || file.exists() {
        return Ok((Source::File(file.to_owned()), token_in(file)?));
    }
    let token = IdentityToken::parse(given);
    let token = token.context("what `--identity-token` gives is not a file that exists")?;
    Ok((Source::Token, token))
}

fn token_in(file: &Path) -> anyhow::Result<IdentityToken> {
    let bytes = read_file(file, MAXIMUM_FILE).map_err(|error| unreadable(file, &error))?;
    let text = String::from_utf8(bytes).map_err(|_| in_file(file, "it is not UTF-8 text"))?;
    IdentityToken::parse(&text).map_err(|error| in_file(file, error).into())
}

/// Why there is no token in a file.
fn unreadable(file: &Path, error: &io::Error) -> SignError {
    let hint = match error.kind() {
        ErrorKind::NotFound => {
            "; in a Pod, a projected volume makes the file: `serviceAccountToken: {audience: sigstore, path: …}`"
        }
        ErrorKind::PermissionDenied => {
            "; the user who runs this command has to be able to read it: in a Pod, set `fsGroup`"
        }
        ErrorKind::IsADirectory => "; name the file in it",
        _ => "",
    };
    let file = file.display();
    SignError::Unusable(format!(
        "the identity token `{file}` cannot be read: {error}{hint}"
    ))
}

/// What is wrong with the token in a file.
fn in_file(file: &Path, why: impl Display) -> SignError {
    SignError::Unusable(format!("`{}`: {why}", file.display()))
}

async fn sign_in(services: &SigningServices, client: &Services) -> anyhow::Result<IdentityToken> {
    let provider = services.identity_provider().with_context(|| {
        let origin = &services.origin;
        format!("{origin} names no identity provider that people sign in to; give `--key` or `--identity-token`")
    })?;
    let begun = BrowserSignIn::begin(client, provider).await?;
    print_error!(
        "sign in with your browser:\n  {}",
        line(begun.page().as_str())
    );
    open(begun.page());
    Ok(begun.finish(client, SIGN_IN).await?)
}

/// Opens a page in a browser, where there is a desktop. The address is printed anyway.
fn open(page: &Url) {
    let program = match cfg!(target_os = "macos") {
        true => "open",
        false => "xdg-open",
    };
    let has_desktop = cfg!(target_os = "macos")
        || variable("DISPLAY").is_some()
        || variable("WAYLAND_DISPLAY").is_some();
    if has_desktop && std::io::stderr().is_terminal() {
        let _ = std::process::Command::new(program)
            .arg(page.as_str())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_file(file, MAXIMUM_FILE).with_context(|| format!("`{}` cannot be read", file.display()))
}

fn read_text(file: &Path) -> Result<String, String> {
    let bytes = read(file).map_err(|error| format!("{error:#}"))?;
    String::from_utf8(bytes).map_err(|_| format!("`{}` is not UTF-8 text", file.display()))
}

/// The services, through the transport that reads registries.
struct Services(Web);

impl Services {
    fn new(config: &Config) -> anyhow::Result<Services> {
        Ok(Services(Web::new(&config.client_options())?))
    }
}

impl ServiceClient for Services {
    fn exchange<'a>(
        &'a self,
        request: ServiceRequest<'a>,
    ) -> BoxFuture<'a, Result<ServiceAnswer, String>> {
        async move {
            let bearer = request.bearer.map(|token| {
                let mut header = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
                header.set_sensitive(true);
                Some(header)
            });
            let bearer = match bearer {
                Some(None) => return Err("the token is not a valid header value".to_owned()),
                other => other.flatten(),
            };
            let asked = Asked {
                url: request.url,
                accept: request.accept,
                authorization: bearer.as_ref(),
                headers: &[],
                content: request.content.map(|it| (it.media_type, it.bytes)),
                limit: request.limit,
            };
            let answer = self
                .0
                .exchange(&asked)
                .await
                .map_err(|error| error.to_string())?;
            Ok(ServiceAnswer {
                status: answer.status.as_u16(),
                location: answer.header("location").map(str::to_owned),
                body: answer.body.to_vec(),
            })
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_token_that_another_user_may_read_is_said_how_this_one_may() {
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        let said = unreadable(Path::new("/var/run/sigstore/token"), &denied).to_string();
        for part in [
            "`/var/run/sigstore/token` cannot be read: permission denied",
            "set `fsGroup`",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
