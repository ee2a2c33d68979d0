//! The predicates of software bills of materials: SPDX (`https://spdx.dev/Document`, 2.2 to 3.0) and CycloneDX
//! (`https://cyclonedx.org/bom`, 1.2 to 1.7), in JSON. Of each package, the package URL or the name is kept.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::fields::{self, Known, List, ReadFields, Text, too_many};
use crate::attest::unaccepted::{FORMAT_NOT_SUPPORTED, MALFORMED_PREDICATE, UnacceptedReason};

/// The most packages of a document.
pub const MAXIMUM_PACKAGES: usize = 50_000;
/// The most bytes of a name, and of a package URL.
const NAME: usize = 1024;
const PURL: usize = 2048;
/// The most references of one package.
const REFERENCES: usize = 10_000;

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
    /// The package URL of each package, or its name and version.
    pub packages: Box<[Box<str>]>,
}

impl SoftwareBill {
    /// Reads a predicate of this type.
    ///
    /// # Errors
    /// Why the document is not understood.
    pub fn read(predicate_type: &str, text: &str) -> Result<SoftwareBill, UnacceptedReason> {
        let of_type = SbomFormat::of_type(predicate_type);
        let Known(written): Known<WrittenBill> = fields::read(text)?;
        let refused = |why: &str| {
            let why = format!("the predicate cannot be read: {why}");
            UnacceptedReason::new(MALFORMED_PREDICATE, why)
        };
        let is_cyclone_dx = &*written.bom_format.0 == "CycloneDX";
        let (format, version, packages) = if is_cyclone_dx {
            (
                SbomFormat::CycloneDx,
                written.spec_version.0,
                written.components.0,
            )
        } else if let Some(version) = written.spdx_version.0.strip_prefix("SPDX-") {
            (SbomFormat::Spdx, version.into(), written.packages.0)
        } else if let Some(version) = written.graph.version {
            (SbomFormat::Spdx, version, written.graph.packages.0)
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
        Ok(SoftwareBill {
            format,
            version,
            packages: packages.into(),
        })
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

#[derive(Default)]
struct WrittenBill {
    bom_format: Text<NAME>,
    spec_version: Text<NAME>,
    components: Packages<Component>,
    spdx_version: Text<NAME>,
    packages: Packages<SpdxPackage>,
    graph: Graph,
}

impl ReadFields for WrittenBill {
    const NAMES: &'static [&'static str] = &[
        "bomFormat",
        "specVersion",
        "components",
        "spdxVersion",
        "packages",
        "@graph",
    ];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "bomFormat" => self.bom_format = entries.next_value()?,
            "specVersion" => self.spec_version = entries.next_value()?,
            "components" => self.components = entries.next_value()?,
            "spdxVersion" => self.spdx_version = entries.next_value()?,
            "packages" => self.packages = entries.next_value()?,
            _ => self.graph = entries.next_value()?,
        }
        Ok(())
    }
}

/// A package as a format writes it.
trait AddPackages {
    fn add_to(self, packages: &mut Vec<Box<str>>);
}

/// The packages of a list.
struct Packages<T>(Vec<Box<str>>, std::marker::PhantomData<T>);

impl<T> Default for Packages<T> {
    fn default() -> Packages<T> {
        Packages(Vec::new(), std::marker::PhantomData)
    }
}

impl<'de, T: ReadFields + AddPackages> Deserialize<'de> for Packages<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Packages<T>, D::Error> {
        struct Items<T>(std::marker::PhantomData<T>);
        impl<'de, T: ReadFields + AddPackages> Visitor<'de> for Items<T> {
            type Value = Packages<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of packages")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Packages<T>, A::Error> {
                let mut all = Packages::default();
                while let Some(Known(item)) = items.next_element::<Known<T>>()? {
                    item.add_to(&mut all.0);
                    if all.0.len() > MAXIMUM_PACKAGES {
                        return Err(too_many(MAXIMUM_PACKAGES, "packages"));
                    }
                }
                Ok(all)
            }
            fn visit_unit<E>(self) -> Result<Packages<T>, E> {
                Ok(Packages::default())
            }
        }
        from.deserialize_any(Items(std::marker::PhantomData))
    }
}

/// The package URL, or the name with its version; nothing for a package without a name.
fn named(purl: Text<PURL>, name: &Text<NAME>, version: &Text<NAME>) -> Option<Box<str>> {
    match (purl.0.is_empty(), name.0.is_empty(), version.0.is_empty()) {
        (false, _, _) => Some(purl.0),
        (true, true, _) => None,
        (true, false, true) => Some(name.0.clone()),
        (true, false, false) => Some(format!("{}@{}", name.0, version.0).into()),
    }
}

/// A component of CycloneDX, with the components that it contains.
#[derive(Default)]
struct Component {
    group: Text<NAME>,
    name: Text<NAME>,
    version: Text<NAME>,
    purl: Text<PURL>,
    components: Packages<Component>,
}

impl ReadFields for Component {
    const NAMES: &'static [&'static str] = &["group", "name", "version", "purl", "components"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "group" => self.group = entries.next_value()?,
            "name" => self.name = entries.next_value()?,
            "version" => self.version = entries.next_value()?,
            "purl" => self.purl = entries.next_value()?,
            _ => self.components = entries.next_value()?,
        }
        Ok(())
    }
}

impl AddPackages for Component {
    fn add_to(mut self, packages: &mut Vec<Box<str>>) {
        if !self.group.0.is_empty() {
            self.name = Text(format!("{}/{}", self.group.0, self.name.0).into());
        }
        packages.extend(named(self.purl, &self.name, &self.version));
        packages.extend(self.components.0);
    }
}

/// A package of SPDX 2.
#[derive(Default)]
struct SpdxPackage {
    name: Text<NAME>,
    version: Text<NAME>,
    references: List<Known<SpdxReference>, REFERENCES>,
}

impl ReadFields for SpdxPackage {
    const NAMES: &'static [&'static str] = &["name", "versionInfo", "externalRefs"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "name" => self.name = entries.next_value()?,
            "versionInfo" => self.version = entries.next_value()?,
            _ => self.references = entries.next_value()?,
        }
        Ok(())
    }
}

impl AddPackages for SpdxPackage {
    fn add_to(self, packages: &mut Vec<Box<str>>) {
        let references = self.references.0.into_iter().map(|Known(it)| it);
        let purls = references.filter(|it| it.kind.0.ends_with("purl"));
        let before = packages.len();
        // A package may have several package URLs, and each of them counts.
        packages.extend(
            purls
                .map(|it| it.locator.0)
                .filter(|it| it.starts_with("pkg:")),
        );
        if packages.len() == before {
            packages.extend(named(Text::default(), &self.name, &self.version));
        }
    }
}

#[derive(Default)]
struct SpdxReference {
    kind: Text<NAME>,
    locator: Text<PURL>,
}

impl ReadFields for SpdxReference {
    const NAMES: &'static [&'static str] = &["referenceType", "referenceLocator"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "referenceType" => self.kind = entries.next_value()?,
            _ => self.locator = entries.next_value()?,
        }
        Ok(())
    }
}

/// The elements of SPDX 3: its version, and the packages.
#[derive(Default)]
struct Graph {
    version: Option<Box<str>>,
    packages: Packages<Element>,
}

impl<'de> Deserialize<'de> for Graph {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Graph, D::Error> {
        struct Elements;
        impl<'de> Visitor<'de> for Elements {
            type Value = Graph;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of elements")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Graph, A::Error> {
                let mut graph = Graph::default();
                while let Some(Known(element)) = items.next_element::<Known<Element>>()? {
                    if &*element.kind.0 == "CreationInfo" {
                        let version = element.spec_version.0;
                        if graph
                            .version
                            .as_ref()
                            .is_some_and(|known| *known != version)
                        {
                            return Err(de::Error::custom("elements are of two versions of SPDX"));
                        }
                        graph.version = Some(version);
                        continue;
                    }
                    element.add_to(&mut graph.packages.0);
                    if graph.packages.0.len() > MAXIMUM_PACKAGES {
                        return Err(too_many(MAXIMUM_PACKAGES, "packages"));
                    }
                }
                Ok(graph)
            }
        }
        from.deserialize_any(Elements)
    }
}

#[derive(Default)]
struct Element {
    kind: Text<NAME>,
    spec_version: Text<NAME>,
    name: Text<NAME>,
    version: Text<NAME>,
    purl: Text<PURL>,
    identifiers: List<Known<Identifier>, REFERENCES>,
}

impl ReadFields for Element {
    const NAMES: &'static [&'static str] = &[
        "type",
        "specVersion",
        "name",
        "software_packageVersion",
        "software_packageUrl",
        "externalIdentifier",
    ];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        match name {
            "type" => self.kind = entries.next_value()?,
            "specVersion" => self.spec_version = entries.next_value()?,
            "name" => self.name = entries.next_value()?,
            "software_packageVersion" => self.version = entries.next_value()?,
            "software_packageUrl" => self.purl = entries.next_value()?,
            _ => self.identifiers = entries.next_value()?,
        }
        Ok(())
    }
}

impl AddPackages for Element {
    fn add_to(self, packages: &mut Vec<Box<str>>) {
        let identifiers = self
            .identifiers
            .0
            .into_iter()
            .map(|Known(it)| it.identifier.0);
        let before = packages.len();
        packages.extend(identifiers.filter(|it| it.starts_with("pkg:")));
        let has_purl = !self.purl.0.is_empty() || packages.len() > before;
        if !self.purl.0.is_empty() {
            packages.push(self.purl.0);
        }
        if !has_purl && &*self.kind.0 == "software_Package" {
            packages.extend(named(Text::default(), &self.name, &self.version));
        }
    }
}

#[derive(Default)]
struct Identifier {
    identifier: Text<PURL>,
}

impl ReadFields for Identifier {
    const NAMES: &'static [&'static str] = &["identifier"];

    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        _: &'static str,
        entries: &mut A,
    ) -> Result<(), A::Error> {
        self.identifier = entries.next_value()?;
        Ok(())
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
