//! The predicate `https://openvex.dev/ns`: an OpenVEX document of version 0.2, which says which vulnerabilities affect a product.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::{self, Deserialize, Deserializer};

use super::fields::{self, Instant, IsGiven, Known, List, Text, known_fields};
use super::purl::{PackageUrl, is_package_url};
use crate::attest::unaccepted::{FORMAT_NOT_SUPPORTED, MALFORMED_PREDICATE, UnacceptedReason};
use crate::gate::Digest;

/// The predicate type, and what begins those with a version.
const TYPE: &str = "https://openvex.dev/ns";
/// The most statements of a document, and the most products, components and ids of one.
const STATEMENTS: usize = 10_000;
const ITEMS: usize = 1000;
/// The most bytes of an id.
const ID: usize = 2048;
/// Why a product is not affected (OpenVEX 0.2, "Status Justifications").
const JUSTIFICATIONS: [&str; 5] = [
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
];

/// Whether a predicate type is that of OpenVEX documents, in any version.
pub fn is_vex(predicate_type: &str) -> bool {
    let version = predicate_type.strip_prefix(TYPE);
    version.is_some_and(|version| version.is_empty() || version.starts_with('/'))
}

/// An OpenVEX document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VexDocument {
    /// Its statements.
    pub statements: Box<[VexStatement]>,
}

/// What a document says about a vulnerability in some products.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VexStatement {
    /// The ids of the vulnerability.
    pub ids: Box<[Box<str>]>,
    /// The products; empty for the subject of the attestation.
    pub products: Box<[VexProduct]>,
    /// Whether they are affected.
    pub status: VexStatus,
    /// When it was made, as the document says.
    pub at: Timestamp,
}

/// A product of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VexProduct {
    /// The digests by which the document names the product.
    pub digests: Box<[Digest]>,
    /// The packages of the product that the statement is about; empty for all of them. A component without a package URL is `None`.
    pub components: Box<[Option<PackageUrl>]>,
}

/// Whether a product is affected, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VexStatus {
    /// The vulnerability does not matter in the product.
    NotAffected,
    /// The product contains a fix.
    Fixed,
    /// It is not known yet.
    UnderInvestigation,
    /// The product is affected.
    Affected,
}

impl VexStatus {
    /// Whether a finding does not count because of it.
    pub fn is_harmless(self) -> bool {
        match self {
            VexStatus::NotAffected | VexStatus::Fixed => true,
            VexStatus::UnderInvestigation | VexStatus::Affected => false,
        }
    }
}

impl VexDocument {
    /// Reads a predicate of this type.
    ///
    /// # Errors
    /// Why the document is not understood.
    pub fn read(text: &str) -> Result<VexDocument, UnacceptedReason> {
        let Known(written): Known<WrittenDocument> = fields::read(text)?;
        let version = written.context.0.strip_prefix(TYPE);
        if !version.is_some_and(|it| it.is_empty() || it.starts_with("/v0.2.")) {
            let why = format!(
                "the context `{:.100}` is not that of OpenVEX 0.2",
                written.context.0
            );
            return Err(UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why));
        }
        let of_document = [written.updated.0, written.timestamp.0];
        let statements = written.statements.into_iter().enumerate();
        let statements = statements.map(|(index, Known(statement))| {
            statement.read(of_document).map_err(|why| {
                let why = format!("the predicate cannot be read: `statements[{index}]`: {why}");
                UnacceptedReason::new(MALFORMED_PREDICATE, why)
            })
        });
        Ok(VexDocument {
            statements: statements.collect::<Result<_, _>>()?,
        })
    }

    /// Whether a statement of it can take back what another one says.
    pub fn can_hurt(&self) -> bool {
        self.statements.iter().any(|it| !it.status.is_harmless())
    }

    /// The statements that can take back what another one says.
    pub(super) fn harmful(&self) -> VexDocument {
        let harmful = self.statements.iter().filter(|it| !it.status.is_harmless());
        VexDocument {
            statements: harmful.cloned().collect(),
        }
    }

    /// Whether this document, signed at `signed`, says again everything harmful that another one says, signed at `before`: about the
    /// same vulnerability and products, at the same time or later, and no better.
    pub fn takes_back_all_of(
        &self,
        signed: Timestamp,
        other: &VexDocument,
        before: Timestamp,
    ) -> bool {
        let mut said: BTreeMap<&[Box<str>], Vec<&VexStatement>> = BTreeMap::new();
        for it in self.statements.iter().filter(|it| !it.status.is_harmless()) {
            said.entry(&it.ids).or_default().push(it);
        }
        let is_said = |old: &VexStatement| {
            let mut same = said.get(&*old.ids).into_iter().flatten();
            same.any(|new| {
                let (at, at_before) = (signed.min(new.at), before.min(old.at));
                new.products == old.products && (at, new.status) >= (at_before, old.status)
            })
        };
        let mut harmful = other
            .statements
            .iter()
            .filter(|it| !it.status.is_harmless());
        harmful.all(is_said)
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let each = self.statements.iter().map(|statement| {
            let ids: usize = statement
                .ids
                .iter()
                .map(|id| id.len() + size_of::<Box<str>>())
                .sum();
            let products = statement.products.iter().map(|product| {
                size_of_val(product) + 128 * product.digests.len() + 256 * product.components.len()
            });
            size_of_val(statement) + ids + products.sum::<usize>()
        });
        size_of_val(self) + each.sum::<usize>()
    }
}

known_fields! {
    struct WrittenDocument {
        "@context" => context: Text<ID>,
        "timestamp" => timestamp: Instant,
        "last_updated" => updated: Instant,
        "statements" => statements: List<Known<WrittenStatement>, STATEMENTS>,
    }
}

known_fields! {
    struct WrittenStatement {
        "vulnerability" => vulnerability: Known<WrittenVulnerability>,
        "timestamp" => timestamp: Instant,
        "last_updated" => updated: Instant,
        "products" => products: List<Known<WrittenProduct>, ITEMS>,
        "status" => status: Status,
        "justification" => justification: Text<ID>,
        "impact_statement" => impact: IsGiven,
    }
}

impl WrittenStatement {
    fn read(self, of_document: [Option<Timestamp>; 2]) -> Result<VexStatement, &'static str> {
        let Known(vulnerability) = self.vulnerability;
        let aliases = vulnerability.aliases;
        let ids = [vulnerability.name, vulnerability.id]
            .into_iter()
            .chain(aliases);
        let ids: Box<[_]> = ids.map(|Text(id)| id).filter(|id| !id.is_empty()).collect();
        if ids.is_empty() {
            return Err("`vulnerability.name` is missing");
        }
        let status = self.status.0.ok_or("`status` is missing")?;
        let justification = &*self.justification.0;
        let is_justified = match justification {
            "" => self.impact.0,
            _ => JUSTIFICATIONS.contains(&justification),
        };
        if status == VexStatus::NotAffected && !is_justified {
            return Err(
                "`not_affected` needs a justification that OpenVEX 0.2 knows, or an `impact_statement`",
            );
        }
        let times = [self.updated.0, self.timestamp.0]
            .into_iter()
            .chain(of_document);
        let at = times
            .flatten()
            .next()
            .ok_or("the document has no `timestamp`")?;
        let products = self.products.into_iter();
        let products = products.map(|Known(product)| product.read());
        Ok(VexStatement {
            ids,
            products: products.collect::<Result<_, _>>()?,
            status,
            at,
        })
    }
}

#[derive(Default)]
struct Status(Option<VexStatus>);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Status, D::Error> {
        let Text(word) = Text::<ID>::deserialize(from)?;
        let status = match &*word {
            "not_affected" => VexStatus::NotAffected,
            "fixed" => VexStatus::Fixed,
            "under_investigation" => VexStatus::UnderInvestigation,
            "affected" => VexStatus::Affected,
            _ => {
                return Err(de::Error::custom(format!(
                    "`{word:.40}` is not a status of OpenVEX 0.2"
                )));
            }
        };
        Ok(Status(Some(status)))
    }
}

known_fields! {
    struct WrittenVulnerability {
        "@id" => id: Text<ID>,
        "name" => name: Text<ID>,
        "aliases" => aliases: List<Text<ID>, ITEMS>,
    }
}

known_fields! {
    /// A product, or a component of one.
    struct WrittenProduct {
        "@id" => id: Text<ID>,
        "identifiers" => identifiers: Known<WrittenIdentifiers>,
        "hashes" => hashes: Known<WrittenHashes>,
        "subcomponents" => subcomponents: List<Known<WrittenComponent>, ITEMS>,
    }
}

impl WrittenProduct {
    fn read(self) -> Result<VexProduct, &'static str> {
        let names = [&self.id.0, &self.identifiers.0.purl.0].into_iter();
        let purls: Option<Vec<_>> = names
            .filter(|text| is_package_url(text))
            .map(|text| PackageUrl::parse(text))
            .collect();
        let is_known = purls.is_some();
        let purls = purls.into_iter().flatten();
        let mut digests = Vec::new();
        for purl in purls.filter(|purl| purl.kind() == "oci") {
            // A product without a digest can be any image of that name.
            let digest = purl.version().and_then(|version| version.parse().ok());
            digests.extend(digest);
        }
        let hash = &self.hashes.0.sha256.0;
        if !hash.is_empty() {
            let digest = format!("sha256:{hash}").parse();
            digests.push(digest.map_err(|_| "`hashes.sha-256` is not a SHA-256 hash")?);
        }
        // A package URL that cannot be read could name another digest.
        if !is_known {
            digests.clear();
        }
        let components = self.subcomponents.into_iter();
        let components = components.map(|Known(it)| {
            let purl = &it.identifiers.0.purl.0;
            let text = if is_package_url(purl) { purl } else { &it.id.0 };
            PackageUrl::parse(text)
        });
        Ok(VexProduct {
            digests: digests.into(),
            components: components.collect(),
        })
    }
}

known_fields! {
    struct WrittenComponent {
        "@id" => id: Text<ID>,
        "identifiers" => identifiers: Known<WrittenIdentifiers>,
    }
}

known_fields! {
    struct WrittenIdentifiers {
        "purl" => purl: Text<ID>,
    }
}

known_fields! {
    struct WrittenHashes {
        "sha-256" => sha256: Text<ID>,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document(statement: &Value) -> String {
        json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://example.com/vex-1", "author": "a",
            "timestamp": "2026-11-01T00:00:00Z", "version": 1, "statements": [statement],
        })
        .to_string()
    }

    fn statement(statement: &Value) -> VexStatement {
        let read = VexDocument::read(&document(statement)).unwrap();
        read.statements[0].clone()
    }

    #[test]
    fn products_are_images_by_digest_and_components_packages() {
        let hex = "1".repeat(64);
        let digest: Digest = format!("sha256:{hex}").parse().unwrap();
        for product in [
            json!({"@id": format!("pkg:oci/app@sha256%3A{hex}?repository_url=registry.example")}),
            json!({"@id": format!("pkg:oci/app@sha256:{hex}")}),
            json!({"identifiers": {"purl": format!("pkg:oci/app@sha256:{hex}")}}),
            json!({"@id": "app", "hashes": {"sha-256": hex}}),
        ] {
            let read = statement(&json!({
                "vulnerability": {"name": "CVE-1", "aliases": ["GHSA-1"], "@id": "https://example.com/CVE-1"},
                "products": [product], "status": "fixed",
            }));
            assert_eq!(read.ids.len(), 3);
            assert_eq!(&*read.products[0].digests, std::slice::from_ref(&digest));
        }
        for product in [
            json!({"@id": "pkg:oci/app"}),
            json!({"@id": "pkg:oci/app@v1"}),
            json!({"@id": format!("pkg:apk/alpine/app@sha256:{hex}")}),
            json!({"@id": "registry.example/app:v1"}),
        ] {
            let read = statement(
                &json!({"vulnerability": {"name": "CVE-1"}, "products": [product], "status": "fixed"}),
            );
            assert!(read.products[0].digests.is_empty(), "{read:?}");
        }
        let components = json!([{"@id": "pkg:npm/a@1"}, {"@id": "x", "identifiers": {"purl": "pkg:npm/b"}}, {"@id": "x"}]);
        let read = statement(&json!({
            "vulnerability": {"name": "CVE-1"}, "status": "fixed",
            "products": [{"@id": "x", "subcomponents": components}],
        }));
        let known: Vec<_> = read.products[0]
            .components
            .iter()
            .map(Option::is_some)
            .collect();
        assert_eq!(known, [true, true, false]);
    }

    #[test]
    fn a_package_url_that_cannot_be_read_makes_nothing_harmless() {
        let hex = "1".repeat(64);
        for product in [
            json!({"@id": "pkg:oci/app%@sha256:1", "hashes": {"sha-256": hex}}),
            json!({"@id": format!("pkg:oci/app@sha256:{hex}"), "identifiers": {"purl": "pkg:o%63i/app"}}),
            json!({"@id": format!("\tpkg:oci/app@sha256:{}", "2".repeat(64)), "hashes": {"sha-256": hex}}),
        ] {
            let read = statement(
                &json!({"vulnerability": {"name": "CVE-1"}, "products": [product], "status": "fixed"}),
            );
            assert!(read.products[0].digests.is_empty(), "{read:?}");
        }
        let components = json!([{"@id": "pkg:npm/a@1", "identifiers": {"purl": "pkg:npm/b%0a"}}]);
        let read = statement(&json!({
            "vulnerability": {"name": "CVE-1"}, "status": "fixed",
            "products": [{"@id": "x", "subcomponents": components}],
        }));
        assert_eq!(&*read.products[0].components, [None]);
    }

    #[test]
    fn a_document_that_is_not_understood_is_refused() {
        let vulnerability = json!({"name": "CVE-1"});
        for (statement, place) in [
            (
                json!({"vulnerability": vulnerability}),
                "`status` is missing",
            ),
            (
                json!({"vulnerability": vulnerability, "status": "harmless"}),
                "not a status",
            ),
            (
                json!({"vulnerability": {}, "status": "fixed"}),
                "vulnerability.name",
            ),
            (
                json!({"vulnerability": "CVE-1", "status": "fixed"}),
                "an object",
            ),
            (
                json!({"vulnerability": vulnerability, "status": "fixed", "products": ["pkg:oci/app"]}),
                "an object",
            ),
            (
                json!({"vulnerability": vulnerability, "status": "fixed", "Status": "affected"}),
                "another case",
            ),
            (
                json!({"vulnerability": vulnerability, "status": "not_affected"}),
                "justification",
            ),
            (
                json!({"vulnerability": vulnerability, "status": "not_affected", "justification": "we_said_so", "impact_statement": "x"}),
                "justification",
            ),
        ] {
            let why = VexDocument::read(&document(&statement)).unwrap_err();
            assert!(why.detail.contains(place), "{why}");
        }
        for context in [
            "https://openvex.dev/ns/v0.0.1",
            "https://example.com/ns",
            "",
        ] {
            let text =
                json!({"@context": context, "timestamp": "2026-11-01T00:00:00Z", "statements": []});
            let why = VexDocument::read(&text.to_string()).unwrap_err();
            assert_eq!(why.reason.id, "format-not-supported", "{why}");
        }
        let timeless = json!({"@context": TYPE, "statements": [{"vulnerability": vulnerability, "status": "fixed"}]});
        assert!(VexDocument::read(&timeless.to_string()).is_err());
    }

    #[test]
    fn the_time_of_a_statement_is_its_own_or_that_of_the_document() {
        let own = json!({"vulnerability": {"name": "CVE-1"}, "status": "affected", "timestamp": "2026-10-01T00:00:00Z"});
        assert_eq!(statement(&own).at.to_string(), "2026-10-01T00:00:00Z");
        let none = json!({"vulnerability": {"name": "CVE-1"}, "status": "not_affected", "impact_statement": "x"});
        assert_eq!(statement(&none).at.to_string(), "2026-11-01T00:00:00Z");
        // Of both times, the later change counts.
        let mut updated = own.clone();
        updated["last_updated"] = json!("2026-10-05T00:00:00Z");
        assert_eq!(statement(&updated).at.to_string(), "2026-10-05T00:00:00Z");
        let mut document: Value = serde_json::from_str(&document(&none)).unwrap();
        document["last_updated"] = json!("2026-11-05T00:00:00Z");
        let read = VexDocument::read(&document.to_string()).unwrap();
        assert_eq!(read.statements[0].at.to_string(), "2026-11-05T00:00:00Z");
    }

    #[test]
    fn a_document_is_said_again_by_one_that_takes_back_as_much_no_earlier() {
        let at = |hour: i64| Timestamp::from_second(1_900_000_000 + hour * 3600).unwrap();
        let one = |status: &str, product: &str| {
            let statement = json!({
                "vulnerability": {"name": "CVE-1"}, "products": [{"@id": product}], "status": status,
                "impact_statement": "x", "timestamp": "2200-01-01T00:00:00Z",
            });
            VexDocument::read(&document(&statement)).unwrap()
        };
        let old = one("under_investigation", "pkg:oci/app");
        for (new, signed, is_said) in [
            (one("under_investigation", "pkg:oci/app"), 2, true),
            (one("affected", "pkg:oci/app"), 2, true),
            (one("affected", "pkg:oci/app"), 1, true),
            (one("under_investigation", "pkg:oci/app"), 0, false),
            (one("not_affected", "pkg:oci/app"), 2, false),
            (
                one(
                    "affected",
                    &format!("pkg:oci/app@sha256:{}", "1".repeat(64)),
                ),
                2,
                false,
            ),
        ] {
            let said = new.takes_back_all_of(at(signed), &old, at(1));
            assert_eq!(said, is_said, "{new:?} {signed}");
        }
        let harmless = one("fixed", "pkg:oci/app");
        assert!(old.takes_back_all_of(at(0), &harmless, at(1)));
        assert_eq!(harmless.harmful().statements.len(), 0);
        assert_eq!(old.harmful(), old);
    }

    #[test]
    fn what_says_that_a_product_is_affected_can_hurt() {
        for (status, can_hurt) in [
            ("fixed", false),
            ("under_investigation", true),
            ("affected", true),
        ] {
            let text = document(&json!({"vulnerability": {"name": "CVE-1"}, "status": status}));
            assert_eq!(
                VexDocument::read(&text).unwrap().can_hurt(),
                can_hurt,
                "{status}"
            );
        }
    }
}
