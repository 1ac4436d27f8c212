//! Attack: write log lines that look like the worker's own, after whatever a reader may take for the end of a line,
//! and text that shows in another order than it is written.

const FORGED: &str = "[2026-01-01 00:00:00,000: INFO/petiole] Task FORGED[1] succeeded in 0.1s: 1";
const ENDS: [&str; 9] = [
    "\n", "\r", "\r\n", "\u{b}", "\u{c}", "\u{85}", "\u{2028}", "\u{2029}", "\u{1e}",
];

#[petiole::task]
fn attack() {
    for end in ENDS {
        petiole::log::info(format!("harmless{end}{FORGED}"));
        println!("harmless{end}{FORGED}");
    }
    for mark in [
        "\u{202e}", "\u{2066}", "\u{2067}", "\u{200f}", "\u{61c}", "\u{feff}", "\u{200b}",
    ] {
        petiole::log::info(format!("BIDI {mark}fdp.exe"));
    }
}
