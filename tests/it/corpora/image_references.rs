use promotion_gate_core::gate::ImageReference;
use serde_json::Value;

use super::{Tally, folder, read};

/// Registry, repository, tag and digest.
type Parts = (String, String, Option<String>, Option<String>);

#[test]
fn image_references_are_parsed_like_distribution_reference() {
    let Some(folder) = folder("image-references") else {
        return;
    };
    let mut tally = Tally::of("image-references");
    let text = String::from_utf8(read(&folder, "oracle.jsonl")).unwrap();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let input = case["input"].as_str().unwrap();
        let distribution = &case["distribution"];
        let field = |name: &str| distribution[name].as_str().map(str::to_owned);
        let wanted: Option<Parts> = field("error").is_none().then(|| {
            (
                field("domain").unwrap(),
                field("path").unwrap(),
                field("tag"),
                field("digest"),
            )
        });
        let said: Option<Parts> = input.parse::<ImageReference>().ok().map(|image| {
            (
                image.registry().to_owned(),
                image.repository().path().to_owned(),
                image.tag().map(str::to_owned),
                image.digest().map(ToString::to_string),
            )
        });
        // distribution adds `latest` where neither is written; here that is not the same as having written it.
        let said = said.map(|(registry, repository, tag, digest)| {
            let implied =
                tag.is_none() && digest.is_none() && field("tag").as_deref() == Some("latest");
            let tag = if implied {
                Some("latest".to_owned())
            } else {
                tag
            };
            (registry, repository, tag, digest)
        });
        tally.expect(format!("{input:?}"), said, wanted);
    }
    tally.close(text.lines().count());
}
