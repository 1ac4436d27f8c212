//! Attack: reach the worker's own machine by names that the policy allows and that lead there.

#[petiole::task]
fn attack(authorities: Vec<String>) -> Vec<String> {
    hostile::outcomes(authorities.iter().map(String::as_str))
}
