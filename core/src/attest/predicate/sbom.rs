//! The predicates of software bills of materials: SPDX (`https://spdx.dev/Document`, 2.2 to 3.0) and CycloneDX
//! (`https://cyclonedx.org/bom`, 1.2 to 1.7), in JSON. Of each package, the package URL or the name is kept.

use std::collections::HashSet;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::fields::{
    self, Gather, Gathered, Known, List, ReadFields, Text, known_fields, too_many,
};
use super::purl::{is_package_url, is_url_of_software, with_version};
use crate::attest::unaccepted::{
    FORMAT_NOT_SUPPORTED, MALFORMED_PREDICATE, UnacceptedReason, bounded,
};

/// The most packages of a document.
pub const MAXIMUM_PACKAGES: usize = 50_000;
/// The most bytes of a name, and of a package URL.
const NAME: usize = 1024;
const PURL: usize = 2048;
/// The most references of one package.
const REFERENCES: usize = 10_000;
/// The most bytes of the id of an element of SPDX.
const ID: usize = 4096;
/// The most elements that are remembered as what an SPDX document describes.
const MAXIMUM_DESCRIBED: usize = 10_000;

const SPDX: &str = "https://spdx.dev/Document";
const CYCLONE_DX: &str = "https://cyclonedx.org/bom";
/// What the versions of SPDX begin with that are read.
const SPDX_VERSIONS: [&str; 3] = ["2.2", "2.3", "3.0"];
const CYCLONE_DX_VERSIONS: [&str; 6] = ["1.2", "1.3", "1.4", "1.5", "1.6", "1.7"];

/// Whether a predicate type is that of SBOMs, in any version.
pub fn is_sbom(predicate_type: &str) -> bool {
    SbomFormat::of_type(predicate_type).is_some()
}

/// The format of an SBOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SbomFormat {
    /// SPDX.
    Spdx,
    /// CycloneDX.
    CycloneDx,
}

impl SbomFormat {
    fn of_type(predicate_type: &str) -> Option<SbomFormat> {
        let is = |prefix: &str| {
            let version = predicate_type.strip_prefix(prefix);
            version.is_some_and(|version| version.is_empty() || version.starts_with('/'))
        };
        match (is(SPDX), is(CYCLONE_DX)) {
            (true, _) => Some(SbomFormat::Spdx),
            (false, true) => Some(SbomFormat::CycloneDx),
            (false, false) => None,
        }
    }
}

impl fmt::Display for SbomFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SbomFormat::Spdx => "spdx",
            SbomFormat::CycloneDx => "cyclonedx",
        })
    }
}

/// The packages that an image is said to contain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftwareBill {
    /// The format.
    pub format: SbomFormat,
    /// The version of the format, such as `2.3`.
    pub version: Box<str>,
    /// The package URL of each package, with the version that is written beside it if it has none, or the name and version; and the
    /// package URL of what the document is about, if it has one.
    pub packages: Box<[Box<str>]>,
    /// Whether it lists no package, besides what it is about: the component of CycloneDX's `metadata`, or the only package of an SPDX
    /// document, if the document describes it and the package has no package URL of something else than an image.
    pub is_empty: bool,
}

impl SoftwareBill {
    /// Reads a predicate of this type.
    ///
    /// # Errors
    /// Why the document is not understood.
    pub fn read(predicate_type: &str, text: &str) -> Result<SoftwareBill, UnacceptedReason> {
        SoftwareBill::of(predicate_type, fields::read(text)?)
    }

    /// Checks the fields of a document of this type and makes an SBOM from them.
    pub(super) fn of(
        predicate_type: &str,
        Known(written): Known<WrittenBill>,
    ) -> Result<SoftwareBill, UnacceptedReason> {
        let of_type = SbomFormat::of_type(predicate_type);
        let refused = |why: &str| {
            let why = format!("the predicate cannot be read: {why}");
            UnacceptedReason::new(MALFORMED_PREDICATE, why)
        };
        // Another reader could read another one of them.
        let formats = [
            !written.bom_format.0.is_empty(),
            !written.spdx_version.0.is_empty(),
            written.graph.0.version.is_some(),
        ];
        if formats.into_iter().filter(|is_given| *is_given).count() > 1 {
            return Err(refused("it is a document of two formats at once"));
        }
        let is_cyclone_dx = &*written.bom_format.0 == "CycloneDX";
        let (format, version, listed) = if is_cyclone_dx {
            let listed = written.components.0.besides(&Described::default());
            (SbomFormat::CycloneDx, written.spec_version.0, listed)
        } else if let Some(version) = written.spdx_version.0.strip_prefix("SPDX-") {
            let Relationships(mut described) = written.relationships.0;
            described.extend(written.described);
            let listed = written.packages.0.besides(&described);
            (SbomFormat::Spdx, version.into(), listed)
        } else if let Some(version) = written.graph.0.version {
            let listed = written.graph.0.packages.besides(&written.graph.0.described);
            (SbomFormat::Spdx, version, listed)
        } else {
            return Err(refused(
                "it is neither an SPDX nor a CycloneDX document in JSON",
            ));
        };
        if of_type != Some(format) {
            return Err(refused(
                "the document is not of the format that the predicate type names",
            ));
        }
        let known = match format {
            SbomFormat::Spdx => &SPDX_VERSIONS[..],
            SbomFormat::CycloneDx => &CYCLONE_DX_VERSIONS,
        };
        let is_known = |known: &&str| {
            let more = version.strip_prefix(known);
            more.is_some_and(|more| {
                more.is_empty() || format == SbomFormat::Spdx && more.starts_with('.')
            })
        };
        if !known.iter().any(is_known) {
            let why = format!(
                "version `{version:.40}` of {format} is not one that is read: {}",
                known.join(", ")
            );
            return Err(UnacceptedReason::new(FORMAT_NOT_SUPPORTED, why));
        }
        let Known(main) = written
            .metadata
            .and_then(|Known(it)| it.component)
            .unwrap_or_default();
        let ListedPackages {
            mut packages,
            is_empty,
        } = listed;
        let is_empty = is_empty && main.components.0.names.is_empty();
        packages.extend(main.components.0.names);
        let purl = Some(main.purl.0).filter(|it| !it.is_empty());
        packages.extend(purl.map(|it| with_version(it, &main.version.0)));
        bounded("packages", packages.len(), MAXIMUM_PACKAGES)?;
        Ok(SoftwareBill {
            format,
            version,
            packages: packages.into(),
            is_empty,
        })
    }

    /// Whether it lists every package of another document.
    pub fn lists_all_of(&self, other: &SoftwareBill) -> bool {
        self.packages == other.packages || {
            let own: HashSet<&str> = self.packages.iter().map(|it| &**it).collect();
            other.packages.iter().all(|it| own.contains(&**it))
        }
    }

    /// The approximate size in memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let each = self
            .packages
            .iter()
            .map(|it| it.len() + size_of::<Box<str>>());
        size_of_val(self) + each.sum::<usize>()
    }
}

known_fields! {
    pub(super) struct WrittenBill {
        "bomFormat" => bom_format: Text<NAME>,
        "specVersion" => spec_version: Text<NAME>,
        "components" => components: Gathered<Packages<Component>>,
        "metadata" => metadata: Option<Known<Metadata>>,
        "spdxVersion" => spdx_version: Text<NAME>,
        "packages" => packages: Gathered<Packages<SpdxPackage>>,
        "documentDescribes" => described: Described,
        "relationships" => relationships: Gathered<Relationships>,
        "@graph" => graph: Gathered<Graph>,
    }
}

/// A package as a format writes it.
trait AddPackages {
    /// Adds its names, and gives the id by which the document refers to it; empty where the format has none.
    fn add_to(self, packages: &mut Vec<Box<str>>) -> Box<str>;
}

/// The packages of a list.
struct Packages<T> {
    names: Vec<Box<str>>,
    /// The number of those with a name.
    count: usize,
    /// The id of the first of them, and whether it has a package URL of something else than an image.
    first: Box<str>,
    first_is_software: bool,
    of: std::marker::PhantomData<T>,
}

/// The packages of a document.
struct ListedPackages {
    packages: Vec<Box<str>>,
    /// Whether there is none besides what the document is about.
    is_empty: bool,
}

impl<T> Default for Packages<T> {
    fn default() -> Packages<T> {
        Packages {
            names: Vec::new(),
            count: 0,
            first: Box::default(),
            first_is_software: false,
            of: std::marker::PhantomData,
        }
    }
}

impl<T> Packages<T> {
    /// The packages of a document that describes these elements. Several packages are never only what it is about: some programs
    /// describe each package, and an image is one. Nor is one with a package URL of something else than an image.
    fn besides(self, described: &Described) -> ListedPackages {
        let is_empty = match self.count {
            0 => true,
            1 => described.includes(&self.first) && !self.first_is_software,
            _ => false,
        };
        ListedPackages {
            packages: self.names,
            is_empty,
        }
    }
}

impl<'de, T: ReadFields<'de> + AddPackages> Gather<'de> for Packages<T> {
    type Item = Known<T>;

    fn add<E: de::Error>(&mut self, Known(item): Known<T>) -> Result<(), E> {
        let before = self.names.len();
        let id = item.add_to(&mut self.names);
        if self.names.len() > before {
            self.count += 1;
            if self.count == 1 {
                self.first = id;
                let mut own = self.names.iter().skip(before);
                self.first_is_software = own.any(|it| is_url_of_software(it));
            }
        }
        match self.names.len() > MAXIMUM_PACKAGES {
            true => Err(too_many(MAXIMUM_PACKAGES, "packages")),
            false => Ok(()),
        }
    }
}

/// The package URL, or the name with its version; nothing for a package without a name.
fn named(purl: Text<PURL>, name: &Text<NAME>, version: &Text<NAME>) -> Option<Box<str>> {
    match (purl.0.is_empty(), name.0.is_empty(), version.0.is_empty()) {
        (false, _, _) => Some(with_version(purl.0, &version.0)),
        (true, true, _) => None,
        (true, false, true) => Some(name.0.clone()),
        (true, false, false) => Some(format!("{}@{}", name.0, version.0).into()),
    }
}

known_fields! {
    /// What a CycloneDX document says about itself: the component that it is about.
    struct Metadata {
        "component" => component: Option<Known<Component>>,
    }
}

known_fields! {
    /// A component of CycloneDX, with the components that it contains.
    struct Component {
        "group" => group: Text<NAME>,
        "name" => name: Text<NAME>,
        "version" => version: Text<NAME>,
        "purl" => purl: Text<PURL>,
        "components" => components: Gathered<Packages<Component>>,
    }
}

impl AddPackages for Component {
    fn add_to(mut self, packages: &mut Vec<Box<str>>) -> Box<str> {
        if !self.group.0.is_empty() {
            self.name = Text(format!("{}/{}", self.group.0, self.name.0).into());
        }
        packages.extend(named(self.purl, &self.name, &self.version));
        packages.extend(self.components.0.names);
        Box::default()
    }
}

known_fields! {
    /// A package of SPDX 2.
    struct SpdxPackage {
        "SPDXID" => id: Text<ID>,
        "name" => name: Text<NAME>,
        "versionInfo" => version: Text<NAME>,
        "externalRefs" => references: List<Known<SpdxReference>, REFERENCES>,
    }
}

impl AddPackages for SpdxPackage {
    fn add_to(self, packages: &mut Vec<Box<str>>) -> Box<str> {
        let references = self.references.into_iter();
        let locators = references.map(|Known(it)| it.locator.0);
        let before = packages.len();
        // A package may have several package URLs, and each of them counts, whatever the type of the reference is called.
        let purls = locators.filter(|it| is_package_url(it));
        packages.extend(purls.map(|it| with_version(it, &self.version.0)));
        if packages.len() == before {
            packages.extend(named(Text::default(), &self.name, &self.version));
        }
        self.id.0
    }
}

known_fields! {
    struct SpdxReference {
        "referenceLocator" => locator: Text<PURL>,
    }
}

/// The ids of the elements that an SPDX document describes. What is not a text refers to no element.
#[derive(Default)]
struct Described {
    ids: Vec<Box<str>>,
    /// Whether there are more than are remembered.
    is_cut: bool,
}

impl Described {
    fn extend(&mut self, more: Described) {
        let room = MAXIMUM_DESCRIBED.saturating_sub(self.ids.len());
        self.is_cut |= more.is_cut || more.ids.len() > room;
        self.ids.extend(more.ids.into_iter().take(room));
    }

    /// Whether an element is described. Where there are more than are remembered, each is.
    fn includes(&self, id: &str) -> bool {
        self.is_cut || !id.is_empty() && self.ids.iter().any(|it| **it == *id)
    }
}

impl<'de> Deserialize<'de> for Described {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Described, D::Error> {
        struct AnyForm;
        impl<'de> Visitor<'de> for AnyForm {
            type Value = Described;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the id of an element, or a list of ids")
            }
            fn visit_str<E>(self, id: &str) -> Result<Described, E> {
                Ok(Described {
                    ids: vec![id.into()],
                    is_cut: false,
                })
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Described, A::Error> {
                let mut all = Described::default();
                while let Some(item) = items.next_element()? {
                    all.extend(item);
                }
                Ok(all)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Described, A::Error> {
                while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Described::default())
            }
            fn visit_unit<E>(self) -> Result<Described, E> {
                Ok(Described::default())
            }
            fn visit_bool<E>(self, _: bool) -> Result<Described, E> {
                Ok(Described::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Described, E> {
                Ok(Described::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Described, E> {
                Ok(Described::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Described, E> {
                Ok(Described::default())
            }
        }
        from.deserialize_any(AnyForm)
    }
}

/// The relationships of SPDX 2: which elements are described.
#[derive(Default)]
struct Relationships(Described);

impl Gather<'_> for Relationships {
    type Item = Known<Relationship>;

    fn add<E: de::Error>(&mut self, Known(item): Known<Relationship>) -> Result<(), E> {
        // Trivy once wrote `DESCRIBE`.
        match &*item.kind.0 {
            "DESCRIBES" | "DESCRIBE" => self.0.extend(item.to),
            "DESCRIBED_BY" => self.0.extend(item.from),
            _ => {}
        }
        Ok(())
    }
}

known_fields! {
    struct Relationship {
        "spdxElementId" => from: Described,
        "relationshipType" => kind: Text<NAME>,
        "relatedSpdxElement" => to: Described,
    }
}

/// The elements of SPDX 3: its version, the packages, and which elements are described.
#[derive(Default)]
struct Graph {
    version: Option<Box<str>>,
    packages: Packages<Element>,
    described: Described,
}

impl Gather<'_> for Graph {
    type Item = Known<Element>;

    fn add<E: de::Error>(&mut self, Known(mut element): Known<Element>) -> Result<(), E> {
        if &*element.kind.0 != "CreationInfo" {
            self.described.extend(std::mem::take(&mut element.roots));
            if &*element.relationship.0 == "describes" {
                self.described.extend(std::mem::take(&mut element.to));
            }
            return self.packages.add(Known(element));
        }
        let version = element.spec_version.0;
        let known = self.version.as_ref();
        if known.is_some_and(|known| *known != version) {
            return Err(E::custom("elements are of two versions of SPDX"));
        }
        self.version = Some(version);
        Ok(())
    }
}

known_fields! {
    struct Element {
        "type" => kind: Text<NAME>,
        "spdxId" => id: Text<ID>,
        "@id" => short_id: Text<ID>,
        /// Of a document or an SBOM: what it is about.
        "rootElement" => roots: Described,
        /// Of a relationship.
        "relationshipType" => relationship: Text<NAME>,
        "to" => to: Described,
        "specVersion" => spec_version: Text<NAME>,
        "name" => name: Text<NAME>,
        "software_packageVersion" => version: Text<NAME>,
        "software_packageUrl" => purl: Text<PURL>,
        "externalIdentifier" => identifiers: List<Known<Identifier>, REFERENCES>,
    }
}

impl AddPackages for Element {
    fn add_to(self, packages: &mut Vec<Box<str>>) -> Box<str> {
        let identifiers = self.identifiers.into_iter();
        let identifiers = identifiers.map(|Known(it)| it.identifier.0);
        let before = packages.len();
        let purls = identifiers.filter(|it| is_package_url(it));
        packages.extend(purls.map(|it| with_version(it, &self.version.0)));
        let has_purl = !self.purl.0.is_empty() || packages.len() > before;
        if !self.purl.0.is_empty() {
            packages.push(with_version(self.purl.0, &self.version.0));
        }
        if !has_purl && &*self.kind.0 == "software_Package" {
            packages.extend(named(Text::default(), &self.name, &self.version));
        }
        match self.id.0.is_empty() {
            true => self.short_id.0,
            false => self.id.0,
        }
    }
}

known_fields! {
    struct Identifier {
        "identifier" => identifier: Text<PURL>,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(kind: &str, document: &Value) -> Result<SoftwareBill, String> {
        let read = SoftwareBill::read(kind, &document.to_string());
        read.map_err(|why| why.to_string())
    }

    fn cyclone_dx(version: &str) -> Value {
        json!({
            "bomFormat": "CycloneDX", "specVersion": version, "version": 1,
            "metadata": {"component": {"name": "app"}},
            "components": [
                {"type": "library", "name": "musl", "version": "1.2", "purl": "pkg:apk/alpine/musl@1.2", "components": [
                    {"name": "inner", "group": "org.example", "version": "2"},
                ]},
                {"type": "operating-system", "name": "alpine", "version": "3.22"},
            ],
        })
    }

    fn spdx(version: &str) -> Value {
        json!({
            "spdxVersion": version, "SPDXID": "SPDXRef-DOCUMENT", "name": "app",
            "packages": [
                {"SPDXID": "SPDXRef-1", "name": "musl", "versionInfo": "1.2", "externalRefs": [
                    {"referenceCategory": "SECURITY", "referenceType": "cpe23Type", "referenceLocator": "cpe:2.3:a:musl"},
                    {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:apk/alpine/musl@1.2"},
                ]},
                {"SPDXID": "SPDXRef-2", "name": "app"},
            ],
        })
    }

    fn spdx_3(version: &str) -> Value {
        json!({
            "@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld",
            "@graph": [
                {"type": "CreationInfo", "@id": "_:1", "specVersion": version},
                {"type": "software_Package", "name": "musl", "software_packageUrl": "pkg:apk/alpine/musl@1.2"},
                {"type": "software_Package", "name": "app", "software_packageVersion": "1"},
                {"type": "software_File", "name": "/bin/sh"},
            ],
        })
    }

    #[test]
    fn the_packages_of_each_format_are_read() {
        let bill = read(CYCLONE_DX, &cyclone_dx("1.6")).unwrap();
        assert_eq!(
            (bill.format, &*bill.version),
            (SbomFormat::CycloneDx, "1.6")
        );
        let packages: Vec<_> = bill.packages.iter().map(|it| &**it).collect();
        assert_eq!(
            packages,
            [
                "pkg:apk/alpine/musl@1.2",
                "org.example/inner@2",
                "alpine@3.22"
            ]
        );
        let bill = read(SPDX, &spdx("SPDX-2.3")).unwrap();
        assert_eq!((bill.format, &*bill.version), (SbomFormat::Spdx, "2.3"));
        let packages: Vec<_> = bill.packages.iter().map(|it| &**it).collect();
        assert_eq!(packages, ["pkg:apk/alpine/musl@1.2", "app"]);
        let bill = read(SPDX, &spdx_3("3.0.1")).unwrap();
        assert_eq!((bill.format, &*bill.version), (SbomFormat::Spdx, "3.0.1"));
        let packages: Vec<_> = bill.packages.iter().map(|it| &**it).collect();
        assert_eq!(packages, ["pkg:apk/alpine/musl@1.2", "app@1"]);
    }

    #[test]
    fn each_package_url_of_a_package_of_spdx_counts() {
        let reference =
            |kind: &str, locator: &str| json!({"referenceType": kind, "referenceLocator": locator});
        let mut document = spdx("SPDX-2.3");
        document["packages"] = json!([
            {"name": "a", "externalRefs": [reference("purl", "pkg:npm/a@1"), reference("http://spdx.org/rdf/references/purl", "pkg:npm/b@1")]},
            {"name": "c", "externalRefs": [reference("purl", "c@1"), reference("cpe23Type", "cpe:2.3:a:c")]},
            {"name": "d", "externalRefs": [reference("PURL", "pkg:npm/d@1"), reference("package-url", "PKG:npm/e@1"), reference("other", "\tpkg:npm/f@1")]},
        ]);
        let of = |document: &Value| {
            let bill = read(SPDX, document).unwrap();
            let packages: Vec<_> = bill.packages.iter().map(ToString::to_string).collect();
            packages.join(" ")
        };
        assert_eq!(
            of(&document),
            "pkg:npm/a@1 pkg:npm/b@1 c pkg:npm/d@1 PKG:npm/e@1 \u{fffd}pkg:npm/f@1"
        );
        let mut document = spdx_3("3.0.1");
        document["@graph"][1] = json!({
            "type": "software_Package", "name": "a", "software_packageUrl": "pkg:npm/a@1",
            "externalIdentifier": [{"identifier": "pkg:npm/b@1"}, {"identifier": "cpe:2.3:a:b"}],
        });
        assert_eq!(of(&document), "pkg:npm/b@1 pkg:npm/a@1 app@1");
    }

    #[test]
    fn the_version_that_a_document_gives_beside_a_package_url_without_one_counts() {
        let mut documents = [
            (CYCLONE_DX, cyclone_dx("1.6")),
            (SPDX, spdx("SPDX-2.3")),
            (SPDX, spdx_3("3.0.1")),
        ];
        documents[0].1["components"] = json!([{"name": "a", "version": "1", "purl": "pkg:npm/a"}]);
        documents[0].1["metadata"]["component"] =
            json!({"name": "b", "version": "2", "purl": "pkg:npm/b"});
        let reference = |url: &str| json!({"referenceType": "purl", "referenceLocator": url});
        documents[1].1["packages"] = json!([
            {"name": "a", "versionInfo": "1", "externalRefs": [reference("pkg:npm/a")]},
            {"name": "b", "versionInfo": "1", "externalRefs": [reference("pkg:npm/b@2")]},
        ]);
        documents[2].1["@graph"] = json!([
            {"type": "CreationInfo", "specVersion": "3.0.1"},
            {"type": "software_Package", "name": "a", "software_packageVersion": "1", "software_packageUrl": "pkg:npm/a"},
            {"type": "software_Package", "name": "b", "software_packageVersion": "2", "externalIdentifier": [{"identifier": "pkg:npm/b"}]},
        ]);
        for (kind, document) in documents {
            let bill = read(kind, &document).unwrap();
            let packages: Vec<_> = bill.packages.iter().map(|it| &**it).collect();
            assert_eq!(packages, ["pkg:npm/a@1", "pkg:npm/b@2"], "{document}");
        }
    }

    #[test]
    fn a_document_of_two_formats_is_refused_as_both() {
        let both = |one: Value, other: Value| {
            let mut both = one;
            let other = other.as_object().unwrap().clone();
            both.as_object_mut().unwrap().extend(other);
            both
        };
        for document in [
            both(cyclone_dx("1.6"), spdx("SPDX-2.3")),
            both(cyclone_dx("1.6"), spdx("2.3")),
            both(cyclone_dx("1.6"), spdx_3("3.0.1")),
            both(spdx("SPDX-2.3"), spdx_3("3.0.1")),
            both(spdx("SPDX-2.3"), json!({"bomFormat": "cyclonedx"})),
        ] {
            for kind in [CYCLONE_DX, SPDX] {
                let why = read(kind, &document).unwrap_err();
                assert!(why.contains("two formats"), "{why}");
            }
        }
    }

    #[test]
    fn what_a_cyclonedx_document_is_about_is_read_and_does_not_make_it_less_empty() {
        let with = |component: Value| {
            let mut document = cyclone_dx("1.6");
            document["components"] = json!([]);
            document["metadata"] = json!({"component": component});
            let bill = read(CYCLONE_DX, &document).unwrap();
            let packages: Vec<_> = bill.packages.iter().map(ToString::to_string).collect();
            (packages.join(" "), bill.is_empty)
        };
        let inner = json!([{"name": "event-stream", "purl": "pkg:npm/event-stream@3.3.6"}]);
        for (component, packages, is_empty) in [
            (json!(null), "", true),
            (json!({"name": "app"}), "", true),
            (
                json!({"name": "app", "purl": "pkg:npm/app@1"}),
                "pkg:npm/app@1",
                true,
            ),
            (
                json!({"name": "app", "purl": "pkg:npm/app@1", "components": inner}),
                "pkg:npm/event-stream@3.3.6 pkg:npm/app@1",
                false,
            ),
        ] {
            assert_eq!(with(component), (packages.to_owned(), is_empty));
        }
    }

    #[test]
    fn the_only_package_of_an_spdx_document_does_not_count_if_the_document_describes_it() {
        let root = json!({"SPDXID": "SPDXRef-root", "name": "app", "externalRefs": [
            {"referenceType": "purl", "referenceLocator": "pkg:oci/app@1"},
            {"referenceType": "purl", "referenceLocator": "pkg:oci/app@2"},
        ]});
        let related = |from: &str, kind: &str, to: &str| json!({"relationships": [{"relatedSpdxElement": to, "spdxElementId": from, "relationshipType": kind}]});
        let described = json!({"documentDescribes": ["SPDXRef-root"]});
        let of = |packages: Value, about: &Value| {
            let mut document = spdx("SPDX-2.2");
            document["packages"] = packages;
            let about = about.as_object().unwrap().clone();
            document.as_object_mut().unwrap().extend(about);
            read(SPDX, &document).unwrap()
        };
        for (about, is_empty) in [
            (described.clone(), true),
            (
                related("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-root"),
                true,
            ),
            (
                related("SPDXRef-DOCUMENT", "DESCRIBE", "SPDXRef-root"),
                true,
            ),
            (
                related("SPDXRef-root", "DESCRIBED_BY", "SPDXRef-DOCUMENT"),
                true,
            ),
            (
                related("SPDXRef-DOCUMENT", "CONTAINS", "SPDXRef-root"),
                false,
            ),
            (
                related("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-other"),
                false,
            ),
            (json!({"documentDescribes": null}), false),
            (json!({"documentDescribes": [{"SPDXRef-root": 1}]}), false),
            (json!({"documentDescribes": [1, -1, 1.5, true]}), false),
            (json!({"documentDescribes": [1, "SPDXRef-root"]}), true),
            (json!({"documentDescribes": 5}), false),
            (json!({}), false),
        ] {
            let bill = of(json!([root]), &about);
            assert_eq!(bill.is_empty, is_empty, "{about}");
            // A denied package may be the one that the document is about.
            assert_eq!(bill.packages.len(), 2);
        }
        let nameless = json!({"SPDXID": "SPDXRef-1"});
        assert!(of(json!([nameless, root]), &described).is_empty);
        let other = json!({"SPDXID": "SPDXRef-1", "name": "musl"});
        assert!(!of(json!([root, other]), &described).is_empty);
        assert!(!of(json!([other]), &described).is_empty);
        // Some programs describe each package.
        let both = json!({"documentDescribes": ["SPDXRef-root", "SPDXRef-1"]});
        assert!(!of(json!([root, other]), &both).is_empty);
        // An image of one package, by a program that describes each package.
        let with = |url: &str| {
            let reference = json!({"referenceType": "purl", "referenceLocator": url});
            json!({"SPDXID": "SPDXRef-root", "name": "app", "externalRefs": [reference]})
        };
        for (url, is_empty) in [
            ("pkg:golang/example.com/app@v1.0.0", false),
            ("pkg:OCI/app@1", true),
            ("pkg:docker/app@1", true),
            ("pkg:app", true),
        ] {
            let bill = of(json!([with(url)]), &described);
            assert_eq!(bill.is_empty, is_empty, "{url}");
        }
        // A package without an id is not described.
        let nothing = json!({"documentDescribes": [""]});
        assert!(!of(json!([{"name": "musl"}]), &nothing).is_empty);
    }

    #[test]
    fn the_only_package_of_spdx_3_does_not_count_if_it_is_a_root_element() {
        let of = |elements: &[Value]| {
            let mut document = spdx_3("3.0.1");
            let graph = document["@graph"].as_array_mut().unwrap();
            graph.truncate(1);
            graph.extend(elements.iter().cloned());
            read(SPDX, &document).unwrap().is_empty
        };
        let root =
            json!({"type": "software_Package", "spdxId": "https://a.example/1", "name": "app"});
        let short = json!({"type": "software_Package", "@id": "_:2", "name": "app"});
        let other =
            json!({"type": "software_Package", "spdxId": "https://a.example/3", "name": "musl"});
        let bill = |roots: Value| json!({"type": "software_Sbom", "rootElement": roots});
        let related = |kind: &str| json!({"type": "Relationship", "relationshipType": kind, "to": ["https://a.example/1"]});
        for (elements, is_empty) in [
            (vec![root.clone()], false),
            (vec![root.clone(), bill(json!("https://a.example/1"))], true),
            (
                vec![bill(json!(["https://a.example/1"])), root.clone()],
                true,
            ),
            (vec![short, bill(json!(["_:2"]))], true),
            (vec![root.clone(), related("describes")], true),
            (vec![root.clone(), related("contains")], false),
            (vec![root.clone(), bill(json!(5))], false),
            (
                vec![other.clone(), bill(json!(["https://a.example/1"]))],
                false,
            ),
            (
                vec![root, other, bill(json!(["https://a.example/1"]))],
                false,
            ),
            (vec![bill(json!([]))], true),
        ] {
            assert_eq!(of(&elements), is_empty, "{elements:?}");
        }
    }

    #[test]
    fn more_described_elements_than_are_remembered_make_the_only_package_one_of_them() {
        let of = |count: usize| {
            let ids: Vec<_> = (0..count).map(|it| format!("SPDXRef-File-{it}")).collect();
            let mut document = spdx("SPDX-2.3");
            document["packages"] = json!([{"SPDXID": "SPDXRef-1", "name": "musl"}]);
            document["documentDescribes"] = json!(ids);
            read(SPDX, &document).unwrap().is_empty
        };
        assert!(!of(MAXIMUM_DESCRIBED));
        assert!(of(MAXIMUM_DESCRIBED + 1));
    }

    #[test]
    fn every_version_that_is_named_is_read_and_no_other() {
        for version in CYCLONE_DX_VERSIONS {
            assert!(read(CYCLONE_DX, &cyclone_dx(version)).is_ok(), "{version}");
        }
        for version in ["SPDX-2.2", "SPDX-2.3"] {
            assert!(
                read("https://spdx.dev/Document/v2.3", &spdx(version)).is_ok(),
                "{version}"
            );
        }
        for refused in [
            read(CYCLONE_DX, &cyclone_dx("1.1")),
            read(CYCLONE_DX, &cyclone_dx("1.70")),
            read(CYCLONE_DX, &cyclone_dx("2.0")),
            read(SPDX, &spdx("SPDX-2.1")),
            read(SPDX, &spdx("SPDX-2.20")),
            read(SPDX, &spdx_3("3.1.0")),
        ] {
            assert!(refused.unwrap_err().contains("format-not-supported"));
        }
    }

    #[test]
    fn what_is_not_an_sbom_of_its_type_is_refused() {
        for (kind, document, place) in [
            (SPDX, cyclone_dx("1.6"), "not of the format"),
            (CYCLONE_DX, spdx("SPDX-2.3"), "not of the format"),
            (SPDX, json!({}), "neither an SPDX nor a CycloneDX"),
            (
                SPDX,
                json!({"packages": []}),
                "neither an SPDX nor a CycloneDX",
            ),
            (SPDX, json!("SPDXVersion: SPDX-2.3"), "an object"),
            (
                CYCLONE_DX,
                json!({"bomFormat": "CycloneDX", "specVersion": "1.6", "Components": []}),
                "another case",
            ),
            (
                SPDX,
                json!({"@graph": [{"type": "CreationInfo", "specVersion": "3.0.1"}, {"type": "CreationInfo", "specVersion": "3.0.0"}]}),
                "two versions",
            ),
        ] {
            let why = read(kind, &document).unwrap_err();
            assert!(why.contains(place), "{why}");
        }
        assert!(!is_sbom("https://spdx.dev/Documentation"));
        assert!(is_sbom("https://cyclonedx.org/bom/v1.4"));
    }

    #[test]
    fn more_packages_than_are_read_are_refused() {
        let of = |count: usize| {
            let mut document = cyclone_dx("1.6");
            document["components"] = json!(vec![json!({"name": "a"}); count]);
            SoftwareBill::read(CYCLONE_DX, &document.to_string())
        };
        assert_eq!(
            of(MAXIMUM_PACKAGES).unwrap().packages.len(),
            MAXIMUM_PACKAGES
        );
        assert_eq!(of(MAXIMUM_PACKAGES + 1).unwrap_err().reason.id, "too-large");
    }
}
