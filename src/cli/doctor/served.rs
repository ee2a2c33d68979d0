//! Does the API server itself serve what the gate decides by, and what registers and guards it?

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use super::checks;
use super::report::DoctorReport;

/// The APIService of the gate's resources.
pub(super) const OWN: &str = "v1alpha1.promotion-gate.dev";
/// Those of the resources by which the gate is asked, guarded and run, and of what it judges.
pub(super) const BUILT_IN: [&str; 9] = [
    "v1.",
    "v1.admissionregistration.k8s.io",
    "v1.apiextensions.k8s.io",
    "v1.apps",
    "v1.authentication.k8s.io",
    "v1.authorization.k8s.io",
    "v1.batch",
    "v1.coordination.k8s.io",
    "v1.rbac.authorization.k8s.io",
];

pub(super) fn check(found: &[APIService], report: &mut DoctorReport) {
    let elsewhere = found.iter().filter_map(|found| {
        let name = found.metadata.name.as_deref()?;
        let service = found.spec.as_ref()?.service.as_ref()?;
        if name != OWN && !BUILT_IN.contains(&name) {
            return None;
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (namespace, to) = (text(&service.namespace), text(&service.name));
        Some(format!("APIService `{name}`: Service `{namespace}/{to}`"))
    });
    report.find_any(&checks::SERVED_ELSEWHERE, elsewhere.collect());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_api_service_that_leads_the_gates_resources_to_a_server_of_the_attacker_is_found() {
        let api = |name: &str, service: bool| {
            let service = service.then(|| json!({"namespace": "eve", "name": "own"}));
            let spec =
                json!({"groupPriorityMinimum": 1000, "versionPriority": 100, "service": service});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let found = |apis: &[APIService]| {
            let mut report = DoctorReport::new();
            check(apis, &mut report);
            let findings = report.findings().iter();
            findings
                .flat_map(|finding| finding.about.clone())
                .collect::<Vec<_>>()
        };
        let normal = [
            api(OWN, false),
            api("v1.apps", false),
            api("v1beta1.metrics.k8s.io", true),
        ];
        assert_eq!(found(&normal), Vec::<String>::new());
        assert_eq!(
            found(&[api(OWN, true), api("v1.admissionregistration.k8s.io", true)]),
            [
                "APIService `v1alpha1.promotion-gate.dev`: Service `eve/own`",
                "APIService `v1.admissionregistration.k8s.io`: Service `eve/own`"
            ]
        );
    }
}
