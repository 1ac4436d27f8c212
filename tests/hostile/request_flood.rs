//! Attack: let the worker attack others: requests without end.

#[petiole::task]
fn attack(authority: String) {
    loop {
        hostile::outcome(&authority);
    }
}
