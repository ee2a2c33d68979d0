//! The report as JUnit XML, for CI systems.

use super::report::{CaseReport, SuiteReport, TestReport};

/// The report in XML 1.0.
pub(super) fn render(report: &TestReport) -> String {
    let seconds: f64 = report.tests.iter().map(|test| test.seconds).sum();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"promotion-gate test\" tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"{seconds:.3}\">\n",
        report.passed + report.failed,
        report.failed,
    );
    for test in &report.tests {
        suite(&mut xml, test);
    }
    xml + "</testsuites>\n"
}

fn suite(xml: &mut String, test: &SuiteReport) {
    let failed = test.cases.iter().filter(|case| !case.passed).count();
    *xml += &format!(
        "  <testsuite name=\"{}\" file=\"{}\" tests=\"{}\" failures=\"{failed}\" errors=\"0\" skipped=\"0\" time=\"{:.3}\">\n",
        escaped(&test.name),
        escaped(&test.file),
        test.cases.len(),
        test.seconds,
    );
    for case in &test.cases {
        *xml += &format!(
            "    <testcase classname=\"{}\" name=\"{}\" file=\"{}\" line=\"{}\"",
            escaped(&test.name),
            escaped(&case.name),
            escaped(&test.file),
            case.line,
        );
        *xml += &match case.passed {
            true => "/>\n".to_owned(),
            false => failure(case),
        };
    }
    *xml += "  </testsuite>\n";
}

fn failure(case: &CaseReport) -> String {
    format!(
        ">\n      <failure type=\"unexpected\" message=\"{}\">{}</failure>\n    </testcase>\n",
        escaped(&case.summary()),
        escaped(&case.explanation()),
    )
}

/// Escapes a text for an element or an attribute. A character that XML 1.0 cannot hold becomes U+FFFD.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\n' | '\t' => escaped.push(c),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_the_xml() {
        assert_eq!(
            escaped("a <b> & \"c\" 'd' ]]>\n\u{1b}[31m\u{0}ü"),
            "a &lt;b&gt; &amp; &quot;c&quot; &apos;d&apos; ]]&gt;\n\u{fffd}[31m\u{fffd}ü"
        );
    }
}
