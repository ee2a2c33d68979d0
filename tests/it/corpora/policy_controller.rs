use promotion_gate_core::gate::{ImagePattern, ImageReference};
use serde_json::Value;

use super::{Tally, folder, read};

#[test]
fn image_patterns_match_what_policy_controllers_globs_match() {
    let Some(folder) = folder("policy-controller") else {
        return;
    };
    let mut tally = Tally::of("policy-controller");
    let cases: Vec<Value> = serde_json::from_slice(&read(&folder, "glob-cases.json")).unwrap();
    for case in &cases {
        let field = |name: &str| case[name].as_str().unwrap();
        let wanted = (!case["error"].as_bool().unwrap()).then(|| case["match"].as_bool().unwrap());
        let pattern = ImagePattern::parse(field("glob")).ok();
        let image = field("image").parse::<ImageReference>().ok();
        let said = pattern
            .zip(image)
            .map(|(pattern, image)| pattern.matches(&image));
        let name = format!("`{}` and `{}`", field("glob"), field("image"));
        tally.expect(name, said, wanted);
    }
    tally.close(cases.len());
}
