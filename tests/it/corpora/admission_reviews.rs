use promotion_gate::admission::{Understood, understand};
use serde_json::Value;

use super::{Tally, folder, read};

/// What became of a review: its images, `None` where it is refused as a whole.
type Said = Option<Vec<String>>;

#[test]
fn admission_reviews_are_understood_or_refused() {
    let Some(folder) = folder("admission-reviews") else {
        return;
    };
    let mut tally = Tally::of("admission-reviews");
    let index = String::from_utf8(read(&folder, "index.jsonl")).unwrap();
    for line in index.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let file = case["file"].as_str().unwrap();
        let body = read(&folder, file);
        cut_and_damaged(&body);

        let current = case["version"] == "admission.k8s.io/v1";
        if !current {
            let refused = understand(&body, &[]).unwrap_err();
            assert!(refused.why.contains("v1beta1"), "{file}: {refused}");
        }
        // What is in an old review must be understood in a new one too.
        let body = upgraded(&body);
        let said = said(&body);
        tally.expect(file, said, wanted(&case, &body));
    }
    tally.close(index.lines().count());
}

fn wanted(case: &Value, body: &[u8]) -> Said {
    if case["kind"].is_null() {
        return None;
    }
    let review: Value = serde_json::from_slice(body).unwrap();
    let request = &review["request"];
    // An update that changes nothing of what runs (a number of replicas) is none of our business.
    let template = |object: &str| request[object].pointer("/spec/template").cloned();
    let same = case["operation"] == "UPDATE" && template("object") == template("oldObject");
    let images = case["images"].as_array().unwrap();
    let mut images: Vec<_> = images
        .iter()
        .map(|image| image.as_str().unwrap().to_owned())
        .collect();
    images.sort();
    Some(if same { Vec::new() } else { images })
}

fn said(body: &[u8]) -> Said {
    match understand(body, &[]).ok()?.understood {
        Understood::Governance(_) | Understood::NotOurs(_) => Some(Vec::new()),
        Understood::Refers(_) => None,
        Understood::Change(change) => {
            let images = change.images.iter();
            let mut images: Vec<_> = images
                .map(|image| image.reference.as_written().to_owned())
                .collect();
            images.sort();
            Some(images)
        }
    }
}

fn upgraded(body: &[u8]) -> Vec<u8> {
    let mut review: Value = serde_json::from_slice(body).unwrap();
    review["apiVersion"] = "admission.k8s.io/v1".into();
    review.to_string().into_bytes()
}

/// A body that is cut is refused; one that is damaged is anything but a panic.
fn cut_and_damaged(body: &[u8]) {
    let end = body.trim_ascii_end().len();
    for at in (0..end).step_by(61) {
        assert!(understand(&body[..at], &[]).is_err(), "cut at {at}");
        let mut damaged = body.to_vec();
        damaged[at] ^= 0x15;
        let _ = understand(&damaged, &[]);
    }
}
