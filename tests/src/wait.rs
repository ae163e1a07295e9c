//! Waiting for facts.

use std::time::{Duration, Instant};

/// How long anything may take: far longer than it ever does, so that a slow
/// machine is no failure.
pub const LIMIT: Duration = Duration::from_secs(30);

/// How often a fact is asked for.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// Waits until `fact` holds. `what` completes "waited 30 s for".
#[track_caller]
pub fn wait_until(what: &str, mut fact: impl FnMut() -> bool) {
    wait_for(what, || fact().then_some(()));
}

/// Waits until `fact` answers something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut fact: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = fact() {
            return answer;
        }
        assert!(began.elapsed() < LIMIT, "waited {} s for {what}", LIMIT.as_secs());
        std::thread::sleep(ASK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_asks_until_there_is_an_answer() {
        let mut asked = 0;
        let answer = wait_for("three", || {
            asked += 1;
            (asked == 3).then_some("here")
        });
        assert_eq!((answer, asked), ("here", 3));
    }
}
