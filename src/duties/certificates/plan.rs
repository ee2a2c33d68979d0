//! The certificates of the webhook: what the Secret holds, what is due at an instant, and the renewal. Nothing here reads a clock or the
//! cluster.
//!
//! The Secret holds `ca.crt` (every CA that clients have to trust, the newest first), `ca.key` (the key of the newest CA), `tls.crt` and
//! `tls.key` (the serving certificate and its key).

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::time::Instant;
use x509_cert::Certificate as X509;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::BasicConstraints as WrittenConstraints;

/// How long before it was made a certificate is valid, for clocks that are slow.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);
/// The largest field of the Secret that is read.
const MAXIMUM_FIELD: usize = 64 << 10;
/// The most CAs in the Secret.
const MAXIMUM_AUTHORITIES: usize = 8;
/// The most CAs that are remembered besides.
const MAXIMUM_KNOWN: usize = 16;
const CA_CERTIFICATES: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const SERVING_CERTIFICATE: &str = "tls.crt";
const SERVING_KEY: &str = "tls.key";

/// How long a time of the API server is counted on from there.
const MAXIMUM_CLOCK_AGE: Duration = Duration::from_secs(600);
/// How long another replica has to hold the Lease after a CA appeared until it has certainly read the Secret.
const REPORTED_AFTER: Duration = Duration::from_secs(45);
const FIELDS: [&str; 4] = [CA_CERTIFICATES, CA_KEY, SERVING_CERTIFICATE, SERVING_KEY];

/// What certificates are made like.
#[derive(Clone, Debug)]
pub struct CertificateSettings {
    /// The DNS names and IP addresses of the webhook.
    pub names: Vec<String>,
    /// How long a CA is valid.
    pub ca_validity: SignedDuration,
    /// How long a serving certificate is valid.
    pub validity: SignedDuration,
    /// How long clients are told of a CA before a certificate that it issued is served.
    pub overlap: SignedDuration,
}

/// The certificates in the Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificates {
    /// The newest first; never empty.
    authorities: Vec<Authority>,
    /// The key of the newest CA (PEM), if it is there and belongs to it.
    ca_key: Option<String>,
    /// The serving certificate, if there is one that a CA of these issued.
    serving: Option<Serving>,
}

/// A CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    der: CertificateDer<'static>,
    validity: Validity,
}

/// A serving certificate with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Serving {
    /// The certificate chain (PEM).
    pub chain: String,
    /// The private key (PEM).
    pub key: String,
    leaf: CertificateDer<'static>,
    validity: Validity,
    issuer: Authority,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: Timestamp,
    until: Timestamp,
}

/// What has to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewalStep {
    /// Nothing.
    Nothing,
    /// Make a CA, which is trusted beside the others from then on.
    NewAuthority,
    /// Issue a serving certificate under the newest CA.
    NewCertificate {
        /// Only if the webhook configuration holds this CA.
        only_if_trusted: bool,
    },
    /// Take CAs out whose time is over.
    ForgetExpired,
}

impl CertificateSettings {
    /// The overlap as a time to wait.
    pub fn overlap(&self) -> Duration {
        Duration::try_from(self.overlap).unwrap_or_default()
    }

    /// Why these settings cannot be kept.
    pub fn problem(&self) -> Option<String> {
        let unusable = |name: &&String| ServerName::try_from(name.as_str()).is_err();
        if let Some(name) = self.names.iter().find(unusable) {
            return Some(format!(
                "`{name}` is not a DNS name that a certificate can carry"
            ));
        }
        if self.validity > self.ca_validity {
            return Some(
                "a serving certificate cannot be valid longer than the CA that issues it"
                    .to_owned(),
            );
        }
        (self.overlap * 3 > self.validity).then(|| {
            "the overlap has to be at most a third of the validity of the serving certificate"
                .to_owned()
        })
    }
}

impl Certificates {
    /// A new CA and a serving certificate.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn new(
        now: Timestamp,
        settings: &CertificateSettings,
    ) -> Result<Certificates, rcgen::Error> {
        let (authority, key) = Authority::new(now, settings)?;
        let certificates = Certificates {
            authorities: vec![authority],
            ca_key: Some(key),
            serving: None,
        };
        certificates.with_certificate(now, settings)
    }

    /// The certificates in the data of a Secret.
    ///
    /// # Errors
    /// What is wrong with them, if that is more than a renewal can put right.
    pub fn read(data: &BTreeMap<String, ByteString>) -> Result<Certificates, String> {
        let text = |field: &str| {
            let bytes = data.get(field).map(|bytes| bytes.0.as_slice());
            let bytes = bytes.unwrap_or_default();
            match bytes.len() {
                0..=MAXIMUM_FIELD => Ok(bytes),
                _ => Err(format!("`{field}` is larger than {MAXIMUM_FIELD} bytes")),
            }
        };
        let authorities = certificates(text(CA_CERTIFICATES)?)
            .ok_or_else(|| format!("`{CA_CERTIFICATES}` holds no readable certificates"))?;
        if authorities.len() > MAXIMUM_AUTHORITIES {
            return Err(format!(
                "`{CA_CERTIFICATES}` holds more than {MAXIMUM_AUTHORITIES} certificates"
            ));
        }
        let authorities = authorities.into_iter().map(Authority::read);
        let authorities: Vec<_> = authorities.collect::<Option<_>>().ok_or_else(|| {
            format!("`{CA_CERTIFICATES}` holds a certificate that is not a CA certificate")
        })?;
        let newest = authorities.first();
        let newest = newest.ok_or_else(|| format!("`{CA_CERTIFICATES}` holds no certificate"))?;
        let ca_key = key(text(CA_KEY)?).filter(|key| belong(&newest.der, key));
        let serving = Serving::read(text(SERVING_CERTIFICATE)?, text(SERVING_KEY)?, &authorities);
        Ok(Certificates {
            ca_key,
            serving,
            authorities,
        })
    }

    /// The data of a Secret that holds them.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let authorities = self.authorities.iter().map(Authority::pem).collect();
        let mut data = vec![(CA_CERTIFICATES, authorities)];
        data.extend(self.ca_key.clone().map(|key| (CA_KEY, key)));
        if let Some(Serving { chain, key, .. }) = &self.serving {
            data.push((SERVING_CERTIFICATE, chain.clone()));
            data.push((SERVING_KEY, key.clone()));
        }
        let data = data.into_iter();
        data.map(|(field, text)| (field.to_owned(), ByteString(text.into_bytes())))
            .collect()
    }

    /// Puts them into the data of a Secret. Its other fields stay.
    pub fn write_into(&self, data: &mut BTreeMap<String, ByteString>) {
        data.retain(|field, _| !FIELDS.contains(&field.as_str()));
        data.extend(self.data());
    }

    /// What has to be done next.
    pub fn next_step(&self, now: Timestamp, settings: &CertificateSettings) -> RenewalStep {
        let Some(newest) = self.authorities.first() else {
            return RenewalStep::NewAuthority;
        };
        // One that begins in the future was made by a clock that was wrong.
        if self.ca_key.is_none() || newest.validity.from > now || newest.validity.is_due(now) {
            return RenewalStep::NewAuthority;
        }
        match &self.serving {
            Some(serving) if serving.is_usable(now) => {
                if serving.issuer != *newest {
                    let made = later(newest.validity.from, BACKDATE);
                    if later(made, settings.overlap) <= now {
                        return RenewalStep::NewCertificate {
                            only_if_trusted: true,
                        };
                    }
                } else if serving.validity.is_due(now) || !serving.carries(&settings.names) {
                    return RenewalStep::NewCertificate {
                        only_if_trusted: false,
                    };
                }
            }
            // Clients refuse what is served now, so there is nothing to wait for.
            _ => {
                return RenewalStep::NewCertificate {
                    only_if_trusted: false,
                };
            }
        }
        let mut older = self.authorities.iter().skip(1);
        match older.any(|authority| authority.is_over(now)) {
            true => RenewalStep::ForgetExpired,
            false => RenewalStep::Nothing,
        }
    }

    /// The same with a new CA, which is trusted beside the others.
    ///
    /// # Errors
    /// The machine has no randomness.
    pub fn with_authority(
        &self,
        now: Timestamp,
        settings: &CertificateSettings,
    ) -> Result<Certificates, rcgen::Error> {
        let (authority, key) = Authority::new(now, settings)?;
        let mut authorities = vec![authority];
        let issuer = self.serving.as_ref().map(|serving| &serving.issuer);
        let older = self.authorities.iter().enumerate();
        let older = older.filter(|(at, older)| {
            *at + 2 < MAXIMUM_AUTHORITIES || issuer.is_some_and(|it| it == *older)
        });
        authorities.extend(older.map(|(_, older)| older.clone()));
        authorities.truncate(MAXIMUM_AUTHORITIES);
        Ok(Certificates {
            authorities,
            ca_key: Some(key),
            serving: self.serving.clone(),
        })
    }

    /// The same with a new serving certificate by the newest CA.
    ///
    /// # Errors
    /// The key of the CA cannot be used, or the machine has no randomness.
    pub fn with_certificate(
        &self,
        now: Timestamp,
        settings: &CertificateSettings,
    ) -> Result<Certificates, rcgen::Error> {
        let newest = self.authorities.first().zip(self.ca_key.as_deref());
        let (authority, ca_key) = newest.ok_or(rcgen::Error::CouldNotParseKeyPair)?;
        let issuer = Issuer::from_ca_cert_der(&authority.der, KeyPair::from_pem(ca_key)?)?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(settings.names.clone())?;
        params.distinguished_name = named("promotion-gate");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let until = later(now, settings.validity).min(authority.validity.until);
        set_validity(&mut params, later(now, -BACKDATE), until);
        let chain = params.signed_by(&key, &issuer)?.pem();
        let key = key.serialize_pem();
        let serving = Serving::read(chain.as_bytes(), key.as_bytes(), &self.authorities);
        Ok(Certificates {
            serving: Some(serving.ok_or(rcgen::Error::CouldNotParseCertificate)?),
            ..self.clone()
        })
    }

    /// The same without the CAs whose time is over.
    pub fn without_expired(&self, now: Timestamp) -> Certificates {
        let mut kept = self.clone();
        let newest = kept.authorities.first().cloned();
        kept.authorities
            .retain(|authority| Some(authority) == newest.as_ref() || !authority.is_over(now));
        kept
    }

    /// Whether every CA of the others is in these too.
    pub fn hold_authorities_of(&self, other: &Certificates) -> bool {
        let mut authorities = other.authorities.iter();
        authorities.all(|authority| self.authorities.contains(authority))
    }

    /// The serving certificate.
    pub fn serving(&self) -> Option<&Serving> {
        self.serving.as_ref()
    }

    /// The newest CA.
    pub fn newest(&self) -> Option<&Authority> {
        self.authorities.first()
    }
}

impl Authority {
    fn new(
        now: Timestamp,
        settings: &CertificateSettings,
    ) -> Result<(Authority, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("promotion-gate CA {now:.0}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let until = later(now, settings.ca_validity);
        set_validity(&mut params, later(now, -BACKDATE), until);
        let made = params.self_signed(&key)?.der().clone();
        let authority = Authority::read(made).ok_or(rcgen::Error::CouldNotParseCertificate)?;
        Ok((authority, key.serialize_pem()))
    }

    fn read(der: CertificateDer<'static>) -> Option<Authority> {
        let certificate = X509::from_der(&der).ok()?;
        let constraints = certificate.tbs_certificate.get::<WrittenConstraints>();
        let (_, constraints) = constraints.ok()??;
        let validity = Validity::of(&certificate)?;
        constraints.ca.then_some(Authority { der, validity })
    }

    fn issued(&self, leaf: &CertificateDer<'static>, validity: Validity) -> bool {
        let mut roots = RootCertStore::empty();
        let certificate = ParsedCertificate::try_from(leaf);
        let (Ok(()), Ok(certificate)) = (roots.add(self.der.clone()), certificate) else {
            return false;
        };
        let at = u64::try_from(validity.from.as_second()).unwrap_or_default();
        let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &roots, &[], at, algorithms).is_ok()
    }

    /// When its time is over.
    pub fn until(&self) -> Timestamp {
        self.validity.until
    }

    /// The certificate (PEM).
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
        let mut rest = text.as_str();
        while let Some((line, more)) = rest.split_at_checked(64) {
            pem.extend([line, "\n"]);
            rest = more;
        }
        if !rest.is_empty() {
            pem.extend([rest, "\n"]);
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Whether its time is over for every clock.
    fn is_over(&self, now: Timestamp) -> bool {
        later(self.validity.until, BACKDATE) <= now
    }

    /// Whether it is one of the certificates in this text (PEM).
    pub fn is_in(&self, bundle: &[u8]) -> bool {
        certificates(bundle).is_some_and(|all| all.contains(&self.der))
    }
}

impl Serving {
    /// `None` if it cannot be read, the key belongs to another certificate, or none of the CAs issued it.
    fn read(chain: &[u8], private: &[u8], authorities: &[Authority]) -> Option<Serving> {
        let all = certificates(chain)?;
        let leaf = all.first()?.clone();
        let validity = Validity::of(&X509::from_der(&leaf).ok()?)?;
        let private = key(private).filter(|key| belong(&leaf, key))?;
        let issuer = authorities
            .iter()
            .find(|authority| authority.issued(&leaf, validity))?;
        Some(Serving {
            chain: std::str::from_utf8(chain).ok()?.to_owned(),
            key: private,
            validity,
            issuer: issuer.clone(),
            leaf,
        })
    }

    /// Whether clients that trust its CA accept it at this time.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        let valid = |validity: Validity| validity.from <= now && now < validity.until;
        valid(self.validity) && valid(self.issuer.validity)
    }

    fn carries(&self, names: &[String]) -> bool {
        let Ok(certificate) = ParsedCertificate::try_from(&self.leaf) else {
            return false;
        };
        names.iter().all(|name| {
            let name = ServerName::try_from(name.as_str());
            name.is_ok_and(|name| verify_server_name(&certificate, &name).is_ok())
        })
    }
}

impl Validity {
    fn of(certificate: &X509) -> Option<Validity> {
        let validity = &certificate.tbs_certificate.validity;
        let at = |time: x509_cert::time::Time| {
            let seconds = i64::try_from(time.to_unix_duration().as_secs());
            Timestamp::from_second(seconds.ok()?).ok()
        };
        Some(Validity {
            from: at(validity.not_before)?,
            until: at(validity.not_after)?,
        })
    }

    /// Whether two thirds of it are over.
    fn is_due(self, now: Timestamp) -> bool {
        let made = later(self.from, BACKDATE).as_second();
        let (whole, over) = (self.until.as_second() - made, now.as_second() - made);
        over.saturating_mul(3) >= whole.saturating_mul(2)
    }
}

/// Keys are never shown.
impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Certificates");
        shown.field("authorities", &self.authorities.len());
        shown.field("has_ca_key", &self.ca_key.is_some());
        shown.field("serving", &self.serving).finish()
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Serving");
        shown.field("validity", &self.validity);
        shown.finish_non_exhaustive()
    }
}

/// The clock of the API server, with which it compares validity: a time that it gave, counted on by this machine's monotonic clock.
#[derive(Debug, Default)]
pub struct ServerClock(Option<(Instant, Timestamp)>);

impl ServerClock {
    /// The API server gave this time at this instant.
    pub fn set(&mut self, at: Instant, time: Timestamp) {
        self.0 = Some((at, time));
    }

    /// Whether the API server has to be asked again.
    pub fn is_old(&self, at: Instant) -> bool {
        (self.0).is_none_or(|(asked, _)| at.duration_since(asked) >= MAXIMUM_CLOCK_AGE)
    }

    /// Its time at this instant; as long as that is not known, the time of this machine.
    pub fn time(&self, at: Instant, here: Timestamp) -> Timestamp {
        let Some((asked, time)) = self.0 else {
            return here;
        };
        let since = SignedDuration::try_from(at.duration_since(asked));
        later(time, since.unwrap_or_default())
    }
}

/// The CAs in the Secret about which nothing has to be reported any more: a replica saw them appear while it held the Lease.
#[derive(Debug, Default)]
pub struct ReportedAuthorities {
    /// What the Secret held then; at first, what it held when it was read first.
    certificates: Option<Certificates>,
    /// What it holds since without the Lease, and since when.
    unreported: Option<(Certificates, Instant)>,
}

impl ReportedAuthorities {
    /// Notes what the Secret holds at this time. Whether somebody added a CA, and this replica has to report it because it holds the
    /// Lease. `renewed_elsewhere` is when another replica was last seen to renew the Lease.
    pub fn see(
        &mut self,
        certificates: &Certificates,
        at: Instant,
        is_held: bool,
        renewed_elsewhere: Option<Instant>,
    ) -> bool {
        let reported = self.certificates.as_ref();
        let is_added = reported.is_some_and(|it| !it.hold_authorities_of(certificates));
        if !is_added || is_held {
            self.note(certificates);
            return is_added;
        }
        match &self.unreported {
            Some((unreported, since)) if unreported == certificates => {
                // Another replica has held the Lease long enough to see it.
                if renewed_elsewhere.is_some_and(|renewed| renewed >= *since + REPORTED_AFTER) {
                    self.note(certificates);
                }
            }
            _ => self.unreported = Some((certificates.clone(), at)),
        }
        false
    }

    /// Notes what this replica has written itself.
    pub fn note(&mut self, certificates: &Certificates) {
        self.certificates = Some(certificates.clone());
        self.unreported = None;
    }
}

/// The CAs that this process saw in the Secret, and those that clients trusted when it started.
#[derive(Debug, Default)]
pub struct KnownAuthorities(Vec<KnownAuthority>);

#[derive(Debug)]
struct KnownAuthority {
    authority: Authority,
    first_seen: Instant,
    last_seen: Instant,
}

impl KnownAuthorities {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes what the Secret holds at this time.
    pub fn see(
        &mut self,
        certificates: &Certificates,
        at: Instant,
        settings: &CertificateSettings,
    ) {
        self.see_all(&certificates.authorities, at, settings);
    }

    /// Notes the CAs (PEM) that clients trust at this time: another replica may serve a certificate of one of them.
    pub fn see_trusted(&mut self, bundle: &[u8], at: Instant, settings: &CertificateSettings) {
        let trusted = certificates(bundle).unwrap_or_default().into_iter();
        let trusted = trusted.filter_map(Authority::read);
        let trusted: Vec<_> = trusted.take(MAXIMUM_AUTHORITIES).collect();
        self.see_all(&trusted, at, settings);
    }

    fn see_all(&mut self, authorities: &[Authority], at: Instant, settings: &CertificateSettings) {
        for authority in authorities {
            match self.0.iter_mut().find(|it| it.authority == *authority) {
                Some(known) => {
                    if !known.is_trusted(at, settings) {
                        // Clients have to learn of it again.
                        known.first_seen = at;
                    }
                    known.last_seen = at;
                }
                None => self.0.push(KnownAuthority {
                    authority: authority.clone(),
                    first_seen: at,
                    last_seen: at,
                }),
            }
        }
        if self.0.len() > MAXIMUM_KNOWN {
            self.0.retain(|known| known.last_seen == at);
        }
    }

    /// The CAs that clients have to trust (PEM): those in the Secret, and those that were in it a short time ago, because a replica may
    /// still serve a certificate of one of them.
    pub fn bundle(
        &self,
        certificates: &Certificates,
        at: Instant,
        now: Timestamp,
        settings: &CertificateSettings,
    ) -> String {
        let lately = self.0.iter().filter(|known| {
            !certificates.authorities.contains(&known.authority)
                && known.is_trusted(at, settings)
                && now < known.authority.validity.until
        });
        let lately = lately.map(|known| &known.authority);
        let all = certificates.authorities.iter().chain(lately);
        all.map(Authority::pem).collect()
    }

    /// Whether a certificate may be served instead of another one that is usable: clients learn of its CA a little later than this
    /// process.
    pub fn may_serve(
        &self,
        serving: &Serving,
        at: Instant,
        settings: &CertificateSettings,
    ) -> bool {
        let known = self.0.iter().find(|it| it.authority == serving.issuer);
        known.is_some_and(|known| at.duration_since(known.first_seen) >= settings.overlap())
    }
}

impl KnownAuthority {
    /// Whether clients still have to trust it.
    fn is_trusted(&self, at: Instant, settings: &CertificateSettings) -> bool {
        at.duration_since(self.last_seen) <= settings.overlap() * 2
    }
}

/// Every certificate of a text (PEM); `None` where one cannot be read.
pub fn certificates(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .ok()
}

/// The text (PEM) of a private key, if it can be used.
fn key(pem: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(pem).ok()?;
    KeyPair::from_pem(text).ok()?;
    Some(text.to_owned())
}

/// Whether a key is that of a certificate.
fn belong(certificate: &CertificateDer<'static>, key: &str) -> bool {
    let Ok(key) = PrivateKeyDer::from_pem_slice(key.as_bytes()) else {
        return false;
    };
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    CertifiedKey::from_der(vec![certificate.clone()], key, &provider).is_ok()
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn set_validity(params: &mut CertificateParams, from: Timestamp, until: Timestamp) {
    params.not_before = SystemTime::from(from).into();
    params.not_after = SystemTime::from(until).into();
}

#[cfg(test)]
mod tests;
