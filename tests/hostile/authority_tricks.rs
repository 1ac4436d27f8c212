//! Attack: authorities that a check may read otherwise than what connects: user names, several hosts, fragments.

#[petiole::task]
fn attack(granted: String, forbidden: String) -> Vec<String> {
    let authorities = [
        format!("{granted}@{forbidden}"),
        format!("{forbidden}#@{granted}"),
        format!("{forbidden}/@{granted}"),
        format!("{forbidden}\\@{granted}"),
        format!("{granted}\r\nHost: {forbidden}"),
        format!("{forbidden}?{granted}"),
        format!("{granted},{forbidden}"),
        format!("{granted} {forbidden}"),
        format!("{granted}:80:80"),
        format!("{granted}\0.{forbidden}"),
        String::new(),
        ":".to_owned(),
        "@".to_owned(),
        "[".to_owned(),
        "a".repeat(100_000),
    ];
    hostile::outcomes(authorities.iter().map(String::as_str))
        .into_iter()
        .map(|line| line.chars().take(200).collect())
        .collect()
}
