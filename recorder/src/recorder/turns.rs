//! One piece of work at a time. Whoever asks while one of the same sort waits for its turn
//! has a share in that one's answer.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Work that waits for its turn, or is done.
struct Turn<K, R, T> {
    key: K,
    /// Who shares it; `None` once it has begun: then it is too late for others.
    requests: Mutex<Option<Vec<R>>>,
    answer: Mutex<Option<T>>,
    answered: Condvar,
}

/// See the module. `K` tells sorts apart, `R` is a request, `T` the answer.
pub(super) struct Turns<K, R, T> {
    running: Mutex<()>,
    waiting: Mutex<Vec<Arc<Turn<K, R, T>>>>,
}

impl<K: PartialEq, R, T: Clone> Turns<K, R, T> {
    /// Nobody works.
    pub(super) fn new() -> Turns<K, R, T> {
        Turns { running: Mutex::new(()), waiting: Mutex::new(Vec::new()) }
    }

    /// Answers `request` with what `work` makes of it and of all that came to share it, the
    /// one that was first being first; and whether somebody else did the work.
    pub(super) fn take(&self, key: K, request: R, work: impl FnOnce(Vec<R>) -> T) -> (T, bool) {
        let turn = match self.join(key, request) {
            Ok(turn) => return (turn.wait(), true),
            Err(turn) => turn,
        };
        let _running = lock(&self.running);
        lock(&self.waiting).retain(|waiting| !Arc::ptr_eq(waiting, &turn));
        let requests = lock(&turn.requests).take().unwrap_or_default();
        let answer = work(requests);
        *lock(&turn.answer) = Some(answer.clone());
        turn.answered.notify_all();
        (answer, false)
    }

    /// How many turns wait.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Waits for a turn and does work that nobody shares.
    pub(super) fn alone<A>(&self, work: impl FnOnce() -> A) -> A {
        let _running = lock(&self.running);
        work()
    }

    /// A turn to share, or a new one.
    #[expect(clippy::type_complexity, reason = "the same twice")]
    fn join(&self, key: K, request: R) -> Result<Arc<Turn<K, R, T>>, Arc<Turn<K, R, T>>> {
        let mut waiting = lock(&self.waiting);
        for turn in waiting.iter().filter(|turn| turn.key == key) {
            if let Some(requests) = lock(&turn.requests).as_mut() {
                requests.push(request);
                return Ok(Arc::clone(turn));
            }
        }
        let requests = Mutex::new(Some(vec![request]));
        let turn = Turn { key, requests, answer: Mutex::new(None), answered: Condvar::new() };
        let turn = Arc::new(turn);
        waiting.push(Arc::clone(&turn));
        Err(turn)
    }
}

impl<K, R, T: Clone> Turn<K, R, T> {
    fn wait(&self) -> T {
        let mut answer = lock(&self.answer);
        loop {
            if let Some(answer) = &*answer {
                return answer.clone();
            }
            answer = self.answered.wait(answer).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    impl<K: PartialEq, R, T> Turns<K, R, T> {
        fn shared(&self, key: &K) -> usize {
            let waiting = lock(&self.waiting);
            let of_key = waiting.iter().filter(|turn| turn.key == *key);
            of_key.map(|turn| lock(&turn.requests).as_ref().map_or(0, Vec::len)).sum()
        }
    }

    #[test]
    fn whoever_comes_while_one_waits_shares_it() {
        let turns: Turns<u8, usize, Vec<usize>> = Turns::new();
        let works = AtomicUsize::new(0);
        let work = |requests: Vec<usize>| {
            works.fetch_add(1, Ordering::Relaxed);
            requests
        };
        thread::scope(|scope| {
            let running = lock(&turns.running);
            let first = scope.spawn(|| turns.take(1, 0, work));
            while turns.shared(&1) < 1 {
                thread::yield_now();
            }
            let others: Vec<_> = (1..6)
                .map(|number| {
                    let turns = &turns;
                    scope.spawn(move || turns.take(1, number, work))
                })
                .collect();
            // Of another sort: it has a turn of its own.
            let other = scope.spawn(|| turns.take(2, 9, work));
            while turns.shared(&1) < 6 || turns.shared(&2) < 1 {
                thread::yield_now();
            }
            drop(running);
            let (answer, shared) = first.join().unwrap();
            assert_eq!((answer.len(), answer[0], shared), (6, 0, false));
            for other in others {
                assert_eq!(other.join().unwrap(), (answer.clone(), true));
            }
            assert_eq!(other.join().unwrap(), (vec![9], false));
        });
        assert_eq!(works.load(Ordering::Relaxed), 2);
        // What is over is shared by nobody.
        assert_eq!(turns.take(1, 7, work), (vec![7], false));
        assert_eq!(turns.alone(|| 5), 5);
    }
}
