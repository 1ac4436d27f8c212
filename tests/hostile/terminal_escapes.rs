//! Attack: drive the operator's terminal: set its title, clear it, hide what follows, make it answer.

#[petiole::task]
fn attack() -> String {
    let escapes = "ESCAPED \u{1b}]0;owned\u{7}\u{1b}[2J\u{1b}[8m\u{9b}6n\u{8}\u{8}\r\u{90}x\u{9c}";
    println!("{escapes}");
    eprintln!("{escapes}");
    petiole::log::warn(escapes);
    escapes.to_owned()
}
