//! When a trigger becomes a snapshot, and of which it is a part.
//!
//! One snapshot is planned at a time. A trigger that comes before it is frozen joins
//! it; so does whatever comes while the last one is cooling down, because the window
//! still holds it. Nothing is dropped in silence: every trigger is answered with the
//! snapshot it will be in, or with the reason why there is none.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    Trigger,
    body::Message,
    matching::{Here, Match},
};
use crate::clock::ClockAnchor;

/// Alerts remembered: those not heard of for longest are forgotten first.
pub const SEEN_MAX: usize = 4096;

const HOUR_S: i64 = 3600;

/// A time of the wall clock that is further ahead than this was read before the
/// clock was set back.
const AHEAD_S: i64 = 60;

/// What holds for the triggers of one door.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorPolicy {
    /// How far back its snapshots go; the whole window when `None`.
    pub before_ns: Option<u64>,
    /// How long recording goes on before they are taken.
    pub after_ns: u64,
    /// Which triggers fire.
    pub matching: Match,
}

/// What holds for all triggers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// Where a door has nothing of its own.
    pub default: DoorPolicy,
    /// By door.
    pub doors: BTreeMap<String, DoorPolicy>,
    /// The least time between two triggered snapshots.
    pub cooldown_ns: u64,
    /// Triggered snapshots an hour.
    pub per_hour_max: usize,
}

impl PolicySettings {
    /// What holds for a door.
    pub fn of(&self, door: &str) -> &DoorPolicy {
        self.doors.get(door).unwrap_or(&self.default)
    }
}

/// A message that came in by a door.
pub struct Offer<'a> {
    /// Which: `alertmanager`, `generic`, `rule`, `signal`, ...
    pub door: &'a str,
    /// What it says.
    pub message: Message,
    /// Whom its labels are compared with.
    pub here: Here<'a>,
    /// Other than the door's.
    pub before_ns: Option<u64>,
    /// Other than the door's.
    pub after_ns: Option<u64>,
    /// Why there is no room for a snapshot.
    pub no_room: Option<String>,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A snapshot of this name is planned for it.
    Accepted(String),
    /// It will be in the snapshot of this name, which was planned already.
    Joined(String),
    /// It is in the snapshot of this name.
    Known(String),
    /// Nothing is done.
    Ignored(String),
    /// Something would be done, but not now.
    Refused {
        /// Why.
        why: String,
        /// When asking again makes sense, seconds from now.
        retry_after_s: u64,
    },
}

/// A snapshot that is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name, which those who asked know already.
    pub name: String,
    /// Why.
    pub trigger: Trigger,
    /// How far back; the whole window when `None`.
    pub before_ns: Option<u64>,
    /// When, on the kernel's clock.
    pub freeze_at_ns: u64,
}

/// An alert that has its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    name: String,
    /// When it was heard of last, seconds since 1970.
    last_s: i64,
}

/// What is remembered across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    seen: BTreeMap<String, Seen>,
    /// When triggered snapshots were taken, seconds since 1970.
    taken_s: VecDeque<i64>,
}

/// Decides. See the module.
pub struct Policy {
    settings: PolicySettings,
    memory: Memory,
    planned: Option<Planned>,
    /// When the last triggered snapshot was frozen, on the kernel's clock.
    frozen_at_ns: Option<u64>,
}

impl Policy {
    /// With what an earlier run remembered.
    pub fn new(settings: PolicySettings, memory: Memory) -> Policy {
        Policy { settings, memory, planned: None, frozen_at_ns: None }
    }

    /// Other settings from now on.
    pub fn set(&mut self, settings: PolicySettings) {
        self.settings = settings;
    }

    /// What holds now.
    pub fn settings(&self) -> &PolicySettings {
        &self.settings
    }

    /// What is to be remembered.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The snapshot that waits for its moment.
    pub fn planned(&self) -> Option<&Planned> {
        self.planned.as_ref()
    }

    /// Triggered snapshots in the last hour, the planned one included.
    pub fn in_last_hour(&mut self, now: &ClockAnchor) -> usize {
        let now_s = now.wall_s();
        let recent = |taken: &i64| *taken > now_s - HOUR_S && *taken <= now_s + AHEAD_S;
        self.memory.taken_s.retain(recent);
        self.memory.taken_s.len() + usize::from(self.planned.is_some())
    }

    /// Decides about a message; `name` gives a new snapshot its name.
    pub fn offer(
        &mut self,
        now: &ClockAnchor,
        offer: Offer<'_>,
        name: impl FnOnce(&Trigger) -> String,
    ) -> Decision {
        let door = self.settings.of(offer.door).clone();
        let firing = match self.wanted(now, &door, &offer) {
            Ok(firing) => firing,
            Err(decision) => return decision,
        };
        let mut firing = firing.into_iter();
        let Some(mut trigger) = firing.next() else {
            return Decision::Ignored("nothing fires".to_string());
        };
        firing.for_each(|further| trigger.join(further));
        trigger.also_left_out += offer.message.left_out;
        let before_ns = offer.before_ns.or(door.before_ns);
        if let Some(planned) = &mut self.planned {
            let name = planned.name.clone();
            planned.before_ns = match (planned.before_ns, before_ns) {
                (Some(one), Some(other)) => Some(one.max(other)),
                _ => None,
            };
            planned.trigger.join(trigger);
            return Decision::Joined(name);
        }
        if let Some(why) = offer.no_room {
            return Decision::Refused { why, retry_after_s: 60 };
        }
        if let Some(refused) = self.hour_is_full(now) {
            return refused;
        }
        let after_ns = offer.after_ns.unwrap_or(door.after_ns);
        let cooled_ns =
            self.frozen_at_ns.map_or(0, |at| at.saturating_add(self.settings.cooldown_ns));
        let name = name(&trigger);
        self.planned = Some(Planned {
            name: name.clone(),
            trigger,
            before_ns,
            freeze_at_ns: now.monotonic_ns.saturating_add(after_ns).max(cooled_ns),
        });
        Decision::Accepted(name)
    }

    /// The triggers that concern this host and are new, or what to answer.
    fn wanted(
        &mut self,
        now: &ClockAnchor,
        door: &DoorPolicy,
        offer: &Offer<'_>,
    ) -> Result<Vec<Trigger>, Decision> {
        let mut why = offer.message.quiet.clone();
        let mut known = None;
        let mut wanted = Vec::new();
        for trigger in &offer.message.firing {
            if let Some(reason) = door.matching.refuses(trigger, &offer.here) {
                why.get_or_insert(reason);
            } else if let Some(name) = self.has_snapshot(now, &trigger.key) {
                known.get_or_insert(name);
            } else {
                let at_ns = if trigger.at_ns == 0 { now.monotonic_ns } else { trigger.at_ns };
                wanted.push(Trigger { at_ns, ..trigger.clone() });
            }
        }
        match (wanted.is_empty(), known) {
            (false, _) => Ok(wanted),
            (true, Some(name)) => Err(Decision::Known(name)),
            (true, None) => {
                Err(Decision::Ignored(why.unwrap_or_else(|| "nothing fires".to_string())))
            }
        }
    }

    /// The snapshot an alert is in, or will be in.
    fn has_snapshot(&mut self, now: &ClockAnchor, key: &str) -> Option<String> {
        if key.is_empty() {
            return None;
        }
        if let Some(seen) = self.memory.seen.get_mut(key) {
            seen.last_s = now.wall_s();
            return Some(seen.name.clone());
        }
        let planned = self.planned.as_ref()?;
        keys(&planned.trigger).any(|known| known == key).then(|| planned.name.clone())
    }

    fn hour_is_full(&mut self, now: &ClockAnchor) -> Option<Decision> {
        let most = self.settings.per_hour_max;
        let taken = self.in_last_hour(now);
        if taken < most {
            return None;
        }
        let now_s = now.wall_s();
        let oldest = self.memory.taken_s.front().copied().unwrap_or(now_s);
        Some(Decision::Refused {
            why: format!("{taken} triggered snapshots in the last hour, at most {most} are taken"),
            retry_after_s: (oldest + HOUR_S - now_s).max(1).unsigned_abs(),
        })
    }

    /// The planned snapshot, once its moment has come. Its alerts are known from now
    /// on, and what comes later gets the next one.
    pub fn due(&mut self, now: &ClockAnchor) -> Option<Planned> {
        self.planned.as_ref().filter(|planned| planned.freeze_at_ns <= now.monotonic_ns)?;
        self.take(now)
    }

    /// The planned snapshot at once: at the end nothing can be waited for.
    pub fn take(&mut self, now: &ClockAnchor) -> Option<Planned> {
        let planned = self.planned.take()?;
        let now_s = now.wall_s();
        self.frozen_at_ns = Some(now.monotonic_ns);
        self.memory.taken_s.push_back(now_s);
        for key in keys(&planned.trigger) {
            let seen = Seen { name: planned.name.clone(), last_s: now_s };
            self.memory.seen.insert(key.to_string(), seen);
        }
        while self.memory.seen.len() > SEEN_MAX {
            let oldest = self.memory.seen.iter().min_by_key(|(_, seen)| seen.last_s);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            self.memory.seen.remove(&key);
        }
        Some(planned)
    }

    /// A snapshot came to nothing: its alerts are new when they come again.
    pub fn forget(&mut self, name: &str) {
        self.memory.seen.retain(|_, seen| seen.name != name);
    }
}

fn keys(trigger: &Trigger) -> impl Iterator<Item = &str> {
    let all = std::iter::once(trigger).chain(&trigger.also);
    all.map(|trigger| trigger.key.as_str()).filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::trigger::matching::HostNames;

    const SECOND_NS: u64 = 1_000_000_000;

    /// A policy with a clock that is set by hand.
    struct Desk {
        policy: Policy,
        names: HostNames,
        now_s: u64,
        next: u32,
    }

    impl Desk {
        fn new(cooldown_s: u64, after_s: u64) -> Desk {
            let settings = PolicySettings {
                default: DoorPolicy { after_ns: after_s * SECOND_NS, ..DoorPolicy::default() },
                cooldown_ns: cooldown_s * SECOND_NS,
                per_hour_max: 12,
                ..PolicySettings::default()
            };
            let policy = Policy::new(settings, Memory::default());
            Desk { policy, names: HostNames::new("db-1", &[]), now_s: 10_000, next: 0 }
        }

        fn now(&self) -> ClockAnchor {
            ClockAnchor {
                monotonic_ns: self.now_s * SECOND_NS,
                wall_ns: (1_700_000_000 + self.now_s.cast_signed()) * SECOND_NS.cast_signed(),
            }
        }

        fn offer(&mut self, triggers: Vec<Trigger>) -> Decision {
            self.offer_with(triggers, None)
        }

        fn offer_with(&mut self, firing: Vec<Trigger>, no_room: Option<String>) -> Decision {
            let no_address: fn(IpAddr) -> bool = |_| false;
            let names = self.names.clone();
            let offer = Offer {
                door: "generic",
                message: Message { firing, ..Message::default() },
                here: Here { names: &names, local: false, is_local_address: no_address },
                before_ns: None,
                after_ns: None,
                no_room,
            };
            self.next += 1;
            let name = format!("s{}", self.next);
            let now = self.now();
            self.policy.offer(&now, offer, |_| name)
        }

        fn due(&mut self) -> Option<Planned> {
            let now = self.now();
            self.policy.due(&now)
        }
    }

    fn alert(key: &str) -> Trigger {
        Trigger { key: key.to_string(), ..Trigger::new("generic", key) }
    }

    #[test]
    fn one_alert_is_one_snapshot_however_often_it_comes() {
        let mut desk = Desk::new(60, 0);
        assert_eq!(desk.offer(vec![alert("a")]), Decision::Accepted("s1".into()));
        assert_eq!(desk.offer(vec![alert("a")]), Decision::Known("s1".into()), "planned already");
        let planned = desk.due().unwrap();
        assert_eq!((planned.name.as_str(), planned.trigger.also.len()), ("s1", 0));
        assert!(planned.trigger.at_ns > 0 && desk.due().is_none());
        desk.now_s += 7200;
        assert_eq!(desk.offer(vec![alert("a")]), Decision::Known("s1".into()));
        // Across a restart.
        let text = serde_json::to_string(desk.policy.memory()).unwrap();
        let memory: Memory = serde_json::from_str(&text).unwrap();
        desk.policy = Policy::new(desk.policy.settings().clone(), memory);
        assert_eq!(desk.offer(vec![alert("a")]), Decision::Known("s1".into()));
        // One that is new in the same group counts.
        let several = desk.offer(vec![alert("a"), alert("b")]);
        assert!(matches!(several, Decision::Accepted(_)), "{several:?}");
        assert_eq!(desk.due().unwrap().trigger.reason, "b");
    }

    #[test]
    fn what_failed_is_new_again() {
        let mut desk = Desk::new(0, 0);
        desk.offer(vec![alert("a")]);
        let planned = desk.due().unwrap();
        desk.policy.forget(&planned.name);
        assert!(matches!(desk.offer(vec![alert("a")]), Decision::Accepted(_)));
    }

    #[test]
    fn who_comes_during_the_after_of_another_joins_it() {
        let mut desk = Desk::new(60, 10);
        desk.offer(vec![alert("a")]);
        desk.now_s += 9;
        assert!(desk.due().is_none());
        assert_eq!(desk.offer(vec![alert("b")]), Decision::Joined("s1".into()));
        desk.now_s += 1;
        let planned = desk.due().unwrap();
        assert_eq!(planned.trigger.reason, "a");
        assert_eq!(planned.trigger.also[0].reason, "b");
        assert_eq!(desk.offer(vec![alert("b")]), Decision::Known("s1".into()));
    }

    #[test]
    fn a_storm_makes_as_many_snapshots_as_are_allowed_and_each_answer_names_one() {
        let mut desk = Desk::new(0, 0);
        let mut names = std::collections::BTreeSet::new();
        let mut refused = 0;
        for place in 0..1000 {
            desk.now_s += u64::from(place % 100 == 0);
            match desk.offer(vec![alert(&format!("{place}"))]) {
                Decision::Accepted(name) | Decision::Joined(name) => {
                    names.insert(name);
                }
                Decision::Refused { retry_after_s, .. } => {
                    assert!((3000..=3600).contains(&retry_after_s));
                    refused += 1;
                }
                other => panic!("{other:?}"),
            }
            if place % 10 == 0 {
                desk.due();
            }
        }
        assert_eq!(names.len(), 12);
        assert!(refused > 0);

        // With a cooldown everything that comes meanwhile is in the next one.
        let mut desk = Desk::new(60, 0);
        for place in 0..1000 {
            let answer = desk.offer(vec![alert(&format!("{place}"))]);
            assert!(matches!(answer, Decision::Accepted(_) | Decision::Joined(_)), "{answer:?}");
            desk.due();
        }
        assert_eq!(desk.policy.planned().unwrap().name, "s2");
        assert!(desk.due().is_none());
        desk.now_s += 60;
        let second = desk.due().unwrap();
        assert_eq!(second.trigger.also.len() as u64 + second.trigger.also_left_out, 998);
    }

    #[test]
    fn an_hour_later_there_is_room_again_and_a_clock_set_back_takes_none() {
        let mut desk = Desk::new(0, 0);
        for place in 0..12 {
            desk.offer(vec![alert(&format!("{place}"))]);
            desk.due().unwrap();
        }
        assert!(matches!(desk.offer(vec![alert("x")]), Decision::Refused { .. }));
        desk.now_s += 3600;
        assert!(matches!(desk.offer(vec![alert("x")]), Decision::Accepted(_)));
        desk.due();
        desk.now_s -= 5000;
        let now = desk.now();
        assert_eq!(desk.policy.in_last_hour(&now), 0);
    }

    #[test]
    fn without_room_there_is_no_new_snapshot_but_joining_costs_none() {
        let mut desk = Desk::new(60, 10);
        let full = || Some("disk".to_string());
        let refused = desk.offer_with(vec![alert("a")], full());
        assert!(matches!(refused, Decision::Refused { ref why, .. } if why == "disk"));
        desk.offer(vec![alert("a")]);
        assert!(matches!(desk.offer_with(vec![alert("b")], full()), Decision::Joined(_)));
    }

    #[test]
    fn another_host_and_a_quiet_message_are_ignored() {
        let mut desk = Desk::new(60, 0);
        let mut other = alert("a");
        other.label("instance", "db-2");
        assert!(matches!(desk.offer(vec![other]), Decision::Ignored(why) if why.contains("db-2")));
        assert!(matches!(desk.offer(Vec::new()), Decision::Ignored(_)));
        assert!(desk.due().is_none());
    }

    #[test]
    fn the_memory_has_a_limit() {
        let mut desk = Desk::new(0, 0);
        desk.policy.settings.per_hour_max = usize::MAX;
        for place in 0..SEEN_MAX + 10 {
            desk.now_s += 1;
            desk.offer(vec![alert(&format!("{place}"))]);
            desk.due();
        }
        assert_eq!(desk.policy.memory().seen.len(), SEEN_MAX);
        let oldest = desk.offer(vec![alert("0")]);
        assert!(matches!(oldest, Decision::Accepted(_)), "the oldest was forgotten");
    }

    #[test]
    fn the_farthest_back_of_those_who_join_counts() {
        let mut desk = Desk::new(0, 10);
        desk.policy.settings.default.before_ns = Some(30 * SECOND_NS);
        desk.offer(vec![alert("a")]);
        assert_eq!(desk.policy.planned().unwrap().before_ns, Some(30 * SECOND_NS));
        desk.policy.settings.default.before_ns = Some(60 * SECOND_NS);
        desk.offer(vec![alert("b")]);
        assert_eq!(desk.policy.planned().unwrap().before_ns, Some(60 * SECOND_NS));
        desk.policy.settings.default.before_ns = None;
        desk.offer(vec![alert("c")]);
        assert_eq!(desk.policy.planned().unwrap().before_ns, None);
    }
}
