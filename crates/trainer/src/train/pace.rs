//! Whether refreshes of the negatives take more of a run than they are worth: recipes refresh often, as suits small collections.

/// Seconds that a refresh takes at least for anything to be said.
const WORTH_SAYING: f64 = 30.0;

/// What to tell people after a refresh that took `seconds` and came `interval` steps, `steps` seconds of them, after the last one: something if it
/// took more than twice as long as the steps.
pub(super) fn advice(seconds: f64, interval: usize, steps: f64) -> Option<String> {
    if seconds < WORTH_SAYING || steps <= 0.0 || seconds <= 2.0 * steps {
        return None;
    }
    // A third of the time for refreshes: twice as long in the steps between.
    let third = 2.0 * seconds / steps * interval as f64;
    let digit = 10_f64.powf(third.log10().floor());
    let every = (third / digit).ceil() * digit;
    Some(format!(
        "a refresh of the negatives takes {seconds:.0} s, the {interval} steps between two of them {steps:.0} s; with refresh = \"every {every:.0} steps\" \
         in negatives.source about a third of the time goes into refreshes"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_refreshes_are_spoken_of_and_short_ones_are_not() {
        let told = advice(600.0, 100, 50.0).unwrap();
        assert!(told.contains("takes 600 s, the 100 steps between two of them 50 s") && told.contains("every 3000 steps"), "{told}");
        assert!(advice(620.0, 100, 50.0).unwrap().contains("every 3000 steps"));
        for (seconds, interval, steps) in [(29.0, 1, 0.1), (100.0, 100, 50.0), (600.0, 0, 0.0), (600.0, 100, 0.0)] {
            assert_eq!(advice(seconds, interval, steps), None);
        }
    }
}
