//! What OpenVEX documents take back, as the cluster keeps it, so that deleting a document in a registry clears nothing again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::image::Digest;
use crate::attest::predicate::{PackageName, VexProduct, VexStatement, VexStatus};
use crate::attest::{KeyFingerprint, Signer, SignerName};

/// What the documents of one signer take back about one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVex {
    /// The name of the resource; empty for what is not kept yet.
    pub name: String,
    /// Who signed the documents.
    pub signer: KeptSigner,
    /// What they say.
    pub statements: Vec<KeptVexStatement>,
}

/// A signer, as far as the cluster keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeptSigner {
    /// The holder of a certificate.
    Keyless {
        /// The issuer that authenticated the identity.
        issuer: String,
        /// The subject alternative name.
        identity: String,
    },
    /// The holder of a key.
    Key(KeyFingerprint),
}

impl KeptSigner {
    /// The signer of a statement; `None` for a certificate without an issuer, which no policy accepts.
    pub(super) fn of(signer: &Signer) -> Option<KeptSigner> {
        Some(match signer.name() {
            SignerName::Certificate(identity, issuer) => KeptSigner::Keyless {
                issuer: issuer?.to_owned(),
                identity: identity.to_owned(),
            },
            SignerName::Key(fingerprint) => KeptSigner::Key(fingerprint.clone()),
        })
    }

    /// Who it is.
    pub fn name(&self) -> SignerName<'_> {
        match self {
            KeptSigner::Keyless { issuer, identity } => {
                SignerName::Certificate(identity, Some(issuer))
            }
            KeptSigner::Key(fingerprint) => SignerName::Key(fingerprint),
        }
    }
}

/// A statement that may take back what an older one clears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptVexStatement {
    /// What it says. Without ids it is a document that could not be read, which may be about each vulnerability.
    pub(super) said: VexStatement,
    /// The digest of the document that said it last.
    pub document: Option<Digest>,
}

impl KeptVexStatement {
    /// Without vulnerabilities, it is about all of them, and without packages about every package. Without a time, it takes back
    /// whatever is older than the review.
    pub fn new(
        vulnerabilities: impl IntoIterator<Item = String>,
        packages: impl IntoIterator<Item = PackageName>,
        at: Option<Timestamp>,
        document: Option<Digest>,
    ) -> KeptVexStatement {
        let components: Box<[_]> = packages.into_iter().map(|it| Some(it.into())).collect();
        let product = VexProduct {
            digests: Box::default(),
            components,
        };
        let has_packages = !product.components.is_empty();
        KeptVexStatement {
            said: VexStatement {
                ids: vulnerabilities.into_iter().map(Into::into).collect(),
                products: has_packages.then_some(product).into_iter().collect(),
                status: VexStatus::Affected,
                at: at.unwrap_or(Timestamp::MAX),
            },
            document,
        }
    }

    /// The vulnerabilities; none for a document that could not be read.
    pub fn vulnerabilities(&self) -> impl Iterator<Item = &str> {
        self.said.ids.iter().map(|id| &**id)
    }

    /// The packages; none for all of them.
    pub fn packages(&self) -> impl Iterator<Item = &PackageName> {
        let products = self.said.products.iter();
        let components = products.flat_map(|product| &product.components);
        components.flatten().map(|it| it.package())
    }

    /// When it was said; `None` where no verified time was known.
    pub fn at(&self) -> Option<Timestamp> {
        Some(self.said.at).filter(|at| *at < Timestamp::MAX)
    }

    pub(super) fn is_unreadable(&self) -> bool {
        self.said.ids.is_empty()
    }
}

/// The newest statement about each vulnerability in each package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenBack(BTreeMap<About, Newest>);

/// The most entries. A statement that has no room is kept as one about every package, or about every vulnerability if that has none either.
const MAXIMUM_ENTRIES: usize = 20_000;

/// What a statement is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct About {
    /// The id in lower case; empty for every vulnerability.
    id: String,
    /// `None` for every package.
    package: Option<PackageName>,
    /// The document, where no time of it is known. A time can become known later, so that no other document says what this one does.
    untimed: Option<Option<Digest>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Newest {
    /// The id, in the letters of the document.
    id: String,
    at: Timestamp,
    document: Option<Digest>,
}

impl TakenBack {
    /// Adds what a statement says, unless a newer one says it.
    pub fn add(&mut self, statement: &KeptVexStatement) {
        let mut packages: Vec<_> = statement.packages().cloned().map(Some).collect();
        let mut ids: Vec<_> = statement.vulnerabilities().collect();
        let room = MAXIMUM_ENTRIES.saturating_sub(self.0.len());
        if packages.is_empty() || ids.len().saturating_mul(packages.len()) > room {
            packages = vec![None];
        }
        if ids.is_empty() || ids.len() > room {
            ids = vec![""];
        }
        for id in ids {
            for package in &packages {
                let newest = Newest {
                    id: id.to_owned(),
                    at: statement.said.at,
                    document: statement.document.clone(),
                };
                self.insert(newest.about(package.clone()), newest);
            }
        }
    }

    /// What these say and `kept` does not.
    #[must_use]
    pub fn without(mut self, kept: &TakenBack) -> TakenBack {
        self.0.retain(|about, newest| !kept.says(about, newest));
        self
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The same in few statements: one for everything that was said of the same packages, at one time and by one document.
    pub fn statements(&self) -> Vec<KeptVexStatement> {
        let mut by_id: BTreeMap<_, BTreeSet<Option<&PackageName>>> = BTreeMap::new();
        for (about, Newest { id, at, document }) in &self.0 {
            let packages = by_id.entry((at, document, id)).or_default();
            packages.insert(about.package.as_ref());
        }
        let mut together: BTreeMap<_, Vec<&String>> = BTreeMap::new();
        for ((at, document, id), packages) in by_id {
            // A statement about every package makes those about single packages superfluous.
            let packages = match packages.contains(&None) {
                true => BTreeSet::from([None]),
                false => packages,
            };
            let is_unreadable = id.is_empty();
            let same = together.entry((at, document, packages, is_unreadable));
            same.or_default().push(id);
        }
        let each = together.into_iter();
        let each = each.map(|((at, document, packages, is_unreadable), ids)| {
            let ids = ids.into_iter().filter(|_| !is_unreadable).cloned();
            let packages = packages.into_iter().flatten().cloned();
            let at = Some(*at).filter(|at| *at < Timestamp::MAX);
            KeptVexStatement::new(ids, packages, at, document.clone())
        });
        each.collect()
    }

    /// Adds an entry, unless another one already says as much. Removes the entries that it makes superfluous: older ones about single
    /// packages where it is about every package, and the same entry without a time where its time is now known.
    fn insert(&mut self, about: About, newest: Newest) {
        if self.says(&about, &newest) {
            return;
        }
        if about.untimed.is_none() {
            self.0.remove(&newest.untimed(about.package.clone()));
        }
        if about.package.is_none() {
            let of_id = self.0.range(about.clone()..);
            let of_id = of_id.take_while(|(other, _)| other.id == about.id);
            let needless = of_id
                .filter(|(other, older)| other.untimed == about.untimed && older.at <= newest.at);
            let needless: Vec<_> = needless.map(|(other, _)| other.clone()).collect();
            for other in needless {
                self.0.remove(&other);
            }
        }
        self.0.insert(about, newest);
    }

    /// Whether this is said of the same package or of every one, at this time or later.
    fn says(&self, about: &About, newest: &Newest) -> bool {
        let package = about.package.clone();
        let of_all = package.is_some().then_some(None);
        let mut packages = of_all.into_iter().chain([package]);
        packages.any(|package| {
            let same = About {
                package: package.clone(),
                ..about.clone()
            };
            let is_as_new = self.0.get(&same).is_some_and(|known| newest.at <= known.at);
            // Of one document, a known time is better than none.
            let timed = About {
                package,
                untimed: None,
                ..about.clone()
            };
            let known = self.0.get(&timed).and_then(|known| known.document.as_ref());
            is_as_new
                || about.untimed.is_some() && known.is_some() && known == newest.document.as_ref()
        })
    }
}

impl Newest {
    fn about(&self, package: Option<PackageName>) -> About {
        match self.at == Timestamp::MAX {
            true => self.untimed(package),
            false => About {
                untimed: None,
                ..self.untimed(package)
            },
        }
    }

    /// What it is about where no time of its document is known.
    fn untimed(&self, package: Option<PackageName>) -> About {
        About {
            id: self.id.to_ascii_lowercase(),
            package,
            untimed: Some(self.document.clone()),
        }
    }
}

impl<'a> FromIterator<&'a KeptVexStatement> for TakenBack {
    fn from_iter<T: IntoIterator<Item = &'a KeptVexStatement>>(statements: T) -> TakenBack {
        let mut taken_back = TakenBack::default();
        for statement in statements {
            taken_back.add(statement);
        }
        taken_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Option<Timestamp> {
        Timestamp::from_second(1_900_000_000 + hour * 3600).ok()
    }

    fn said(
        ids: &[&str],
        packages: &[&str],
        hour: Option<i64>,
        document: &str,
    ) -> KeptVexStatement {
        let ids = ids.iter().map(|id| (*id).to_owned());
        let packages = packages.iter().map(|it| PackageName::of(it).unwrap());
        let document = Some(document).filter(|it| !it.is_empty());
        let document = document.map(|it| Digest::sha256(it.as_bytes()));
        KeptVexStatement::new(ids, packages, hour.and_then(at), document)
    }

    fn taken_back(statements: &[KeptVexStatement]) -> TakenBack {
        statements.iter().collect()
    }

    const A: &str = "pkg:npm/a@1";
    const B: &str = "pkg:npm/b";

    #[test]
    fn of_each_vulnerability_in_each_package_the_newest_statement_is_kept() {
        let old = said(&["CVE-1", "GHSA-1"], &[A, B], Some(1), "one");
        let new = said(&["cve-1"], &[B], Some(2), "two");
        let expected = [
            said(&["CVE-1"], &[A], Some(1), "one"),
            said(&["GHSA-1"], &[A, B], Some(1), "one"),
            said(&["cve-1"], &[B], Some(2), "two"),
        ];
        for order in [[&old, &new], [&new, &old]] {
            let all: TakenBack = order.into_iter().collect();
            assert_eq!(all.statements(), expected);
            assert_eq!(taken_back(&all.statements()), all);
        }
        // A time can become known later, so what has none takes the place of no other one.
        let untimed = said(&["CVE-1"], &[A, B], None, "three");
        let all = taken_back(&[old.clone(), untimed.clone(), new.clone()]);
        let timed = expected.iter().cloned();
        assert_eq!(
            all.statements(),
            timed.chain([untimed.clone()]).collect::<Vec<_>>()
        );
        let known = said(&["CVE-1"], &[A, B], Some(0), "three");
        let all = taken_back(&[untimed.clone(), known.clone()]);
        assert_eq!(all.statements(), [known]);
        assert_eq!(untimed.at(), None);
    }

    #[test]
    fn what_is_said_of_every_package_needs_no_older_one_of_a_single_package() {
        let of_one = |hour| said(&["CVE-1"], &[A], Some(hour), "one");
        let of_all = said(&["CVE-1"], &[], Some(2), "two");
        for (hour, statements) in [(1, 1), (2, 1), (3, 2)] {
            for order in [
                [of_one(hour), of_all.clone()],
                [of_all.clone(), of_one(hour)],
            ] {
                assert_eq!(taken_back(&order).statements().len(), statements);
            }
        }
        let other = said(&["CVE-10"], &[A], Some(1), "one");
        let both = taken_back(&[other.clone(), of_all.clone()]);
        assert_eq!(both.statements(), [other, of_all]);
    }

    #[test]
    fn what_is_kept_already_is_left_out() {
        let kept = taken_back(&[
            said(&["CVE-1"], &[], Some(2), "one"),
            said(&[], &[], Some(2), "broken"),
        ]);
        let left =
            |statement: KeptVexStatement| !taken_back(&[statement]).without(&kept).is_empty();
        for (statement, is_left) in [
            (said(&["CVE-1"], &[], Some(2), "two"), false),
            (said(&["cve-1"], &[A], Some(1), "two"), false),
            (said(&["CVE-1"], &[A], Some(3), "two"), true),
            (said(&["CVE-2"], &[A], Some(1), "two"), true),
            (said(&["CVE-1"], &[], None, "two"), true),
            // Of the same document, a time is known.
            (said(&["CVE-1"], &[], None, "one"), false),
            (said(&[], &[], Some(1), "older"), false),
            (said(&[], &[], Some(3), "newer"), true),
        ] {
            assert_eq!(left(statement.clone()), is_left, "{statement:?}");
        }
        let untimed = taken_back(&[said(&["CVE-1"], &[], None, "one")]);
        let timed = |document| taken_back(&[said(&["CVE-1"], &[], Some(1), document)]);
        assert!(!timed("one").without(&untimed).is_empty());
        assert!(!timed("two").without(&untimed).is_empty());
        let untimed_two = taken_back(&[said(&["CVE-1"], &[], None, "two")]);
        assert!(!untimed_two.without(&untimed).is_empty());
    }

    #[test]
    fn attack_many_ids_in_many_packages_take_bounded_memory_and_lose_nothing() {
        let numbered = |kind: &str, count: usize| -> Vec<String> {
            (0..count).map(|n| format!("{kind}{n:05}")).collect()
        };
        let of = |ids: usize, packages: usize| {
            let packages = numbered("pkg:npm/p", packages);
            let packages: Vec<_> = packages
                .iter()
                .map(|it| PackageName::of(it).unwrap())
                .collect();
            KeptVexStatement::new(numbered("CVE-", ids), packages, at(1), None)
        };
        let many = taken_back(&[of(1000, 1000)]).statements();
        assert!(many == [of(1000, 0)]);
        let more = taken_back(&[of(MAXIMUM_ENTRIES + 1, 1)]).statements();
        assert!(more == [of(0, 0)]);
        let all = taken_back(&[of(1000, 20), of(2, 30)]);
        let every = said(&[], &[], Some(1), "");
        assert!(all.statements().contains(&every), "{:?}", all.0.len());
    }
}
