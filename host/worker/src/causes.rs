/// An error and its causes on one line, without a cause that those before it have said already.
pub fn causes(error: &dyn std::error::Error) -> String {
    let mut text = String::new();
    let causes = std::iter::successors(Some(error), |error| error.source());
    for cause in causes.map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
